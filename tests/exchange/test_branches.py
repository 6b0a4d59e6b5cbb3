"""What a branch may see, and what it takes over: its own, and what arrived and belongs to nobody yet."""

from __future__ import annotations

import pytest

from exchange.referral.lifecycle import Side
from exchange.storage.referrals import ReferralRecord
from exchange.use_cases.branches import may_see, taken_over


def record(side: Side, unit: str | None) -> ReferralRecord:
    return ReferralRecord("a" * 32, side.value, "p", "s", "c", "sent", 0, 0, 0, unit=unit)


SEEN = [
    pytest.param(record(Side.RECEIVING, "south"), "north", False, id="another-branchs-that-arrived"),
    pytest.param(record(Side.REFERRING, "south"), "north", False, id="another-branchs-own"),
    pytest.param(record(Side.REFERRING, None), "north", False, id="the-agencys-own"),
    pytest.param(record(Side.RECEIVING, None), "north", True, id="what-arrived-and-is-nobodys"),
    pytest.param(record(Side.REFERRING, "north"), "north", True, id="its-own"),
    pytest.param(record(Side.RECEIVING, "south"), None, True, id="the-whole-agency-sees-all"),
]


@pytest.mark.parametrize(("one", "unit", "seen"), SEEN)
def test_a_branch_sees_its_own_and_what_is_nobodys(one: ReferralRecord, unit: str | None, seen: bool) -> None:
    assert may_see(one, unit) is seen


@pytest.mark.parametrize(
    ("one", "after"),
    [
        pytest.param(record(Side.RECEIVING, None), "north", id="nobodys"),
        pytest.param(record(Side.RECEIVING, "south"), "south", id="another-branchs"),
        pytest.param(record(Side.REFERRING, None), None, id="the-agencys-own"),
    ],
)
def test_a_branch_takes_over_what_arrived_and_is_nobodys(one: ReferralRecord, after: str | None) -> None:
    assert taken_over(one, "north").unit == after

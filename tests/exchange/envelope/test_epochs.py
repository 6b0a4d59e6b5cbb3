"""Weeks begin on Monday, five are published ahead, and every sealed thing finds its key."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors.samples import AGENCY, CREATED, EPOCH, OTHER_EPOCH

from exchange.envelope.epochs import (
    check_epoch,
    check_not_older,
    check_numbered_once,
    current_epoch,
    latest_expiry_of_disclosure,
    private_half_ends,
    published_weeks,
    revocation_ends,
    state_epoch,
    state_revocation,
    week_of,
    weeks_to_publish,
)
from exchange.envelope.errors import EpochError, StatementError
from exchange.limits import DAY_MS, LIMITS

times = st.integers(min_value=7 * DAY_MS, max_value=4_000_000_000_000)


@settings(max_examples=60, deadline=None)
@given(times)
def test_a_week_begins_on_monday_at_midnight(at: int) -> None:
    week = week_of(at)
    start = datetime.fromtimestamp(week.not_before / 1000, UTC)
    assert (start.weekday(), start.hour, start.minute, start.second) == (0, 0, 0, 0)
    assert week.not_before <= at < week.not_after == week.not_before + 7 * DAY_MS


@settings(max_examples=30, deadline=None)
@given(times)
def test_published_weeks_touch_and_reach_five_weeks_ahead(at: int) -> None:
    weeks = published_weeks(at)
    assert len(weeks) == 6
    assert weeks[0] == week_of(at)
    assert all(before.not_after == after.not_before for before, after in pairwise(weeks))


def test_only_missing_weeks_are_due() -> None:
    weeks = published_weeks(CREATED)
    have = [
        state_epoch(EPOCH, week, agency="shelter-two", seq=seq, sign=AGENCY.sign).unverified
        for seq, week in enumerate(weeks[:4], start=1)
    ]
    assert weeks_to_publish(CREATED, have) == weeks[4:]
    assert weeks_to_publish(CREATED + 7 * DAY_MS, have)[0] == weeks[4]
    assert weeks_to_publish(CREATED, []) == weeks


@settings(max_examples=40, deadline=None)
@given(times, st.integers(0, 7 * DAY_MS - 1), st.integers(1, 14 * DAY_MS))
def test_everything_sealed_in_a_week_can_be_opened_until_it_expires(at: int, later: int, life: int) -> None:
    week = week_of(at)
    created = week.not_before + later
    assert created + life + LIMITS.skew_ms <= private_half_ends(week.not_after)


def test_a_disclosure_released_at_its_last_moment_still_finds_its_key() -> None:
    week = week_of(CREATED)
    last_delivery = latest_expiry_of_disclosure(week.not_after) + LIMITS.released_within_ms
    assert last_delivery <= private_half_ends(week.not_after)


def test_a_good_statement_passes() -> None:
    check_epoch(
        state_epoch(EPOCH, week_of(CREATED), agency="shelter-two", seq=1, sign=AGENCY.sign).verify(AGENCY.public)
    )


@pytest.mark.parametrize("key", ["", "A" * 42, "A" * 44, "A" * 42 + "B", "+" + "A" * 42, "A" * 43 + "="])
def test_what_is_not_the_one_spelling_of_32_bytes_is_no_key(key: str) -> None:
    stated = state_epoch(EPOCH, week_of(CREATED), agency="shelter-two", seq=1, sign=AGENCY.sign).unverified
    with pytest.raises(StatementError):
        replace(stated, key=key)


def test_a_key_is_that_of_its_week_from_its_first_moment_until_the_next_begins() -> None:
    week = week_of(CREATED)
    stated = state_epoch(EPOCH, week, agency="shelter-two", seq=1, sign=AGENCY.sign).unverified
    moments = (week.not_before - 1, week.not_before, week.not_after - 1, week.not_after)
    assert [stated.covers(at) for at in moments] == [False, True, True, False]


def test_seq_never_goes_back() -> None:
    statement = state_epoch(EPOCH, week_of(CREATED), agency="shelter-two", seq=4, sign=AGENCY.sign).unverified
    assert check_not_older(4, [statement]) == 4
    assert check_not_older(0, [statement]) == 4
    with pytest.raises(EpochError):
        check_not_older(5, [statement])
    with pytest.raises(EpochError):
        check_not_older(1, [])


def test_a_number_stands_for_one_thing() -> None:
    week = week_of(CREATED)
    first, second = (state_epoch(EPOCH, week, agency="shelter-two", seq=seq, sign=AGENCY.sign) for seq in (4, 5))
    one, more = first.unverified, second.unverified
    also = state_revocation(
        EPOCH.key_id, agency="shelter-two", compromised_since=CREATED, at=CREATED, seq=6, sign=AGENCY.sign
    ).unverified
    check_numbered_once([one, also], [one, more, also])
    check_numbered_once([also], [one])
    for known, fetched in (
        ([], [one, one]),
        ([], [one, replace(also, seq=4)]),
        ([replace(one, key_id=OTHER_EPOCH.key_id)], [one, more]),
        ([one], [replace(also, seq=4)]),
    ):
        with pytest.raises(EpochError) as refused:
            check_numbered_once(known, fetched)
        assert refused.value.code == "epoch-repeated"


@settings(max_examples=30, deadline=None)
@given(times)
def test_a_revocation_outlives_every_private_half_that_was_published_when_it_was_made(at: int) -> None:
    ends = revocation_ends(at)
    assert ends == max(private_half_ends(week.not_after) for week in published_weeks(at))
    assert at < ends <= at + 63 * DAY_MS


def test_the_number_of_a_revocation_counts_as_seen() -> None:
    statement = state_epoch(EPOCH, week_of(CREATED), agency="shelter-two", seq=4, sign=AGENCY.sign).unverified
    revocation = state_revocation(
        EPOCH.key_id, agency="shelter-two", compromised_since=CREATED - 1, at=CREATED, seq=5, sign=AGENCY.sign
    ).verify(AGENCY.public)
    assert (revocation.key_id, revocation.compromised_since, revocation.revoked_at) == (
        EPOCH.key_id,
        CREATED - 1,
        CREATED,
    )
    assert check_not_older(5, [statement, revocation]) == 5
    with pytest.raises(EpochError):
        check_not_older(5, [statement])
    with pytest.raises(EpochError):
        current_epoch([statement], [revocation], at=CREATED)

"""Step 16 by itself: a basis is one for her age, and where that is right nothing is refused."""

from __future__ import annotations

from typing import Any

import pytest
from support.federation import Federation
from support.lying_peer import LyingPeer, content_of

from consent.terms import MINOR_BANDS
from consent.validity import BANDS_BY_BASIS
from contracts.vocabulary import Basis, Feedback
from exchange import verification
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.messages import ForwardBody
from exchange.verification import _of_another_age

CARED_FOR = {"caregiver": {"relationship": "other", "informed": True}}


@pytest.mark.parametrize(
    ("basis", "content", "another"),
    [
        pytest.param(Basis.CONSENT, {}, False, id="nothing-is-said"),
        pytest.param(Basis.CONSENT, {"is_minor": False}, False, id="an-adults-own"),
        pytest.param(Basis.CONSENT, {"is_minor": True}, True, id="an-adults-of-a-minor"),
        pytest.param(Basis.CONSENT, CARED_FOR, True, id="an-adults-where-somebody-cares-for-her"),
        pytest.param(Basis.OWN_CONSENT_MINOR, {"is_minor": True}, False, id="a-minors-own"),
        pytest.param(Basis.CAREGIVER, {"is_minor": True} | CARED_FOR, False, id="a-caregivers-for-a-minor"),
        pytest.param(Basis.CAREGIVER, {"age_band": "25-49"}, True, id="a-caregivers-for-an-adult"),
        *(
            pytest.param(basis, {"is_minor": False}, True, id=f"{basis.value}-of-no-minor")
            for basis, bands in BANDS_BY_BASIS.items()
            if bands <= MINOR_BANDS
        ),
        pytest.param(Basis.SUPPORTED_DECISION, {"is_minor": False}, False, id="an-adults-with-a-supporter"),
        pytest.param(Basis.COURT_ORDER, {"is_minor": False}, False, id="an-exception-about-an-adult"),
    ],
)
def test_a_yes_is_one_for_her_age(basis: Basis, content: dict[str, Any], *, another: bool) -> None:
    assert _of_another_age(ForwardBody(basis, Feedback.DECISION, content_of(content))) is another


async def test_what_was_taken_on_a_basis_that_is_none_for_her_age_today_stays_readable(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = await LyingPeer.of(pair[HELPLINE], pair[SHELTER])
    minors = {"basis": Basis.OWN_CONSENT_MINOR, "content": {"is_minor": False}, "groups": ("need",)}
    with monkeypatch.context() as before:
        before.setattr(verification, "_of_another_age", lambda _: False)
        (taken,) = await liar.deliver(liar.forward(**minors))
    (refused,) = await liar.deliver(liar.forward(**minors))
    assert (taken.result, refused.result) == ("accepted", "refused")
    assert refused.problem is not None
    assert refused.problem.code == "content-invalid"
    inbox = pair[SHELTER].client().inbox
    (item,) = (await inbox.list()).items
    content = (await inbox.open(item.id)).content
    assert content is not None
    assert content.is_minor is False

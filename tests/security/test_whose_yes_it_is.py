"""Step 16 by itself: a basis is one for her age, and where that is right nothing is refused."""

from __future__ import annotations

from typing import Any

import pytest
from support.lying_peer import content_of

from contracts.vocabulary import Basis, Feedback
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
    ],
)
def test_a_yes_is_one_for_her_age(basis: Basis, content: dict[str, Any], *, another: bool) -> None:
    assert _of_another_age(ForwardBody(basis, Feedback.DECISION, content_of(content))) is another

"""Defects by which she is refused, or somebody waits for what nobody has to do: put in by `mutants.py`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest.mock import patch

from consent.errors import ConsentTransitionError
from exchange.envelope.wire import MAX_INTEGER
from exchange.referral.lifecycle import EventName
from exchange.storage.consents import StaleConsentError
from exchange.storage.referrals import StaleReferralError
from exchange.use_cases import (
    answering,
    attest_erasure,
    barring,
    destroy,
    recall_referral,
    record_consent,
    release_disclosure,
    transitions,
    withdraw,
)
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.refusals import changed_meanwhile

Defect = Callable[[], AbstractContextManager[Any]]
_HALF_AN_HOUR: Final = 1_800_000


def _on(place: Any, name: str, defect: Any) -> Defect:
    return lambda: patch.object(place, name, defect)


async def _once(work: Callable[[], Any]) -> Any:
    try:
        return await work()
    except (StaleReferralError, StaleConsentError):
        raise changed_meanwhile() from None


_ends = withdraw.withdraw_record


def _only_what_lives(record: Any, *, at: Any, form: Any) -> Any:
    if not record.is_live(at):
        raise ConsentTransitionError("not-live", "This consent has ended.")
    return _ends(record, at=at, form=form)


_recalls = recall_referral.new_event


def _not_after_an_acceptance(node: Any, case: Any, name: EventName) -> Any:
    if case.accepted(node.clock()):
        raise ConflictError("state-forbids", "It was accepted.")
    return _recalls(node, case, name)


_answers = answering.new_event


def _in_good_time(node: Any, case: Any, name: EventName) -> Any:
    if node.clock() > case.record.respond_by - _HALF_AN_HOUR:
        raise ConflictError("respond-by-passed", "The time to answer has passed.")
    return _answers(node, case, name)


_holds = transitions._hold


def _goes_on_being_held(record: Any, *rest: Any) -> str:
    hold = _holds(record, *rest)
    return "held" if hold == "release-due" and record.hold == "held" else hold


def _to_nobody(*_arguments: object) -> list[Any]:
    return []


def _for_ever(*_arguments: object) -> int:
    return MAX_INTEGER


_lets_go = release_disclosure._let_go


async def _as_if_by_itself(node: Any, _acting: Any, *rest: Any) -> Any:
    return await _lets_go(node, None, *rest)


def _none_owed(*_arguments: object) -> list[Any]:
    return []


def _nothing(*_arguments: object) -> None:
    pass


def _unsaid(_node: Any, _conn: Any, record: Any) -> Any:
    return record


DEFECTS: Final[tuple[tuple[str, Defect], ...]] = (
    ("her no is tried once", _on(withdraw, "again", _once)),
    ("her no needs a consent that lives", _on(withdraw, "withdraw_record", _only_what_lives)),
    ("what she takes back is tried once", _on(record_consent, "again", _once)),
    ("a recall is refused after an acceptance", _on(recall_referral, "new_event", _not_after_an_acceptance)),
    ("the last half hour to answer is no time", _on(answering, "new_event", _in_good_time)),
    ("an attestation that is owed is refused", _on(attest_erasure, "attestations_of", _none_owed)),
    ("a worker's word releases no more than the node itself", _on(release_disclosure, "_let_go", _as_if_by_itself)),
    ("an acceptance makes no release due", _on(transitions, "_hold", _goes_on_being_held)),
    ("a place that comes free is given to nobody", _on(release_disclosure, "next_in_line", _to_nobody)),
    ("a name that nobody may tell of counts for ever", _on(release_disclosure, "_unserved_until", _for_ever)),
    ("a node destroys what she wanted erased and does not say so", _on(destroy, "_attested", _unsaid)),
    ("what followed a release that is taken back leaves", _on(barring, "bar_what_followed", _nothing)),
)

"""How a consent begins, changes and ends. Every function returns a new version; none changes what it was given.

Rules:

* Only `record_consent` and `request_consent` make a record, and only from a draft that `consent.validity` finds nothing
  wrong with.
* `LEGAL_STEPS` lists every pair of states that may follow each other. What is not listed is refused.
* What ended never lives again. She can say yes anew, and that is a new record.
* Her no never fails where there was a yes: it is accepted after expiry, after somebody else ended the consent, and
  again in a stronger form. A weaker form afterwards changes nothing.
* Narrowing never adds a field, a recipient, a purpose or feedback, by construction and by test.
* An end that has passed counts, whether or not somebody has written it down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from consent.errors import ConsentInvalidError, ConsentProblem, ConsentTransitionError
from consent.narrowing import is_within
from consent.record import DEFAULT_LIFE, LIVE_STATES, LONGEST_LIFE, ConsentDraft, ConsentRecord, ConsentTerms, Provision
from consent.statements import StatementLibrary
from consent.terms import ConsentState
from consent.validity import (
    asking_problems,
    authority_problems,
    basis_problems,
    life_problems,
    provision_problems,
    statement_problems,
)
from contracts.vocabulary import AgencyKind, WithdrawalForm

CLOCK_SKEW: Final = timedelta(minutes=2)
"""How far ahead a caseworker's clock may be; a moment within it is read as now."""

_S = ConsentState
_ENDINGS: Final = frozenset({_S.EXPIRED, _S.WITHDRAWN, _S.REVOKED, _S.INVALIDATED})
LEGAL_STEPS: Final[Mapping[ConsentState, frozenset[ConsentState]]] = MappingProxyType(
    {
        _S.REQUESTED: frozenset({_S.GIVEN, _S.REFUSED, _S.EXPIRED, _S.INVALIDATED}),
        _S.REFUSED: frozenset(),
        _S.GIVEN: _ENDINGS | {_S.RENEWED},
        _S.RENEWED: _ENDINGS | {_S.RENEWED},
        _S.EXPIRED: frozenset({_S.WITHDRAWN, _S.INVALIDATED}),
        _S.WITHDRAWN: frozenset({_S.WITHDRAWN}),
        _S.REVOKED: frozenset({_S.WITHDRAWN}),
        _S.INVALIDATED: frozenset({_S.WITHDRAWN}),
    }
)
_FORMS: Final = tuple(WithdrawalForm)
_NO_KINDS: Final[Mapping[str, AgencyKind]] = MappingProxyType({})


def record_consent(
    draft: ConsentDraft,
    *,
    consent_id: str,
    subject: str,
    at: datetime,
    statements: StatementLibrary,
    agency_kinds: Mapping[str, AgencyKind] = _NO_KINDS,
) -> ConsentRecord:
    """Record a yes.

    Args:
        draft: what the caseworker handed in.
        consent_id: random, 32 lower-case hex characters.
        subject: the random id of the person, issued with her first consent.
        at: now.
        statements: the words that may be used.
        agency_kinds: kinds of named agencies as the roster has them, so that an authority she was not told about is
            found now; `consent.decision` finds it in any case.

    Raises:
        ConsentInvalidError: with every problem found.
    """
    return _begin(draft, consent_id, subject, at, statements, agency_kinds, ConsentState.GIVEN)


def request_consent(
    draft: ConsentDraft,
    *,
    consent_id: str,
    subject: str,
    at: datetime,
    statements: StatementLibrary,
    agency_kinds: Mapping[str, AgencyKind] = _NO_KINDS,
) -> ConsentRecord:
    """Record that she was asked and wants to think; `give` or `refuse` records her answer. Allows nothing.

    Raises:
        ConsentInvalidError: with every problem found; what she is asked has to be valid before she answers.
    """
    return _begin(draft, consent_id, subject, at, statements, agency_kinds, ConsentState.REQUESTED)


def give(record: ConsentRecord, *, at: datetime) -> ConsentRecord:
    """She was asked, and now says yes to exactly that."""
    return _step(record, ConsentState.GIVEN, at, given_at=max(at, record.requested_at))


def refuse(record: ConsentRecord, *, at: datetime) -> ConsentRecord:
    """She was asked, and says no."""
    return _step(record, ConsentState.REFUSED, at)


def renew(record: ConsentRecord, *, until: datetime, at: datetime) -> ConsentRecord:
    """She says yes again, to the same, until another date; at most 365 days from now."""
    if not at < until <= at + LONGEST_LIFE:
        raise ConsentTransitionError("renewal-date", "A renewal ends later than now and within 365 days.")
    return _step(record, ConsentState.RENEWED, at, expires_at=until)


def narrow(record: ConsentRecord, provisions: Sequence[Provision], *, at: datetime) -> ConsentRecord:
    """She allows less than before. Every new provision has to lie within one that she gave.

    Raises:
        ConsentInvalidError: a provision is not valid in itself, or nothing would be left (`withdraw` says that).
        ConsentTransitionError: a provision would add something, or the consent is not live.
    """
    if not record.is_live(at):
        raise _not_possible(record.state_at(at), "narrowed")
    problems = tuple(provision_problems(provisions))
    if problems:
        raise ConsentInvalidError(problems)
    if not all(any(is_within(new, old) for old in record.provisions) for new in provisions):
        raise ConsentTransitionError("adds-something", "Narrowing never adds anything. Ask her for a new consent.")
    return _changed(record, at, provisions=tuple(provisions))


def withdraw(
    record: ConsentRecord, *, at: datetime, form: WithdrawalForm = WithdrawalForm.STOP_SHARING
) -> ConsentRecord:
    """Her no, in the form she chose. Said again, the stronger form counts."""
    forms = [form] if record.withdrawal is None else [form, record.withdrawal]
    # Her no is not refused because a clock went back, nor because the consent had ended in another way before.
    return _step(record, ConsentState.WITHDRAWN, at, withdrawal=max(forms, key=_FORMS.index))


def revoke(record: ConsentRecord, *, at: datetime) -> ConsentRecord:
    """Somebody other than her ended the consent."""
    return _step(record, ConsentState.REVOKED, at)


def invalidate(record: ConsentRecord, *, at: datetime) -> ConsentRecord:
    """The consent was found not to have been valid."""
    return _step(record, ConsentState.INVALIDATED, at)


def expire(record: ConsentRecord, *, at: datetime) -> ConsentRecord:
    """Write down that the end has passed."""
    if at < record.expires_at:
        raise ConsentTransitionError("not-ended-yet", "The consent has not reached its end.")
    return _step(record, ConsentState.EXPIRED, at)


def _begin(
    draft: ConsentDraft,
    consent_id: str,
    subject: str,
    at: datetime,
    statements: StatementLibrary,
    agency_kinds: Mapping[str, AgencyKind],
    state: ConsentState,
) -> ConsentRecord:
    given = state is ConsentState.GIVEN
    asked = at if draft.given_at is None else _settled(draft.given_at, at)
    limits = draft.limits_explained_at
    if draft.given_at is None and limits is not None:
        limits = _settled(limits, at)
    # The life is counted from the earlier moment, so that a date at the end of the calendar cannot overflow.
    expires_at = draft.expires_at or min(asked, at) + DEFAULT_LIFE
    statement = statements.get(draft.statement_id, draft.language)
    problems: list[ConsentProblem] = [
        *basis_problems(draft),
        *provision_problems(draft.provisions),
        *authority_problems(draft, agency_kinds),
        *asking_problems(draft, limits, draft.given_at or at),
        *statement_problems(draft, statement, statements),
        *life_problems(asked, expires_at, at),
    ]
    if not given and draft.given_at is not None:
        problems.append(
            ConsentProblem("not-given-yet", "She was only asked: there is no moment of her yes.", "given_at")
        )
    if problems or statement is None:
        raise ConsentInvalidError(problems)
    terms: dict[str, Any] = {name: getattr(draft, name) for name in ConsentTerms.model_fields}
    terms["limits_explained_at"] = None if limits is None else min(limits, asked)
    return ConsentRecord(
        **terms,
        id=consent_id,
        subject=subject,
        version=1,
        state=state,
        statement_version=statement.version,
        statement_digest=statement.sha256,
        requested_at=asked,
        given_at=asked if given else None,
        expires_at=expires_at,
        changed_at=at,
    )


def _settled(moment: datetime, at: datetime) -> datetime:
    """A moment that a slightly fast clock wrote, read as now; anything else as it is."""
    return at if at < moment <= at + CLOCK_SKEW else moment


def _step(record: ConsentRecord, state: ConsentState, at: datetime, **changes: Any) -> ConsentRecord:
    now = record.state if state is ConsentState.EXPIRED else record.state_at(at)
    if state not in LEGAL_STEPS[now]:
        raise _not_possible(now, state.value)
    return _changed(record, at, state=state, **changes)


def _changed(record: ConsentRecord, at: datetime, **changes: Any) -> ConsentRecord:
    """The next version, validated anew; time never runs backwards in a record."""
    following = {**dict(record), "version": record.version + 1, "changed_at": max(at, record.changed_at), **changes}
    return ConsentRecord.model_validate(following)


def _not_possible(now: ConsentState, wanted: str) -> ConsentTransitionError:
    code = "not-live" if now not in LIVE_STATES else "step-not-possible"
    return ConsentTransitionError(code, f"This consent is {now.value}: it cannot become {wanted} now.")

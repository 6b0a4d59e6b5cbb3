"""Epoch keys: one X25519 key a week, published ahead, so that a sleeping receiver can still be written to.

Rules:

* A week runs from Monday 00:00 UTC to the next. A statement that covers anything else is refused.
* An agency publishes its current week and the five that follow. `seq` rises with every statement it ever makes.
* A statement for a week that begins more than a year from now is not used.
* A list of statements whose highest `seq` is below one already seen is old, and is not used: an attacker who replays
  yesterday's list must not revive a revoked key. Nor is one used that has a number twice, or gives a number that is
  known to another statement: of the two none would be the newer.
* Of several statements for one week the highest `seq` counts. A revoked key is never sealed to; `compromised_since`
  says from when on envelopes sealed to it must be taken as read by somebody else.
* A revocation outlives the key it is about: it is kept and shown until the private half of the last week that was
  published when it was made is destroyed.
* A key is test-sealed before it is used: a point of low order would give everybody the same secret.
* The private half lives for its week and 21 days more. A held disclosure expires at the latest 7 days after the week,
  may be delivered for 14 days after its release, and so always finds its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import ClassVar, Final

from exchange.envelope.errors import EpochError, EpochFault, KeyUnusableError, MalformedError, TooLargeError
from exchange.envelope.keys import KEY_BYTES, Dek, EpochKey, key_id
from exchange.envelope.seal import wrap_dek
from exchange.envelope.statements import Check, Signed, Statement, sign_statement
from exchange.envelope.tags import Tag
from exchange.envelope.wire import from_base64url, is_agency, is_id, is_positive, to_base64url
from exchange.limits import LIMITS, SECOND_MS

_FIRST_MONDAY_MS: Final = int(datetime(1970, 1, 5, tzinfo=UTC).timestamp()) * SECOND_MS
_PROBE: Final = Dek(bytes(KEY_BYTES))


@lru_cache(maxsize=256)
def _public(key: str) -> bytes:
    return from_base64url(key, member="key", longest=KEY_BYTES)


def _is_key(value: object) -> bool:
    try:
        return len(from_base64url(value, member="key", longest=KEY_BYTES)) == KEY_BYTES
    except (MalformedError, TooLargeError):
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochStatement(Statement):
    """This key opens what is sealed to this agency in this week. Signed by the agency key."""

    TAG: ClassVar[Tag] = Tag.EPOCH_KEY
    CHECKS: ClassVar[Mapping[str, Check]] = {
        "agency": is_agency,
        "key_id": is_id,
        "key": _is_key,
        "not_before": is_positive,
        "not_after": is_positive,
        "seq": is_positive,
    }

    agency: str
    key_id: str
    key: str
    """The public key, base64url."""
    not_before: int
    not_after: int
    seq: int

    @property
    def public(self) -> bytes:
        """The public key."""
        return _public(self.key)

    def covers(self, at: int) -> bool:
        """Whether this is the week of this time."""
        return self.not_before <= at < self.not_after


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRevocation(Statement):
    """This key must not be sealed to any more. Signed by the agency key."""

    TAG: ClassVar[Tag] = Tag.EPOCH_REVOCATION
    CHECKS: ClassVar[Mapping[str, Check]] = {
        "agency": is_agency,
        "key_id": is_id,
        "compromised_since": is_positive,
        "revoked_at": is_positive,
        "seq": is_positive,
    }

    agency: str
    key_id: str
    compromised_since: int
    """From when on somebody else may have had the private half."""
    revoked_at: int
    seq: int


@dataclass(frozen=True, slots=True)
class Week:
    """One week, in Unix milliseconds; the end is not part of it."""

    not_before: int
    not_after: int


def week_of(at: int) -> Week:
    """The week that contains this time."""
    start = at - (at - _FIRST_MONDAY_MS) % LIMITS.epoch_ms
    return Week(start, start + LIMITS.epoch_ms)


def published_weeks(at: int) -> tuple[Week, ...]:
    """The weeks for which an agency has statements out at this time: the current one and the five that follow."""
    first = week_of(at).not_before
    starts = (first + ahead * LIMITS.epoch_ms for ahead in range(LIMITS.epochs_ahead + 1))
    return tuple(Week(start, start + LIMITS.epoch_ms) for start in starts)


def weeks_to_publish(at: int, published: Iterable[EpochStatement]) -> tuple[Week, ...]:
    """The weeks that should have a statement at this time and have none."""
    have = {statement.not_before for statement in published}
    return tuple(week for week in published_weeks(at) if week.not_before not in have)


def state_epoch(
    key: EpochKey, week: Week, *, agency: str, seq: int, sign: Callable[[bytes], bytes]
) -> Signed[EpochStatement]:
    """The signed statement for one week; `sign` belongs to the agency key, `seq` was never used before."""
    statement = EpochStatement(
        agency=agency,
        key_id=key.key_id,
        key=to_base64url(key.public),
        not_before=week.not_before,
        not_after=week.not_after,
        seq=seq,
    )
    return sign_statement(statement, sign)


def state_revocation(
    key: str, *, agency: str, compromised_since: int, at: int, seq: int, sign: Callable[[bytes], bytes]
) -> Signed[EpochRevocation]:
    """The signed revocation of one key; `sign` belongs to the agency key, `seq` was never used before."""
    revocation = EpochRevocation(agency=agency, key_id=key, compromised_since=compromised_since, revoked_at=at, seq=seq)
    return sign_statement(revocation, sign)


def check_epoch(statement: EpochStatement) -> None:
    """Return only if the week is a week, the id is the key's, and the key can be sealed to.

    Raises:
        EpochError: `epoch-not-a-week`.
        KeyUnusableError: the id is another key's, or the key is of low order.
    """
    if week_of(statement.not_before) != Week(statement.not_before, statement.not_after):
        raise EpochError(EpochFault.NOT_A_WEEK)
    if key_id(statement.public) != statement.key_id:
        raise KeyUnusableError
    check_can_be_sealed_to(statement.public)


def is_far_ahead(statement: EpochStatement, at: int) -> bool:
    """Whether the week begins so late that the statement is not used: who stole an agency key may name any year."""
    return statement.not_before > at + LIMITS.epochs_ahead_read * LIMITS.epoch_ms


def check_can_be_sealed_to(public: bytes) -> None:
    """Return only if something can be sealed to this public key.

    Raises:
        KeyUnusableError: it is malformed or of low order.
    """
    wrap_dek(_PROBE, public)


def check_not_older(highest_known: int, fetched: Iterable[EpochStatement | EpochRevocation]) -> int:
    """The highest `seq` of a fetched list, if it is not below the highest one ever seen from this agency.

    Raises:
        EpochError: `epoch-went-back`.
    """
    highest = max((statement.seq for statement in fetched), default=0)
    if highest < highest_known:
        raise EpochError(EpochFault.WENT_BACK)
    return highest


def check_numbered_once(
    known: Iterable[EpochStatement | EpochRevocation], fetched: Iterable[EpochStatement | EpochRevocation]
) -> None:
    """Return only if no number of a fetched list stands on it twice, or is known for something else.

    Args:
        known: of this agency, from lists of before; what is on the fetched list again has to be the same.
        fetched: the list.

    Raises:
        EpochError: `epoch-repeated`.
    """
    taken = {statement.seq: statement for statement in known}
    here: set[int] = set()
    for statement in fetched:
        if statement.seq in here or taken.get(statement.seq, statement) != statement:
            raise EpochError(EpochFault.REPEATED)
        here.add(statement.seq)


def current_epoch(
    statements: Iterable[EpochStatement], revocations: Iterable[EpochRevocation], *, at: int
) -> EpochStatement:
    """The key to seal to at this time, among verified statements of one agency.

    Raises:
        EpochError: `no-epoch-key`: no statement covers this time, or all that do are revoked.
    """
    revoked = {revocation.key_id for revocation in revocations}
    usable = [item for item in statements if item.covers(at) and item.key_id not in revoked]
    if not usable:
        raise EpochError(EpochFault.NONE)
    return max(usable, key=lambda item: item.seq)


def private_half_ends(not_after: int) -> int:
    """When the private half of a week's key is destroyed."""
    return not_after + LIMITS.epoch_grace_ms


def revocation_ends(revoked_at: int) -> int:
    """Until when a revocation is shown and remembered: no private half that was published by then lives longer."""
    return private_half_ends(published_weeks(revoked_at)[-1].not_after)


def latest_expiry_of_disclosure(not_after: int) -> int:
    """The latest `expires` of a held disclosure sealed to a week's key."""
    return not_after + LIMITS.epoch_release_ms

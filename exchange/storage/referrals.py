"""Referrals, their events and the change list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    false,
    or_,
    select,
    update,
)

from exchange.storage.prepared import Prepared, Row
from exchange.storage.statements import (
    end_of_slice,
    insert_listed,
    insert_unless_there,
    select_in_sight,
    select_listed,
    where_listed,
)
from exchange.storage.tables import ATTESTATION, CHANGE, EVENT, REFERRAL
from exchange.storage.visibility import is_beyond


class StaleReferralError(Exception):
    """The referral changed between reading and writing; read again and decide again."""


class ReferralRecord(NamedTuple):
    """A referral row. Column meanings stand in `exchange.storage.tables.ReferralRow`."""

    id: str
    side: str
    peer: str
    sector: str
    contract: str
    state: str
    created_at: int
    updated_at: int
    respond_by: int
    version: int = 0
    unit: str | None = None
    consent_id: str | None = None
    undelivered_at: int | None = None
    delivered_at: int | None = None
    disclosed_at: int | None = None
    overdue_at: int | None = None
    sharing_stopped_at: int | None = None
    closed_at: int | None = None
    blocked_at: int | None = None
    destroy_at: int | None = None
    destroyed_at: int | None = None
    forget_at: int | None = None
    hold: str = "none"
    unserved_until: int | None = None
    undeliverable: bool = False
    resend: bool = False
    number: int = 0
    seen: int = 0
    sealed_facts: bytes | None = None
    known_as: str | None = None
    exercise: bool | None = None

    @property
    def beside_anothers(self) -> bool:
        """Whether its peer's id for it is another member's referral here, so that it lies under one of its own."""
        return self.known_as is not None and self.known_as != self.id


class EventRecord(NamedTuple):
    """One event row."""

    referral: str
    side: str
    number: int
    name: str
    seen: int
    at: int
    shared: bool = True
    digest: str | None = None


class AttestationRecord(NamedTuple):
    """One attestation row."""

    referral: str
    party: str
    owed_since: int
    done_at: int | None = None
    digest: str | None = None


def in_sight(unit: str | BindParameter[str]) -> ColumnElement[bool]:
    """What a branch may see: its own, and what arrived and nobody has taken over yet."""
    return or_(REFERRAL.c.unit == unit, and_(REFERRAL.c.unit.is_(None), REFERRAL.c.side == "receiving"))


_NAMES = ReferralRecord._fields
_COLUMNS = [REFERRAL.c[name] for name in _NAMES]
_EVENT_COLUMNS = [EVENT.c[name] for name in EventRecord._fields]
_ATTESTATION_COLUMNS = [ATTESTATION.c[name] for name in AttestationRecord._fields]
_ROWS = select(*_COLUMNS)
_LOAD = Prepared(where_listed(_ROWS, REFERRAL.c.id))
_LOAD_IN_SIGHT = Prepared(where_listed(_ROWS.where(in_sight(bindparam("the_unit"))), REFERRAL.c.id))
_OPEN = Prepared(where_listed(select(REFERRAL.c.id).where(REFERRAL.c.closed_at.is_(None)), REFERRAL.c.id))
_PEERS = Prepared(where_listed(select(REFERRAL.c.id, REFERRAL.c.peer), REFERRAL.c.id))
# Locked, and in one order everywhere: on PostgreSQL another process could change them after they were compared. The
# dialect of SQLite, where writers are serialised, leaves FOR UPDATE out.
_VERSIONS = Prepared(
    where_listed(
        select(REFERRAL.c.id, REFERRAL.c.version).order_by(REFERRAL.c.id).with_for_update(),
        REFERRAL.c.id,
    )
)
# On SQLite writers are serialised, and the dialect leaves FOR UPDATE out.
_LOCK = Prepared(where_listed(_ROWS.order_by(REFERRAL.c.id).with_for_update(), REFERRAL.c.id))
_OF_CONSENT = _ROWS.where(REFERRAL.c.consent_id == bindparam("the_consent")).order_by(REFERRAL.c.id)
_READ_OF_CONSENT, _LOCK_OF_CONSENT = Prepared(_OF_CONSENT), Prepared(_OF_CONSENT.with_for_update())
_SAVE = update(REFERRAL).where(REFERRAL.c.id == bindparam("the_id"), REFERRAL.c.version == bindparam("the_version"))
_ADD_EVENT = Prepared(insert_unless_there(EVENT), columns=EventRecord._fields)
_EVENTS = Prepared(where_listed(select(*_EVENT_COLUMNS), EVENT.c.referral))
_ADD_CHANGE = Prepared(insert_listed(CHANGE), columns=["referral", "what", "at"])
_CHANGES = select(CHANGE.c.seq, CHANGE.c.what, CHANGE.c.at, *_COLUMNS).join(
    REFERRAL, REFERRAL.c.id == CHANGE.c.referral
)
_LIST_CHANGES = Prepared(select_listed(_CHANGES, CHANGE))
_LIST_CHANGES_IN_SIGHT = Prepared(select_in_sight(_CHANGES.where(in_sight(bindparam("the_unit"))), CHANGE))
_END_OF_LOOK = Prepared(end_of_slice(CHANGE))
_OWE = Prepared(insert_unless_there(ATTESTATION), columns=["referral", "party", "owed_since"])
_ATTESTED = Prepared(
    update(ATTESTATION)
    .where(
        ATTESTATION.c.referral == bindparam("the_referral"),
        ATTESTATION.c.party == bindparam("the_party"),
        ATTESTATION.c.done_at.is_(None),
    )
    .values(done_at=bindparam("done_at"), digest=bindparam("digest"))
)
_ATTESTATIONS = Prepared(
    select(*_ATTESTATION_COLUMNS)
    .where(ATTESTATION.c.referral == bindparam("the_referral"))
    .order_by(ATTESTATION.c.party)
)
_REMOVE_EVENTS = Prepared(
    where_listed(EVENT.delete().where(EVENT.c.referral == bindparam("the_referral")), EVENT.c.digest)
)
_KEEP_AT_HOME = Prepared(
    where_listed(
        update(EVENT).where(EVENT.c.referral == bindparam("the_referral")).values(shared=false()), EVENT.c.digest
    )
)


def load_referral(conn: Connection, referral: str, unit: str | None = None) -> ReferralRecord | None:
    """The referral, or nothing; as `load_referrals`."""
    return load_referrals(conn, [referral], unit).get(referral)


def lock_referral(conn: Connection, referral: str) -> ReferralRecord | None:
    """As `load_referral`, to be changed in this transaction: no other process changes it before this one ends."""
    return lock_referrals(conn, [referral]).get(referral)


def lock_referrals(conn: Connection, ids: Iterable[str]) -> dict[str, ReferralRecord]:
    """As `lock_referral`, for many; locked in one order everywhere."""
    return _by_id(_LOCK.rows(conn, {"the_ids": list(ids)}))


def load_referrals(conn: Connection, ids: Iterable[str], unit: str | None = None) -> dict[str, ReferralRecord]:
    """Those of the referrals that exist, by id; for a branch, those that it may see.

    What a branch may not see is not read: that takes as long as what does not exist.
    """
    wanted = list(ids)
    if not wanted:
        return {}
    if unit is None:
        return _by_id(_LOAD.rows(conn, {"the_ids": wanted}))
    return _by_id(_LOAD_IN_SIGHT.rows(conn, {"the_ids": wanted, "the_unit": unit}))


def open_among(conn: Connection, ids: Iterable[str]) -> frozenset[str]:
    """Those of the referrals that exist and have not ended."""
    return frozenset(referral for (referral,) in _OPEN.rows(conn, {"the_ids": list(ids)}))


def peers_of(conn: Connection, ids: Iterable[str]) -> dict[str, str]:
    """With whom those of the referrals are that exist; nothing else of them is read."""
    return dict(_PEERS.rows(conn, {"the_ids": list(ids)}))


def _by_id(rows: Iterable[Row]) -> dict[str, ReferralRecord]:
    return {record.id: record for record in (ReferralRecord(*row) for row in rows)}


def referrals_of_consent(conn: Connection, consent_id: str) -> list[ReferralRecord]:
    """Every referral made under a consent."""
    return [ReferralRecord(*row) for row in _READ_OF_CONSENT.rows(conn, {"the_consent": consent_id})]


def lock_referrals_of_consent(conn: Connection, consent_id: str) -> list[ReferralRecord]:
    """As `lock_referrals`, for every referral made under a consent."""
    return [ReferralRecord(*row) for row in _LOCK_OF_CONSENT.rows(conn, {"the_consent": consent_id})]


def hold_referrals(conn: Connection, ids: Iterable[str]) -> None:
    """As `lock_referrals`, where nothing of them is read yet.

    Everybody locks a consent before its referrals, these before their envelopes, and all before the row of the peer.
    """
    if conn.dialect.name == "postgresql":  # the writers of SQLite are serialised
        _VERSIONS.rows(conn, {"the_ids": list(ids)})


def save_referral(conn: Connection, record: ReferralRecord) -> ReferralRecord:
    """Write the record over the version it was read at; returns it with its new version.

    Raises:
        StaleReferralError: somebody else wrote first.
    """
    fresh = record._replace(version=record.version + 1)
    whole = _saving(frozenset(_NAMES))
    if whole.run(conn, fresh._asdict() | {"the_id": record.id, "the_version": record.version}) != 1:
        raise StaleReferralError
    return fresh


def save_referrals(conn: Connection, changed: Sequence[tuple[ReferralRecord, ReferralRecord]]) -> None:
    """Write records, as (before, after), that were locked in this transaction; only what differs is written.

    Every index of a column that an UPDATE names is written anew, whether its value differs or not.

    Raises:
        StaleReferralError: one of them is not the version that was locked.
    """
    by_columns: dict[frozenset[str], list[dict[str, Any]]] = defaultdict(list)
    for before, after in changed:
        found = {name: new for name, old, new in zip(_NAMES, before, after, strict=True) if new != old}
        key = {"the_id": before.id, "the_version": before.version}
        by_columns[frozenset(found)].append(found | key | {"version": before.version + 1})
    for columns, rows in by_columns.items():
        if _saving(columns | {"version"}).run_each(conn, rows) != len(rows):
            raise StaleReferralError


@cache
def _saving(columns: frozenset[str]) -> Prepared:
    return Prepared(_SAVE.values({name: bindparam(name) for name in sorted(columns)}))


def guard_versions(conn: Connection, versions: Mapping[str, int]) -> None:
    """Repeats, inside the transaction, that the referrals are still those that were decided on.

    Raises:
        StaleReferralError: one of them is not.
    """
    if not versions:
        return
    if dict(_VERSIONS.rows(conn, {"the_ids": list(versions)})) != dict(versions):
        raise StaleReferralError


def add_event(conn: Connection, event: EventRecord) -> bool:
    """Record an event; one that is on record already stays as it is. Returns whether it was not."""
    return _ADD_EVENT.run(conn, event) == 1


def remove_events(conn: Connection, referral: str, digests: Iterable[str]) -> int:
    """Take back own events whose envelopes certainly never left. Returns how many that were."""
    return _REMOVE_EVENTS.run(conn, {"the_referral": referral, "the_ids": list(digests)})


def keep_at_home(conn: Connection, referral: str, digests: Iterable[str]) -> None:
    """Own events whose envelopes are not told after all: on record here, and no part of what both know."""
    _KEEP_AT_HOME.run(conn, {"the_referral": referral, "the_ids": list(digests)})


def events_of(conn: Connection, referrals: Iterable[str]) -> dict[str, list[EventRecord]]:
    """All events of the referrals, by referral id; order does not matter to the merge."""
    found: dict[str, list[EventRecord]] = defaultdict(list)
    for row in _EVENTS.rows(conn, {"the_ids": list(referrals)}):
        event = EventRecord(*row)
        found[event.referral].append(event)
    return found


def add_change(conn: Connection, referral: str, what: str, at: int) -> None:
    """Tell the referring agency's cursor that a referral changed."""
    _ADD_CHANGE.run(conn, (referral, what, at))


def add_changes(conn: Connection, changes: Iterable[tuple[str, str, int]]) -> None:
    """As `add_change`, for many, in this order."""
    _ADD_CHANGE.run_each(conn, changes)


def list_changes(
    conn: Connection, after: int, limit: int, unit: str | None
) -> Sequence[tuple[int, str, int, ReferralRecord]]:
    """Changes behind the one with this sequence number as (seq, what, at, referral), oldest first.

    For a branch only so many are looked at, up to `end_of_look`.
    """
    page = _LIST_CHANGES if unit is None else _LIST_CHANGES_IN_SIGHT
    rows = page.rows(conn, {"after": after, "most": limit, "the_unit": unit})
    return [(row[0], row[1], row[2], ReferralRecord(*row[3:])) for row in rows]


def end_of_look(conn: Connection, after: int) -> int | None:
    """Up to which change `list_changes` has looked for a branch; nothing where it has come to the end."""
    row = _END_OF_LOOK.row(conn, {"after": after})
    return None if row is None else row[0]


def is_no_cursor(conn: Connection, seq: int) -> bool:
    """Whether no change ever had a number as high as this."""
    return is_beyond(conn, CHANGE, seq)


def owe_attestation(conn: Connection, referral: str, parties: Iterable[str], at: int) -> None:
    """From now on these parties owe a signed word that the referral is destroyed."""
    _OWE.run_each(conn, [{"referral": referral, "party": party, "owed_since": at} for party in parties])


def record_attestation(conn: Connection, referral: str, party: str, at: int, digest: str | None) -> bool:
    """A party has said it; the first word stands. Returns whether this was the first."""
    owe_attestation(conn, referral, [party], at)
    word = {"the_referral": referral, "the_party": party, "done_at": at, "digest": digest}
    return _ATTESTED.run(conn, word) == 1


def owe_again(conn: Connection, referral: str, party: str) -> None:
    """What a party has said has not arrived, and cannot any more: it owes its word as before."""
    its = ATTESTATION.c.referral == referral, ATTESTATION.c.party == party
    conn.execute(update(ATTESTATION).where(*its).values(done_at=None, digest=None))


def attestations_of(conn: Connection, referral: str) -> list[AttestationRecord]:
    """Who owes what, and who has said it."""
    return [AttestationRecord(*row) for row in _ATTESTATIONS.rows(conn, {"the_referral": referral})]


def forget_referral(conn: Connection, referral: str) -> None:
    """The tombstone ends too."""
    for table in (EVENT, CHANGE, ATTESTATION):
        conn.execute(table.delete().where(table.c.referral == referral))
    conn.execute(REFERRAL.delete().where(REFERRAL.c.id == referral))

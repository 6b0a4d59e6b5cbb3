"""The keys that end: one random key a referral, and the private halves of epoch keys.

Rules:

* This is a second database that no backup contains, so that a destroyed key is destroyed in every backup of the other.
* A key is committed here before the first row that needs it is committed there, and shortly before (`KEPT_UNSWEPT_MS`).
  What a crash leaves in between is an orphan, swept at the next start.
* The first key of a referral stays. Who stores a second one gets the first back and must use that; it counts as new
  then, so that a sweep that has just found no row for it leaves it to the row that is about to come.
* Keys are wrapped under the node's storage key, each bound to its row: a copy of this database alone opens nothing.
* A row that does not open stays, and holds up no other: among many it is `None`, where one that is not there is absent.
* A weekly key that was revoked is marked here, by a week without any time: no backup of the other database brings it
  back. It goes on opening until its time ends.
* A key that another node wrapped is not this node's to destroy: no sweep takes it, wherever an address was mixed up.
* `destroy` returns only when the bytes are gone from the files of the database, not merely from its tables: the file is
  written anew and the write-ahead log emptied (SQLite), or the table rewritten (PostgreSQL, whose own log keeps old
  pages until it is recycled; `docs/decisions/0006-two-databases.md`). If it raises, call it again.
* What was deleted and could not be removed so, in this process or in one that died, is removed by `finish`.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Connection, Integer, Table, bindparam, delete, select, update

from exchange.envelope.errors import SealedRowError
from exchange.envelope.keys import NONCE_BYTES, EpochKey, ReferralKey, RowKey
from exchange.envelope.sealed_rows import SealedRows
from exchange.limits import MINUTE_MS
from exchange.storage.database import Database
from exchange.storage.errors import StorageBusyError
from exchange.storage.prepared import Prepared
from exchange.storage.statements import insert_unless_there, where_listed
from exchange.storage.tables import EPOCH_PRIVATE, REFERRAL_KEY

SWEEP_PAGE: Final = 500
ORPHANS_OLDER_THAN_MS: Final = 10 * MINUTE_MS
"""A key that no referral needs may be that of one that is being written down, until it is so old."""
KEPT_UNSWEPT_MS: Final = ORPHANS_OLDER_THAN_MS // 2
"""Within this time after `put_many` the first row that needs the keys is committed, or not at all."""
_COLUMN: Final = "wrapped"
_INSERT_NEW: Final = {
    table.name: Prepared(insert_unless_there(table), columns=table.c.keys()) for table in (REFERRAL_KEY, EPOCH_PRIVATE)
}
_WRAPPED: Final = Prepared(
    where_listed(select(REFERRAL_KEY.c.referral, REFERRAL_KEY.c.wrapped), REFERRAL_KEY.c.referral)
)
_EPOCH_KEY = Prepared(select(EPOCH_PRIVATE.c.wrapped).where(EPOCH_PRIVATE.c.key_id == bindparam("the_key")))
_EPOCHS = Prepared(select(EPOCH_PRIVATE.c.key_id, EPOCH_PRIVATE.c.not_before < EPOCH_PRIVATE.c.not_after))
_RETIRE = Prepared(
    where_listed(update(EPOCH_PRIVATE).values(not_after=EPOCH_PRIVATE.c.not_before), EPOCH_PRIVATE.c.key_id)
)
_ENDED = Prepared(select(EPOCH_PRIVATE.c.key_id).where(EPOCH_PRIVATE.c.destroy_at <= bindparam("the_time")))
_REMOVE: Final = {
    table.name: Prepared(where_listed(delete(table), *table.primary_key.columns))
    for table in (REFERRAL_KEY, EPOCH_PRIVATE)
}
_OLDER: Final = REFERRAL_KEY.c.created_at < bindparam("the_time")
_REMOVE_OLDER: Final = Prepared(where_listed(delete(REFERRAL_KEY).where(_OLDER), REFERRAL_KEY.c.referral))
_TAKE_UP: Final = Prepared(
    where_listed(update(REFERRAL_KEY).where(_OLDER).values(created_at=bindparam("created_at")), REFERRAL_KEY.c.referral)
)
_LOOKED_AT: Final = 20
"""So many keys of each kind are tried to tell whose a key store is: one may be damaged, or left over from a mistake."""
_SOME: Final = {
    table: Prepared(select(*table.primary_key.columns, table.c.wrapped).limit(_LOOKED_AT))
    for table in (REFERRAL_KEY, EPOCH_PRIVATE)
}
_PAGE = Prepared(
    select(REFERRAL_KEY.c.referral, REFERRAL_KEY.c.wrapped)
    .where(REFERRAL_KEY.c.referral > bindparam("the_last"), REFERRAL_KEY.c.created_at < bindparam("the_time"))
    .order_by(REFERRAL_KEY.c.referral)
    .limit(bindparam("most", type_=Integer()))
)


@dataclass(frozen=True, slots=True)
class EpochPrivate:
    """The private half of one epoch key, with its times in Unix milliseconds."""

    key: EpochKey
    not_before: int
    not_after: int
    destroy_at: int


class KeyStore:
    """One node's key store."""

    def __init__(self, database: Database, key: RowKey) -> None:
        """Takes the open key-store database and the key under which its values are wrapped."""
        self.database = database
        self._rows = SealedRows(key)
        # A process before this one may have died in between, or been of a version that left copies on SQLite.
        self._unfinished = {REFERRAL_KEY.name, EPOCH_PRIVATE.name}

    async def put_many(self, keys: Mapping[str, ReferralKey], *, at: int) -> dict[str, ReferralKey | None]:
        """The keys that stand for these referrals, durable: an older key of a referral wins over the given one.

        Also one that does not open here: then it is `None`.

        Raises:
            StorageBusyError: one that stood there was destroyed at this moment, and nothing else stands.
        """
        mine = {referral: self._wrap(REFERRAL_KEY, referral, key.secret_bytes()) for referral, key in keys.items()}
        rows = [{"referral": referral, "wrapped": wrapped, "created_at": at} for referral, wrapped in mine.items()]

        def store(connection: Connection) -> dict[str, bytes]:
            if _insert_new(connection, REFERRAL_KEY, rows) == len(rows):
                return mine
            # Not at each envelope: a key that is younger is not swept within the time that its row may take.
            younger = at - (ORPHANS_OLDER_THAN_MS - KEPT_UNSWEPT_MS)
            _TAKE_UP.run(connection, {"the_ids": list(mine), "the_time": younger, "created_at": at})
            return _select_wrapped(connection, list(mine))

        stored = await self.database.write(store)
        if stored.keys() != mine.keys():
            raise StorageBusyError("Keys of these referrals are being destroyed; try again.")
        older = {referral: wrapped for referral, wrapped in stored.items() if wrapped != mine[referral]}
        return {referral: keys[referral] for referral in stored.keys() - older} | self._unwrap_all(older)

    async def get_many(self, referrals: Iterable[str]) -> dict[str, ReferralKey | None]:
        """The keys of these referrals, as far as there are any; `None` for one that does not open here."""
        wanted = list(referrals)
        return self._unwrap_all(await self.database.read(lambda connection: _select_wrapped(connection, wanted)))

    async def get(self, referral: str) -> ReferralKey | None:
        """The key of one referral; nothing if it was destroyed or never was.

        Raises:
            SealedRowError: it is there and does not open here.
        """
        found = await self.get_many([referral])
        if referral not in found:
            return None
        if (key := found[referral]) is None:
            raise SealedRowError
        return key

    async def destroy(self, referrals: Iterable[str]) -> None:
        """Makes everything unreadable that was wrapped under these referrals' keys, for ever; may be repeated.

        Raises:
            StorageUnavailableError: it is not certain that the bytes are gone.
        """
        doomed = list(referrals)
        if doomed:
            await self._destroy(REFERRAL_KEY, _REMOVE[REFERRAL_KEY.name], doomed)

    async def sweep_orphans(self, known: Callable[[Sequence[str]], Awaitable[Collection[str]]], *, before: int) -> int:
        """Destroys this node's keys that no referral needs, and says how many. Run it before the node takes deliveries.

        Args:
            known: of these referrals, those that the main database holds and has not destroyed.
            before: younger keys are left alone, another process may be about to commit their first row.
        """
        last, destroyed = "", 0
        while page := await self.database.read(partial(_page, after=last, before=before)):
            needed = set(await known(list(page)))
            unknown = (name for name in page if name not in needed)
            if orphans := sorted(name for name in unknown if _opens(self._rows, REFERRAL_KEY, name, page[name])):
                destroyed += await self._destroy(REFERRAL_KEY, _REMOVE_OLDER, orphans, the_time=before)
            last = max(page)
        return destroyed

    async def is_anothers(self) -> bool:
        """Whether keys lie here and this node's storage key opens none of those that are tried."""
        return await self.database.read(partial(_is_anothers, self._rows))

    async def put_epochs(self, epochs: Iterable[EpochPrivate]) -> None:
        """Stores private halves, durable; one that is there stays as it is."""
        rows = [
            {
                "key_id": epoch.key.key_id,
                "wrapped": self._wrap(EPOCH_PRIVATE, epoch.key.key_id, epoch.key.secret_bytes()),
                "not_before": epoch.not_before,
                "not_after": epoch.not_after,
                "destroy_at": epoch.destroy_at,
            }
            for epoch in epochs
        ]
        if rows:
            await self.database.write(lambda connection: _insert_new(connection, EPOCH_PRIVATE, rows))

    async def epoch_key(self, key_id: str) -> EpochKey | None:
        """The private half of one epoch key; nothing if its time is over.

        Raises:
            SealedRowError: it is there and does not open here.
        """
        row = await self.database.read(lambda connection: _EPOCH_KEY.row(connection, {"the_key": key_id}))
        return None if row is None else EpochKey(self._unwrap(EPOCH_PRIVATE, key_id, row[0]))

    async def epoch_key_ids(self) -> frozenset[str]:
        """Which epoch keys can still open something."""
        return frozenset(await self.database.read(_epochs))

    async def standing_epoch_key_ids(self) -> frozenset[str]:
        """Those of them that were not retired."""
        return frozenset(name for name, stands in (await self.database.read(_epochs)).items() if stands)

    async def retire_epochs(self, key_ids: Iterable[str]) -> None:
        """Marks these epoch keys as revoked, durable; one that is not here stays unknown."""
        retired = list(key_ids)
        await self.database.write(lambda connection: _RETIRE.run(connection, {"the_ids": retired}))

    async def destroy_ended_epochs(self, at: int) -> int:
        """Destroys private halves whose time is over, and says how many.

        Raises:
            StorageUnavailableError: it is not certain that the bytes are gone.
        """
        ended = await self.database.read(lambda connection: _ENDED.rows(connection, {"the_time": at}))
        if ended:
            await self._destroy(EPOCH_PRIVATE, _REMOVE[EPOCH_PRIVATE.name], [name for (name,) in ended])
        return len(ended)

    async def finish(self) -> None:
        """Removes from the files what was deleted and still lies there; usually there is nothing to do.

        Raises:
            StorageUnavailableError: it is not certain that the bytes are gone; call it again.
        """
        for table in sorted(self._unfinished):
            with self._unfinished_if_it_fails(table):
                await self.database.scrub(table)

    async def _destroy(self, table: Table, remove: Prepared, names: Sequence[str], **which: int) -> int:
        with self._unfinished_if_it_fails(table.name):
            doomed = {"the_ids": list(names), **which}
            removed = await self.database.write(lambda connection: remove.run(connection, doomed))
            await self.database.scrub(table.name)
        return removed

    @contextmanager
    def _unfinished_if_it_fails(self, table: str) -> Iterator[None]:
        self._unfinished.discard(table)
        try:
            yield
        except BaseException:
            self._unfinished.add(table)
            raise

    def _wrap(self, table: Table, row: str, secret: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return self._rows.seal(secret, table=table.name, column=_COLUMN, row=row, nonce=nonce)

    def _unwrap(self, table: Table, row: str, wrapped: bytes) -> bytes:
        return self._rows.open(wrapped, table=table.name, column=_COLUMN, row=row)

    def _unwrap_all(self, wrapped: Mapping[str, bytes]) -> dict[str, ReferralKey | None]:
        return {row: self._referral_key(row, value) for row, value in wrapped.items()}

    def _referral_key(self, row: str, wrapped: bytes) -> ReferralKey | None:
        try:
            return ReferralKey(self._unwrap(REFERRAL_KEY, row, wrapped))
        except SealedRowError:
            return None


def _insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> int:
    """How many of them were not there."""
    return _INSERT_NEW[table.name].run_each(connection, rows)


def _select_wrapped(connection: Connection, referrals: Sequence[str]) -> dict[str, bytes]:
    return dict(_WRAPPED.rows(connection, {"the_ids": list(referrals)}))


def _page(connection: Connection, after: str, before: int) -> dict[str, bytes]:
    given = {"the_last": after, "the_time": before, "most": SWEEP_PAGE}
    return dict(_PAGE.rows(connection, given))


def is_anothers_key_store(url: str, key: RowKey) -> bool:
    """As `KeyStore.is_anothers`, of the key store at this address, for the command line.

    Raises:
        StorageError: it cannot be read.
    """
    database = Database.open(url)
    try:
        return database.read_sync(partial(_is_anothers, SealedRows(key)))
    finally:
        database.close_sync()


def epoch_keys_of(url: str) -> Mapping[str, bool]:
    """The epoch keys of the key store at this address, and whether each stands, for the command line.

    Raises:
        StorageError: it cannot be read.
    """
    database = Database.open(url)
    try:
        return database.read_sync(_epochs)
    finally:
        database.close_sync()


def _epochs(connection: Connection) -> Mapping[str, bool]:
    return {name: bool(stands) for name, stands in _EPOCHS.rows(connection, {})}


def _is_anothers(rows: SealedRows, connection: Connection) -> bool:
    found = [(table, name, wrapped) for table, some in _SOME.items() for name, wrapped in some.rows(connection, {})]
    return bool(found) and not any(_opens(rows, table, name, wrapped) for table, name, wrapped in found)


def _opens(rows: SealedRows, table: Table, row: str, wrapped: bytes) -> bool:
    try:
        rows.open(wrapped, table=table.name, column=_COLUMN, row=row)
    except SealedRowError:
        return False
    return True

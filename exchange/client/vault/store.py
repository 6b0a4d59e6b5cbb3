"""The agency's own key store: a random key for each referral, and the private halves of the weekly keys.

Rules:

* One SQLite file on the agency's machine, for its owner only. It is in no backup: what is destroyed here is destroyed.
* Every secret in it is sealed under the storage key of the agency's key file, bound to its row: the file alone opens
  nothing.
* What is stored is durable before a call returns; only then is the node told to drop what it held.
* What is known of a referral changes in the transaction that reads it: two acts at once forget nothing of each other,
  and never give one receiver two codes for one survivor.
* The first key of a referral stays. A destroyed referral never gets another: an envelope that comes back opens nothing.
* A peer's number belongs to the agency key that signed it: who stole one uses up no numbers of the next.
* Destroying writes the file anew and empties the write-ahead log: SQLite overwrites a row that is deleted, and not the
  copies that it has left in its pages. What a call, or a process that died, has deleted and left there the next call
  removes. What the disk itself keeps of old blocks is the disk's: encrypt it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from exchange.client.vault.acts import LaterAct, SealedAct, sealed_before
from exchange.client.vault.cases import VaultCase
from exchange.client.vault.errors import VaultError
from exchange.client.vault.store_file import check_same_file, connected
from exchange.envelope.errors import SealedRowError
from exchange.envelope.keys import KEY_BYTES, NONCE_BYTES, Dek, EpochKey, ReferralKey, RowKey
from exchange.envelope.rewrap import rewrap, unwrap_again
from exchange.envelope.sealed_rows import SealedRows
from exchange.referral.lifecycle import Side
from exchange.schemas.shapes import written

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS referral (id TEXT PRIMARY KEY, wrapped BLOB, sealed_case BLOB);
CREATE TABLE IF NOT EXISTS opened (item TEXT PRIMARY KEY, referral TEXT NOT NULL, rewrapped BLOB NOT NULL,
    wrapped_digest BLOB NOT NULL, digest TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS ix_opened_referral ON opened (referral);
CREATE TABLE IF NOT EXISTS epoch (key_id TEXT PRIMARY KEY, wrapped BLOB NOT NULL, statement BLOB NOT NULL,
    not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, seq INTEGER NOT NULL, destroy_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS peer (agency TEXT PRIMARY KEY, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS peer_number (agency TEXT, agency_key BLOB, seq INTEGER NOT NULL,
    PRIMARY KEY (agency, agency_key));
CREATE TABLE IF NOT EXISTS act (key TEXT PRIMARY KEY, referral TEXT NOT NULL, sealed BLOB, made_at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS ix_act_referral ON act (referral);
CREATE TABLE IF NOT EXISTS pinned (one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL,
    digest TEXT NOT NULL);
"""
_UNREADABLE: Final = "store-unreadable"
_ACT: Final[TypeAdapter[SealedAct | LaterAct]] = TypeAdapter(SealedAct | LaterAct)


@dataclass(frozen=True, slots=True)
class Taken:
    """One item whose key was taken over."""

    dek: Dek
    wrapped_digest: bytes
    """SHA-256 of the wrapped key: enough to check afterwards that it is the envelope that was verified."""
    digest: str


@dataclass(frozen=True, slots=True)
class OwnEpoch:
    """One weekly key of this agency."""

    key: EpochKey
    statement: bytes
    not_before: int
    not_after: int
    seq: int
    destroy_at: int


class AgencyKeyStore:
    """The key store of one agency, on one of its machines. One process at a time writes; SQLite sees to that."""

    def __init__(self, path: Path, key: RowKey, entropy: Callable[[int], bytes]) -> None:
        """Open the file, or make it.

        Raises:
            VaultError: `store-busy`, `store-unusable`; as every method does. `store-replaced` where one stores.
        """
        self._rows = SealedRows(key)
        self._entropy = entropy
        # A process before this one may have died between deleting and overwriting.
        self._unfinished = True
        self._path = path
        self._connection, self._file = connected(path, _TABLES)

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            check_same_file(self._path, self._file)
            self._connection.execute("COMMIT")
        except BaseException:
            # SQLite has taken it back by itself where the disk is full or fails.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def case(self, referral: str) -> VaultCase | None:
        """What this software knows of a referral; nothing for an unknown or a destroyed one."""
        row = self._connection.execute("SELECT sealed_case FROM referral WHERE id = ?", (referral,)).fetchone()
        if row is None or row[0] is None:
            return None
        with _unreadable_told():
            return VaultCase.model_validate_json(self._rows.open(row[0], table="referral", column="case", row=referral))

    def living(self) -> tuple[str, ...]:
        """The ids of those that are not destroyed, also of what cannot be read."""
        query = "SELECT id FROM referral WHERE sealed_case IS NOT NULL ORDER BY id"
        return tuple(referral for (referral,) in self._connection.execute(query).fetchall())

    def cases(self) -> Iterator[tuple[str, VaultCase]]:
        """Every referral that is not destroyed."""
        for referral in self.living():
            known = self.case(referral)
            if known is not None:
                yield referral, known

    def client_code(self, subject: str, receiver: str) -> str | None:
        """The code under which this receiver knows this survivor, as long as a referral that can be read says it.

        One that cannot be read must not stop the others: at worst the receiver knows her by a second code.
        """
        for referral in self.living():
            try:
                case = self.case(referral)
            except VaultError as error:
                if error.code != _UNREADABLE:
                    raise
                continue
            if case is None or not case.client_code:
                continue
            if (case.side, case.subject, case.peer) == (Side.REFERRING, subject, receiver):
                return case.client_code
        return None

    def put_sealed_case(
        self, referral: str, case: VaultCase, *, key: str | None = None, act: SealedAct | None = None
    ) -> bool:
        """Remember, durably, what was sealed here, unless the receiver knows her under another code by now.

        Args:
            referral: that was sealed.
            case: what is known of it.
            key: of the caller's act. Where something was sealed under it meanwhile, nothing is stored.
            act: what was sealed for it.

        Raises:
            VaultError: `destroyed`.
        """
        with self._writing() as conn:
            if self.client_code(case.subject or "", case.peer) not in {None, case.client_code}:
                return False
            if key is not None and act is not None:
                sealed = self._seal("act", "sealed", key, written(act))
                row = (key, referral, sealed, case.known_since)
                if not conn.execute("INSERT OR IGNORE INTO act VALUES (?, ?, ?, ?)", row).rowcount:
                    return False
            self._referral_key(conn, referral)
            self._put_case(conn, referral, case)
        return True

    def put_told(
        self,
        referral: str,
        key: str,
        act: LaterAct,
        *,
        before: LaterAct | None,
        at: int,
        sent: Iterable[str] = (),
        plan_changes: int = 0,
    ) -> bool:
        """Remember, durably, what was sealed for an act about a referral; False where another is kept for it.

        Args:
            referral: that it is about.
            key: of the caller's act.
            act: what is kept from now on.
            before: what was kept for it until now, by what the caller has seen.
            at: now.
            sent: ids of the envelopes that were sealed.
            plan_changes: how many of them are disclosures or hold a plan; 1 for a change of one that is begun.

        Raises:
            VaultError: `destroyed`, `unknown-referral`.
        """
        with self._writing() as conn:
            known = self._known(conn, referral).with_plan_changes(plan_changes)
            row = conn.execute("SELECT sealed FROM act WHERE key = ?", (key,)).fetchone()
            there = None if row is None or row[0] is None else self._opened_act(key, row[0])
            if there != before:
                return False
            sealed = self._seal("act", "sealed", key, written(act))
            conn.execute("INSERT OR REPLACE INTO act VALUES (?, ?, ?, ?)", (key, referral, sealed, at))
            for envelope in sent:
                known = known.with_sent(envelope)
            self._put_case(conn, referral, known)
        return True

    def act(self, key: str, *, since: int) -> SealedAct | LaterAct | None:
        """What was sealed for an act since then; nothing for one that was never begun.

        Raises:
            VaultError: `sealed-before`: it was sealed earlier, or is destroyed.
        """
        row = self._connection.execute("SELECT referral, sealed, made_at FROM act WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        if row[1] is None or row[2] < since:
            raise sealed_before(row[0])
        return self._opened_act(key, row[1])

    def _opened_act(self, key: str, sealed: bytes) -> SealedAct | LaterAct:
        with _unreadable_told():
            return _ACT.validate_json(self._rows.open(sealed, table="act", column="sealed", row=key))

    def drop_sealed(self, before: int) -> None:
        """Drop what was sealed for acts before then. That they were begun stays known."""
        with self._writing() as conn:
            conn.execute("UPDATE act SET sealed = NULL WHERE made_at < ?", (before,))

    def change_case(self, referral: str, change: Callable[[VaultCase], VaultCase]) -> None:
        """Remember what is new of a referral, durably; `change` sees what is known at this moment.

        Raises:
            VaultError: `destroyed`.
        """
        with self._writing() as conn:
            self._put_case(conn, referral, change(self._known(conn, referral)))

    def take(self, item: str, referral: str, case: Callable[[VaultCase | None], VaultCase], taken: Taken) -> None:
        """Keep the key of an item under the key of its referral; durable when this returns.

        Args:
            item: which was opened.
            referral: that it is about.
            case: what is known with this item, by what was known before it.
            taken: its key.

        Raises:
            VaultError: `destroyed`.
        """
        with self._writing() as conn:
            key = self._referral_key(conn, referral)
            wrapped = rewrap(
                taken.dek, referral_key=key, referral=referral, envelope=item, nonce=self._entropy(NONCE_BYTES)
            )
            self._put_case(conn, referral, case(self.case(referral)))
            conn.execute(
                "INSERT OR IGNORE INTO opened VALUES (?, ?, ?, ?, ?)",
                (item, referral, wrapped, taken.wrapped_digest, taken.digest),
            )

    def taken(self, item: str) -> Taken | None:
        """The key of an item, where this store has it."""
        row = self._connection.execute(
            "SELECT referral, rewrapped, wrapped_digest, digest, wrapped FROM opened JOIN referral ON id = referral "
            "WHERE item = ? AND wrapped IS NOT NULL",
            (item,),
        ).fetchone()
        if row is None:
            return None
        referral, rewrapped, wrapped_digest, digest, wrapped = row
        with _unreadable_told():
            key = ReferralKey(self._rows.open(wrapped, table="referral", column="wrapped", row=referral))
            dek = unwrap_again(rewrapped, referral_key=key, referral=referral, envelope=item)
        return Taken(dek, wrapped_digest, digest)

    def destroy(self, referrals: Iterable[str]) -> None:
        """Make unreadable, for ever, everything that was taken over for these referrals. May be repeated."""
        with self._writing() as conn:
            for referral in referrals:
                conn.execute("INSERT OR IGNORE INTO referral VALUES (?, NULL, NULL)", (referral,))
                conn.execute("UPDATE referral SET wrapped = NULL, sealed_case = NULL WHERE id = ?", (referral,))
                conn.execute("DELETE FROM opened WHERE referral = ?", (referral,))
                conn.execute("UPDATE act SET sealed = NULL WHERE referral = ?", (referral,))
        self._scrub()

    def put_epochs(self, epochs: Iterable[OwnEpoch]) -> None:
        """Keep weekly keys, durably, before anybody may seal to them."""
        with self._writing() as conn:
            for one in epochs:
                key_id = one.key.key_id
                wrapped = self._seal("epoch", "wrapped", key_id, one.key.secret_bytes())
                row = (key_id, wrapped, one.statement, one.not_before, one.not_after, one.seq, one.destroy_at)
                conn.execute("INSERT OR IGNORE INTO epoch VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def epoch_key(self, key_id: str) -> EpochKey | None:
        """The private half of one week; nothing if it was never here or has ended."""
        row = self._connection.execute("SELECT wrapped FROM epoch WHERE key_id = ?", (key_id,)).fetchone()
        if row is None:
            return None
        with _unreadable_told():
            return EpochKey(self._rows.open(row[0], table="epoch", column="wrapped", row=key_id))

    def epochs(self) -> list[tuple[str, int, int, bytes]]:
        """Every weekly key as (key id, beginning, seq, statement), the lowest `seq` first."""
        return self._connection.execute("SELECT key_id, not_before, seq, statement FROM epoch ORDER BY seq").fetchall()

    def destroy_ended_epochs(self, at: int) -> int:
        """Destroy the private halves whose time is over, and say how many.

        Raises:
            VaultError: `store-busy`: deleted and perhaps not overwritten; the next call overwrites.
        """
        with self._writing() as conn:
            ended = conn.execute("DELETE FROM epoch WHERE destroy_at <= ?", (at,)).rowcount
            self._unfinished |= ended > 0
        if self._unfinished:
            self._scrub()
        return ended

    def peer_seq(self, agency: str, agency_key: bytes) -> int:
        """The highest `seq` ever seen from a peer under this agency key."""
        with self._writing() as conn:
            # Files of before lack the key: their number counts for the one in use when it is first asked for.
            before = conn.execute("SELECT seq FROM peer WHERE agency = ?", (agency,)).fetchone()
            if before is not None:
                _raise_seq(conn, agency, agency_key, before[0])
                conn.execute("DELETE FROM peer WHERE agency = ?", (agency,))
            query = "SELECT seq FROM peer_number WHERE agency = ? AND agency_key = ?"
            row = conn.execute(query, (agency, agency_key)).fetchone()
        return int(row[0]) if row is not None else 0

    def remember_peer_seq(self, agency: str, agency_key: bytes, seq: int) -> None:
        """It never goes back."""
        with self._writing() as conn:
            _raise_seq(conn, agency, agency_key, seq)

    def pin_roster(self, version: int, digest: str) -> None:
        """From now on no older roster is used, and no other one of this version.

        Raises:
            VaultError: `roster-went-back`.
        """
        with self._writing() as conn:
            row = conn.execute("SELECT version, digest FROM pinned").fetchone()
            if row is not None and (version < row[0] or (version == row[0] and digest != row[1])):
                raise VaultError("roster-went-back", "A newer roster was used here before. Install that one.")
            conn.execute("INSERT OR REPLACE INTO pinned VALUES (1, ?, ?)", (version, digest))

    def _known(self, conn: sqlite3.Connection, referral: str) -> VaultCase:
        self._referral_key(conn, referral)
        known = self.case(referral)
        if known is None:
            raise VaultError("unknown-referral", "This key store knows no such referral. Open its offer first.")
        return known

    def _referral_key(self, conn: sqlite3.Connection, referral: str) -> ReferralKey:
        row = conn.execute("SELECT wrapped FROM referral WHERE id = ?", (referral,)).fetchone()
        if row is None:
            key = ReferralKey(self._entropy(KEY_BYTES))
            wrapped = self._seal("referral", "wrapped", referral, key.secret_bytes())
            conn.execute("INSERT INTO referral VALUES (?, ?, NULL)", (referral, wrapped))
            return key
        if row[0] is None:
            raise VaultError("destroyed", "This referral was destroyed. Nothing of it is opened or kept any more.")
        with _unreadable_told():
            return ReferralKey(self._rows.open(row[0], table="referral", column="wrapped", row=referral))

    def _put_case(self, conn: sqlite3.Connection, referral: str, case: VaultCase) -> None:
        sealed = self._seal("referral", "case", referral, case.model_dump_json(exclude_defaults=True).encode())
        conn.execute("UPDATE referral SET sealed_case = ? WHERE id = ?", (sealed, referral))

    def _seal(self, table: str, column: str, row: str, value: bytes) -> bytes:
        return self._rows.seal(value, table=table, column=column, row=row, nonce=self._entropy(NONCE_BYTES))

    def _scrub(self) -> None:
        self._unfinished = True
        # The file goes through the log: with a reader that never ends that would grow by all of it at each try.
        self._cut_log()
        self._connection.execute("VACUUM")
        self._cut_log()
        self._unfinished = False

    def _cut_log(self) -> None:
        if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise VaultError("store-busy", "Another program uses the key store. Close it and destroy again.")


@contextmanager
def _unreadable_told() -> Iterator[None]:
    try:
        yield
    except SealedRowError as error:
        raise _unreadable() from error
    except ValidationError:
        # Not chained: it names members that are not ours.
        raise _unreadable() from None


def _unreadable() -> VaultError:
    return VaultError(
        _UNREADABLE,
        "The key store does not open: it belongs to another agency.keys, was written by a later version, or is "
        "damaged. Put the two files together again that belong together.",
    )


def _raise_seq(conn: sqlite3.Connection, agency: str, agency_key: bytes, seq: int) -> None:
    conn.execute(
        "INSERT INTO peer_number VALUES (?, ?, ?) "
        "ON CONFLICT (agency, agency_key) DO UPDATE SET seq = max(seq, excluded.seq)",
        (agency, agency_key, seq),
    )

"""The agency's own key store: durable before a call returns, sealed at rest, and nothing left of what was destroyed."""

from __future__ import annotations

import os
import random
import secrets
import signal
import sqlite3
import stat
import subprocess
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest

from contracts.vocabulary import Feedback, Purpose
from exchange.client.vault import VaultError
from exchange.client.vault import store as store_module
from exchange.client.vault.acts import LaterAct
from exchange.client.vault.cases import VaultCase
from exchange.client.vault.store import AgencyKeyStore, OwnEpoch, Taken
from exchange.client.vault.store_file import connected
from exchange.envelope.errors import SealedRowError
from exchange.envelope.keys import Dek, EpochKey, RowKey
from exchange.limits import DAY_MS, LIMITS
from exchange.referral.lifecycle import EventName, Side

KEY = RowKey(b"\x01" * 32)
ITEM, REFERRAL = "1" * 32, "2" * 32
DEK = Dek(b"\x03" * 32)
CASE = VaultCase(
    side=Side.RECEIVING,
    peer="lantern-helpline",
    contract="c" * 64,
    purpose=Purpose.PROVIDE_SAFE_ACCOMMODATION,
    offer=ITEM,
    feedback=Feedback.STATUS,
    client_code="CANARY-CODE",
)

SEALED = CASE.model_copy(
    update={"side": Side.REFERRING, "peer": "rose-house-shelter", "subject": "s" * 32, "client_code": "ONE-CODE"}
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agency-keys.db"


@pytest.fixture
def store(path: Path) -> Iterator[AgencyKeyStore]:
    opened = AgencyKeyStore(path, KEY, secrets.token_bytes)
    yield opened
    opened.close()


def _take(store: AgencyKeyStore) -> None:
    store.take(ITEM, REFERRAL, lambda _: CASE, Taken(DEK, b"\x04" * 32, "d" * 64))


def _same(known: VaultCase) -> VaultCase:
    return known


def _bytes(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_what_was_taken_is_there_after_kill_9(path: Path) -> None:
    child = os.fork()
    if child == 0:  # pragma: no cover - it is killed
        _take(AgencyKeyStore(path, KEY, secrets.token_bytes))
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    again = AgencyKeyStore(path, KEY, secrets.token_bytes)
    taken = again.taken(ITEM)
    assert taken is not None
    assert (taken.dek, taken.digest, again.case(REFERRAL)) == (DEK, "d" * 64, CASE)
    again.close()


def test_nothing_lies_in_the_clear_and_the_file_is_its_owners(store: AgencyKeyStore, path: Path) -> None:
    _take(store)
    key = EpochKey(b"\x05" * 32)
    store.put_epochs([OwnEpoch(key, b"statement", 1, 2, 1, 3)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for secret in (DEK.secret_bytes(), key.secret_bytes(), b"CANARY-CODE", b"lantern-helpline"):
        assert secret not in _bytes(path)


def test_another_storage_key_opens_nothing(store: AgencyKeyStore, path: Path) -> None:
    _take(store)
    other = AgencyKeyStore(path, RowKey(b"\x09" * 32), secrets.token_bytes)
    for read in (lambda: other.taken(ITEM), lambda: other.case(REFERRAL), lambda: list(other.cases())):
        with pytest.raises(VaultError) as refused:
            read()
        assert (refused.value.code, type(refused.value.__cause__)) == ("store-unreadable", SealedRowError)
    other.close()


@pytest.mark.parametrize("inside", [b'{"client_code":["CANARY-CODE"]}', b'{"CANARY":1}', b"CANARY"])
def test_what_another_version_wrote_is_told_without_a_word_of_it(store: AgencyKeyStore, inside: bytes) -> None:
    _take(store)
    row = store._seal("referral", "case", REFERRAL, inside)
    store._connection.execute("UPDATE referral SET sealed_case = ?", (row,))
    with pytest.raises(VaultError) as refused:
        store.case(REFERRAL)
    assert refused.value.code == "store-unreadable"
    assert "CANARY" not in "".join(traceback.format_exception(refused.value))


def test_printing_what_is_known_of_a_referral_shows_none_of_it() -> None:
    shown = f"{SEALED} {SEALED!r} {Taken(DEK, b'', 'd')!r}"
    for secret in ("ONE-CODE", "s" * 32, "rose-house-shelter", "c" * 64):
        assert secret not in shown


def test_the_first_key_of_a_referral_stays(store: AgencyKeyStore) -> None:
    _take(store)
    store.take("9" * 32, REFERRAL, lambda _: CASE, Taken(Dek(b"\x06" * 32), b"\x04" * 32, "e" * 64))
    first = store.taken(ITEM)
    assert first is not None
    assert first.dek == DEK


def test_what_is_kept_under_an_id_stays_whatever_comes_under_it_later(store: AgencyKeyStore) -> None:
    _take(store)
    store.take(ITEM, REFERRAL, lambda _: CASE, Taken(Dek(b"\x06" * 32), b"\x05" * 32, "e" * 64))
    assert store.taken(ITEM) == Taken(DEK, b"\x04" * 32, "d" * 64)
    key = EpochKey(b"\x05" * 32)
    for seq, statement in ((1, b"first"), (2, b"second")):
        store.put_epochs([OwnEpoch(key, statement, 1, 2, seq, 3)])
    assert store.epochs() == [(key.key_id, 1, 1, b"first")]


def test_two_acts_at_once_forget_nothing_of_each_other(store: AgencyKeyStore, path: Path) -> None:
    _take(store)
    with closing(AgencyKeyStore(path, KEY, secrets.token_bytes)) as other:
        store.change_case(REFERRAL, lambda known: known.with_sent("7" * 32, accepting="a" * 64))
        other.change_case(REFERRAL, lambda known: known.with_sent("8" * 32, accepting="b" * 64))
        store.change_case(REFERRAL, lambda known: known.with_said(EventName.IN_SERVICE))
        known = other.case(REFERRAL)
    assert known is not None
    assert (known.sent, known.acceptances, known.served) == (("7" * 32, "8" * 32), ("a" * 64, "b" * 64), "in-service")
    with pytest.raises(VaultError) as refused:
        store.change_case("9" * 32, _same)
    assert (refused.value.code, store.case("9" * 32)) == ("unknown-referral", None)


def test_of_two_who_tell_under_one_key_at_once_one_is_kept(store: AgencyKeyStore) -> None:
    """The other has to hand in what was kept, or says it twice."""
    _take(store)
    mine, others = (LaterAct(request=request, made=1) for request in ("mine", "others"))
    assert store.put_told(REFERRAL, "k", mine, before=None, at=1, sent=["7" * 32])
    for before in (None, others):
        assert not store.put_told(REFERRAL, "k", others, before=before, at=1, sent=["8" * 32])
    known = store.case(REFERRAL)
    assert known is not None
    assert (store.act("k", since=0), known.sent) == (mine, ("7" * 32,))
    assert store.put_told(REFERRAL, "k", others, before=mine, at=1)
    assert store.act("k", since=0) == others
    store.destroy([REFERRAL])
    with pytest.raises(VaultError) as destroyed:
        store.put_told(REFERRAL, "k", mine, before=others, at=1)
    assert destroyed.value.code == "destroyed"


def _seals_at_once(path: Path, at_once: Barrier, code: str) -> bool:
    with closing(AgencyKeyStore(path, KEY, secrets.token_bytes)) as store:
        sealed = SEALED.model_copy(update={"client_code": store.client_code("s" * 32, SEALED.peer) or code})
        at_once.wait()
        return store.put_sealed_case(secrets.token_hex(16), sealed)


def test_of_two_who_seal_at_once_one_seals_again_under_the_others_code(path: Path) -> None:
    for place in range(10):
        at_once, file = Barrier(2), path.with_name(f"keys-{place}.db")
        AgencyKeyStore(file, KEY, secrets.token_bytes).close()
        with ThreadPoolExecutor(2) as both:
            done = [both.submit(_seals_at_once, file, at_once, code) for code in ("ONE-CODE", "OTHER-CODE")]
            assert sorted(one.result() for one in done) == [False, True]
        with closing(AgencyKeyStore(file, KEY, secrets.token_bytes)) as store:
            assert [case.client_code for _, case in store.cases()] == [store.client_code("s" * 32, SEALED.peer)]


def test_another_survivor_and_another_receiver_have_other_codes(store: AgencyKeyStore) -> None:
    assert store.put_sealed_case("5" * 32, SEALED)
    for other in ({"subject": "t" * 32}, {"peer": "example-labour-office"}):
        case = SEALED.model_copy(update={"client_code": "OTHER-CODE", **other})
        assert store.client_code(case.subject or "", case.peer) is None
        assert store.put_sealed_case(secrets.token_hex(16), case)
    store.destroy(["5" * 32])
    assert store.client_code("s" * 32, SEALED.peer) is None


def test_a_referral_that_says_no_code_hides_none(store: AgencyKeyStore) -> None:
    """She would be two women to her receiver."""
    assert store.put_sealed_case("5" * 32, SEALED.model_copy(update={"client_code": None}))
    assert store.put_sealed_case("6" * 32, SEALED)
    assert store.client_code("s" * 32, SEALED.peer) == "ONE-CODE"


def test_what_is_known_of_a_referral_is_what_its_envelopes_are_verified_by() -> None:
    case = CASE.with_opened("7" * 32, plan_number=5).with_opened("7" * 32, plan_number=9)
    case = case.with_sent("8" * 32, accepting="a" * 64).with_sent("9" * 32, accepting="b" * 64).with_sent("e" * 32)
    memory = case.memory()
    assert (memory.side, memory.contract, memory.purpose) == (CASE.side, CASE.contract, CASE.purpose)
    assert (memory.feedback, memory.received) == (CASE.feedback, {ITEM, "7" * 32})
    assert (memory.sent, memory.acceptances) == ({"8" * 32, "9" * 32, "e" * 32}, {"a" * 64, "b" * 64})
    assert case.plans == {"7" * 32: 5}
    served = case.with_said(EventName.IN_SERVICE)
    assert (case.with_said(EventName.ACCEPTED).served, served.with_said(EventName.SCHEDULED).served) == (
        None,
        "in-service",
    )


def test_what_a_node_does_not_know_is_forgotten_late_or_cannot_come() -> None:
    sealed, tombstone = SEALED.model_copy(update={"known_since": 1000}), 1000 + LIMITS.tombstone_ms
    assert not sealed.forgotten_by(1000 + LIMITS.hand_in_within_ms)
    assert sealed.forgotten_by(1000 + DAY_MS)
    received = CASE.model_copy(update={"known_since": 1000})
    answered = sealed.with_opened("7" * 32, plan_number=None)
    for had in (sealed.with_handed_in(), sealed.with_begun(), answered, received):
        assert not had.forgotten_by(tombstone - 1)
        assert had.forgotten_by(tombstone)
    assert sealed.with_begun().with_refused() == sealed
    assert sealed.with_handed_in().with_begun().with_refused() == sealed.with_handed_in()


def test_destroyed_is_gone_from_the_file_and_never_comes_back(store: AgencyKeyStore, path: Path) -> None:
    _take(store)
    with closing(sqlite3.connect(path)) as looking:
        (wrapped,) = looking.execute("SELECT wrapped FROM referral").fetchone()
        (rewrapped,) = looking.execute("SELECT rewrapped FROM opened").fetchone()
    assert wrapped in _bytes(path)
    store.destroy([REFERRAL])
    store.destroy([REFERRAL])
    for gone in (wrapped, rewrapped):
        assert gone not in _bytes(path)
    assert (store.taken(ITEM), store.case(REFERRAL), list(store.cases())) == (None, None, [])
    for again in (
        lambda: _take(store),
        lambda: store.put_sealed_case(REFERRAL, CASE),
        lambda: store.change_case(REFERRAL, _same),
    ):
        with pytest.raises(VaultError) as refused:
            again()
        assert refused.value.code == "destroyed"


@pytest.mark.parametrize("seed", [0, 28, 74])
def test_no_copy_of_a_destroyed_key_stays_in_a_page_from_which_it_was_moved(
    store: AgencyKeyStore, path: Path, seed: int
) -> None:
    """SQLite moves rows as what is known of a referral grows; `secure_delete` overwrites only where one lay last."""
    choice, living = random.Random(seed), [f"{n:032x}" for n in range(40)]  # noqa: S311 - the same each time
    store._connection.execute("PRAGMA synchronous=OFF")
    for referral in living:
        store.take(referral[::-1], referral, lambda _: CASE, Taken(DEK, b"\x04" * 32, "d" * 64))
    kept = dict(store._connection.execute("SELECT id, wrapped FROM referral").fetchall())
    for _ in range(8):
        for referral in choice.sample(living, 6):
            store.change_case(referral, lambda case: case.with_sent(ITEM).with_sent(ITEM))
        store.destroy(doomed := choice.sample(living, 2))
        living = [referral for referral in living if referral not in doomed]
        lying = _bytes(path)
        assert {referral for referral in kept if kept[referral] in lying} == set(living)


def test_weekly_keys_end(store: AgencyKeyStore, path: Path) -> None:
    key = EpochKey(b"\x07" * 32)
    store.put_epochs([OwnEpoch(key, b"a statement", 1, 2, 1, 100)])
    with closing(sqlite3.connect(path)) as looking:
        (wrapped,) = looking.execute("SELECT wrapped FROM epoch").fetchone()
    assert store.destroy_ended_epochs(99) == 0
    assert store.epoch_key(key.key_id) == key
    assert store.destroy_ended_epochs(100) == 1
    assert store.epoch_key(key.key_id) is None
    assert wrapped not in _bytes(path)


def _ended_week(path: Path) -> bytes:
    """The wrapped private half of a week that ends at 100, stored here."""
    with closing(AgencyKeyStore(path, KEY, secrets.token_bytes)) as store:
        key = EpochKey(b"\x07" * 32)
        store.put_epochs([OwnEpoch(key, b"a statement", 1, 2, 1, 100)])
    with closing(sqlite3.connect(path)) as looking:
        (wrapped,) = looking.execute("SELECT wrapped FROM epoch").fetchone()
    return bytes(wrapped)


def test_weekly_keys_that_could_not_be_overwritten_are_overwritten_the_next_time(path: Path) -> None:
    wrapped = _ended_week(path)
    with closing(AgencyKeyStore(path, KEY, secrets.token_bytes)) as store:
        store._connection.execute("PRAGMA busy_timeout=0")
        with closing(sqlite3.connect(path, isolation_level=None)) as reading:
            reading.execute("BEGIN")
            reading.execute("SELECT * FROM epoch").fetchall()
            for _ in range(2):
                with pytest.raises(VaultError) as busy:
                    store.destroy_ended_epochs(100)
                assert busy.value.code == "store-busy"
            assert wrapped in _bytes(path)
            log = path.with_name(f"{path.name}-wal").stat().st_size
            with pytest.raises(VaultError):
                store.destroy_ended_epochs(100)
            assert path.with_name(f"{path.name}-wal").stat().st_size == log, "no more of the disk at each try"
            reading.execute("COMMIT")
            assert store.destroy_ended_epochs(100) == 0
            assert wrapped not in _bytes(path)


def test_weekly_keys_of_a_process_that_died_before_it_overwrote_them_are_overwritten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = _ended_week(path)
    monkeypatch.setattr(AgencyKeyStore, "_scrub", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    child = os.fork()
    if child == 0:  # pragma: no cover - it is killed
        AgencyKeyStore(path, KEY, secrets.token_bytes).destroy_ended_epochs(100)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    monkeypatch.undo()
    with closing(AgencyKeyStore(path, KEY, secrets.token_bytes)) as store:
        assert wrapped in _bytes(path)
        assert store.destroy_ended_epochs(100) == 0
        assert wrapped not in _bytes(path)


def test_neither_roster_nor_a_peers_number_goes_back(store: AgencyKeyStore) -> None:
    one, next_one = b"\x01" * 32, b"\x02" * 32
    store.remember_peer_seq("lantern-helpline", one, 7)
    store.remember_peer_seq("lantern-helpline", one, 3)
    assert store.peer_seq("lantern-helpline", one) == 7
    # Another agency key begins anew, and takes nothing of the first one's numbers away.
    assert store.peer_seq("lantern-helpline", next_one) == 0
    store.remember_peer_seq("lantern-helpline", next_one, 5)
    assert [store.peer_seq("lantern-helpline", key) for key in (one, next_one)] == [7, 5]
    store.pin_roster(4, "a")
    store.pin_roster(4, "a")
    for version, digest in ((3, "a"), (4, "b")):
        with pytest.raises(VaultError) as refused:
            store.pin_roster(version, digest)
        assert refused.value.code == "roster-went-back"
    store.pin_roster(5, "b")


def test_a_number_from_before_counts_for_the_key_that_is_in_use_first(path: Path) -> None:
    """Stores of before knew one number of each agency, whatever key had signed it."""
    with closing(sqlite3.connect(path)) as before:
        before.execute("CREATE TABLE peer (agency TEXT PRIMARY KEY, seq INTEGER NOT NULL)")
        before.execute("INSERT INTO peer VALUES ('lantern-helpline', 7), ('rose-house-shelter', 9)")
        before.commit()
    for _ in range(2):
        with closing(AgencyKeyStore(path, KEY, secrets.token_bytes)) as store:
            assert store.peer_seq("lantern-helpline", b"\x01" * 32) == 7
            assert store.peer_seq("lantern-helpline", b"\x02" * 32) == 0
    with closing(AgencyKeyStore(path, KEY, secrets.token_bytes)) as store:
        store.remember_peer_seq("rose-house-shelter", b"\x01" * 32, 8)
        assert store.peer_seq("rose-house-shelter", b"\x01" * 32) == 9


def test_what_is_stored_is_on_the_disk_and_what_is_deleted_is_overwritten(store: AgencyKeyStore) -> None:
    said = {name: store._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert said == {"journal_mode": "wal", "synchronous": 2}  # FULL: a commit waits for the disk
    assert store._connection.execute("PRAGMA secure_delete").fetchone()[0] == 1
    assert (
        store._connection.execute("PRAGMA temp_store").fetchone()[0] == 2
    )  # MEMORY: what is written anew is in no other file


def test_a_key_store_is_not_opened_through_a_link(path: Path) -> None:
    path.with_name("elsewhere").touch()
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(OSError, match="symbolic link"):
        AgencyKeyStore(path, KEY, secrets.token_bytes)


def test_what_another_program_still_reads_is_not_said_to_be_destroyed(store: AgencyKeyStore, path: Path) -> None:
    """The write-ahead log holds it until the other one is through: destroying is said to be unfinished."""
    _take(store)
    store._connection.execute("PRAGMA busy_timeout=10")
    with closing(sqlite3.connect(path)) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT * FROM opened").fetchall()
        with pytest.raises(VaultError) as refused:
            store.destroy([REFERRAL])
    assert (refused.value.code, store.case(REFERRAL)) == ("store-busy", None)
    store.destroy([REFERRAL])


def test_an_act_that_fails_changes_nothing(store: AgencyKeyStore) -> None:
    def fails(_known: VaultCase | None) -> VaultCase:
        raise VaultError("unknown-referral", "Open the offer first.")

    with pytest.raises(VaultError):
        store.take(ITEM, REFERRAL, fails, Taken(DEK, b"\x04" * 32, "d" * 64))
    assert (store.taken(ITEM), store.case(REFERRAL)) == (None, None)
    assert store._connection.execute("SELECT count(*) FROM referral").fetchone() == (0,)


def test_what_was_destroyed_before_anything_was_known_of_it_never_gets_a_key(store: AgencyKeyStore) -> None:
    store.destroy([REFERRAL])
    with pytest.raises(VaultError) as refused:
        _take(store)
    assert (refused.value.code, store.taken(ITEM)) == ("destroyed", None)


_ANOTHER_PROGRAM = """
import secrets, sys
from pathlib import Path
from exchange.client.vault.store import AgencyKeyStore
from exchange.envelope.keys import RowKey

store = AgencyKeyStore(Path(sys.argv[1]), RowKey(bytes([1]) * 32), secrets.token_bytes)
print(store.taken(sys.argv[2]) is not None)
store.destroy(["6" * 32])
store.close()
"""


def _another_program_has(path: Path, item: str) -> bool:
    """What another program finds, as `exchange keys destroy` beside one that runs; it closes the file after it."""
    asked = [sys.executable, "-c", _ANOTHER_PROGRAM, str(path), item]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout == "True\n"  # ours


def test_what_is_stored_stays_where_a_program_opens_the_file_twice_and_another_closes_it(path: Path) -> None:
    """Two clients of two branches in one program. The log was taken away under the first one."""
    with (
        closing(AgencyKeyStore(path, KEY, secrets.token_bytes)) as one,
        closing(AgencyKeyStore(path, KEY, secrets.token_bytes)),
    ):
        one.destroy(["5" * 32])
        assert not _another_program_has(path, ITEM)
        _take(one)
        assert _another_program_has(path, ITEM)


def _opens_at_once(path: Path, at_once: Barrier) -> None:
    at_once.wait()
    AgencyKeyStore(path, KEY, secrets.token_bytes).close()


def test_two_programs_may_open_a_new_file_at_the_same_moment(path: Path) -> None:
    for place in range(20):
        at_once = Barrier(4)
        with ThreadPoolExecutor(4) as all_of_them:
            made = [
                all_of_them.submit(_opens_at_once, path.with_name(f"keys-{place}.db"), at_once)
                for _ in range(at_once.parties)
            ]
            assert [one.result() for one in made] == [None] * at_once.parties


def test_a_file_that_cannot_be_used_is_told_in_a_sentence_that_shows_nothing(path: Path) -> None:
    path.write_bytes(b"CANARY" * 1000)
    with pytest.raises(VaultError) as damaged:
        AgencyKeyStore(path, KEY, secrets.token_bytes)
    assert (damaged.value.code, "SQLITE_NOTADB" in damaged.value.sentence) == ("store-unusable", True)
    assert "CANARY" not in repr(damaged.value)
    path.unlink()
    with closing(AgencyKeyStore(path, KEY, secrets.token_bytes)) as store:
        _take(store)
        store.destroy([])
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(VaultError) as cut_off:
        AgencyKeyStore(path, KEY, secrets.token_bytes)
    assert cut_off.value.code == "store-unusable"


def test_what_a_full_disk_refuses_is_not_there_and_can_be_stored_later(store: AgencyKeyStore) -> None:
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages}")
    many = [f"{place:032x}" for place in range(200)]
    with pytest.raises(VaultError) as full:
        store.destroy(many)
    assert (full.value.code, "SQLITE_FULL" in full.value.sentence) == ("store-unusable", True)
    assert store._connection.execute("SELECT count(*) FROM referral").fetchone() == (0,)
    store._connection.execute("PRAGMA max_page_count=100000")
    _take(store)
    assert store.taken(ITEM) is not None


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "removed"])
def test_nothing_is_stored_in_a_file_that_was_replaced_meanwhile(
    store: AgencyKeyStore, path: Path, replaced: bool
) -> None:
    """Somebody brought an older copy back while a program ran. What that stored was in no file that anybody opens."""
    store.destroy([])
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path) if replaced else path.unlink()
    for _ in range(2):
        with pytest.raises(VaultError) as refused:
            _take(store)
        assert (refused.value.code, store.taken(ITEM)) == ("store-replaced", None)
    with closing(AgencyKeyStore(path, KEY, secrets.token_bytes)) as fresh:
        _take(fresh)


def test_another_program_that_is_busy_with_the_file_is_said_to_be(store: AgencyKeyStore, path: Path) -> None:
    store._connection.execute("PRAGMA busy_timeout=0")
    with closing(sqlite3.connect(path, isolation_level=None)) as writing:
        writing.execute("BEGIN IMMEDIATE")
        with pytest.raises(VaultError) as busy:
            _take(store)
    assert busy.value.code == "store-busy"
    _take(store)


def test_damage_that_sqlite_itself_does_not_see_is_told_in_a_sentence_that_shows_nothing(store: AgencyKeyStore) -> None:
    """Bytes that are no text: Python refuses them, with an error that has no code and shows what lies there."""
    store._connection.execute("INSERT INTO referral VALUES (CAST(? AS TEXT), NULL, X'00')", (b"CANARY\xff",))
    with pytest.raises(VaultError) as told:
        store.living()
    assert told.value.code == "store-unusable"
    shown = "".join(traceback.format_exception(told.value))
    assert "CANARY" not in shown


def test_a_file_that_is_replaced_while_it_is_opened_counts_as_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the place afterwards is not what was opened, and nothing stored would be found there."""

    def replaced_at_once(at: Path, tables: str) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
        opened = connected(at, tables)
        at.rename(at.with_name("opened.db"))
        at.write_bytes(b"an older copy")
        return opened

    monkeypatch.setattr(store_module, "connected", replaced_at_once)
    with closing(AgencyKeyStore(path, KEY, secrets.token_bytes)) as opened, pytest.raises(VaultError) as told:
        _take(opened)
    assert told.value.code == "store-replaced"

"""What is kept of weekly keys: the newest, however many a member signs, and by whichever process learned of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from exchange.storage.database import Connection, Database
from exchange.storage.epochs import (
    KEPT,
    StoredEpoch,
    StoredRevocation,
    drop_peer_epochs,
    drop_revocations,
    epoch_revocations,
    forget_own_epochs,
    forget_peer_epochs,
    own_epochs,
    peer_epochs,
    publish_epochs,
    remember_peer_epochs,
    remember_revocations,
)

PEER, OTHER = "synthetic-shelter", "synthetic-clinic"


def _revocation(number: int, *, seq: int | None = None) -> StoredRevocation:
    return StoredRevocation(f"{number:032x}", number if seq is None else seq, 10**13, b"signed %d" % number)


def test_of_more_revocations_than_an_honest_card_shows_the_newest_are_kept(database_url: str) -> None:
    database = Database.open(database_url)
    database.write_sync(lambda conn: remember_revocations(conn, OTHER, [_revocation(1)]))
    for first in range(1, 4 * KEPT, KEPT):
        more = [_revocation(number) for number in range(first, first + KEPT)]
        database.write_sync(lambda conn, more=more: remember_revocations(conn, PEER, more))
    kept = database.read_sync(lambda conn: epoch_revocations(conn, PEER))
    others = database.read_sync(lambda conn: epoch_revocations(conn, OTHER))
    database.close_sync()
    assert [row.seq for row in kept] == list(range(3 * KEPT + 1, 4 * KEPT + 1))
    assert others == [_revocation(1)]


def test_of_more_statements_than_an_honest_card_shows_the_newest_are_kept(database_url: str) -> None:
    database = Database.open(database_url)
    rows = [StoredEpoch(f"{number:032x}", number, 1, 2, b"signed") for number in range(1, 2 * KEPT + 1)]
    database.write_sync(lambda conn: remember_peer_epochs(conn, PEER, rows))
    kept = database.read_sync(lambda conn: peer_epochs(conn, PEER))
    database.close_sync()
    assert [row.seq for row in kept] == list(range(KEPT + 1, 2 * KEPT + 1))


def test_no_more_are_kept_where_all_have_one_number(database_url: str) -> None:
    """A member that numbers nothing anew fills no table here."""
    database = Database.open(database_url)
    for first in range(1, 3 * KEPT, KEPT):
        numbers = range(first, first + KEPT)
        statements = [StoredEpoch(f"{number:032x}", 7, 1, 2, b"signed") for number in numbers]
        revocations = [_revocation(number, seq=7) for number in numbers]

        def work(conn: Connection, statements: Any = statements, revocations: Any = revocations) -> None:
            remember_peer_epochs(conn, PEER, statements)
            remember_revocations(conn, PEER, revocations)

        database.write_sync(work)
    kept = database.read_sync(lambda conn: (peer_epochs(conn, PEER), epoch_revocations(conn, PEER)))
    database.close_sync()
    assert [len(rows) for rows in kept] == [KEPT, KEPT]


def test_the_highest_number_outlives_its_week(database_url: str) -> None:
    """Who has seen it uses no list that has none as high."""
    database = Database.open(database_url)
    rows = [StoredEpoch(f"{seq:032x}", seq, end - 1, end, b"signed") for seq, end in ((1, 2), (2, 9), (3, 5), (4, 3))]

    def work(conn: Connection) -> None:
        publish_epochs(conn, rows)
        remember_peer_epochs(conn, PEER, rows)
        forget_own_epochs(conn, 5)
        forget_peer_epochs(conn, 5)

    database.write_sync(work)
    own, peers = database.read_sync(own_epochs), database.read_sync(lambda conn: peer_epochs(conn, PEER))
    database.close_sync()
    assert [row.seq for row in own] == [row.seq for row in peers] == [2, 4]


def test_what_is_dropped_is_of_one_agency_and_these_keys(database_url: str) -> None:
    database = Database.open(database_url)
    statements = [StoredEpoch(f"{number:032x}", number, 1, 2, b"signed") for number in (1, 2, 3)]
    revocations = [_revocation(number) for number in (1, 2, 3)]
    gone = [row.key_id for row in revocations[:2]]

    def work(conn: Connection) -> None:
        for agency in (PEER, OTHER):
            remember_peer_epochs(conn, agency, statements)
            remember_revocations(conn, agency, revocations)
        drop_peer_epochs(conn, PEER, gone)
        drop_revocations(conn, PEER, gone)
        drop_peer_epochs(conn, OTHER, [])
        drop_revocations(conn, OTHER, [])

    database.write_sync(work)
    kept = {
        agency: database.read_sync(lambda conn, who=agency: (peer_epochs(conn, who), epoch_revocations(conn, who)))
        for agency in (PEER, OTHER)
    }
    database.close_sync()
    assert kept == {PEER: (statements[2:], revocations[2:]), OTHER: (statements, revocations)}


def test_of_two_about_one_key_the_one_that_was_learned_last_counts(database_url: str) -> None:
    database = Database.open(database_url)
    for seq in (7, 5):
        database.write_sync(lambda conn, seq=seq: remember_revocations(conn, PEER, [_revocation(1, seq=seq)]))
    kept = database.read_sync(lambda conn: epoch_revocations(conn, PEER))
    database.close_sync()
    assert kept == [_revocation(1, seq=5)]


def test_processes_that_learn_the_same_at_once_do_not_collide(database_url: str) -> None:
    rows = [_revocation(number) for number in range(1, KEPT + 1)]

    def learn(_: int) -> None:
        database = Database.open(database_url)
        try:
            for _ in range(10):
                database.write_sync(lambda conn: remember_revocations(conn, PEER, rows))
        finally:
            database.close_sync()

    with ThreadPoolExecutor(3) as processes:
        list(processes.map(learn, range(3)))
    database = Database.open(database_url)
    kept = database.read_sync(lambda conn: epoch_revocations(conn, PEER))
    database.close_sync()
    assert [row.seq for row in kept] == [row.seq for row in rows]

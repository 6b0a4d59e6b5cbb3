"""A peer that has put us off is due for a new stop and for nothing else, once, on both databases."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import Connection, select
from support.notes import listening

from exchange.storage.database import Database
from exchange.storage.outbox import OutgoingRecord, enqueue, has_queued, load_batch, queued_but
from exchange.storage.peer_leases import (
    Longest,
    PeerLease,
    claim_peer,
    hurry,
    lock_peer,
    next_due,
    renew_lease,
    settle_peer,
    sign_of_life,
)
from exchange.storage.tables import OUTBOX, PEER

SHELTER = "rose-house-shelter"
STOPS = ["withdrawal", "recall"]
TOLD = 60_000
"""Until then the peer has put us off."""
LONGEST = Longest(lease_ms=5000, wait_ms=3_600_000)
AHEAD = 8 * 3_600_000
"""So far ahead a clock was."""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Two offers, a stop and a progress wait for the shelter."""
    database = Database.open(database_url)
    try:
        await database.write(_four_wait)
        yield database
    finally:
        await database.close()


def _four_wait(conn: Connection) -> None:
    for number, kind in enumerate(("offer", "offer", "withdrawal", "progress")):
        _enqueue(conn, number, kind)


def _enqueue(conn: Connection, number: int, kind: str) -> None:
    envelope = str(number) * 32
    item = OutgoingRecord(
        envelope, envelope, SHELTER, kind, "queued", envelope, 1, 2**40, b"h", b"w", b"c" * 4096, b"s"
    )
    enqueue(conn, [item])


async def _claim(database: Database, at: int) -> PeerLease | None:
    return await database.write(lambda conn: claim_peer(conn, at=at, token="t", lease_ms=1000, longest=LONGEST))


async def _give_back(database: Database, lease: PeerLease, *, due_at: int, until: int | None, reached: bool) -> None:
    def settle(conn: Connection) -> bool:
        return settle_peer(
            conn,
            lease,
            at=0,
            due_at=due_at,
            reached=reached,
            carries=1,
            told_to_wait=True,
            only_stops_until=until,
        )

    assert await database.write(settle)


async def _put_off(database: Database, *, due_at: int = TOLD, until: int | None = TOLD, reached: bool = True) -> None:
    lease = await _claim(database, 0)
    assert lease is not None
    assert lease.only_stops_until is None
    await _give_back(database, lease, due_at=due_at, until=until, reached=reached)


async def _due_at(database: Database) -> int:
    return await database.read(lambda conn: conn.execute(select(PEER.c.due_at)).scalar_one())


def _queued(conn: Connection) -> list[str]:
    return [item.id for _, item in load_batch(conn, SHELTER, after=0, limit=100, max_bytes=2**30)]


async def _hurry(database: Database, at: int, *, stop: bool) -> None:
    await database.write(lambda conn: hurry(conn, SHELTER, at, stop=stop))


@pytest.mark.parametrize("reached", [True, False], ids=["it took something first", "it took nothing"])
async def test_a_stop_makes_it_due_and_the_lease_says_what_for(database: Database, reached: bool) -> None:
    await _put_off(database, reached=reached)
    await _hurry(database, 1000, stop=False)
    assert await _claim(database, 1000) is None
    await _hurry(database, 1000, stop=True)
    lease = await _claim(database, 1000)
    assert lease is not None
    assert lease.only_stops_until == TOLD
    # Taken: what is no stop waits on, and the next stop need not.
    await _give_back(database, lease, due_at=TOLD, until=TOLD, reached=True)
    await _hurry(database, 2000, stop=False)
    assert await _due_at(database) == TOLD
    await _hurry(database, 2000, stop=True)
    assert await _due_at(database) == 2000


async def test_a_leased_peer_is_nobody_elses_until_the_lease_ends_and_then_not_the_first_ones(
    database: Database,
) -> None:
    first = await _lease(database, "first", 1000)
    assert first is not None
    assert await _lease(database, "second", 1999) is None
    assert await _next_due(database, 1000) == 2000
    second = await _lease(database, "second", 2000)
    assert second is not None
    # Who was too slow neither holds it for longer nor gives it back.
    assert not await database.write(lambda conn: renew_lease(conn, first, until=TOLD))
    assert not await database.write(functools.partial(_fails, lease=first, at=TOLD))
    assert await _due_at(database) < TOLD
    assert await _lease(database, "third", 2999) is None
    assert await database.write(lambda conn: renew_lease(conn, second, until=4000))
    assert await _lease(database, "third", 3999) is None


async def test_a_peer_fails_since_the_first_time_and_not_the_last(database: Database) -> None:
    """By that the schedule of repeats counts."""
    for at, failing_since, attempts in ((1000, None, 0), (2000, 1000, 1), (3000, 1000, 2)):
        lease = await _lease(database, "t", at)
        assert lease is not None
        assert (lease.failing_since, lease.attempts) == (failing_since, attempts)
        assert await database.write(functools.partial(_fails, lease=lease, at=at))


async def _has_failed(database: Database) -> None:
    lease = await _claim(database, 0)
    assert lease is not None
    assert await database.write(functools.partial(_fails, lease=lease, at=0))


def _fails(conn: Connection, *, lease: PeerLease, at: int, due_at: int | None = None) -> bool:
    due_at = at if due_at is None else due_at
    return settle_peer(
        conn, lease, at=at, due_at=due_at, reached=False, carries=1, told_to_wait=False, only_stops_until=None
    )


async def _next_due(database: Database, at: int) -> int | None:
    return await database.read(lambda conn: next_due(conn, at=at, longest=LONGEST))


async def _lease(database: Database, token: str, at: int) -> PeerLease | None:
    return await database.write(lambda conn: claim_peer(conn, at=at, token=token, lease_ms=1000, longest=LONGEST))


@pytest.mark.parametrize("renewed", [False, True])
async def test_a_lease_by_a_clock_that_was_ahead_holds_nobody_up(database: Database, renewed: bool) -> None:
    """Its courier was killed: nobody gives it back."""
    lost = await _lease(database, "lost", AHEAD)
    assert lost is not None
    if renewed:
        assert await database.write(lambda conn: renew_lease(conn, lost, until=AHEAD + 3000))
    due = await _next_due(database, 1000)
    assert due is not None
    assert due <= 1000
    again = await _lease(database, "again", 1000)
    assert again is not None
    assert not await database.write(lambda conn: renew_lease(conn, lost, until=2000))
    assert await _lease(database, "third", 1001) is None
    assert await _next_due(database, 1001) == 2000


async def test_the_lease_of_who_is_alive_is_nobody_elses_where_clocks_differ_a_little(database: Database) -> None:
    """What a lease may last and clocks may differ, and not a millisecond more."""
    held = await _lease(database, "held", 9000)
    assert held is not None
    assert await database.write(lambda conn: renew_lease(conn, held, until=12_000))
    assert await _lease(database, "another", 12_000 - LONGEST.lease_ms) is None
    assert await _next_due(database, 12_000 - LONGEST.lease_ms) == 12_000
    assert await _lease(database, "another", 11_999) is None
    assert await _next_due(database, 12_000 - LONGEST.lease_ms - 1) == 0
    assert await _lease(database, "another", 12_000 - LONGEST.lease_ms - 1) is not None


@pytest.mark.parametrize("reached", [True, False], ids=["it took something first", "it took nothing"])
@pytest.mark.parametrize("heard_of", [True, False], ids=["heard of since", "not heard of"])
async def test_what_a_peer_has_put_off_by_a_clock_that_was_ahead_goes(
    database: Database, reached: bool, heard_of: bool
) -> None:
    await _put_off(database, due_at=AHEAD, until=AHEAD, reached=reached)
    if heard_of:
        await database.write(lambda conn: sign_of_life(conn, SHELTER, 1000))
    due = await _next_due(database, 1000)
    assert due is not None
    assert due <= 1000
    lease = await _claim(database, 1000)
    assert lease is not None
    assert lease.only_stops_until is None


async def test_the_longest_pause_that_a_peer_may_ask_for_is_kept(database: Database) -> None:
    until = 1000 + LONGEST.wait_ms
    await _put_off(database, due_at=until, until=until)
    assert await _next_due(database, 1000) == until
    assert await _claim(database, 1000) is None
    await _hurry(database, 1000, stop=True)
    lease = await _claim(database, 1000)
    assert lease is not None
    assert lease.only_stops_until == until


async def test_once_it_was_reached_a_peer_fails_since_the_next_time(database: Database) -> None:
    steps = ((1000, False, None), (2000, True, 1000), (3000, False, None), (4000, False, 3000))
    for at, reached, failing_since in steps:
        lease = await _lease(database, "t", at)
        assert lease is not None
        assert lease.failing_since == failing_since
        if reached:
            await _give_back(database, lease, due_at=at, until=None, reached=True)
        else:
            assert await database.write(functools.partial(_fails, lease=lease, at=at))


@pytest.mark.parametrize(("shelter", "other", "first"), [(500, 300, "another"), (300, 500, SHELTER)])
async def test_who_has_been_due_for_longest_is_served_first(
    database: Database, shelter: int, other: int, first: str
) -> None:
    def due(conn: Connection) -> None:
        _enqueue(conn, 9, "offer")
        conn.execute(OUTBOX.update().where(OUTBOX.c.id == "9" * 32).values(peer="another"))
        conn.execute(PEER.insert().values(agency="another", due_at=other, lease_until=0, attempts=0))
        conn.execute(PEER.update().where(PEER.c.agency == SHELTER).values(due_at=shelter))

    await database.write(due)
    lease = await _claim(database, 1000)
    assert lease is not None
    assert lease.agency == first


async def test_a_sign_of_life_wakes_the_courier(database: Database) -> None:
    await _put_off(database, until=None)
    await listening(database)
    mark = database.wake.mark("outbox")
    await database.write(lambda conn: sign_of_life(conn, SHELTER, 1000))
    assert await database.wake.wait("outbox", 5.0, since=mark)


async def test_when_its_time_has_come_everything_goes(database: Database) -> None:
    await _put_off(database)
    assert await _claim(database, TOLD - 1) is None
    lease = await _claim(database, TOLD)
    assert lease is not None
    assert lease.only_stops_until is None


@pytest.mark.parametrize(
    ("due_at", "until"),
    [
        pytest.param(TOLD // 2, TOLD, id="stops are put off for less than the rest"),
        pytest.param(TOLD * 2, None, id="stops are put off for longer than the rest"),
    ],
)
async def test_where_stops_are_put_off_too_a_new_one_waits(database: Database, due_at: int, until: int | None) -> None:
    await _put_off(database, due_at=due_at, until=until)
    await _hurry(database, 1000, stop=True)
    assert await _due_at(database) == due_at
    lease = await _claim(database, due_at)
    assert lease is not None
    assert lease.only_stops_until == until


@pytest.mark.parametrize("until", [None, TOLD], ids=["it was away", "it has put us off"])
async def test_a_sign_of_life_makes_due_what_the_peer_has_not_put_off(database: Database, until: int | None) -> None:
    await _put_off(database, until=until)
    await database.write(lambda conn: sign_of_life(conn, SHELTER, 1000))
    lease = await _claim(database, 1000)
    assert lease is not None
    assert lease.only_stops_until == until


@pytest.mark.parametrize("times", [1, 2])
async def test_a_peer_that_is_heard_of_during_a_try_that_fails_is_tried_once_more_soon(
    database: Database, times: int
) -> None:
    """However often: each try may have one. Not at once: two of them would wake each other without pause."""
    await _has_failed(database)
    at = 1000
    await database.write(lambda conn: sign_of_life(conn, SHELTER, at))
    for heard_of in (True, True, False):
        lease = await _lease(database, "t", at)
        assert lease is not None
        for _ in range(times if heard_of else 0):
            await database.write(functools.partial(sign_of_life, agency=SHELTER, at=at))
        assert await database.write(functools.partial(_fails, lease=lease, at=at, due_at=TOLD))
        assert await _due_at(database) == (at + 3000 if heard_of else TOLD)
        at += 3000
    assert await _claim(database, TOLD - 1) is None


async def test_two_whose_answers_break_do_not_wake_each_other_without_pause(database: Database) -> None:
    """Each try brings a sign of life, some while it runs and some when it has failed."""
    await _has_failed(database)
    tries = 0
    for at in range(1000, 61_000, 100):
        lease = await _lease(database, "t", at)
        during = (at // 100) % 3 == 0
        if during or lease is None:
            await database.write(functools.partial(sign_of_life, agency=SHELTER, at=at))
        if lease is not None:
            tries += 1
            assert await database.write(functools.partial(_fails, lease=lease, at=at + 50, due_at=TOLD * 9))
            if not during:
                await database.write(functools.partial(sign_of_life, agency=SHELTER, at=at + 60))
    assert 18 <= tries <= 24


async def test_who_hears_of_a_peer_that_takes_what_it_gets_does_not_wait_for_who_settles(
    database: Database, database_url: str
) -> None:
    """Two processes on PostgreSQL, whose locks would meet: what has arrived is written with the sign of life."""
    if database.dialect != "postgresql":
        return
    lease = await _claim(database, 1000)
    assert lease is not None
    settled, commit = threading.Event(), threading.Event()

    def settles(conn: Connection) -> None:
        lock_peer(conn, SHELTER)
        settled.set()
        assert commit.wait(10)

    other = Database.open(database_url)
    try:
        opened = asyncio.create_task(asyncio.to_thread(other.write_sync, settles))
        assert await asyncio.to_thread(settled.wait, 10)
        heard_of = functools.partial(sign_of_life, agency=SHELTER, at=1000)
        await asyncio.wait_for(asyncio.to_thread(database.write_sync, heard_of), 5)
        commit.set()
        await opened
    finally:
        commit.set()
        await other.close()


async def test_what_a_peer_puts_off_itself_waits_though_it_was_heard_of_before_it_answered(database: Database) -> None:
    lease = await _claim(database, 0)
    assert lease is not None
    await database.write(lambda conn: sign_of_life(conn, SHELTER, 0))
    await _give_back(database, lease, due_at=TOLD, until=TOLD, reached=False)
    assert await _due_at(database) == TOLD


async def test_a_contact_that_is_open_while_the_lease_is_given_back_is_not_lost(
    database: Database, database_url: str
) -> None:
    """Two processes: one has noted it and not committed when the other writes that its try has failed."""
    await _has_failed(database)
    lease = await _claim(database, 1000)
    assert lease is not None
    noted, commit = threading.Event(), threading.Event()

    def heard_of(conn: Connection) -> None:
        sign_of_life(conn, SHELTER, 1000)
        noted.set()
        assert commit.wait(10)

    other = Database.open(database_url)
    try:
        opened = asyncio.create_task(asyncio.to_thread(other.write_sync, heard_of))
        assert await asyncio.to_thread(noted.wait, 10)
        fails = functools.partial(_fails, lease=lease, at=1000, due_at=TOLD)
        failed = asyncio.create_task(asyncio.to_thread(database.write_sync, fails))
        await asyncio.sleep(0.3)
        assert not failed.done()
        commit.set()
        await asyncio.gather(opened, failed)
    finally:
        commit.set()
        await other.close()
    assert await _due_at(database) == 4000


async def test_only_stops_are_loaded_where_only_stops_may_go(database: Database) -> None:
    def load(conn: Connection, kinds: list[str] | None) -> list[str]:
        return [item.kind for _, item in load_batch(conn, SHELTER, after=0, limit=9, max_bytes=2**20, kinds=kinds)]

    assert await database.read(lambda conn: load(conn, STOPS)) == ["withdrawal"]
    assert await database.read(lambda conn: load(conn, None)) == ["offer", "offer", "withdrawal", "progress"]
    assert await database.read(lambda conn: has_queued(conn, SHELTER, STOPS))
    assert not await database.read(lambda conn: has_queued(conn, SHELTER, ["recall"]))
    assert not await database.read(lambda conn: has_queued(conn, "another", STOPS))


@pytest.mark.parametrize(
    ("kind", "until"),
    [
        pytest.param("recall", TOLD, id="a stop, the peer has put us off"),
        pytest.param("recall", None, id="a stop, it will take something later"),
        pytest.param("offer", None, id="no stop, it will take something later"),
    ],
)
@pytest.mark.parametrize("new_first", [True, False], ids=["the new one is open", "the return of the lease is open"])
async def test_what_is_new_and_the_return_of_a_lease_never_miss_each_other(
    database: Database, database_url: str, new_first: bool, kind: str, until: int | None
) -> None:
    """Two processes: the second begins while the first has written what is new, or has looked for it and found none."""
    if until is not None:
        await _put_off(database)
        await _hurry(database, 1000, stop=True)
    lease = await _claim(database, 1000)
    assert lease is not None
    sent = set(await database.read(_queued))
    reached, commit = threading.Event(), threading.Event()

    def new_one(conn: Connection, stay_open: Callable[[], None]) -> None:
        _enqueue(conn, 4, kind)
        hurry(conn, SHELTER, 2000, stop=kind in STOPS)
        stay_open()

    def give_back(conn: Connection, stay_open: Callable[[], None]) -> None:
        lock_peer(conn, SHELTER)
        due_at = 2000 if queued_but(conn, SHELTER, sent) else TOLD
        stay_open()
        told = until is not None
        settle_peer(
            conn, lease, at=0, due_at=due_at, reached=True, carries=1, told_to_wait=told, only_stops_until=until
        )

    first, second = (new_one, give_back) if new_first else (give_back, new_one)

    def wait() -> None:
        reached.set()
        assert commit.wait(10)

    other = Database.open(database_url)
    try:
        opened = asyncio.create_task(asyncio.to_thread(database.write_sync, lambda conn: first(conn, wait)))
        assert await asyncio.to_thread(reached.wait, 10)
        waiting = asyncio.create_task(asyncio.to_thread(other.write_sync, lambda conn: second(conn, lambda: None)))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        commit.set()
        await asyncio.gather(opened, waiting)
    finally:
        commit.set()
        await other.close()
    assert await _due_at(database) == 2000


async def test_those_who_hand_in_wait_for_nobody_and_no_claim_waits_for_them(
    database: Database, database_url: str
) -> None:
    """On PostgreSQL, where writers are not serialised: three transactions about one peer are open at once."""
    if database.dialect != "postgresql":
        return
    all_open, commit = threading.Barrier(4, timeout=10), threading.Event()

    def hands_in(conn: Connection, number: int) -> None:
        _enqueue(conn, number, "offer")
        hurry(conn, SHELTER, 2000)
        all_open.wait()
        assert commit.wait(10)

    others = [Database.open(database_url) for _ in range(3)]
    handing_in = [
        asyncio.create_task(asyncio.to_thread(one.write_sync, functools.partial(hands_in, number=number)))
        for number, one in enumerate(others, start=5)
    ]
    try:
        await asyncio.to_thread(all_open.wait)
        async with asyncio.timeout(5):
            assert await _claim(database, 1000) is not None
    finally:
        commit.set()
        await asyncio.gather(*handing_in)
        for other in others:
            await other.close()
    assert len(await database.read(_queued)) == 7

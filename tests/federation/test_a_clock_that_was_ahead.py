"""A node's clock was ahead, and is right since: nothing that it remembers of then, or has stored, holds it up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from support.federation import Federation, TestNode
from support.stories import Story, begin, refusal, rows

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.federation import courier
from exchange.federation.peers import Asked
from exchange.federation.transport import PeerUnreachableError
from exchange.limits import HOUR_MS
from exchange.schemas.inbox import DecisionRequest, Lease, ProgressRequest
from exchange.storage.errors import StorageBusyError
from exchange.storage.key_store import KeyStore
from exchange.storage.tables import OUTBOX, PEER, SEEN_ENVELOPE
from exchange.use_cases import consent_freshness, leasing, poll_inbox
from exchange.use_cases.acting import Acting
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.line import Line
from exchange.use_cases.node import Node

YEARS_MS = 20 * 365 * 24 * HOUR_MS
POLLER = Acting("system", "w-test", None)


@contextmanager
def ahead(one: TestNode, hours: float = 8) -> Iterator[None]:
    """As long as this lasts the node's clock is so far ahead."""
    right = one.node.clock
    one.node.clock = lambda: right() + int(hours * HOUR_MS)
    try:
        yield
    finally:
        one.node.clock = right


@pytest.mark.parametrize("work", ["maintain", "destroy_ended", "refresh_peers", "greet_peers"])
async def test_the_courier_keeps_its_clocks(two: Federation, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node, ahead, done = two[SHELTER].node, [YEARS_MS], asyncio.Event()
    monkeypatch.setattr(node, "clock", lambda: two.clock() + ahead[0])
    monkeypatch.setattr(courier, "IDLE_MS", 10)

    async def note(_node: Node, *_transport: object) -> Asked:
        done.set()
        return Asked(heard=True, answered=True)

    monkeypatch.setattr(courier, work, note)
    stop = asyncio.Event()
    running = asyncio.create_task(two[SHELTER].courier.run(stop))
    async with asyncio.timeout(10):
        await done.wait()
        done.clear()
        ahead[0] = 0
        await done.wait()
    stop.set()
    await running


async def test_a_peer_that_did_not_answer_is_asked_again(two: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    story = await begin(two)
    node, asked = two[SHELTER].node, list[str]()

    async def away(peer: object, _receipts: object) -> None:
        asked.append(str(peer))

    monkeypatch.setattr(node, "ask_consent_status", away)
    for ahead in (YEARS_MS, 0, 0):
        monkeypatch.setattr(node, "clock", lambda ahead=ahead: two.clock() + ahead)
        await consent_freshness._ask(node, story.sender.agency, {"r" * 32: "i" * 32})
    assert len(asked) == 2


async def test_her_no_goes_although_a_courier_that_was_killed_then_has_leased_her_peer(on_both: Federation) -> None:
    story = await begin(on_both)
    await story.says_no("stop-service", travel=False)
    with ahead(story.sender):
        assert await leasing.claim(story.sender.node, "killed") is not None
    assert await leasing.next_wait_ms(story.sender.node, 2000) == 0
    await story.travel()
    await story.both_say("withdrawn")


async def test_the_lease_of_a_slow_line_stays_its_own(pair: Federation) -> None:
    story = await begin(pair, travel=False)
    node = story.sender.node
    held = await leasing.claim(node, "slow")
    assert held is not None
    for _ in range(3):
        pair.clock.pass_by(seconds=20)
        assert await leasing.renew(node, held)
        # Another process, on a machine whose clock is a little behind.
        with ahead(story.sender, hours=-1.5 / 60):
            assert await leasing.claim(node, "another") is None
    await leasing.give_back(node, held, Line(held.carries, node.limits), reached=True, retry_after_ms=None)


@pytest.mark.parametrize("form", ["stop-sharing", "stop-service", "erase"])
async def test_her_no_that_was_said_then_goes_at_once_when_the_clock_is_right(two: Federation, form: str) -> None:
    story = await begin(two)
    with ahead(story.sender, hours=40 * 24):
        await story.says_no(form, travel=False)
    await story.travel()
    assert {row["status"] for row in await rows(story.sender, OUTBOX, OUTBOX.c.kind == "withdrawal")} == {"delivered"}
    await story.both_say("withdrawn")
    if form == "erase":
        await story.nothing_is_left(at=story.receiver)
    # Nobody fills the memory of deliveries for ever by a date.
    year = two.clock() + 400 * 24 * HOUR_MS
    assert all(row["expires_at"] <= year + HOUR_MS for row in await rows(story.receiver, SEEN_ENVELOPE))


@pytest.mark.parametrize("hours", [8, 48])
async def test_a_peer_that_put_us_off_then_gets_everything(
    two: Federation, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await begin(two, travel=False)
    one = story.sender

    async def busy(*_args: object, until: float) -> None:  # noqa: ARG001
        raise PeerUnreachableError("busy", 600)

    with ahead(one, hours), monkeypatch.context() as patched:
        patched.setattr(one.courier._transport, "post_envelopes", busy)
        await one.courier.run_once()
    (row,) = await rows(one, PEER)
    assert row["only_stops_until"] > two.clock() + (hours - 1) * HOUR_MS
    await story.travel()
    await story.both_say("received")
    (row,) = await rows(one, PEER)
    assert row["only_stops_until"] is None


async def test_a_peer_that_was_away_then_is_tried_again(two: Federation) -> None:
    story = await begin(two, travel=False)
    two.leave(SHELTER)
    with ahead(story.sender):
        await story.sender.courier.run_once()
    two.come_back(SHELTER)
    assert await story.sender.courier.run_once() == 1


async def _leased(story: Story, item: str, seconds: int) -> Lease:
    return await poll_inbox.lease_item(story.receiver.node, POLLER, item, seconds)


@pytest.mark.parametrize("seconds", [10, 600])
@pytest.mark.parametrize("step", ["lease", "acknowledge"])
async def test_what_a_poller_that_died_then_had_leased_is_free(pair: Federation, seconds: int, step: str) -> None:
    story = await begin(pair)
    item, node = await story.offer(), pair[SHELTER].node
    with ahead(story.receiver):
        await _leased(story, item, seconds)
    assert (await story.item("offer")).leased_until is None
    if step == "lease":
        lease = await _leased(story, item, seconds)
        assert (await story.item("offer")).leased_until == lease.until
        with pytest.raises(ConflictError):
            await poll_inbox.acknowledge_item(node, POLLER, item, None)
    else:
        assert (await poll_inbox.acknowledge_item(node, POLLER, item, None)).status == "acknowledged"


async def test_the_longest_lease_of_an_item_is_kept_where_clocks_differ_a_little(pair: Federation) -> None:
    story = await begin(pair)
    item, node = await story.offer(), pair[SHELTER].node
    lease = await _leased(story, item, node.limits.lease_longest_s)
    with ahead(story.receiver, hours=-1.5 / 60):
        assert (await story.item("offer")).leased_until == lease.until
        with pytest.raises(ConflictError):
            await _leased(story, item, 10)
        with pytest.raises(ConflictError):
            await poll_inbox.acknowledge_item(node, POLLER, item, None)
    assert (await poll_inbox.acknowledge_item(node, POLLER, item, lease.token)).status == "acknowledged"


@pytest.mark.parametrize("hours", [1, 8, 960])
@pytest.mark.parametrize("how", ["declined", "completed", "no", "no there"])
async def test_erase_destroys_at_once_what_had_ended_then(pair: Federation, how: str, hours: float) -> None:
    story = await begin(pair)
    item = await story.offer()
    if how == "declined":
        hours = min(hours, 23)  # after its time it cannot be declined
    else:
        await story.decides("accepted")
        await story.reports("in-service")
    with ahead(story.sender if how == "no" else story.receiver, hours):
        if how == "declined":
            await story.helps.inbox.decide(item, DecisionRequest(decision="declined", reason="no-capacity"))
        elif how == "completed":
            await story.helps.inbox.report_progress(item, ProgressRequest(state="completed"))
        else:
            await story.says_no("stop-service", by=story.sender if how == "no" else story.receiver, travel=False)
    await story.travel()
    await story.says_no("erase")
    for node in (story.sender, story.receiver):
        await story.nothing_is_left(at=node)


async def test_erase_that_was_said_then_destroys_although_it_could_not_at_once(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await begin(pair)

    async def busy(_store: KeyStore, _referrals: Iterable[str]) -> None:
        raise StorageBusyError("A transaction that can see deleted rows did not end in time.")

    with ahead(story.sender, hours=960), monkeypatch.context() as patched:
        patched.setattr(KeyStore, "destroy", busy)
        await story.says_no("erase", travel=False)
    await story.travel()
    await story.nothing_is_left(at=story.sender)


async def test_erase_that_the_other_party_said_then_destroys_there_a_day_after_it_was_delivered(
    pair: Federation,
) -> None:
    story = await begin(pair)
    with ahead(story.receiver, hours=960):
        await story.says_no("erase", by=story.receiver, travel=False)
    await story.later(hours=1)
    await story.later(hours=23.9)
    assert (await story.record(at=story.receiver))["destroyed_at"] is None
    await story.later(hours=0.2)
    for node in (story.sender, story.receiver):
        await story.nothing_is_left(at=node)


async def test_a_word_of_a_time_to_come_opens_nothing_where_nobody_answers(two: Federation) -> None:
    """How old it is nobody knows. It opens again with the next word, once that time has come."""
    two.clock.pass_by(hours=20 * 24)
    story = await begin(two)
    await story.decides("accepted")
    item = (await story.item("disclosure")).id
    two.clock.pass_by(hours=-20 * 24)
    two.leave(HELPLINE)
    for days in (0, 4, 5):
        two.clock.pass_by(hours=24 * days)
        assert (await refusal(story.helps.inbox.open(item))).code == "consent-not-fresh"
    two.clock.pass_by(hours=24 * 12)
    two.come_back(HELPLINE)
    assert (await story.helps.inbox.open(item)).content


async def test_a_word_about_her_consent_that_both_dated_then_is_asked_for_anew(pair: Federation) -> None:
    pair.clock.pass_by(hours=8)
    story = await begin(pair)
    await story.decides("accepted")
    item = (await story.item("disclosure")).id
    pair.clock.pass_by(hours=-8)
    # Her no does not reach the shelter; its question reaches the helpline.
    await story.says_no("stop-service", travel=False)
    assert (await refusal(story.helps.inbox.open(item))).code == "consent-ended"

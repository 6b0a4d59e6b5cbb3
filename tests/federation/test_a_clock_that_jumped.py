"""A node's clock is days ahead of what it last saw: it destroys and ends nothing before the time is confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import pytest
from structlog.testing import CapturingLogger
from support.federation import Federation, TestNode
from support.stories import Story, begin, rows

from exchange.demo.federation import EMBASSY, HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.federation import courier
from exchange.federation.courier import IDLE_MS
from exchange.federation.peers import Asked, greet_peers, refresh_peers
from exchange.federation.transport import PeerUnreachableError
from exchange.limits import DAY_MS, MINUTE_MS
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.tables import OUTBOX, USED_JTI
from exchange.use_cases.clock_jumps import ClockWatch, clock_jumped, confirm_clock
from exchange.use_cases.describe_node import readiness
from exchange.use_cases.maintain import destroy_ended, maintain
from exchange.use_cases.node import Node

AHEAD_MS = 40 * DAY_MS
"""By then everything is over that is open in these tests, every weekly key of the day, and the memory of tokens."""
HOURS_OFF = 8 * 24.0


@pytest.fixture
def ran() -> list[float]:
    """For how many seconds the nodes have run, each a piece of it."""
    return []


@pytest.fixture
async def both(two: Federation, ran: list[float]) -> Federation:
    """Nodes that have looked at their clocks, and whose transport goes by the clock of its node."""
    return await _that_look(two, ran)


@pytest.fixture
async def on_either(pair: Federation, ran: list[float]) -> Federation:
    """The same on SQLite, and in `make faults` on PostgreSQL: for what the databases do, and not the clock."""
    return await _that_look(pair, ran)


async def _that_look(pair: Federation, ran: list[float]) -> Federation:
    for one in pair.nodes.values():
        one.courier._watch = ClockWatch(one.node, lambda: sum(ran))
        one.courier._transport._clock = lambda one=one: one.node.clock()  # type: ignore[attr-defined]
        await one.courier._look_at_clock()
        assert not await clock_jumped(one.node)
    return pair


@contextmanager
def jumped(one: TestNode) -> Iterator[None]:
    """As long as this lasts the node's clock is far ahead."""
    right = one.node.clock
    one.node.clock = lambda: right() + AHEAD_MS
    try:
        yield
    finally:
        one.node.clock = right


async def works(one: TestNode) -> None:
    """What a courier does in its rounds."""
    await one.courier._look_at_clock()
    await maintain(one.node)
    await destroy_ended(one.node)
    await one.courier.run_once()


async def _accepted_elsewhere(story: Story) -> None:
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))


async def test_nothing_is_lost_and_it_goes_on_when_the_clock_is_right(on_either: Federation) -> None:
    story = await begin(on_either)
    weekly = [await one.node.key_store.epoch_key_ids() for one in on_either.nodes.values()]
    tokens = [{row["jti"] for row in await rows(one, USED_JTI)} for one in on_either.nodes.values()]
    for one in on_either.nodes.values():
        with jumped(one):
            await works(one)
            await works(one)
            assert await clock_jumped(one.node)
    for one, keys, used in zip(on_either.nodes.values(), weekly, tokens, strict=True):
        assert keys <= await one.node.key_store.epoch_key_ids()
        assert used <= {row["jti"] for row in await rows(one, USED_JTI)}
    assert sorted(row["status"] for row in await rows(story.sender, OUTBOX)) == ["delivered", "held"]
    await story.decides("accepted")
    assert not await clock_jumped(story.sender.node)
    assert "disclosure" in story.kinds_posted()
    assert (await story.opened("disclosure")).content is not None


async def test_the_log_says_once_that_it_has_jumped_and_once_that_it_is_right(
    both: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, one = CapturingLogger(), both[HELPLINE]
    monkeypatch.setattr(courier, "get_logger", lambda: log)
    with jumped(one):
        for _ in range(3):
            await one.courier._look_at_clock()
    for _ in range(3):
        await one.courier._look_at_clock()
    assert [call[:2] for call in log.calls] == [("warning", ("clock-jumped",)), ("info", ("clock-confirmed",))]


async def test_what_is_queued_stays_queued_and_her_no_goes_when_the_clock_is_right(both: Federation) -> None:
    both.leave(SHELTER)
    story = await begin(both)
    both.come_back(SHELTER)
    with jumped(story.sender):
        await works(story.sender)
        assert story.kinds_posted() == []
        await story.sender.courier.run_once()
    assert sorted(row["status"] for row in await rows(story.sender, OUTBOX)) == ["held", "queued"]
    await story.later(hours=1)
    await story.both_say("received")


@pytest.mark.parametrize("who", ["worker", "node"])
async def test_nothing_is_released_by_it_and_nothing_deleted(both: Federation, who: str) -> None:
    story = await begin(both)
    await _accepted_elsewhere(story)
    await both[SHELTER].courier.run_once()
    with jumped(story.sender):
        if who == "worker":
            answer = await story.asks.referrals.release(story.id)
            assert (answer.released, answer.code) == (False, "clock-jumped")
        await works(story.sender)
        assert [row["status"] for row in await rows(story.sender, OUTBOX, OUTBOX.c.kind == "disclosure")] == ["held"]
    await story.travel()
    assert "disclosure" in story.kinds_posted()


async def test_a_node_that_was_off_destroys_and_tells_as_soon_as_a_peer_answers(both: Federation) -> None:
    story = await begin(both)
    both.clock.pass_by(hours=HOURS_OFF)
    await works(story.sender)
    assert (await readiness(story.sender.node)).checks["clock"] == "jumped"
    assert (await readiness(story.sender.node)).status == "ready"
    assert (await story.record(at=story.sender))["closed_at"] is None
    stop = asyncio.Event()
    running = asyncio.create_task(story.sender.courier.run(stop))
    async with asyncio.timeout(20):
        while (await story.record(at=story.sender))["closed_at"] is None:  # noqa: ASYNC110 - a row gives no signal
            await asyncio.sleep(0.05)
    stop.set()
    await running
    assert (await readiness(story.sender.node)).checks["clock"] == "ok"
    assert "disclosure" not in await story.outgoing()


async def test_what_waits_for_a_peer_goes_after_it_has_taken_our_word_for_the_time(both: Federation) -> None:
    story = await begin(both, travel=False)
    both.clock.pass_by(hours=4)
    assert await clock_jumped(story.sender.node)
    await story.sender.courier.run_once()
    assert not await clock_jumped(story.sender.node)
    assert story.kinds_posted() == ["offer"]


async def test_a_peer_that_is_greeted_before_a_jump_confirms_nothing_after_it(both: Federation) -> None:
    node = both[HELPLINE].node
    before = node.clock()
    with jumped(both[HELPLINE]):
        await both[HELPLINE].courier._look_at_clock()
        await confirm_clock(node, before)
        assert await clock_jumped(node)


async def test_who_reaches_no_peer_confirms_nothing_to_itself(both: Federation) -> None:
    one = both[HELPLINE]
    both.leave(SHELTER)
    both.clock.pass_by(hours=HOURS_OFF)
    await one.courier._look_at_clock()
    await one.courier._greet()
    assert await clock_jumped(one.node)
    both.come_back(SHELTER)
    await one.courier._greet()
    assert not await clock_jumped(one.node)


SILENT, PROXY, HEARD = Asked(heard=False, answered=False), Asked(heard=False, answered=True), Asked(True, True)


@dataclass
class Rounds:
    """A courier runs, and what it asks of its peers is answered from lists, the last one again and again."""

    one: TestNode
    monkeypatch: pytest.MonkeyPatch
    greetings: list[Asked]
    cards: list[dict[str, Asked]] = field(default_factory=lambda: [{}])

    async def minutes(self, until: int, *, sleeps_at: int = -1, unlisted: range = range(0)) -> list[int]:
        """At which minutes peers were greeted. Where it sleeps, it is for two. `unlisted`: by its own roster."""
        at, greeted, stop = [start := self.one.node.clock()], list[int](), asyncio.Event()
        listed = self.one.node.world()
        others = {agency: one for agency, one in listed.roster.members.items() if agency != self.one.node.agency}
        without = replace(listed, roster=replace(listed.roster, members=MappingProxyType(others)))
        self.one.node.world = lambda: without if (at[0] - start) // MINUTE_MS in unlisted else listed
        look = self.one.courier._look_at_clock
        self.one.node.clock = lambda: at[0]

        async def greet(*_: object) -> Asked:
            greeted.append(round((at[0] - start) / MINUTE_MS))
            return self.greetings.pop(0) if len(self.greetings) > 1 else self.greetings[0]

        async def ask_for_cards(*_: object) -> dict[str, Asked]:
            return self.cards.pop(0) if len(self.cards) > 1 else self.cards[0]

        async def round_() -> None:
            at[0] += IDLE_MS
            if at[0] == start + sleeps_at * MINUTE_MS:
                at[0] += 2 * MINUTE_MS
            if at[0] >= start + until * MINUTE_MS:
                stop.set()
            await look()

        async def nothing(_node: Node) -> None:
            pass

        for name, work in (("greet_peers", greet), ("refresh_peers", ask_for_cards)):
            self.monkeypatch.setattr(courier, name, work)
        for name in ("maintain", "destroy_ended"):
            self.monkeypatch.setattr(courier, name, nothing)
        self.monkeypatch.setattr(courier, "IDLE_MS", 1)
        self.monkeypatch.setattr(self.one.courier, "_look_at_clock", round_)
        async with asyncio.timeout(20):
            await self.one.courier.run(stop)
        return greeted


@pytest.mark.parametrize("hours", [HOURS_OFF, 0.0], ids=["by a clock that jumped", "by one that is right"])
async def test_peers_are_greeted_once_a_minute_until_one_answers(
    both: Federation, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    """A laptop wakes before its line is there: what waits for it elsewhere, her no too, does not wait for an hour."""
    both.clock.pass_by(hours=hours)
    rounds = Rounds(both[HELPLINE], monkeypatch, [SILENT, SILENT, HEARD])
    assert await rounds.minutes(12, sleeps_at=6) == [0, 1, 2, 8]
    assert not await clock_jumped(both[HELPLINE].node)


async def test_where_a_proxy_says_that_there_is_no_node_the_line_is_there(
    both: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a member whose node is down, all bytes of a greeting would pass each minute."""
    assert await Rounds(both[HELPLINE], monkeypatch, [SILENT, PROXY]).minutes(6) == [0, 1]


async def test_a_node_whose_line_was_lost_for_long_greets_when_it_is_back(
    both: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has run all the time, and asks for cards every ten minutes: first nothing is due, then nobody answers."""
    greetings = [HEARD, SILENT, SILENT, PROXY]
    rounds = Rounds(both[HELPLINE], monkeypatch, greetings, cards=[{}, {SHELTER.agency: SILENT}, {}])
    assert await rounds.minutes(25) == [0, 10, 11, 12]


async def test_that_one_member_is_away_says_nothing_of_the_line(
    four: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its card is asked for every ten minutes where something waits for it; then all would be greeted as often."""
    first, second, third = (plan.agency for plan in (SHELTER, EMBASSY, LABOUR_OFFICE))
    cards = [{}, {first: SILENT}, {first: SILENT, second: SILENT}, {second: HEARD, third: SILENT}, {second: SILENT}]
    rounds = Rounds(four[HELPLINE], monkeypatch, [HEARD], [*cards, {}])
    assert await rounds.minutes(55) == [0, 40]


async def test_a_node_that_its_roster_lists_again_greets(both: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing went meanwhile, and nothing was taken: her no does not wait for the schedule, on either side."""
    rounds = Rounds(both[HELPLINE], monkeypatch, [HEARD, SILENT, HEARD])
    assert await rounds.minutes(12, unlisted=range(2, 5)) == [0, 5, 6]


async def test_silence_is_told_from_an_answer(both: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    one = both[HELPLINE]
    assert await greet_peers(one.node, one.courier._transport) == HEARD
    assert await refresh_peers(one.node, one.courier._transport) == {}
    both.clock.pass_by(hours=13)
    for code, came in (
        ("no-connection", SILENT), ("timeout", SILENT), ("certificate-refused", SILENT), ("busy", PROXY),
        ("no-node-behind-proxy", PROXY), ("peer-failed", PROXY), ("bad-answer", PROXY), ("refused-us", PROXY),
        ("clocks-differ", PROXY),
    ):  # fmt: skip

        async def fails(_peer: object, code: str = code) -> None:
            raise PeerUnreachableError(code)

        monkeypatch.setattr(one.courier._transport, "greet", fails)
        monkeypatch.setattr(one.courier._transport, "node_card", fails)
        assert await greet_peers(one.node, one.courier._transport) == came, code
        assert await refresh_peers(one.node, one.courier._transport) == {SHELTER.agency: came}, code
        both.clock.pass_by(hours=1)
    monkeypatch.undo()
    assert await refresh_peers(one.node, one.courier._transport) == {SHELTER.agency: HEARD}


async def test_alone_it_destroys_after_three_days_of_running(both: Federation, ran: list[float]) -> None:
    story = await begin(both)
    await story.decides("declined", reason="no-capacity")
    both.cut_off(HELPLINE)
    for one in both.nodes.values():
        await one.courier._look_at_clock()
    both.clock.pass_by(hours=HOURS_OFF)
    await works(story.sender)
    ran.clear()

    async def an_hour() -> None:
        assert sum(ran) <= 73 * 3600
        both.clock.pass_by(hours=1)
        ran.append(3600)
        await works(story.sender)

    while (await story.record(at=story.sender))["destroyed_at"] is None:
        await an_hour()
    # Declined content is kept for a day: that day of running is over earlier, whatever the clock says.
    assert 22 * 3600 <= sum(ran) <= 25 * 3600
    while await clock_jumped(story.sender.node):
        await an_hour()
    assert sum(ran) >= 72 * 3600


@pytest.mark.parametrize("step", [0.9, 0.4])
async def test_one_that_is_put_ahead_little_by_little_has_jumped_too(
    both: Federation, step: float, ran: list[float]
) -> None:
    story = await begin(both)
    both.cut_off(HELPLINE)
    for _ in range(100):
        both.clock.pass_by(hours=step)
        ran.append(60)
        await works(story.sender)
    assert await clock_jumped(story.sender.node)
    assert (await story.record(at=story.sender))["closed_at"] is None


async def test_running_is_counted_once_for_all_processes(pair: Federation, ran: list[float]) -> None:
    node = (await _that_look(pair, ran))[HELPLINE].node
    watches = [ClockWatch(node, lambda: sum(ran)) for _ in range(3)]
    before = (await watches[0].look()).settled_at
    pair.clock.pass_by(hours=HOURS_OFF)
    for number in range(66):
        pair.clock.pass_by(seconds=55)
        ran.append(55)
        look = await watches[number % 3].look()
    assert 0 < look.settled_at - before <= 63 * MINUTE_MS


async def test_all_running_is_counted_however_often_the_clock_is_looked_at(both: Federation, ran: list[float]) -> None:
    """Or what is due would never be destroyed by a node that is alone."""
    watch = ClockWatch(both[HELPLINE].node, lambda: sum(ran))
    before = (await watch.look()).settled_at
    both.clock.pass_by(hours=HOURS_OFF)
    for _ in range(90):
        both.clock.pass_by(seconds=20)
        ran.append(20)
        look = await watch.look()
    assert 29 * MINUTE_MS <= look.settled_at - before <= 32 * MINUTE_MS


async def test_one_that_sleeps_again_and_again_is_believed_as_long_as_a_peer_answers(both: Federation) -> None:
    story = await begin(both)
    for _ in range(10):
        both.clock.pass_by(hours=0.9)
        await works(story.sender)
        await story.sender.courier._greet()
        assert not await clock_jumped(story.sender.node)


async def test_what_she_wants_erased_does_not_wait(on_either: Federation) -> None:
    story = await begin(on_either)
    with jumped(story.sender):
        await story.sender.courier._look_at_clock()
        await story.says_no("erase", travel=False)
        await story.nothing_is_left(at=story.sender)


@pytest.mark.parametrize("late", ["overdue", "undelivered"])
async def test_what_is_late_by_now_is_told_and_has_not_expired_by_it(
    both: Federation, late: str, ran: list[float]
) -> None:
    if late == "undelivered":
        both.leave(SHELTER)
    story = await begin(both, priority="emergency")
    for one in both.nodes.values():
        for _ in range(4):
            both.clock.pass_by(hours=0.8)
            ran.append(0.8 * 3600)
            await one.courier._look_at_clock()
    with jumped(story.sender):
        await story.sender.courier._look_at_clock()
        await maintain(story.sender.node)
    assert late in await story.changes()
    assert (await story.record(at=story.sender))["closed_at"] is None
    assert "held" in (await story.outgoing())["disclosure"]

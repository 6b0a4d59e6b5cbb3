"""A peer without a line for ten minutes, a day, eight days. Both agencies go on working all the time.

What must hold whenever the line comes back: every stop and every answer arrives; an offer that could not be delivered
was told to its sender in time, and one that expired meanwhile is never delivered; nothing lies there twice, although
receipts were lost; and everything goes at the first sign of life, not when the schedule of repeats says.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from sqlalchemy import Connection, select
from support.federation import Federation, Line, TestNode
from support.ledger import record
from support.stories import Story, begin, rows

from contracts.vocabulary import PRIORITY_UNDELIVERED_AFTER_S, Priority
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.federation.peers import greet_peers
from exchange.limits import HOUR_MS, MINUTE_MS, SECOND_MS
from exchange.schemas.inbox import DecisionRequest, ProgressRequest
from exchange.storage.due import due_for
from exchange.storage.tables import INBOX, OUTBOX, PEER
from exchange.use_cases.maintain import destroy_ended, maintain

IN_TIME_MS = 2 * SECOND_MS
"""How late the tests' own ticks are; a courier keeps its clocks every five seconds."""


@dataclass(frozen=True, slots=True)
class Absence:
    """How long, and what it means for offers that were made at its beginning."""

    hours: float
    undelivered: frozenset[str]
    """Priorities of which the sender was told that the offer is not delivered."""
    expired: frozenset[str]
    ended: dict[str, str]
    """The state in which each referral of the beginning is afterwards, on both sides."""
    disclosed: bool
    """Whether the held disclosure of what was accepted meanwhile still went."""


_SAME = {"erased": "withdrawn", "served": "completed", "recalled": "recalled", "stopped": "withdrawn"}
ABSENCES = [
    pytest.param(
        Absence(1 / 6, frozenset(), frozenset(), _SAME | {"accepted": "accepted", "unheard": "received"}, True),
        id="ten minutes",
    ),
    pytest.param(
        Absence(
            24.5,
            frozenset({"emergency", "urgent", "routine"}),
            frozenset(),
            _SAME | {"accepted": "accepted", "unheard": "received"},
            True,
        ),
        id="a day",
    ),
    pytest.param(
        Absence(
            8 * 24,
            frozenset({"emergency", "urgent", "routine"}),
            frozenset({"emergency", "urgent", "routine"}),
            _SAME | {"accepted": "accepted", "unheard": "expired"},
            False,
        ),
        id="eight days",
    ),
]


async def _before(two: Federation) -> dict[str, Story]:
    """Referrals in every state that the line can break in."""
    stories = {name: await begin(two) for name in ("erased", "served", "recalled", "accepted", "stopped")}
    for name in ("erased", "served", "stopped"):
        await stories[name].decides("accepted")
    await stories["served"].reports("in-service")
    for story in stories.values():
        await story.offer()
    # These two arrive, and the receipts are lost with the line.
    stories["unheard"] = await begin(two, travel=False)
    await stories["stopped"].says_no("stop-service", travel=False)
    two.network.answers_lost = True
    await two.travel(rounds=1)
    two.network.answers_lost = False
    return stories


async def _meanwhile(two: Federation, stories: dict[str, Story]) -> dict[str, Story]:
    """What both agencies do while there is no line; the offers that were made."""
    await stories["erased"].says_no("erase", travel=False)
    await stories["recalled"].asks.referrals.recall(stories["recalled"].id)
    served, accepted = stories["served"], stories["accepted"]
    await served.helps.inbox.report_progress(await served.offer(), ProgressRequest(state="completed"))
    await accepted.helps.inbox.decide(await accepted.offer(), DecisionRequest(decision="accepted"))
    return {name: await begin(two, travel=False, priority=name) for name in ("emergency", "urgent", "routine")}


async def _pass(two: Federation, hours: float, offers: dict[str, Story]) -> None:
    """Let the time pass, with a look at every clock at the moments that count and every few hours."""
    start = two.clock()
    end = start + int(hours * HOUR_MS)
    ticks = set(range(start, end, max(2 * MINUTE_MS, (end - start) // 24)))
    for name, story in offers.items():
        ticks.add(start + PRIORITY_UNDELIVERED_AFTER_S[Priority(name)] * SECOND_MS + SECOND_MS)
        ticks.add(int(story.created.expires_at.timestamp() * 1000) + SECOND_MS)
    for tick in sorted(tick for tick in ticks | {end} if tick <= end):
        two.clock.offset += max(0, tick - two.clock())
        for one in two.nodes.values():
            await maintain(one.node)
            await destroy_ended(one.node)
            await one.courier.run_once()


async def _told(story: Story, what: str) -> int | None:
    """When the referring agency's cursor was told."""
    cursor = None
    while (page := await story.asks.referrals.changes(cursor)).items:
        for change in page.items:
            if (change.referral.id, change.what) == (story.id, what):
                return int(change.at.timestamp() * 1000)
        cursor = page.next_cursor
    return None


async def _in_time(absence: Absence, offers: dict[str, Story], start: int) -> None:
    for name, story in offers.items():
        warned, expired = await _told(story, "undelivered"), await _told(story, "expired")
        due = start + PRIORITY_UNDELIVERED_AFTER_S[Priority(name)] * SECOND_MS
        end = int(story.created.expires_at.timestamp() * 1000)
        for told, moment, expected in ((warned, due, absence.undelivered), (expired, end, absence.expired)):
            assert (told is not None) == (name in expected)
            assert told is None or moment - SECOND_MS <= told <= moment + IN_TIME_MS
        assert (await story.flags()).undeliverable == (name in absence.undelivered)


@asynccontextmanager
async def _running(node: TestNode) -> AsyncIterator[None]:
    """The node's courier, as a process would run it."""
    stop = asyncio.Event()
    running = asyncio.create_task(node.courier.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def _nothing_waits(two: Federation) -> None:
    """Nothing is queued, and nothing has still to be destroyed, of which the other party would be told."""
    query = select(OUTBOX.c.id).where(OUTBOX.c.status == "queued").limit(1)

    def waits(conn: Connection) -> bool:
        return conn.execute(query).first() is not None or bool(due_for(conn, "destroy", two.clock()))

    for node in two.nodes.values():
        for _ in range(3000):
            if not await node.node.database.read(waits):
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("Something still waits after a minute.")


async def _next_try(node: TestNode) -> int:
    """When the schedule of repeats has the node's courier call its one peer again."""
    return await node.node.database.read(lambda conn: int(conn.execute(select(PEER.c.due_at)).scalar_one()))


def _lost(there: list[dict[str, Any]], here: list[dict[str, Any]]) -> int:
    """Envelopes that were signed for and do not lie there, and stops and answers that were never signed for."""
    digests = {row["id"]: row["digest"] for row in here}
    return sum(
        digests.get(row["id"]) != row["digest"] if row["status"] == "delivered" else row["kind"] not in _MAY_END
        for row in there
    )


_MAY_END = {"offer", "disclosure"}


@pytest.mark.parametrize("absence", ABSENCES)
async def test_a_peer_without_a_line(two: Federation, absence: Absence) -> None:
    stories = await _before(two)
    two.cut_off(SHELTER)
    start = two.clock()
    offers = await _meanwhile(two, stories)
    await _pass(two, absence.hours, offers)
    await _in_time(absence, offers, start)
    # Sealed to the key of this week, which is another one after eight days.
    fresh = await begin(two, travel=False)
    async with _running(two[HELPLINE]):
        # It has been trying all the time, and would try again in an hour or so.
        await two[HELPLINE].courier.run_once()
        schedule = [await _next_try(node) for node in two.nodes.values()]
        two.connect(SHELTER)
        async with _running(two[SHELTER]):
            await _nothing_waits(two)
        # After ten minutes the schedule's own next time is seconds away, and says nothing.
        assert absence.hours < 1 or two.clock() < min(schedule)
    await _afterwards(two, absence, stories, offers | {"fresh": fresh})


async def _afterwards(two: Federation, absence: Absence, stories: dict[str, Story], offers: dict[str, Story]) -> None:
    for name, state in absence.ended.items():
        await stories[name].both_say(state)
    assert (await stories["accepted"].flags()).disclosed == absence.disclosed
    assert bool(await stories["accepted"].items("disclosure")) == absence.disclosed
    for name, story in offers.items():
        arrived = await story.items("offer")
        assert len(arrived) == (0 if name in absence.expired else 1)
        if arrived:
            assert (await story.opened("offer")).content is not None
            await story.both_say("received")
            assert not (await story.flags()).undeliverable
    for node in (stories["erased"].sender, stories["erased"].receiver):
        await stories["erased"].nothing_is_left(at=node)
    done = {a.party for a in (await stories["erased"].views())[0].attestations if a.done_at}
    assert done >= {"own-node", "peer-node"}
    lost = doubled = 0
    sides = [await rows(two[plan], table) for plan in (HELPLINE, SHELTER) for table in (OUTBOX, INBOX)]
    for there, here in ((sides[0], sides[3]), (sides[2], sides[1])):
        lost += _lost(there, here)
        doubled += sum(
            count - 1 for count in Counter((row["referral"], row["kind"], row["event"]) for row in here).values()
        )
    record("peer away", lost=lost, doubled=doubled)
    assert (lost, doubled) == (0, 0)


async def _greets(two: Federation, _story: Story) -> None:
    """The shelter's node was started, or woke from sleep."""
    await greet_peers(two[SHELTER].node, two[SHELTER].courier._transport)


async def _is_greeted(two: Federation, _story: Story) -> None:
    """The helpline's was, and the shelter answers."""
    await greet_peers(two[HELPLINE].node, two[HELPLINE].courier._transport)


async def _delivers(two: Federation, story: Story) -> None:
    """The shelter has something to say, which waits for no schedule: it has not called all the time."""
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="in-service"))
    assert await two[SHELTER].courier.run_once() == 1


@pytest.mark.parametrize("sign", [_greets, _is_greeted, _delivers])
async def test_everything_goes_at_the_first_sign_of_life(
    two: Federation, sign: Callable[[Federation, Story], Awaitable[None]]
) -> None:
    """Before it the line alone brings nothing about, and after it the schedule has not come either."""
    story, stopped = await begin(two), await begin(two)
    await story.decides("accepted")
    two.cut_off(SHELTER)
    await stopped.says_no("stop-service", travel=False)
    offer = await begin(two, travel=False)
    for _ in range(13):
        await two[HELPLINE].courier.run_once()
        two.clock.pass_by(hours=2)
    await two[HELPLINE].courier.run_once()
    two.connect(SHELTER)
    schedule = await _next_try(two[HELPLINE])
    assert await two[HELPLINE].courier.run_once() == 0
    assert (await stopped.outgoing())["withdrawal"] == (await offer.outgoing())["offer"] == ["queued"]
    await sign(two, story)
    assert await two[HELPLINE].courier.run_once() == 1
    assert (await stopped.outgoing())["withdrawal"] == (await offer.outgoing())["offer"] == ["delivered"]
    assert two.clock() < schedule


@pytest.mark.parametrize("put_off", [False, True], ids=["silent", "it takes stops alone"])
@pytest.mark.parametrize("sign", [_greets, _is_greeted, _delivers])
async def test_a_sign_of_life_during_a_try_that_fails_is_not_lost(
    two: Federation,
    sign: Callable[[Federation, Story], Awaitable[None]],
    put_off: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To connect takes up to twenty seconds: the line is back meanwhile, and the schedule would wait for an hour."""
    story, stopped = await begin(two), await begin(two)
    await story.decides("accepted")
    await stopped.decides("accepted")
    two.cut_off(SHELTER)
    await stopped.says_no("stop-service", travel=False)
    for _ in range(13):
        await two[HELPLINE].courier.run_once()
        two.clock.pass_by(hours=2)
    if put_off:
        until = {"only_stops_until": two.clock() + HOUR_MS}
        await two[HELPLINE].node.database.write(lambda conn: conn.execute(PEER.update().values(until)).rowcount)
    line, begun = Line.handle_async_request, list[str]()

    async def handle(self: Line, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST" and not begun:
            begun.append(request.url.path)
            two.connect(SHELTER)
            await sign(two, story)
            raise httpx2.ConnectError("it took too long")
        return await line(self, request)

    monkeypatch.setattr(Line, "handle_async_request", handle)
    assert await two[HELPLINE].courier.run_once() == 1
    two.clock.pass_by(seconds=3)
    assert await two[HELPLINE].courier.run_once() == 1
    assert begun
    assert (await stopped.outgoing())["withdrawal"] == ["delivered"]

"""What a peer answers to a batch is judged too: it can neither end her no, nor hide that it has her name."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from sqlalchemy import select
from support.federation import Federation, TestNode
from support.people import consent_request, referral_request

from contracts.vocabulary import WithdrawalForm
from exchange.client.errors import ProblemError
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.kinds import Kind
from exchange.federation import way
from exchange.federation.courier import Courier
from exchange.federation.transport import PeerTransport, PeerUnreachableError
from exchange.referral.content import ReferralContent
from exchange.roster import Member, Status
from exchange.schemas.federation import BatchAnswer, ItemAnswer
from exchange.schemas.inbox import DecisionRequest
from exchange.schemas.node import NodeCard
from exchange.schemas.problems import Problem, Who
from exchange.storage.errors import StorageUnavailableError
from exchange.storage.outbox import delete_waiting
from exchange.storage.peer_leases import PeerLease
from exchange.storage.tables import OUTBOX, PEER
from exchange.storage.unserved import unserved_by_peer
from exchange.use_cases.deliver import Batch, load_next
from exchange.use_cases.leasing import claim, renew
from exchange.use_cases.line import AIM_S, Line
from exchange.use_cases.node import Node
from exchange.use_cases.refused_by_peer import CODES
from exchange.use_cases.release_disclosure import release_due

CANARY = "Canary-Bunga 0812"


def refused(code: str = "not-legal") -> ItemAnswer:
    """A refusal in a peer's own words."""
    problem = Problem(type="https://x", title=CANARY, status=422, code=code, who=Who.SENDER, detail=CANARY)
    return ItemAnswer(result="refused", problem=problem)


class LyingTransport:
    """Delivers, and then answers what it likes."""

    def __init__(self, real: PeerTransport, lie: Callable[[ItemAnswer], ItemAnswer]) -> None:
        self._real, self._lie = real, lie

    async def post_envelopes(self, peer: Member, body: bytes, *, until: float) -> BatchAnswer:
        answer = await self._real.post_envelopes(peer, body, until=until)
        return BatchAnswer(answers=tuple(self._lie(one) for one in answer.answers))

    async def node_card(self, peer: Member) -> NodeCard:
        return await self._real.node_card(peer)

    async def close(self) -> None:
        pass


class InTurn(LyingTransport):
    """Batch after batch meets the next of these; what comes after the last is delivered and honestly answered."""

    def __init__(self, real: PeerTransport, *turns: ItemAnswer | PeerUnreachableError | None) -> None:
        super().__init__(real, lambda one: one)
        self._turns = iter(turns)
        self.sent: list[int] = []
        """How many envelopes were in each batch."""

    async def post_envelopes(self, peer: Member, body: bytes, *, until: float) -> BatchAnswer:
        self.sent.append(len(json.loads(body)["envelopes"]))
        # A loop without a pause is a failure and no test that hangs.
        assert len(self.sent) < 20
        turn = next(self._turns, None)
        if isinstance(turn, PeerUnreachableError):
            raise turn
        answer = await super().post_envelopes(peer, body, until=until)
        return answer if turn is None else BatchAnswer(answers=(turn,) * len(answer.answers))


def courier_in_threes(one: TestNode, transport: PeerTransport) -> Courier:
    """A courier for which every answer takes so long that batches stay as small as on a line that nobody knows."""
    return Courier(one.node, transport, seconds=itertools.count(step=AIM_S).__next__)


def later(seconds: int) -> ItemAnswer:
    """Not now."""
    return ItemAnswer(result="later", retry_after=seconds)


def gone() -> PeerUnreachableError:
    """No answer at all."""
    return PeerUnreachableError("no-connection")


def busy() -> PeerUnreachableError:
    """Enough for the next two minutes."""
    return PeerUnreachableError("busy", 120)


@asynccontextmanager
async def under_way(one: TestNode) -> AsyncIterator[asyncio.Task[int]]:
    """A delivery whose answer comes when the block has ended."""
    asked, goes_on = asyncio.Event(), asyncio.Event()

    class Slow(LyingTransport):
        async def post_envelopes(self, peer: Member, body: bytes, *, until: float) -> BatchAnswer:
            asked.set()
            await goes_on.wait()
            return await super().post_envelopes(peer, body, until=until)

    slow = asyncio.create_task(Courier(one.node, Slow(one.courier._transport, lambda answer: answer)).run_once())
    await asked.wait()
    try:
        yield slow
    finally:
        goes_on.set()
        await slow


async def until(there: Callable[[Any], bool], one: TestNode) -> Any:
    """What this node knows about its one peer, once this is so."""
    for _ in range(250):
        if there(row := await peer_row(one)):
            return row
        await asyncio.sleep(0.02)
    raise AssertionError("It did not come in five seconds.")


async def peer_row(one: TestNode) -> Any:
    """What this node knows about its one peer."""
    return await one.node.database.read(lambda conn: conn.execute(select(PEER)).one())


async def due_in_s(one: TestNode) -> float:
    """After how many seconds it is tried again."""
    return float(((await peer_row(one)).due_at - one.node.clock()) / 1000)


def lying_courier(one: TestNode, lie: Callable[[ItemAnswer], ItemAnswer]) -> Courier:
    """A courier of this node whose peers lie."""
    return Courier(one.node, LyingTransport(one.courier._transport, lie))


async def rows(one: TestNode, kind: Kind) -> list[Any]:
    query = select(OUTBOX).where(OUTBOX.c.kind == kind.value).order_by(OUTBOX.c.seq)
    return await one.node.database.read(lambda conn: list(conn.execute(query).all()))


async def referred(pair: Federation) -> str:
    helpline = pair[HELPLINE].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    return (await helpline.referrals.send(referral_request(SHELTER.agency, consent.id))).id


async def accepted(pair: Federation) -> str:
    """A referral whose disclosure is released and queued, not delivered."""
    referral = await referred(pair)
    await pair.travel()
    shelter = pair[SHELTER].client()
    (offer,) = [
        item for item in (await shelter.inbox.list()).items if (item.kind, item.referral) == ("offer", referral)
    ]
    await shelter.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    await pair[SHELTER].courier.run_once()
    return referral


async def released(pair: Federation) -> str:
    referral = await accepted(pair)
    await release_due(pair[HELPLINE].node)
    helpline = pair[HELPLINE].client()
    if (await helpline.referrals.read(referral)).flags.awaiting_confirmation:
        assert (await helpline.referrals.release(referral)).released
    return referral


@pytest.mark.parametrize("code", ["bunga-sari-0812", "+not a code", ""])
async def test_of_a_refusal_no_word_of_the_peers_is_kept_though_it_is_spelled_like_a_code(
    pair: Federation, code: str
) -> None:
    await referred(pair)
    await lying_courier(pair[HELPLINE], lambda _: refused(code)).run_once()
    (offer,) = await rows(pair[HELPLINE], Kind.OFFER)
    assert (offer.status, offer.problem) == ("refused", "refused")


def test_every_code_with_which_a_node_refuses_is_known() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    section = page.split("\n## 15 ")[1].split("\n## 16 ")[0]
    step = re.compile(r" \d+(, \d+)? ")  # the first column of one table, the second of the other
    cells = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("|")]
    told = [other for one, another in cells for cell, other in ((one, another), (another, one)) if step.fullmatch(cell)]
    of_contract = {"contract-expired", "never", "no-rule", "basis-not-allowed"}  # `contracts.decision.Deny`
    codes = {code for cell in told for code in re.findall(r"`([a-z-]+)`", cell)} - {"later"}
    assert codes | of_contract == CODES


async def test_a_refused_stop_is_sent_again(pair: Federation) -> None:
    referral = await referred(pair)
    await pair.travel()
    helpline = pair[HELPLINE]
    await helpline.client().withdrawals.of_referral(referral, WithdrawalForm.STOP_SERVICE)
    await lying_courier(helpline, lambda _: refused()).run_once()
    (stop,) = await rows(helpline, Kind.WITHDRAWAL)
    assert stop.status == "queued"
    assert stop.signature is not None
    pair.clock.pass_by(hours=1)
    await helpline.courier.run_once()
    (stop,) = await rows(helpline, Kind.WITHDRAWAL)
    assert stop.status == "delivered"


async def test_a_refused_stop_does_not_hold_up_the_next_one(pair: Federation) -> None:
    first, second = await referred(pair), await referred(pair)
    await pair.travel()
    helpline = pair[HELPLINE]
    await helpline.client().withdrawals.of_referral(first, WithdrawalForm.STOP_SERVICE)
    pair.clock.pass_by(hours=30)
    await lying_courier(helpline, lambda _: refused()).run_once()
    await helpline.client().withdrawals.of_referral(second, WithdrawalForm.STOP_SERVICE)
    await helpline.courier.run_once()
    assert {stop.status for stop in await rows(helpline, Kind.WITHDRAWAL)} == {"delivered"}


@pytest.mark.parametrize("stop", [False, True], ids=["a referral", "a stop"])
async def test_what_is_handed_in_while_a_lease_ends_does_not_wait_with_what_goes_later(
    pair: Federation, monkeypatch: pytest.MonkeyPatch, stop: bool
) -> None:
    """It comes when the courier has looked for more, and has not written down yet when the peer is asked again."""
    helpline = pair[HELPLINE]
    known = await referred(pair)
    await pair.travel()
    waits = await referred(pair)
    new: list[str] = []

    async def and_then_something_comes(node: Node, lease: PeerLease, line: Line) -> Batch | None:
        batch = await load_next(node, lease, line)
        if batch is None and not new:
            new.append(known if stop else await referred(pair))
            if stop:
                await helpline.client().withdrawals.of_referral(known, WithdrawalForm.STOP_SERVICE)
        return batch

    monkeypatch.setattr(way, "load_next", and_then_something_comes)
    await lying_courier(helpline, lambda one: one if new else ItemAnswer(result="later", retry_after=600)).run_once()
    kind = Kind.WITHDRAWAL if stop else Kind.OFFER
    assert {row.referral: row.status for row in await rows(helpline, kind)}[new[0]] == "delivered"
    assert {row.referral: row.status for row in await rows(helpline, Kind.OFFER)}[waits] == "delivered"


@pytest.mark.parametrize("asked", [24 * 3600, 10 * 365 * 24 * 3600], ids=["a day", "ten years"])
async def test_however_long_a_peer_asks_to_wait_her_no_is_tried_again_within_the_hour(
    pair: Federation, asked: int
) -> None:
    referral = await referred(pair)
    await pair.travel()
    helpline = pair[HELPLINE]
    await helpline.client().withdrawals.of_referral(referral, WithdrawalForm.STOP_SERVICE)
    await lying_courier(helpline, lambda _: ItemAnswer(result="later", retry_after=asked)).run_once()
    pair.clock.pass_by(hours=1)
    await helpline.courier.run_once()
    assert [stop.status for stop in await rows(helpline, Kind.WITHDRAWAL)] == ["delivered"]


async def test_what_a_peer_does_not_answer_for_waits_a_little_and_goes_again(pair: Federation) -> None:
    class Silent(LyingTransport):
        async def post_envelopes(self, peer: Member, body: bytes, *, until: float) -> BatchAnswer:
            answer = await super().post_envelopes(peer, body, until=until)
            return BatchAnswer(answers=answer.answers[:1])

    await referred(pair)
    await referred(pair)
    helpline = pair[HELPLINE]
    silent = Courier(helpline.node, Silent(helpline.courier._transport, lambda one: one))
    assert (await silent.run_once(), await silent.run_once()) == (1, 0)
    assert sorted(row.status for row in await rows(helpline, Kind.OFFER)) == ["delivered", "queued"]
    pair.clock.pass_by(hours=0.01)
    await helpline.courier.run_once()
    assert [row.status for row in await rows(helpline, Kind.OFFER)] == ["delivered", "delivered"]


async def test_what_goes_later_is_not_asked_about_before_its_time(pair: Federation) -> None:
    helpline = pair[HELPLINE]
    referral = await referred(pair)
    later = lying_courier(helpline, lambda _: ItemAnswer(result="later", retry_after=600))
    assert (await later.run_once(), await later.run_once()) == (1, 0)
    pair.clock.pass_by(seconds=601)
    await helpline.courier.run_once()
    assert {row.referral: row.status for row in await rows(helpline, Kind.OFFER)}[referral] == "delivered"


@pytest.mark.parametrize(
    "turns",
    [
        pytest.param([later(120), None, None], id="the rest is taken"),
        pytest.param([later(30), later(120), None], id="the second waits longest"),
        pytest.param([later(120), later(30), later(1)], id="the first waits longest"),
        pytest.param([later(1), later(30), later(120)], id="the last waits longest"),
    ],
)
async def test_what_goes_later_waits_for_the_longest_of_its_batches(pair: Federation, turns: list[ItemAnswer]) -> None:
    for _ in range(7):
        await referred(pair)
    helpline = pair[HELPLINE]
    transport = InTurn(helpline.courier._transport, *turns)
    await courier_in_threes(helpline, transport).run_once()
    assert transport.sent == [3, 3, 1]
    assert 115 < await due_in_s(helpline) <= 120
    taken = sum(sent for sent, turn in zip(transport.sent, turns, strict=True) if turn is None)
    assert [row.status for row in await rows(helpline, Kind.OFFER)].count("delivered") == taken


async def test_what_a_peer_has_signed_for_is_written_down_although_it_is_gone_for_the_next_batch(
    pair: Federation,
) -> None:
    for _ in range(4):
        await referred(pair)
    helpline = pair[HELPLINE]
    transport = InTurn(helpline.courier._transport, None, gone(), gone())
    await courier_in_threes(helpline, transport).run_once()
    # Who took something is there, and is asked once more at once.
    assert transport.sent == [3, 1, 1]
    assert [row.status for row in await rows(helpline, Kind.OFFER)] == ["delivered"] * 3 + ["queued"]


async def test_what_a_peer_has_signed_for_is_written_down_although_nothing_more_can_be_read(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await referred(pair)
    helpline = pair[HELPLINE]

    async def once(node: Node, lease: PeerLease, line: Line) -> Batch | None:
        if line.turns.after:
            raise StorageUnavailableError("storage-unavailable")
        return await load_next(node, lease, line)

    monkeypatch.setattr(way, "load_next", once)
    await helpline.courier.run_once()
    assert [row.status for row in await rows(helpline, Kind.OFFER)] == ["delivered"]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(later(600), gone(), id="later, no answer"),
        pytest.param(later(600), PeerUnreachableError("busy", 0), id="later, busy until now"),
        pytest.param(ItemAnswer(result="accepted"), gone(), id="a receipt that is none, no answer"),
    ],
)
async def test_who_takes_nothing_and_then_does_not_answer_is_not_asked_again_at_once(
    pair: Federation, first: ItemAnswer, then: PeerUnreachableError
) -> None:
    """An answer that leaves everything where it was is no sign that the peer is there for the rest."""
    for _ in range(4):
        await referred(pair)
    helpline = pair[HELPLINE]
    transport = InTurn(helpline.courier._transport, *[first, then] * 20)
    threes = courier_in_threes(helpline, transport)
    waits = []
    for hours in (0.0, 0.05, 0.5, 3):
        pair.clock.pass_by(hours=hours)
        assert await threes.run_once() == 1
        waits.append(await due_in_s(helpline))
    # By the schedule, as a peer that is away.
    expected = [(0, 1.5), (2, 5), (45, 90), (450, 900)]
    assert all(low < wait < high for wait, (low, high) in zip(waits, expected, strict=True))


async def test_what_is_never_there_in_time_is_tried_again_later(pair: Federation) -> None:
    """A line on which a new token takes too long each time, and each is refused, or a database that is that slow."""
    await referred(pair)
    helpline = pair[HELPLINE]
    transport = InTurn(helpline.courier._transport, *[PeerUnreachableError("too-late")] * 20)
    assert await courier_in_threes(helpline, transport).run_once() == 1
    assert len(transport.sent) > 2
    assert await due_in_s(helpline) > 0
    assert [row.status for row in await rows(helpline, Kind.OFFER)] == ["queued"]


async def test_what_goes_later_waits_also_where_the_batch_behind_it_is_gone_when_the_line_is_there(
    pair: Federation,
) -> None:
    for _ in range(4):
        await referred(pair)
    helpline = pair[HELPLINE]
    *_, last = await rows(helpline, Kind.OFFER)

    class GoneMeanwhile(InTurn):
        async def post_envelopes(self, peer: Member, body: bytes, *, until: float) -> BatchAnswer:
            if self.sent == [3]:
                await helpline.node.database.write(lambda conn: delete_waiting(conn, last.id))
            return await super().post_envelopes(peer, body, until=until)

    transport = GoneMeanwhile(helpline.courier._transport, later(120), PeerUnreachableError("too-late"))
    await courier_in_threes(helpline, transport).run_once()
    assert transport.sent == [3, 1]
    assert 115 < await due_in_s(helpline) <= 120


async def test_who_took_a_batch_and_has_enough_then_is_there_and_who_took_none_is_not(pair: Federation) -> None:
    for _ in range(4):
        await referred(pair)
    helpline = pair[HELPLINE]
    took_none = InTurn(helpline.courier._transport, gone(), busy())
    threes = courier_in_threes(helpline, took_none)
    begun = pair.clock()
    await threes.run_once()
    ended = pair.clock()
    pair.clock.pass_by(seconds=10)
    await threes.run_once()
    row = await peer_row(helpline)
    assert begun <= row.failing_since <= ended
    assert row.attempts == 2
    assert 115 < await due_in_s(helpline) <= 120
    pair.clock.pass_by(seconds=121)
    await courier_in_threes(helpline, InTurn(helpline.courier._transport, None, busy())).run_once()
    row = await peer_row(helpline)
    assert (row.failing_since, row.attempts) == (None, 1)
    assert 115 < await due_in_s(helpline) <= 120
    assert "delivered" in {row.status for row in await rows(helpline, Kind.OFFER)}
    # It says itself when it will be there: that it took nothing before makes no difference.
    pair.clock.pass_by(seconds=121)
    await courier_in_threes(helpline, InTurn(helpline.courier._transport, later(600), busy())).run_once()
    row = await peer_row(helpline)
    assert (row.failing_since, row.attempts) == (None, 1)
    assert 115 < await due_in_s(helpline) <= 120


async def test_on_a_bad_line_stops_go_in_what_it_carries_while_the_peer_puts_us_off(pair: Federation) -> None:
    """The reserve has room for three in one request, and the line has not."""
    referrals = [await referred(pair) for _ in range(3)]
    await pair.travel()
    helpline = pair[HELPLINE]
    for referral in referrals:
        await helpline.client().withdrawals.of_referral(referral, WithdrawalForm.STOP_SERVICE)
    transport = InTurn(helpline.courier._transport, gone(), busy())
    threes = courier_in_threes(helpline, transport)
    await threes.run_once()
    pair.clock.pass_by(seconds=10)
    await threes.run_once()
    assert transport.sent == [3, 1, 1, 1, 1]
    assert {stop.status for stop in await rows(helpline, Kind.WITHDRAWAL)} == {"delivered"}


async def test_a_slow_line_keeps_its_lease(pair: Federation) -> None:
    """Nobody else is given the same envelopes while the first answer is on its way."""
    helpline = pair[HELPLINE]
    helpline.node.limits = replace(helpline.node.limits, lease_default_s=3)
    await referred(pair)
    async with under_way(helpline) as slow:
        begun = (await peer_row(helpline)).lease_until
        renewed = await until(lambda row: row.lease_until > begun, helpline)
        assert pair.clock() < begun
        assert renewed.lease_until <= pair.clock() + 3000
        # After the first end, and before the second.
        pair.clock.pass_by(seconds=(begun + 1 - pair.clock()) / 1000)
        assert await claim(helpline.node, "another") is None
    assert await slow == 1
    assert (await peer_row(helpline)).lease_until == 0
    assert [row.status for row in await rows(helpline, Kind.OFFER)] == ["delivered"]


async def test_who_has_lost_a_lease_does_not_ask_for_it_again(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    helpline = pair[HELPLINE]
    helpline.node.limits = replace(helpline.node.limits, lease_default_s=1)
    await referred(pair)
    held, lost = list[bool](), asyncio.Event()

    async def renewed(node: Node, lease: PeerLease) -> bool:
        held.append(await renew(node, lease))
        lost.set()
        return held[-1]

    monkeypatch.setattr(way, "renew", renewed)
    async with under_way(helpline) as slow:
        pair.clock.pass_by(seconds=2)
        assert await claim(helpline.node, "another") is not None
        await lost.wait()
        # Longer than it would take to ask again.
        await asyncio.sleep(0.5)
        assert held == [False]
    await slow
    # Nor does it give it back; what the peer has signed for is written down all the same.
    assert (await peer_row(helpline)).lease_token == "another"
    assert [row.status for row in await rows(helpline, Kind.OFFER)] == ["delivered"]


async def test_who_refuses_her_name_may_have_read_it_and_the_record_says_so(pair: Federation) -> None:
    referral = await released(pair)
    helpline = pair[HELPLINE]
    await lying_courier(helpline, lambda _: refused()).run_once()
    view = await helpline.client().referrals.read(referral)
    assert view.flags.disclosed
    assert view.flags.awaiting_disclosure
    at = pair.clock()
    # And goes on counting as a name that this receiver was given and has not served.
    assert await helpline.node.database.read(lambda conn: unserved_by_peer(conn, at)) == {SHELTER.agency: (1, 0)}
    again = ReferralContent(preferred_name="Canary-Melati")
    assert (await helpline.client().referrals.replace_disclosure(referral, again)).referral.flags.disclosed
    await pair.travel()
    with pytest.raises(ProblemError, match="already-disclosed"):
        await helpline.client().referrals.replace_disclosure(referral, again)


@pytest.mark.parametrize("end", ["stop-service", "suspended"])
async def test_who_read_her_name_and_refused_it_has_it_whatever_becomes_of_a_fresh_one(
    pair: Federation, end: str
) -> None:
    referral = await released(pair)
    helpline = pair[HELPLINE]
    await lying_courier(helpline, lambda _: refused()).run_once()
    again = ReferralContent(preferred_name="Canary-Melati")
    await helpline.client().referrals.replace_disclosure(referral, again)
    assert [row.status for row in await rows(helpline, Kind.DISCLOSURE)] == ["refused", "queued"]
    if end == "suspended":
        await pair.new_roster(
            member=lambda one: (
                one.model_copy(update={"status": Status.SUSPENDED}) if one.agency == SHELTER.agency else one
            )
        )
        await helpline.courier.run_once()
    else:
        await helpline.client().withdrawals.of_referral(referral, WithdrawalForm.STOP_SERVICE)
    assert [row.status for row in await rows(helpline, Kind.DISCLOSURE)] == ["refused"]
    assert (await helpline.client().referrals.read(referral)).flags.disclosed


@pytest.mark.parametrize("end", ["stop-sharing", "recall", "its own stop"])
async def test_who_signs_for_nothing_and_accepts_stays_on_record_as_having_her_name(pair: Federation, end: str) -> None:
    """The offer never counts as delivered, and so it is still queued when she or somebody else ends the referral."""
    helpline, shelter = pair[HELPLINE], pair[SHELTER].client()
    liar = lying_courier(helpline, lambda _: ItemAnswer(result="later", retry_after=1))
    referral = await referred(pair)
    await liar.run_once()
    (offer,) = (await shelter.inbox.list()).items
    await shelter.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    await pair[SHELTER].courier.run_once()
    await release_due(helpline.node)
    pair.clock.pass_by(seconds=2)
    await liar.run_once()
    assert [item.kind for item in (await shelter.inbox.list()).items] == ["offer", "disclosure"]
    if end == "stop-sharing":
        await helpline.client().withdrawals.of_referral(referral, WithdrawalForm.STOP_SHARING)
    elif end == "recall":
        await helpline.client().referrals.recall(referral)
    else:
        await shelter.withdrawals.of_referral(referral, WithdrawalForm.STOP_SERVICE)
        await pair[SHELTER].courier.run_once()
    assert (await helpline.client().referrals.read(referral)).flags.disclosed
    at = pair.clock()
    unserved = {SHELTER.agency: (1, 0)} if end == "stop-sharing" else {}
    assert await helpline.node.database.read(lambda conn: unserved_by_peer(conn, at)) == unserved


async def test_the_older_her_no_is_the_longer_it_waits_where_it_is_refused(pair: Federation) -> None:
    """As where a peer is away: so it goes again for as long as it takes, and burdens nobody."""
    referral = await referred(pair)
    await pair.travel()
    helpline = pair[HELPLINE]
    await helpline.client().withdrawals.of_referral(referral, WithdrawalForm.STOP_SERVICE)
    for hours, wait_s in ((0.5, 60), (30, 3600)):
        pair.clock.pass_by(hours=hours)
        assert await lying_courier(helpline, lambda _: refused()).run_once() == 1
        assert wait_s - 5 < await due_in_s(helpline) <= wait_s


async def test_later_without_a_time_is_not_at_once(pair: Federation) -> None:
    await referred(pair)
    helpline = pair[HELPLINE]
    transport = InTurn(helpline.courier._transport, *[ItemAnswer(result="later")] * 20)
    assert await Courier(helpline.node, transport).run_once() == 1
    assert transport.sent == [1]


async def test_an_offer_that_is_refused_was_not_delivered(pair: Federation) -> None:
    referral = await referred(pair)
    helpline = pair[HELPLINE]
    await lying_courier(helpline, lambda _: refused()).run_once()
    flags = (await helpline.client().referrals.read(referral)).flags
    assert (flags.delivered, flags.undeliverable) == (False, True)


async def test_a_peers_words_are_not_kept(pair: Federation) -> None:
    await referred(pair)
    helpline = pair[HELPLINE]
    await lying_courier(helpline, lambda _: refused(CANARY)).run_once()
    (offer,) = await rows(helpline, Kind.OFFER)
    assert (offer.status, offer.problem) == ("refused", "refused")


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.LEFT])
async def test_her_name_does_not_leave_for_a_member_that_was_suspended_after_the_release(
    pair: Federation, status: Status
) -> None:
    other = await referred(pair)
    await pair.travel()
    referral = await released(pair)
    helpline = pair[HELPLINE]
    world = helpline.node.world()
    members = dict(world.roster.members)
    members[SHELTER.agency] = members[SHELTER.agency].model_copy(update={"status": status})
    changed = replace(world, roster=replace(world.roster, members=MappingProxyType(members)))
    helpline.node.world = lambda: changed
    await helpline.client().withdrawals.of_referral(other, WithdrawalForm.STOP_SERVICE)
    await helpline.courier.run_once()
    assert await rows(helpline, Kind.DISCLOSURE) == []
    (stop,) = await rows(helpline, Kind.WITHDRAWAL)
    assert stop.status == "delivered"
    flags = (await helpline.client().referrals.read(referral)).flags
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)

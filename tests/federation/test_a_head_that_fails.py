"""One envelope at which a peer, or its proxy, fails each time holds up nothing but what is about its referral."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import httpx2
import pytest
import sqlalchemy as sa
from structlog.testing import CapturingLogger
from support.federation import Federation, TestNode
from support.networks import OverTransport
from support.stories import Story, begin, travelled

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.format import parse_envelope
from exchange.envelope.header import parse_header
from exchange.federation import way
from exchange.federation.courier import Courier
from exchange.federation.transport import HTTPTransport, PeerTransport, PeerUnreachableError
from exchange.roster import Member, Status
from exchange.schemas.federation import BatchAnswer
from exchange.schemas.inbox import DecisionRequest, ProgressRequest, RecallAnswerRequest
from exchange.schemas.node import NodeCard
from exchange.storage.tables import OUTBOX, PEER
from exchange.use_cases.passed_over import MOST_FAILED

CODES = pytest.mark.parametrize("code", ["peer-failed", "refused-us", "bad-answer"])


@dataclass
class FailsAt:
    """A peer that fails at every request in which something about one of these referrals lies, of a kind or of any.

    One that is put off is answered `later` each time, for `put_off_s`.
    """

    real: PeerTransport
    bad: set[str]
    code: str = "peer-failed"
    kinds: frozenset[str] = frozenset()
    put_off: frozenset[str] = frozenset()
    put_off_s: int = 1
    retry_after_s: int | None = None
    down: bool = False
    asked: list[list[tuple[str, str]]] = field(default_factory=list)
    """(referral, kind) of what was in each request."""

    async def post_envelopes(self, peer: Member, body: bytes, *, until: float) -> BatchAnswer:
        wires = json.loads(body)["envelopes"]
        headers = [parse_header(parse_envelope(wire).header) for wire in wires]
        self.asked.append([(header.referral, header.kind.value) for header in headers])
        if self.down or any(h.referral in self.bad and (not self.kinds or h.kind in self.kinds) for h in headers):
            raise PeerUnreachableError(self.code, self.retry_after_s)
        answer = await self.real.post_envelopes(peer, body, until=until)
        later = {"result": "later", "receipt": None, "retry_after": self.put_off_s}
        return BatchAnswer(
            answers=tuple(
                one.model_copy(update=later) if header.referral in self.put_off else one
                for header, one in zip(headers, answer.answers, strict=True)
            )
        )

    async def node_card(self, peer: Member) -> NodeCard:
        return await self.real.node_card(peer)

    async def greet(self, peer: Member) -> None:
        await self.real.greet(peer)

    async def close(self) -> None:
        pass


def failing(sender: TestNode, *bad: Story, **more: object) -> tuple[Courier, FailsAt]:
    peer = FailsAt(sender.courier._transport, {one.id for one in bad}, **more)  # type: ignore[arg-type]
    return Courier(sender.node, peer), peer


async def tries(together: Federation, courier: Courier, count: int = 12, *, minutes: float = 2) -> None:
    for _ in range(count):
        together.clock.pass_by(seconds=60 * minutes)
        await courier.run_once()


async def queued(story: Story, count: int) -> list[Story]:
    """As many more under her consent, that wait."""
    return [await begin(story.together, consent=story.consent, travel=False) for _ in range(count)]


async def status(story: Story, kind: str = "offer") -> list[str]:
    return (await story.outgoing()).get(kind, [])


async def peer_row(node: TestNode) -> sa.RowMapping:
    return await node.node.database.read(lambda conn: conn.execute(sa.select(PEER)).mappings().one())


@CODES
async def test_what_lies_behind_it_goes_and_her_no_first(pair: Federation, code: str) -> None:
    other = await begin(pair)
    bad, *behind = await queued(other, 4)
    await other.says_no("stop-service", travel=False)
    courier, peer = failing(bad.sender, bad, code=code)
    await tries(pair, courier)
    assert await status(other, "withdrawal") == ["delivered"]
    assert [await status(one) for one in behind] == [["delivered"]] * 3
    assert await status(bad) == ["queued"]
    alone = peer.asked.index([(bad.id, "offer")])
    assert peer.asked[alone + 1] == [(other.id, "withdrawal")]
    peer.bad.clear()
    await tries(pair, courier, 1)
    assert await status(bad) == ["delivered"]


async def test_a_stop_at_which_it_fails_holds_up_no_other(pair: Federation) -> None:
    bad = await begin(pair)
    other = await begin(pair, consent=bad.consent)
    for story in (bad, other):
        await story.says_no("stop-service", travel=False)
    courier, _ = failing(bad.sender, bad)
    await tries(pair, courier)
    assert await status(other, "withdrawal") == ["delivered"]
    assert await status(bad, "withdrawal") == ["queued"]


async def test_behind_many_of_them_each_has_its_turn(pair: Federation) -> None:
    first = await begin(pair, travel=False)
    stopped = [first, *await queued(first, 2 * MOST_FAILED)]
    await pair.travel()
    forwards = await queued(first, 2 * MOST_FAILED)
    [good] = await queued(first, 1)
    for story in stopped:
        await story.says_no("stop-service", travel=False)
    *bad, last = stopped
    courier, peer = failing(first.sender, *bad, *forwards)
    await tries(pair, courier, 30)
    assert await status(last, "withdrawal") == ["delivered"]
    assert await status(good) == ["delivered"]
    assert {one for request in peer.asked for one in request if len(request) == 1} >= {
        *((story.id, "withdrawal") for story in bad),
        *((story.id, "offer") for story in forwards),
    }
    peer.bad.clear()
    await tries(pair, courier, 3)
    assert [await status(story) for story in forwards] == [["delivered"]] * len(forwards)
    assert [await status(story, "withdrawal") for story in bad] == [["delivered"]] * len(bad)


async def test_a_new_stop_is_not_behind_what_failed_before(pair: Federation) -> None:
    other = await begin(pair)
    bad = await queued(other, MOST_FAILED + 1)
    courier, peer = failing(other.sender, *bad)
    await tries(pair, courier)
    await other.says_no("stop-service", travel=False)
    peer.asked.clear()
    await tries(pair, courier, 1)
    assert peer.asked[0] == [(other.id, "withdrawal")]
    assert await status(other, "withdrawal") == ["delivered"]


async def test_one_that_is_wholly_down_is_asked_a_few_times_and_then_left_alone(pair: Federation) -> None:
    first = await begin(pair, travel=False)
    others = await queued(first, 9)
    courier, peer = failing(first.sender, down=True)
    await tries(pair, courier)
    peer.asked.clear()
    before = await peer_row(first.sender)
    await tries(pair, courier, 1)
    assert [len(request) for request in peer.asked] == [1] * MOST_FAILED
    row = await peer_row(first.sender)
    assert (row["attempts"], row["failing_since"]) == (before["attempts"] + 1, before["failing_since"])
    assert row["due_at"] > pair.clock()
    peer.down = False
    await tries(pair, courier, 1)
    assert [await status(one) for one in (first, *others)] == [["delivered"]] * 10


async def test_where_it_puts_us_off_after_that_nothing_more_is_asked_before_its_time(pair: Federation) -> None:
    other = await begin(pair)
    bad, _ = await queued(other, 2)
    courier, peer = failing(bad.sender, bad)
    await tries(pair, courier)
    peer.down, peer.code, peer.retry_after_s = True, "busy", 600
    await queued(other, 1)
    peer.asked.clear()
    await tries(pair, courier, 1)
    assert len(peer.asked) == 1
    await tries(pair, courier, 1)
    assert len(peer.asked) == 1


async def test_what_is_about_the_same_referral_keeps_its_order(pair: Federation) -> None:
    bad = await begin(pair)
    other = await begin(pair, consent=bad.consent)
    for story in (bad, other):
        await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
        await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="in-service"))
    courier, peer = failing(bad.receiver, bad, kinds=frozenset({"decision"}))
    await tries(pair, courier)
    assert await other.outgoing(at=other.receiver) == {"decision": ["delivered"], "progress": ["delivered"]}
    assert await bad.outgoing(at=bad.receiver) == {"decision": ["queued"], "progress": ["queued"]}
    assert all((bad.id, "decision") in request for request in peer.asked if (bad.id, "progress") in request)
    peer.bad.clear()
    await tries(pair, courier, 1)
    assert await bad.outgoing(at=bad.receiver) == {"decision": ["delivered"], "progress": ["delivered"]}
    arrived = [one.header for one in travelled(pair) if one.header.referral == bad.id]
    assert [header.kind.value for header in arrived] == ["offer", "decision", "progress"]


async def test_what_is_put_off_before_it_does_not_hide_it(pair: Federation) -> None:
    """It is answered, by which the next request is a large one, each time, in which nobody sees which one fails."""
    put_off = await begin(pair, travel=False)
    bad, good, last = await queued(put_off, 3)
    courier, _ = failing(put_off.sender, bad, put_off=frozenset({put_off.id}))
    await tries(pair, courier)
    assert [await status(one) for one in (good, last)] == [["delivered"]] * 2
    assert await status(put_off) == ["queued"]


async def test_what_waits_behind_it_about_the_same_referral_makes_nobody_ask_without_a_pause(pair: Federation) -> None:
    put_off = await begin(pair)
    bad = await begin(pair, consent=put_off.consent)
    for story in (put_off, bad):
        await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await bad.helps.inbox.report_progress(await bad.offer(), ProgressRequest(state="in-service"))
    courier, peer = failing(
        bad.receiver, bad, kinds=frozenset({"decision"}), put_off=frozenset({put_off.id}), put_off_s=600
    )
    await tries(pair, courier, 2)
    peer.asked.clear()
    await tries(pair, courier, 300, minutes=1 / 60)
    assert len(peer.asked) <= 5


async def test_what_lies_before_a_stop_at_which_it_fails_has_its_turn(pair: Federation) -> None:
    other = await begin(pair)
    mine = await begin(pair, consent=other.consent)
    await mine.decides("accepted")
    await mine.reports("in-service")
    await mine.asks.referrals.recall(mine.id)
    await pair.travel()
    recall = (await mine.item("recall")).id
    await other.helps.inbox.decide(await other.offer(), DecisionRequest(decision="accepted"))
    await mine.helps.inbox.answer_recall(recall, RecallAnswerRequest(agreed=True))
    await mine.says_no("stop-sharing", by=mine.receiver, travel=False)
    courier, _ = failing(mine.receiver, other, mine, kinds=frozenset({"decision", "withdrawal"}))
    await tries(pair, courier)
    went = await mine.outgoing(at=mine.receiver)
    assert went["recall-answer"] == ["delivered"]
    assert went["withdrawal"] == ["queued"]


async def test_a_new_no_waits_for_none_at_which_it_fails_where_it_has_put_off_the_rest(pair: Federation) -> None:
    bad = await begin(pair)
    first, second = [await begin(pair, consent=bad.consent) for _ in range(2)]
    await queued(bad, 1)
    courier, peer = failing(bad.sender, bad)
    peer.down, peer.code, peer.retry_after_s = True, "busy", 600
    await tries(pair, courier, 1, minutes=1 / 60)
    peer.down, peer.code, peer.retry_after_s = False, "peer-failed", None
    await bad.says_no("stop-service", travel=False)
    await first.says_no("stop-service", travel=False)
    await tries(pair, courier, 10, minutes=1 / 60)
    assert await status(first, "withdrawal") == ["delivered"]
    await second.says_no("stop-service", travel=False)
    await tries(pair, courier, 5, minutes=1 / 60)
    assert await status(second, "withdrawal") == ["delivered"]
    assert await status(bad, "withdrawal") == ["queued"]


async def test_it_is_said_of_whom(pair: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CapturingLogger()
    bad = await begin(pair, travel=False)
    await queued(bad, 1)
    courier, _ = failing(bad.sender, bad)
    monkeypatch.setattr(way, "get_logger", lambda: log)
    await tries(pair, courier)
    assert ("info", ("envelope-passed-over",), {"peer": SHELTER.agency, "code": "peer-failed"}) in log.calls


@pytest.mark.parametrize("status_code", [500, 403])
async def test_a_peer_that_gives_no_token_is_asked_once(two: Federation, status_code: int) -> None:
    """Nothing of what is queued was sent: it says nothing of any of it."""
    first = await begin(two, travel=False)
    await queued(first, 3)
    node, asked = first.sender.node, list[str]()

    def answers(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        return httpx2.Response(status_code)

    network = OverTransport(httpx2.MockTransport(answers))
    courier = Courier(node, HTTPTransport(node.agency, node.node_key, node.limits, node.clock, network=network))
    await tries(two, courier)
    asked.clear()
    await tries(two, courier, 1)
    assert asked.count("/oauth/token") == 1


async def test_however_many_may_not_leave_what_lies_behind_them_goes(two: Federation) -> None:
    """Of a member that was suspended while the line carried one envelope at a time."""
    other = await begin(two)
    bad = await begin(two, consent=other.consent, travel=False)
    sender = two[HELPLINE]

    def many(conn: sa.Connection) -> None:
        lay = conn.execute(sa.select(OUTBOX).where(OUTBOX.c.referral == bad.id, OUTBOX.c.kind == "offer"))
        row = {name: value for name, value in lay.mappings().one().items() if name != "seq"}
        copies = [row | {"id": f"{n:032x}", "digest": f"{n:064x}"} for n in range(1100)]
        conn.execute(OUTBOX.insert(), copies)
        conn.execute(PEER.update().values(carries=1))

    await sender.node.database.write(many)
    await other.says_no("stop-service", travel=False)
    await two.new_roster(
        member=lambda one: one.model_copy(update={"status": Status.SUSPENDED}) if one.agency == SHELTER.agency else one
    )
    await tries(two, sender.courier, 1)
    assert await status(other, "withdrawal") == ["delivered"]

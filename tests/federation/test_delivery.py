"""At least once on the wire, exactly once in the inbox: repeats, conflicts, batches, what is not known yet."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx2
import pytest
from structlog.testing import CapturingLogger
from support.federation import Federation
from support.lying_peer import LyingPeer
from support.networks import OverTransport
from support.stories import Story, begin, now_of, rows, travelled

from exchange.demo.federation import EMBASSY, HELPLINE, SHELTER
from exchange.envelope.format import SignedBy, digest_of, parse_header, signed_input
from exchange.envelope.keys import verify
from exchange.envelope.kinds import Kind
from exchange.envelope.wire import from_base64url, read_again
from exchange.federation import courier
from exchange.federation.transport import HTTPTransport, PeerUnreachableError
from exchange.limits import LIMITS
from exchange.roster import Member, Status
from exchange.schemas.federation import ItemAnswer, ResyncRequest
from exchange.schemas.inbox import DecisionRequest, RefusalRequest
from exchange.storage.tables import AUDIT, EVENT, INBOX, OUTBOX, PEER, REFERRAL
from exchange.use_cases import settle
from exchange.use_cases.maintain import maintain
from exchange.use_cases.node import as_datetime
from exchange.use_cases.release_disclosure import release_due
from exchange.use_cases.resync import resync


async def offer_of(story: Story) -> dict[str, str]:
    return await story.wire_of("offer")


def code_of(answer: ItemAnswer) -> str | None:
    return answer.problem.code if answer.problem is not None else None


async def test_a_repeat_is_answered_with_the_first_receipts_bytes(pair: Federation) -> None:
    story = await begin(pair, travel=False)
    wire = await offer_of(story)
    first = (await story.post(wire)).answers[0]
    pair.clock.pass_by(hours=24 * 20)
    again = (await story.post(wire)).answers[0]
    assert first.result == "accepted"
    assert first.receipt == again.receipt
    assert len(await story.rows(INBOX, at=story.receiver)) == 1
    assert len(await story.rows(EVENT, at=story.receiver)) == 1


async def test_the_same_envelope_in_two_batches_at_the_same_time_is_one_item(on_both: Federation) -> None:
    story = await begin(on_both, travel=False)
    wire = await offer_of(story)
    answers = await asyncio.gather(*(story.post(wire) for _ in range(6)))
    receipts = {answer.answers[0].receipt for answer in answers}
    assert {answer.answers[0].result for answer in answers} == {"accepted"}
    assert len(receipts) == 1
    assert len(await story.rows(INBOX, at=story.receiver)) == 1
    assert (await story.opened("offer")).content is not None


async def test_the_same_envelope_twice_in_one_batch_is_one_item(two: Federation) -> None:
    story = await begin(two, travel=False)
    wire = await offer_of(story)
    first, second = (await story.post(wire, wire)).answers
    assert first.receipt == second.receipt
    assert len(await story.rows(INBOX, at=story.receiver)) == 1


async def test_who_signed_what_arrived_can_be_shown_although_the_wrapped_key_is_gone(pair: Federation) -> None:
    story = await begin(pair)
    await story.decides("accepted")
    await story.says_no("stop-sharing")
    node, members = story.receiver.node, story.receiver.node.world().roster.members
    arrived = await story.rows(INBOX, at=story.receiver)
    assert {row["kind"] for row in arrived} == {"offer", "disclosure", "withdrawal"}
    for row in arrived:
        assert row["wrapped_key"] is None
        raw = node.open_row(row["sealed_header"], "inbox", "sealed_header", row["id"])
        signed = signed_input(raw, row["part_digests"][:32], row["part_digests"][32:])
        sender, header = members[row["sender"]], parse_header(raw)
        key = sender.agency_key if header.signed_by is SignedBy.AGENCY else sender.node_key
        verify(key, signed, row["signature"])
        assert digest_of(signed) == row["digest"]


async def test_the_same_id_with_another_digest_is_refused(two: Federation) -> None:
    story = await begin(two)
    offer = travelled(two)[0]
    other = await story.resealed(offer, id=offer.header.id)
    answer = (await story.post(other)).answers[0]
    assert (answer.result, code_of(answer)) == ("refused", "id-conflict")
    assert len(await story.rows(INBOX, at=story.receiver)) == 1


async def test_a_bad_item_never_fails_its_batch(two: Federation) -> None:
    first, second = await begin(two, travel=False), await begin(two, travel=False)
    good, also_good = await offer_of(first), await offer_of(second)
    broken = also_good | {"signature": good["signature"]}
    answers = (await first.post(good, {"header": "!"}, broken, also_good)).answers
    assert [answer.result for answer in answers] == ["accepted", "refused", "refused", "accepted"]
    assert len(await rows(two[SHELTER], REFERRAL)) == 2


async def test_an_offer_and_its_recall_in_one_batch(two: Federation) -> None:
    two.leave(SHELTER)
    story = await begin(two)
    await story.asks.referrals.recall(story.id)
    two.come_back(SHELTER)
    await story.later(hours=1)
    await story.both_say("recalled")


async def test_an_offer_under_a_roster_that_is_not_known_yet_is_taken_later(two: Federation) -> None:
    adoptions = two[SHELTER].node.world().roster.contracts
    await two.new_roster(contracts=(), known_to=[SHELTER])
    await two.new_roster(contracts=adoptions, known_to=[HELPLINE])
    contracts = sorted((two[SHELTER].home / "contracts").glob("*.yaml"))
    hidden = [path.rename(path.with_suffix(".away")) for path in contracts]
    await two[SHELTER].node.refresh_world()
    story = await begin(two, travel=False)
    wire = await offer_of(story)
    answer = (await story.post(wire)).answers[0]
    assert (answer.result, answer.problem) == ("later", None)
    assert answer.retry_after is not None
    await story.travel()
    assert (await story.outgoing())["offer"] == ["queued"]
    for path in hidden:
        path.rename(path.with_suffix(".yaml"))
    data = (two[HELPLINE].home / "roster.json").read_bytes()
    (two[SHELTER].home / "roster.json").write_bytes(data)
    # The node reads its files again by itself when something unknown arrives.
    await story.later(hours=0.1)
    assert (await story.outgoing())["offer"] == ["delivered"]
    assert len(await story.items("offer")) == 1


async def test_a_forward_that_overtook_its_offer_is_taken_later(two: Federation) -> None:
    story = await begin(two, travel=False)
    answer = (await story.post(await story.wire_of("disclosure"))).answers[0]
    assert answer.result in {"later", "refused"}
    assert not await story.rows(INBOX, at=story.receiver)


async def test_what_replies_to_what_arrived_before_is_taken(two: Federation) -> None:
    """A node of another make may say to which of its own words a changed plan belongs."""
    peer = await LyingPeer.of(two[HELPLINE], two[SHELTER])
    offer = peer.forward()
    referral = read_again(offer.header)["referral"]
    first = peer.forward(Kind.UPDATE, referral=referral, in_reply_to=read_again(offer.header)["id"])
    second = peer.forward(Kind.UPDATE, referral=referral, in_reply_to=read_again(first.header)["id"])
    assert [(await peer.deliver(one))[0].result for one in (offer, first, second)] == ["accepted"] * 3


async def test_somebody_elses_referral_looks_like_none_at_all(four: Federation) -> None:
    story = await begin(four)
    await story.says_no("stop-service", travel=False)
    stop = await story.wire_of("withdrawal")
    embassy, shelter = four[EMBASSY], four[SHELTER]
    body = json.dumps({"envelopes": [stop]}).encode()
    answer = (await embassy.courier._transport.post_envelopes(shelter.member, body, until=math.inf)).answers[0]
    assert (answer.result, code_of(answer)) == ("refused", "wrong-recipient")
    assert (await story.helps.referrals.read(story.id)).state == "received"


async def test_what_comes_from_the_future_is_taken_when_its_time_has_come(two: Federation) -> None:
    story = await begin(two, travel=False)
    wire = await offer_of(story)
    two.clock.pass_by(hours=-1)
    answer = (await story.post(wire)).answers[0]
    assert (answer.result, answer.problem) == ("later", None)
    assert not await story.rows(INBOX, at=story.receiver)
    two.clock.pass_by(hours=1)
    assert (await story.post(wire)).answers[0].result == "accepted"


@pytest.mark.parametrize("count", [0, 51])
async def test_a_batch_has_one_to_fifty_envelopes(two: Federation, count: int) -> None:
    story = await begin(two, travel=False)
    wire = await offer_of(story)
    with pytest.raises(PeerUnreachableError):
        await story.post(*[wire] * count)
    assert not await story.rows(INBOX, at=story.receiver)


@pytest.mark.parametrize(
    ("status", "code"),
    [(502, "no-node-behind-proxy"), (504, "no-node-behind-proxy"), (500, "peer-failed"), (403, "refused-us")],
)
async def test_the_log_says_whom_to_ask_why_a_peer_takes_nothing(two: Federation, status: int, code: str) -> None:
    """A proxy that is there alone refused nobody: whoever is on call there, and not the roster, is to be looked for."""
    node = two[HELPLINE].node
    answers = OverTransport(httpx2.MockTransport(lambda _request: httpx2.Response(status)))
    transport = HTTPTransport(node.agency, node.node_key, node.limits, node.clock, network=answers)
    with pytest.raises(PeerUnreachableError, match=f"^{code}$"):
        await transport.greet(two[SHELTER].member)


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize(
    ("asks", "answer"),
    [
        (lambda way, peer: way.post_envelopes(peer, b"{}", until=math.inf), {"answers": []}),
        (lambda way, peer: way.consent_status(peer, ["0" * 32]), {"receipts": [], "statement": "AA"}),
    ],
    ids=["a batch", "a question about consents"],
)
async def test_a_peer_that_knows_a_token_no_more_is_asked_for_a_fresh_one_once(
    two: Federation, asks: Callable[[HTTPTransport, Member], Awaitable[object]], answer: dict[str, object], taken: bool
) -> None:
    """It was restarted. Neither her no nor she herself waits until the old token has ended."""
    node, shelter, heard = two[HELPLINE].node, two[SHELTER].member, list[str]()

    def answers(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/oauth/token":
            heard.append("asked")
            token = {"access_token": f"token-{heard.count('asked')}", "token_type": "Bearer", "expires_in": 300}
            return httpx2.Response(200, json=token)
        heard.append(request.headers["authorization"].removeprefix("Bearer "))
        known = taken and heard[-1] == "token-2"
        return httpx2.Response(200 if known else 401, json=answer)

    network = OverTransport(httpx2.MockTransport(answers))
    transport = HTTPTransport(node.agency, node.node_key, node.limits, node.clock, network=network)
    if taken:
        await asks(transport, shelter)
    else:
        with pytest.raises(PeerUnreachableError, match="refused-us"):
            await asks(transport, shelter)
    assert heard == ["asked", "token-1", "asked", "token-2"]


@pytest.mark.parametrize(
    ("error", "level", "said"),
    [
        (PeerUnreachableError("timeout"), "info", ("peer-not-reached", {"code": "timeout"})),
        (ValueError("Canary"), "error", ("courier-failed", {"error_type": "ValueError"})),
    ],
)
async def test_the_log_names_the_peer_to_which_nothing_goes(
    two: Federation, monkeypatch: pytest.MonkeyPatch, error: Exception, level: str, said: tuple[str, dict[str, str]]
) -> None:
    """And the courier goes on: whatever one peer does, it is there for the others."""
    log, sender = CapturingLogger(), two[HELPLINE]
    await begin(two, travel=False)

    async def fails(*_: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr(courier, "get_logger", lambda: log)
    monkeypatch.setattr(sender.courier._transport, "post_envelopes", fails)
    assert await sender.courier.run_once() == 1
    event, values = said
    assert log.calls == [(level, (event,), {"peer": SHELTER.agency} | values)]


async def test_a_receipt_for_another_envelope_delivers_nothing(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(settle, "get_logger", lambda: log)
    first, second = await begin(two), await begin(two, travel=False)
    answered = json.loads(two.network.answered[0])
    app = two.network.apps[second.receiver.port]

    class Liar(httpx2.ASGITransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.url.path.endswith("/envelopes"):
                return httpx2.Response(200, json=answered)
            return await app.handle_async_request(request)

    two.network.apps[second.receiver.port] = Liar(app=app.app)
    await second.travel()
    assert (await second.outgoing())["offer"] == ["queued"]
    assert not (await second.flags()).delivered
    assert log.calls[0] == ("warning", ("receipt-refused",), {"peer": SHELTER.agency, "count": 1})
    two.network.apps[second.receiver.port] = app
    await second.later(hours=1)
    assert (await second.flags()).delivered
    assert (await first.flags()).delivered


async def test_a_peer_that_lost_its_disk_gets_every_stop_again_and_the_rest_is_asked_for(two: Federation) -> None:
    since = as_datetime(two.clock() - 1000)
    open_one, stopped = await begin(two), await begin(two)
    await stopped.says_no("stop-service")
    answer = await resync(two[HELPLINE].node, SHELTER.agency, ResyncRequest(since=since))
    assert (answer.stops_queued, answer.referrals_marked) == (1, 1)
    assert (await open_one.flags()).resend
    assert not (await stopped.flags()).resend
    await open_one.travel()
    assert (await stopped.outgoing())["withdrawal"] == ["delivered"]
    await stopped.both_say("withdrawn")


async def test_a_peer_that_asks_for_everything_again_and_again_writes_nothing_more(two: Federation) -> None:
    since, node = as_datetime(two.clock() - 1000), two[HELPLINE].node
    await begin(two)
    stopped = await begin(two)
    await stopped.says_no("stop-service")
    counts = []
    for _ in range(3):
        answer = await resync(node, SHELTER.agency, ResyncRequest(since=since))
        counts.append((answer.stops_queued, answer.referrals_marked))
    assert counts == [(1, 1), (0, 0), (0, 0)]
    assert len(await rows(two[HELPLINE], AUDIT, AUDIT.c.action == "resync")) == 1
    # What it has signed for is queued again when it says that it is lost: no stop is ever held back.
    await two.travel()
    assert (await resync(node, SHELTER.agency, ResyncRequest(since=since))).stops_queued == 1


async def test_a_peer_that_signs_for_a_stop_and_asks_for_it_again_makes_no_list_longer(pair: Federation) -> None:
    """It may do so a hundred times a second; what it costs here is what it takes."""
    since, node = as_datetime(pair.clock() - 1000), pair[HELPLINE].node
    stopped = await begin(pair)
    await stopped.says_no("stop-service")

    async def asks_again() -> list[int]:
        answer = await resync(node, SHELTER.agency, ResyncRequest(since=since))
        assert answer.stops_queued == 1
        await pair.travel()
        assert (await stopped.outgoing())["withdrawal"] == ["delivered"]
        lines = len(await rows(pair[HELPLINE], AUDIT, AUDIT.c.action == "resync"))
        return [lines, (await stopped.changes()).count("stop-delivered")]

    assert [await asks_again() for _ in range(3)] == [[1, 1]] * 3
    pair.clock.pass_by(hours=24)
    assert await asks_again() == [2, 1]
    # Two hours are counted from when it went again, and that nobody has to telephone any more is news.
    pair.leave(SHELTER)
    await resync(node, SHELTER.agency, ResyncRequest(since=since))
    for hours, told in ((0, 0), (2, 1)):
        pair.clock.pass_by(hours=hours)
        await maintain(node)
        assert (await stopped.changes()).count("stop-undelivered") == told
        assert (await stopped.flags()).undeliverable is bool(told)
    pair.come_back(SHELTER)
    await stopped.later(hours=1)
    assert not (await stopped.flags()).undeliverable
    assert await asks_again() == [2, 2]
    # What is marked is told to the audit list each time.
    await begin(pair)
    assert await asks_again() == [3, 2]


async def test_what_was_delivered_before_a_peer_lost_anything_does_not_go_again(two: Federation) -> None:
    stopped = await begin(two)
    await begin(two)
    await stopped.says_no("stop-service")
    two.clock.pass_by(hours=1)
    answer = await resync(two[HELPLINE].node, SHELTER.agency, ResyncRequest(since=as_datetime(two.clock() - 1000)))
    assert (answer.stops_queued, answer.referrals_marked) == (0, 0)


@pytest.mark.parametrize("ahead_ms", [90_000, LIMITS.skew_ms + 1000])
async def test_what_came_after_the_backup_by_the_clock_of_who_lost_it_goes_again(
    two: Federation, ahead_ms: int
) -> None:
    """Each writes down by its own clock when something arrived: these may differ, as on the way between them."""
    open_one, stopped = await begin(two), await begin(two)
    await stopped.says_no("stop-service")
    backup = as_datetime(two.clock() + ahead_ms)
    answer = await resync(two[HELPLINE].node, SHELTER.agency, ResyncRequest(since=backup))
    again = int(ahead_ms < LIMITS.skew_ms)
    assert (answer.stops_queued, answer.referrals_marked) == (again, again)
    assert (await open_one.flags()).resend is (again == 1)
    await two.travel()
    assert (await stopped.outgoing())["withdrawal"] == ["delivered"]


async def test_a_peer_that_says_it_lost_everything_takes_no_proof_and_makes_no_old_stop_late(two: Federation) -> None:
    """Its signature lies here alone. And her no of 400 days ago, which nobody takes now, was told as not arrived."""
    old, stopped = await begin(two), await begin(two)
    for story in (old, stopped):
        await story.says_no("stop-service")
    await old.writes(OUTBOX.update().where(OUTBOX.c.referral == old.id).values(expires_at=two.clock() - 1))
    before, [signed] = await old.outbox_rows(), await receipts_of(stopped)
    two.leave(SHELTER)
    answer = await resync(two[HELPLINE].node, SHELTER.agency, ResyncRequest(since=as_datetime(1)))
    assert answer.stops_queued == 1
    assert (await stopped.outgoing())["withdrawal"] == ["queued"]
    assert signed is not None
    assert await receipts_of(stopped) == [signed]
    await two.travel()
    assert await old.outbox_rows() == before
    assert not (await old.flags()).undeliverable
    assert "withdrawal-expired" not in await old.changes()
    two.come_back(SHELTER)
    await stopped.later(hours=1)
    assert (await stopped.outgoing())["withdrawal"] == ["delivered"]


async def receipts_of(story: Story) -> list[bytes | None]:
    """What the receiver's node has signed for her no, as it lies at the sender's."""
    return [row["receipt"] for row in await story.outbox_rows() if row["kind"] == "withdrawal"]


async def test_a_refusal_by_the_agencys_own_software_is_sent_once(two: Federation) -> None:
    """However often it is said: the sender would take two for two, and a client repeats what was not answered."""
    story = await begin(two)
    offer = await story.offer()
    for code in ("cannot-open", "cannot-open", "over-shared"):
        await story.helps.inbox.refuse(offer, RefusalRequest(code=code))
    await two.travel()
    assert await story.outgoing(at=story.receiver) == {"refusal": ["delivered"]}
    (item,) = await story.items("refusal", at=story.sender)
    assert item.event == "cannot-open"


async def _her_consent_runs_out(_two: Federation, story: Story) -> None:
    await story.later(hours=5)


async def _the_contract_ends(two: Federation, _story: Story) -> None:
    await two.new_roster(contracts=())


@pytest.mark.parametrize("waits", ["offer", "disclosure"])
@pytest.mark.parametrize("ends", [_her_consent_runs_out, _the_contract_ends])
async def test_what_nothing_covers_any_more_when_its_receiver_is_back_does_not_leave(
    two: Federation, waits: str, ends: Callable[[Federation, Story], Awaitable[None]]
) -> None:
    """The receiver would refuse it, if it is honest, and have read it, if it is not."""
    end = (now_of(two) + timedelta(hours=2)).isoformat()
    story = await begin(two, consent={"expires_at": end}, travel=waits == "disclosure")
    if waits == "disclosure":
        await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
        await two[SHELTER].courier.run_once()
        await release_due(two[HELPLINE].node)
    two.leave(SHELTER)
    await two.travel()
    assert (await story.outgoing())[waits] == ["queued"]
    await ends(two, story)
    two.come_back(SHELTER)
    await story.later(hours=1)
    assert waits not in story.kinds_posted()
    assert waits not in await story.outgoing()
    assert (await story.changes())[-1] == f"{waits}-barred"
    flags = await story.flags()
    assert flags.undeliverable if waits == "offer" else flags.awaiting_disclosure


@pytest.mark.parametrize(("before_ms", "leaves"), [(0, False), (1, True)], ids=["at its end", "just before"])
async def test_at_the_moment_her_consent_ends_nothing_leaves_any_more(
    two: Federation, monkeypatch: pytest.MonkeyPatch, before_ms: int, leaves: bool
) -> None:
    """By her receipt, whose end is that of her consent or a little earlier."""
    end = (now_of(two) + timedelta(hours=3)).isoformat()
    story = await begin(two, consent={"expires_at": end}, travel=False)
    header = read_again(from_base64url((await offer_of(story))["header"], member="header", longest=LIMITS.header_bytes))
    at = header["receipt"]["expires"] - before_ms
    monkeypatch.setattr(time, "time_ns", lambda: at * 1_000_000)
    await two[HELPLINE].courier.run_once()
    assert ("offer" in story.kinds_posted()) == leaves
    # Nothing was left to send: that is no peer that fails.
    assert [peer["attempts"] for peer in await rows(two[HELPLINE], PEER)] == [0]


async def test_her_no_leaves_whatever_covers_it(two: Federation) -> None:
    story = await begin(two, consent={"expires_at": (now_of(two) + timedelta(hours=2)).isoformat()})
    two.leave(SHELTER)
    await story.says_no("stop-service")
    await _her_consent_runs_out(two, story)
    await _the_contract_ends(two, story)
    two.come_back(SHELTER)
    await story.later(hours=1)
    await story.both_say("withdrawn")


async def test_what_a_suspended_member_answers_arrives(two: Federation) -> None:
    """It takes no more referrals, and says how those go that it has."""
    story = await begin(two)
    offer, standing = await story.offer(), {SHELTER.agency: Status.SUSPENDED}
    await two.new_roster(member=lambda one: one.model_copy(update={"status": standing.get(one.agency, one.status)}))
    await story.helps.inbox.decide(offer, DecisionRequest(decision="accepted"))
    await story.travel()
    assert await story.outgoing(at=story.receiver) == {"decision": ["delivered"]}
    await story.both_say("accepted")

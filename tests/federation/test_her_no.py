"""Her no: whenever she says it, to whomever, it holds at once here and reaches every holder."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest
from sqlalchemy import update
from support.federation import Federation
from support.lying_peer import LyingPeer
from support.people import CANARIES, CANARY_NAME, consent_request, referral_request
from support.stories import Story, begin, content, now_of, refusal, rows, safe_contact, said_inside, travelled

from contracts.vocabulary import WithdrawalForm
from exchange.cli.examination import Level
from exchange.cli.examining_databases import look_at_destruction
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.keys import ReferralKey
from exchange.envelope.kinds import Kind
from exchange.federation import way
from exchange.federation.transport import HTTPTransport
from exchange.limits import HOUR_MS
from exchange.roster import Member, Status
from exchange.schemas.federation import BatchAnswer
from exchange.schemas.inbox import DecisionRequest, ProgressRequest, RecallAnswerRequest
from exchange.schemas.referrals import ReferralView, WithdrawalRequest
from exchange.settings import Environment, load_settings
from exchange.storage.errors import StorageBusyError
from exchange.storage.peer_leases import PeerLease
from exchange.storage.referrals import record_attestation
from exchange.storage.tables import ATTESTATION, CLIENT_CODE, REFERRAL
from exchange.use_cases import deliver
from exchange.use_cases.acting import Acting
from exchange.use_cases.deliver import Batch, load_next
from exchange.use_cases.errors import InvalidError
from exchange.use_cases.idempotency import Idempotency
from exchange.use_cases.line import Line
from exchange.use_cases.maintain import maintain
from exchange.use_cases.node import Node, as_datetime
from exchange.use_cases.withdraw import withdraw

T = TypeVar("T")


async def attested(story: Story, *, at_sender: bool) -> dict[str, bool]:
    """Who owes a word that it is destroyed, and who has given it."""
    found = await story.rows(ATTESTATION, at=story.sender if at_sender else story.receiver)
    return {row["party"]: row["done_at"] is not None for row in found}


def stops_of(view: ReferralView) -> list[tuple[str, bool]]:
    """What was sent to stop it, and whether the other node has signed for it."""
    assert view.stops is not None
    return [(stop.kind, stop.delivered_at is not None) for stop in view.stops]


async def soon(ask: Callable[[], Awaitable[T]]) -> T:
    """What it says as soon as that is something, or after a while."""
    for _ in range(1000):
        if found := await ask():
            break
        await asyncio.sleep(0.02)
    return found


async def test_stop_sharing_before_the_release_withdraws_the_referral(two: Federation) -> None:
    story = await begin(two)
    await story.says_no("stop-sharing")
    await story.both_say("withdrawn")
    assert "disclosure" not in await story.outgoing()
    assert (await refusal(story.decides("accepted"))).code == "state-forbids"
    inside = await said_inside(two)
    assert not any(word.encode() in inside for word in CANARIES)


async def test_stop_sharing_after_the_release_lets_the_service_go_on_and_nothing_more_flow(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.says_no("stop-sharing")
    await story.both_say("accepted")
    assert [view.flags.sharing_stopped for view in await story.views()] == [True, True]
    posted = len(travelled(two))
    update = story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(two)))
    assert (await refusal(update)).code == "sharing-stopped"
    await story.reports("scheduled", "in-service")
    assert len(travelled(two)) == posted
    assert (await story.asks.referrals.read(story.id)).state == "accepted"
    await story.reports("completed", outcome="service-provided")
    await story.both_say("completed")
    told = await story.opened("progress", at=two[HELPLINE])
    assert told.answer == {"state": "completed"}
    assert b"service-provided" not in await said_inside(two)


@pytest.mark.parametrize("said_to_receiver", [False, True], ids=["said to the sender", "said to the receiver"])
async def test_how_it_goes_stays_at_home_if_it_has_not_left_when_she_stops_sharing(
    two: Federation, said_to_receiver: bool
) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="in-service"))
    assert "progress" in await story.outgoing(at=story.receiver)
    await story.says_no("stop-sharing", by=story.receiver if said_to_receiver else None, travel=False)
    await story.sender.courier.run_once()
    await story.travel()
    assert "progress" not in story.kinds_posted()
    await story.both_say("accepted")
    await story.reports("completed")
    await story.both_say("completed")


async def test_how_it_goes_may_be_on_its_way_when_she_stops_sharing_and_then_both_know_it(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.helps.inbox.report_progress(await story.offer(), ProgressRequest(state="in-service"))
    two.network.answers_lost = True
    await story.receiver.courier.run_once()
    two.network.answers_lost = False
    await story.says_no("stop-sharing")
    await story.later(hours=1)
    await story.both_say("in-service")


@pytest.mark.parametrize("lost", [False, True], ids=["never left", "arrived, and its receipt was lost"])
async def test_the_answer_to_a_recall_travels_although_she_stops_sharing(two: Federation, lost: bool) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service")
    await story.asks.referrals.recall(story.id)
    await story.travel()
    await story.helps.inbox.answer_recall(await story.offer(), RecallAnswerRequest(agreed=False))
    two.network.answers_lost = lost
    if lost:
        await story.receiver.courier.run_once()
    two.network.answers_lost = False
    await story.says_no("stop-sharing", by=story.receiver)
    await story.later(hours=1)
    await story.both_say("in-service")


async def test_the_receiver_refuses_what_is_sent_after_she_stopped_sharing(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(two)))
    wire = await story.wire_of("update")
    await story.says_no("stop-sharing")
    assert "update" not in story.kinds_posted()
    answer = (await story.post(wire)).answers[0]
    assert answer.problem is not None
    assert answer.problem.code == "not-legal"
    assert not await story.items("update")


async def test_a_release_that_had_not_left_is_taken_back_by_her_no(two: Federation) -> None:
    story = await begin(two)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await two[SHELTER].courier.run_once()
    await maintain(two[HELPLINE].node)
    assert (await story.flags()).disclosed
    await story.says_no("stop-sharing")
    assert "disclosure" not in story.kinds_posted()
    await story.both_say("withdrawn")


@pytest.mark.parametrize("where", ["with the batch in hand", "asleep", "at the line", "before the line was there"])
async def test_a_courier_that_stood_still_after_its_last_look_sends_nothing_that_her_no_has_deleted(
    two: Federation, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    story = await begin(two)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await two[SHELTER].courier.run_once()
    await maintain(two[HELPLINE].node)
    said: list[str] = []
    counts = time.clock_gettime

    async def meanwhile() -> None:
        said.append("stop-sharing")
        await story.says_no("stop-sharing", travel=False)

    async def and_stands_still(node: Node, lease: PeerLease, line: Line) -> Batch | None:
        batch = await load_next(node, lease, line)
        if batch is None or said:
            return batch
        await meanwhile()
        if where == "asleep":
            # The lid of the laptop is shut for an hour: the clock that stands still meanwhile says nothing of it.
            slept = {time.CLOCK_BOOTTIME: 3600}
            monkeypatch.setattr(time, "clock_gettime", lambda clock: counts(clock) + slept.get(clock, 0))
            return batch
        return replace(batch, looked_at=batch.looked_at - 3600)

    async def takes_it_late(peer: Member, body: bytes, *, until: float) -> BatchAnswer:
        if not said:
            await meanwhile()
            await asyncio.sleep(0.2)
        return await post(peer, body, until=until)

    async def comes_late(peer: Member) -> str:
        if not said:
            await meanwhile()
            await asyncio.sleep(0.2)
        return await token(peer)

    line = story.sender.courier._transport
    assert isinstance(line, HTTPTransport)
    token, post = line._token, line.post_envelopes
    if where in {"with the batch in hand", "asleep"}:
        monkeypatch.setattr(way, "load_next", and_stands_still)
    else:
        monkeypatch.setattr(deliver, "LOOK_HOLDS_S", 0.1)
        if where == "at the line":
            monkeypatch.setattr(line, "post_envelopes", takes_it_late)
        else:
            monkeypatch.setattr(line, "_token", comes_late)
    await story.sender.courier.run_once()
    assert said
    assert "disclosure" not in story.kinds_posted()
    await two.travel()
    assert "withdrawal" in story.kinds_posted()
    # It had been put on its way: the release stays on record.
    await story.both_say("accepted")
    assert [view.flags.sharing_stopped for view in await story.views()] == [True, True]


async def test_her_no_goes_out_while_destroying_has_to_wait_and_is_attested_only_afterwards(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that can still see the deleted key may last; what is for others does not wait for its end."""
    story = await begin(two)
    sender, ended, tried = story.sender, asyncio.Event(), asyncio.Event()
    real = sender.node.key_store.database.scrub

    async def scrub(table: str) -> None:
        tried.set()
        if not ended.is_set():
            await asyncio.sleep(0.2)
            raise StorageBusyError("A transaction that can see deleted rows did not end in time.")
        await real(table)

    async def own_word() -> bool:
        return (await attested(story, at_sender=True))["own-node"]

    monkeypatch.setattr(sender.node.key_store.database, "scrub", scrub)
    await story.says_no("erase", travel=False)
    tried.clear()
    stop = asyncio.Event()
    running = asyncio.create_task(sender.courier.run(stop))
    try:
        assert await soon(lambda: story.items("withdrawal", at=story.receiver))
        await asyncio.wait_for(tried.wait(), 20)
        assert not await own_word()
        assert (await story.record())["destroyed_at"] is None
        # Whoever looks hears of it when it has lasted.
        settings = load_settings(
            home=sender.home,
            environment=Environment.DEMO,
            public_url=sender.member.node_url,
            database_url=f"sqlite:///{sender.node.database._file.path}",  # type: ignore[union-attr]
        )
        assert list(look_at_destruction(settings, two.clock())) == []
        (finding,) = look_at_destruction(settings, two.clock() + 2 * HOUR_MS)
        assert finding.level is Level.BAD
        ended.set()
        assert await soon(own_word)
        assert list(look_at_destruction(settings, two.clock() + 2 * HOUR_MS)) == []
    finally:
        stop.set()
        await running
    await story.nothing_is_left(at=sender)


async def test_stop_service_ends_the_receivers_work(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service")
    await story.says_no("stop-service")
    await story.both_say("withdrawn")
    assert (await refusal(story.reports("completed"))).code == "state-forbids"
    # Nobody is asked to destroy anything, nor to say so: that is another no.
    assert await attested(story, at_sender=False) == {}
    # It lies here until its retention ends, and nobody reads it any more.
    assert (await refusal(story.opened("disclosure"))).code == "consent-ended"
    await story.later(hours=24 * 91)
    await story.nothing_is_left(at=two[SHELTER])


@pytest.mark.parametrize("said_at_the_receiver", [False, True])
async def test_erase_said_when_only_the_tombstone_is_left_takes_her_code_along(
    pair: Federation, *, said_at_the_receiver: bool
) -> None:
    """Retention leaves it, so that the next referral names her alike; what she wants erased is gone, however late."""
    story = await begin(pair)
    await story.decides("accepted")
    await story.reports("in-service", "completed", outcome="service-provided")
    await story.later(hours=24 * 91)
    await story.nothing_is_left(at=story.sender)
    assert [row["code"] for row in await rows(story.sender, CLIENT_CODE)] == [story.created.client_code]
    await story.says_no("erase", by=story.receiver if said_at_the_receiver else story.sender)
    assert await rows(story.sender, CLIENT_CODE) == []


async def test_what_she_erases_as_a_whole_takes_her_codes_along_also_where_the_tombstone_has_ended(
    on_both: Federation,
) -> None:
    story = await begin(on_both)
    await story.decides("declined", reason="no-capacity")
    (code,) = await rows(story.sender, CLIENT_CODE)
    beside = await story.asks.consents.record(consent_request(SHELTER.agency, subject=code["subject"]))
    await story.later(hours=24 * 365 * 3)
    assert await rows(story.sender, REFERRAL) == []
    await story.asks.withdrawals.of_consent(story.consent, WithdrawalForm.ERASE)
    assert await rows(story.sender, CLIENT_CODE) == [code], "another consent of hers stands"
    await story.asks.withdrawals.of_consent(beside.id, WithdrawalForm.ERASE)
    assert await rows(story.sender, CLIENT_CODE) == []


@pytest.mark.parametrize("form", ["stop-sharing", "stop-service", "erase"])
async def test_a_no_said_before_the_offer_left_leaves_alone(two: Federation, form: str) -> None:
    story = await begin(two, travel=False)
    await story.says_no(form)
    assert "offer" not in story.kinds_posted()
    await story.both_say("withdrawn")
    assert not await story.items("offer")


async def test_erase_at_the_recording_agency_destroys_everywhere_at_once(on_both: Federation) -> None:
    story = await begin(on_both)
    await story.decides("accepted")
    disclosure = (await story.item("disclosure")).id
    offer = await story.offer()
    assert await on_both[SHELTER].node.key_store.get(story.id) is not None
    await story.says_no("erase")
    await story.both_say("withdrawn")
    await story.nothing_is_left(at=on_both[HELPLINE])
    await story.nothing_is_left(at=on_both[SHELTER])
    for item in (disclosure, offer):
        assert (await refusal(story.helps.inbox.open(item))).code == "destroyed"
        assert (await refusal(story.helps.inbox.sealed(item))).code == "destroyed"
    assert (await refusal(story.helps.inbox.contact_advice(offer))).code in {"destroyed", "no-plan"}
    # What she said is still there to be read.
    assert (await story.opened("withdrawal")).item.event == "erase"
    assert await attested(story, at_sender=True) == {"own-node": True, "peer-node": True, "peer-agency": False}
    assert await attested(story, at_sender=False) == {"own-node": True, "own-agency": False, "peer-node": True}
    await story.helps.inbox.attest_erasure(offer)
    await story.travel()
    assert all((await attested(story, at_sender=True)).values())
    assert (await story.helps.inbox.attest_erasure(offer)).repeated
    view = await story.asks.referrals.read(story.id)
    assert {one.party: one.done_at is not None for one in view.attestations} == {
        "own-node": True,
        "peer-node": True,
        "peer-agency": True,
    }
    signed_by = {one.header.event: one.header.signed_by.value for one in travelled(on_both) if one.header.event}
    assert (signed_by["erased-by-node"], signed_by["erased-by-agency"]) == ("node", "agency")


async def test_a_destroyed_referral_cannot_be_offered_again(two: Federation) -> None:
    story = await begin(two)
    offer = travelled(two)[0]
    await story.says_no("erase")
    again = await story.resealed(offer)
    answer = (await story.post(again)).answers[0]
    assert answer.problem is not None
    assert answer.problem.code == "withdrawn"
    repeat = (await story.post(offer.wire)).answers[0]
    assert repeat.result == "accepted"
    await story.nothing_is_left(at=two[SHELTER])


async def test_a_stop_that_overtakes_its_offer_leaves_a_tombstone_that_refuses_it(two: Federation) -> None:
    story = await begin(two, travel=False)
    offer = await story.wire_of("offer")
    await story.says_no("erase")
    answer = (await story.post(offer)).answers[0]
    assert answer.problem is not None
    assert answer.problem.code == "withdrawn"
    assert not await story.items("offer")
    record = await story.record(at=two[SHELTER])
    assert (record["sector"], record["sealed_facts"]) == ("other", None)
    # The agency had nothing of her, and is not asked to say that it is gone.
    assert "own-agency" not in await attested(story, at_sender=False)


async def test_erase_said_to_the_receiver_blocks_at_once_and_destroys_after_a_day(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    offer = await story.offer()
    await story.says_no("erase", by=two[SHELTER])
    await story.both_say("withdrawn")
    assert (await refusal(story.helps.inbox.open(offer))).code == "destroyed"
    assert await two[SHELTER].node.key_store.get(story.id) is not None
    await story.later(hours=23)
    assert (await story.record(at=two[SHELTER]))["destroyed_at"] is None
    assert (await story.record())["destroyed_at"] is None
    await story.later(hours=1.1)
    await story.nothing_is_left(at=two[SHELTER])
    await story.nothing_is_left(at=two[HELPLINE])
    await story.helps.inbox.attest_erasure(offer)
    await story.travel()
    assert (await attested(story, at_sender=True))["peer-agency"]
    # An attestation arrived there too; that is no stop of which somebody waits to hear.
    assert (await story.outgoing())["erasure-receipt"] == ["delivered"]
    assert "stop-delivered" not in await story.changes()


async def test_erase_that_is_said_while_an_answer_is_opened_is_heard_before_it_is_shown(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await begin(two)
    await story.decides("accepted")
    decision = await story.item("decision", at=two[HELPLINE])
    store = two[HELPLINE].node.key_store
    real = store.get_many

    async def erased_meanwhile(referrals: Iterable[str]) -> dict[str, ReferralKey | None]:
        monkeypatch.undo()
        keys = await real(referrals)
        await story.says_no("erase", by=two[SHELTER])
        return keys

    monkeypatch.setattr(store, "get_many", erased_meanwhile)
    assert (await refusal(story.asks.inbox.open(decision.id))).code == "destroyed"


async def test_erase_said_to_the_receiver_long_after_the_end_can_still_be_contested_for_a_day(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service", "completed")
    await story.later(hours=24 * 10)
    await story.says_no("erase", by=two[SHELTER])
    await story.both_say("withdrawn")
    assert (await story.record())["destroyed_at"] is None
    assert (await story.record(at=two[SHELTER]))["blocked_at"] is not None
    await story.later(hours=24.1)
    await story.nothing_is_left(at=two[SHELTER])
    await story.nothing_is_left(at=two[HELPLINE])


async def test_erase_of_what_was_destroyed_already_is_attested_all_the_same(two: Federation) -> None:
    story = await begin(two)
    await story.decides("declined", reason="no-capacity")
    await story.later(hours=25)
    await story.nothing_is_left(at=two[SHELTER])
    await story.says_no("erase")
    assert await attested(story, at_sender=True) == {"own-node": True, "peer-node": True, "peer-agency": False}
    assert (await attested(story, at_sender=False))["own-node"]


async def test_the_same_destruction_is_attested_once_however_often_she_asks(two: Federation) -> None:
    story = await begin(two)
    for _ in range(3):
        await story.says_no("erase")
    assert (await story.outgoing())["erasure-receipt"] == ["delivered"]


@pytest.mark.parametrize(
    ("decision", "kind"), [("accepted", "decision"), ("information-requested", "information-request")]
)
async def test_stop_sharing_before_a_release_holds_back_what_the_receiver_has_not_said_yet(
    two: Federation, decision: str, kind: str
) -> None:
    """It ends the service, so that no answer may leave any more: weaker words would let it say less."""
    story = await begin(two)
    offer = await story.offer()
    two.leave(HELPLINE)
    more = {"fields": ["party"]} if decision == "information-requested" else {}
    await story.decides(decision, **more)
    await story.says_no("stop-sharing", by=two[SHELTER])
    assert (await story.outgoing(at=two[SHELTER])).get(kind, []) in ([], ["deleted"])
    two.come_back(HELPLINE)
    await story.later(hours=25)
    assert set(story.kinds_posted()) == {"offer", "withdrawal"}
    await story.both_say("withdrawn")
    assert (await refusal(story.helps.inbox.open(offer))).code == "consent-ended"


async def test_stop_service_and_then_erase(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.says_no("stop-service")
    assert (await story.record(at=two[SHELTER]))["destroyed_at"] is None
    await story.says_no("erase")
    await story.nothing_is_left(at=two[SHELTER])
    await story.both_say("withdrawn")


@pytest.mark.parametrize("form", ["stop-service", "erase"])
async def test_an_answer_that_waits_for_an_absent_peer_does_not_leave_after_her_no(two: Federation, form: str) -> None:
    story = await begin(two)
    await story.decides("accepted")
    two.leave(HELPLINE)
    await story.reports("in-service")
    assert (await story.outgoing(at=two[SHELTER]))["progress"] == ["queued"]
    await story.says_no(form, by=two[SHELTER])
    assert "progress" not in await story.outgoing(at=two[SHELTER])
    two.come_back(HELPLINE)
    await story.later(hours=25)
    assert "progress" not in story.kinds_posted()
    await story.both_say("withdrawn")


async def test_withdrawing_the_consent_reaches_every_referral_under_it(two: Federation) -> None:
    first = await begin(two)
    second = await begin(two, consent=first.consent)
    await first.decides("accepted")
    answer = await first.asks.withdrawals.of_consent(first.consent, WithdrawalForm.STOP_SERVICE)
    assert {view.id for view in answer.referrals} == {first.id, second.id}
    await first.travel()
    await first.both_say("withdrawn")
    await second.both_say("withdrawn")
    assert (await first.asks.consents.read(first.consent)).state == "withdrawn"
    request = referral_request(SHELTER.agency, first.consent, now=now_of(two))
    problem = await refusal(first.asks.referrals.send(request))
    assert problem.status == 403
    assert len((await first.asks.referrals.changes()).items) > 0


async def test_a_suspended_member_still_hears_her_no(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")

    def suspend(member: Member) -> Member:
        return member.model_copy(update={"status": Status.SUSPENDED}) if member.agency == SHELTER.agency else member

    await two.new_roster(member=suspend, contracts=())
    await story.says_no("erase")
    await story.nothing_is_left(at=two[SHELTER])
    assert (await attested(story, at_sender=True))["peer-node"]


async def test_her_no_waits_for_an_absent_peer_and_arrives_with_its_first_sign_of_life(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    two.leave(SHELTER)
    await story.says_no("erase")
    for _ in range(4):
        await story.later(hours=7)
    assert (await story.outgoing())["withdrawal"] == ["queued"]
    await story.nothing_is_left(at=two[HELPLINE])
    assert (await story.record(at=two[SHELTER]))["state"] == "accepted"
    two.come_back(SHELTER)
    # Nothing is due for up to an hour; any inbound contact of the peer makes it due now.
    await two[HELPLINE].courier.run_once()
    assert (await story.outgoing())["withdrawal"] == ["queued"]
    await story.reports("in-service")
    await story.both_say("withdrawn")
    await story.nothing_is_left(at=two[SHELTER])


@pytest.mark.parametrize("again", [False, True], ids=["something new", "something again"])
async def test_what_a_peer_sends_with_a_token_of_before_is_a_sign_of_life_too(two: Federation, *, again: bool) -> None:
    """Only its line was away for a moment; it does not prove anew who it is, and her no goes at once."""
    story, courier = await begin(two), two[HELPLINE].courier
    peer = await LyingPeer.of(two[SHELTER], two[HELPLINE])
    sent = peer.stop(Kind.RECALL, referral=secrets.token_hex(16))
    await (peer.deliver(sent) if again else peer.token())
    two.leave(SHELTER)
    await story.says_no("stop-service", travel=False)
    await courier.run_once()
    two.come_back(SHELTER)
    await courier.run_once()
    assert (await story.outgoing())["withdrawal"] == ["queued"]
    assert [one.result for one in await peer.deliver(sent)] == ["accepted"]
    await courier.run_once()
    assert (await story.outgoing())["withdrawal"] == ["delivered"]


async def test_her_no_may_be_said_twice_and_in_a_weaker_form_afterwards(two: Federation) -> None:
    story = await begin(two)
    await story.says_no("stop-service")
    await story.says_no("stop-service")
    await story.says_no("stop-sharing")
    await story.both_say("withdrawn")


async def test_nothing_is_told_about_a_withdrawn_referral(two: Federation) -> None:
    story = await begin(two)
    await story.decides("information-requested", fields=["party"])
    await story.says_no("stop-service")
    problem = await refusal(story.asks.referrals.send_information(story.id, content(preferred_name=CANARY_NAME)))
    assert problem.code == "state-forbids"


@pytest.mark.parametrize("form", ["stop-service", "stop-sharing"])
async def test_what_answers_a_question_that_was_given_up_comes_too_late(pair: Federation, form: str) -> None:
    two = pair
    story = await begin(two)
    await (await begin(two)).decides("accepted")  # the shelter has a token, and knows the helpline's card
    await story.helps.inbox.decide(
        await story.offer(), DecisionRequest(decision="information-requested", fields=["party"])
    )
    two.network.answers_lost = True
    await story.receiver.courier.run_once()
    two.network.answers_lost = False
    party = {"adults": 1, "dependants": [], "infant_or_pregnant": False}
    await story.asks.referrals.send_information(story.id, content(party=party))
    await story.says_no(form, by=story.receiver, travel=False)
    await two[HELPLINE].courier.run_once()
    (information,) = [row for row in await story.outbox_rows() if row["kind"] == "information"]
    assert (information["status"], information["problem"]) == ("refused", "not-legal")
    (question,) = [row for row in await story.outbox_rows(at=story.receiver) if row["kind"] == "information-request"]
    assert (question["status"], question["ciphertext"], question["sealed_header"]) == ("deleted", None, None)
    await story.later(hours=1)
    await story.both_say("withdrawn")


async def test_queued_is_about_the_offer_and_not_about_her_no(two: Federation) -> None:
    story = await begin(two, travel=False)
    assert (await story.flags()).queued
    await story.travel()
    await story.says_no("stop-service", travel=False)
    assert (await story.outgoing())["withdrawal"] == ["queued"]
    flags = await story.flags()
    assert (flags.queued, flags.delivered) == (False, True)


@pytest.mark.parametrize(
    ("kind", "said_to_receiver"),
    [("withdrawal", False), ("withdrawal", True), ("recall", False), ("entered-in-error", False)],
    ids=lambda value: str(value).lower(),
)
async def test_a_stop_is_shown_as_not_delivered_until_the_other_node_has_signed_for_it(
    pair: Federation, kind: str, said_to_receiver: bool
) -> None:
    two = pair
    story = await begin(two)
    await (await begin(two)).decides("accepted")  # both know each other's cards
    client = story.helps if said_to_receiver else story.asks
    assert stops_of(await client.referrals.read(story.id)) == []
    before = as_datetime(two.clock())
    two.network.answers_lost = True
    match kind:
        case "recall":
            await story.asks.referrals.recall(story.id)
        case "entered-in-error":
            await story.asks.referrals.enter_in_error(story.id)
        case _:
            (view,) = (await client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SERVICE)).referrals
            assert stops_of(view) == [(kind, False)]
    await two.travel()
    # It has arrived, but nobody here knows that.
    assert stops_of(await client.referrals.read(story.id)) == [(kind, False)]
    assert "stop-delivered" not in await story.changes()
    two.network.answers_lost = False
    await story.later(hours=1)
    view = await client.referrals.read(story.id)
    assert stops_of(view) == [(kind, True)]
    (stop,) = view.stops or ()
    assert before <= stop.made_at <= (stop.delivered_at or before) - timedelta(hours=1)
    # The referring side follows changes; the receiving side has its inbox.
    assert ("stop-delivered" in await story.changes()) is not said_to_receiver


@pytest.mark.parametrize("said_to_receiver", [False, True], ids=["said to the sender", "said to the receiver"])
async def test_who_said_a_stop_is_told_when_it_has_not_arrived_for_two_hours(
    two: Federation, said_to_receiver: bool
) -> None:
    """The other agency has left the federation, and its node is off; months later it is there once more."""
    story = await begin(two)
    await story.decides("accepted")
    speaker, other = (SHELTER, HELPLINE) if said_to_receiver else (HELPLINE, SHELTER)
    await two.new_roster(
        member=lambda one: one.model_copy(update={"status": Status.LEFT}) if one.agency == other.agency else one
    )
    two.leave(other)
    client = story.helps if said_to_receiver else story.asks
    await client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SERVICE)
    await maintain(two[speaker].node)
    assert not (await client.referrals.read(story.id)).flags.undeliverable
    for _ in range(2):
        two.clock.pass_by(hours=2)
        await maintain(two[speaker].node)
        assert (await client.referrals.read(story.id)).flags.undeliverable
    told = [change.what for change in (await story.asks.referrals.changes()).items] if not said_to_receiver else []
    assert told.count("stop-undelivered") == (0 if said_to_receiver else 1)
    two.come_back(other)
    await story.later(hours=24 * 80)
    view = await client.referrals.read(story.id)
    assert (stops_of(view), view.flags.undeliverable) == ([("withdrawal", True)], False)


async def test_it_is_told_also_where_something_else_was_undeliverable_before(two: Federation) -> None:
    """Who telephoned because of a question that was refused in spring is not told by that of her no in summer."""
    story = await begin(two)
    await story.writes(update(REFERRAL).values(undeliverable=True))
    two.leave(SHELTER)
    for form in ("stop-service", "erase"):  # the first one arrives in the end, and the second waits as long again
        await story.says_no(form, travel=False)
        for _ in range(2):
            two.clock.pass_by(hours=2)
            await maintain(two[HELPLINE].node)
        two.come_back(SHELTER)
        await story.later(hours=24)
        two.leave(SHELTER)
        await story.writes(update(REFERRAL).values(undeliverable=True))
    told = await story.changes()
    assert [what for what in told if "deliver" in what] == ["delivered", *["stop-undelivered", "stop-delivered"] * 2]


async def test_once_her_no_is_there_nobody_has_to_telephone_about_a_question_that_she_ended(two: Federation) -> None:
    story = await begin(two)
    await story.offer()
    two.cut_off(HELPLINE)
    await story.decides("information-requested", fields=["party"])
    await story.says_no("stop-service", by=two[SHELTER])
    await story.later(hours=3)
    assert (await story.views())[1].flags.undeliverable
    two.connect(HELPLINE)
    await story.later(hours=3)
    await story.both_say("withdrawn")
    assert not (await story.views())[1].flags.undeliverable


async def test_a_stop_that_never_arrived_is_never_shown_as_delivered(two: Federation) -> None:
    story = await begin(two)
    two.leave(SHELTER)
    await story.says_no("stop-service")
    await story.later(hours=24 * 401)
    assert (await story.outgoing())["withdrawal"] == ["expired"]
    assert stops_of(await story.asks.referrals.read(story.id)) == [("withdrawal", False)]


async def test_erase_said_to_the_receiver_keeps_nothing_longer_than_it_would_have_been_kept(two: Federation) -> None:
    story = await begin(two)
    await story.decides("declined", reason="no-capacity")
    await story.later(hours=23)
    await story.says_no("erase", by=two[SHELTER])
    await story.later(hours=1.1)
    for node in (two[SHELTER], two[HELPLINE]):
        await story.nothing_is_left(at=node)


async def test_of_two_words_that_it_is_destroyed_the_first_stands(two: Federation) -> None:
    story = await begin(two)
    words = [(1, "a" * 64), (2, "b" * 64)]
    database = two[HELPLINE].node.database
    first = [
        await database.write(lambda conn, word=word: record_attestation(conn, story.id, "peer-agency", *word))  # type: ignore[misc]
        for word in words
    ]
    (row,) = await story.rows(ATTESTATION)
    assert (first, (row["done_at"], row["digest"])) == ([True, False], words[0])


async def test_she_says_no_to_a_referral_or_to_a_consent_and_never_to_both_at_once(two: Federation) -> None:
    story = await begin(two)
    named = ({"referral": story.id, "consent": story.consent}, {})
    for members in named:
        request = WithdrawalRequest.model_validate({"form": "stop-service"} | members)
        with pytest.raises(InvalidError) as refused:
            await withdraw(two[HELPLINE].node, Acting("system", "w-1"), request, Idempotency("system", "one", b""))
        assert refused.value.code == "withdrawal-invalid"
    assert await story.outgoing() == {"offer": ["delivered"], "disclosure": ["held"]}

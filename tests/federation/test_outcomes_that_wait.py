"""She stops sharing while it waits to leave how her service ended: only that it is over is told.

The rules of the contract let outcomes travel here, as she does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Delete
from support.blind import Office
from support.federation import Federation, TestNode, federation
from support.other_contract import evaluate_with
from support.people import consent_request, referral_request
from support.stories import Story, begin, said_inside, travelled

from contracts.vocabulary import Feedback, WithdrawalForm
from exchange.client.vault.answering import sealed_answer
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.feedback import Answer, answer
from exchange.referral.answers import Progress, ProgressContent
from exchange.schemas.inbox import DecisionRequest, ProgressRequest
from exchange.schemas.sealing import EnvelopesRequest
from exchange.storage.outbox import OutgoingRecord
from exchange.storage.tables import EVENT, OUTBOX, PEER_EPOCH, REFERRAL
from exchange.use_cases import deliver
from exchange.use_cases.destroy import destroy_referrals
from exchange.use_cases.maintain import maintain
from exchange.use_cases.node import Node

HOW = {"completed": {"outcome": "ended-by-survivor"}, "failed": {"fail_reason": "service-closed"}}


def tells_outcomes(node: Node) -> None:
    """Both agencies adopted that how it ended is told."""
    evaluate_with(node, b"feedback: status", b"feedback: outcome")


async def ended(together: Federation, state: str = "completed") -> Story:
    """A referral whose service has ended; that, and how, waits at the receiver."""
    for one in together.nodes.values():
        tells_outcomes(one.node)
    story = await begin(together)
    await story.decides("accepted")
    await story.reports("in-service" if state == "completed" else "scheduled")
    told = ProgressRequest.model_validate({"state": state} | HOW[state])
    await story.helps.inbox.report_progress(await story.offer(), told)
    return story


async def waiting(story: Story, state: str = "completed") -> dict[str, Any]:
    """The envelope at the receiver that says this."""
    (event,) = [row for row in await story.rows(EVENT, at=story.receiver) if row["name"] == state]
    (row,) = [row for row in await story.rows(OUTBOX, at=story.receiver) if row["digest"] == event["digest"]]
    return row


async def says_no_at_the_receiver(story: Story) -> None:
    await story.says_no("stop-sharing", by=story.receiver, travel=False)


async def execute(at: TestNode, statement: Delete) -> None:
    def delete(conn: Connection) -> None:
        conn.execute(statement)

    await at.node.database.write(delete)


@pytest.mark.parametrize("said_to_receiver", [False, True], ids=["said to the sender", "said to the receiver"])
@pytest.mark.parametrize("state", HOW)
async def test_what_has_not_left_says_only_that_it_is_over(
    pair: Federation, state: str, said_to_receiver: bool
) -> None:
    story = await ended(pair, state)
    before = await waiting(story, state)
    await story.says_no("stop-sharing", by=story.receiver if said_to_receiver else None, travel=False)
    if not said_to_receiver:
        await story.sender.courier.run_once()
    after = await waiting(story, state)
    assert after["id"] != before["id"]
    assert (after["status"], after["attempted_at"]) == ("queued", None)
    assert before["id"] not in {row["id"] for row in await story.outbox_rows(at=story.receiver)}
    await story.travel()
    await story.both_say(state)
    assert [view.flags.sharing_stopped for view in await story.views()] == [True, True]
    assert (await story.opened("progress", at=story.sender)).answer == {"state": state}
    said = await said_inside(pair)
    assert not any(how.encode() in said for how in HOW[state].values())
    sides = [[row for row in await story.rows(EVENT, at=at) if row["name"] == state] for at in pair.nodes.values()]
    assert sides[0] == sides[1]


@pytest.mark.parametrize("state", HOW)
async def test_nor_where_the_receiver_has_destroyed_what_it_knew_meanwhile(two: Federation, state: str) -> None:
    """Its time was over before the answer could leave, as where a contract keeps what is closed for some days only."""
    story = await ended(two, state)
    before = await waiting(story, state)
    await story.is_over(at=story.receiver)
    await destroy_referrals(story.receiver.node, [story.id])
    assert (await waiting(story, state))["id"] == before["id"]
    await story.says_no("stop-sharing", travel=False)
    await story.sender.courier.run_once()
    await story.travel()
    assert (await story.opened("progress", at=story.sender)).answer == {"state": state}
    said = await said_inside(two)
    assert not any(how.encode() in said for how in HOW[state].values())
    assert before["id"] not in {one.header.id for one in travelled(two)}


@pytest.mark.parametrize("destroyed", [False, True], ids=["what it answers is known", "it is not"])
async def test_her_no_counts_where_what_waits_cannot_be_read(two: Federation, destroyed: bool) -> None:
    story = await ended(two)
    before = await waiting(story)
    if destroyed:
        await story.is_over(at=story.receiver)
        await destroy_referrals(story.receiver.node, [story.id])
    damaged = OUTBOX.update().where(OUTBOX.c.id == before["id"]).values(sealed_header=b"damaged")
    await story.receiver.node.database.write(lambda conn: conn.execute(damaged).rowcount)
    await story.says_no("stop-sharing", travel=False)
    await story.travel()
    assert (await story.outgoing())["withdrawal"] == ["delivered"]
    assert (await story.receiver.client().referrals.read(story.id)).flags.sharing_stopped
    told = [(await story.asks.inbox.open(item.id)).answer for item in await story.items("progress", at=story.sender)]
    assert [answer for answer in told if answer is not None and answer["state"] == "completed"] == (
        [] if destroyed else [{"state": "completed"}]
    )
    assert before["id"] not in {one.header.id for one in travelled(two)}


async def test_what_waits_says_less_where_the_referral_cannot_be_read(pair: Federation) -> None:
    story = await ended(pair)
    before = await waiting(story)
    damaged = REFERRAL.update().where(REFERRAL.c.id == story.id).values(sealed_facts=b"damaged")
    await story.receiver.node.database.write(lambda conn: conn.execute(damaged).rowcount)
    await says_no_at_the_receiver(story)
    await story.travel()
    told = [(await story.asks.inbox.open(item.id)).answer for item in await story.items("progress", at=story.sender)]
    assert {"state": "completed"} in told
    assert before["id"] not in {one.header.id for one in travelled(pair)}


async def test_without_her_no_how_it_ended_is_told(two: Federation) -> None:
    story = await ended(two)
    await story.travel()
    assert (await story.opened("progress", at=story.sender)).answer == {"state": "completed"} | HOW["completed"]


async def test_what_may_have_left_goes_again_byte_for_byte(two: Federation) -> None:
    story = await ended(two)
    two.network.answers_lost = True
    await story.receiver.courier.run_once()
    two.network.answers_lost = False
    before = await waiting(story)
    await says_no_at_the_receiver(story)
    assert await waiting(story) == before
    await story.later(hours=1)
    await story.both_say("completed")
    assert [one.header.id for one in travelled(two) if one.header.event == "completed"] == [before["id"]]


async def test_a_courier_that_has_read_it_already_does_not_send_it(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await ended(two)
    real = deliver._on_their_way

    async def her_no_is_faster(node: Node, items: list[OutgoingRecord]) -> list[OutgoingRecord]:
        monkeypatch.setattr(deliver, "_on_their_way", real)
        await says_no_at_the_receiver(story)
        return await real(node, items)

    before = await waiting(story)
    monkeypatch.setattr(deliver, "_on_their_way", her_no_is_faster)
    await story.receiver.courier.run_once()
    await story.travel()
    await story.both_say("completed")
    assert before["id"] not in {one.header.id for one in travelled(two)}
    assert b"ended-by-survivor" not in await said_inside(two)


async def test_she_may_say_it_twice_and_then_more(two: Federation) -> None:
    story = await ended(two)
    await says_no_at_the_receiver(story)
    await says_no_at_the_receiver(story)
    assert (await waiting(story))["status"] == "queued"
    await story.says_no("stop-service", by=story.receiver)
    await story.both_say("withdrawn")
    assert [one.header.event for one in travelled(two) if one.header.kind == "progress"] == ["in-service"]


async def test_it_is_sealed_to_the_latest_key_that_is_known_of_a_peer_that_was_away_for_long(two: Federation) -> None:
    story = await ended(two)
    two.clock.pass_by(hours=24 * 13)
    await maintain(story.sender.node)
    # The last list of its keys that came from it ends with the week in which the service ended.
    told_at = (await waiting(story))["created_at"]
    await execute(story.receiver, PEER_EPOCH.delete().where(PEER_EPOCH.c.not_before > told_at))
    story.receiver.node.epoch_memory.clear()
    await maintain(story.receiver.node)
    await says_no_at_the_receiver(story)
    await story.travel()
    await story.both_say("completed")
    assert (await story.opened("progress", at=story.sender)).answer == {"state": "completed"}


async def test_her_no_counts_although_no_key_of_the_peer_is_known_and_the_state_is_told(two: Federation) -> None:
    story = await ended(two)
    before = await waiting(story)
    await execute(story.receiver, PEER_EPOCH.delete())
    await says_no_at_the_receiver(story)
    assert await waiting(story) == before
    await story.travel()
    await story.both_say("completed")
    assert [view.flags.sharing_stopped for view in await story.views()] == [True, True]


async def _hands_in_how_it_ended(office: Office, referral: str) -> None:
    assert office.vault is not None
    identity = office.vault._identity
    case, view = identity.store.case(referral), await office.client.referrals.read(referral)
    assert case is not None
    content = ProgressContent.model_validate({"state": Progress.COMPLETED} | HOW["completed"])
    word = answer(content, level=Feedback.OUTCOME, sharing_stopped=False)
    assert isinstance(word, Answer)
    sealed = await sealed_answer(identity, office.client, case, view, word)
    await office.client.sealing.hand_in(EnvelopesRequest(envelopes=(sealed.wire,)))


async def test_a_node_without_the_keys_tells_what_was_sealed_and_both_nodes_agree(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as together:
        for one in together.nodes.values():
            tells_outcomes(one.node)
        asks, helps = Office.of(together[HELPLINE]), Office.of(together[SHELTER])
        kept = await asks.client.consents.record(consent_request(SHELTER.agency))
        referral = (await asks.refer(referral_request(SHELTER.agency, kept.id))).id
        await together.travel()
        await helps.open(referral, "offer")
        await helps.decide(referral, DecisionRequest(decision="accepted"))
        await together.travel()
        await helps.report(referral, ProgressRequest(state="in-service"))
        await _hands_in_how_it_ended(helps, referral)
        await helps.client.withdrawals.of_referral(referral, WithdrawalForm.STOP_SHARING)
        await together.travel()
        for office in (asks, helps):
            view = await office.client.referrals.read(referral)
            assert (view.state, view.flags.sharing_stopped) == ("completed", True)
        assert (await asks.open(referral, "progress")).answer == {"state": "completed"} | HOW["completed"]

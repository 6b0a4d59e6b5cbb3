"""A node lost its disk and says since when: stops come again, the rest is asked for; and its backup is all there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from support.federation import Federation, federation
from support.networks import OverTransport
from support.people import consent_request, referral_request
from support.stories import Story, begin, now_of, refusal, safe_contact

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.ids import TAIL_BYTES, timed_id
from exchange.federation.peers import verified_statements
from exchange.federation.transport import HTTPTransport
from exchange.limits import DAY_MS, HOUR_MS
from exchange.roster import Member
from exchange.schemas.federation import ConsentStatusAnswer, ConsentStatusRequest, ResyncRequest
from exchange.schemas.inbox import DecisionRequest
from exchange.startup import open_node
from exchange.storage.database import Connection
from exchange.storage.epochs import own_epochs
from exchange.storage.lost_data import losses
from exchange.storage.tables import CHANGE, CONSENT, EPOCH_PRIVATE, EVENT, INBOX, OUTBOX, REFERRAL, REFERRAL_KEY
from exchange.use_cases.consent_status import consent_status
from exchange.use_cases.describe_node import node_card, readiness
from exchange.use_cases.own_epochs import publish_own_epochs
from exchange.use_cases.resync import note_loss


async def test_stops_come_again_and_open_referrals_are_marked(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER)) as two:
        helpline = two[HELPLINE].client()
        consent = await helpline.consents.record(consent_request(SHELTER.agency))
        kept = await helpline.referrals.send(referral_request(SHELTER.agency, consent.id))
        gone = await helpline.referrals.send(referral_request(SHELTER.agency, consent.id))
        await two.travel()
        await helpline.referrals.recall(gone.id)
        await two.travel()
        shelter = two[SHELTER].node
        transport = HTTPTransport(
            shelter.agency, shelter.node_key, shelter.limits, shelter.clock, network=OverTransport(two.network)
        )
        since = datetime.now(UTC) - timedelta(hours=1)
        answer = await transport.resync(two[HELPLINE].member, ResyncRequest(since=since).model_dump_json().encode())
        await transport.close()
        assert (answer.stops_queued, answer.referrals_marked) == (1, 1)
        assert (await helpline.referrals.read(kept.id)).flags.resend
        before = len(two.network.posted)
        await two.travel()
        assert len(two.network.posted) > before
        assert (await helpline.referrals.read(gone.id)).state == "recalled"


async def test_with_a_new_key_store_weekly_keys_are_published_that_open_something(pair: Federation) -> None:
    """Nobody revoked the lost ones: the node said that it is ready, and what others sealed to it nobody could open."""
    shelter = pair[SHELTER].node
    before = await shelter.database.read(own_epochs)
    await shelter.key_store.database.write(lambda conn: conn.execute(delete(EPOCH_PRIVATE)).rowcount)
    health = await readiness(shelter)
    assert (health.status, health.checks["epoch-key"]) == ("not-ready", "missing")
    for _ in range(2):  # the second time there is nothing to publish
        await publish_own_epochs(shelter)
        now = await shelter.database.read(own_epochs)
        assert len(now) == 2 * len(before)
    assert {row.key_id for row in now} - {row.key_id for row in before} == await shelter.key_store.epoch_key_ids()
    assert (await readiness(shelter)).status == "ready"
    pair.clock.pass_by(hours=2)  # others ask for the card before they seal, where they have not within the hour
    story = await begin(pair)
    assert (await story.opened("offer")).content is not None


async def test_whoever_is_told_that_a_key_is_lost_asks_for_the_keys_of_now(pair: Federation) -> None:
    """Within the hour the card is not asked for: each referral to the restored node ended as undeliverable."""
    shelter = pair[SHELTER].node
    await shelter.key_store.database.write(lambda conn: conn.execute(delete(EPOCH_PRIVATE)).rowcount)
    await publish_own_epochs(shelter)
    sealed_before = await begin(pair)
    flags = (await sealed_before.asks.referrals.read(sealed_before.id)).flags
    assert flags.undeliverable
    story = await begin(pair)
    assert (await story.opened("offer")).content is not None


async def test_a_key_store_that_is_lost_again_and_again_makes_no_card_that_peers_refuse(pair: Federation) -> None:
    """A container without a volume for it: each start publishes anew, and a card has room for so many statements."""
    shelter = pair[SHELTER].node
    for _ in range(6):
        await shelter.key_store.database.write(lambda conn: conn.execute(delete(EPOCH_PRIVATE)).rowcount)
        await publish_own_epochs(shelter)
    card = await node_card(shelter)
    on_it = {statement.key_id for statement in verified_statements(card, pair[SHELTER].member)}
    assert on_it == await shelter.key_store.epoch_key_ids()


async def test_what_a_dump_brings_to_another_server_is_in_the_inbox_when_the_node_has_started(
    pair: Federation,
) -> None:
    shelter, story = pair[SHELTER], await begin(pair)
    if shelter.node.database.dialect == "postgresql":  # SQLite counts no transactions
        # So many the other server had counted.
        await shelter.node.database.write(lambda conn: conn.execute(update(INBOX).values(xid=10**12)).rowcount)
        assert (await story.helps.inbox.list()).items == ()
    async with open_node(shelter.settings):
        pass
    assert [item.referral for item in (await story.helps.inbox.list()).items] == [story.id]


@pytest.mark.parametrize("told", [True, False])
async def test_what_was_disclosed_since_the_backup_is_not_taken_as_ended(pair: Federation, told: bool) -> None:
    """The shelter would otherwise be told that she said no, finally, and lose her contact plan."""
    known = await begin(pair)
    await known.decides("accepted")
    pair.clock.pass_by(hours=0.1)
    since = pair.clock()
    story = await begin(pair)
    await story.decides("accepted")
    item, before = (await story.item("disclosure")).id, (await known.item("disclosure")).id
    await _lose(story)
    if told:
        await note_loss(story.sender.node, since)
    pair.clock.pass_by(hours=2)
    if not told:
        assert (await refusal(story.helps.inbox.open(item))).code == "consent-ended"
        return
    asked = _questions(story)
    for minutes in (0, 1, 57, 4, 1):
        pair.clock.pass_by(hours=minutes / 60)
        assert (await story.helps.inbox.open(item)).content is not None
    # Each hour once, however often it is opened.
    assert len(asked) == 2
    pair.clock.pass_by(hours=71)
    assert (await refusal(story.helps.inbox.open(item))).code == "consent-not-fresh"
    # Her no about what the backup has is an end as ever.
    await known.says_no("stop-service", travel=False)
    assert (await refusal(known.helps.inbox.open(before))).code == "consent-ended"


async def test_who_asks_remembers_what_was_lost_no_longer_than_it_keeps_from_asking(pair: Federation) -> None:
    """What ended, was answered or destroyed since would otherwise stay in memory until the node is started again."""
    since = pair.clock()
    stories = [await begin(pair) for _ in range(3)]
    for story in stories:
        await story.decides("accepted")
    for story in stories[:2]:
        await _lose(story)
    await note_loss(stories[0].sender.node, since)
    asking, asked = stories[0].receiver.node, _questions(stories[0])
    for story, remembered in zip(stories, (1, 1, 0), strict=True):
        pair.clock.pass_by(hours=2)
        assert (await story.helps.inbox.open((await story.item("disclosure")).id)).content is not None
        assert set(asking.consent_lost) == set(asked[-1] if remembered else ())


async def test_only_what_was_made_in_that_time_is_lost(pair: Federation) -> None:
    story = await begin(pair)
    node, at = story.sender.node, pair.clock()
    await note_loss(node, at - DAY_MS)
    asked = [timed_id(when, os.urandom(TAIL_BYTES)) for when in (at - 2 * DAY_MS, at - HOUR_MS, at + HOUR_MS)]
    asked.append("4" * 32)
    answer = await consent_status(node, SHELTER.agency, ConsentStatusRequest(receipts=tuple(asked)))
    assert [one.status for one in answer.receipts] == ["not-live", "lost", "not-live", "not-live"]
    # Told again later, it is the same loss.
    pair.clock.pass_by(hours=2)
    await note_loss(node, at - DAY_MS)
    assert await consent_status(node, SHELTER.agency, ConsentStatusRequest(receipts=tuple(asked[:3]))) is not None
    assert [loss.until <= at + HOUR_MS for loss in await node.database.read(losses)] == [True]


def _questions(story: Story) -> list[Sequence[str]]:
    """What the receiver's node asks from now on."""
    node, asked = story.receiver.node, list[Sequence[str]]()
    real = node.ask_consent_status

    async def asks(peer: Member, receipts: Sequence[str]) -> ConsentStatusAnswer | None:
        asked.append(receipts)
        return await real(peer, receipts)

    node.ask_consent_status = asks
    return asked


async def _lose(story: Story) -> None:
    """The sender's database is one from before this referral."""

    def commit(conn: Connection) -> None:
        for table in (OUTBOX, EVENT, CHANGE):
            conn.execute(table.delete().where(table.c.referral == story.id))
        conn.execute(REFERRAL.delete().where(REFERRAL.c.id == story.id))
        conn.execute(CONSENT.delete().where(CONSENT.c.id == story.consent))

    await story.sender.node.database.write(commit)


async def _lose_keys(story: Story) -> None:
    """The receiver's key store is a new one, beside its main database from a backup."""
    store = story.receiver.node.key_store.database
    await store.write(lambda conn: conn.execute(delete(REFERRAL_KEY)).rowcount)


@pytest.mark.parametrize("decision", ["accepted", "waitlisted"])
async def test_what_cannot_be_opened_any_more_is_not_accepted(pair: Federation, decision: str) -> None:
    """Nobody knew for whom, and she was told that her name would come."""
    story = await begin(pair)
    offer = await story.offer()
    await _lose_keys(story)
    refused = [
        await refusal(story.helps.inbox.open(offer)),
        await refusal(story.helps.inbox.decide(offer, DecisionRequest(decision=decision))),  # type: ignore[arg-type]
    ]
    assert [(one.code, one.who) for one in refused] == [("key-lost", "peer")] * 2
    assert all("Telephone" in one.detail for one in refused)
    assert (await story.asks.referrals.read(story.id)).state == "received"
    act = await story.helps.inbox.decide(offer, DecisionRequest(decision="declined", reason="other"))
    assert act.referral.state == "declined"


async def test_what_is_over_is_said_to_be_over_and_not_lost(pair: Federation) -> None:
    """Its key is gone as it should be, and nobody sends it anew."""
    story = await begin(pair)
    offer = await story.offer()
    await story.says_no("stop-service")
    await _lose_keys(story)
    refused = await refusal(story.helps.inbox.decide(offer, DecisionRequest(decision="accepted")))
    assert refused.code == "state-forbids"


async def test_a_plan_that_comes_after_the_keys_were_lost_is_the_one_that_counts(pair: Federation) -> None:
    """It brought a new key, and what came before could not be opened with that: there was no advice at all."""
    story = await begin(pair)
    await story.decides("accepted")
    lost = (await story.item("disclosure")).id
    await _lose_keys(story)
    assert (await refusal(story.helps.inbox.contact_advice(lost))).code == "key-lost"
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(pair)))
    await story.travel()
    assert (await refusal(story.helps.inbox.open(lost))).code == "key-lost"
    assert (await story.helps.inbox.contact_advice(lost)).may_contact
    opened = await story.helps.inbox.open_many([lost, (await story.item("update")).id])
    assert (len(opened.items), opened.missing) == (1, (lost,))

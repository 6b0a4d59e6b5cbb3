"""What becomes due without anybody calling: told in time, overdue, expired, destroyed, forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Literal

import pytest
from sqlalchemy import Connection, func, select
from support.federation import Federation
from support.stories import Story, begin, content, refusal, rows

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.errors import StorageBusyError
from exchange.storage.key_store import KeyStore
from exchange.storage.referrals import EventRecord, ReferralRecord
from exchange.storage.tables import ATTESTATION, CHANGE, EVENT, INBOX, OUTBOX, REFERRAL
from exchange.use_cases import destroy
from exchange.use_cases import maintain as maintaining
from exchange.use_cases.destroy import destroy_due, destroy_referrals
from exchange.use_cases.facts import open_facts
from exchange.use_cases.maintain import maintain
from exchange.use_cases.row_by_row import pages_due
from exchange.use_cases.transitions import LONGEST_RETENTION_MS, settle_state


@pytest.mark.parametrize(
    ("priority", "hours"),
    [pytest.param("emergency", 0.25, id="emergency"), pytest.param("urgent", 2, id="urgent"),
     pytest.param("routine", 12, id="routine")],
)  # fmt: skip
async def test_an_offer_that_cannot_be_delivered_is_told_in_time(two: Federation, priority: str, hours: float) -> None:
    two.leave(SHELTER)
    story = await begin(two, priority=priority)
    await story.later(hours=hours - 0.01)
    assert not (await story.flags()).undeliverable
    await story.later(hours=0.02)
    flags = await story.flags()
    assert (flags.undeliverable, flags.queued, flags.delivered) == (True, True, False)
    assert "undelivered" in await story.changes()
    assert (await story.asks.referrals.read(story.id)).state == "sent"
    two.come_back(SHELTER)
    await story.later(hours=0.5)
    flags = await story.flags()
    assert (flags.undeliverable, flags.delivered) == (False, True)
    await story.both_say("received")


async def test_a_delivered_offer_is_never_called_undeliverable(two: Federation) -> None:
    story = await begin(two)
    await story.later(hours=3)
    assert not (await story.flags()).undeliverable


async def test_without_an_answer_it_is_overdue_at_respond_by_and_expired_a_day_later(pair: Federation) -> None:
    story = await begin(pair)
    await story.later(hours=23.9)
    assert not (await story.flags()).overdue
    await story.later(hours=0.2)
    flags = await story.flags()
    assert flags.overdue
    assert (await story.outgoing())["disclosure"] == ["held"]
    await story.both_say("received")
    assert (await refusal(story.decides("accepted"))).code == "respond-by-passed"
    await story.later(hours=24)
    await story.both_say("expired")
    assert "held" not in (await story.outgoing()).get("disclosure", [])
    assert [row["ciphertext"] for row in await story.outbox_rows()] == [None] * len(await story.outbox_rows())
    assert story.kinds_posted() == ["offer"]
    assert {"overdue", "expired"} <= set(await story.changes())


async def test_both_nodes_compute_an_expiry_even_before_their_clock_keepers_come_by(two: Federation) -> None:
    story = await begin(two)
    two.clock.pass_by(hours=48.1)
    await story.both_say("expired")
    assert (await refusal(story.asks.referrals.release(story.id))).code == "not-accepted"


async def test_a_decision_made_in_time_counts_although_it_arrives_after_the_expiry(two: Federation) -> None:
    story = await begin(two)
    two.leave(HELPLINE)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    two.clock.pass_by(hours=49)
    await maintain(two[HELPLINE].node)
    two.come_back(HELPLINE)
    assert (await story.asks.referrals.read(story.id)).state == "expired"
    two.clock.pass_by(hours=2)
    await story.travel()
    await story.both_say("accepted")
    flags = await story.flags()
    assert not flags.disclosed
    assert "disclosure" not in story.kinds_posted()


@pytest.mark.parametrize("decision", ["accepted", "waitlisted"])
async def test_a_name_that_ended_with_the_time_to_answer_is_asked_for_after_a_yes_in_time(
    pair: Federation, decision: Literal["accepted", "waitlisted"]
) -> None:
    """Nothing is held any more; the receiver waits for it, and nobody else could know."""
    story = await begin(pair)
    await story.offer()
    pair.leave(HELPLINE)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision=decision))
    pair.clock.pass_by(hours=49)
    await maintain(pair[HELPLINE].node)
    pair.come_back(HELPLINE)
    assert not (await story.flags()).awaiting_disclosure
    assert "disclosure" not in await story.outgoing()
    await story.later(hours=2)
    await story.both_say(decision)
    assert (await story.flags()).awaiting_disclosure
    if decision == "waitlisted":
        await story.decides("accepted")
    await story.asks.referrals.replace_disclosure(story.id, content(safe_contact={"who_initiates": "survivor"}))
    await story.travel()
    assert (await story.opened("disclosure")).content is not None
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (True, False)


@pytest.mark.parametrize(
    ("ends", "kept_hours"),
    [
        pytest.param("declined", 24, id="declined-a-day"),
        pytest.param("recalled", 24, id="recalled-a-day"),
        pytest.param("expired", 24 * 7, id="expired-a-week"),
        pytest.param("completed", 24 * 90, id="closed-ninety-days"),
    ],
)
async def test_what_has_ended_is_destroyed_on_both_nodes_after_its_time(
    two: Federation, ends: str, kept_hours: float
) -> None:
    story = await begin(two)
    await _end(story, ends)
    await story.both_say(ends)
    await story.later(hours=kept_hours - 1)
    if ends != "expired":
        assert (await story.opened("offer")).content is not None
    assert [(await story.record(at=node))["destroyed_at"] for node in (story.sender, story.receiver)] == [None, None]
    await story.later(hours=1.2)
    for node in (story.sender, story.receiver):
        await story.nothing_is_left(at=node)
    assert (await refusal(story.helps.inbox.open(await story.offer()))).code == "destroyed"
    await story.both_say(ends)
    assert {item.kind for item in (await story.helps.inbox.list(status="new")).items} <= {"recall"}


async def _end(story: Story, how: str) -> None:
    await story.offer()
    if how == "declined":
        await story.decides("declined", reason="no-capacity")
    elif how == "recalled":
        await story.asks.referrals.recall(story.id)
        await story.travel()
    elif how == "expired":
        await story.later(hours=48.01)
    else:
        await story.decides("accepted")
        await story.reports("in-service", "completed")


async def test_a_tombstone_is_forgotten_after_two_years(two: Federation) -> None:
    story = await begin(two)
    await story.decides("declined", reason="no-capacity")
    await story.later(hours=24.1)
    tombstone = await story.record()
    assert (tombstone["state"], tombstone["sector"], tombstone["sealed_facts"]) == ("declined", "accommodation", None)
    await story.later(hours=24 * 729)
    assert (await story.record())["state"] == "declined"
    await story.later(hours=24 * 1.1)
    for node in (story.sender, story.receiver):
        for table in (REFERRAL, EVENT, CHANGE, ATTESTATION, INBOX, OUTBOX):
            assert await rows(node, table) == []


async def test_what_is_said_of_a_tombstone_does_not_shorten_its_time(two: Federation) -> None:
    story = await begin(two)
    await _end(story, "completed")
    await story.later(hours=24 * 90 + 1)
    times = ("closed_at", "destroy_at", "destroyed_at", "forget_at")
    before = [await story.record(at=node) for node in (story.sender, story.receiver)]
    await story.says_no("erase")
    for node, row in zip((story.sender, story.receiver), before, strict=True):
        after = await story.record(at=node)
        assert after["blocked_at"] is not None
        assert [after[time] for time in times] == [row[time] for time in times]


@pytest.mark.parametrize("form", ["stop-service", "erase"])
async def test_a_tombstone_is_not_forgotten_while_her_no_waits(two: Federation, form: str) -> None:
    story = await begin(two)
    await _end(story, "declined")
    await story.later(hours=24 * 730)
    two.leave(SHELTER)
    await story.says_no(form)
    await story.later(hours=24 * 3)
    assert (await story.outgoing())["withdrawal"] == ["queued"]
    two.come_back(SHELTER)
    await story.later(hours=12)
    assert [item.event for item in await story.items("withdrawal")] == [form]
    await story.later(hours=1)
    assert await story.rows(REFERRAL) == []


@pytest.mark.parametrize("here", [True, False], ids=["said here", "arrives"])
async def test_nor_where_her_no_comes_while_it_is_being_forgotten(
    two: Federation, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    story = await begin(two)
    await _end(story, "declined")
    await story.later(hours=24 * 730)
    if here:
        two.leave(SHELTER)
    else:
        await story.says_no("erase", travel=False)

    async def and_then(*args: Any) -> AsyncIterator[list[ReferralRecord]]:
        async for page in pages_due(*args):
            await (story.says_no("erase", travel=False) if here else story.sender.courier.run_once())
            yield page

    node = story.sender if here else story.receiver
    with monkeypatch.context() as during:
        during.setattr(maintaining, "pages_due", and_then)
        two.clock.pass_by(hours=48)
        await maintaining._forget(node.node)
    if here:
        assert (await story.outgoing())["withdrawal"] == ["queued"]
    else:
        assert [item.event for item in await story.items("withdrawal")] == ["erase"]


async def test_an_open_referral_is_not_destroyed_by_any_clock(two: Federation) -> None:
    story = await begin(two)
    await story.decides("accepted")
    await story.reports("in-service")
    await story.later(hours=24 * 200)
    assert (await story.opened("disclosure")).content is not None


async def test_what_has_piled_up_is_expired_and_destroyed_in_slices(
    on_both: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After days off there is much at once, and whoever hands in or receives waits for no more than a slice."""
    first = await begin(on_both, travel=False)
    stories = [first, *[await begin(on_both, consent=first.consent, travel=False) for _ in range(4)]]
    node, changed = first.sender.node, list[int]()
    write = node.database.write

    async def counted(function: Callable[[Any], Any], **how: Any) -> Any:
        def run(conn: Any) -> Any:
            before = _settled(conn)
            result = function(conn)
            changed.append(_settled(conn) - before)
            return result

        return await write(run, **how)

    for module in (maintaining, destroy):
        monkeypatch.setattr(module, "AT_ONCE", 2)
    monkeypatch.setattr(node.database, "write", counted)
    on_both.clock.pass_by(hours=24 * 15)
    await maintaining._expire_envelopes(node)
    assert [row["status"] for row in await rows(first.sender, OUTBOX) if row["kind"] == "offer"] == ["expired"] * 5
    assert (max(changed), sum(changed)) == (2, 10)
    changed.clear()
    await maintain(node)
    assert await destroy_due(node) == 0
    on_both.clock.pass_by(hours=24 * 400)
    changed.clear()
    assert await destroy_due(node) == len(stories)
    assert all(row["destroyed_at"] is not None for row in await rows(first.sender, REFERRAL))
    assert (max(changed), sum(changed)) == (2, 5)


def _settled(conn: Connection) -> int:
    """How many envelopes have expired, and how many referrals are destroyed."""
    expired = select(func.count()).select_from(OUTBOX).where(OUTBOX.c.status == "expired")
    destroyed = select(func.count()).select_from(REFERRAL).where(REFERRAL.c.destroyed_at.is_not(None))
    return int(conn.execute(expired).scalar_one() + conn.execute(destroyed).scalar_one())


async def test_a_yes_in_time_that_comes_while_it_is_destroyed_is_not_lost(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the keys are gone from the files it takes seconds. What came before them is lost, and nothing else."""
    story = await begin(pair)
    await story.decides("information-requested", fields=["party"])
    question = (await story.item("information-request", at=story.sender)).id
    pair.leave(HELPLINE)
    await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    node, real = pair[HELPLINE].node, KeyStore.destroy
    for hours in (49, 24 * 7.1):
        pair.clock.pass_by(hours=hours)
        await maintain(node)
    pair.come_back(HELPLINE)

    async def destroy(store: KeyStore, referrals: Iterable[str]) -> None:
        await real(store, referrals)
        await pair[SHELTER].courier.run_once()

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(KeyStore, "destroy", destroy)
        await destroy_due(node)
    await story.both_say("accepted")
    flags = await story.flags()
    assert (flags.destroyed, flags.awaiting_disclosure) == (False, True)
    assert (await story.opened("decision", at=story.sender)).answer == {"decision": "accepted"}
    assert (await refusal(story.asks.inbox.open(question))).code == "key-lost"
    await story.asks.referrals.replace_disclosure(story.id, content(safe_contact={"who_initiates": "survivor"}))
    await story.travel()
    assert (await story.opened("disclosure")).content is not None


@pytest.mark.parametrize("over", [True, False])
async def test_what_is_being_destroyed_is_said_to_be_destroyed_and_not_lost(
    pair: Federation, monkeypatch: pytest.MonkeyPatch, over: bool
) -> None:
    """Its keys have gone first, and the rows wait until these are gone from the files: nobody sends it anew."""
    story = await begin(pair)
    await story.decides("declined", reason="no-capacity")
    node, offer = story.receiver.node, await story.offer()

    async def scrub(_table: str) -> None:
        raise StorageBusyError("A transaction that can see deleted rows did not end in time.")

    pair.clock.pass_by(hours=24.1 if over else 23.9)
    monkeypatch.setattr(node.key_store.database, "scrub", scrub)
    with pytest.raises(StorageBusyError):
        await destroy_referrals(node, [story.id])
    assert (await story.record(at=story.receiver))["destroyed_at"] is None
    assert (await refusal(story.helps.inbox.open(offer))).code == ("destroyed" if over else "key-lost")


async def test_nothing_is_kept_for_more_than_a_year_whatever_a_contract_said(two: Federation) -> None:
    story, at = await begin(two), two.clock()
    record = ReferralRecord(**await story.record())
    assert record.sealed_facts is not None
    facts = open_facts(two[HELPLINE].node, story.id, record.sealed_facts)
    longer = facts.model_copy(update={"retention_declined_s": 400 * 86_400})
    declined = EventRecord(story.id, "receiving", at, "declined", 0, at)
    events = [EventRecord(**row) for row in await story.rows(EVENT)]
    settled = settle_state(record, lambda: longer, [*events, declined], at=at)
    assert (settled.state, settled.destroy_at) == ("declined", at + LONGEST_RETENTION_MS)

"""One row that cannot be read, damaged or of a newer version, is passed over on the way between two nodes.

What is of it waits where it lies. Everything else goes: to the same peer, in the same batch, on the same page.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import CapturingLogger
from support.federation import CARD_PATH, Federation, TestNode
from support.replaced_keys import another_node_key, listed, started_with
from support.stories import Story, begin, refusal, rows, travelled

from contracts.vocabulary import WithdrawalForm
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.limits import HOUR_MS
from exchange.schemas.federation import ResyncRequest
from exchange.schemas.inbox import DecisionRequest
from exchange.schemas.shapes import to_millis
from exchange.storage.referrals import EventRecord
from exchange.storage.tables import AUDIT, CONSENT, EVENT, INBOX, OUTBOX, PEER, REFERRAL
from exchange.use_cases import resync as resync_module
from exchange.use_cases import row_by_row
from exchange.use_cases.leasing import next_wait_ms
from exchange.use_cases.node import as_datetime
from exchange.use_cases.poll_inbox import list_inbox
from exchange.use_cases.resync import resync

DAMAGED = {"sealed_header": b"damaged"}
LATER_KIND = {"kind": "of-a-later-version"}
LOGGED = ("error", ("row-unreadable",))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    """What is said of rows that cannot be read."""
    said = CapturingLogger()
    monkeypatch.setattr(row_by_row, "get_logger", lambda: said)
    return said


async def change(node: TestNode, table: Any, where: Any, **values: Any) -> None:
    """Somebody writes this into the node's main database."""
    await node.node.database.write(lambda conn: conn.execute(table.update().where(where).values(values)).rowcount)


async def stories_of(together: Federation, count: int, *, travel: bool = True) -> list[Story]:
    first = await begin(together, travel=False)
    stories = [first, *[await begin(together, consent=first.consent, travel=False) for _ in range(count - 1)]]
    if travel:
        await together.travel()
    return stories


async def waits_ms(together: Federation, plan: AgencyPlan = HELPLINE) -> int:
    return await next_wait_ms(together[plan].node, HOUR_MS)


def posted_of(story: Story) -> int:
    return sum(one.header.referral == story.id for one in travelled(story.together))


@pytest.mark.parametrize("what", [DAMAGED, LATER_KIND], ids=["damaged", "of a later version"])
async def test_what_lies_behind_it_in_the_outbox_goes(
    pair: Federation, log: CapturingLogger, what: dict[str, Any]
) -> None:
    bad, good = await stories_of(pair, 2, travel=False)
    sender = bad.sender
    await change(sender, OUTBOX, (OUTBOX.c.referral == bad.id) & (OUTBOX.c.kind == "offer"), **what)
    [before] = [row for row in await bad.outbox_rows() if row["status"] == "queued"]
    await pair.travel()
    assert (await good.flags()).delivered
    await good.says_no("erase")
    assert (await good.outgoing())["withdrawal"] == ["delivered"]
    # It stays as it is, and nothing of it leaves.
    [after] = [row for row in await bad.outbox_rows() if row["status"] == "queued"]
    assert after == before
    assert posted_of(bad) == 0
    said = {"kind": "outbox", "error_type": "SealedRowError" if what is DAMAGED else "KeyError"}
    assert log.calls == [(*LOGGED, {"peer": SHELTER.agency, **said})]


async def test_it_alone_makes_nobody_due_and_what_is_new_goes_at_once(pair: Federation) -> None:
    bad, good = await stories_of(pair, 2, travel=False)
    sender = bad.sender
    await change(sender, OUTBOX, OUTBOX.c.referral == bad.id, **DAMAGED)
    await sender.courier.run_once()
    assert await waits_ms(pair) > 0
    assert (await good.flags()).delivered
    # Where nothing else waits: the peer is not taken up again and again, nor asked for anything.
    pair.clock.pass_by(hours=1)
    asked = len(pair.network.paths)
    assert await sender.courier.run_once() == 1
    assert await sender.courier.run_once() == 0
    assert await waits_ms(pair) > 0
    assert set(pair.network.paths[asked:]) <= {CARD_PATH}
    await good.says_no("stop-service", travel=False)
    assert await sender.courier.run_once() == 1
    assert (await good.outgoing())["withdrawal"] == ["delivered"]
    assert await waits_ms(pair) > 0


async def test_it_goes_when_it_can_be_read_again(pair: Federation) -> None:
    [bad] = await stories_of(pair, 1, travel=False)
    [row] = [row for row in await bad.outbox_rows() if row["status"] == "queued"]
    await change(bad.sender, OUTBOX, OUTBOX.c.id == row["id"], **DAMAGED)
    await pair.travel()
    await change(bad.sender, OUTBOX, OUTBOX.c.id == row["id"], sealed_header=row["sealed_header"])
    await bad.later(hours=1)
    assert (await bad.flags()).delivered


async def test_of_a_batch_only_what_is_about_that_referral_waits_at_the_receiver(
    pair: Federation, log: CapturingLogger
) -> None:
    bad, good = await stories_of(pair, 2)
    receiver, [lay] = bad.receiver, await bad.rows(REFERRAL, at=bad.receiver)
    await change(receiver, REFERRAL, REFERRAL.c.id == bad.id, sealed_facts=b"damaged")
    await bad.says_no("stop-service", travel=False)
    await good.says_no("stop-service", travel=False)
    await pair.travel()
    assert (await bad.outgoing())["withdrawal"] == ["queued"]
    assert (await good.outgoing())["withdrawal"] == ["delivered"]
    assert len(await good.items("withdrawal")) == 1
    assert await bad.items("withdrawal") == []
    assert 0 < await waits_ms(pair) <= 30_000
    said = {"peer": HELPLINE.agency, "kind": "referral", "error_type": "SealedRowError"}
    assert log.calls == [(*LOGGED, said)]
    # And what comes new goes at once.
    third = await begin(pair, travel=False)
    await bad.sender.courier.run_once()
    assert (await third.flags()).delivered
    await change(receiver, REFERRAL, REFERRAL.c.id == bad.id, sealed_facts=lay["sealed_facts"])
    await bad.later(hours=1)
    assert (await bad.outgoing())["withdrawal"] == ["delivered"]
    await bad.both_say("withdrawn")


@pytest.mark.parametrize("where", ["state", "event", "facts"])
async def test_a_referral_of_a_later_version_holds_up_no_other(pair: Federation, where: str) -> None:
    bad, good = await stories_of(pair, 2)
    node = bad.receiver
    if where == "event":
        await change(node, EVENT, EVENT.c.referral == bad.id, name="of-a-later-version")
    else:
        facts = node.node.seal_row(b'{"of-a-later-version":1}', "referral", "sealed_facts", bad.id)
        values = {"state": "of-a-later-version"} if where == "state" else {"sealed_facts": facts}
        await change(node, REFERRAL, REFERRAL.c.id == bad.id, **values)
    for story in (bad, good):
        await story.says_no("stop-service", travel=False)
    await pair[HELPLINE].courier.run_once()
    assert (await bad.outgoing())["withdrawal"] == ["queued"]
    assert (await good.outgoing())["withdrawal"] == ["delivered"]


async def test_what_the_peer_has_signed_for_is_written_down_whatever_row_cannot_be_changed(
    pair: Federation, log: CapturingLogger
) -> None:
    """It has expired, which asks what its contract says of it; and that lies in the row that cannot be read."""
    bad, good = await stories_of(pair, 2, travel=False)
    pair.leave(SHELTER)
    await change(bad.sender, REFERRAL, REFERRAL.c.id == bad.id, sealed_facts=b"damaged", respond_by=1)
    pair.come_back(SHELTER)
    assert await bad.sender.courier.run_once() == 1
    assert (await bad.outgoing())["offer"] == ["queued"]
    assert (await good.outgoing())["offer"] == ["delivered"]
    assert await waits_ms(pair) > 0
    assert log.calls == [(*LOGGED, {"peer": SHELTER.agency, "kind": "referral", "error_type": "SealedRowError"})]


async def her_no_beside_what_cannot_be_changed(pair: Federation) -> tuple[Story, Story]:
    """Of the first an event cannot be read, and its offer waits; of the other the facts, which her no does not need."""
    stopped = await begin(pair)
    bad = await begin(pair, travel=False)
    event = EventRecord(bad.id, "receiving", 1, "of-a-later-version", 0, 1)
    await bad.writes(
        EVENT.insert().values(event._asdict()),
        REFERRAL.update().where(REFERRAL.c.id == stopped.id).values(sealed_facts=b"damaged"),
    )
    await stopped.says_no("stop-service", travel=False)
    return bad, stopped


async def test_her_no_that_has_arrived_is_told_whatever_other_row_cannot_be_read(
    pair: Federation, log: CapturingLogger
) -> None:
    bad, stopped = await her_no_beside_what_cannot_be_changed(pair)
    assert await bad.sender.courier.run_once() == 1
    assert (await bad.outgoing())["offer"] == ["queued"]
    assert (await stopped.outgoing())["withdrawal"] == ["delivered"]
    assert "stop-delivered" in await stopped.changes()
    assert await waits_ms(pair) > 0
    assert log.calls == [(*LOGGED, {"peer": SHELTER.agency, "kind": "referral", "error_type": "KeyError"})]


async def test_her_no_is_signed_anew_whatever_other_row_cannot_be_read(pair: Federation) -> None:
    bad, stopped = await her_no_beside_what_cannot_be_changed(pair)
    new = another_node_key()
    await listed(pair, HELPLINE, node_key=new)
    async with started_with(pair, HELPLINE, node_key=new):
        await stopped.later(hours=1)
        assert (await bad.outgoing())["offer"] == ["queued"]
        assert (await stopped.outgoing())["withdrawal"] == ["delivered"]


async def test_what_may_not_leave_is_destroyed_whatever_other_row_cannot_be_read(pair: Federation) -> None:
    bad, good = await stories_of(pair, 2, travel=False)
    await change(bad.sender, REFERRAL, REFERRAL.c.id == bad.id, sealed_facts=b"damaged", respond_by=1)
    await pair.new_roster(contracts=(), known_to=[HELPLINE])
    assert await bad.sender.courier.run_once() == 1
    assert (await bad.outgoing())["offer"] == ["queued"]
    assert "offer" not in await good.outgoing()
    assert (await good.flags()).undeliverable
    assert await waits_ms(pair) > 0


@pytest.mark.parametrize(
    ("table", "column", "later"),
    [(CONSENT, "sealed_record", True), (CONSENT, "sealed_record", False), (REFERRAL, "sealed_facts", False)],
    ids=["consent of a later version", "consent damaged", "referral damaged"],
)
async def test_under_another_roster_a_forward_waits_where_its_consent_or_referral_cannot_be_read(
    pair: Federation, log: CapturingLogger, table: Any, column: str, later: bool
) -> None:
    """The gate is asked again then, and has no answer: that is no reason to destroy it, nor to hold up her no."""
    gone = await begin(pair)
    bad, good = [await begin(pair, travel=False) for _ in range(2)]
    sender, row = bad.sender, bad.consent if table is CONSENT else bad.id
    [lay] = await rows(sender, table, table.c.id == row)
    strange = b"damaged"
    if later:
        strange = sender.node.seal_row(b'{"of-a-later-version":1}', "consent", "sealed_record", row)
    await change(sender, table, table.c.id == row, **{column: strange})
    await gone.says_no("stop-service", travel=False)
    await pair.new_roster()
    before = await bad.outbox_rows()
    assert await sender.courier.run_once() == 1
    assert (await gone.outgoing())["withdrawal"] == ["delivered"]
    assert (await good.flags()).delivered
    assert (await bad.outgoing())["offer"] == ["queued"]
    assert await bad.outbox_rows() == before
    assert posted_of(bad) == 0
    assert not (await bad.flags()).undeliverable
    assert log.calls == [(*LOGGED, {"peer": SHELTER.agency, "kind": "referral", "error_type": "SealedRowError"})]
    # It makes nobody due, and goes when it can be read again.
    assert await waits_ms(pair) > 0
    await change(sender, table, table.c.id == row, **{column: lay[column]})
    await bad.later(hours=1)
    assert (await bad.flags()).delivered


@pytest.mark.parametrize("later", [True, False], ids=["of a later version", "damaged"])
async def test_a_consent_that_cannot_be_read_is_told_as_what_it_is(pair: Federation, later: bool) -> None:
    story = await begin(pair)
    sender, consents, no = story.sender, story.asks.consents, story.asks.withdrawals
    [lay] = await rows(sender, CONSENT, CONSENT.c.id == story.consent)
    strange = sender.node.seal_row(b'{"of-a-later-version":1}', "consent", "sealed_record", story.consent)
    await change(sender, CONSENT, CONSENT.c.id == story.consent, sealed_record=strange if later else b"damaged")
    for asked in (consents.read(story.consent), no.of_consent(story.consent, WithdrawalForm.STOP_SERVICE)):
        problem = await refusal(asked)
        assert (problem.status, problem.code) == (422, "sealed-row")
    # Each referral under it can still be stopped.
    await story.says_no("stop-service")
    await story.both_say("withdrawn")
    await change(sender, CONSENT, CONSENT.c.id == story.consent, sealed_record=lay["sealed_record"])
    assert (await consents.read(story.consent)).state == "given"


async def test_an_answer_waits_where_the_sender_cannot_read_its_referral(pair: Federation) -> None:
    bad, good = await stories_of(pair, 2)
    await change(bad.sender, REFERRAL, REFERRAL.c.id == bad.id, sealed_facts=b"damaged")
    for story in (bad, good):
        await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await pair[SHELTER].courier.run_once()
    assert (await bad.outgoing(at=bad.receiver))["decision"] == ["queued"]
    assert (await good.outgoing(at=good.receiver))["decision"] == ["delivered"]


async def test_a_page_of_the_inbox_lists_it_without_what_its_header_says(
    pair: Federation, log: CapturingLogger
) -> None:
    bad, good = await stories_of(pair, 2)
    helps = good.helps
    [lay] = await rows(bad.receiver, INBOX, INBOX.c.referral == bad.id)
    await change(bad.receiver, INBOX, INBOX.c.id == lay["id"], **DAMAGED)
    page = await helps.inbox.list()
    assert [item.referral for item in page.items] == [bad.id, good.id]
    assert not page.unreadable
    shown, whole = page.items
    assert (shown.id, shown.kind, shown.status, shown.state) == (lay["id"], "offer", "new", "received")
    assert (to_millis(shown.received_at), shown.cursor) == (lay["received_at"], str(lay["seq"]))
    assert (shown.priority, shown.purpose) == (None, None)
    assert None not in {whole.priority, whole.purpose}
    assert not (await helps.inbox.list(page.next_cursor)).items
    assert (await refusal(helps.inbox.open(shown.id))).code == "sealed-row"
    assert (await helps.inbox.open(whole.id)).content is not None
    opened = await helps.inbox.open_many([shown.id, whole.id])
    assert [one.item.id for one in opened.items] == [whole.id]
    assert opened.missing == (shown.id,)
    assert (await helps.inbox.acknowledge(shown.id)).status == "acknowledged"
    assert log.calls == [(*LOGGED, {"kind": "inbox", "error_type": "SealedRowError"})]


LATER_WORDS = pytest.mark.parametrize(
    ("table", "column"),
    [(REFERRAL, "state"), (REFERRAL, "sector"), (INBOX, "kind")],
    ids=["state", "sector", "kind"],
)


async def of_a_later_version(story: Story, table: Any, column: str) -> None:
    of_it = table.c.id if table is REFERRAL else table.c.referral
    await change(story.receiver, table, of_it == story.id, **{column: "of-a-later-version"})


@LATER_WORDS
async def test_a_page_leaves_out_what_has_a_word_of_a_later_version_and_passes_it(
    pair: Federation, log: CapturingLogger, table: Any, column: str
) -> None:
    first, good, last = await stories_of(pair, 3)
    lay = {one.referral: one.cursor for one in (await good.helps.inbox.list()).items}
    for bad in (first, last):
        await of_a_later_version(bad, table, column)
    await good.says_no("stop-service")
    inbox = good.helps.inbox
    assert [(one.referral, one.kind) async for one in inbox.pages()] == [(good.id, "offer"), (good.id, "withdrawal")]
    # What is left out is passed in front of an item, and behind the last one.
    page = await inbox.list(limit=2)
    assert [one.referral for one in page.items] == [good.id]
    assert page.next_cursor == lay[good.id]
    page = await inbox.list(page.next_cursor, limit=1)
    assert [one.kind for one in page.items] == ["withdrawal"]
    assert (await inbox.list(limit=3)).next_cursor == lay[last.id]
    said = (*LOGGED, {"kind": "inbox", "error_type": "ValidationError"})
    assert log.calls == [said, said]


@LATER_WORDS
async def test_a_page_on_which_nothing_can_be_told_is_the_end_of_the_list_and_no_cursor_stays(
    pair: Federation, table: Any, column: str
) -> None:
    """An empty page ends the list for whoever reads it: there must be nothing behind it, and it is not read again."""
    stories = await stories_of(pair, 3)
    inbox = stories[0].helps.inbox
    last = (await inbox.list()).items[-1].cursor
    for bad in stories:
        await of_a_later_version(bad, table, column)
    for status in (None, "new"):
        page = await inbox.list(status=status, limit=1)
        assert (page.items, page.next_cursor) == ((), last)
    new = await begin(pair, consent=stories[0].consent)
    page = await inbox.list(page.next_cursor)
    assert [one.referral for one in page.items] == [new.id]
    assert [one.referral async for one in inbox.pages(status="new")] == [new.id]


@LATER_WORDS
async def test_nor_does_it_hide_what_has_to_be_answered_next(pair: Federation, table: Any, column: str) -> None:
    bad, good, after = await stories_of(pair, 3)
    await of_a_later_version(bad, table, column)
    for limit, shown in ((1, [good.id]), (2, [good.id, after.id]), (3, [good.id, after.id])):
        page = await list_inbox(bad.receiver.node, order="urgent", limit=limit)
        assert [one.referral for one in page.items] == shown
        # Only where something is behind the page.
        assert (page.next_cursor is None) == (after.id in shown)


async def test_a_long_poll_waits_behind_what_it_leaves_out(pair: Federation) -> None:
    """Else whoever polls would come again at once, and at once, for nothing."""
    [bad] = await stories_of(pair, 1)
    await of_a_later_version(bad, REFERRAL, "state")
    poll = asyncio.create_task(bad.helps.inbox.list(wait_s=20))
    new = await begin(pair, consent=bad.consent)
    assert [one.referral for one in (await poll).items] == [new.id]


async def test_state_and_changes_are_told_of_a_referral_that_cannot_be_read(pair: Federation) -> None:
    bad, good = await stories_of(pair, 2)
    for node in (bad.sender, bad.receiver):
        await change(node, REFERRAL, REFERRAL.c.id == bad.id, sealed_facts=b"damaged")
    assert [view.state.value for view in await bad.views()] == ["received", "received"]
    changes = (await bad.asks.referrals.changes()).items
    assert {change.referral.id for change in changes} == {bad.id, good.id}


@pytest.mark.parametrize("where", ["event", "facts"])
async def test_what_a_peer_has_lost_comes_again_whatever_referral_of_it_cannot_be_read(
    pair: Federation, log: CapturingLogger, where: str
) -> None:
    """Her no was not queued again, and each repeat of the peer's question ended so."""
    bad, good, stopped = await stories_of(pair, 3)
    await stopped.says_no("stop-service")
    node = bad.sender
    if where == "event":
        await change(node, EVENT, EVENT.c.referral == bad.id, name="of-a-later-version")
    else:
        # It has expired: what follows is asked of its contract, and that lies in the facts.
        await change(node, REFERRAL, REFERRAL.c.id == bad.id, sealed_facts=b"damaged", respond_by=1)
    lost = ResyncRequest(since=as_datetime(pair.clock() - HOUR_MS))
    answers = [await resync(node.node, SHELTER.agency, lost) for _ in range(3)]
    assert [(answer.stops_queued, answer.referrals_marked) for answer in answers] == [(1, 1), (0, 0), (0, 0)]
    assert (await good.flags()).resend
    assert [row["resend"] for row in await bad.rows(REFERRAL)] == [False]
    assert len(await rows(node, AUDIT, AUDIT.c.action == "resync")) == 1
    assert [(entry[0], entry[2]["peer"], entry[2]["kind"]) for entry in log.calls] == [
        ("error", SHELTER.agency, "referral")
    ]
    assert (await stopped.outgoing())["withdrawal"] == ["queued"]
    await node.courier.run_once()
    assert (await stopped.outgoing())["withdrawal"] == ["delivered"]


async def test_her_no_comes_again_though_nothing_can_be_marked(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends it: what is queued by then stays queued, and the rest is asked for by the next question."""
    good, stopped = await stories_of(pair, 2)
    await stopped.says_no("stop-service")
    lost = ResyncRequest(since=as_datetime(pair.clock() - HOUR_MS))
    with monkeypatch.context() as broken:
        broken.setattr(resync_module, "change_by_id", lambda *_args, **_values: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await resync(good.sender.node, SHELTER.agency, lost)
    assert (await stopped.outgoing())["withdrawal"] == ["queued"]
    answer = await resync(good.sender.node, SHELTER.agency, lost)
    assert (answer.stops_queued, answer.referrals_marked) == (0, 1)
    assert (await good.flags()).resend


async def test_her_no_that_cannot_be_read_makes_nobody_due_who_has_put_us_off(pair: Federation) -> None:
    """For stops he would be called at once: here there is none that could go."""
    [story] = await stories_of(pair, 1)
    await story.says_no("stop-service", travel=False)
    await change(story.sender, OUTBOX, OUTBOX.c.kind == "withdrawal", **DAMAGED)
    await change(story.sender, PEER, PEER.c.agency == SHELTER.agency, due_at=0, only_stops_until=pair.clock() + 20_000)
    assert await story.sender.courier.run_once() == 1
    assert 0 < await waits_ms(pair) <= 20_000
    assert (await story.outgoing())["withdrawal"] == ["queued"]

"""Somebody can write to a node's main database, and has none of its keys: what is held there stays there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, update
from support.federation import Federation, federation
from support.replaced_keys import another_node_key, listed, started_with
from support.stories import Story, begin, now_of, refusal, released_and_waiting, safe_contact, to_the_embassy

from exchange.demo.federation import EMBASSY, HELPLINE, SHELTER
from exchange.envelope.statements import ReleaseStatement, Signed
from exchange.limits import HOUR_MS
from exchange.schemas.federation import ConsentStatusRequest, ItemAnswer
from exchange.schemas.problems import Problem, Who
from exchange.storage.tables import EVENT, OUTBOX, PEER_CARD, REFERRAL
from exchange.use_cases.consent_status import consent_status
from exchange.use_cases.deliver import load_next
from exchange.use_cases.leasing import claim
from exchange.use_cases.line import Line
from exchange.use_cases.node import World
from exchange.use_cases.outgoing import current_peer_epoch
from exchange.use_cases.own_epochs import revoke_own_epochs
from exchange.use_cases.signed_before import signed_anew


@pytest.fixture
async def asking(tmp_path: Path) -> AsyncIterator[Federation]:
    """A helpline and an embassy: what the embassy accepts waits for a worker's word."""
    async with federation(tmp_path, (HELPLINE, EMBASSY)) as together:
        yield together


async def confirming(asking: Federation) -> Story:
    """The embassy has accepted; who she is waits for a worker's word."""
    consent, request = to_the_embassy()
    story = await begin(asking, receiver=EMBASSY, consent=consent, **request)
    await story.decides("accepted")
    assert (await story.flags()).awaiting_confirmation
    return story


async def disclosure_of(story: Story) -> dict[str, Any]:
    """The row of what holds who she is."""
    (row,) = [row for row in await story.outbox_rows() if row["kind"] == "disclosure"]
    return row


async def made_up_release(story: Story) -> bytes:
    """Right in every word, by all that stands in the main database; signed by nobody."""
    row, at = await disclosure_of(story), story.sender.node.clock()
    accepting = [event["digest"] for event in await story.rows(EVENT) if event["name"] == "accepted"]
    said = ReleaseStatement(
        disclosure=row["digest"],
        referral=story.id,
        number=at,
        accepting=accepting[0],
        released_at=at,
        roster_version=story.sender.node.world().roster.version,
        consent_live_at=at,
    )
    return Signed(said, bytes(64)).to_bytes()


async def never_left(story: Story) -> None:
    """Who she is has not reached the other node, and the agency's workers are asked."""
    await story.later(hours=0.1)
    assert await story.items("disclosure") == []
    assert "disclosure" not in story.kinds_posted()
    assert not (await story.flags()).disclosed


@pytest.mark.parametrize("beside", ["none", "made-up"])
async def test_what_is_held_does_not_leave_because_somebody_has_queued_it(asking: Federation, beside: str) -> None:
    story = await confirming(asking)
    release = await made_up_release(story) if beside == "made-up" else None
    queued = update(OUTBOX).where(OUTBOX.c.status == "held").values(status="queued", release=release)
    await story.writes(queued, update(REFERRAL).values(hold="released"))
    await never_left(story)
    assert (await story.flags()).awaiting_disclosure
    assert "disclosure-barred" in await story.changes()


async def test_what_is_held_does_not_leave_as_something_else(asking: Federation) -> None:
    """Of a stop nothing is looked at but what it is."""
    story = await confirming(asking)
    called = update(OUTBOX).where(OUTBOX.c.status == "held").values(status="queued", kind="withdrawal")
    await story.writes(called)
    await never_left(story)
    assert (await story.flags()).undeliverable


async def test_a_made_up_release_is_not_signed_whatever_the_peer_says_of_it(two: Federation) -> None:
    """It stands beside what was released; with it goes the mark of the true one."""
    story, new = await released_and_waiting(two), another_node_key()
    made_up = await made_up_release(story)
    await listed(two, HELPLINE, node_key=new)
    async with started_with(two, HELPLINE, node_key=new):
        two.come_back(SHELTER)
        two.clock.pass_by(hours=1)
        node = story.sender.node
        lease = await claim(node, "test")
        assert lease is not None
        batch = await load_next(node, lease, Line(None, node.limits))
        assert batch is not None
        (item,) = batch.items
        problem = Problem(type="https://x", title="x", status=422, code="release-invalid", who=Who.SENDER, detail="x")
        refused = ItemAnswer(result="refused", problem=problem)
        assert signed_anew(node, item, refused) is not None
        assert signed_anew(node, item._replace(release=made_up), refused) is None
        assert signed_anew(node, item._replace(release_mark=None), refused) is None


@pytest.mark.parametrize("copied", [("release", "release_mark"), ("release", "digest")], ids=["marked", "of-before"])
async def test_the_release_of_one_woman_lets_no_other_go(asking: Federation, copied: tuple[str, ...]) -> None:
    """With its mark; or as one of before marks, beside a row that says to be what it names."""
    released, story = await confirming(asking), await confirming(asking)
    asking.leave(EMBASSY)
    assert (await released.asks.referrals.release(released.id)).released
    row = await disclosure_of(released)
    changed = {"status": "queued"} | {name: row[name] for name in copied}
    await story.writes(update(OUTBOX).where(OUTBOX.c.status == "held").values(**changed))
    asking.come_back(EMBASSY)
    await never_left(story)
    assert len(await released.items("disclosure")) == 1


async def test_only_a_worker_releases_what_has_to_be_confirmed(asking: Federation) -> None:
    story = await confirming(asking)
    await story.writes(update(REFERRAL).values(hold="release-due"))
    await never_left(story)
    assert (await story.flags()).awaiting_confirmation
    assert (await story.asks.referrals.release(story.id)).released


async def test_an_acceptance_that_stands_in_a_row_only_releases_nothing(two: Federation) -> None:
    story = await begin(two)
    at = story.sender.node.clock()
    accepted = {"side": "receiving", "number": at, "name": "accepted", "seen": 0, "at": at, "shared": True}
    invented = insert(EVENT).values(referral=story.id, digest="ab" * 32, **accepted)
    await story.writes(invented, update(REFERRAL).values(hold="release-due", state="accepted"))
    await never_left(story)
    assert (await disclosure_of(story))["status"] == "held"


async def test_nobody_elses_consent_releases_what_is_held(asking: Federation) -> None:
    story, other = await confirming(asking), await confirming(asking)
    theirs = (await other.record())["consent_id"]
    await story.writes(update(REFERRAL).where(REFERRAL.c.id == story.id).values(consent_id=theirs))
    answer = await story.asks.referrals.release(story.id)
    assert (answer.released, answer.code) == (False, "no-consent")
    await never_left(story)


async def test_nobody_elses_consent_lets_more_be_told(asking: Federation) -> None:
    """Nor does this node vouch by it for what was told before."""
    story, other = await confirming(asking), await confirming(asking)
    assert (await story.asks.referrals.release(story.id)).released
    await story.travel()
    receipt = ConsentStatusRequest(receipts=((await disclosure_of(story))["consent_receipt"],))
    theirs = (await other.record())["consent_id"]
    await story.writes(update(REFERRAL).where(REFERRAL.c.id == story.id).values(consent_id=theirs))
    plan = story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(asking)))
    assert (await refusal(plan)).code == "no-consent"
    said = await consent_status(story.sender.node, EMBASSY.agency, receipt)
    assert [one.status for one in said.receipts] == ["not-live"]


@pytest.mark.parametrize("column", ["read_at", "asked_at"])
async def test_a_card_that_was_not_read_is_asked_for_whatever_a_row_says(two: Federation, column: str) -> None:
    """Somebody has a weekly key of the receiver, which has revoked it, and writes here that nobody need ask."""
    node, receiver = two[HELPLINE].node, two[SHELTER]
    revoked = await revoke_own_epochs(receiver.node, compromised_since=receiver.node.clock() - HOUR_MS)
    two.clock.pass_by(hours=1)
    said = update(PEER_CARD).values({column: two.clock()})
    await node.database.write(lambda conn: conn.execute(said).rowcount)
    assert (await current_peer_epoch(node, receiver.member)).key_id not in revoked


@pytest.mark.parametrize("column", ["referral", "contract"])
async def test_no_other_disclosure_goes_than_the_one_of_the_referral(
    asking: Federation, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    """A worker says yes to one woman's, and another's lies in its place; or it was made under another contract."""
    story, other = await confirming(asking), await confirming(asking)
    (held,) = [row["id"] for row in await other.outbox_rows() if row["status"] == "held"]
    if column == "referral":
        gone = delete(OUTBOX).where(OUTBOX.c.referral == story.id, OUTBOX.c.status == "held")
        await story.writes(gone, update(OUTBOX).where(OUTBOX.c.id == held).values(referral=story.id))
    else:
        node, another = story.sender.node, "ab" * 32
        world = node.world()
        (contract,) = world.contracts.values()
        monkeypatch.setattr(node, "world", lambda: replace(world, contracts={**world.contracts, another: contract}))
        monkeypatch.setattr(World, "in_force", lambda *_: True)
        await story.writes(update(REFERRAL).where(REFERRAL.c.id == story.id).values(contract=another))
    answer = await story.asks.referrals.release(story.id)
    assert (answer.released, answer.code) == (False, "disclosure-differs")
    for one in (story, other):
        await never_left(one)

"""An agency's keys are replaced while something is on its way: it arrives, or its maker is told at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import update
from support.federation import Federation, federation
from support.replaced_keys import (
    another_agency_key,
    another_node_key,
    listed,
    renewed_by_the_command,
    started_with,
    with_another_key,
)
from support.stories import Story, begin, content, released_and_waiting, rows, travelled

from contracts.canonical_json import canonical
from exchange.client.vault import DoubtfulItemError, RefusedItemError, VaultError
from exchange.client.vault.opening import open_sealed
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.format import parse_envelope
from exchange.envelope.header import parse_header
from exchange.envelope.wire import to_base64url
from exchange.schemas.federation import BatchAnswer, ItemAnswer
from exchange.schemas.inbox import DecisionRequest, InboxItem, RefusalRequest
from exchange.schemas.problems import Problem, Who
from exchange.stops import RefusalCode, refusal
from exchange.storage.database import Connection
from exchange.storage.referrals import load_referral
from exchange.storage.tables import ATTESTATION, AUDIT, OUTBOX, SEEN_ENVELOPE
from exchange.use_cases.deliver import load_next
from exchange.use_cases.leasing import claim
from exchange.use_cases.line import Line
from exchange.use_cases.outgoing import make_stop, put_out_stop
from exchange.use_cases.settle import settle


async def arrived_unheard(two: Federation, story: Story) -> None:
    """What waits arrives, and the receipts for it do not."""
    two.network.answers_lost = True
    await story.sender.courier.run_once()
    two.network.answers_lost = False


async def owed(story: Story) -> set[str]:
    """Who at the receiver has not said yet that its copies are gone."""
    return {row["party"] for row in await story.rows(ATTESTATION, at=story.receiver) if row["done_at"] is None}


async def audited(story: Story) -> list[tuple[str, str]]:
    """What the referring agency's node has put on record of this referral, and why."""
    return [(row["action"], row["detail"]) for row in await rows(story.sender, AUDIT, AUDIT.c.subject_id == story.id)]


async def test_her_no_whose_receipt_was_lost_is_signed_for_by_the_new_node_key(two: Federation) -> None:
    """It has arrived: whoever waits to hear so must not wait for ever, nor must it be sent every three seconds."""
    story, new = await begin(two), another_node_key()
    await story.says_no("stop-service", travel=False)
    await arrived_unheard(two, story)
    assert len(await story.items("withdrawal")) == 1
    await listed(two, SHELTER, node_key=new)
    async with started_with(two, SHELTER, node_key=new):
        await story.later(hours=1)
        assert (await story.outgoing())["withdrawal"] == ["delivered"]
        assert len(await story.items("withdrawal")) == 1


async def her_no_waits(two: Federation, form: str = "stop-service") -> Story:
    """She has said no, and the receiver's node is away."""
    story = await begin(two)
    two.leave(SHELTER)
    await story.says_no(form)
    return story


async def test_her_no_that_the_old_node_key_signed_arrives(pair: Federation) -> None:
    story, new = await her_no_waits(pair), another_node_key()
    (before,) = await story.wires_of("withdrawal")
    await listed(pair, HELPLINE, node_key=new)
    async with started_with(pair, HELPLINE, node_key=new):
        pair.come_back(SHELTER)
        await story.later(hours=0.1)
        await story.both_say("withdrawn")
        assert (await story.outgoing())["withdrawal"] == ["delivered"]
        assert len(await story.items("withdrawal")) == 1
        (after,) = await story.wires_of("withdrawal")
        was, header = (parse_header(parse_envelope(wire).header) for wire in (before, after))
        assert header == was._replace(id=header.id, signing_key=new.key_id)
        assert header.id != was.id


async def test_an_attestation_that_the_old_keys_signed_arrives(two: Federation) -> None:
    """Both halves: of the node, signed by its key, and of the agency."""
    story, keys = await begin(two), {"agency_key": another_agency_key(), "node_key": another_node_key()}
    await story.says_no("erase")
    two.leave(HELPLINE)
    await story.later(hours=25)
    await story.helps.inbox.attest_erasure((await story.item("withdrawal")).id)
    await listed(two, SHELTER, **keys)
    async with started_with(two, SHELTER, **keys):
        two.come_back(HELPLINE)
        await story.later(hours=2)
        assert (await story.outgoing(at=story.receiver))["erasure-receipt"] == ["delivered", "delivered"]
        found = await story.rows(ATTESTATION)
        assert {row["party"] for row in found if row["done_at"] is not None} >= {"peer-node", "peer-agency"}


async def test_a_peer_that_has_the_roster_of_before_takes_what_the_old_key_signed(two: Federation) -> None:
    story, new = await her_no_waits(two), another_node_key()
    (before,) = await story.wires_of("withdrawal")
    await listed(two, HELPLINE, node_key=new, known_to=(HELPLINE,))
    two.come_back(SHELTER)
    await story.later(hours=0.1)
    await story.both_say("withdrawn")
    assert await story.wires_of("withdrawal") == [before]


async def test_a_node_that_runs_with_the_old_key_makes_nothing_anew(two: Federation) -> None:
    """What it made would be put off as well, and so each time."""
    story, new = await her_no_waits(two), another_node_key()
    waiting = await story.wires_of("withdrawal")
    await listed(two, HELPLINE, node_key=new)
    two.clock.pass_by(hours=1)
    answer = BatchAnswer(answers=(ItemAnswer(result="later", retry_after=1),))
    node = story.sender.node
    lease = await claim(node, "test")
    assert lease is not None
    line = Line(None, node.limits)
    batch = await load_next(node, lease, line)
    assert batch is not None
    await settle(node, lease, batch, answer)
    assert await story.wires_of("withdrawal") == waiting
    assert (await story.outgoing())["withdrawal"] == ["queued"]


async def test_an_offer_that_the_old_agency_key_signed_is_told_at_once(two: Federation) -> None:
    new = another_agency_key()
    two.leave(SHELTER)
    story = await begin(two)
    await listed(two, HELPLINE, agency_key=new)
    async with started_with(two, HELPLINE, agency_key=new):
        two.come_back(SHELTER)
        await story.later(hours=0.1)
        assert "offer" not in await story.outgoing()
        assert "offer-barred" in await story.changes()
        assert (await story.flags()).undeliverable


async def test_a_decision_that_the_old_agency_key_signed_is_told_at_once(pair: Federation) -> None:
    story, new = await begin(pair), another_agency_key()
    pair.leave(HELPLINE)
    await story.decides("accepted")
    await listed(pair, SHELTER, agency_key=new)
    async with started_with(pair, SHELTER, agency_key=new):
        pair.come_back(HELPLINE)
        await story.later(hours=0.1)
        assert "decision" not in await story.outgoing(at=story.receiver)
        assert (await story.record(at=story.receiver))["undeliverable"]
        await story.both_say("received")
        # Said again it is no repeat of what nobody heard.
        await story.decides("accepted")
        await story.travel()
        await story.both_say("accepted")
        # What was held is sealed to a weekly key that the old agency key had signed.
        assert (await story.flags()).awaiting_disclosure


async def test_what_another_courier_has_told_already_is_not_told_again(pair: Federation) -> None:
    """Both have posted it, and one of them was slow: since then it was said again, and that is not undeliverable."""
    story, new = await begin(pair), another_agency_key()
    pair.leave(HELPLINE)
    await story.decides("accepted")
    await listed(pair, SHELTER, agency_key=new)
    async with started_with(pair, SHELTER, agency_key=new):
        node, later = story.receiver.node, BatchAnswer(answers=(ItemAnswer(result="later", retry_after=1),))
        pair.clock.pass_by(hours=1)
        lease = await claim(node, "test")
        assert lease is not None
        batch = await load_next(node, lease, Line(None, node.limits))
        assert batch is not None
        await settle(node, lease, batch, later)
        assert (await story.record(at=story.receiver))["undeliverable"]
        pair.come_back(HELPLINE)
        await story.decides("accepted")
        await story.later(hours=0.1)
        said = await story.record(at=story.receiver)
        await settle(node, lease, batch, later)
        assert await story.record(at=story.receiver) == said
        await story.both_say("accepted")


async def test_a_refusal_that_the_old_agency_key_signed_can_be_said_again(two: Federation) -> None:
    """It had closed the referral here, and its end was counted from there."""
    story, new = await begin(two), another_agency_key()
    two.leave(HELPLINE)
    await story.decides("declined", reason="no-capacity")
    await listed(two, SHELTER, agency_key=new)
    async with started_with(two, SHELTER, agency_key=new):
        two.come_back(HELPLINE)
        await story.later(hours=0.1)
        await story.both_say("received")
        assert (await story.record(at=story.receiver))["destroy_at"] is None
        await story.decides("declined", reason="no-capacity")
        await story.both_say("declined")


async def test_what_was_destroyed_meanwhile_stays_destroyed(two: Federation) -> None:
    story, new = await begin(two), another_agency_key()
    two.leave(HELPLINE)
    await story.decides("declined", reason="no-capacity")
    await story.later(hours=25)
    await listed(two, SHELTER, agency_key=new)
    async with started_with(two, SHELTER, agency_key=new):
        two.come_back(HELPLINE)
        await story.later(hours=2)
        await story.nothing_is_left(at=story.receiver)
        assert (await story.outgoing(at=story.receiver))["decision"] == ["deleted"]


async def test_a_held_disclosure_that_the_old_agency_key_signed_is_not_released(two: Federation) -> None:
    """No peer would take it, and the referral would say for two weeks that it is on its way."""
    story, new = await begin(two), another_agency_key()
    await listed(two, HELPLINE, agency_key=new)
    async with started_with(two, HELPLINE, agency_key=new):
        await story.decides("accepted")
        assert "disclosure" not in await story.outgoing()
        flags = await story.flags()
        assert (flags.awaiting_disclosure, flags.disclosed) == (True, False)
        assert "disclosure" not in story.kinds_posted()
        assert ("release-refused", "own-key-changed") in await audited(story)


def releases_posted(two: Federation) -> set[str]:
    """Every release statement that reached the other node."""
    bodies = (json.loads(body) for _, path, body in two.network.posted if path.endswith("/envelopes"))
    return {wire["release"] for body in bodies for wire in body["envelopes"] if "release" in wire}


async def test_a_disclosure_on_its_way_goes_with_a_release_that_the_new_node_key_signed(pair: Federation) -> None:
    """She was asked and the receiver has accepted: nobody has to ask her again because a machine has another key."""
    story, new = await released_and_waiting(pair), another_node_key()
    await listed(pair, HELPLINE, node_key=new)
    async with started_with(pair, HELPLINE, node_key=new):
        pair.come_back(SHELTER)
        await story.later(hours=0.1)
        assert (await story.outgoing())["disclosure"] == ["delivered"]
        assert (await story.flags()).disclosed
        assert (await story.opened("disclosure")).content is not None


@pytest.mark.parametrize("member", ["disclosure", "referral", None])
async def test_the_new_node_key_signs_no_release_of_something_else(two: Federation, member: str | None) -> None:
    """Somebody has changed the row: nothing leaves, and it is told. More of it: `tests/security`."""
    story, new = await released_and_waiting(two), another_node_key()
    (row,) = [row for row in await story.outbox_rows() if row["kind"] == "disclosure"]
    changed = b"nothing that was ever signed"
    if member is not None:
        said = json.loads(row["release"])
        said["body"][member] = said["body"][member][::-1]
        changed = canonical(said)
    await story.writes(update(OUTBOX).where(OUTBOX.c.id == row["id"]).values(release=changed))
    await listed(two, HELPLINE, node_key=new)
    async with started_with(two, HELPLINE, node_key=new):
        two.come_back(SHELTER)
        await story.later(hours=0.1)
        assert "disclosure" not in await story.outgoing()
        assert (await story.flags()).awaiting_disclosure
        assert releases_posted(two) == set()


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_release_of_before_marks_were_written_leaves_while_its_key_is_the_nodes(
    two: Federation, replaced: bool
) -> None:
    """After an upgrade. Nobody can tell an earlier key's from what somebody has written there: she is asked again."""
    story, new = await released_and_waiting(two), another_node_key()
    await story.writes(update(OUTBOX).values(release_mark=None))
    if not replaced:
        two.come_back(SHELTER)
        await story.later(hours=0.1)
        assert (await story.outgoing())["disclosure"] == ["delivered"]
        return
    await listed(two, HELPLINE, node_key=new)
    async with started_with(two, HELPLINE, node_key=new):
        two.come_back(SHELTER)
        await story.later(hours=0.1)
        assert "disclosure" not in story.kinds_posted()
        assert (await story.flags()).awaiting_disclosure
        assert "disclosure-barred" in await story.changes()


async def test_a_disclosure_that_was_signed_for_is_delivered_whatever_is_said_beside_it(two: Federation) -> None:
    """The peer has taken it, and says that it refuses the release, while the key is replaced."""
    story, new = await released_and_waiting(two), another_node_key()
    two.come_back(SHELTER)
    two.clock.pass_by(hours=1)
    lease = await claim(story.sender.node, "test")
    assert lease is not None
    batch = await load_next(story.sender.node, lease, Line(None, story.sender.node.limits))
    assert batch is not None
    (taken,) = (await story.post(*json.loads(batch.body)["envelopes"])).answers
    problem = Problem(type="https://x", title="x", status=422, code="release-invalid", who=Who.SENDER, detail="x")
    await listed(two, HELPLINE, node_key=new)
    async with started_with(two, HELPLINE, node_key=new):
        answer = BatchAnswer(answers=(taken.model_copy(update={"problem": problem}),))
        await settle(story.sender.node, lease, batch, answer)
        assert (await story.outgoing())["disclosure"] == ["delivered"]


async def test_an_attestation_of_the_agencys_own_software_is_owed_again(tmp_path: Path) -> None:
    """Its node cannot sign it anew: whoever holds the key says it once more, and it arrives."""
    new = another_agency_key()
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        story = await begin(pair)
        await story.says_no("erase")
        pair.leave(HELPLINE)
        await story.later(hours=25)
        await pair[SHELTER].vault().attest_erasure(story.id)
        assert "own-agency" not in await owed(story)
        await listed(pair, SHELTER, agency_key=new)
        vault = with_another_key(pair[SHELTER], new)
        pair.come_back(HELPLINE)
        await story.later(hours=2)
        assert await owed(story) == {"own-agency"}
        assert "queued" not in (await story.outgoing(at=story.receiver))["erasure-receipt"]
        await vault.attest_erasure(story.id)
        await story.later(hours=2)
        assert await owed(story) == set()
        found = await story.rows(ATTESTATION)
        assert "peer-agency" in {row["party"] for row in found if row["done_at"] is not None}


async def test_an_office_goes_on_with_the_agency_key_that_the_command_made(tmp_path: Path) -> None:
    """Its key store opens with the key file that took the place of the other, and so does what was sealed before."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        story, before = await begin(pair), pair[SHELTER].vault()
        await renewed_by_the_command(pair, SHELTER, tmp_path / "next")
        with pytest.raises(VaultError, match="not-a-member"):
            await before.publish_epochs()
        vault = pair[SHELTER].vault()
        assert (await vault.publish_epochs()).weeks_ahead == 5
        assert (await vault.open(await story.item("offer"))).content is not None
        await vault.decide(story.id, DecisionRequest(decision="accepted"))
        await story.later(hours=2)
        # What is held for her is sealed to a key that the old one has signed.
        assert (await story.flags()).awaiting_disclosure
        await story.asks.referrals.replace_disclosure(story.id, content(preferred_name="Canary-Baru"))
        await story.later(hours=0.1)
        opened = await vault.open(await story.item("disclosure"))
        assert opened.content is not None
        assert opened.content.preferred_name == "Canary-Baru"


async def unopened(story: Story) -> InboxItem:
    """The receiver, whose keys are elsewhere, has accepted; who she is has arrived, and nobody has looked yet."""
    vault = story.receiver.vault()
    await vault.open(await story.item("offer"))
    await vault.decide(story.id, DecisionRequest(decision="accepted"))
    await story.travel()
    return await story.item("disclosure")


@pytest.mark.parametrize("kind", ["offer", "disclosure"])
async def test_what_lies_unopened_and_the_old_agency_key_signed_is_refused_and_comes_again(
    tmp_path: Path, kind: str
) -> None:
    """By the roster of today nobody can tell it from what a thief of the old key would make; the sender is asked."""
    new = another_agency_key()
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        story, vault = await begin(pair), pair[SHELTER].vault()
        if kind == "disclosure":
            await vault.open(await story.item("offer"))
            await vault.decide(story.id, DecisionRequest(decision="accepted"))
            await story.travel()
        item = await story.item(kind)
        await listed(pair, HELPLINE, agency_key=new)
        async with started_with(pair, HELPLINE, agency_key=new):
            with pytest.raises(RefusedItemError, match="unknown-key"):
                await pair[SHELTER].vault().open(item)
            await story.later(hours=0.1)
            assert (await story.flags()).undeliverable
            if kind == "disclosure":
                assert (await story.flags()).awaiting_disclosure
                await story.asks.referrals.replace_disclosure(story.id, content(preferred_name="Canary-Baru"))
                await story.later(hours=0.1)
                (again,) = [one for one in await story.items("disclosure") if one.id != item.id]
                opened = await pair[SHELTER].vault().open(again)
                assert opened.content is not None
                assert opened.content.preferred_name == "Canary-Baru"


async def test_what_lies_unopened_and_the_old_node_key_released_is_refused_and_comes_again(tmp_path: Path) -> None:
    new = another_node_key()
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        story, vault = await begin(pair), pair[SHELTER].vault()
        item = await unopened(story)
        await listed(pair, HELPLINE, node_key=new)
        async with started_with(pair, HELPLINE, node_key=new):
            with pytest.raises(RefusedItemError, match="release-invalid"):
                await vault.open(item)
            await story.later(hours=0.1)
            assert (await story.flags()).awaiting_disclosure


async def test_by_an_older_roster_than_the_senders_it_is_only_in_doubt(tmp_path: Path) -> None:
    new = another_agency_key()
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        vault = pair[SHELTER].vault()
        before = vault._now()
        await listed(pair, HELPLINE, agency_key=new)
        async with started_with(pair, HELPLINE, agency_key=new):
            story = await begin(pair)
            item = await story.item("offer")
            with pytest.raises(DoubtfulItemError, match="unknown-key"):
                await open_sealed(before, vault._client, item)
            assert (await vault.open(item)).content is not None


async def test_a_second_refusal_of_what_was_replaced_asks_for_nothing_anew(tmp_path: Path) -> None:
    """She was asked again and the fresh one is there; a machine of before refuses the old one once more."""
    new = another_agency_key()
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        story = await begin(pair)
        item = await unopened(story)
        await listed(pair, HELPLINE, agency_key=new)
        async with started_with(pair, HELPLINE, agency_key=new):
            with pytest.raises(RefusedItemError, match="unknown-key"):
                await pair[SHELTER].vault().open(item)
            await story.later(hours=0.1)
            await story.asks.referrals.replace_disclosure(story.id, content(preferred_name="Canary-Baru"))
            await story.later(hours=0.1)
            assert not (await story.flags()).awaiting_disclosure
            node = story.receiver.node

            def refuse_again(conn: Connection) -> None:
                record = load_referral(conn, story.id)
                assert record is not None
                sealed = make_stop(node, refusal(RefusalCode.CANNOT_OPEN), record, in_reply_to=item.id)
                put_out_stop(node, conn, sealed, record.id)

            await node.database.write(refuse_again)
            await story.later(hours=0.1)
            assert len(await story.items("refusal", at=story.sender)) == 2
            assert not (await story.flags()).awaiting_disclosure


async def test_after_she_stopped_sharing_a_refused_disclosure_is_not_asked_for_anew(tmp_path: Path) -> None:
    """The refusal has crossed her no. Who read that another one is awaited would ask her, and may tell nothing."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        story = await begin(pair)
        item = await unopened(story)
        await story.helps.inbox.refuse(item.id, RefusalRequest.model_validate({"code": "cannot-open"}))
        await story.says_no("stop-sharing")
        await story.later(hours=0.1)
        flags = await story.flags()
        assert (flags.sharing_stopped, flags.awaiting_disclosure) == (True, False)


@pytest.mark.parametrize("form", ["stop-service", "erase"])
async def test_what_is_refused_after_her_no_has_arrived_does_not_say_that_her_no_has_not(
    tmp_path: Path, form: str
) -> None:
    """The flag is about what was said last. Who read it would telephone, about a referral that is over."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        story = await begin(pair)
        item = await unopened(story)
        await story.helps.inbox.refuse(item.id, RefusalRequest.model_validate({"code": "cannot-open"}))
        await story.says_no(form)
        await story.later(hours=0.1)
        assert len(await story.items("refusal", at=story.sender)) == 1
        assert (await story.outgoing())["withdrawal"] == ["delivered"]
        assert not (await story.flags()).undeliverable
        # That her no itself is refused is said all the same.
        no = await story.item("withdrawal")
        await story.helps.inbox.refuse(no.id, RefusalRequest.model_validate({"code": "cannot-open"}))
        await story.later(hours=0.1)
        assert (await story.flags()).undeliverable


async def test_a_release_by_a_newer_roster_than_the_one_here_is_only_in_doubt(tmp_path: Path) -> None:
    """It was sealed by an old roster, released by today's; the office has one between, which lists the old key."""
    new = another_node_key()
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        story, vault = await begin(pair), pair[SHELTER].vault()
        await vault.open(await story.item("offer"))
        await pair.new_roster()
        between = vault._now()
        await listed(pair, HELPLINE, node_key=new)
        async with started_with(pair, HELPLINE, node_key=new):
            await vault.decide(story.id, DecisionRequest(decision="accepted"))
            await story.travel()
            item = await story.item("disclosure")
            with pytest.raises(DoubtfulItemError, match="release-invalid"):
                await open_sealed(between, vault._client, item)
            assert (await vault.open(item)).content is not None


async def test_a_release_that_was_signed_anew_by_a_newer_roster_is_only_in_doubt(tmp_path: Path) -> None:
    """It was released by an old roster, and signed anew by today's; the office has one between, with another key."""
    new = another_node_key()
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        story, vault = await begin(pair), pair[SHELTER].vault()
        await vault.open(await story.item("offer"))
        await vault.decide(story.id, DecisionRequest(decision="accepted"))
        await story.receiver.courier.run_once()
        pair.leave(SHELTER)
        await story.travel()
        await pair.new_roster()
        between = vault._now()
        await listed(pair, HELPLINE, node_key=new)
        async with started_with(pair, HELPLINE, node_key=new):
            pair.come_back(SHELTER)
            await story.later(hours=0.1)
            item = await story.item("disclosure")
            with pytest.raises(DoubtfulItemError, match="release-invalid"):
                await open_sealed(between, vault._client, item)
            assert (await vault.open(item)).content is not None


@pytest.mark.parametrize("member", ["envelope", "digest", "sender", "recipient", "referral", None])
async def test_the_new_node_key_signs_no_receipt_that_is_about_something_else(
    two: Federation, member: str | None
) -> None:
    """Somebody has changed the row. What lies in a database is no word of the node, and the batch is answered."""
    story, new = await begin(two), another_node_key()
    (offer,) = [one for one in travelled(two) if one.header.referral == story.id]
    (row,) = await rows(story.receiver, SEEN_ENVELOPE, SEEN_ENVELOPE.c.id == offer.header.id)
    changed = b"nothing that was ever signed"
    if member is not None:
        said = json.loads(row["answer"])
        said["body"][member] = said["body"][member][::-1]
        changed = canonical(said)
    await story.receiver.node.database.write(
        lambda conn: conn.execute(update(SEEN_ENVELOPE).values(answer=changed)).rowcount
    )
    await listed(two, SHELTER, node_key=new)
    async with started_with(two, SHELTER, node_key=new):
        (answer,) = (await story.post(offer.wire)).answers
        assert answer.receipt == to_base64url(changed)

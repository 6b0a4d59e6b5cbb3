"""Between the gate's yes and the release nothing may change: consent, receiver's key, what is held."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from sqlalchemy import delete, update
from support.federation import Federation
from support.people import consent_request, referral_request
from support.stories import Story, begin, content, now_of, refusal, safe_contact, travelled

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.kinds import Kind
from exchange.schemas.inbox import DecisionRequest
from exchange.schemas.referrals import ReleaseAnswer
from exchange.storage.database import Connection
from exchange.storage.epochs import epoch_revocations, remember_card, remember_revocations
from exchange.storage.outbox import OutgoingRecord, delete_queued
from exchange.storage.tables import CONSENT, OUTBOX, PEER_EPOCH
from exchange.use_cases import release_disclosure, replace_disclosure, send_information
from exchange.use_cases.leaving import Leaving
from exchange.use_cases.own_epochs import revoke_own_epochs
from exchange.use_cases.peer_cards import card_read
from exchange.use_cases.peer_epochs import StoredPeerEpochs
from exchange.use_cases.release_disclosure import release_due


async def accepted(pair: Federation) -> str:
    """A referral whose acceptance has just arrived; its disclosure is held and due."""
    helpline, shelter = pair[HELPLINE].client(), pair[SHELTER].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    created = await helpline.referrals.send(referral_request(SHELTER.agency, consent.id))
    await pair.travel()
    (offer,) = [item for item in (await shelter.inbox.list()).items if item.kind == "offer"]
    await shelter.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    await pair[SHELTER].courier.run_once()
    return created.id


@pytest.mark.parametrize("wait", [update(CONSENT).values(version=CONSENT.c.version + 1)], ids=["consent-changed"])
async def test_what_changes_after_the_gate_runs_the_gate_again(
    pair: Federation, monkeypatch: pytest.MonkeyPatch, wait: Any
) -> None:
    referral = await accepted(pair)
    node = pair[HELPLINE].node
    real, ran = release_disclosure.disclosure_again, []

    def gate(*args: Any) -> Any:
        outcome = real(*args)
        ran.append(outcome)
        if len(ran) == 1:
            node.database.write_sync(lambda conn: conn.execute(wait).rowcount)
        return outcome

    monkeypatch.setattr(release_disclosure, "disclosure_again", gate)
    await release_due(node)
    assert len(ran) == 2
    assert (await pair[HELPLINE].client().referrals.read(referral)).flags.disclosed


async def test_what_was_held_and_is_gone_is_not_said_to_be_released(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    referral = await accepted(pair)
    node = pair[HELPLINE].node
    real = release_disclosure.disclosure_again

    def gate(*args: Any) -> Any:
        node.database.write_sync(_drop_held)
        return real(*args)

    monkeypatch.setattr(release_disclosure, "disclosure_again", gate)
    await release_due(node)
    flags = (await pair[HELPLINE].client().referrals.read(referral)).flags
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)


def _drop_held(conn: Connection) -> int:
    return conn.execute(delete(OUTBOX).where(OUTBOX.c.status == "held")).rowcount


async def test_a_key_that_turns_out_to_be_revoked_after_the_gate_has_looked_releases_nothing(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The courier of another process has read the receiver's card in that moment."""
    referral = await accepted(pair)
    node, shelter = pair[HELPLINE].node, pair[SHELTER]
    real, ran = release_disclosure._sealed_to, []

    def sealed_to(*args: Any) -> bool:
        ran.append(real(*args))
        if len(ran) == 1:
            node.database.write_sync(lambda conn: remember_revocations(conn, SHELTER.agency, revoked))
        return ran[-1]

    doomed = await revoke_own_epochs(shelter.node, compromised_since=pair.clock())
    revoked = await shelter.node.database.read(lambda conn: epoch_revocations(conn, SHELTER.agency))
    assert len(revoked) == len(doomed)
    monkeypatch.setattr(release_disclosure, "_sealed_to", sealed_to)
    await release_due(node)
    flags = (await pair[HELPLINE].client().referrals.read(referral)).flags
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)
    assert ran == [True, False]


async def test_who_reads_the_receivers_card_waits_for_a_release_that_has_looked_at_its_keys(
    on_both: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would be committed after the revocation, and go to a key that was known to be revoked."""
    referral = await accepted(on_both)
    node, shelter = on_both[HELPLINE].node, on_both[SHELTER]
    real, waits = release_disclosure.read_peer_epochs, []
    await revoke_own_epochs(shelter.node, compromised_since=on_both.clock())
    revoked = await shelter.node.database.read(lambda conn: epoch_revocations(conn, SHELTER.agency))
    with ThreadPoolExecutor(1) as elsewhere:

        def looks(conn: Connection, agency: str) -> StoredPeerEpochs:
            found = real(conn, agency)
            looked.append(found)
            if len(looked) == 2:  # the gate first, then the transaction
                read = card_read(node, shelter.member, node.clock())
                reads = elsewhere.submit(
                    node.database.write_sync, lambda other: remember_card(other, agency, (), revoked, read)
                )
                time.sleep(0.3)
                waits.append(not reads.done())
            return found

        looked: list[StoredPeerEpochs] = []
        monkeypatch.setattr(release_disclosure, "read_peer_epochs", looks)
        await release_due(node)
    assert waits == [True]
    assert (await on_both[HELPLINE].client().referrals.read(referral)).flags.disclosed


async def test_what_her_no_has_deleted_since_it_was_read_is_not_sent(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The courier has read the batch, and another process commits her no before it is posted."""
    referral = await accepted(pair)
    node, real, deleted = pair[HELPLINE].node, Leaving._is_covered, []

    def covered(leaving: Leaving, item: OutgoingRecord, header: bytes) -> bool:
        if item.kind == Kind.DISCLOSURE:
            deleted.extend(node.database.write_sync(lambda conn: delete_queued(conn, referral, [item.kind])))
        return real(leaving, item, header)

    await release_due(node)
    monkeypatch.setattr(Leaving, "_is_covered", covered)
    await pair[HELPLINE].courier.run_once()
    assert len(deleted) == 1
    assert [item.kind for item in (await pair[SHELTER].client().inbox.list()).items] == ["offer"]


@pytest.mark.parametrize("kind", [Kind.OFFER, Kind.INFORMATION, Kind.UPDATE, Kind.DECISION])
async def test_nothing_about_her_is_sent_that_her_no_has_deleted_since_it_was_read(
    pair: Federation, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """As above, of what nobody writes down before it is posted."""
    story = await begin(pair, travel=kind is not Kind.OFFER)
    if kind is Kind.INFORMATION:
        await story.decides("information-requested", fields=["party"])
        await _informs(story)
    elif kind is Kind.UPDATE:
        await story.decides("accepted")
        await _updates(story)
    elif kind is Kind.DECISION:
        await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    says = story.receiver if kind is Kind.DECISION else story.sender
    real, deleted, before = Leaving._is_covered, [], len(travelled(pair))

    def covered(leaving: Leaving, item: OutgoingRecord, header: bytes) -> bool:
        deleted.extend(says.node.database.write_sync(lambda conn: delete_queued(conn, story.id, [kind])))
        return real(leaving, item, header)

    monkeypatch.setattr(Leaving, "_is_covered", covered)
    await says.courier.run_once()
    assert len(deleted) == 1
    assert len(travelled(pair)) == before


async def test_what_another_courier_delivered_meanwhile_is_not_told_to_be_barred(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one stood still for longer than its lease, and sees by now that the contract has ended."""
    story = await begin(pair)
    await story.decides("accepted")
    await _updates(story)
    node, delivered = story.sender.node, update(OUTBOX).where(OUTBOX.c.kind == Kind.UPDATE).values(status="delivered")

    def covered(*_: Any) -> bool:
        node.database.write_sync(lambda conn: conn.execute(delivered).rowcount)
        return False

    monkeypatch.setattr(Leaving, "_is_covered", covered)
    await story.sender.courier.run_once()
    assert not (await story.flags()).undeliverable
    assert "update-barred" not in await story.changes()


async def test_nothing_is_released_to_a_key_that_the_receivers_roster_key_does_not_stand_for(pair: Federation) -> None:
    referral = await accepted(pair)
    node = pair[HELPLINE].node
    world = node.world()
    members = dict(world.roster.members)
    changed_key = {"agency_key": pair[HELPLINE].member.agency_key}
    members[SHELTER.agency] = members[SHELTER.agency].model_copy(update=changed_key)
    changed = replace(world, roster=replace(world.roster, members=MappingProxyType(members)))
    node.world = lambda: changed
    await release_due(node)
    flags = (await pair[HELPLINE].client().referrals.read(referral)).flags
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)


async def test_a_key_that_is_no_longer_known_releases_nothing(pair: Federation) -> None:
    referral = await accepted(pair)
    node = pair[HELPLINE].node
    await node.database.write(lambda conn: conn.execute(delete(PEER_EPOCH)).rowcount)
    await release_due(node)
    flags = (await pair[HELPLINE].client().referrals.read(referral)).flags
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)


async def test_a_fresh_disclosure_is_released_by_who_sealed_it_and_not_by_the_acceptance_that_is_here(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The courier looks for what is due in the moment between the two."""
    referral = await accepted(pair)
    node = pair[HELPLINE].node
    await node.database.write(_drop_held)
    await release_due(node)
    real, due = replace_disclosure.release_disclosure, []

    async def release(*args: Any) -> ReleaseAnswer:
        due.append(await release_due(node))
        return await real(*args)

    monkeypatch.setattr(replace_disclosure, "release_disclosure", release)
    await pair[HELPLINE].client().referrals.replace_disclosure(referral, content(preferred_name="Canary-Baru"))
    assert due == [0]
    assert (await pair[HELPLINE].client().referrals.read(referral)).flags.disclosed


async def _replaces(story: Story) -> None:
    await story.asks.referrals.replace_disclosure(story.id, content(preferred_name="Canary-Baru"))


async def _informs(story: Story) -> None:
    await story.asks.referrals.send_information(
        story.id, content(party={"adults": 1, "dependants": [], "infant_or_pregnant": False})
    )


async def _updates(story: Story) -> None:
    await story.asks.referrals.update_safe_contact(story.id, safe_contact(now_of(story.together)))


LATER: dict[str, tuple[Any, Callable[[Story], Awaitable[None]], dict[str, Any]]] = {
    "a fresh disclosure": (replace_disclosure, _replaces, {}),
    "information": (send_information, _informs, {"decision": "information-requested", "fields": ["party"]}),
    "a changed plan": (send_information, _updates, {"decision": "accepted"}),
}


@pytest.mark.parametrize("what", LATER)
async def test_what_she_changes_after_the_gate_has_let_more_be_told_is_not_told(
    pair: Federation, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Her consent is another one each time it would be queued: nothing is, and what was held is as it was."""
    module, tells, decides = LATER[what]
    story = await begin(pair)
    if decides:
        await story.decides(**decides)
    before = [row["id"] for row in await story.outbox_rows()]
    node, real, ran = pair[HELPLINE].node, module.tell_later, []
    changed = update(CONSENT).values(version=CONSENT.c.version + 1)

    async def tell_later(*args: Any, **more: Any) -> Any:
        ran.append(what)
        told = await real(*args, **more)
        await node.database.write(lambda conn: conn.execute(changed).rowcount)
        return told

    monkeypatch.setattr(module, "tell_later", tell_later)
    problem = await refusal(tells(story))
    assert (problem.code, problem.status) == ("changed-meanwhile", 409)
    assert len(ran) > 1
    assert [row["id"] for row in await story.outbox_rows()] == before

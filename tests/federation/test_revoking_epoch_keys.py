"""Weekly keys that somebody else may have: nobody seals to them any more, and what is held for them is not released."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import delete
from support.blind import referred
from support.federation import Federation, TestNode, federation
from support.founded import PASSPHRASE
from support.people import CANARY_NAME, consent_request, referral_request
from support.stories import Story, begin, content, her_content, now_of, travelled

from exchange.client.vault import AgencyVault, open_agency_folder
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.epochs import EpochRevocation
from exchange.envelope.statements import parse_statement
from exchange.envelope.wire import from_base64url
from exchange.federation.peers import fetch_peer_keys
from exchange.limits import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS
from exchange.schemas.shapes import from_millis
from exchange.storage.database import Connection
from exchange.storage.epochs import StoredEpoch, epoch_revocations, own_epochs, publish_epochs
from exchange.storage.tables import EPOCH_REVOCATION, OWN_EPOCH
from exchange.use_cases.describe_node import node_card
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.maintain import destroy_ended, maintain
from exchange.use_cases.outgoing import current_peer_epoch
from exchange.use_cases.own_epochs import publish_own_epochs, revoke_own_epochs


async def revokes(one: TestNode, *, hours_ago: float = 3) -> list[str]:
    """The agency revokes its weekly keys."""
    since = one.node.clock() - int(hours_ago * HOUR_MS)
    return list(await revoke_own_epochs(one.node, compromised_since=since))


async def asks_for_card(two: Federation) -> None:
    """The helpline asks for the shelter's card."""
    one = two[HELPLINE]
    assert await fetch_peer_keys(one.node, one.courier._transport, two[SHELTER].member)


async def key_ids(one: TestNode) -> list[str]:
    return [row.key_id for row in await one.node.database.read(own_epochs)]


def sealed_to(two: Federation, story: Story, kind: str) -> str | None:
    """The key of the newest envelope of this kind that travelled."""
    found = [one.header for one in travelled(two) if (one.header.referral, one.header.kind) == (story.id, kind)]
    return found[-1].epoch_key


async def test_the_next_referral_is_sealed_to_a_new_key_and_opens(pair: Federation) -> None:
    before = await key_ids(pair[SHELTER])
    revoked = await revokes(pair[SHELTER])
    assert before == revoked
    await asks_for_card(pair)
    story = await begin(pair)
    assert sealed_to(pair, story, "offer") not in revoked
    assert (await story.opened("offer")).content is not None


async def test_the_card_says_which_keys_since_when_and_publishes_all_weeks_anew(two: Federation) -> None:
    shelter = two[SHELTER]
    before = await shelter.node.database.read(own_epochs)
    revoked = await revokes(shelter, hours_ago=5)
    card = await node_card(shelter.node, revocations=True)
    said = [
        parse_statement(EpochRevocation, from_base64url(text, member="s", longest=4096)).verify(
            shelter.member.agency_key
        )
        for text in card.revocations or ()
    ]
    assert [item.key_id for item in said] == revoked
    assert {item.agency for item in said} == {SHELTER.agency}
    assert {(item.revoked_at - item.compromised_since) // MINUTE_MS for item in said} == {5 * 60}
    assert [epoch.not_before for epoch in card.epochs] == [from_millis(row.not_before) for row in before]
    assert not {epoch.key_id for epoch in card.epochs} & set(revoked)
    numbers = [row.seq for row in before] + [item.seq for item in said] + [epoch.seq for epoch in card.epochs]
    assert numbers == sorted(set(numbers))
    await publish_own_epochs(shelter.node)
    assert await key_ids(shelter) == [epoch.key_id for epoch in card.epochs]


async def test_revoked_while_a_new_week_is_published_every_number_is_used_once(on_both: Federation) -> None:
    shelter = on_both[SHELTER]
    on_both.clock.pass_by(hours=24 * 7)
    for _ in range(3):
        await asyncio.gather(publish_own_epochs(shelter.node), revokes(shelter), publish_own_epochs(shelter.node))
    await revokes(shelter)
    rows = await shelter.node.database.read(own_epochs)
    gone = await shelter.node.database.read(lambda conn: epoch_revocations(conn, SHELTER.agency))
    numbers = [row.seq for row in (*gone, *rows)]
    assert len(numbers) == len(set(numbers))
    assert max(row.seq for row in gone) < min(row.seq for row in rows)
    assert len(rows) == 6


async def test_revoked_again_only_the_new_keys_are_revoked(two: Federation) -> None:
    first = await revokes(two[SHELTER])
    new = await key_ids(two[SHELTER])
    assert await revokes(two[SHELTER]) == new
    kept = await two[SHELTER].node.database.read(lambda conn: epoch_revocations(conn, SHELTER.agency))
    assert sorted(row.key_id for row in kept) == sorted([*first, *new])


async def test_who_does_not_ask_for_revocations_gets_the_card_it_knows(two: Federation) -> None:
    """A node that does not know them refuses a card with a member too many, and would learn of no new key."""
    shelter = two[SHELTER]
    await revokes(shelter)
    async with httpx2.AsyncClient(
        transport=shelter.network.apps[shelter.port], base_url=shelter.member.node_url
    ) as http:
        plain = (await http.get("/.well-known/referral-node")).json()
        asked = (await http.get("/.well-known/referral-node?revocations=true")).json()
    assert plain.keys() == asked.keys() - {"revocations"}
    assert {name: asked[name] for name in plain} == plain
    assert asked["revocations"]


async def test_a_held_disclosure_is_not_released_and_goes_when_it_is_sealed_again(pair: Federation) -> None:
    story = await begin(pair)
    revoked = await revokes(pair[SHELTER])
    await asks_for_card(pair)
    await story.decides("accepted")
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)
    assert await story.outgoing() == {"offer": ["delivered"]}
    again = her_content(pair, preferred_name=CANARY_NAME)
    await story.asks.referrals.replace_disclosure(story.id, content(**again))
    await story.travel()
    assert (await story.flags()).disclosed
    assert sealed_to(pair, story, "disclosure") not in revoked
    opened = await story.opened("disclosure")
    assert opened.content is not None
    assert opened.content.preferred_name == CANARY_NAME


async def test_what_is_held_under_a_key_of_last_week_is_not_released_either(two: Federation) -> None:
    """No card names that key any more; its revocation does."""
    week_ends = (await two[SHELTER].node.database.read(own_epochs))[0].not_after
    two.clock.offset += week_ends - 2 * HOUR_MS - two.clock()
    story = await begin(two)
    two.clock.pass_by(hours=3)
    for one in two.nodes.values():
        await maintain(one.node)
    assert (await story.outgoing())["disclosure"] == ["held"]
    revoked = await revokes(two[SHELTER])
    assert len(revoked) == len(await key_ids(two[SHELTER])) + 1
    await asks_for_card(two)
    await story.decides("accepted")
    flags = await story.flags()
    assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)


async def test_what_is_on_its_way_is_still_opened(two: Federation) -> None:
    story = await begin(two, travel=False)
    await revokes(two[SHELTER])
    await story.travel()
    assert (await story.opened("offer")).content is not None


async def test_a_process_that_did_not_fetch_the_card_itself_learns_of_it_within_a_minute(two: Federation) -> None:
    node, peer = two[HELPLINE].node, two[SHELTER].member
    await current_peer_epoch(node, peer)
    remembered = dict(node.epoch_memory)
    revoked = await revokes(two[SHELTER])
    await asks_for_card(two)
    node.epoch_memory.update(remembered)  # what another process on this database still remembers
    two.clock.pass_by(seconds=61)
    assert (await current_peer_epoch(node, peer)).key_id not in revoked


async def test_a_revocation_is_forgotten_when_no_key_of_its_time_is_left(pair: Federation) -> None:
    shelter, helpline = pair[SHELTER].node, pair[HELPLINE].node
    revoked_at = pair.clock()
    revoked = set(await revokes(pair[SHELTER]))
    await asks_for_card(pair)
    last = (await shelter.database.read(own_epochs))[-1].not_after
    pair.clock.offset += last + 21 * DAY_MS - MINUTE_MS - pair.clock()
    for node in (shelter, helpline):
        await maintain(node)
        assert await node.database.read(lambda conn: epoch_revocations(conn, SHELTER.agency))
    assert (await node_card(shelter, revocations=True)).revocations
    pair.clock.pass_by(seconds=61)
    assert (await node_card(shelter, revocations=True)).revocations == ()
    await destroy_ended(shelter)
    assert not revoked & await shelter.key_store.epoch_key_ids()
    for node in (shelter, helpline):
        await maintain(node)
        assert not await node.database.read(lambda conn: epoch_revocations(conn, SHELTER.agency))
    assert pair.clock() - revoked_at <= 6 * WEEK_MS + 21 * DAY_MS + MINUTE_MS


async def test_an_agency_that_seals_itself_is_given_no_revoked_key(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE,)) as pair:
        vault, client = pair[HELPLINE].vault(), pair[HELPLINE].client()
        consent = await client.consents.record(consent_request(SHELTER.agency, now=now_of(pair)))
        request = referral_request(SHELTER.agency, consent.id, now=now_of(pair))
        early = await vault.seal(request)
        revoked = await revokes(pair[SHELTER])
        await asks_for_card(pair)
        keys = await client.federation.peer_keys(SHELTER.agency)
        assert keys.epochs
        assert not {epoch.key_id for epoch in keys.epochs} & set(revoked)
        with pytest.raises(Exception, match="epoch-key-differs"):
            await client.sealing.hand_in(early.hand_in)
        await vault.refer(request)
        await pair.travel()
        assert {one.header.epoch_key for one in travelled(pair)}.isdisjoint(revoked)


async def test_what_is_held_for_a_lost_machine_is_not_released(tmp_path: Path) -> None:
    """Replaced and not revoked: the keys of this agency are elsewhere, and were lost with their machine."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        story = await referred(pair, pair[HELPLINE], pair[SHELTER])
        node, home = pair[HELPLINE].node, pair[SHELTER].agency_home
        lost = await current_peer_epoch(node, pair[SHELTER].member)
        new = home.parent / "new-machine"
        new.mkdir(mode=0o700)
        for name in ("agency.keys", "roster.json"):
            (new / name).write_bytes((home / name).read_bytes())
            (new / name).chmod(0o600)
        identity = replace(open_agency_folder(new, PASSPHRASE), clock=pair.clock)
        vault = AgencyVault(identity, pair[SHELTER].client())
        await vault.publish_epochs(replace=True)
        vault.close()
        await asks_for_card(pair)
        assert (await current_peer_epoch(node, pair[SHELTER].member)).key_id != lost.key_id
        await story.accepted()
        flags = (await story.asks.client.referrals.read(story.id)).flags
        assert (flags.disclosed, flags.awaiting_disclosure) == (False, True)


async def test_a_new_machine_on_an_emptied_node_publishes_what_peers_take(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        shelter = pair[SHELTER]
        pair.clock.pass_by(hours=24 * 7)
        await shelter.vault().publish_epochs()
        await asks_for_card(pair)
        await restored(shelter, [])
        for file in shelter.agency_home.glob("*.db*"):
            file.unlink()
        pair.clock.pass_by(hours=1)
        await shelter.vault().publish_epochs()
        await asks_for_card(pair)
        assert (await current_peer_epoch(pair[HELPLINE].node, shelter.member)).key_id in await key_ids(shelter)


async def test_with_a_new_key_store_the_lost_keys_are_revoked(two: Federation) -> None:
    """On a clean machine: the main database from its backup, the key store empty."""
    shelter = two[SHELTER]
    lost = await key_ids(shelter)
    await shelter.node.key_store.destroy_ended_epochs(two.clock() + 20 * WEEK_MS)
    assert not await shelter.node.key_store.epoch_key_ids()
    assert await revokes(shelter) == lost
    await asks_for_card(two)
    story = await begin(two)
    assert (await story.opened("offer")).content is not None


async def test_with_a_backup_older_than_a_revocation_peers_take_what_is_revoked_anew(tmp_path: Path) -> None:
    """What the database has forgotten peers remember; the numbers pass it all the same."""
    async with federation(tmp_path, (HELPLINE, SHELTER)) as pair:
        helpline, shelter = pair[HELPLINE], pair[SHELTER]
        backup = await shelter.node.database.read(own_epochs)
        pair.clock.pass_by(hours=1)
        for _ in range(3):
            lost = await revokes(shelter)
            await asks_for_card(pair)
        forgotten = await key_ids(shelter)
        await restored(shelter, backup)
        assert not await fetch_peer_keys(helpline.node, helpline.courier._transport, shelter.member)
        pair.clock.pass_by(hours=1)
        await revokes(shelter)
        await asks_for_card(pair)
        story = await begin(pair)
        assert sealed_to(pair, story, "offer") not in {*lost, *forgotten, *(row.key_id for row in backup)}
        assert (await story.opened("offer")).content is not None


async def test_with_a_backup_older_than_a_revocation_no_revoked_key_is_sealed_to(on_both: Federation) -> None:
    """The key store was kept, and nobody thought of revoking again: the start publishes new keys by itself."""
    helpline, shelter = on_both[HELPLINE], on_both[SHELTER]
    backup = await shelter.node.database.read(own_epochs)
    on_both.clock.pass_by(hours=1)
    revoked = set(await revokes(shelter))
    await restored(shelter, backup)
    on_both.clock.pass_by(hours=1)
    for _ in range(2):  # the second time there is nothing to publish
        await publish_own_epochs(shelter.node)
        assert len(await key_ids(shelter)) == 2 * len(backup)
    card = await node_card(shelter.node)
    assert len(card.epochs) == len(backup)
    assert not {epoch.key_id for epoch in card.epochs} & revoked
    # A peer that has never heard of the revocation, and one that was told, both take it.
    await asks_for_card(on_both)
    assert (await current_peer_epoch(helpline.node, shelter.member)).key_id not in revoked


async def test_with_a_backup_of_keys_that_were_not_revoked_they_go_on(two: Federation) -> None:
    shelter = two[SHELTER]
    backup = await shelter.node.database.read(own_epochs)
    await restored(shelter, backup)
    await publish_own_epochs(shelter.node)
    assert await shelter.node.database.read(own_epochs) == backup


async def test_with_an_empty_database_peers_take_what_is_published_anew(two: Federation) -> None:
    shelter = two[SHELTER]
    two.clock.pass_by(hours=1)
    await revokes(shelter)
    await asks_for_card(two)
    await restored(shelter, [])
    two.clock.pass_by(hours=1)
    await publish_own_epochs(shelter.node)
    await asks_for_card(two)
    assert (await current_peer_epoch(two[HELPLINE].node, shelter.member)).key_id in await key_ids(shelter)


async def test_a_clock_that_went_back_takes_no_number_back(two: Federation) -> None:
    shelter = two[SHELTER]
    two.clock.pass_by(hours=24)
    await revokes(shelter)
    highest = max(row.seq for row in await shelter.node.database.read(own_epochs))
    two.clock.pass_by(hours=-24)
    await revokes(shelter)
    assert min(row.seq for row in await shelter.node.database.read(own_epochs)) > highest
    await asks_for_card(two)


async def restored(one: TestNode, backup: Sequence[StoredEpoch]) -> None:
    """The node's weekly keys are again as they were in a backup, and its database knows of no revocation."""

    def commit(conn: Connection) -> None:
        conn.execute(delete(OWN_EPOCH))
        conn.execute(delete(EPOCH_REVOCATION))
        publish_epochs(conn, backup)

    await one.node.database.write(commit)


async def test_a_node_without_the_agency_key_revokes_nothing(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as pair:
        before = await key_ids(pair[SHELTER])
        with pytest.raises(ConflictError) as refused:
            await revokes(pair[SHELTER])
        assert refused.value.code == "keys-elsewhere"
        assert await key_ids(pair[SHELTER]) == before

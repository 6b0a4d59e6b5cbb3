"""An agency key that was replaced, with the database staying: peers believe the next card, and seal to its keys."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from support.federation import Federation, TestNode, federation
from support.founded import PASSPHRASE
from support.networks import OverTransport

from exchange.api.api import build_api
from exchange.api.serving import attach
from exchange.cli.founding import KEYS_NAME
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.envelope.key_file import FLOOR, open_keys, read_key_file, seal_keys
from exchange.envelope.keys import KEY_BYTES, NONCE_BYTES, AgencyKey, NodeKey
from exchange.federation.peers import fetch_peer_keys, verified_revocations, verified_statements
from exchange.roster import Member
from exchange.startup import open_node
from exchange.storage.epochs import epoch_revocations, own_epochs
from exchange.use_cases.describe_node import node_card, readiness
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import current_peer_epoch
from exchange.use_cases.own_epochs import publish_own_epochs, revoke_own_epochs


async def listed(pair: Federation, key: AgencyKey) -> None:
    """The roster lists this agency key for the shelter, and both nodes have it."""

    def renewed(member: Member) -> Member:
        return member.model_copy(update={"agency_key": key.public}) if member.agency == SHELTER.agency else member

    await pair.new_roster(member=renewed)


@asynccontextmanager
async def started_with(pair: Federation, key: AgencyKey) -> AsyncIterator[Node]:
    """The shelter's node, started again on its databases with this agency key in its key file."""
    one = pair[SHELTER]
    file = one.home / KEYS_NAME
    keys = replace(open_keys(read_key_file(file), PASSPHRASE.encode()), agency=key)
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(NONCE_BYTES)
    file.write_bytes(seal_keys(keys, PASSPHRASE.encode(), salt=salt, nonce=nonce, cost=FLOOR))
    async with open_node(one.settings, network=OverTransport(pair.network)) as node:
        app = build_api(node)
        attach(app, node)
        pair.network.apps[one.port] = httpx2.ASGITransport(app=app)
        yield node


async def fetches(one: TestNode, other: TestNode) -> bool:
    """One node asks the other for its card, under the agency key that its roster lists now."""
    peer = one.node.world().roster.member(other.agency)
    return await fetch_peer_keys(one.node, one.courier._transport, peer)


async def test_peers_take_the_card_and_seal_to_a_key_of_the_new_agency_key(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER)) as pair:
        one, other, new = pair[HELPLINE], pair[SHELTER], AgencyKey(secrets.token_bytes(KEY_BYTES))
        revoked = set(await revoke_own_epochs(other.node, compromised_since=pair.clock() - 1))
        assert await fetches(one, other)
        old = {row.key_id for row in await other.node.database.read(own_epochs)}
        assert (await current_peer_epoch(one.node, other.member)).key_id in old
        await listed(pair, new)
        async with started_with(pair, new) as node:
            card = await node_card(node, revocations=True)
            assert len(verified_statements(card, node.member)) == 6
            assert card.revocations == ()
            assert await fetches(one, other)
            sealed_to = (await current_peer_epoch(one.node, node.member)).key_id
            assert sealed_to in await node.key_store.epoch_key_ids() - old - revoked
            await publish_own_epochs(node)
            assert (await node_card(node)).epochs == card.epochs
            # Its own revocations take the old keys along, and are believed.
            assert old < set(await revoke_own_epochs(node, compromised_since=pair.clock() - 1))
            card = await node_card(node, revocations=True)
            assert old < {item.key_id for item in verified_revocations(card, node.member)}
            assert await fetches(one, other)
            assert (await current_peer_epoch(one.node, node.member)).key_id not in {sealed_to} | old | revoked


async def test_what_the_old_key_signed_is_kept_and_its_numbers_are_not_used_again(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER)) as pair:
        other, new = pair[SHELTER], AgencyKey(secrets.token_bytes(KEY_BYTES))
        await revoke_own_epochs(other.node, compromised_since=pair.clock() - 1)
        before = await other.node.database.read(own_epochs)
        gone = await other.node.database.read(lambda conn: epoch_revocations(conn, SHELTER.agency))
        await listed(pair, new)
        async with started_with(pair, new) as node:
            rows = await node.database.read(own_epochs)
            assert rows[: len(before)] == before
            assert min(row.seq for row in rows[len(before) :]) > max(row.seq for row in (*before, *gone))
            assert await node.database.read(lambda conn: epoch_revocations(conn, SHELTER.agency)) == gone


async def test_a_node_that_runs_with_the_old_key_says_and_publishes_nothing(tmp_path: Path) -> None:
    """The roster came while it runs: it is not ready, and its rows do not grow with every round."""
    async with federation(tmp_path, (HELPLINE, SHELTER)) as pair:
        node = pair[SHELTER].node
        before = await node.database.read(own_epochs)
        assert (await readiness(node)).status == "ready"
        await listed(pair, AgencyKey(secrets.token_bytes(KEY_BYTES)))
        await publish_own_epochs(node)
        assert await node.database.read(own_epochs) == before
        card = await node_card(node, revocations=True)
        assert (card.epochs, card.revocations) == ((), ())
        health = await readiness(node)
        assert (health.status, health.checks["roster"]) == ("not-ready", "other-agency-key")
        assert health.checks["epoch-key"] == "missing"


@pytest.mark.parametrize("blind", [(), (SHELTER,)], ids=["keys here", "keys elsewhere"])
async def test_a_node_whose_node_key_is_not_the_listed_one_is_not_ready(
    tmp_path: Path, blind: tuple[AgencyPlan, ...]
) -> None:
    """No peer lets it in, whatever it says of itself."""
    other = NodeKey(secrets.token_bytes(KEY_BYTES))
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=blind) as pair:
        node = pair[SHELTER].node
        assert (await readiness(node)).status == "ready"
        await pair.new_roster(
            member=lambda member: (
                member.model_copy(update={"node_key": other.public}) if member.agency == SHELTER.agency else member
            )
        )
        health = await readiness(node)
        assert (health.status, health.checks["roster"]) == ("not-ready", "other-node-key")
        assert (await readiness(pair[HELPLINE].node)).status == "ready"

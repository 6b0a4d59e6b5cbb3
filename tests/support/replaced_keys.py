"""A node that is started again with other keys, on its databases, as after a key was replaced."""

from __future__ import annotations

import functools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from unittest.mock import patch

import httpx2
from support.federation import Federation, Line, TestNode
from support.founded import PASSPHRASE
from support.networks import OverTransport
from typer.testing import CliRunner

from exchange.api.api import build_api
from exchange.api.serving import attach
from exchange.cli import new_keys
from exchange.cli.application import app
from exchange.client.vault import AgencyVault
from exchange.client.vault.agency_keys import AGENCY_KEYS_NAME
from exchange.demo.federation import AgencyPlan
from exchange.envelope.key_file import FLOOR, open_keys, read_key_file, seal_keys
from exchange.envelope.keys import KEY_BYTES, NONCE_BYTES, AgencyKey, NodeKey
from exchange.envelope.statements import Adherence, parse_statement
from exchange.federation.courier import Courier
from exchange.federation.transport import HTTPTransport
from exchange.roster import Member, parse_member_card
from exchange.settings import CARD_NAME, KEYS_NAME
from exchange.startup import open_node


async def listed(
    pair: Federation,
    plan: AgencyPlan,
    *,
    agency_key: AgencyKey | None = None,
    node_key: NodeKey | None = None,
    known_to: tuple[AgencyPlan, ...] | None = None,
) -> None:
    """The roster lists these keys for this agency; its adherence to the contracts is signed anew with them."""
    new = {name: key.public for name, key in (("agency_key", agency_key), ("node_key", node_key)) if key is not None}

    def renewed(member: Member) -> Member:
        return member.model_copy(update=new) if member.agency == plan.agency else member

    await pair.new_roster(member=renewed, signs=(plan.agency, agency_key) if agency_key else None, known_to=known_to)


@asynccontextmanager
async def started_with(
    pair: Federation, plan: AgencyPlan, *, agency_key: AgencyKey | None = None, node_key: NodeKey | None = None
) -> AsyncIterator[None]:
    """This agency's node, started again with these keys in its key file; until the end it is the one of the tests."""
    one = pair[plan]
    _write_keys(one.home / KEYS_NAME, agency_key=agency_key, node_key=node_key)
    before = one.node, one.courier
    line = Line(pair.network, one.port)
    async with open_node(one.settings, network=OverTransport(line)) as node:
        node.clock = pair.clock
        app = build_api(node)
        attach(app, node)
        pair.network.apps[one.port] = httpx2.ASGITransport(app=app)
        transport = HTTPTransport(node.agency, node.node_key, node.limits, node.clock, network=OverTransport(line))
        one.node, one.courier = node, Courier(node, transport)
        try:
            yield
        finally:
            await transport.close()
            one.node, one.courier = before


def another_agency_key() -> AgencyKey:
    """A key that no roster lists yet."""
    return AgencyKey(secrets.token_bytes(KEY_BYTES))


def another_node_key() -> NodeKey:
    """A key that no roster lists yet."""
    return NodeKey(secrets.token_bytes(KEY_BYTES))


def with_another_key(one: TestNode, agency_key: AgencyKey) -> AgencyVault:
    """The agency's own software with this key in its key file, where the keys are elsewhere."""
    _write_keys(one.agency_home / AGENCY_KEYS_NAME, agency_key=agency_key, node_key=None)
    return one.vault()


async def renewed_by_the_command(pair: Federation, plan: AgencyPlan, folder: Path) -> None:
    """`exchange keys renew` on the agency's own machine; the roster takes its card, and all is in its place."""
    one = pair[plan]
    variables = {"EXCHANGE_HOME": str(one.agency_home), "EXCHANGE_AGENCY_PASSPHRASE": PASSPHRASE}
    with patch.object(new_keys, "seal_keys", functools.partial(seal_keys, cost=FLOOR)):
        done = CliRunner().invoke(app, ("keys", "renew", str(folder), "--agency"), env=variables)
    assert done.exit_code == 0, done.output
    card = parse_member_card((folder / CARD_NAME).read_bytes().strip())
    signed = [path.read_bytes().strip() for path in (folder / "adherence").iterdir()]
    adherence = {parse_statement(Adherence, data).verify(card.agency_key).contract: data for data in signed}
    contracts = [
        replace(adoption, adherence=MappingProxyType({**adoption.adherence, card.agency: adherence[adoption.digest]}))
        for adoption in one.node.world().roster.contracts
    ]
    await pair.new_roster(member=lambda member: card if member.agency == card.agency else member, contracts=contracts)
    for name in (AGENCY_KEYS_NAME, CARD_NAME):
        (folder / name).replace(one.agency_home / name)


def _write_keys(file: Path, *, agency_key: AgencyKey | None, node_key: NodeKey | None) -> None:
    keys = open_keys(read_key_file(file), PASSPHRASE.encode())
    keys = replace(keys, agency=agency_key or keys.agency, node=node_key or keys.node)
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(NONCE_BYTES)
    file.write_bytes(seal_keys(keys, PASSPHRASE.encode(), salt=salt, nonce=nonce, cost=FLOOR))

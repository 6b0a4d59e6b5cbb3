"""A client that has the id of a member keeps it out; once the client is revoked, the member is heard again."""

from __future__ import annotations

import json

from support.federation import Federation
from support.stories import begin

from exchange.client import ClientKey
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.oauth.clients import PeerClient, RegisteredClient
from exchange.oauth.scopes import CLIENT_SCOPES, format_scopes
from exchange.storage.access import StoredClient, insert_client, revoke_client
from exchange.use_cases.authenticate import load_client


async def test_a_revoked_client_keeps_no_member_out(two: Federation) -> None:
    node = two[SHELTER].node
    jwks = json.dumps({"keys": [ClientKey(bytes(32)).public_jwk()]})
    row = StoredClient(HELPLINE.agency, jwks, format_scopes(CLIENT_SCOPES), None, "active", two.clock())
    await node.database.write(lambda conn: insert_client(conn, row))
    assert isinstance(await load_client(node, HELPLINE.agency), RegisteredClient)
    await node.database.write(lambda conn: revoke_client(conn, HELPLINE.agency))
    assert isinstance(await load_client(node, HELPLINE.agency), PeerClient)
    story = await begin(two)
    await story.says_no("stop-service")
    await story.both_say("withdrawn")

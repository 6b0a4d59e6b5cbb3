"""A member joins under the id of a client: both are let in, each by its own key, and neither acts as the other."""

from __future__ import annotations

import json

import httpx2
import pytest
from support.federation import Federation
from support.stories import begin

from exchange.client import ClientKey
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.wire import to_base64url
from exchange.oauth.assertion import make_assertion, token_request
from exchange.oauth.client_proof import UsedJti
from exchange.oauth.clients import PeerClient, RegisteredClient
from exchange.oauth.compact import Sign
from exchange.oauth.scopes import CLIENT_SCOPES, Scope, format_scopes
from exchange.storage.access import StoredClient, insert_client, revoke_client
from exchange.use_cases import authenticate
from exchange.use_cases.authenticate import load_client, remember_jti
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.registered_here import marked

KEY = ClientKey(bytes(32))
NAME = HELPLINE.agency
"""A client of the shelter, and the helpline."""


async def register(two: Federation, jwk: dict[str, str]) -> None:
    """A system of the shelter, from before the helpline joined."""
    node = two[SHELTER].node
    row = StoredClient(NAME, json.dumps({"keys": [jwk]}), format_scopes(CLIENT_SCOPES), None, "active", two.clock())
    await node.database.write(lambda conn: insert_client(conn, marked(node.storage_key, row)))


async def ask(two: Federation, sign: Sign, scope: str) -> httpx2.Response:
    """A token of the shelter's node for whoever has this key and this name."""
    url = two[SHELTER].member.node_url
    form = token_request(make_assertion(NAME, url, sign, now=two.clock()), scope)
    async with httpx2.AsyncClient(transport=two.network) as http:
        return await http.post(f"{url}/oauth/token", data=form)


async def call(two: Federation, token: str, method: str, path: str) -> int:
    headers = {"authorization": f"Bearer {token}", "actor": "w-test"}
    async with httpx2.AsyncClient(transport=two.network) as http:
        return (await http.request(method, two[SHELTER].member.node_url + path, headers=headers)).status_code


async def test_the_member_is_heard_and_the_client_goes_on(two: Federation) -> None:
    await register(two, KEY.public_jwk())
    story = await begin(two)
    await story.says_no("stop-service")
    await story.both_say("withdrawn")
    theirs = (await ask(two, KEY.sign, "inbox:read")).json()["access_token"]
    peers = (await ask(two, two[HELPLINE].node.node_key.sign, "federation")).json()["access_token"]
    assert await call(two, theirs, "GET", "/v1/inbox") == 200
    assert await call(two, peers, "GET", "/v1/inbox") == 403
    assert await call(two, theirs, "POST", "/federation/v1/envelopes") == 403
    await two[SHELTER].node.database.write(lambda conn: revoke_client(conn, NAME))
    assert await call(two, theirs, "GET", "/v1/inbox") == 401
    assert (await ask(two, KEY.sign, "inbox:read")).status_code == 401
    assert (await ask(two, two[HELPLINE].node.node_key.sign, "federation")).status_code == 200


@pytest.mark.parametrize("scope", [*Scope, f"federation {Scope.INBOX_READ}", ""])
async def test_neither_gets_a_token_of_the_other(two: Federation, scope: str) -> None:
    await register(two, KEY.public_jwk())
    for sign, own in ((KEY.sign, CLIENT_SCOPES), (two[HELPLINE].node.node_key.sign, {Scope.FEDERATION})):
        answer = await ask(two, sign, scope)
        assert answer.is_success is (scope in own), answer.text
        assert answer.is_success or answer.json()["error"] in {"invalid_client", "invalid_scope"}


async def test_where_both_have_one_key_neither_is_let_in_until_the_client_is_revoked(two: Federation) -> None:
    key = two[HELPLINE].node.node_key
    await register(two, {"kty": "OKP", "crv": "Ed25519", "x": to_base64url(key.public)})
    for scope in ("federation", "inbox:read"):
        assert (await ask(two, key.sign, scope)).status_code == 401
    await two[SHELTER].node.database.write(lambda conn: revoke_client(conn, NAME))
    assert (await ask(two, key.sign, "inbox:read")).status_code == 400
    assert (await ask(two, key.sign, "federation")).status_code == 200


async def test_a_revoked_client_keeps_no_member_out(two: Federation) -> None:
    node = two[SHELTER].node
    await register(two, KEY.public_jwk())
    assert isinstance(await load_client(node, NAME), RegisteredClient)
    assert isinstance(await load_client(node, NAME, as_peer=True), PeerClient)
    await node.database.write(lambda conn: revoke_client(conn, NAME))
    for as_peer in (False, True):
        assert isinstance(await load_client(node, NAME, as_peer=as_peer), PeerClient)
    story = await begin(two)
    await story.says_no("stop-service")
    await story.both_say("withdrawn")


async def test_nobody_is_a_peer_of_its_own_node(two: Federation) -> None:
    assert await load_client(two[SHELTER].node, SHELTER.agency, as_peer=True) is None
    assert isinstance(await load_client(two[SHELTER].node, HELPLINE.agency, as_peer=True), PeerClient)


async def test_a_proof_that_is_used_again_is_no_sign_of_life(two: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[str] = []
    monkeypatch.setattr(authenticate, "sign_of_life", lambda _conn, agency, _at: signs.append(agency))
    node, used = two[SHELTER].node, UsedJti(HELPLINE.agency, "one", two.clock() + 60_000)
    await remember_jti(node, used, peer=True)
    with pytest.raises(ConflictError):
        await remember_jti(node, used, peer=True)
    assert signs == [HELPLINE.agency]

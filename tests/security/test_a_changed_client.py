"""Somebody can write to a node's main database and reach its API, and has none of its keys: nobody new gets in."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import pytest
from sqlalchemy import insert, select, update
from support.federation import Federation, TestNode

from exchange.cli.founding import FIRST_CLIENT
from exchange.client import ClientKey
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.wire import to_base64url
from exchange.oauth.assertion import make_assertion, token_request
from exchange.oauth.compact import Sign
from exchange.oauth.scopes import CLIENT_SCOPES, Scope, format_scopes
from exchange.storage.access import StoredClient, revoke_client
from exchange.storage.database import Connection
from exchange.storage.tables import OAUTH_CLIENT
from exchange.use_cases import authenticate
from exchange.use_cases.registered_here import marked

STRANGER = ClientKey(bytes(32))
THEIR_KEYS = json.dumps({"keys": [STRANGER.public_jwk()]})
Row = Mapping[str, Any]


async def row_of(node: TestNode, client_id: str = FIRST_CLIENT) -> dict[str, Any]:
    """A client as it stands there."""

    def read(conn: Connection) -> dict[str, Any]:
        found = conn.execute(select(OAUTH_CLIENT).where(OAUTH_CLIENT.c.client_id == client_id))
        return dict(found.mappings().one())

    return await node.node.database.read(read)


async def writes(node: TestNode, **values: Any) -> None:
    """Somebody changes the row of the first client."""
    changed = update(OAUTH_CLIENT).where(OAUTH_CLIENT.c.client_id == FIRST_CLIENT).values(**values)
    await node.node.database.write(lambda conn: conn.execute(changed).rowcount)


async def inserts(node: TestNode, row: Row) -> None:
    """Somebody writes one more."""
    await node.node.database.write(lambda conn: conn.execute(insert(OAUTH_CLIENT), dict(row)).rowcount)


async def asks(node: TestNode, client_id: str, sign: Sign, scope: str = "inbox:read") -> httpx2.Response:
    """For a token."""
    url = node.member.node_url
    form = token_request(make_assertion(client_id, url, sign, now=node.node.clock()), scope)
    async with httpx2.AsyncClient(transport=node.network) as http:
        return await http.post(f"{url}/oauth/token", data=form)


async def calls(node: TestNode, token: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(transport=node.network) as http:
        return await http.get(f"{node.member.node_url}/v1/inbox", headers=headers)


def its_key(node: TestNode) -> ClientKey:
    return ClientKey.load(node.agency_home / "client.jwk")


async def is_a_stranger(node: TestNode, client_id: str, sign: Sign) -> None:
    """Answered to the byte as somebody of whom nothing stands there."""
    answer, nobody = await asks(node, client_id, sign), await asks(node, "nobody-at-all", STRANGER.sign)
    assert (answer.status_code, answer.content) == (nobody.status_code, nobody.content)
    assert nobody.status_code in {400, 401}


@pytest.mark.parametrize(
    "made_up",
    [
        pytest.param(lambda _row: None, id="none"),
        pytest.param(lambda _row: "", id="empty"),
        pytest.param(lambda _row: "ab" * 32, id="made up"),
        pytest.param(lambda row: row["mark"], id="another client's"),
    ],
)
async def test_who_is_written_into_the_database_is_not_let_in(
    two: Federation, made_up: Callable[[Row], str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    node = two[SHELTER]
    row = await row_of(node)
    await inserts(node, row | {"client_id": "case-system", "jwks": THEIR_KEYS, "mark": made_up(row)})
    await is_a_stranger(node, "case-system", STRANGER.sign)
    assert '"event":"client.unmarked"' in capsys.readouterr().err


CHANGES = [
    pytest.param({"jwks": THEIR_KEYS}, id="another key"),
    pytest.param({"scopes": format_scopes(CLIENT_SCOPES - {Scope.INBOX_DECIDE})}, id="fewer scopes"),
    pytest.param({"unit": "north"}, id="a branch"),
    pytest.param({"unit": ""}, id="an empty branch"),
    pytest.param({"created_at": 1}, id="another time"),
    pytest.param({"mark": None}, id="no mark"),
    pytest.param({"mark": "ab" * 32}, id="another mark"),
]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_client_whose_row_was_changed_is_not_let_in(two: Federation, change: dict[str, Any]) -> None:
    """Nor does its token go on, whatever was remembered of it."""
    node = two[SHELTER]
    key, row = its_key(node), await row_of(node)
    token = (await asks(node, FIRST_CLIENT, key.sign)).json()["access_token"]
    assert (await calls(node, token)).status_code == 200
    await writes(node, **change)
    refused, unknown = await calls(node, token), await calls(node, "x.y.z")
    assert (refused.status_code, refused.json()["code"]) == (unknown.status_code, unknown.json()["code"])
    await is_a_stranger(node, FIRST_CLIENT, STRANGER.sign if "jwks" in change else key.sign)
    await writes(node, **row)
    assert (await calls(node, token)).status_code == 200


@pytest.mark.parametrize("change", [{"scopes": format_scopes(CLIENT_SCOPES)}, {"unit": None}, {"client_id": "other"}])
async def test_a_client_that_may_do_little_gets_no_more_rights(pair: Federation, change: dict[str, Any]) -> None:
    node = pair[SHELTER]
    row = StoredClient("narrow", THEIR_KEYS, "inbox:read", "north", "active", node.node.clock())
    registered = marked(node.node.storage_key, row)._asdict()
    await inserts(node, registered)
    assert (await asks(node, "narrow", STRANGER.sign)).status_code == 200
    changed = update(OAUTH_CLIENT).where(OAUTH_CLIENT.c.client_id == "narrow").values(**change)
    await node.node.database.write(lambda conn: conn.execute(changed).rowcount)
    await is_a_stranger(node, change.get("client_id", "narrow"), STRANGER.sign)


async def test_a_client_that_was_revoked_is_not_active_because_its_row_says_so(two: Federation) -> None:
    node = two[SHELTER]
    await node.node.database.write(lambda conn: revoke_client(conn, FIRST_CLIENT))
    await writes(node, status="active")
    await is_a_stranger(node, FIRST_CLIENT, its_key(node).sign)


async def test_nobody_keeps_a_member_out_with_a_client_of_its_id_and_key(two: Federation) -> None:
    """Of two with one key neither is let in, and its key stands in the roster for all to read."""
    node, peer = two[SHELTER], two[HELPLINE]
    jwk = STRANGER.public_jwk() | {"x": to_base64url(peer.member.node_key)}
    await inserts(node, await row_of(node) | {"client_id": peer.agency, "jwks": json.dumps({"keys": [jwk]})})
    assert (await asks(node, peer.agency, peer.node.node_key.sign, "federation")).status_code == 200


async def test_a_mark_that_was_found_right_is_not_worked_out_at_every_call(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, asked = two[SHELTER], []
    monkeypatch.setattr(authenticate, "is_foreign", lambda _key, client: bool(asked.append(client.client_id)))
    token = (await asks(node, FIRST_CLIENT, its_key(node).sign)).json()["access_token"]
    for _ in range(3):
        assert (await calls(node, token)).status_code == 200
    assert asked == [FIRST_CLIENT]

"""Who may call: a parameter type on every route, or a place on the public list."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from support.api_node import CLIENT, Bench

from exchange.api import build_api
from exchange.api.bodies import IdempotencyHeader
from exchange.api.callers import ActingRight, PeerRight, Right
from exchange.api.openapi import _found
from exchange.api.public import PUBLIC
from exchange.oauth.scopes import Scope

ROUTES = [
    context.original_route
    for context in iter_route_contexts(build_api().routes)
    if isinstance(context.original_route, APIRoute)
]
#: Reads by POST: a body is too long, or too telling, for an address. They store nothing.
READING_POSTS = {"/v1/referrals/preview"}
OPENING_GETS = {"/v1/inbox/{item_id}", "/v1/inbox/{item_id}/contact-advice"}


def test_every_route_is_an_api_route() -> None:
    assert {type(context.original_route) for context in iter_route_contexts(build_api().routes)} == {APIRoute}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{'-'.join(route.methods)}-{route.path}")
def test_route_has_one_caller_type_or_is_public(route: APIRoute) -> None:
    rights = list(_found(route, Right))
    public = {(method, route.path) for method in route.methods} <= PUBLIC
    assert len(rights) == (0 if public else 1)


def test_public_list_names_routes_that_exist() -> None:
    assert {(method, route.path) for route in ROUTES for method in route.methods} >= PUBLIC


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{'-'.join(route.methods)}-{route.path}")
def test_every_write_and_every_open_names_its_worker(route: APIRoute) -> None:
    rights = list(_found(route, Right))
    if not rights or isinstance(rights[0], PeerRight):
        return
    acts = (route.methods != {"GET"} and route.path not in READING_POSTS) or route.path in OPENING_GETS
    assert isinstance(rights[0], ActingRight) is acts


def test_exactly_these_calls_create_something() -> None:
    keyed = {route.path for route in ROUTES if any(True for _ in _found(route, IdempotencyHeader))}
    assert keyed == {
        "/v1/consents",
        "/v1/withdrawals",
        "/v1/envelopes",
        "/v1/referrals",
        "/v1/referrals/{referral_id}/disclosure",
        "/v1/referrals/{referral_id}/information",
        "/v1/referrals/{referral_id}/safe-contact",
    }


SCOPES = {
    ("POST", "/v1/consents"): Scope.CONSENTS_WRITE,
    ("GET", "/v1/consents/{consent_id}"): Scope.CONSENTS_WRITE,
    ("GET", "/v1/consents/{consent_id}/receipt"): Scope.CONSENTS_WRITE,
    ("GET", "/v1/consents/{consent_id}/referrals"): Scope.REFERRALS_WRITE,
    ("POST", "/v1/consents/{consent_id}/renewal"): Scope.CONSENTS_WRITE,
    ("PATCH", "/v1/consents/{consent_id}/provisions"): Scope.CONSENTS_WRITE,
    ("POST", "/v1/withdrawals"): Scope.CONSENTS_WRITE,
    ("POST", "/v1/referrals/preview"): Scope.REFERRALS_WRITE,
    ("POST", "/v1/referrals"): Scope.REFERRALS_WRITE,
    ("GET", "/v1/referrals"): Scope.REFERRALS_READ,
    ("GET", "/v1/referrals/{referral_id}"): Scope.REFERRALS_READ,
    ("POST", "/v1/referrals/{referral_id}/recall"): Scope.REFERRALS_WRITE,
    ("POST", "/v1/referrals/{referral_id}/information"): Scope.REFERRALS_WRITE,
    ("POST", "/v1/referrals/{referral_id}/safe-contact"): Scope.REFERRALS_WRITE,
    ("POST", "/v1/referrals/{referral_id}/entered-in-error"): Scope.REFERRALS_WRITE,
    ("PUT", "/v1/referrals/{referral_id}/disclosure"): Scope.REFERRALS_WRITE,
    ("DELETE", "/v1/referrals/{referral_id}/disclosure"): Scope.REFERRALS_WRITE,
    ("POST", "/v1/referrals/{referral_id}/release"): Scope.REFERRALS_WRITE,
    ("GET", "/v1/inbox"): Scope.INBOX_READ,
    ("POST", "/v1/inbox/{item_id}/lease"): Scope.INBOX_READ,
    ("PUT", "/v1/inbox/{item_id}/acknowledgement"): Scope.INBOX_READ,
    ("PUT", "/v1/inbox/{item_id}/opening"): Scope.INBOX_OPEN,
    ("POST", "/v1/envelopes"): Scope.REFERRALS_WRITE,
    ("GET", "/v1/epochs"): Scope.INBOX_READ,
    ("PUT", "/v1/epochs"): Scope.INBOX_OPEN,
    ("GET", "/v1/inbox/{item_id}"): Scope.INBOX_OPEN,
    ("POST", "/v1/inbox/open"): Scope.INBOX_OPEN,
    ("GET", "/v1/inbox/{item_id}/contact-advice"): Scope.INBOX_OPEN,
    ("POST", "/v1/inbox/{item_id}/decision"): Scope.INBOX_DECIDE,
    ("POST", "/v1/inbox/{item_id}/progress"): Scope.INBOX_DECIDE,
    ("POST", "/v1/inbox/{item_id}/recall-answer"): Scope.INBOX_DECIDE,
    ("POST", "/v1/inbox/{item_id}/refusal"): Scope.INBOX_DECIDE,
    ("POST", "/v1/inbox/{item_id}/erasure-attestation"): Scope.INBOX_DECIDE,
    ("POST", "/v1/inbox/{item_id}/entered-in-error"): Scope.INBOX_DECIDE,
    ("GET", "/v1/contracts"): Scope.CONTRACTS_READ,
    ("GET", "/v1/contracts/{digest}"): Scope.CONTRACTS_READ,
    ("GET", "/v1/peers/{agency}/keys"): Scope.CONTRACTS_READ,
    ("POST", "/federation/v1/envelopes"): Scope.FEDERATION,
    ("POST", "/federation/v1/resync"): Scope.FEDERATION,
    ("POST", "/federation/v1/consent-status"): Scope.FEDERATION,
    ("GET", "/federation/v1/roster"): Scope.FEDERATION,
}


def test_paths_and_scopes_are_those_of_the_protocol() -> None:
    found = {
        (method, route.path): right.scope
        for route in ROUTES
        for method in route.methods
        for right in _found(route, Right)
    }
    assert found == SCOPES


async def test_acting_is_client_actor_and_unit(api: Bench) -> None:
    headers = {"Authorization": f"Bearer {api.token()}", "Actor": "worker-1", "Unit": "penang"}
    async with api.http() as http:
        await http.get("/v1/inbox/3c81d7f05ae94b2f96b0d4e8172c5fa6", headers=headers)
    acting = api.calls[0][1][0]
    assert (acting.client_id, acting.actor, acting.unit) == (CLIENT, "worker-1", "penang")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        pytest.param("penang", 200, id="own"),
        pytest.param(None, 200, id="none"),
        pytest.param("johor", 403, id="another"),
        pytest.param("two words", 400, id="malformed"),
    ],
)
async def test_a_client_of_a_branch_stays_in_it(api: Bench, asked: str | None, status: int) -> None:
    headers = {"Authorization": f"Bearer {api.token(unit='penang')}", **({"Unit": asked} if asked else {})}
    async with api.http() as http:
        answer = await http.get("/v1/inbox", headers=headers)
    assert answer.status_code == status
    if status == 200:
        assert api.calls[0][2]["unit"] == "penang"


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        pytest.param("Basic dXNlcjpwYXNz", 401, id="other-scheme"),
        pytest.param("Bearer", 400, id="no-token"),
        pytest.param("Bearer a b", 400, id="two-tokens"),
        pytest.param("Bearer eyJhbGciOiJub25lIn0.e30.", 401, id="unsigned"),
        pytest.param("Bearer x", 401, id="garbage"),
    ],
)
async def test_bad_credentials(api: Bench, authorization: str, status: int) -> None:
    async with api.http() as http:
        answer = await http.get("/v1/inbox", headers={"Authorization": authorization})
    assert answer.status_code == status
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("method", "path", "peer"),
    [
        pytest.param("GET", "/v1/inbox", True, id="a-peer-reads-an-inbox"),
        pytest.param("GET", "/federation/v1/roster", False, id="a-client-reads-the-roster"),
    ],
)
async def test_a_good_token_of_the_other_kind_is_told_so(api: Bench, method: str, path: str, peer: bool) -> None:
    """403 and not 401: who is told that its token is bad makes another one, and comes back."""
    async with api.http() as http:
        answer = await http.request(method, path, headers={"Authorization": f"Bearer {api.token(peer=peer)}"})
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert api.calls == []


@pytest.mark.parametrize("header", ["Authorization", "Actor", "Unit"])
async def test_a_header_stands_once(api: Bench, header: str) -> None:
    headers = [("Authorization", f"Bearer {api.token()}"), ("Actor", "worker-1"), ("Unit", "penang")]
    headers.append(next(pair for pair in headers if pair[0] == header))
    async with api.http() as http:
        answer = await http.get("/v1/inbox/3c81d7f05ae94b2f96b0d4e8172c5fa6", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["code"] == "header-repeated"


@pytest.mark.parametrize("path", ["/v1/inbox", "/v1/inbox/3c81d7f05ae94b2f96b0d4e8172c5fa6", "/v1/referrals"])
@pytest.mark.parametrize("query", ["referral={0}&referral={1}", "wait=1&wait=2", "cursor=a&wait=1&cursor=a"])
async def test_a_parameter_stands_once(api: Bench, path: str, query: str) -> None:
    """Of two referrals only the last would count, and an empty page would look like an answer about both."""
    asked = query.format("1" * 32, "2" * 32)
    async with api.http() as http:
        answer = await http.get(f"{path}?{asked}", headers={"Authorization": f"Bearer {api.token()}", "Actor": "w"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid-request"
    assert api.calls == []

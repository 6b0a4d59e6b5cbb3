"""A hand-written stand-in for a node behind the API, and for the use cases it calls. Rendering and refusal only:
whatever a use case does is tested where it lives, with the real one.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from opentelemetry.metrics import NoOpMeter
from pydantic import BaseModel

from exchange.api import build_api
from exchange.api.examples import EXAMPLES
from exchange.api.openapi import agency_document, federation_document
from exchange.limits import LIMITS, Limits
from exchange.oauth.access_token import AccessTokenSigner, Caller
from exchange.oauth.clients import ClientKey, PeerClient, RegisteredClient
from exchange.oauth.scopes import CLIENT_SCOPES, Scope
from exchange.oauth.server import TokenServer
from exchange.schemas import consents, federation, inbox, node, referrals, sealing
from exchange.schemas.shapes import written
from exchange.telemetry.measurements import Measurements
from exchange.use_cases.idempotency import Stored

ISSUER = "https://helpline.example"
TOKEN_SEED = b"t" * 32
CLIENT_SEED = b"c" * 32
PEER_SEED = b"p" * 32
NOW = 1_795_400_000_000
CLIENT = "case-system"
PEER = "rose-house-shelter"


def public_half(seed: bytes) -> bytes:
    return AccessTokenSigner(ISSUER, seed).public_key


@dataclass
class StandIn:
    """What the API itself asks of a node."""

    agency: str = "harbour-helpline"
    issuer: str = ISSUER
    limits: Limits = LIMITS
    token_server: TokenServer = field(default_factory=lambda: TokenServer(ISSUER, TOKEN_SEED))
    measurements: Measurements = field(default_factory=lambda: Measurements(NoOpMeter("bench")))
    now: int = NOW

    def clock(self) -> int:
        return self.now


#: Room of the router, name of the use case in it, model of its answer, whether it is stored under a key.
USE_CASES: tuple[tuple[str, str, type[BaseModel], bool], ...] = (
    ("consents", "record_consent", consents.ConsentView, True),
    ("consents", "read_consent", consents.ConsentView, False),
    ("consents", "consent_receipt", consents.ReceiptView, False),
    ("consents", "renew_consent", consents.ConsentView, False),
    ("consents", "narrow_consent", consents.ConsentView, False),
    ("consents", "withdraw", referrals.WithdrawalAnswer, True),
    ("referrals", "preview_referral", referrals.ReferralPreview, False),
    ("referrals", "send_referral", referrals.ReferralCreated, True),
    ("referrals", "list_changes", referrals.ReferralChanges, False),
    ("referrals", "read_referral", referrals.ReferralView, False),
    ("referrals", "open_under", referrals.OpenReferrals, False),
    ("referrals", "release_disclosure", referrals.ReleaseAnswer, False),
    ("referrals", "replace_disclosure", referrals.ForwardAnswer, False),
    ("referrals", "drop_disclosure", inbox.ReferralAct, False),
    ("referrals", "recall_referral", inbox.ReferralAct, False),
    ("referrals", "declare_error", inbox.ReferralAct, False),
    ("referrals", "send_information", referrals.ForwardAnswer, True),
    ("referrals", "update_safe_contact", referrals.ForwardAnswer, True),
    ("inbox", "list_inbox", inbox.InboxPage, False),
    ("inbox", "lease_item", inbox.Lease, False),
    ("inbox", "acknowledge_item", inbox.InboxItem, False),
    ("inbox", "open_items", inbox.OpenedItems, False),
    ("inbox", "open_item", inbox.OpenedItem, False),
    ("inbox", "sealed_envelope", federation.WireEnvelope, False),
    ("inbox", "record_opening", inbox.InboxItem, False),
    ("inbox", "contact_advice", inbox.ContactAdvice, False),
    ("decisions", "decide_referral", inbox.ReferralAct, False),
    ("decisions", "report_progress", inbox.ReferralAct, False),
    ("decisions", "answer_recall", inbox.ReferralAct, False),
    ("decisions", "refuse_item", inbox.ReferralAct, False),
    ("decisions", "attest_erasure", inbox.ReferralAct, False),
    ("decisions", "declare_error_of_item", inbox.ReferralAct, False),
    ("sealing", "hand_in_sealed", sealing.EnvelopesAnswer, True),
    ("sealing", "take_epochs", sealing.OwnEpochs, False),
    ("sealing", "list_own_epochs", sealing.OwnEpochs, False),
    ("contracts", "list_contracts", node.ContractList, False),
    ("contracts", "read_contract", node.ContractView, False),
    ("contracts", "peer_keys", node.PeerKeys, False),
    ("access", "node_card", node.NodeCard, False),
    ("federation", "receive_envelopes", federation.BatchAnswer, False),
    ("federation", "resync", federation.ResyncAnswer, False),
    ("federation", "consent_status", federation.ConsentStatusAnswer, False),
    ("federation", "roster_mirror", federation.RosterMirror, False),
    ("health", "readiness", node.Health, False),
)


@dataclass
class Bench:
    """One application on a stand-in, and what its use cases were asked."""

    app: FastAPI
    node: StandIn
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    repeated: bool = False
    failure: Exception | None = None
    revoked: set[str] = field(default_factory=set)
    clients: dict[str, RegisteredClient | PeerClient] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def http(self) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=self.app, raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url=ISSUER)

    def token(self, *scopes: Scope, unit: str | None = None, peer: bool = False) -> str:
        signer = AccessTokenSigner(ISSUER, TOKEN_SEED)
        if peer:
            return signer.make(
                PeerClient(PEER, public_half(PEER_SEED)), frozenset({Scope.FEDERATION}), now=self.node.now
            )
        client = replace(registered(), unit=unit)
        return signer.make(client, frozenset(scopes) or CLIENT_SCOPES, now=self.node.now)

    def limit(self, *, clients: int, peers: int) -> None:
        limits = replace(self.node.limits, client_requests_per_minute=clients, peer_requests_per_minute=peers)
        self.node.limits = limits


def registered() -> RegisteredClient:
    return RegisteredClient(CLIENT, (ClientKey.from_ed25519(public_half(CLIENT_SEED)),), CLIENT_SCOPES)


def bench(patch: pytest.MonkeyPatch) -> Bench:
    """An application whose use cases answer with the documented examples."""
    stand_in = StandIn()
    made = Bench(build_api(stand_in), stand_in)  # type: ignore[arg-type]  # the API asks no more of a node
    made.clients = {CLIENT: registered(), PEER: PeerClient(PEER, public_half(PEER_SEED))}
    for room, name, model, stored in USE_CASES:
        module = importlib.import_module(f"exchange.api.{room}")
        patch.setattr(module, name, _answering(made, name, model, stored=stored))
    _authentication(patch, made)
    return made


def _answering(made: Bench, name: str, model: type[BaseModel], *, stored: bool) -> Any:
    async def use_case(*args: Any, **kwargs: Any) -> Any:
        made.calls.append((name, args[1:], kwargs))
        if made.failure is not None:
            raise made.failure
        answer = model.model_validate(EXAMPLES[model])
        return Stored(lambda: answer, written(answer), made.repeated) if stored else answer

    return use_case


def _authentication(patch: pytest.MonkeyPatch, made: Bench) -> None:
    from exchange.use_cases.errors import ConflictError

    async def client_standing(_node: Any, caller: Caller) -> bool:
        # As in a node: a peer is in the roster, and no client that is registered.
        known = made.clients.get(caller.client_id)
        return caller.client_id not in made.revoked and isinstance(known, RegisteredClient)

    async def load_client(_node: Any, client_id: str, *, as_peer: bool) -> RegisteredClient | PeerClient | None:
        del as_peer  # none here is called like another
        return made.clients.get(client_id)

    async def remember_jti(_node: Any, used: Any, **_peer: bool) -> None:
        if used.jti in made.used:
            raise ConflictError("jti-used", "This assertion was used before.")
        made.used.add(used.jti)

    patch.setattr("exchange.api.callers.client_standing", client_standing)
    patch.setattr("exchange.api.callers.peer_standing", lambda _node, agency: agency not in made.revoked)
    patch.setattr("exchange.api.access.load_client", load_client)
    patch.setattr("exchange.api.access.remember_jti", remember_jti)


@dataclass(frozen=True)
class Example:
    """One documented call, ready to send."""

    name: str
    method: str
    path: str
    scope: Scope | None
    headers: dict[str, str]
    body: Any
    status: int
    takes_body: bool

    def __str__(self) -> str:
        return self.name


_PATH_VALUES = {
    "referral_id": "9f4e2a60c1d84b6e8a1b0c5d7e3f2a94",
    "item_id": "3c81d7f05ae94b2f96b0d4e8172c5fa6",
    "consent_id": "5d2f0c1ab94e4c7f8a6e1b3d9c7f0a21",
    "digest": "6b1f0d3c8e27a95440cb1f6de2703b98c5a44e1790fd62b387c1e05a9d4f8236",
    "agency": PEER,
}


@cache
def documents() -> dict[str, dict[str, Any]]:
    """Both OpenAPI documents as the code makes them; once, since every test process needs them to collect its tests."""
    app = build_api()
    return {"agency": agency_document(app), "federation": federation_document(app)}


def examples_of(documents: Iterable[dict[str, Any]]) -> list[Example]:
    """Every JSON call of some OpenAPI documents, with the example values that stand in them."""
    found: dict[str, Example] = {}
    for document in documents:
        for template, operations in document["paths"].items():
            for method, described in operations.items():
                body = described.get("requestBody", {}).get("content", {"application/json": None})
                if "application/json" in body:
                    example = _example(template, method, described, body["application/json"])
                    found[example.name] = example
    return list(found.values())


def _example(template: str, method: str, described: dict[str, Any], media: dict[str, Any] | None) -> Example:
    scopes = [scope for rule in described["security"] for listed in rule.values() for scope in listed]
    headers = {
        parameter["name"]: parameter["example"]
        for parameter in described.get("parameters", [])
        if parameter["in"] == "header" and parameter["required"]
    }
    return Example(
        name=described["operationId"],
        method=method.upper(),
        path=template.format(**_PATH_VALUES),
        scope=Scope(scopes[0]) if scopes else None,
        headers=headers,
        body=media["example"] if media else None,
        status=201 if "201" in described["responses"] else 200,
        takes_body=media is not None,
    )

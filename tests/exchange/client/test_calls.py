"""Every call of the SDK is one of the documented API, and every call of the agency's API is in the SDK."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.scripted_node import ScriptedNode, json_answer, problem

from consent.examples import DRAFT_EXAMPLE
from contracts.vocabulary import Channel, WithdrawalForm
from exchange.client import AgencyClient, ProblemError, UnexpectedAnswerError
from exchange.referral.contact_plan import SafeContact
from exchange.referral.content import ReferralContent
from exchange.schemas.consents import ConsentRequest
from exchange.schemas.inbox import (
    DecisionRequest,
    OpeningRequest,
    ProgressRequest,
    RecallAnswerRequest,
    RefusalRequest,
)
from exchange.schemas.referrals import SMALLEST_REFERRAL, ReferralRequest
from exchange.schemas.sealing import EnvelopesRequest, EpochsRequest

DOCUMENT = json.loads((Path(__file__).parents[3] / "openapi" / "openapi.json").read_text(encoding="utf-8"))
NOT_OF_THE_SDK = {("GET", "/.well-known/oauth-authorization-server"), ("POST", "/oauth/token"), ("GET", "/health/live")}
ID = "1" * 32
AT = datetime(2026, 11, 23, tzinfo=UTC)
REQUEST = ReferralRequest.model_validate_json(json.dumps(SMALLEST_REFERRAL))
CONSENT = ConsentRequest.model_validate_json(json.dumps(DRAFT_EXAMPLE))
CONTENT = ReferralContent.model_validate_json('{"needs": ["tonight"]}')
SEALED = EnvelopesRequest.model_validate(
    {"envelopes": [{"header": "AA", "wrapped_key": "AA", "ciphertext": "AA", "signature": "AA"}]}
)
PLAN = SafeContact.model_validate_json('{"who_initiates": "survivor"}')

Ask = Callable[[AgencyClient], Awaitable[Any]]

KEYED: dict[str, Ask] = {
    "POST /v1/envelopes": lambda c: c.sealing.hand_in(SEALED),
    "POST /v1/consents": lambda c: c.consents.record(CONSENT),
    "POST /v1/withdrawals": lambda c: c.withdrawals.of_referral(ID, WithdrawalForm.ERASE),
    "POST /v1/referrals": lambda c: c.referrals.send(REQUEST),
    "PUT /v1/referrals/{}/disclosure": lambda c: c.referrals.replace_disclosure(ID, CONTENT),
    "POST /v1/referrals/{}/information": lambda c: c.referrals.send_information(ID, CONTENT),
    "POST /v1/referrals/{}/safe-contact": lambda c: c.referrals.update_safe_contact(ID, PLAN),
}
OTHERS: dict[str, Ask] = {
    "GET /v1/consents/{}": lambda c: c.consents.read(ID),
    "GET /v1/consents/{}/receipt": lambda c: c.consents.receipt(ID),
    "POST /v1/consents/{}/renewal": lambda c: c.consents.renew(ID, AT),
    "PATCH /v1/consents/{}/provisions": lambda c: c.consents.narrow(ID, ()),
    "POST /v1/referrals/preview": lambda c: c.referrals.preview(REQUEST),
    "GET /v1/referrals": lambda c: c.referrals.changes("cursor", wait_s=1),
    "GET /v1/referrals/{}": lambda c: c.referrals.read(ID),
    "GET /v1/consents/{}/referrals": lambda c: c.referrals.open_under(ID),
    "POST /v1/referrals/{}/recall": lambda c: c.referrals.recall(ID),
    "POST /v1/referrals/{}/release": lambda c: c.referrals.release(ID),
    "DELETE /v1/referrals/{}/disclosure": lambda c: c.referrals.drop_disclosure(ID),
    "POST /v1/referrals/{}/entered-in-error": lambda c: c.referrals.enter_in_error(ID),
    "GET /v1/inbox": lambda c: c.inbox.list("cursor", limit=5, wait_s=1, status="new", urgent_first=True),
    "POST /v1/inbox/open": lambda c: c.inbox.open_many([ID]),
    "GET /v1/inbox/{}": lambda c: c.inbox.open(ID),
    "GET /v1/inbox/{}/contact-advice": lambda c: c.inbox.contact_advice(ID, channel=Channel.SMS, at=AT),
    "POST /v1/inbox/{}/lease": lambda c: c.inbox.lease(ID),
    "PUT /v1/inbox/{}/acknowledgement": lambda c: c.inbox.acknowledge(ID, "token"),
    "POST /v1/inbox/{}/decision": lambda c: c.inbox.decide(ID, DecisionRequest(decision="accepted")),
    "POST /v1/inbox/{}/progress": lambda c: c.inbox.report_progress(ID, ProgressRequest(state="in-service")),
    "POST /v1/inbox/{}/recall-answer": lambda c: c.inbox.answer_recall(ID, RecallAnswerRequest(agreed=True)),
    "PUT /v1/inbox/{}/opening": lambda c: c.inbox.take_over(ID, OpeningRequest(digest=ID * 2)),
    "PUT /v1/epochs": lambda c: c.sealing.publish(EpochsRequest(statements=("AA",))),
    "GET /v1/epochs": lambda c: c.sealing.published(),
    "POST /v1/inbox/{}/refusal": lambda c: c.inbox.refuse(ID, RefusalRequest(code="cannot-open")),
    "POST /v1/inbox/{}/erasure-attestation": lambda c: c.inbox.attest_erasure(ID),
    "POST /v1/inbox/{}/entered-in-error": lambda c: c.inbox.enter_in_error(ID),
    "GET /v1/contracts": lambda c: c.federation.contracts(),
    "GET /v1/contracts/{}": lambda c: c.federation.contract(ID * 2),
    "GET /v1/peers/{}/keys": lambda c: c.federation.peer_keys("rose-house-shelter"),
    "GET /.well-known/referral-node": lambda c: c.federation.card(),
    "GET /health/ready": lambda c: c.federation.ready(),
}


def documented() -> dict[str, Any]:
    """The operations of the document, under names in which every id is `{}`."""
    return {
        f"{method.upper()} {re.sub('{[^}]*}', '{}', path)}": operation
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
        if (method.upper(), path) not in NOT_OF_THE_SDK
    }


def test_the_sdk_and_the_document_have_the_same_calls() -> None:
    assert KEYED.keys() | OTHERS.keys() == documented().keys()


@pytest.mark.parametrize("name", KEYED | OTHERS)
async def test_a_call_is_as_documented(name: str) -> None:
    method, template = name.split(" ")
    agency = "rose-house-shelter" if "peers" in template else ID
    path = template.replace("{}", ID * 2 if "contracts" in template else agency)
    node = ScriptedNode(script={path: [problem(404, "not-found")]})
    async with node.client() as client:
        with pytest.raises(ProblemError):
            await (KEYED | OTHERS)[name](client)
    (asked,) = node.asked
    assert (asked.method, asked.url.path) == (method, path)
    assert ("idempotency-key" in asked.headers) is (name in KEYED)
    known = {parameter["name"] for parameter in documented()[name].get("parameters", []) if parameter["in"] == "query"}
    assert set(dict(asked.url.params)) <= known
    if name in OTHERS and template in {"/.well-known/referral-node", "/health/ready"}:
        assert "authorization" not in asked.headers
    else:
        assert asked.headers["authorization"] == "Bearer token-1"


async def test_the_sealed_envelope_has_a_media_type_of_its_own() -> None:
    node = ScriptedNode(script={f"/v1/inbox/{ID}": [problem(404, "not-found")]})
    async with node.client() as client:
        with pytest.raises(ProblemError):
            await client.inbox.sealed(ID)
    assert node.asked[0].headers["accept"].startswith("application/vnd.referral-envelope+json")


async def test_her_no_to_a_consent() -> None:
    node = ScriptedNode(script={"/v1/withdrawals": [problem(404, "not-found")]})
    async with node.client() as client:
        with pytest.raises(ProblemError):
            await client.withdrawals.of_consent(ID, WithdrawalForm.STOP_SHARING)
    assert json.loads(node.asked[0].content) == {"consent": ID, "form": "stop-sharing"}


@pytest.mark.parametrize("status", [200, 503])
async def test_a_node_says_what_it_lacks(status: int) -> None:
    said = {"status": "ready" if status == 200 else "not-ready", "checks": {"database": "ok", "clock": "jumped"}}
    answers = [json_answer(said, status) for _ in range(4)]
    async with ScriptedNode(script={"/health/ready": answers}).client() as client:
        assert (await client.federation.ready()).model_dump() == said


async def test_what_something_else_says_is_not_the_word_of_a_node() -> None:
    answers = [json_answer({"message": "no upstream"}, 503) for _ in range(4)]
    async with ScriptedNode(script={"/health/ready": answers}).client() as client:
        with pytest.raises(UnexpectedAnswerError):
            await client.federation.ready()

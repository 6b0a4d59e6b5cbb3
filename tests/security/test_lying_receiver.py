"""A receiver that lies: what it answers is read as strictly as what a sender sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.federation import Federation, federation
from support.lying_peer import LyingPeer, row_counts
from support.people import consent_request, referral_request

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.kinds import Kind
from exchange.schemas.inbox import DecisionRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")
CANARY = "Canary-Bunga"


@dataclass(slots=True)
class Scene:
    """The shelter lies to the helpline about one accepted referral."""

    together: Federation
    liar: LyingPeer
    referral: str
    offer: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("lying")
    async with federation(folder, (HELPLINE, SHELTER)) as together:
        helpline, shelter = together[HELPLINE].client(), together[SHELTER].client()
        provisions = consent_request(SHELTER.agency).model_dump(mode="json")["provisions"]
        quiet = [entry | {"feedback": "decision"} for entry in provisions]
        consent = await helpline.consents.record(consent_request(SHELTER.agency, provisions=quiet))
        created = await helpline.referrals.send(referral_request(SHELTER.agency, consent.id))
        await together.travel()
        (offer,) = [item for item in (await shelter.inbox.list()).items if item.kind == "offer"]
        await shelter.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
        await together.travel()
        liar = await LyingPeer.of(together[SHELTER], together[HELPLINE])
        yield Scene(together, liar, created.id, offer.id)


@pytest.mark.parametrize(
    ("kind", "event", "content", "code"),
    [
        pytest.param(Kind.PROGRESS, "in-service", b"not json", "content-invalid", id="16-not-json"),
        pytest.param(Kind.PROGRESS, "in-service", b"[]", "content-invalid", id="16-not-an-object"),
        pytest.param(
            Kind.PROGRESS, "failed", {"state": "failed", "note": CANARY}, "content-invalid", id="16-free-text"
        ),
        pytest.param(
            Kind.PROGRESS, "failed", {"state": "failed", "fail_reason": CANARY}, "content-invalid", id="16-unknown-term"
        ),
        pytest.param(
            Kind.PROGRESS, "failed", {"state": "completed"}, "content-invalid", id="16-another-event-than-the-header"
        ),
        pytest.param(
            Kind.RECALL_ANSWER, "failed", {"agreed": True}, "content-invalid", id="16-recall-answer-that-contradicts"
        ),
        pytest.param(
            Kind.INFORMATION_REQUEST,
            "information-requested",
            {"fields": ["narrative"]},
            "content-invalid",
            id="16-asks-for-what-is-never-sent",
        ),
        pytest.param(Kind.PROGRESS, "in-service", {"state": "in-service"}, "over-shared", id="17-progress-at-decision"),
        pytest.param(
            Kind.PROGRESS,
            "failed",
            {"state": "failed", "fail_reason": "not-arrived"},
            "over-shared",
            id="17-how-it-ended-at-decision",
        ),
        pytest.param(
            Kind.DECISION, "accepted", {"decision": "accepted"}, "contract-differs", id="10-under-another-contract"
        ),
    ],
)
async def test_an_answer_is_read_as_strictly_as_a_forward(
    scene: Scene, kind: Kind, event: str, content: dict[str, Any] | bytes, code: str
) -> None:
    node = scene.together[HELPLINE].node
    before = await row_counts(node.database)
    contract = {"contract": "ab" * 32} if code == "contract-differs" else {}
    forged = scene.liar.answer(kind, event, content, referral=scene.referral, in_reply_to=scene.offer, **contract)
    (answer,) = await scene.liar.deliver(forged)
    assert answer.problem is not None, answer.result
    assert (answer.problem.code, answer.problem.who) == (code, "sender")
    assert CANARY not in answer.model_dump_json()
    assert await row_counts(node.database) == before


async def test_an_acceptance_counts_once(scene: Scene) -> None:
    again = scene.liar.answer(
        Kind.DECISION, "accepted", {"decision": "accepted"}, referral=scene.referral, in_reply_to=scene.offer
    )
    (answer,) = await scene.liar.deliver(again)
    assert answer.problem is not None
    assert answer.problem.code == "not-legal"

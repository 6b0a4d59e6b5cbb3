"""A receiver that lies: what it answers is read as strictly as what a sender sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.databases import POSTGRES_IN_FAULTS, MakeDatabase
from support.federation import Federation
from support.federation_fixtures import federation_on
from support.lying_peer import LyingPeer
from support.people import consent_request, referral_request
from support.refusals import CANARY, Refusal, refused, watched

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.kinds import Kind
from exchange.schemas.inbox import DecisionRequest

pytestmark = pytest.mark.asyncio(loop_scope="module")
INVALID = Refusal(16, "content-invalid")
TOLD_TOO_MUCH = Refusal(17, "over-shared")


@dataclass(slots=True)
class Scene:
    """The shelter lies to the helpline about one accepted referral."""

    together: Federation
    liar: LyingPeer
    referral: str
    offer: str


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=POSTGRES_IN_FAULTS)
async def scene(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_on: Callable[[str], MakeDatabase],
) -> AsyncIterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("lying")
    async with federation_on(folder, (HELPLINE, SHELTER), make_on(request.param)) as together:
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


ELSEWHERE: dict[str, dict[str, str]] = {
    "under-another-contract": {"contract": "ab" * 32},
    "for-another-purpose": {"purpose": "provide-wage-claim"},
}
"""What the header says instead of the referral's own."""
LIES: list[tuple[str, Refusal, Kind, str, dict[str, Any] | bytes]] = [
    ("not-json", INVALID, Kind.PROGRESS, "in-service", b"not json"),
    ("not-an-object", INVALID, Kind.PROGRESS, "in-service", b"[]"),
    ("free-text", INVALID, Kind.PROGRESS, "failed", {"state": "failed", "note": CANARY}),
    ("unknown-term", INVALID, Kind.PROGRESS, "failed", {"state": "failed", "fail_reason": CANARY}),
    ("another-event-than-the-header", INVALID, Kind.PROGRESS, "failed", {"state": "completed"}),
    ("recall-answer-that-contradicts", INVALID, Kind.RECALL_ANSWER, "failed", {"agreed": True}),
    (
        "asks-for-what-is-never-sent",
        INVALID,
        Kind.INFORMATION_REQUEST,
        "information-requested",
        {"fields": ["narrative"]},
    ),
    ("progress-at-decision", TOLD_TOO_MUCH, Kind.PROGRESS, "in-service", {"state": "in-service"}),
    (
        "how-it-ended-at-decision",
        TOLD_TOO_MUCH,
        Kind.PROGRESS,
        "failed",
        {"state": "failed", "fail_reason": "not-arrived"},
    ),
    *[
        (name, Refusal(10, "contract-differs"), Kind.PROGRESS, "completed", {"state": "completed"})
        for name in ELSEWHERE
    ],
    ("an-acceptance-counts-once", Refusal(9, "not-legal"), Kind.DECISION, "accepted", {"decision": "accepted"}),
]


@pytest.mark.parametrize(
    ("name", "refusal", "kind", "event", "content"),
    [pytest.param(*lie, id=f"{lie[1].step}-{lie[0]}") for lie in LIES],
)
async def test_an_answer_is_read_as_strictly_as_a_forward(
    scene: Scene, name: str, refusal: Refusal, kind: Kind, event: str, content: dict[str, Any] | bytes
) -> None:
    says = ELSEWHERE.get(name, {})
    forged = scene.liar.answer(kind, event, content, referral=scene.referral, in_reply_to=scene.offer, **says)
    with watched(scene.together[HELPLINE]) as helpline:
        await refused(helpline, scene.liar, forged, refusal)

"""The same consent and the same words, once by a node that seals and once by software whose node does not: one answer.

Two federations that differ in nothing but where the helpline's keys lie. Each case is decided in both, and followed to
what the shelter reads: refusal and its code, what is withheld and why, what goes at which stage, how much comes back.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from support.blind import Office
from support.federation import Federation, federation
from support.people import consent_request, referral_request
from support.stories import her_content, now_of, plan

from contracts.vocabulary import ROUTING_FIELDS, WithdrawalForm
from exchange.client import ProblemError
from exchange.client.vault import GateRefusedError
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.referral.content import ContentInvalidError, ReferralContent
from exchange.schemas.inbox import DecisionRequest, ProgressRequest
from exchange.schemas.referrals import FieldDecision, ForwardAnswer, ReferralCreated

pytestmark = pytest.mark.asyncio(loop_scope="module")
LINE = {
    "groups": ["need", "safety", "health", "name", "contact", "place"],
    "agencies": [SHELTER.agency],
    "purposes": ["provide-safe-accommodation"],
    "feedback": "outcome",
}
CHILD = {
    "basis": "caregiver-and-assent",
    "age_band": "12-14",
    "child_assents": True,
    "statement_id": "caregiver-and-child",
    "provisions": [LINE | {"groups": [*LINE["groups"], "caregiver"]}],
}
AUNT = {"name": "Canary Aunt", "relationship": "other-relative", "informed": True}
NAMED = "medication_or_mental_health_support"


NOTHING: Mapping[str, Any] = MappingProxyType({})


class Way(NamedTuple):
    """One of the two ways."""

    together: Federation
    asks: Office
    helps: Office


class Case(NamedTuple):
    """What is handed in."""

    consent: Mapping[str, Any] = NOTHING
    content: Mapping[str, Any] = NOTHING
    request: Mapping[str, Any] = NOTHING
    confirmed: float | None = None
    """How many hours ago she confirmed a plan by which the agency calls her; otherwise she calls."""
    her_no: str | None = None
    """A form of her no, or `narrower`, before it is handed in."""


def lines(**changes: Any) -> dict[str, Any]:
    return {"provisions": [LINE | changes]}


CASES = {
    "as-usual": Case(),
    "no-name": Case(consent=lines(groups=["need"])),
    "no-need": Case(consent=lines(groups=["name"])),
    "another-agency": Case(consent=lines(agencies=["kenanga-clinic"])),
    "a-kind-at-home": Case(consent=lines(agencies=[], kinds=["shelter"])),
    "another-kind": Case(consent=lines(agencies=[], kinds=["health"])),
    "another-country": Case(consent=lines(agencies=[], countries=["TH"])),
    "another-purpose": Case(consent=lines(purposes=["provide-health-care"])),
    "decision-only": Case(consent=lines(feedback="decision")),
    "status": Case(consent=lines(feedback="status")),
    "not-named": Case(content={NAMED: True}),
    "named": Case(consent=lines(fields=[NAMED]), content={NAMED: True}),
    "named-for-a-kind": Case(consent=lines(fields=[NAMED], agencies=[], kinds=["shelter"]), content={NAMED: True}),
    "never-to-a-shelter": Case(content={"immigration_status": "expired"}),
    "never-to-anyone": Case(content={"narrative": "x"}),
    "not-listed": Case(content={"country_of_work": "MY", "passport_number": "X0000000"}),
    "evaluated-here": Case(content={"avoid_own_authorities": {"country": "ID"}}),
    "care-window": Case(content={"care_window": "under-72h"}),
    "need-of-another-service": Case(content={"needs": ["child-health"]}),
    "another-age": Case(content={"age_band": "15-17"}),
    "caregiver-of-an-adult": Case(content={"age_band": None, "caregiver": AUNT}),
    "a-child": Case(consent=CHILD, content={"age_band": "12-14", "caregiver": AUNT}),
    "a-child-called-adult": Case(consent=CHILD, content={"age_band": "25-49"}),
    "anonymous": Case(content=dict.fromkeys(["preferred_name", "arrival_words", "meeting_point", "safe_contact"])),
    "confirmed-just-now": Case(confirmed=0.1),
    "confirmed-too-long-ago": Case(confirmed=73),
    "confirmed-by-a-clock-that-is-ahead-a-little": Case(confirmed=-0.02),
    "confirmed-later-than-now": Case(confirmed=-8),
    "emergency": Case(request={"priority": "emergency"}),
    "a-drill": Case(request={"exercise": True}),
    "another-service": Case(content={"needs": None}, request={"service_type": "health-care"}),
    "directory-only": Case(content={"needs": None}, request={"service_type": "peer-support"}),
    "she-said-no": Case(her_no="stop-sharing"),
    "she-allows-less": Case(her_no="narrower"),
}


@pytest.fixture(scope="module")
def lived() -> dict[str, dict[str, Any]]:
    """What was decided where the node holds the keys, by the name of the case."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ways(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Way, Way]]:
    """The helpline's node holds the keys; and it does not."""
    one, other = tmp_path_factory.mktemp("held"), tmp_path_factory.mktemp("elsewhere")
    async with (
        federation(one, (HELPLINE, SHELTER)) as held,
        federation(other, (HELPLINE, SHELTER), blind=(HELPLINE,)) as elsewhere,
    ):
        yield tuple(  # type: ignore[misc]
            Way(together, Office.of(together[HELPLINE]), Office.of(together[SHELTER])) for together in (held, elsewhere)
        )


def said(decisions: tuple[FieldDecision, ...]) -> dict[str, tuple[str, str]]:
    return {one.field.value: (one.outcome, one.code) for one in decisions if one.field not in ROUTING_FIELDS}


REFUSALS = (ProblemError, GateRefusedError, ContentInvalidError)


def no(error: ProblemError | GateRefusedError | ContentInvalidError) -> dict[str, Any]:
    """A refusal, with what it says of which field."""
    if isinstance(error, ContentInvalidError):
        fields = {problem.path.removeprefix("$."): problem.code for problem in error.problems}
        return {"code": "content-invalid", "fields": fields}
    if isinstance(error, GateRefusedError):
        kept = {name: code for name, (outcome, code) in said(error.fields).items() if outcome != "allowed"}
        return {"code": error.code, "fields": kept}
    about = {one.path.removeprefix("content."): one.code for one in error.problem.fields if "content." in one.path}
    return {"code": error.problem.code, "fields": about}


def inside(content: ReferralContent | None) -> dict[str, Any]:
    """What the shelter reads, without what differs from one referral to the next."""
    assert content is not None
    members = json.loads(content.model_dump_json(exclude_none=True, by_alias=True))
    changing = {"client_code", "referred_at", "respond_by"}
    members.get("safe_contact", {}).pop("last_confirmed_at", None)
    return {name: value for name, value in members.items() if name not in changing}


async def handed_in(way: Way, case: Case) -> ReferralCreated:
    """Her consent, what became of it, and the referral."""
    at = now_of(way.together)
    recorded = await way.asks.client.consents.record(consent_request(SHELTER.agency, now=at, **case.consent))
    if case.her_no == "narrower":
        narrower = recorded.record.provisions[0].model_copy(update={"groups": frozenset({"need"})})
        await way.asks.client.consents.narrow(recorded.id, (narrower,))
    elif case.her_no is not None:
        await way.asks.client.withdrawals.of_consent(recorded.id, WithdrawalForm(case.her_no))
    content = her_content(way.together, **case.content)
    if case.confirmed is not None:
        content["safe_contact"] = plan(at - timedelta(hours=case.confirmed))
    return await way.asks.refer(
        referral_request(SHELTER.agency, recorded.id, now=at, **({"content": content} | dict(case.request)))
    )


async def told_later(way: Way, referral: str, content: ReferralContent) -> dict[str, Any]:
    """An answer to the receiver's question, and what was decided of each field."""
    question = DecisionRequest.model_validate_json('{"decision": "information-requested", "fields": ["party"]}')
    await way.helps.decide(referral, question)
    await way.together.travel()
    try:
        answer: ForwardAnswer = await (
            way.asks.vault.inform(referral, content)
            if way.asks.vault
            else way.asks.client.referrals.send_information(referral, content)
        )
    except REFUSALS as error:
        return no(error)
    await way.together.travel()
    opened = await way.helps.open(referral, "information")
    return {"decided": said(answer.fields), "read": inside(opened.content)}


async def life(way: Way, case: Case) -> dict[str, Any]:
    """Everything that was decided, from the hand-in to the end of the service."""
    try:
        created = await handed_in(way, case)
    except REFUSALS as error:
        return {"refused": no(error)}
    await way.together.travel()
    found: dict[str, Any] = {
        "withheld": said(created.withheld),
        "clocks": (created.priority, created.respond_by - way.together[HELPLINE].node.now() > timedelta(hours=2)),
        "release": (created.release, created.call_now, created.disclosure_held),
        "offer": inside((await way.helps.open(created.id, "offer")).content),
    }
    more = ReferralContent.model_validate_json('{"party": {"adults": 2}, "meeting_point": "Canary Bridge"}')
    found["before"] = await told_later(way, created.id, more)
    await way.helps.decide(created.id, DecisionRequest(decision="accepted"))
    await way.together.travel()
    found["accepted"] = (await way.asks.client.referrals.read(created.id)).flags
    if found["accepted"].awaiting_confirmation:
        await way.asks.client.referrals.release(created.id)
        await way.together.travel()
    if (await way.asks.client.referrals.read(created.id)).flags.disclosed:
        found["disclosure"] = inside((await way.helps.open(created.id, "disclosure")).content)
    for progress in (
        ProgressRequest(state="in-service"),
        ProgressRequest.model_validate_json('{"state": "completed", "outcome": "service-provided"}'),
    ):
        await way.helps.report(created.id, progress)
        await way.together.travel()
        found[progress.state] = (await way.asks.client.referrals.read(created.id)).state
    return found | {"outcome": await outcome(way, created.id)}


async def outcome(way: Way, referral: str) -> object:
    """How the service ended, as far as the helpline was told."""
    answer = (await way.asks.open(referral, "progress")).answer
    assert answer is not None
    return answer


@pytest.mark.parametrize("name", CASES)
async def test_a_referral_is_decided_the_same(
    ways: tuple[Way, Way], lived: dict[str, dict[str, Any]], name: str
) -> None:
    held, elsewhere = ways
    lived[name] = await life(held, CASES[name])
    assert lived[name] == await life(elsewhere, CASES[name])


async def test_the_cases_are_of_every_sort(ways: tuple[Way, Way], lived: dict[str, dict[str, Any]]) -> None:
    """A table of which every row was refused for the same reason would show nothing."""
    lives = {name: lived.get(name) or await life(ways[0], case) for name, case in CASES.items()}
    codes = {found["refused"]["code"] for found in lives.values() if "refused" in found}
    assert len(codes) >= 8
    assert sum("disclosure" in found for found in lives.values()) >= 8
    assert {str(found.get("in-service")) for found in lives.values()} >= {"in-service", "accepted", "None"}

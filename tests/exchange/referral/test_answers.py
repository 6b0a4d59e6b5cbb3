"""What comes back is coded; what would betray her, or the answering agency's place, has no member."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from contracts.vocabulary import FIELD_SPECS, LOCAL_DECLINE_REASONS, ROUTING_FIELDS, DeclineReason, Field, Stage
from exchange.referral.answers import (
    DecisionContent,
    InformationRequestContent,
    ProgressContent,
    RecallAnswerContent,
    travelling_reason,
)
from exchange.referral.canonical import SealedContent
from exchange.referral.errors import ContentInvalidError

VALID = [
    pytest.param(DecisionContent, {"decision": "accepted"}, id="accepted"),
    pytest.param(
        DecisionContent,
        {
            "arrival": {"earliest": "2026-11-23T12:00:00Z", "latest": "2026-11-23T13:00:00Z"},
            "decision": "accepted",
        },
        id="accepted-with-arrival",
    ),
    pytest.param(DecisionContent, {"decision": "declined", "reason": "no-capacity"}, id="declined"),
    pytest.param(DecisionContent, {"decision": "waitlisted"}, id="waitlisted"),
    pytest.param(DecisionContent, {"decision": "redirected", "suggested_service": "legal-aid"}, id="redirected"),
    pytest.param(ProgressContent, {"state": "in-service"}, id="in-service"),
    pytest.param(ProgressContent, {"outcome": "moved-on", "state": "completed"}, id="completed"),
    pytest.param(ProgressContent, {"fail_reason": "not-arrived", "state": "failed"}, id="failed"),
    pytest.param(InformationRequestContent, {"fields": ["age_band", "party"]}, id="information-request"),
    pytest.param(RecallAnswerContent, {"agreed": False}, id="recall-answer"),
]
INVALID = [
    pytest.param(DecisionContent, {"decision": "information-requested"}, id="not-a-decision"),
    pytest.param(DecisionContent, {"decision": "declined"}, id="decline-without-reason"),
    pytest.param(DecisionContent, {"decision": "accepted", "reason": "other"}, id="reason-with-acceptance"),
    pytest.param(DecisionContent, {"decision": "declined", "reason": "we know her"}, id="free-text-reason"),
    pytest.param(DecisionContent, {"decision": "declined", "reason": "duplicate"}, id="duplicate-on-the-wire"),
    pytest.param(
        DecisionContent, {"decision": "declined", "reason": "conflict-of-interest"}, id="conflict-on-the-wire"
    ),
    pytest.param(DecisionContent, {"decision": "redirected"}, id="redirected-nowhere"),
    pytest.param(DecisionContent, {"decision": "accepted", "suggested_service": "legal-aid"}, id="service-misplaced"),
    pytest.param(
        DecisionContent,
        {
            "arrival": {"earliest": "2026-11-23T12:00:00Z", "latest": "2026-11-23T13:00:00Z"},
            "decision": "waitlisted",
        },
        id="arrival-without-acceptance",
    ),
    pytest.param(DecisionContent, {"address": "12 Example Street", "decision": "accepted"}, id="shelter-address"),
    pytest.param(DecisionContent, {"decision": "accepted", "note": "come"}, id="note"),
    pytest.param(ProgressContent, {"state": "accepted"}, id="decision-as-progress"),
    pytest.param(ProgressContent, {"outcome": "moved-on", "state": "in-service"}, id="outcome-too-early"),
    pytest.param(ProgressContent, {"fail_reason": "other", "state": "completed"}, id="reason-with-completed"),
    pytest.param(InformationRequestContent, {"fields": []}, id="asks-for-nothing"),
    pytest.param(InformationRequestContent, {"fields": ["party", "age_band"]}, id="out-of-order"),
    pytest.param(InformationRequestContent, {"fields": ["party", "party"]}, id="asked-twice"),
    pytest.param(InformationRequestContent, {"fields": ["hometown"]}, id="unknown-field"),
    pytest.param(InformationRequestContent, {"fields": ["party"], "text": "why?"}, id="free-text"),
    pytest.param(RecallAnswerContent, {"agreed": "yes"}, id="yes-as-text"),
    pytest.param(RecallAnswerContent, {}, id="no-answer"),
]


def as_bytes(members: dict[str, Any]) -> bytes:
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(("kind", "members"), VALID)
def test_read_and_written_alike(kind: type[SealedContent], members: dict[str, Any]) -> None:
    assert kind.from_bytes(as_bytes(members)).to_bytes() == as_bytes(members)


@pytest.mark.parametrize(("kind", "members"), INVALID)
def test_refused(kind: type[SealedContent], members: dict[str, Any]) -> None:
    with pytest.raises(ContentInvalidError):
        kind.from_bytes(as_bytes(members))


@pytest.mark.parametrize("reason", DeclineReason)
def test_a_reason_that_would_tell_whether_she_is_known_travels_as_other(reason: DeclineReason) -> None:
    content = DecisionContent.model_validate({"decision": "declined", "reason": reason})
    assert content.reason is (DeclineReason.OTHER if reason in LOCAL_DECLINE_REASONS else reason)
    assert content.reason is travelling_reason(reason)


@pytest.mark.parametrize(
    "field", sorted(ROUTING_FIELDS | {field for field in Field if FIELD_SPECS[field].stage is Stage.NEVER})
)
def test_nobody_asks_for_what_is_never_sent_or_known_already(field: Field) -> None:
    with pytest.raises(ValidationError):
        InformationRequestContent(fields=(field,))


@pytest.mark.parametrize("kind", [DecisionContent, ProgressContent, InformationRequestContent, RecallAnswerContent])
def test_no_answer_has_a_free_text(kind: type[SealedContent]) -> None:
    schema = kind.model_json_schema()
    texts = [part for part in [*schema["properties"].values(), *schema.get("$defs", {}).values()] if is_free(part)]
    assert texts == []


def is_free(part: dict[str, Any]) -> bool:
    return part.get("type") == "string" and not {"enum", "const", "format"} & part.keys()

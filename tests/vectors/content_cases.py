"""The cases about what is inside an envelope: forwards and answers, each beside its header."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any, Final

from vectors.samples import DEK, sample_header

from contracts.canonical_json import canonical
from exchange.envelope.format import Header
from exchange.envelope.kinds import Kind

Case = dict[str, Any]
Content = dict[str, Any]
OK: Final = "success"
INVALID: Final = "content-invalid"
ROUTING: Final[Content] = {
    "client_code": "K7QF-3M2P",
    "duty_contact": "duty line (invented)",
    "priority": "emergency",
    "referred_at": "2026-12-28T08:00:00.250000Z",
    "referring_agency": "helpline-one",
    "respond_by": "2026-12-28T09:00:00Z",
    "service_type": "safe-accommodation",
    "vocabulary_version": 1,
}
PARTY: Final[Content] = {
    "adults": 1,
    "dependants": [{"age_band": "6-11", "sex": "female"}],
    "infant_or_pregnant": False,
}
OFFER: Final[Content] = ROUTING | {
    "age_band": "25-49",
    "interpreter": {"gender": "no-preference", "needed": True},
    "language": "id",
    "needs": ["tonight", "with-children", "women-only"],
    "party": PARTY,
    "safety_flags": ["documents-withheld", "perpetrator-nearby"],
}
WINDOW: Final[Content] = {"from": "22:00", "time_zone": "Asia/Kuala_Lumpur", "to": "24:00", "weekday": "monday"}
CHANNEL: Final[Content] = {
    "channel": "phone-call",
    "disappearing": False,
    "location_shared": False,
    "monitored": False,
    "network": "own",
    "safe": True,
    "shared_device": False,
}
PLAN: Final[Content] = {
    "agency_name_may_be_said": False,
    "caller_id": "hide",
    "channels": [CHANNEL],
    "delete_after": True,
    "dropped_call": "wait",
    "last_confirmed_at": "2026-12-28T07:30:00Z",
    "safe_times": [WINDOW],
    "text_ok": False,
    "unsafe_times": [],
    "voicemail": "never",
    "who_initiates": "agency",
    "who_may_answer": "only-her",
}
NAMED: Final[Content] = {"arrival_words": "quiet harbour", "preferred_name": "Th\u1ea3o", "safe_contact": PLAN}


def contents() -> Iterator[Case]:
    yield from _forwards()
    yield from _spellings()
    yield from _contradictions()
    yield from _ages()
    yield from _answers()


def _header(kind: Kind, **changes: Any) -> Header:
    return sample_header(kind, **({"dek_commitment": DEK.commitment()} | changes))


def _case(name: str, header: Header, content: Content | str, expect: str) -> Case:
    text = content if isinstance(content, str) else canonical(content).decode()
    return {"name": name, "header": canonical(header.members()).decode(), "content": text, "expect": expect}


def _body(content: Content, **changes: Any) -> Content:
    return {"basis": "consent", "content": content, "feedback": "status"} | changes


def _offer(name: str, content: Content, expect: str = INVALID) -> Case:
    return _case(name, _header(Kind.OFFER), _body(content), expect)


def _disclosure(name: str, content: Content, expect: str = INVALID) -> Case:
    return _case(name, _header(Kind.DISCLOSURE, groups=("contact", "name")), _body(content), expect)


def _forwards() -> Iterator[Case]:
    offer = _header(Kind.OFFER)
    yield _offer("offer", OFFER, OK)
    yield _disclosure("disclosure", NAMED, OK)
    yield _case("another-basis", offer, _body(OFFER, basis="supported-decision"), OK)
    yield _case("unknown-basis", offer, _body(OFFER, basis="guardian"), INVALID)
    yield _case("unknown-level", offer, _body(OFFER, feedback="all"), INVALID)
    yield _case("content-alone", offer, OFFER, INVALID)
    for member in ("basis", "content", "feedback"):
        rest = {name: value for name, value in _body(OFFER).items() if name != member}
        yield _case(f"without-{member}", offer, rest, INVALID)
    yield _case("another-member", offer, _body(OFFER, note=""), INVALID)
    yield _offer("unknown-field", OFFER | {"story": "x"})
    yield _offer(
        "a-group-less", {name: value for name, value in OFFER.items() if name != "safety_flags"}, "groups-differ"
    )
    yield _offer("a-group-more", OFFER | {"care_window": "none"}, "groups-differ")


def _spellings() -> Iterator[Case]:
    offer, text = _header(Kind.OFFER), canonical(_body(OFFER)).decode()
    yield _case("white-space", offer, text.replace(":", ": ", 1), INVALID)
    yield _case("another-order", offer, '{"feedback":"status",' + text[1:].replace(',"feedback":"status"', ""), INVALID)
    yield _case("repeated-member", offer, text.replace('{"age_band"', '{"age_band":"25-49","age_band"'), INVALID)
    yield _offer("null", OFFER | {"area": None})
    yield _offer("a-default-left-out", OFFER | {"party": {"adults": 1}})
    yield _offer("a-default-left-out-of-another", OFFER | {"interpreter": {"needed": True}})
    yield _disclosure("a-plan-in-short", {"preferred_name": "Bunga", "safe_contact": {"who_initiates": "survivor"}})
    yield _offer("codes-out-of-order", OFFER | {"needs": ["women-only", "tonight"]})
    yield _offer("a-code-twice", OFFER | {"needs": ["tonight", "tonight"]})
    for name, time in (
        ("three-digits", "2026-12-28T08:00:00.250Z"),
        ("six-zeros", "2026-12-28T08:00:00.000000Z"),
        ("an-offset", "2026-12-28T08:00:00+00:00"),
        ("no-offset", "2026-12-28T08:00:00"),
    ):
        yield _offer(f"a-time-with-{name}", OFFER | {"referred_at": time})
    yield _offer("a-time-as-a-number", OFFER | {"referred_at": 1_798_444_800_000})
    yield _disclosure("a-text-taken-apart", NAMED | {"preferred_name": unicodedata.normalize("NFD", "Th\u1ea3o")})
    yield _disclosure("a-space-around", NAMED | {"preferred_name": "Bunga "})
    disclosed = _header(Kind.DISCLOSURE, groups=("contact", "name"))
    written_out = canonical(_body(NAMED)).decode().replace("\\u1ea3", "\u1ea3")
    yield _case("a-letter-not-escaped", disclosed, written_out, INVALID)


def _contradictions() -> Iterator[Case]:
    """Routing fields that say something else than the header."""
    yield _offer("another-sender", OFFER | {"referring_agency": "shelter-two"})
    yield _offer("another-service", OFFER | {"service_type": "transit-accommodation"})
    yield _offer("another-vocabulary", OFFER | {"vocabulary_version": 2})
    yield _offer("another-priority", OFFER | {"priority": "routine"})
    yield _offer("another-time-to-answer", OFFER | {"respond_by": "2026-12-28T09:00:01Z"})
    few = {"client_code": "K7QF-3M2P", "needs": ["tonight"], "safety_flags": ["perpetrator-nearby"]}
    yield _offer("few-routing-fields", few, OK)


def _ages() -> Iterator[Case]:
    """On which basis somebody of this age can be referred."""
    offer = _header(Kind.OFFER)
    ageless = {name: value for name, value in OFFER.items() if name != "age_band"}
    for name, basis, age, expect in (
        ("a-minors-own-consent", "own-consent-minor", {"age_band": "15-17", "is_minor": True}, OK),
        ("a-minors-own-consent-at-14", "own-consent-minor", {"age_band": "12-14"}, INVALID),
        ("a-minors-own-consent-of-an-adult", "own-consent-minor", {"age_band": "18-24"}, INVALID),
        ("a-caregiver", "caregiver", {"age_band": "0-5"}, OK),
        ("a-caregiver-of-an-adult", "caregiver", {"age_band": "25-49"}, INVALID),
        ("a-caregiver-without-assent-at-6", "caregiver", {"age_band": "6-11"}, INVALID),
        ("a-caregiver-and-assent", "caregiver-and-assent", {"age_band": "12-14"}, OK),
        ("assent-at-5", "caregiver-and-assent", {"age_band": "0-5"}, INVALID),
        ("best-interest-of-a-minor", "caseworker-best-interest", {"age_band": "15-17"}, OK),
        ("best-interest-of-an-adult", "trusted-adult-best-interest", {"age_band": "65-plus"}, INVALID),
        ("consent-of-a-child", "consent", {"age_band": "15-17"}, INVALID),
        ("consent-of-somebody-under-18", "supported-decision", {"is_minor": True}, INVALID),
        ("a-basis-for-minors-and-no-band", "caregiver", {"is_minor": True}, OK),
        ("a-caregiver-of-no-minor", "caregiver", {"is_minor": False}, INVALID),
        ("best-interest-of-no-minor", "caseworker-best-interest", {"is_minor": False}, INVALID),
        ("a-minors-own-consent-of-no-minor", "own-consent-minor", {"is_minor": False}, INVALID),
        ("consent-of-no-minor", "consent", {"is_minor": False}, OK),
        ("a-basis-and-no-age", "own-consent-minor", {}, OK),
        ("an-exception-at-any-age", "imminent-threat-to-self", {"age_band": "25-49"}, OK),
    ):
        yield _case(name, offer, _body(ageless | age, basis=basis), expect)
    told = _header(Kind.DISCLOSURE, groups=("caregiver", "name"))
    aunt = {"caregiver": {"informed": True, "relationship": "other-relative"}, "preferred_name": "Bunga"}
    yield _case("a-caregiver-told", told, _body(aunt, basis="caregiver"), OK)
    yield _case("a-caregiver-told-of-an-adult", told, _body(aunt), INVALID)


ANSWERS: Final[tuple[tuple[str, Kind, str, Content, str], ...]] = (
    ("accepted", Kind.DECISION, "accepted", {"decision": "accepted"}, OK),
    (
        "accepted-with-a-time",
        Kind.DECISION,
        "accepted",
        {
            "arrival": {"earliest": "2026-12-28T12:00:00Z", "latest": "2026-12-28T15:00:00Z"},
            "decision": "accepted",
        },
        OK,
    ),
    ("declined", Kind.DECISION, "declined", {"decision": "declined", "reason": "no-capacity"}, OK),
    (
        "redirected",
        Kind.DECISION,
        "redirected",
        {"decision": "redirected", "suggested_service": "transit-accommodation"},
        OK,
    ),
    ("waitlisted", Kind.DECISION, "waitlisted", {"decision": "waitlisted"}, OK),
    ("declined-without-a-reason", Kind.DECISION, "declined", {"decision": "declined"}, INVALID),
    ("a-reason-that-stays", Kind.DECISION, "declined", {"decision": "declined", "reason": "duplicate"}, INVALID),
    ("accepted-with-a-reason", Kind.DECISION, "accepted", {"decision": "accepted", "reason": "other"}, INVALID),
    ("redirected-to-nothing", Kind.DECISION, "redirected", {"decision": "redirected"}, INVALID),
    ("another-event", Kind.DECISION, "accepted", {"decision": "waitlisted"}, INVALID),
    ("an-event-for-a-decision", Kind.DECISION, "accepted", {"event": "accepted"}, INVALID),
    ("in-service", Kind.PROGRESS, "in-service", {"state": "in-service"}, OK),
    ("completed-and-how", Kind.PROGRESS, "completed", {"outcome": "service-provided", "state": "completed"}, OK),
    ("failed-and-why", Kind.PROGRESS, "failed", {"fail_reason": "not-reached", "state": "failed"}, OK),
    ("failed-with-an-outcome", Kind.PROGRESS, "failed", {"outcome": "other", "state": "failed"}, INVALID),
    ("completed-and-why", Kind.PROGRESS, "completed", {"fail_reason": "other", "state": "completed"}, INVALID),
    ("a-note", Kind.PROGRESS, "in-service", {"note": "x", "state": "in-service"}, INVALID),
    (
        "information-requested",
        Kind.INFORMATION_REQUEST,
        "information-requested",
        {"fields": ["language", "party"]},
        OK,
    ),
    (
        "fields-out-of-order",
        Kind.INFORMATION_REQUEST,
        "information-requested",
        {"fields": ["party", "language"]},
        INVALID,
    ),
    ("no-fields", Kind.INFORMATION_REQUEST, "information-requested", {"fields": []}, INVALID),
    (
        "a-field-that-never-travels",
        Kind.INFORMATION_REQUEST,
        "information-requested",
        {"fields": ["narrative"]},
        INVALID,
    ),
    ("a-routing-field", Kind.INFORMATION_REQUEST, "information-requested", {"fields": ["client_code"]}, INVALID),
    ("recalled", Kind.RECALL_ANSWER, "recalled", {"agreed": True}, OK),
    ("service-goes-on", Kind.RECALL_ANSWER, "in-service", {"agreed": False}, OK),
    ("agreed-and-goes-on", Kind.RECALL_ANSWER, "in-service", {"agreed": True}, INVALID),
)


def _answers() -> Iterator[Case]:
    for name, kind, event, content, expect in ANSWERS:
        yield _case(name, _header(kind, event=event), content, expect)

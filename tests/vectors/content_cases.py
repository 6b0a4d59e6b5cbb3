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
    yield from _texts()
    yield from _calendars()
    yield from _contradictions()
    yield from _ages()
    yield from _parts()
    yield from _plans()
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


def _texts() -> Iterator[Case]:
    """What she would not see, or would see otherwise, than it was written."""
    for name, text in (
        ("a-text-turned-around", "a\u202eb"),
        ("a-mark-of-direction", "a\u200eb"),
        ("a-byte-order-mark", "a\ufeffb"),
        ("a-bell", "a\u0007b"),
        ("a-control-character-beyond-ascii", "a\u0085b"),
        ("two-lines-in-a-name", "a\nb"),
        ("half-a-surrogate-pair", "a\ud800"),
        ("an-empty-text", ""),
    ):
        yield _disclosure(name, NAMED | {"preferred_name": text})
    yield _disclosure("a-letter-beyond-ffff", NAMED | {"preferred_name": "\U00020bb7"}, OK)
    told = _header(Kind.DISCLOSURE, groups=("health",))
    yield _case("facts-in-two-lines", told, _body({"health_facts": "a\nb"}), OK)
    yield _case("facts-with-a-tab", told, _body({"health_facts": "a\tb"}), INVALID)
    for name, words in (("one-word", "lantern"), ("three-words", "a paper lantern"), ("a-word-of-digits", "paper 12")):
        yield _disclosure(f"arrival-words-{name}", NAMED | {"arrival_words": words})


def _calendars() -> Iterator[Case]:
    """In the form of a time or of a date, and none."""
    for name, time in (
        ("of-30-february", "2026-02-30T08:00:00Z"),
        ("of-29-february-in-a-common-year", "2026-02-29T08:00:00Z"),
        ("at-24-hours", "2026-12-27T24:00:00Z"),
        ("with-a-leap-second", "2026-12-28T08:59:60Z"),
        ("of-the-year-0", "0000-12-28T08:00:00Z"),
    ):
        yield _offer(f"a-time-{name}", OFFER | {"referred_at": time})
    told = _header(Kind.DISCLOSURE, groups=("identity",))
    for name, day, expect in (
        ("a-birthday", "2000-02-29", OK),
        ("a-birthday-on-30-february", "1990-02-30", INVALID),
        ("a-birthday-in-the-year-0", "0000-01-31", INVALID),
        ("a-birthday-with-a-time", "1990-01-31T00:00:00Z", INVALID),
    ):
        yield _case(name, told, _body({"date_of_birth": day}), expect)


def _contradictions() -> Iterator[Case]:
    """Routing fields that say something else than the header."""
    yield _offer("another-sender", OFFER | {"referring_agency": "shelter-two"})
    yield _offer("another-service", OFFER | {"service_type": "transit-accommodation"})
    unsaid = {name: value for name, value in OFFER.items() if name != "needs"}
    yield _offer("a-service-that-is-never-referred-to", unsaid | {"service_type": "peer-support"})
    yield _offer("another-vocabulary", OFFER | {"vocabulary_version": 2})
    yield _offer("another-priority", OFFER | {"priority": "routine"})
    yield _offer("another-time-to-answer", OFFER | {"respond_by": "2026-12-28T09:00:01Z"})
    yield _offer("due-before-it-was-referred", OFFER | {"referred_at": "2026-12-28T09:00:00Z"})
    yield _offer("a-need-of-another-service", OFFER | {"needs": ["ticket", "tonight"]})
    yield _offer("of-age-and-a-minor", OFFER | {"is_minor": True})
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
    both = _header(Kind.DISCLOSURE, groups=("caregiver", "need"))
    adult = {"age_band": "25-49", "caregiver": aunt["caregiver"]}
    yield _case("an-adults-caregiver-on-any-basis", both, _body(adult, basis="imminent-threat-to-self"), INVALID)


def _parts() -> Iterator[Case]:
    """What the members of one value have to agree on, and codes of which the schema knows the form alone."""
    few = {name: value for name, value in OFFER.items() if name != "party"}
    yield _offer("a-party-of-a-child", few | {"party": PARTY | {"adults": 0}}, OK)
    yield _offer("a-party-of-nobody", few | {"party": PARTY | {"adults": 0, "dependants": []}})
    noon, one = "2026-12-28T12:00:00Z", "2026-12-28T13:00:00Z"
    for name, earliest, latest, expect in (
        ("an-hour-to-arrive", noon, one, OK),
        ("no-time-to-arrive", noon, noon, INVALID),
        ("an-arrival-backwards", one, noon, INVALID),
    ):
        window = {"earliest": earliest, "latest": latest}
        yield _offer(name, OFFER | {"arrival_window": window}, expect)
        accepted = {"arrival": window, "decision": "accepted"}
        yield _case(f"{name}-answered", _header(Kind.DECISION, event="accepted"), accepted, expect)
    told = _header(Kind.DISCLOSURE, groups=("caregiver",))
    for name, informed, expect in (("not-told", False, OK), ("told", True, INVALID)):
        caregiver = {"excluded_because": "is-perpetrator", "informed": informed, "relationship": "father"}
        yield _case(f"excluded-and-{name}", told, _body({"caregiver": caregiver}, basis="caregiver"), expect)
    for name, language, expect in (
        ("with-a-script", "zh-Hant", OK),
        ("with-a-region", "es-419", OK),
        ("in-capitals", "ID", INVALID),
        ("with-a-script-in-small-letters", "zh-hant", INVALID),
        ("with-a-variant", "de-1996", INVALID),
    ):
        yield _offer(f"a-language-{name}", OFFER | {"language": language}, expect)


def _plan(name: str, expect: str = INVALID, without: str = "", **changes: Any) -> Case:
    plan = {member: value for member, value in (PLAN | changes).items() if member != without}
    return _disclosure(name, NAMED | {"safe_contact": plan}, expect)


def _plans() -> Iterator[Case]:
    """A contact plan that does not say how she may be reached, or says it in two ways."""
    yield _plan("an-agency-without-a-channel", channels=[])
    yield _plan("an-agency-and-nothing-confirmed", without="last_confirmed_at")
    yield _plan("she-calls", OK, without="last_confirmed_at", channels=[], who_initiates="survivor")
    here, there = CHANNEL | {"address": "+00 1"}, CHANNEL | {"address": "+00 2"}
    yield _plan("two-numbers", OK, channels=[here, there])
    yield _plan("a-number-twice", channels=[here, here | {"safe": False}])
    yield _plan("a-channel-without-an-address-twice", channels=[CHANNEL, CHANNEL | {"safe": False}])
    yield _plan("two-code-words", OK, code_word_danger="lantern", code_word_safe="rose")
    yield _plan("a-code-word-for-both", code_word_danger="Rose", code_word_safe="rose")
    yield _plan("a-code-word-for-both-in-other-letters", code_word_danger="STRASSE", code_word_safe="stra\u00dfe")
    yield _plan("no-word-for-danger", OK, code_word_safe="rose")
    person = {"address": "+00 3", "channel": "phone-call", "name": "Example Neighbour"}
    by_her = [CHANNEL | {"channel": "via-trusted-person"}]
    yield _plan("by-somebody-she-trusts", OK, channels=by_her, trusted_contact=person)
    yield _plan("by-nobody-she-trusts", channels=by_her)
    yield _plan("over-midnight", OK, safe_times=[WINDOW | {"to": "01:00"}])
    for times in ("safe_times", "unsafe_times"):
        yield _plan(f"a-window-without-length-in-{times}", **{times: [WINDOW | {"to": "22:00"}]})
        yield _plan(f"localtime-in-{times}", **{times: [WINDOW, WINDOW | {"time_zone": "localtime"}]})
    for zone in ("Asia/Rangoon", "EST5EDT", "Etc/GMT+8", "UTC"):
        yield _plan(f"the-zone-{zone}", OK, safe_times=[WINDOW | {"time_zone": zone}])
    for zone in ("Factory", "posixrules", "build/etc/localtime", "Mars/Olympus", "asia/kuala_lumpur", "+08:00"):
        yield _plan(f"the-zone-{zone}", safe_times=[WINDOW | {"time_zone": zone}])


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

"""What a referral may say, and that everything else is refused without repeating it."""

import json
from datetime import UTC, datetime
from typing import Any, get_type_hints

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.vocabulary import ROUTING_FIELDS, Basis, CareWindow, Feedback, Field, Priority, ServiceType
from exchange.messages import ForwardBody
from exchange.referral.canonical import problems_of
from exchange.referral.content import (
    CONTENT_EXAMPLE,
    ContentInvalidError,
    ReferralContent,
    Routing,
    effective_priority,
)
from exchange.referral.values import AS_WRITTEN

ROUTING = Routing(
    client_code="K7QF-3M2P",
    priority=Priority.URGENT,
    service_type=ServiceType.SAFE_ACCOMMODATION,
    referred_at=datetime(2026, 11, 23, 2, tzinfo=UTC),
    respond_by=datetime(2026, 11, 24, 2, tzinfo=UTC),
    referring_agency="orchid-helpline",
    duty_contact="+60 3 0000 0000",
)


def as_bytes(members: dict[str, Any]) -> bytes:
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def test_one_member_for_every_field_and_none_beside_them() -> None:
    assert set(ReferralContent.model_fields) == {field.value for field in Field}


def test_there_is_no_member_for_the_date_of_an_incident() -> None:
    names = json.dumps(ReferralContent.model_json_schema()["properties"]).lower()
    assert not any(word in names for word in ("incident", "orientation", "happened"))


def test_every_member_is_described_and_optional() -> None:
    for name, member in ReferralContent.model_fields.items():
        assert member.description, name
        assert not member.is_required(), name


def test_every_example_is_valid() -> None:
    ReferralContent.model_validate(CONTENT_EXAMPLE)
    for name, member in ReferralContent.model_fields.items():
        for value in member.examples or ():
            assert ReferralContent.model_validate({name: value}).fields_present() == {Field(name)}


def test_a_content_survives_being_written_and_read() -> None:
    content = ReferralContent.model_validate(CONTENT_EXAMPLE).with_routing(ROUTING)
    assert ReferralContent.from_bytes(content.to_bytes()) == content


def test_only_keeps_nothing_else() -> None:
    content = ReferralContent.model_validate(CONTENT_EXAMPLE).only({Field.NEEDS, Field.LEGAL_NAME})
    assert content.fields_present() == {Field.NEEDS}


def test_printing_shows_no_value() -> None:
    content = ReferralContent.model_validate(CONTENT_EXAMPLE)
    printed = f"{content!r} {content} {content.party!r} {content.safe_contact} {[content]}"
    assert "preferred_name" in printed
    assert "Bunga" not in printed
    assert "lantern" not in printed
    assert "6-11" not in printed


REFUSED = [
    pytest.param({"shoe_size": 38}, "$", "unknown-member", id="unknown-field"),
    pytest.param({"party": {"adults": 1, "names": ["x"]}}, "$.party", "unknown-member", id="unknown-in-part"),
    pytest.param({"incident_date": "2026-11-01"}, "$", "unknown-member", id="incident-date"),
    pytest.param({"needs": ["a-pool"]}, "$.needs[0]", "unknown-term", id="unknown-need"),
    pytest.param({"needs": ["days", "days"]}, "$.needs", "named-twice", id="need-twice"),
    pytest.param({"needs": ["tonight", "ticket"], "service_type": "safe-accommodation"}, "$",
                 "need-of-another-service", id="need-of-another-service"),
    pytest.param({"age_band": "25-30"}, "$.age_band", "unknown-term", id="unknown-band"),
    pytest.param({"age_band": "25-49", "is_minor": True}, "$", "age-contradiction", id="adult-minor"),
    pytest.param({"age_band": "15-17", "is_minor": False}, "$", "age-contradiction", id="minor-adult"),
    pytest.param({"age_band": "25-49", "caregiver": {"relationship": "other", "informed": True}}, "$",
                 "caregiver-of-adult", id="caregiver-of-an-adult"),
    pytest.param({"is_minor": False, "caregiver": {"relationship": "other", "informed": True}}, "$",
                 "caregiver-of-adult", id="caregiver-of-no-minor"),
    pytest.param({"caregiver": {"relationship": "father", "informed": True, "excluded_because": "other"}},
                 "$.caregiver", "informed-and-excluded", id="informed-and-excluded"),
    pytest.param({"is_minor": 1}, "$.is_minor", "bool-type", id="number-as-yes"),
    pytest.param({"is_minor": "true"}, "$.is_minor", "bool-type", id="text-as-yes"),
    pytest.param({"party": {"adults": 1.0}}, "$.party.adults", "int-type", id="float-count"),
    pytest.param({"party": {"adults": 21}}, "$.party.adults", "less-than-equal", id="too-many-adults"),
    pytest.param({"party": {"adults": 0}}, "$.party", "nobody-comes", id="nobody-comes"),
    pytest.param({"party": {"adults": 1, "dependants": [{"age_band": "6-11", "sex": "boy"}]}},
                 "$.party.dependants[0].sex", "unknown-term", id="unknown-sex"),
    pytest.param({"area": "12 Example Street"}, "$.area", "string-pattern-mismatch", id="an-address-as-area"),
    pytest.param({"area": "QQ-14"}, "$.area", "unknown-area", id="unknown-area"),
    pytest.param({"language": "english"}, "$.language", "unknown-language", id="language-in-words"),
    pytest.param({"country_of_work": "Malaysia"}, "$.country_of_work", "unknown-country", id="country-in-words"),
    pytest.param({"preferred_name": "x" * 81}, "$.preferred_name", "string-too-long", id="long-name"),
    pytest.param({"preferred_name": "   "}, "$.preferred_name", "string-too-short", id="blank-name"),
    pytest.param({"preferred_name": "\u09df" * 41}, "$.preferred_name", "string-too-long", id="longer-when-composed"),
    pytest.param({"health_facts": "\u09df" * 501}, "$.health_facts", "string-too-long", id="note-longer-when-composed"),
    pytest.param({"preferred_name": "a\u0000b"}, "$.preferred_name", "hidden-character", id="control-character"),
    pytest.param({"preferred_name": "a\u202eb"}, "$.preferred_name", "hidden-character", id="reversed-text"),
    pytest.param({"meeting_point": "one\ntwo"}, "$.meeting_point", "hidden-character", id="two-lines-in-one"),
    pytest.param({"arrival_words": "lantern"}, "$.arrival_words", "two-short-words", id="one-word"),
    pytest.param({"arrival_words": "a paper lantern"}, "$.arrival_words", "two-short-words", id="three-words"),
    pytest.param({"arrival_words": "paper  lantern"}, "$.arrival_words", "two-short-words", id="two-spaces"),
    pytest.param({"arrival_words": "room 12"}, "$.arrival_words", "two-short-words", id="a-number-as-word"),
    pytest.param({"arrival_words": "p lantern"}, "$.arrival_words", "two-short-words", id="one-letter"),
    pytest.param({"date_of_birth": "31-01-1990"}, "$.date_of_birth", "not-a-date", id="other-date-spelling"),
    pytest.param({"date_of_birth": "1990-02-30"}, "$.date_of_birth", "not-a-date", id="no-such-day"),
    pytest.param({"date_of_birth": 633744000}, "$.date_of_birth", "not-a-date", id="date-as-number"),
    pytest.param({"passport_number": "x 12"}, "$.passport_number", "string-pattern-mismatch", id="passport"),
    pytest.param({"safety_flags": ["sad"]}, "$.safety_flags[0]", "unknown-term", id="unknown-flag"),
    pytest.param({"care_window": "since-monday"}, "$.care_window", "unknown-term", id="window-with-a-day"),
    pytest.param({"arrival_window": {"earliest": "2026-11-23T12:00:00Z", "latest": "2026-11-23T12:00:00Z"}},
                 "$.arrival_window", "window-backwards", id="window-without-length"),
    pytest.param({"arrival_window": {"earliest": "2026-11-23T12:00:00", "latest": "2026-11-24T12:00:00Z"}},
                 "$.arrival_window.earliest", "wrong-form", id="time-without-zone"),
    pytest.param({"wage_details": {"currency": "MYR", "monthly_wage": 10.5}}, "$.wage_details.monthly_wage",
                 "int-type", id="wage-as-float"),
    pytest.param({"client_code": "case-4711"}, "$.client_code", "string-pattern-mismatch", id="own-case-number"),
    pytest.param({"referred_at": "2026-11-23T12:00:00Z", "respond_by": "2026-11-23T12:00:00Z"}, "$",
                 "clock-backwards", id="due-before-made"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "path", "code"), REFUSED)
def test_refused_with_place_and_code(members: dict[str, Any], path: str, code: str) -> None:
    with pytest.raises(ContentInvalidError) as caught:
        ReferralContent.from_bytes(as_bytes(members))
    assert (path, code) in {(problem.path, problem.code) for problem in caught.value.problems}


SAME_WORDS = {"code_word_safe": "mango", "code_word_danger": "man go"}
ALLOWED_BEFORE = [
    pytest.param({"preferred_name": "\u200b \u200d"}, "$.preferred_name", "string-too-short", id="nothing-to-see"),
    pytest.param({"preferred_name": "\u3164\u2800"}, "$.preferred_name", "string-too-short", id="blank-letters"),
    pytest.param({"preferred_name": "a\u061cb"}, "$.preferred_name", "hidden-character", id="arabic-letter-mark"),
    pytest.param({"health_facts": "a\nb\u061c"}, "$.health_facts", "hidden-character", id="the-same-in-lines"),
    pytest.param({"safe_contact": {"who_initiates": "survivor", **SAME_WORDS}}, "$.safe_contact", "same-code-word",
                 id="words-of-one-sound"),
]  # fmt: skip


@pytest.mark.parametrize(("members", "path", "code"), ALLOWED_BEFORE)
def test_what_earlier_versions_allowed_is_handed_in_no_more_and_is_read(
    members: dict[str, Any], path: str, code: str
) -> None:
    """It lies here, or comes from a node that allows it still: refused it would be lost."""
    with pytest.raises(ValidationError) as caught:
        ReferralContent.model_validate_json(as_bytes(members))
    assert (path, code) in {(problem.path, problem.code) for problem in problems_of(caught.value)}
    content = ReferralContent.model_validate_json(as_bytes(members), context=AS_WRITTEN)
    assert ReferralContent.from_bytes(content.to_bytes()) == content
    body = ForwardBody(Basis.CONSENT, Feedback.DECISION, content)
    for read in (ForwardBody.from_bytes, ForwardBody.read_again):
        assert read(body.to_bytes()) == body


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"age_band":"25-49","age_band":"18-24"}', id="member-twice"),
        pytest.param(b'{"age_band": "25-49"}', id="space"),
        pytest.param(b'{"language":"id","age_band":"25-49"}', id="other-order"),
        pytest.param(b'{"age_band":null}', id="null-member"),
        pytest.param(b'{"preferred_name":"Bung\\u0061"}', id="needless-escape"),
        pytest.param('{"preferred_name":"Été"}'.encode(), id="unescaped-letter"),
        pytest.param(b'{"preferred_name":"E\\u0301"}', id="not-normal-form"),
        pytest.param(b'{"needs":["weeks","days"]}', id="codes-out-of-order"),
        pytest.param(b'{"referred_at":"2026-11-23T10:00:00+08:00"}', id="time-in-another-zone"),
        pytest.param(b'{"safe_contact":{"who_initiates":"survivor"}}', id="defaults-left-out"),
    ],
)
def test_a_second_spelling_is_refused(data: bytes) -> None:
    with pytest.raises(ContentInvalidError) as caught:
        ReferralContent.from_bytes(data)
    assert [(problem.path, problem.code) for problem in caught.value.problems] == [("$", "not-canonical")]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'"x"', id="text"),
        pytest.param(b"{", id="cut-off"),
        pytest.param(b'{"age_band":"25-49"}x', id="trailing"),
        pytest.param(b"\xff\xfe", id="not-utf-8"),
        pytest.param(b'{"preferred_name":"\\ud800"}', id="half-a-character"),
        pytest.param(b'{"party":' * 500, id="deep"),
    ],
)
def test_what_is_no_content_is_refused(data: bytes) -> None:
    with pytest.raises(ContentInvalidError):
        ReferralContent.from_bytes(data)


def test_a_refusal_repeats_neither_values_nor_made_up_names() -> None:
    members = {"SecretName": "SecretValue", "preferred_name": "Secret\u0007Value", "party": {"SecretPart": 1}}
    with pytest.raises(ContentInvalidError) as caught:
        ReferralContent.from_bytes(as_bytes(members))
    error: BaseException | None = caught.value
    while error is not None:
        assert "Secret" not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__


def test_a_model_error_does_not_repeat_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        ReferralContent.model_validate({"preferred_name": "Secret" * 20})
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize("field", sorted(ROUTING_FIELDS))
def test_a_request_that_sets_a_routing_field_is_refused(field: Field) -> None:
    filled = ReferralContent().with_routing(ROUTING)
    value = getattr(filled, field.value)
    content = ReferralContent.model_validate({field.value: True if value is None else value})
    with pytest.raises(ContentInvalidError) as caught:
        content.with_routing(ROUTING)
    assert [(p.path, p.code) for p in caught.value.problems] == [(f"$.{field.value}", "set-by-node")]


def test_routing_that_does_not_fit_the_needs_is_refused() -> None:
    with pytest.raises(ContentInvalidError) as caught:
        ReferralContent.model_validate({"needs": ["ticket"]}).with_routing(ROUTING)
    assert caught.value.problems[0].code == "need-of-another-service"


def test_a_real_referral_says_nothing_of_an_exercise() -> None:
    assert Field.EXERCISE not in ReferralContent().with_routing(ROUTING).fields_present()


@pytest.mark.parametrize("window", [None, *CareWindow])
@pytest.mark.parametrize("stated", Priority)
def test_an_open_care_window_is_an_emergency(stated: Priority, window: CareWindow | None) -> None:
    expected = stated if window in {None, CareWindow.NONE} else Priority.EMERGENCY
    assert effective_priority(stated, ReferralContent(care_window=window)) is expected


def test_words_in_every_script_of_the_region_are_letters() -> None:
    for words in ("โคม กระดาษ", "မီး ပုံး", "គោម ក្រដាស", "đèn giấy", "lampu kertas", "ໂຄມ ໄຟ"):
        content = ReferralContent(arrival_words=words)
        assert ReferralContent.from_bytes(content.to_bytes()) == content


def test_every_member_of_the_class_has_a_type() -> None:
    assert all(get_type_hints(ReferralContent)[field.value] for field in Field)


@settings(max_examples=60, deadline=None)
@example("\u09df" * 60)
@given(st.text(max_size=90) | st.text("\u09dc\u09df\u0958 \u200b\n", max_size=90))
def test_a_name_is_refused_or_has_one_spelling(name: str) -> None:
    try:
        content = ReferralContent(preferred_name=name)
    except ValidationError:
        return
    assert ReferralContent.from_bytes(content.to_bytes()) == content


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(list(Field))))
def test_only_never_adds_a_field(fields: set[Field]) -> None:
    content = ReferralContent.model_validate(CONTENT_EXAMPLE).with_routing(ROUTING)
    assert content.only(fields).fields_present() == content.fields_present() & fields

"""What is refused when a consent is recorded, by code."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from support.consents import (
    CONSENT_ID,
    DETERMINATION,
    NOW,
    POLICE_TOLD,
    SHELTER_LINE,
    STATEMENTS,
    SUBJECT,
    draft,
    for_basis,
    recorded,
)

from consent.errors import ConsentInvalidError
from consent.examples import DRAFT_EXAMPLE
from consent.lifecycle import record_consent
from consent.record import ConsentDraft, Provision, ToldAbout
from consent.terms import ConsentState
from contracts.vocabulary import EXCEPTION_BASES, AgeBand, AgencyKind, Basis, Field, Group, Purpose

DAY = timedelta(days=1)
TOLD = POLICE_TOLD.model_copy(update={"agency": "harbour-shelter"})
MINORS = frozenset({"0-5", "6-11", "12-14", "15-17"})
"""Written down here once more: who is left out there would be an adult."""
ADULTS = frozenset({"18-24", "25-49", "50-64", "65-plus"})
VALID_BANDS = {
    Basis.CONSENT: ADULTS,
    Basis.SUPPORTED_DECISION: ADULTS,
    Basis.CAREGIVER: {AgeBand.FROM_0_5},
    Basis.CAREGIVER_AND_ASSENT: {AgeBand.FROM_6_11, AgeBand.FROM_12_14},
    Basis.OWN_CONSENT_MINOR: {AgeBand.FROM_15_17},
    Basis.TRUSTED_ADULT_BEST_INTEREST: MINORS,
    Basis.CASEWORKER_BEST_INTEREST: MINORS,
}


def codes(**changes: Any) -> list[str]:
    with pytest.raises(ConsentInvalidError) as caught:
        recorded(**changes)
    return [problem.code for problem in caught.value.problems]


@pytest.mark.parametrize("band", list(AgeBand))
@pytest.mark.parametrize("basis", [basis for basis in Basis if basis not in EXCEPTION_BASES])
def test_every_basis_at_every_age(basis: Basis, band: AgeBand) -> None:
    members = for_basis(basis, age_band=band)
    if band in VALID_BANDS[basis]:
        assert recorded(**members).basis is basis
    elif band in MINORS:
        assert codes(**members) == ["basis-not-for-this-age"]
    else:
        assert codes(**members) == ["nobody-consents-for-an-adult"]


@pytest.mark.parametrize("band", list(AgeBand))
@pytest.mark.parametrize("basis", sorted(EXCEPTION_BASES))
def test_exceptions_are_refused_at_every_age(basis: Basis, band: AgeBand) -> None:
    assert codes(basis=basis, age_band=band) == ["exceptions-not-available"]


@pytest.mark.parametrize(
    ("changes", "code", "path"),
    [
        pytest.param(
            for_basis(Basis.SUPPORTED_DECISION, supporter=None), "supporter-missing", "supporter", id="no-supporter"
        ),
        pytest.param({"supporter": "husband"}, "supporter-not-expected", "supporter", id="husband-as-supporter"),
        pytest.param(
            for_basis(Basis.CAREGIVER_AND_ASSENT, age_band="6-11", child_assents=None),
            "child-has-not-agreed",
            "child_assents",
            id="child-not-asked",
        ),
        pytest.param(
            for_basis(Basis.CAREGIVER_AND_ASSENT, age_band="12-14", child_assents=False),
            "child-has-not-agreed",
            "child_assents",
            id="child-said-no",
        ),
        pytest.param({"child_assents": True}, "assent-not-expected", "child_assents", id="assent-of-an-adult"),
        pytest.param(
            {"child_assents": False}, "assent-not-expected", "child_assents", id="an-adult-as-a-child-that-said-no"
        ),
        pytest.param(
            for_basis(Basis.CASEWORKER_BEST_INTEREST, age_band="0-5", determination=None),
            "determination-missing",
            "determination",
            id="no-determination",
        ),
        pytest.param(
            for_basis(
                Basis.CASEWORKER_BEST_INTEREST,
                age_band="15-17",
                determination=DETERMINATION | {"decided_at": NOW + timedelta(seconds=1)},
            ),
            "determination-too-late",
            "determination.decided_at",
            id="determination-after-the-decision",
        ),
        pytest.param(
            {"determination": DETERMINATION}, "determination-not-expected", "determination", id="about-an-adult"
        ),
        pytest.param(
            for_basis(Basis.TRUSTED_ADULT_BEST_INTEREST, age_band="6-11", determination=DETERMINATION),
            "trusted-adult-mismatch",
            "determination.trusted_adult",
            id="trusted-adult-not-said",
        ),
        pytest.param(
            for_basis(
                Basis.CASEWORKER_BEST_INTEREST, age_band="6-11", determination=DETERMINATION | {"trusted_adult": "aunt"}
            ),
            "trusted-adult-mismatch",
            "determination.trusted_adult",
            id="trusted-adult-beside-caseworker",
        ),
        pytest.param(
            {"limits_explained_at": None}, "limits-not-explained", "limits_explained_at", id="limits-never-explained"
        ),
        pytest.param(
            {"given_at": NOW - timedelta(minutes=6)},
            "limits-not-explained",
            "limits_explained_at",
            id="limits-explained-afterwards",
        ),
        pytest.param(
            {"given_at": NOW + timedelta(seconds=1), "limits_explained_at": NOW + timedelta(seconds=2)},
            "limits-not-explained",
            "limits_explained_at",
            id="limits-afterwards-by-a-fast-clock",
        ),
        pytest.param({"interpreted_into": "fil"}, "interpreter-missing", "interpreter_role", id="no-interpreter"),
        pytest.param({"statement_id": "made-up"}, "statement-unknown", "statement_id", id="unknown-statement"),
        pytest.param({"language": "fil"}, "statement-not-in-language", "language", id="not-in-that-language"),
        pytest.param(
            {"statement_id": "caregiver-consent"}, "statement-not-for-basis", "statement_id", id="words-for-another"
        ),
        pytest.param({"given_at": NOW + timedelta(minutes=3)}, "given-in-the-future", "given_at", id="future"),
        pytest.param({"expires_at": NOW}, "ends-too-early", "expires_at", id="ended-already"),
        pytest.param(
            {"expires_at": NOW + timedelta(days=365, seconds=1)}, "ends-too-late", "expires_at", id="over-a-year"
        ),
        pytest.param(
            {"given_at": NOW - 10 * DAY, "limits_explained_at": NOW - 11 * DAY, "expires_at": NOW - 5 * DAY},
            "ends-too-early",
            "expires_at",
            id="ended-since-her-yes",
        ),
        pytest.param(
            {"given_at": NOW - 10 * DAY, "limits_explained_at": NOW - 11 * DAY, "expires_at": NOW + 360 * DAY},
            "ends-too-late",
            "expires_at",
            id="over-a-year-since-her-yes",
        ),
        pytest.param({"told_first": [TOLD, TOLD]}, "told-twice", "told_first", id="told-twice-of-one-agency"),
        pytest.param({"provisions": []}, "no-provisions", "provisions", id="consent-to-nothing"),
    ],
)
def test_refused(changes: dict[str, Any], code: str, path: str) -> None:
    with pytest.raises(ConsentInvalidError) as caught:
        recorded(**changes)
    assert [(problem.code, problem.path) for problem in caught.value.problems] == [(code, path)]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"groups": []}, "provision-without-fields", id="nothing-said-of-what"),
        pytest.param({"agencies": []}, "provision-without-recipient", id="nobody"),
        pytest.param({"purposes": []}, "provision-without-purpose", id="no-purpose"),
        pytest.param({"fields": ["narrative"]}, "field-never-flows", id="narrative"),
        pytest.param({"fields": ["avoid_own_authorities"]}, "field-never-flows", id="own-authorities"),
        pytest.param({"fields": ["needs", "narrative"]}, "field-never-flows", id="narrative-beside-another-field"),
        pytest.param({"kinds": ["embassy"]}, "authority-not-named", id="any-embassy"),
        pytest.param({"kinds": ["police"]}, "authority-not-named", id="any-police"),
        pytest.param({"kinds": ["labour-office"]}, "authority-not-named", id="any-labour-office"),
        pytest.param({"kinds": ["immigration"]}, "authority-not-named", id="any-immigration"),
        pytest.param({"kinds": ["shelter", "police"]}, "authority-not-named", id="any-police-beside-any-shelter"),
    ],
)
def test_a_provision_is_refused(changes: dict[str, Any], code: str) -> None:
    line = Provision.model_validate(SHELTER_LINE.model_dump() | changes)
    assert codes(provisions=[line]) == [code]


def test_every_problem_is_reported_at_once() -> None:
    found = codes(provisions=[Provision()], limits_explained_at=None, statement_id="made-up", basis="caregiver")
    assert found == [
        "nobody-consents-for-an-adult",
        "provision-without-fields",
        "provision-without-recipient",
        "provision-without-purpose",
        "limits-not-explained",
        "statement-unknown",
    ]


@pytest.mark.parametrize(
    "told",
    [pytest.param([], id="of-nobody"), pytest.param([TOLD], id="of-another"), pytest.param([POLICE_TOLD], id="of-one")],
)
def test_every_authority_of_the_roster_needs_what_she_was_told(told: list[ToldAbout]) -> None:
    line = Provision(
        fields=frozenset({Field.LEGAL_NAME}),
        agencies=frozenset({"kl-police", "penang-police"}),
        purposes=frozenset({Purpose.PROVIDE_POLICE_PROTECTION}),
    )
    with pytest.raises(ConsentInvalidError) as caught:
        record_consent(
            draft(provisions=[line], told_first=told),
            consent_id=CONSENT_ID,
            subject=SUBJECT,
            at=NOW,
            statements=STATEMENTS,
            agency_kinds={"kl-police": AgencyKind.POLICE, "penang-police": AgencyKind.POLICE},
        )
    assert [problem.code for problem in caught.value.problems] == ["not-told-first"]


def test_an_authority_of_the_roster_may_be_told_after_she_was() -> None:
    line = Provision(
        fields=frozenset({Field.LEGAL_NAME}),
        agencies=frozenset({"kl-police"}),
        purposes=frozenset({Purpose.PROVIDE_POLICE_PROTECTION}),
    )
    asked = draft(provisions=[line], told_first=[POLICE_TOLD])
    kinds = {"kl-police": AgencyKind.POLICE}
    record = record_consent(
        asked, consent_id=CONSENT_ID, subject=SUBJECT, at=NOW, statements=STATEMENTS, agency_kinds=kinds
    )
    assert record.provisions == (line,)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"unknown": 1}, id="unknown-member"),
        pytest.param({"basis": "husband"}, id="unknown-basis"),
        pytest.param({"age_band": "adult"}, id="unknown-age-band"),
        pytest.param({"given_how": "silence"}, id="unknown-way"),
        pytest.param({"language": "english"}, id="not-a-language-tag"),
        pytest.param({"limits_explained_at": "2026-11-23T02:05:00"}, id="no-offset"),
        pytest.param({"limits_explained_at": 1_764_000_000}, id="a-number-for-a-time"),
        pytest.param({"limits_explained_at": "1764000000"}, id="a-number-in-a-string"),
        pytest.param({"limits_explained_at": "2026-11-23"}, id="a-date-for-a-time"),
        pytest.param({"limits_explained_at": "9999-12-31T23:59:59-05:00"}, id="beyond-the-calendar"),
        pytest.param({"witnessed_by": "Maria Santos"}, id="a-name-for-a-role"),
        pytest.param({"child_assents": "yes"}, id="a-word-for-a-boolean"),
        pytest.param({"provisions": [{"countries": ["XX"]}]}, id="no-such-country"),
        pytest.param({"provisions": [{"agencies": ["Harbour Shelter"]}]}, id="a-name-for-an-agency-id"),
        pytest.param({"provisions": [{"fields": ["*"]}]}, id="wildcard"),
        pytest.param({"provisions": [{"groups": ["everything"]}]}, id="unknown-group"),
        pytest.param({"provisions": [SHELTER_LINE] * 51}, id="too-many-provisions"),
    ],
)
def test_malformed_input_is_refused_without_an_echo(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        draft(**changes)
    assert "Maria" not in str(caught.value)
    assert "input_value" not in str(caught.value)


def test_no_error_text_repeats_a_value() -> None:
    with pytest.raises(ConsentInvalidError) as caught:
        recorded(statement_id="secret-of-hers", witnessed_by="secret-of-hers", basis="caregiver")
    assert "secret-of-hers" not in str(caught.value) + repr(caught.value.problems)


def test_a_valid_consent_is_recorded_with_its_words() -> None:
    record = recorded()
    assert record.state is ConsentState.GIVEN
    assert record.version == 1
    assert record.given_at == NOW
    assert record.expires_at == NOW + timedelta(days=90)
    statement = STATEMENTS.get("adult-consent", "en")
    assert statement is not None
    assert (record.statement_digest, record.statement_version) == (statement.sha256, statement.version)


def test_a_year_is_the_longest_life() -> None:
    assert recorded(expires_at=NOW + timedelta(days=365)).expires_at == NOW + timedelta(days=365)


def test_a_life_that_is_not_said_begins_with_her_yes() -> None:
    record = recorded(given_at=NOW - 10 * DAY, limits_explained_at=NOW - 11 * DAY)
    assert (record.given_at, record.expires_at) == (NOW - 10 * DAY, NOW + 80 * DAY)


def test_a_determination_may_be_made_in_the_moment_of_the_decision() -> None:
    made_now = DETERMINATION | {"decided_at": NOW}
    record = recorded(**for_basis(Basis.CASEWORKER_BEST_INTEREST, age_band="15-17", determination=made_now))
    assert record.is_live(NOW)


def test_a_slightly_fast_clock_is_read_as_now() -> None:
    record = recorded(given_at=NOW + timedelta(minutes=2), limits_explained_at=NOW + timedelta(minutes=1))
    assert record.given_at == NOW
    assert record.limits_explained_at == NOW
    assert recorded(limits_explained_at=NOW + timedelta(seconds=3)).is_live(NOW)


def test_moments_are_kept_in_utc() -> None:
    record = recorded(limits_explained_at="2026-11-23T10:05:00+08:00")
    assert record.limits_explained_at == NOW.replace(minute=5)
    assert b"2026-11-23T02:05:00Z" in record.to_json_bytes()


def test_the_published_example_is_valid() -> None:
    example = ConsentDraft.model_validate(DRAFT_EXAMPLE)
    assert record_consent(example, consent_id=CONSENT_ID, subject=SUBJECT, at=NOW, statements=STATEMENTS).is_live(NOW)
    assert ConsentDraft.model_json_schema()["examples"] == [DRAFT_EXAMPLE]


def test_every_member_of_the_request_is_described() -> None:
    schema = ConsentDraft.model_json_schema()
    for model in (schema, schema["$defs"]["Provision"], schema["$defs"]["ToldAbout"], schema["$defs"]["Determination"]):
        assert all(member.get("description") for member in model["properties"].values())


def test_group_routing_alone_says_nothing_about_her_and_is_valid() -> None:
    line = SHELTER_LINE.model_copy(update={"groups": frozenset({Group.ROUTING})})
    assert recorded(provisions=[line]).provisions == (line,)

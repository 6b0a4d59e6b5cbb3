"""Everything a contract file is refused for: the line, the code and a sentence."""

from datetime import date

import pytest
from support.contract_files import SMALL, TODAY, load, small

from contracts.loader import ContractInvalidError, load_contract

LAST_RULE_LINE = "    retention: {declined: 24h, expired: 24h, closed: 30d}\n"
SECOND_SHELTER = (
    SMALL[SMALL.index("  - id: shelter") : SMALL.index("  - id: lawyer")]
    .replace("id: shelter", "id: second")
    .replace("[helpline, police]", "[police, embassy]")
)


def problems_of(data: bytes, on: date = TODAY) -> list[tuple[int, str]]:
    with pytest.raises(ContractInvalidError) as caught:
        load_contract(data, on=on)
    assert all(problem.sentence.endswith(".") for problem in caught.value.problems)
    return [(problem.line, problem.code) for problem in caught.value.problems]


def line_of(data: bytes, marker: str) -> int:
    return next(number for number, line in enumerate(data.decode().splitlines(), start=1) if marker in line)


LAWYER_RULE = SMALL[SMALL.index("    to: [legal-aid]") : SMALL.index("    bases: [consent]\n")]


def to_office(office: str, services: str, named: str) -> str:
    """The second rule, for an office that may ask for a field for some services only."""
    return (
        f"    to: [{office}]\n    service_types: [{services}]\n    offer: [needs]\n    disclosure: [preferred_name]\n"
        f"    named: [{named}]\n"
    )


# old text, new text, a piece of the line that is to be named, code
TABLE = [
    pytest.param("title:", "titel: x\ntitle:", "titel", "unknown-key", id="unknown top key"),
    pytest.param("    onward: none\n", "    onwards: none\n", "onwards", "unknown-key", id="unknown rule key"),
    pytest.param("  breach_notice: 72h\n", "  breech: 1h\n", "breech", "unknown-key", id="unknown obligation"),
    pytest.param("title: A", "title: B\ntitle: A", "title: A", "duplicate-key", id="duplicate top key"),
    pytest.param(
        "    to: [shelter]\n", "    to: [shelter]\n    'to': [shelter]\n", "'to'", "duplicate-key", id="again"
    ),
    pytest.param(
        "offer: [needs, language,", "offer: [needs, needs,", "needs, needs", "duplicate-term", id="term twice"
    ),
    pytest.param("[needs, language,", "[needs, langauge,", "langauge", "unknown-term", id="unknown field"),
    pytest.param("to: [shelter]", "to: [hostel]", "hostel", "unknown-term", id="unknown kind"),
    pytest.param("bases: [consent, c", "bases: [consents, c", "consents", "unknown-term", id="unknown basis"),
    pytest.param("safe-accommodation]", "housing]", "housing", "unknown-term", id="unknown service"),
    pytest.param("release: automatic", "release: later", "later", "unknown-term", id="unknown release"),
    pytest.param("onward: none", "onward: all", "onward: all", "unknown-term", id="onward is never allowed"),
    pytest.param("{emergency: 1h,", "{emergncy: 1h,", "emergncy", "unknown-term", id="unknown priority"),
    pytest.param("[needs, language, safety_flags]", "any", "offer: any", "wildcard-field", id="offer any"),
    pytest.param("[needs, language,", '["*",', '["*"', "wildcard-field", id="star in offer"),
    pytest.param("[narrative]", "any", "fields: any", "wildcard-field", id="never any field"),
    pytest.param("[immigration_status], to", "[all], to", "[all]", "wildcard-field", id="never all fields"),
    pytest.param("from: [helpline, police]", "from: any", "from: any", "bad-value", id="wildcard sender"),
    pytest.param("to: [shelter]", "to: any", "to: any", "bad-value", id="wildcard receiver"),
    pytest.param("2027-12-31", "2026-11-22", "2026-11-22", "expired", id="expired"),
    pytest.param("2027-06-30", "2028-01-01", "2028-01-01", "review-after-end", id="reviewed too late"),
    pytest.param("2027-12-31", "2027-13-31", "2027-13-31", "bad-value", id="no such month"),
    pytest.param("2027-12-31", "20271231", "20271231", "bad-value", id="date in another spelling"),
    pytest.param("2027-12-31", "9999-12-31", "9999-12-31", "bad-value", id="a day after which there is none"),
    pytest.param("review_on: 2027-06-30\n", "", "contract:", "no-review-date", id="no review date"),
    pytest.param("valid_until: 2027-12-31\n", "", "contract:", "no-end-date", id="no end date"),
    pytest.param(
        "language_version: 1", "language_version: 2", "language_version", "unknown-language-version", id="lang"
    ),
    pytest.param("vocabulary: 1", "vocabulary: 9", "vocabulary: 9", "unknown-vocabulary", id="vocabulary 9"),
    pytest.param("vocabulary: 1", "vocabulary: '1'", "vocabulary: '1'", "unknown-vocabulary", id="vocabulary as text"),
    pytest.param("[needs, language,", "[legal_name,", "[legal_name", "identifying-in-offer", id="C3 in offer"),
    pytest.param(
        "offer: [needs]", "offer: [immigration_status]", "offer: [imm", "identifying-in-offer", id="C5 in offer"
    ),
    pytest.param("[needs, language,", "[safe_contact,", "[safe_contact", "before-its-stage", id="contact in offer"),
    pytest.param("[preferred_name, safe", "[legal_name, safe", "[legal_name", "before-its-stage", id="named too early"),
    pytest.param("[immigration_status]\n", "[narrative]\n", "named: [narr", "never-listed", id="narrative listed"),
    pytest.param(
        "named: [medication", "named: [health_facts, medic", "health_facts", "beyond-field-table", id="not health"
    ),
    pytest.param(
        "[needs, language,", "[care_window,", "care_window", "beyond-field-table", id="care window to a shelter"
    ),
    pytest.param("to: [legal-aid]", "to: [police]", "named: [imm", "beyond-field-table", id="status to police"),
    pytest.param(
        LAWYER_RULE,
        to_office("embassy", "travel-documents, legal-aid", "passport_number"),
        "passport_number",
        "beyond-field-table",
        id="passport for another service",
    ),
    pytest.param(
        LAWYER_RULE,
        to_office("labour-office", "wage-claim, legal-aid", "employer_name"),
        "employer_name",
        "beyond-field-table",
        id="employer for another service",
    ),
    pytest.param("to: [shelter]", "to: [police]", "offer: [needs, lang", "before-its-stage", id="flags to police"),
    pytest.param("[needs, language,", "[priority,", "[priority", "routing-listed", id="routing in a rule"),
    pytest.param("[narrative]", "[client_code]", "client_code", "routing-listed", id="routing under never"),
    pytest.param("[preferred_name, safe", "[needs, safe", "[needs, safe_", "listed-twice", id="two stages"),
    pytest.param("[safe-accommodation]", "[peer-support]", "peer-support", "not-referable", id="peer support"),
    pytest.param("id: lawyer", "id: shelter", "  - id: lawyer", "duplicate-rule-id", id="id twice"),
    pytest.param(LAST_RULE_LINE, LAST_RULE_LINE + SECOND_SHELTER, "- id: second", "ambiguous-rules", id="two rules"),
    pytest.param("emergency: 1h", "emergency: 2h", "emergency: 2h", "answers-too-late", id="loosened deadline"),
    pytest.param(", routine: 72h}", "}", "{emergency: 1h, urgent: 24h}", "missing-key", id="no routine deadline"),
    pytest.param("declined: 24h", "declined: 24", "declined: 24,", "bad-value", id="duration without unit"),
    pytest.param("closed: 90d", "closed: 400d", "400d", "bad-value", id="kept longer than a stop lives"),
    pytest.param("closed: 90d", "closed: 0d", "0d", "bad-value", id="no time at all"),
    pytest.param("max_unserved_accepts: 10", "max_unserved_accepts: 0", "accepts: 0", "bad-value", id="no accepts"),
    pytest.param("max_unserved_accepts: 10", "max_unserved_accepts: '10'", "'10'", "bad-value", id="number as text"),
    pytest.param("bases: [consent]", "bases: []", "bases: []", "empty", id="no basis"),
    pytest.param("    named: [immigration_status]\n", "", "- id: lawyer", "missing-key", id="a stage left out"),
    pytest.param("  leaving: words\n", "", "prose:", "missing-key", id="a section left out"),
    pytest.param("  leaving: words\n", "  leaving: '  '\n", "leaving", "bad-value", id="an empty section"),
    pytest.param("countries: {}", "countries: {XX: {}}", "XX", "bad-value", id="unknown country"),
    pytest.param("version: 0.1.0", "version: 0.1", "version: 0.1", "bad-value", id="not a version"),
    pytest.param(
        "status: draft-needs-local-legal-review", "status: final", "final", "unknown-term", id="unknown status"
    ),
    pytest.param("id: shelter", "id: never[1]", "never[1]", "bad-value", id="an id like a prohibition"),
]


@pytest.mark.parametrize(("old", "new", "marker", "code"), TABLE)
def test_refused_with_line_and_code(old: str, new: str, marker: str, code: str) -> None:
    data = small(old, new)
    if code == "duplicate-rule-id":
        marker = "from: [helpline, shelter]"
        expected = line_of(data, marker) - 1
    else:
        expected = line_of(data, marker)
    assert (expected, code) in problems_of(data)


@pytest.mark.parametrize(
    ("office", "services", "named"),
    [
        pytest.param("embassy", "travel-documents, repatriation", "passport_number", id="passport"),
        pytest.param("labour-office", "wage-claim, labour-complaint", "employer_name", id="employer"),
    ],
)
def test_an_office_may_ask_for_it_for_its_own_services(office: str, services: str, named: str) -> None:
    rule = to_office(office, services, named).replace("[needs]", "[needs, return_voluntary, safe_return_assessed]")
    assert load(small(LAWYER_RULE, rule)).rules[1].named == {named}


def test_the_small_contract_itself_is_valid() -> None:
    assert load(small()).name == "small"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "not-a-contract", id="empty"),
        pytest.param(b"- a\n- b\n", "not-a-contract", id="a list"),
        pytest.param(b"a: [1, 2\n", "not-yaml", id="unclosed"),
        pytest.param(b"a: 1\n---\nb: 2\n", "not-yaml", id="two documents"),
        pytest.param(b"a: \xff\n", "not-utf-8", id="not utf-8"),
        pytest.param(b"a: \x00\n", "not-yaml", id="control character"),
        pytest.param(b"a: &x [1]\nb: *x\n", "reference", id="alias"),
        pytest.param(b"<<: {a: 1}\n", "unknown-key", id="merge key"),
        pytest.param(b"a: !!python/object/apply:os.system [true]\n", "tag", id="python tag"),
        pytest.param(b"? [a, b]\n: 1\n", "bad-key", id="a list as key"),
        pytest.param(b"a: " + b"[" * 40 + b"]" * 40, "too-deep", id="nested"),
        pytest.param(b"#" * (512 * 1024 + 1), "too-large", id="too large"),
    ],
)
def test_unreadable_files_are_refused(data: bytes, code: str) -> None:
    assert code in {found for _, found in problems_of(data)}


def test_every_problem_is_told_at_once() -> None:
    data = small().replace(b"language, safety_flags]", b"langauge, legal_name, safe_contact]")
    data = data.replace(b"2027-12-31", b"2026-01-01").replace(b"title:", b"titel:")
    found = {code for _, code in problems_of(data)}
    assert {
        "unknown-term",
        "identifying-in-offer",
        "before-its-stage",
        "expired",
        "unknown-key",
        "missing-key",
    } <= found


def test_problems_come_in_the_order_of_the_file() -> None:
    found = problems_of(small().replace(b"[needs", b"[need").replace(b"title:", b"titel:"))
    assert found == [(1, "missing-key"), (6, "unknown-key"), (31, "unknown-term"), (46, "unknown-term")]


def test_repatriation_without_her_answer_is_refused() -> None:
    data = small("service_types: [legal-aid]", "service_types: [repatriation]").replace(
        b"[immigration_status]\n", b"[]\n"
    )
    assert [code for _, code in problems_of(data)] == ["repatriation-unasked", "repatriation-unasked"]


def test_a_text_called_reviewed_has_no_open_annex() -> None:
    annex = "".join(
        f"    {key}: needs-local-legal-review\n"
        for key in "controller_roles legal_basis cross_border_transfer focal_point mandatory_reporting "
        "requests_by_authorities complaints_about_staff breach".split()
    )
    data = small("countries: {}", f"countries:\n  KH:\n    name: Cambodia\n{annex}")
    load(data)
    data = data.replace(b"status: draft-needs-local-legal-review", b"status: reviewed")
    assert [code for _, code in problems_of(data)] == ["review-incomplete"] * annex.count("\n")
    assert load(data.replace(b"needs-local-legal-review", b"words")).status == "reviewed"


def test_the_last_day_is_still_valid_and_the_next_is_not() -> None:
    load_contract(small(), on=date(2027, 12, 31))
    assert problems_of(small(), on=date(2028, 1, 1)) == [(8, "expired")]


def test_yaml_guesses_nothing() -> None:
    contract = load(small("title: A small contract", "title: no"))
    assert contract.title == "no"


def test_the_digest_covers_the_exact_bytes() -> None:
    assert load(small()).digest != load(small() + b"\n").digest


def test_a_problem_prints_line_code_and_sentence() -> None:
    with pytest.raises(ContractInvalidError, match="line 8: expired: The contract ended on 2026-01-01"):
        load(small("2027-12-31", "2026-01-01"))

"""Prose and rules are rendered together, completely."""

import pytest
from support.contract_files import load, shipped, small

from contracts.prose import Prose
from contracts.rendering import TextTable, duration, markdown, matrix, services_covered
from contracts.vocabulary import ROUTING_FIELDS, AgencyKind, Field, ServiceType


def test_markdown_holds_every_section_rule_and_annex() -> None:
    contract = shipped()
    text = markdown(contract)
    for section in Prose.model_fields:
        assert getattr(contract.prose, section) in text
    for rule in contract.rules:
        assert f"### {rule.id}\n" in text
    for annex in contract.countries.values():
        assert annex.name in text
    assert contract.digest in text
    assert "DRAFT. Needs local legal review." in text
    assert "Still to be written by local legal review" in text


def test_a_reviewed_text_carries_no_draft_banner() -> None:
    text = markdown(load(small("draft-needs-local-legal-review", "reviewed")))
    assert "DRAFT" not in text


def test_an_answered_annex_is_shown() -> None:
    keys = (
        "controller_roles legal_basis cross_border_transfer focal_point mandatory_reporting requests_by_authorities "
        "complaints_about_staff breach"
    ).split()
    annex = "".join(f"    {key}: answered\n" for key in keys)
    text = markdown(load(small("countries: {}", f"countries:\n  KH:\n    name: Cambodia\n{annex}")))
    assert "- **Legal basis:** answered" in text
    assert "Still to be written" not in text


def test_matrix_shows_the_stage_or_the_prohibition() -> None:
    table = matrix(load(small()))
    rows = {row[0]: dict(zip(table.headings, row, strict=True)) for row in table.rows}
    assert set(rows) == {field.value for field in Field if field not in ROUTING_FIELDS}
    assert rows["needs"]["shelter"] == "o"
    assert rows["preferred_name"]["legal-aid"] == "d"
    assert rows["immigration_status"]["legal-aid"] == "n"
    assert rows["immigration_status"]["police"] == "x"
    assert rows["needs"]["police"] == "·"
    assert {rows["narrative"][kind.value] for kind in AgencyKind} == {"x"}


def test_services_covered_names_the_rules() -> None:
    assert services_covered(load(small())).rows == (
        ("safe-accommodation", "shelter", "shelter"),
        ("legal-aid", "legal-aid", "lawyer"),
    )
    assert {row[0] for row in services_covered(shipped()).rows} == {
        service.value for service in ServiceType if service is not ServiceType.PEER_SUPPORT
    }


def test_plain_and_markdown_tables() -> None:
    table = TextTable(("a", "long"), (("x|y", "z"),))
    assert table.plain() == "a    long\n---  ----\nx|y  z"
    assert table.markdown() == "| a | long |\n| --- | --- |\n| x\\|y | z |"


@pytest.mark.parametrize(
    ("seconds", "text"), [(900, "15m"), (3600, "1h"), (86400, "24h"), (259200, "72h"), (604800, "7d"), (7776000, "90d")]
)
def test_durations_read_as_written(seconds: int, text: str) -> None:
    assert duration(seconds) == text

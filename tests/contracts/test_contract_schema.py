"""The published schema says what the model says."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.contract_files import small

from contracts.loader import shipped_contract
from contracts.schema import contract_schema, contract_schema_text

PUBLISHED = Path(__file__).parents[2] / "contracts" / "contract.schema.json"


def as_json(data: bytes) -> object:
    """The file as a YAML reader that knows dates would give it, with dates as text."""
    return json.loads(json.dumps(yaml.safe_load(data), default=str))


def test_the_published_schema_is_the_model() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == contract_schema_text()


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(contract_schema())


@pytest.mark.parametrize("data", [pytest.param(shipped_contract(), id="shipped"), pytest.param(small(), id="small")])
def test_valid_files_pass_the_schema(data: bytes) -> None:
    jsonschema.Draft202012Validator(contract_schema()).validate(as_json(data))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("title:", "titel:", id="unknown key"),
        pytest.param("[needs, language,", "[langauge,", id="unknown field"),
        pytest.param("[needs, language,", "[needs, needs,", id="term twice"),
        pytest.param("[needs, language, safety_flags]", "any", id="field wildcard"),
        pytest.param("declined: 24h", "declined: 24", id="duration without unit"),
        pytest.param("routine: 72h", "later: 72h", id="unknown priority"),
        pytest.param(", routine: 72h}", "}", id="priority left out"),
        pytest.param("to: any", "to: some", id="unknown wildcard"),
        pytest.param("vocabulary: 1", "vocabulary: 2", id="unknown vocabulary"),
        pytest.param("bases: [consent]", "bases: []", id="empty list"),
    ],
)
def test_malformed_files_fail_the_schema(old: str, new: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(contract_schema()).validate(as_json(small(old, new)))

"""The lint of both OpenAPI documents, and that they are what the code says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from support.api_node import documents

from exchange.api.examples import EXAMPLES
from exchange.cli.openapi import generated, write_openapi
from exchange.envelope.kinds import SHAPES
from exchange.referral.events import EventName
from exchange.schemas.referrals import SMALLEST_REFERRAL
from exchange.schemas.shapes import Strict, written
from exchange.stops import RefusalCode
from exchange.use_cases.consents_that_end import ENDS_SOON
from exchange.use_cases.release_disclosure import _CONFIRM, _UNSERVED

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = documents()
OPERATIONS = [
    pytest.param(document, path, method, described, id=f"{name}-{described['operationId']}")
    for name, document in DOCUMENTS.items()
    for path, operations in document["paths"].items()
    for method, described in operations.items()
]
#: Digits that could be somebody's number. Ids and digests are longer and hexadecimal; times have their own form.
PHONE = re.compile(r"(?<![0-9a-zA-Z.:-])\+?\d[\d ()-]{6,}\d(?![0-9a-zA-Z.:-])")
FICTIONAL = re.compile(r"\+00[ 0]+")
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}(T[\d:.]+(Z|[+-]\d{2}:\d{2}))?")
operation = pytest.mark.parametrize(("document", "path", "method", "described"), OPERATIONS)
named = pytest.mark.parametrize("document", [pytest.param(d, id=n) for n, d in DOCUMENTS.items()])


@operation
def test_operation_is_described(document: dict[str, Any], path: str, method: str, described: dict[str, Any]) -> None:
    del path, method
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", described["operationId"])
    assert 5 < len(described["summary"]) < 60
    assert len(described["description"]) > 40
    assert set(described["tags"]) <= {tag["name"] for tag in document["tags"]}
    for parameter in described.get("parameters", []):
        assert parameter["description"]


@operation
def test_answers_have_examples_that_fit(
    document: dict[str, Any], path: str, method: str, described: dict[str, Any]
) -> None:
    del path, method
    media = [
        media
        for status, response in described["responses"].items()
        if status.startswith("2")
        for media in response["content"].values()
    ]
    media += list(described.get("requestBody", {}).get("content", {}).values())
    assert media
    for found in media:
        _validator(document, found["schema"]).validate(found["example"])


@operation
def test_refusals_are_declared(document: dict[str, Any], path: str, method: str, described: dict[str, Any]) -> None:
    statuses = set(described["responses"])
    assert "500" in statuses
    assert "security" in described
    if described["security"]:
        assert statuses >= {"400", "401", "403", "429", "503"}
    if "{" in path:
        assert "404" in statuses
    if "application/json" in described.get("requestBody", {}).get("content", {}):
        assert statuses >= {"400", "413", "415", "422"}
    if method == "post" and "201" in statuses:
        assert statuses >= {"200", "409"}
    for status, response in described["responses"].items():
        problem = response["content"].get("application/problem+json")
        if problem is None:
            unchanged = status == "304" and method == "get" and response["content"] == {}
            assert status in {"200", "201"} or path == "/oauth/token" or unchanged
            continue
        assert response["description"]
        assert problem["examples"]
        for example in problem["examples"].values():
            value = _resolve(document, example)["value"]
            assert value["status"] == int(status)
            _validator(document, problem["schema"]).validate(value)


@named
def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [described["operationId"] for operations in document["paths"].values() for described in operations.values()]
    assert len(set(ids)) == len(ids)


@named
def test_every_schema_member_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    missing = [
        f"{name}.{member}"
        for name, schema in schemas.items()
        for member, described in schema.get("properties", {}).items()
        if not described.get("description") and not _resolve(document, described).get("description")
    ]
    assert missing == []
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []


@named
def test_nothing_is_null(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert '"type": "null"' not in text
    assert ": null" not in text


@named
def test_references_resolve_and_nothing_is_left_over(document: dict[str, Any]) -> None:
    used = set(re.findall(r'"#/components/([^"]+)"', json.dumps(document)))
    for reference in used:
        kind, name = reference.split("/")
        assert name in document["components"][kind]
    for kind in ("schemas", "examples"):
        assert {f"{kind}/{name}" for name in document["components"][kind]} <= used


@named
def test_no_example_holds_a_number_that_somebody_could_answer(document: dict[str, Any]) -> None:
    for text in _example_texts(document):
        for found in PHONE.findall(MOMENT.sub("", text)):
            assert FICTIONAL.fullmatch(found.strip()), "an example holds what looks like a telephone number"


@named
def test_security_schemes_list_every_scope_used(document: dict[str, Any]) -> None:
    offered = {
        name: set(scheme["flows"]["clientCredentials"]["scopes"])
        for name, scheme in document["components"]["securitySchemes"].items()
    }
    for operations in document["paths"].values():
        for described in operations.values():
            for rule in described["security"]:
                for name, scopes in rule.items():
                    assert set(scopes) <= offered[name]


def test_smallest_referral_is_small() -> None:
    assert len(list(_leaves(SMALLEST_REFERRAL))) <= 12


@pytest.mark.parametrize("model", EXAMPLES, ids=lambda model: model.__name__)
def test_example_is_valid_and_synthetic(model: type[BaseModel]) -> None:
    model.model_validate_json(json.dumps(EXAMPLES[model]))


@operation
def test_an_answers_example_names_every_member_that_a_node_sends(
    document: dict[str, Any], path: str, method: str, described: dict[str, Any]
) -> None:
    del path, method
    models = {model.__name__: model for model in EXAMPLES}
    for status, response in described["responses"].items():
        media = response["content"].get("application/json", {})
        model = models.get(media.get("schema", {}).get("$ref", "").rpartition("/")[2])
        if status.startswith("2") and model is not None:
            assert media["example"] == json.loads(written(model.model_validate_json(json.dumps(media["example"]))))
            _validator(document, media["schema"]).validate(media["example"])


@named
def test_what_an_answer_always_holds_is_required_of_it(document: dict[str, Any]) -> None:
    """A member with a default is sent all the same; only what may have no value is ever left out."""
    operations = [described for methods in document["paths"].values() for described in methods.values()]
    answered = _reached(document, [described["responses"] for described in operations])
    asked = _reached(document, [described.get("requestBody") for described in operations])
    schemas, models = document["components"]["schemas"], {model.__name__: model for model in _models(Strict)}
    loose = [
        f"{name}.{member}"
        for name in sorted((answered - asked) & models.keys())
        for member, field in models[name].model_fields.items()
        if field.default not in (None, PydanticUndefined) and member not in schemas[name].get("required", ())
    ]
    assert loose == []


def _models(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)


def _reached(document: dict[str, Any], parts: Any) -> set[str]:
    """The names of the schemas to which these parts lead."""
    names: set[str] = set()
    waiting = [parts]
    while waiting:
        for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(waiting.pop())):
            if name not in names:
                names.add(name)
                waiting.append(document["components"]["schemas"][name])
    return names


@named
def test_every_moment_says_that_it_is_one(document: dict[str, Any]) -> None:
    said = json.dumps(document["components"]["schemas"])
    for found in re.finditer(r'\{[^{}]*"description": "RFC 3339[^{}]*\}', said):
        assert '"format": "date-time"' in found[0], found[0]


def test_a_refused_token_is_described_by_its_own_sentence() -> None:
    refused = DOCUMENTS["agency"]["paths"]["/oauth/token"]["post"]["responses"]
    examples = {status: refused[status]["content"]["application/json"]["example"] for status in ("400", "401")}
    assert examples["401"]["error"] == "invalid_client"
    assert examples["400"]["error"] == "invalid_scope"
    assert "registered for" in examples["400"]["error_description"]


def test_every_event_of_an_inbox_item_is_described() -> None:
    described = DOCUMENTS["agency"]["components"]["schemas"]["InboxItem"]["properties"]["event"]["description"]
    said = dict(re.findall(r"`([a-z-]+)`: ([^.:]+)\.", described))
    events = {kind: {*RefusalCode, "other"} if shape.events is None else shape.events for kind, shape in SHAPES.items()}
    assert {kind: set(re.findall(r"`([a-z-]+)`", words)) for kind, words in said.items()} == {
        kind: words for kind, words in events.items() if words
    }


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_address_on_a_page_is_one_of_a_node(page: Path) -> None:
    """What a page writes as a place (`{id}`, `$ITEM`, `…`) stands for one; any other word has to be in the address."""
    served = {
        (method.upper(), tuple(None if step.startswith("{") else step for step in path.split("/")))
        for document in DOCUMENTS.values()
        for path, operations in document["paths"].items()
        for method in operations
    }
    for method, path in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`?\s]*)", page.read_text(encoding="utf-8")):
        steps = tuple(None if re.match(r"[{$]", step) else step for step in path.split("/"))
        assert (method, steps) in served, f"{method} {path}"


def test_every_word_of_a_change_is_described() -> None:
    described = DOCUMENTS["agency"]["components"]["schemas"]["ReferralChange"]["properties"]["what"]["description"]
    said = set(re.findall(r"`([a-z-]+)`", described))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "exchange" / "use_cases").glob("*.py"))
    endings = tuple(set(re.findall(r'f"\{[a-z_.]*kind\}(-[a-z]+)"', sources)))
    written_out = {word for word in re.findall(r'what="([a-z-]+)"', sources) if not word.endswith(endings)}
    waiting = {_CONFIRM.code, _UNSERVED.code}
    assert written_out | waiting | {"sent", "overdue", "undelivered", "expired", "untold", ENDS_SOON} <= said
    assert [ending for ending in endings if f"`…{ending}`" not in described] == []
    assert {event.value for event in EventName} - {EventName.OFFERED, EventName.RECEIVED} <= said


def test_committed_files_are_what_the_code_says() -> None:
    assert write_openapi(check=True) == [], "run `exchange openapi` and commit the result"


def test_generation_is_deterministic() -> None:
    assert generated() == generated()


def test_drift_is_found_and_mended(tmp_path: Path) -> None:
    files = {"openapi/openapi.json", "openapi/federation.json", "docs/problems.md"}
    assert set(write_openapi(check=True, root=tmp_path)) == files
    assert list(tmp_path.iterdir()) == []
    assert set(write_openapi(check=False, root=tmp_path)) == files
    assert write_openapi(check=True, root=tmp_path) == []
    (tmp_path / "docs" / "problems.md").write_text("stale", encoding="utf-8")
    assert write_openapi(check=True, root=tmp_path) == ["docs/problems.md"]


def _validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    whole = {"components": document["components"], **schema}
    return Draft202012Validator(whole)


def _resolve(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    found: Any = document
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    resolved: dict[str, Any] = found
    return resolved


def _example_texts(part: Any, *, inside: bool = False) -> Iterator[str]:
    if isinstance(part, str) and inside:
        yield part
    elif isinstance(part, dict):
        for name, value in part.items():
            yield from _example_texts(value, inside=inside or name in {"example", "examples"})
    elif isinstance(part, list):
        for value in part:
            yield from _example_texts(value, inside=inside)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value

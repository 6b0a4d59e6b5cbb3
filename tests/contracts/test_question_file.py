"""A question as JSON: strict to read, complete to answer."""

import json
from pathlib import Path

import pytest
from support.contract_files import NOW, load, question_json, shipped, small

from contracts.decision import decide
from contracts.question_file import QuestionInvalidError, answer_as_json, read_question
from contracts.vocabulary import Basis, Field

EXAMPLES = sorted((Path(__file__).parents[2] / "openapi" / "examples").glob("contract-explain-*.json"))
CANARY = "Sokha-CANARY"


@pytest.mark.parametrize(
    ("data", "piece"),
    [
        pytest.param(b"", "not readable JSON", id="empty"),
        pytest.param(b"{", "not readable JSON", id="cut off"),
        pytest.param(b"\xff", "not readable JSON", id="not text"),
        pytest.param(b"[" * 100_000, "not readable JSON", id="nested"),
        pytest.param(b"[]", "the request", id="a list"),
        pytest.param(b'{"from": "helpline", "from": "police"}', "twice", id="key twice"),
        pytest.param(question_json(name=CANARY), "not known here", id="unknown key"),
        pytest.param(question_json(fields=[CANARY]), "`fields.0` holds a term", id="unknown field"),
        pytest.param(question_json(fields=[]), "`fields`", id="no field"),
        pytest.param(question_json(fields=["needs", "needs"]), "twice", id="field twice"),
        pytest.param(question_json(to="hostel"), "`to` holds a term", id="unknown kind"),
        pytest.param(question_json(basis="guardian"), "`basis` holds a term", id="a class is no basis"),
        pytest.param(question_json(at="2026-11-23T09:00:00"), "`at`", id="time without zone"),
        pytest.param(b'{"from": "helpline"}', "`to` is missing", id="missing"),
    ],
)
def test_refused_without_echo(data: bytes, piece: str) -> None:
    with pytest.raises(QuestionInvalidError) as caught:
        read_question(data)
    assert any(piece in problem for problem in caught.value.problems)
    assert CANARY not in str(caught.value)


def test_a_question_is_read() -> None:
    question, at = read_question(question_json(at="2026-11-23T09:00:00+07:00"))
    assert question.fields == {Field.NEEDS}
    assert question.basis is Basis.CONSENT
    assert at is not None
    assert at.hour == 9


def test_the_answer_to_a_permit() -> None:
    question, at = read_question(question_json(fields=["needs", "preferred_name", "legal_name"]))
    assert at is None
    answer = answer_as_json(decide(load(small()), question, NOW))
    assert answer["decision"] == "permit"
    assert answer["allowed"] == {"offer": ["needs"], "disclosure": ["preferred_name"], "named": []}
    assert answer["withheld"] == [{"field": "legal_name", "stage": None, "rule": "shelter", "reason": "not-listed"}]
    assert answer["rule"] == "shelter"
    assert answer["obligations"]["erasure_receipt_s"] == 86400
    assert len(answer["fields"]) == 3


def test_the_answer_to_a_denial_has_the_same_members() -> None:
    permitted, _ = read_question(question_json())
    denied, _ = read_question(question_json(fields=["narrative", "needs"]))
    yes, no = (answer_as_json(decide(load(small()), question, NOW)) for question in (permitted, denied))
    assert set(yes) == set(no)
    assert no["code"] == "never"
    assert no["allowed"] == {"offer": [], "disclosure": [], "named": []}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_committed_examples_are_answered(path: Path) -> None:
    question, _ = read_question(path.read_bytes())
    json.dumps(answer_as_json(decide(shipped(), question, NOW)))


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 5

"""A question written as JSON, and the answer written as JSON: what `exchange contract explain` reads and prints.

Rules: no unknown, missing or duplicate key; no unknown term; a field is asked once. Problems name the key, never the
value, because people paste what they have into such files.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

import pydantic

from contracts.decision import Deny, FieldVerdict, Permit, Question
from contracts.vocabulary import AgencyKind, Basis, Field, ServiceType


class QuestionInvalidError(Exception):
    """The JSON is not a question; `problems` says where and why."""

    code = "question-invalid"

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class _QuestionFile(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    from_: AgencyKind = pydantic.Field(alias="from")
    to: AgencyKind
    service: ServiceType
    basis: Basis
    fields: Annotated[tuple[Field, ...], pydantic.Field(min_length=1)]
    at: pydantic.AwareDatetime | None = None


def read_question(data: bytes) -> tuple[Question, datetime | None]:
    """The question and, where the file states one, the moment it is asked for.

    Raises:
        QuestionInvalidError: with every problem found.
    """
    try:
        parsed = json.loads(data, object_pairs_hook=_no_duplicates)
        request = _QuestionFile.model_validate(parsed)
    except QuestionInvalidError:
        raise
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        raise QuestionInvalidError(tuple(_problem(detail["type"], detail["loc"]) for detail in details)) from None
    except (ValueError, RecursionError):
        raise QuestionInvalidError(("The request is not readable JSON.",)) from None
    if len(set(request.fields)) != len(request.fields):
        raise QuestionInvalidError(("`fields` lists a field twice.",))
    fields = frozenset(request.fields)
    return Question(request.from_, request.to, request.service, request.basis, fields), request.at


def answer_as_json(decision: Permit | Deny) -> dict[str, Any]:
    """The decision with the same members whether it permits or denies."""
    permit = decision if isinstance(decision, Permit) else None
    return {
        "decision": "permit" if isinstance(decision, Permit) else "deny",
        "code": "permitted" if isinstance(decision, Permit) else decision.code,
        "allowed": {
            stage: [field.value for field in Field if permit is not None and field in getattr(permit, stage)]
            for stage in ("offer", "disclosure", "named")
        },
        "withheld": [
            {"field": verdict.field.value, "stage": None, "rule": verdict.rule, "reason": verdict.code}
            for verdict in decision.verdicts
            if verdict.outcome != "allowed"
        ],
        "fields": [_verdict_as_json(verdict) for verdict in decision.verdicts],
        "rule": permit.rule.id if permit else None,
        "release": permit.rule.release.value if permit else None,
        "feedback": permit.rule.feedback.value if permit else None,
        "obligations": permit.obligations.model_dump() if permit else {},
        "contract_digest": decision.contract_digest,
    }


def _verdict_as_json(verdict: FieldVerdict) -> dict[str, str | None]:
    return {
        "field": verdict.field.value,
        "outcome": verdict.outcome,
        "stage": verdict.stage.value if verdict.stage else None,
        "rule": verdict.rule,
        "code": verdict.code,
        "sentence": verdict.sentence,
    }


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise QuestionInvalidError(("A key is written twice.",))
    return result


def _problem(kind: str, location: tuple[int | str, ...]) -> str:
    where = ".".join(str(step) for step in location) or "the request"
    if kind == "extra_forbidden":
        return "The request has a key that is not known here. Known: from, to, service, basis, fields, at."
    if kind == "missing":
        return f"`{where}` is missing."
    if kind == "enum":
        return f"`{where}` holds a term that is not in the vocabulary."
    return f"`{where}` is not written as it should be."

"""What an answer says that is no success: the node's own problem document, or a page of something in its place.

Rules:

* Members of a problem that this version does not know are ignored, as RFC 9457 asks: who must do what is not lost with
  them. Everything else that a node answers is read strictly.
* How long to wait says the header as well, also where a proxy answers.
* Neither error carries what was received.
"""

from __future__ import annotations

from typing import Final

import httpx2
from pydantic import ConfigDict, ValidationError

from exchange.client.errors import ProblemError, UnexpectedAnswerError
from exchange.schemas.problems import Problem, ProblemField

PROBLEM_TYPE: Final = "application/problem+json"
_FIRST_ERROR: Final = 400
_LONGEST_NUMBER: Final = 9


class _ProblemField(ProblemField):
    model_config = ConfigDict(extra="ignore")


class _Problem(Problem):
    model_config = ConfigDict(extra="ignore")

    fields: tuple[_ProblemField, ...] = ()


def refusal(answer: httpx2.Response) -> ProblemError | UnexpectedAnswerError:
    """The error to raise for it."""
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status_code >= _FIRST_ERROR and media_type == PROBLEM_TYPE:
        try:
            return ProblemError(_Problem.model_validate_json(answer.content))
        except ValidationError:
            pass
    return UnexpectedAnswerError(answer.status_code, _asked_to_wait_s(answer))


def _asked_to_wait_s(answer: httpx2.Response) -> int | None:
    """The seconds in `Retry-After`. A date there is not read: the clocks may differ."""
    asked: str = answer.headers.get("retry-after", "")
    return int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= _LONGEST_NUMBER else None

"""What the referral room refuses.

    ReferralError
     ├── ContentInvalidError   bytes or values are not a valid content; `.problems` lists everything found
     └── TransitionError       the state, or whose move it is, forbids the event; `.code` is stable

No text here repeats a submitted value, and no path repeats a submitted name: a path consists of names that this
project defines and of list positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_SENTENCES: Final[Mapping[str, str]] = {
    "in-the-future": "She cannot have confirmed the plan later than now. Check the time zone: Z means UTC.",
    "set-by-node": "The node sets this field itself. Leave it out.",
    "need-of-another-service": "One of the needs does not belong to the requested service (`service_type`).",
}
_NOT_HERE: Final = "This value does not fit the others. Correct it, or leave it out."


@dataclass(frozen=True, slots=True)
class ContentProblem:
    """One thing that is wrong: where (a JSON path such as `$.party.dependants[0].sex`) and a stable code."""

    path: str
    code: str

    @property
    def sentence(self) -> str:
        """What whoever wrote the content can do about it."""
        return _SENTENCES.get(self.code, _NOT_HERE)


class ReferralError(Exception):
    """Any refusal of the referral room. Never raised directly."""


class ContentInvalidError(ReferralError):
    """These bytes or values are not a content that the vocabulary allows."""

    def __init__(self, problems: Iterable[ContentProblem]) -> None:
        self.problems: tuple[ContentProblem, ...] = tuple(problems)
        listed = ", ".join(f"{problem.path}: {problem.code}" for problem in self.problems)
        super().__init__(f"The content is not valid ({listed}).")


class TransitionError(ReferralError):
    """This side may not make this event now.

    Codes: `not-your-move`, `state-forbids`, `respond-by-passed`, `number-reused`, `number-not-higher`, `unreachable`,
    `too-many-events`.
    """

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        self.sentence = sentence
        super().__init__(sentence)

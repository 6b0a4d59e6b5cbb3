"""What can be wrong with a consent.

    ConsentError
     ├── ConsentInvalidError      what was handed in is not a valid consent; `.problems` lists everything found
     ├── ConsentTransitionError   the consent does not allow this step now; `.code` is stable
     ├── ConsentUnreadableError   stored bytes are not a consent record
     ├── ReceiptError             a receipt would say more than the permit it is cut from; `.code` is stable
     └── StatementInvalidError    a statement file may not be used; `.code` is stable

No text here repeats a submitted value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConsentProblem:
    """One thing that makes a consent invalid: a stable code, a sentence for the caseworker, and where it stands."""

    code: str
    sentence: str
    path: str


class ConsentError(Exception):
    """Any refusal of the consent room. Never raised directly."""


class ConsentInvalidError(ConsentError):
    """What was handed in is not a valid consent."""

    def __init__(self, problems: Iterable[ConsentProblem]) -> None:
        self.problems: tuple[ConsentProblem, ...] = tuple(problems)
        super().__init__("This consent is not valid: " + ", ".join(problem.code for problem in self.problems) + ".")


class ConsentTransitionError(ConsentError):
    """The consent does not allow this step now."""

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        self.sentence = sentence
        super().__init__(sentence)


class ConsentUnreadableError(ConsentError):
    """Stored bytes are not a consent record."""

    def __init__(self) -> None:
        super().__init__("The stored bytes are not a consent record that this version understands.")


class ReceiptError(ConsentError):
    """A receipt would say something that the permit it is cut from does not."""

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        self.sentence = sentence
        super().__init__(sentence)


class StatementInvalidError(ConsentError):
    """A statement file may not be used."""

    def __init__(self, code: str, sentence: str, source: str) -> None:
        self.code = code
        self.sentence = sentence
        self.source = source
        super().__init__(f"{source}: {sentence}")

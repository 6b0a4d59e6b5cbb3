"""What is wrong with a contract file: one problem per place, with line, stable code and a plain sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, order=True)
class ContractProblem:
    """One reason to refuse the file. `line` counts from 1."""

    line: int
    code: str
    sentence: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.code}: {self.sentence}"


class ContractInvalidError(Exception):
    """The file is refused as a whole; `problems` holds every reason found, in the order of the file."""

    code: Final = "contract-invalid"

    def __init__(self, problems: tuple[ContractProblem, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))

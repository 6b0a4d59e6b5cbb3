"""What `make faults` prints at its end: figures that tests of faults wrote down."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

_FIGURES: Final[dict[str, dict[str, int]]] = defaultdict(dict)
_LINES: Final[list[str]] = []


def record(subject: str, **figures: int) -> None:
    """One case of a subject; figures of the same name are added up."""
    known = _FIGURES[subject]
    for name, value in ({"cases": 1} | figures).items():
        known[name] = known.get(name, 0) + value


def note(line: str) -> None:
    """A measurement, to be printed as it is."""
    _LINES.append(line)


def summary() -> list[str]:
    """One line a subject, then the measurements."""
    totals = [
        " · ".join([f"{subject} {figures['cases']}", *(f"{n} {v}" for n, v in figures.items() if n != "cases")])
        for subject, figures in _FIGURES.items()
    ]
    return totals + _LINES

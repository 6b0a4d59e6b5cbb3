"""The figures as Markdown tables, to be read and to be copied into docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def markdown(found: Mapping[str, Any]) -> str:
    """A table for each part."""
    lines: list[str] = []
    for part, figures in found.items():
        if isinstance(figures, Mapping):
            lines += ["", f"### {part}", "| | |", "|---|---|"]
            lines += [f"| {name} | {value:,} |" for name, value in _flat(figures, "")]
    return "\n".join(lines)


def _flat(figures: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name} · ")
        else:
            yield before + name, value

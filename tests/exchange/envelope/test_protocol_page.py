"""docs/protocol.md is normative: what the code knows has to stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from vectors import make_vectors

from exchange.envelope import errors
from exchange.envelope.kinds import SHAPES, Kind
from exchange.envelope.tags import Tag

PAGE = (Path(make_vectors.__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
BASES = {"envelope", "receipt", "epoch", "statement", "key-file"}
"""Codes of classes that are only raised with one of their faults."""


def _codes() -> set[str]:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {kind.code for kind in classes if issubclass(kind, errors.EnvelopeError)} - BASES
    for faults in (errors.ReceiptFault, errors.EpochFault, errors.StatementFault, errors.KeyFileFault):
        codes |= {fault.value for fault in faults}
    return codes


@pytest.mark.parametrize("code", sorted(_codes()))
def test_every_code_is_on_the_page_and_in_the_family_tree(code: str) -> None:
    assert f"`{code}`" in PAGE
    assert code in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", sorted(Kind))
def test_every_kind_its_events_and_members_are_on_the_page(kind: Kind) -> None:
    shape = SHAPES[kind]
    row = next(line for line in PAGE.splitlines() if line.startswith("| `") and f"`{kind.value}`" in line)
    assert all(f"`{event}`" in row for event in shape.events or ())
    assert all(re.search(rf"[` ]{member}[` ]", PAGE) for member in shape.required)


@pytest.mark.parametrize("tag", list(Tag), ids=lambda tag: tag.value.decode())
def test_every_tag_is_on_the_page(tag: Tag) -> None:
    name = tag.value.decode()
    assert f"`{name}`" in PAGE or f"`…/{name.rsplit('/', 1)[1]}`" in PAGE


@pytest.mark.parametrize("name", sorted(make_vectors.build()))
def test_the_table_of_vectors_is_current(name: str) -> None:
    cases = json.loads((Path(make_vectors.__file__).parent / name).read_bytes())["cases"]
    assert f"| `{name}` | {len(cases)} |" in PAGE

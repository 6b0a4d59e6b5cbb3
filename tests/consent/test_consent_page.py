"""What `docs/consent.md` says of fields, groups and purposes is what the vocabulary says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from contracts.vocabulary import FIELD_SPECS, Group, Purpose, ServiceType, Stage, purpose_for
from contracts.vocabulary.fields import ALL_KINDS, ALL_SERVICES, FieldSpec

PAGE = (Path(__file__).parents[2] / "docs" / "consent.md").read_text("utf-8")


def listed(terms: Iterable[str]) -> str:
    return ", ".join(sorted(f"`{term}`" for term in terms))


def to_be_named(spec: FieldSpec) -> str:
    if spec.stage in {Stage.NAMED, Stage.NEVER}:
        return {Stage.NAMED: "always", Stage.NEVER: "never travels"}[spec.stage]
    return f"to {listed(spec.named_to)}" if spec.named_to else ""


def only(spec: FieldSpec) -> str:
    others = ALL_KINDS - spec.only_to
    kinds = f"to all but {listed(others)}" if len(others) < len(spec.only_to) else f"to {listed(spec.only_to)}"
    services = f"for {listed(spec.only_for)}" if spec.only_for != ALL_SERVICES else ""
    return ", ".join(part for part in (kinds if others else "", services) if part)


def test_the_table_of_fields_is_the_vocabulary() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:3] == "| `"]
    table = [row for row in rows if len(row) == 5]
    assert table == [
        [f"`{spec.field}`", f"`{spec.group}`", f"`{spec.stage}`", to_be_named(spec), only(spec)]
        for spec in FIELD_SPECS.values()
        if spec.group is not Group.ROUTING
    ]


def test_the_purpose_follows_from_the_service() -> None:
    with pytest.raises(ValueError, match="peer-support"):
        purpose_for(ServiceType.PEER_SUPPORT)
    asked = {purpose_for(service) for service in ServiceType if service is not ServiceType.PEER_SUPPORT}
    assert asked == set(Purpose) - {Purpose.STATISTICS}
    assert purpose_for(ServiceType.SAFE_ACCOMMODATION) == "provide-safe-accommodation"

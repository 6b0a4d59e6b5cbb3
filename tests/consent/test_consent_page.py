"""What docs/consent.md says of every field: its group, and when it may go at the earliest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contracts.vocabulary import FIELD_SPECS, AgencyKind, Group, Stage

PAGE = (Path(__file__).parents[2] / "docs" / "consent.md").read_text(encoding="utf-8")
STAGES = (Stage.OFFER, Stage.DISCLOSURE, Stage.NAMED)
GROUPS = [group for group in Group if group is not Group.ROUTING]


@pytest.mark.parametrize("group", GROUPS)
def test_the_page_lists_the_fields_of_a_group_by_stage(group: Group) -> None:
    (row,) = re.findall(rf"^\| `{group.value}` \|(.*)\|$", PAGE, re.MULTILINE)
    for stage, cell in zip(STAGES, row.split("|"), strict=True):
        written = {name: bool(star) for name, star in re.findall(r"`(\w+)`(\*?)", cell)}
        specs = {field.value: spec for field, spec in FIELD_SPECS.items() if (spec.group, spec.stage) == (group, stage)}
        assert written == {name: bool(spec.named_to) for name, spec in specs.items()}


def test_a_star_means_the_police_and_what_is_never_sent_is_named() -> None:
    assert {kind for spec in FIELD_SPECS.values() for kind in spec.named_to} == {AgencyKind.POLICE}
    never = {field.value for field, spec in FIELD_SPECS.items() if spec.stage is Stage.NEVER}
    (sentence,) = re.findall(r"named field and agency\. (.*?) are never sent to anybody", PAGE, re.DOTALL)
    assert set(re.findall(r"`(\w+)`\s+\(group", sentence)) == never

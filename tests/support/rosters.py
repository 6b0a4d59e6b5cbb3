"""A roster in which one member is another than it was, or is not there."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from exchange.roster import Member, RosterSnapshot


def with_member(roster: RosterSnapshot, agency: str, **changes: Any) -> RosterSnapshot:
    """The member with these changes."""
    members: dict[str, Member] = dict(roster.members)
    members[agency] = members[agency].model_copy(update=changes)
    return replace(roster, members=MappingProxyType(members))


def without(roster: RosterSnapshot, agency: str) -> RosterSnapshot:
    """Nobody has heard of the member."""
    members = {name: member for name, member in roster.members.items() if name != agency}
    return replace(roster, members=MappingProxyType(members))

"""Whether a roster that is to be changed is the newest: of an older one a version would be made that counts everywhere.

Rules:

* Known are what this node has used and what the members' own cards say. Such a word only holds a change back, so that
  the keys behind it are not compared: they may be what has changed since.
* Who cannot be asked holds nothing back, and is named.
* No member can hold back its own suspension for ever: a person who has asked the others has the last word. Nor is a
  number that a member only claims ready to be taken over, or one far above this roster taken: after the highest number
  that there is no suspension could be written any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NoReturn

from exchange.cli.console import advise, fail
from exchange.cli.examining_databases import used_here
from exchange.cli.examining_peers import rosters_in_use
from exchange.roster import Member, RosterSnapshot, Status
from exchange.settings import Settings

_FIRST: Final = 1
_FURTHEST: Final = 10_000
"""Versions that can have been lost."""


def next_version(settings: Settings, roster: RosterSnapshot | None, own: str | None, above: int | None) -> int:
    """The number of the version that is made of this roster; ends here where a newer one is known and not decided.

    Args:
        settings: of this node.
        roster: what lies here, if anything does.
        own: this agency's id.
        above: the highest version that any member has, by the word of a person.
    """
    newer = _known_to_be_newer(settings, roster, own)
    if above is None:
        if newer:
            _refuse(settings, newer)
        return roster.version + 1 if roster is not None else _FIRST
    if above > (furthest := (roster.version if roster is not None else 0) + _FURTHEST):
        fail(
            f"No roster has had a version above {furthest}: who says so is wrong. Ask the others. Nothing was written."
        )
    for sentence in newer:
        advise(f"{sentence}; you say that nobody has more than version {above}.")
    return max(above, roster.version if roster is not None else 0) + 1


def tell_who_is_active(written: RosterSnapshot) -> None:
    """For an office that went on above what it does not have."""
    active = [member.agency for member in written.members.values() if member.status is Status.ACTIVE]
    advise(
        f"Active in it: {', '.join(active)}. Whoever was suspended or has left in a version that is not here: say it "
        "again with `exchange roster standing`; whose key or address was replaced: add that card again. Only then hand "
        "it out."
    )


def _known_to_be_newer(settings: Settings, roster: RosterSnapshot | None, own: str | None) -> list[str]:
    """Each version that is not older than this roster and not this one, with who has it."""
    version, digest = (roster.version, roster.digest) if roster is not None else (0, "")
    newer = []
    used = used_here(settings)
    if used is not None and not used.permits(version, digest):
        newer.append(f"this node has used version {used.version}")
    peers = _to_be_asked(roster, own)
    answers = asyncio.run(rosters_in_use(peers))
    for peer in peers:
        theirs = answers.get(peer.agency)
        if theirs is not None and not theirs.permits(version, digest):
            newer.append(f"{peer.agency} goes by version {theirs.version} (telephone {peer.duty_contact})")
    away = [f"{peer.agency} ({peer.duty_contact})" for peer in peers if peer.agency not in answers]
    if away:
        advise(
            f"Not asked by which roster they go, as they do not answer: {', '.join(away)}. Where this roster may be "
            "from a backup, telephone them before you hand out the new one: it has to be made of the newest that any "
            "member has."
        )
    return newer


def _to_be_asked(roster: RosterSnapshot | None, own: str | None) -> Sequence[Member]:
    members = roster.members.values() if roster is not None else ()
    return [member for member in members if member.agency != own and member.status is Status.ACTIVE]


def _refuse(settings: Settings, newer: Sequence[str]) -> NoReturn:
    fail(
        f"{'; '.join(newer)}: what lies here is older, or another of that version. A new "
        "one made of it would undo at every member what was changed since, such as a suspension. Nothing was written. "
        "Have a member with the highest version hand you its roster.json, compare the version with another member by "
        f"telephone, put the file at {settings.roster_path}, and say this again. If no member has that file (ask more "
        f"than one: one alone may be wrong), name the highest version that any has with --above."
    )

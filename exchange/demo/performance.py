"""`exchange demo`: starts the federation, tells the five stories, counts, and says whether all of it was so."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from exchange.client import ClientError
from exchange.demo import stories
from exchange.demo.cast import cast_of
from exchange.demo.erasure import withdrawn
from exchange.demo.federation import FederationError, RunningFederation, running_federation
from exchange.demo.narration import ClaimFailedError, Narrator
from exchange.demo.waiting import TooLateError

ENDINGS: Final = ("completed", "declined", "refused", "withdrawn")
_FAILED: Final = 1
_WIDTH_WHEN_PIPED: Final = 140

_OPENING: Final = (
    "Four agencies, each with a node of its own: a helpline, a shelter, an embassy, a labour office. Separate "
    "processes, separate databases, separate keys, on this machine only.\n\n"
    "Everybody in these stories is invented. Each line with a ✓ was checked while it was told."
)


def perform(folder: Path) -> int:
    """Tell everything; the exit code.

    Args:
        folder: a new or empty folder for the nodes' homes.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH_WHEN_PIPED)
    narrator = Narrator(console)
    narrator.opening("Referral exchange: a referral travels", _OPENING)
    began = time.monotonic()
    console.print("Making four nodes: keys, databases, one contract adopted by all, one roster …")
    try:
        with running_federation(folder) as federation:
            console.print(f"Ready after {time.monotonic() - began:.0f} s: {', '.join(federation.nodes)}.")
            asyncio.run(tell_all(federation, narrator))
    except (ClaimFailedError, ClientError, FederationError, TooLateError) as failed:
        console.print(Text(f"The demo stops here: {failed}", style="bold red"))
        return _FAILED
    console.print(Text(f"\n{narrator.claims} claims told and checked in {time.monotonic() - began:.0f} s."))
    console.print(counted(narrator.counts))
    return 0


async def tell_all(federation: RunningFederation, narrator: Narrator) -> None:
    """The five stories, in their order."""
    async with cast_of(federation, narrator) as cast:
        await stories.accepted(cast)
        await stories.declined(cast)
        await stories.refused(cast)
        await withdrawn(cast)
        await stories.nameless(cast)


def counted(counts: dict[str, int]) -> str:
    """The last line: how the referrals ended."""
    return " · ".join(f"{ending} {counts.get(ending, 0)}" for ending in ENDINGS)

"""Runs one exchange with the node for a command: open the client, ask, close, tell refusals.

A passphrase is typed before the loop runs: while it runs, a first Ctrl-C only marks the work as cancelled, and who is
at the prompt would sit before a terminal that shows nothing and does not end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from exchange.cli.console import refusals_told
from exchange.cli.passphrase import agency_passphrase
from exchange.cli.profile import open_client, read_profile
from exchange.client import AgencyClient, ClientSetupError
from exchange.client.vault import AgencyVault, open_agency_folder
from exchange.client.vault.agency_keys import AGENCY_KEYS_NAME

T = TypeVar("T")


def ask(home: Path | None, actor: str | None, work: Callable[[AgencyClient], Awaitable[T]]) -> T:
    """What the work answered. Refusals end the program with a sentence and an exit code."""

    async def run() -> T:
        async with open_client(home, actor) as client:
            return await work(client)

    with refusals_told():
        return asyncio.run(run())


def ask_office(
    home: Path | None, actor: str | None, work: Callable[[AgencyClient, AgencyVault | None], Awaitable[T]]
) -> T:
    """The same, with the agency's own keys where they lie beside the profile; nothing where the node holds them."""

    async def run(folder: Path | None, passphrase: str) -> T:
        async with open_client(home, actor) as client:
            vault = AgencyVault(open_agency_folder(folder, passphrase), client) if folder is not None else None
            try:
                return await work(client, vault)
            finally:
                if vault is not None:
                    vault.close()

    with refusals_told():
        folder = agency_folder(home)
        return asyncio.run(run(folder, agency_passphrase() if folder is not None else ""))


def keys_are_here(home: Path | None) -> bool:
    """Whether the agency's own keys lie beside the profile. The home of a node may have no profile."""
    try:
        return agency_folder(home) is not None
    except ClientSetupError:
        return False


def agency_folder(home: Path | None) -> Path | None:
    """The folder of the agency's own keys, where they lie beside the profile."""
    folder = read_profile(home).key_file.parent
    return folder if (folder / AGENCY_KEYS_NAME).is_file() else None

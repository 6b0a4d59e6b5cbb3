"""Runs one exchange with the node for a command: open the client, ask, close, tell refusals.

A passphrase is typed before the loop runs: while it runs, a first Ctrl-C only marks the work as cancelled, and who is
at the prompt would sit before a terminal that shows nothing and does not end.

Where the agency's keys are elsewhere than with the node, nothing that they seal is handed to it in the clear: it would
refuse, and have read it. So keys that are missing here are refused before anything is asked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

from exchange.cli.console import refusals_told
from exchange.cli.passphrase import agency_passphrase
from exchange.cli.profile import PROFILE_NAME, open_client, profile_folder, read_profile
from exchange.client import AgencyClient, ClientSetupError
from exchange.client.vault import AgencyVault, open_agency_keys
from exchange.client.vault.agency_keys import AGENCY_KEYS_NAME, STORE_NAME
from exchange.settings import CARD_NAME, KEYS_NAME

_ONLY_WITH_THE_AGENCY: Final = (AGENCY_KEYS_NAME, STORE_NAME)

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
            vault = AgencyVault(open_agency_keys(folder, passphrase), client) if folder is not None else None
            try:
                return await work(client, vault)
            finally:
                if vault is not None:
                    vault.close()

    with refusals_told():
        folder = agency_folder(home)
        return asyncio.run(run(folder, agency_passphrase() if folder is not None else ""))


def keys_are_here(home: Path | None) -> bool:
    """Whether the agency's own keys lie beside the profile. The home of a node may have no profile.

    Ends the program where they are not with the node, and not here.
    """
    try:
        profile_folder(home)
    except ClientSetupError:
        return False
    with refusals_told():
        return agency_folder(home) is not None


def agency_folder(home: Path | None) -> Path | None:
    """The folder of the agency's own keys, beside the profile. Nothing where the node holds them.

    Raises:
        ClientSetupError: there is no profile; or the keys are not with the node, and not here.
    """
    folder, profile = profile_folder(home), read_profile(home)
    if (folder / AGENCY_KEYS_NAME).is_file():
        return folder
    missing = (
        f"Nothing was sent: the agency's keys are not with the node, and {folder / AGENCY_KEYS_NAME} is missing. "
        "Name the folder that has them with --home, or bring them there with everything that lies beside them."
    )
    if profile.keys_elsewhere:
        raise ClientSetupError(missing)
    # Of before. The key of the client may lie with the agency's keys, where they used to be looked for.
    if profile.keys_elsewhere is None and any(map(_is_an_agencys, (folder, profile.key_file.parent))):
        exception = f"Only where the node does hold them: write `keys_elsewhere = false` into {folder / PROFILE_NAME}."
        raise ClientSetupError(f"{missing} {exception}")
    return None


def _is_an_agencys(folder: Path) -> bool:
    """Whether it is the folder of an agency's own machine, by what lies there. A link that leads nowhere counts."""
    if any(os.path.lexists(folder / name) for name in _ONLY_WITH_THE_AGENCY):
        return True
    # The home of a node that holds the keys has a card too.
    return os.path.lexists(folder / CARD_NAME) and not os.path.lexists(folder / KEYS_NAME)

"""`exchange keys …`: the agency's own keys.

`revoke`, `passphrase` and `renew` are run where the keys are: on the node's machine, or on the agency's own. All others
are for an agency whose keys are on its own machine; the folder is that of `init --keys-elsewhere`.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from exchange.cli.asking import ask_office, keys_are_here
from exchange.cli.console import SET_UP_WRONG, advise, fail, refusals_told, say
from exchange.cli.moments import moment
from exchange.cli.new_keys import passphrase, renew
from exchange.cli.passphrase import settings_to_open
from exchange.cli.profile import ActorOption, HomeOption
from exchange.client import AgencyClient
from exchange.client.vault import AgencyVault
from exchange.schemas.shapes import to_millis
from exchange.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="The keys: revoke or renew them, change their passphrase, keep them where the node has none.",
)

app.command()(passphrase)
app.command()(renew)

_WEEKS_ENOUGH: Final = 4


@app.command()
def publish(
    replace: Annotated[
        bool, typer.Option("--replace", help="The machine that has the published weekly keys is lost.")
    ] = False,
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Sign this week's key and the five that follow, and let the node publish them. Run it daily."""

    async def work(_client: AgencyClient, vault: AgencyVault | None) -> int:
        return (await _needed(vault).publish_epochs(replace=replace)).weeks_ahead

    ahead = ask_office(home, actor, work)
    say(f"Published: this week and {ahead} weeks ahead.", style="green")
    if ahead < _WEEKS_ENOUGH:
        advise("Fewer than four weeks are ahead: run this again.", style="yellow")


@app.command()
def destroy(home: HomeOption = None, actor: ActorOption = None) -> None:
    """Destroy the keys of every referral that the node has destroyed. Run it daily, and after her no."""
    unseen: list[str] = []

    async def work(_client: AgencyClient, vault: AgencyVault | None) -> int:
        return len(await _needed(vault).destroy_ended(not_shown=unseen.append))

    say(f"Destroyed the keys of {ask_office(home, actor, work)} referrals.", style="green")
    if unseen:
        advise(
            f"The keys of {len(unseen)} others stay: the node does not show them to this client. They are another "
            "branch's, or the node has lost them. Run this with a client of the whole agency, or of that branch: "
            "otherwise they stay for two years, also after her no."
        )


@app.command()
def attest(
    referral: Annotated[str, typer.Argument(help="Id of the referral.")],
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """As `exchange inbox destroyed ITEM`, by the referral's id: destroy its keys, attest that all copies are gone."""

    async def work(_client: AgencyClient, vault: AgencyVault | None) -> None:
        otherwise = "The node holds them: use `exchange inbox destroyed ITEM`."
        await _needed(vault, otherwise=otherwise).attest_erasure(referral)

    ask_office(home, actor, work)
    say("Destroyed and attested.", style="green")


@app.command()
def revoke(
    since: Annotated[
        datetime, typer.Option("--since", help="From when on somebody else may have had the keys, in UTC.")
    ],
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Somebody else may have the weekly keys: revoke all of them and publish new ones. The node may go on running."""
    compromised_since = since.replace(tzinfo=UTC)
    if not 0 < compromised_since.timestamp() <= time.time():
        fail("--since must lie in the past. Where you do not know, take the earliest time that is possible.")
    if keys_are_here(home):
        revoked = _revoke_elsewhere(home, actor, compromised_since)
    else:
        revoked = _revoke_on_the_node(home, compromised_since)
    say(
        f"Revoked {revoked} weekly keys, and published new ones for this week and the five that follow.",
        style="green",
    )
    advise(
        "Other agencies learn of it when their nodes ask for this node's card: before they seal or release something "
        "to you, if they have not asked within the hour, and about every hour while they hold something for you. Where "
        "this node cannot be reached they do not learn of it. Telephone those that may write to you before.\n"
        "What they hold for you, sealed to a revoked key, is not released: they seal it again.\n"
        f"Everything that was sent to you since {moment(compromised_since)}, and what is still on its way, must be "
        "taken as read by somebody else. No program can put that right: people go through it, case by case, and decide "
        "with the agency that sent it what each woman has to be told and what has to change for her safety.\n"
        "If the agency key was on the same machine it is lost too: telephone the breach contacts in the roster.",
    )


def _revoke_elsewhere(home: Path | None, actor: str | None, compromised_since: datetime) -> int:
    async def work(_client: AgencyClient, vault: AgencyVault | None) -> int:
        return len(await _needed(vault).revoke_epochs(compromised_since=compromised_since))

    return ask_office(home, actor, work)


def _revoke_on_the_node(home: Path | None, compromised_since: datetime) -> int:
    from exchange.startup import StartRefusedError
    from exchange.storage.errors import StorageError

    with refusals_told():
        settings = settings_to_open(home)
    try:
        return asyncio.run(_revoke(settings, to_millis(compromised_since)))
    except StartRefusedError as refused:
        fail(str(refused))
    except StorageError as refused:
        fail(f"Nothing may be revoked: {refused} Mend that, then run the same command again; it may be repeated.")


async def _revoke(settings: Settings, compromised_since: int) -> int:
    from exchange.startup import open_node
    from exchange.use_cases.own_epochs import revoke_own_epochs

    async with open_node(settings) as node:
        if node.keyring is None:
            fail("The agency's keys are not on this node. They are revoked on the agency's own machine.")
        return len(await revoke_own_epochs(node, compromised_since=compromised_since))


def _needed(
    vault: AgencyVault | None, *, otherwise: str = "The node holds them, and does this by itself."
) -> AgencyVault:
    if vault is None:
        fail(f"There are no agency keys in this folder. {otherwise}", code=SET_UP_WRONG)
    return vault

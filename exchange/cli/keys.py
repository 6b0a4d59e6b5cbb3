"""`exchange keys …`: for an agency whose keys are on its own machine. The folder is that of `init --keys-elsewhere`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from exchange.cli.asking import ask_office
from exchange.cli.console import SET_UP_WRONG, advise, fail, say
from exchange.cli.profile import ActorOption, HomeOption
from exchange.client import AgencyClient
from exchange.client.vault import AgencyVault

app = typer.Typer(no_args_is_help=True, help="The agency's own keys, where its node holds none.")

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

    async def work(_client: AgencyClient, vault: AgencyVault | None) -> int:
        return len(await _needed(vault).destroy_ended())

    say(f"Destroyed the keys of {ask_office(home, actor, work)} referrals.", style="green")


@app.command()
def attest(
    referral: Annotated[str, typer.Argument(help="Id of the referral.")],
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Destroy one referral's keys, and attest that the agency's own copies are gone, on paper too."""

    async def work(_client: AgencyClient, vault: AgencyVault | None) -> None:
        await _needed(vault).attest_erasure(referral)

    ask_office(home, actor, work)
    say("Destroyed and attested.", style="green")


def _needed(vault: AgencyVault | None) -> AgencyVault:
    if vault is None:
        fail("There are no agency keys in this folder: the node holds them.", code=SET_UP_WRONG)
    return vault

"""`exchange consent …`: what she allowed, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exchange.cli.asking import ask
from exchange.cli.console import advise, say, show_json
from exchange.cli.input import read_request
from exchange.cli.profile import ActorOption, HomeOption
from exchange.schemas.consents import ConsentRequest, ConsentView

app = typer.Typer(no_args_is_help=True, help="What she allowed, to whom, why and until when.")

ConsentArgument = Annotated[str, typer.Argument(help="Id of the consent.")]


@app.command()
def record(
    file: Annotated[Path, typer.Argument(help="The consent as JSON; - for standard input.", allow_dash=True)],
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Record her yes, after the limits of confidentiality were explained to her."""
    request = read_request(file, ConsentRequest)
    view = ask(home, actor, lambda client: client.consents.record(request))
    say(f"Consent {view.id}", style="bold green")
    _tell(view)


@app.command()
def show(consent: ConsentArgument, home: HomeOption = None, actor: ActorOption = None) -> None:
    """The consent as it is now."""
    view = ask(home, actor, lambda client: client.consents.read(consent))
    _tell(view)
    show_json(view.record)


@app.command()
def receipt(consent: ConsentArgument, home: HomeOption = None, actor: ActorOption = None) -> None:
    """A receipt for her, in neutral words. Ask her first whether she wants to carry one: her phone may be searched."""
    show_json(ask(home, actor, lambda client: client.consents.receipt(consent)))


def _tell(view: ConsentView) -> None:
    say(f"  {view.state}, version {view.version}, ends {view.expires_at:%Y-%m-%d %H:%M} UTC")
    if view.warn:
        advise("It ends within 14 days: ask her again if the help goes on.")

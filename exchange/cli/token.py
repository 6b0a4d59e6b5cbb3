"""`exchange token`: a bearer token for curl."""

from __future__ import annotations

import typer

from exchange.cli.asking import ask
from exchange.cli.console import advise
from exchange.cli.profile import ActorOption, HomeOption


def token(home: HomeOption = None, actor: ActorOption = None) -> None:
    """Print an access token for a few minutes. Whoever holds it is this client: do not paste it into a chat."""
    typer.echo(ask(home, actor, lambda client: client.access_token()))
    advise("Good for five minutes, in a sandbox for an hour.", style="dim")

"""Every command in one place. Nothing is decided here."""

from __future__ import annotations

from typing import Final

import typer

from exchange.cli import clients, consents, contract, inbox, keys, referring, roster
from exchange.cli.adopt import adopt
from exchange.cli.confirm_clock import confirm_clock
from exchange.cli.demonstrate import demo, sandbox
from exchange.cli.doctor import doctor
from exchange.cli.generated import openapi
from exchange.cli.init import init
from exchange.cli.migrate import migrate
from exchange.cli.resync import resync
from exchange.cli.serve import serve
from exchange.cli.token import token

_NODE: Final = "The node"
_REFERRING: Final = "Referring"
_RECEIVING: Final = "Receiving"
_TRYING: Final = "Trying it"
_PROTOCOL: Final = "The protocol in force"

app = typer.Typer(
    name="exchange",
    help="Federated, consent-gated, end-to-end encrypted referrals between agencies.",
    no_args_is_help=True,
    add_completion=False,
    # A stack trace with variables could show her data.
    pretty_exceptions_enable=False,
)
app.command(rich_help_panel=_NODE)(init)
app.command(rich_help_panel=_NODE)(serve)
app.command(rich_help_panel=_NODE)(doctor)
app.command(rich_help_panel=_NODE)(migrate)
app.command(rich_help_panel=_NODE)(resync)
app.command(rich_help_panel=_NODE)(confirm_clock)
app.add_typer(clients.app, name="client", rich_help_panel=_NODE)
app.add_typer(keys.app, name="keys", rich_help_panel=_NODE)
app.add_typer(roster.app, name="roster", rich_help_panel=_PROTOCOL)
contract.app.command()(adopt)
app.add_typer(contract.app, name="contract", rich_help_panel=_PROTOCOL)
app.add_typer(consents.app, name="consent", rich_help_panel=_REFERRING)
app.command(rich_help_panel=_REFERRING)(referring.send)
app.add_typer(referring.app, name="referrals", rich_help_panel=_REFERRING)
app.command(rich_help_panel=_REFERRING)(referring.withdraw)
app.add_typer(inbox.app, name="inbox", rich_help_panel=_RECEIVING)
app.command(rich_help_panel=_TRYING)(demo)
app.command(rich_help_panel=_TRYING)(sandbox)
app.command(rich_help_panel=_TRYING)(token)
app.command(hidden=True)(openapi)

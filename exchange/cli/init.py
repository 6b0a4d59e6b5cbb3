"""`exchange init`: asks what a new node shall be, or takes flags, and makes it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.prompt import Prompt

from contracts.vocabulary import AgencyKind, ServiceType
from exchange.cli.console import ERR, SET_UP_WRONG, advise, fail, say
from exchange.cli.passphrase import AGENCY_PASSPHRASE
from exchange.settings import DEFAULT_HOME, SHORTEST_PASSPHRASE, Environment

if TYPE_CHECKING:
    from exchange.cli.founding import NodePlan

_PASSPHRASE_VARIABLE: Final = "EXCHANGE_PASSPHRASE"  # noqa: S105 - the name of a variable
_ELSEWHERE_HELP = "New folder for the agency's own machine: the agency key goes there, and this node reads nothing."
_USUAL_FREEDOM: Final = "She can come and go."

_URL_FILE_HELP = "File that holds the address of the {} database; SQLite in the home otherwise."


def init(
    home: Annotated[Path, typer.Option(envvar="EXCHANGE_HOME", help="New folder for the node.")] = Path(DEFAULT_HOME),
    agency: Annotated[str | None, typer.Option(help="Id of the agency, such as rose-house-shelter.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the agency.")] = None,
    kind: Annotated[AgencyKind | None, typer.Option(help="What kind of agency it is.")] = None,
    country: Annotated[str | None, typer.Option(help="Where it works: ISO 3166-1, such as MY.")] = None,
    represents: Annotated[str | None, typer.Option(help="Embassies: whose authority it is.")] = None,
    service: Annotated[list[ServiceType] | None, typer.Option(help="A service it offers; may be repeated.")] = None,
    public_url: Annotated[str | None, typer.Option(help="https address at which others reach the node.")] = None,
    duty_contact: Annotated[str | None, typer.Option(help="The agency's duty line, never a worker's own.")] = None,
    breach_contact: Annotated[str | None, typer.Option(help="Whom to tell about a breach.")] = None,
    reports_to: Annotated[list[str] | None, typer.Option(help="To whom it must report; may be repeated.")] = None,
    freedom_of_movement: Annotated[str, typer.Option(help="Whether she can leave when she wants.")] = _USUAL_FREEDOM,
    requires_documents: Annotated[bool, typer.Option(help="Whether she is asked for papers.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on; TLS is the proxy's in front.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    actor: Annotated[str | None, typer.Option(help="Pseudonymous worker id of the first profile.")] = None,
    environment: Annotated[Environment, typer.Option(help="What it is for.")] = Environment.PRODUCTION,
    passphrase_file: Annotated[Path | None, typer.Option(help="File that holds the passphrase.")] = None,
    keys_elsewhere: Annotated[Path | None, typer.Option(help=_ELSEWHERE_HELP, show_default=False)] = None,
    agency_passphrase_file: Annotated[
        Path | None,
        typer.Option(help="With --keys-elsewhere: file that holds the passphrase of the agency's own keys."),
    ] = None,
    database_url_file: Annotated[Path | None, typer.Option(help=_URL_FILE_HELP.format("main"))] = None,
    key_database_url_file: Annotated[Path | None, typer.Option(help=_URL_FILE_HELP.format("key"))] = None,
) -> None:
    """Make a node: home, keys, databases, first client, configuration, and the card for the federation's roster."""
    from exchange.cli.founding import NodePlan
    from exchange.roster import ToldFirst

    files = {
        "passphrase_file": passphrase_file,
        "database_url_file": database_url_file,
        "key_database_url_file": key_database_url_file,
    }
    told_first = ToldFirst(
        reports_to=tuple(reports_to or ()),
        freedom_of_movement=freedom_of_movement,
        requires_documents=requires_documents,
    )
    agency = agency or _ask("Id of the agency (small letters, digits, hyphens)", "--agency")
    kind = kind or AgencyKind(_ask("Kind", "--kind", choices=[kind.value for kind in AgencyKind]))
    plan = NodePlan(
        home=home.expanduser().absolute(),
        agency=agency,
        name=name or _ask("Name of the agency", "--name"),
        kind=kind,
        country=country or _ask("Country where it works (ISO 3166-1, such as MY)", "--country"),
        represents=represents
        or (_ask("Which country it represents", "--represents") if kind is AgencyKind.EMBASSY else None),
        service_types=tuple(service or _ask_services()),
        public_url=public_url or _ask("https address at which others will reach this node", "--public-url"),
        duty_contact=duty_contact or _ask("Duty line of the agency", "--duty-contact"),
        breach_contact=breach_contact or _ask("Whom to tell about a breach", "--breach-contact"),
        told_first=told_first,
        environment=environment,
        host=host,
        port=port,
        actor=actor,
        agency_home=keys_elsewhere.expanduser().absolute() if keys_elsewhere is not None else None,
        database_url=_secret(database_url_file, "EXCHANGE_DATABASE_URL"),
        key_database_url=_secret(key_database_url_file, "EXCHANGE_KEY_DATABASE_URL"),
        secret_files={setting: path for setting, path in files.items() if path is not None},
    )
    _make(
        plan,
        _secret(passphrase_file, _PASSPHRASE_VARIABLE) or _new_passphrase("this node's keys"),
        _agency_passphrase(keys_elsewhere, agency_passphrase_file),
    )


def _agency_passphrase(keys_elsewhere: Path | None, file: Path | None) -> str | None:
    """Another one than the node's: who knows that one must not open the agency's keys."""
    if keys_elsewhere is None:
        return None
    return _secret(file, AGENCY_PASSPHRASE) or _new_passphrase("the agency's own keys")


def _make(plan: NodePlan, passphrase: str, agency_passphrase: str | None) -> None:
    from exchange.cli.founding import FoundingError, found
    from exchange.client import ClientSetupError
    from exchange.storage.errors import StorageError

    if min(len(one) for one in (passphrase, agency_passphrase) if one is not None) < SHORTEST_PASSPHRASE:
        fail(f"Choose a passphrase of at least {SHORTEST_PASSPHRASE} characters; nothing was made.", code=SET_UP_WRONG)
    try:
        made = found(plan, passphrase, agency_passphrase=agency_passphrase)
    except (FoundingError, ClientSetupError) as refused:
        fail(str(refused), code=SET_UP_WRONG)
    except StorageError:
        fail("A database cannot be made: look at its address. Remove the new home and run this again.")
    except ValueError:
        # Pydantic's error names what was typed; the sentence names what to look at.
        fail("Agency, name, country, services, contacts or address are not acceptable.", code=SET_UP_WRONG)
    say(f"Made the node of {made.member.agency} in {plan.home}.", style="bold green")
    say("\nIts card, for the office that keeps the federation's roster (it holds no secret):\n")
    typer.echo(made.card.read_text(encoding="utf-8"))
    if plan.agency_home is not None:
        advise(
            f"The agency key is in {plan.agency_home} and nowhere else. Move that folder to the agency's own machine "
            "now; this server must not keep it. It is left out of backups, but for agency.keys.",
            style="bold",
        )
    advise(
        "Next:\n"
        f"  1. Hand over {made.card}; tell the digest of its keys by telephone.\n"
        f"  2. Put the roster you get back at {plan.home / 'roster.json'}.\n"
        "  3. Read the contract with your director, then: exchange contract adopt FILE\n"
        f"  4. exchange doctor --home {plan.home}\n"
        f"  5. exchange serve --home {plan.home}",
        style="",
    )


def _ask(question: str, flag: str, choices: list[str] | None = None) -> str:
    if not sys.stdin.isatty():
        fail(f"Nobody is here to answer: give {flag}.", code=SET_UP_WRONG)
    answer = Prompt.ask(question, choices=choices, console=ERR)
    return answer.strip() if answer else _ask(question, flag, choices)


def _ask_services() -> list[ServiceType]:
    known = ", ".join(service.value for service in ServiceType)
    words = _ask(f"Services it offers, separated by commas ({known})", "--service").split(",")
    try:
        return [ServiceType(word.strip()) for word in words if word.strip()]
    except ValueError:
        fail("One of these services is not in the vocabulary.", code=SET_UP_WRONG)


def _secret(path: Path | None, variable: str) -> str | None:
    if path is None:
        return os.environ.get(variable) or None
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        fail(f"{path} cannot be read.", code=SET_UP_WRONG)


def _new_passphrase(of: str) -> str:
    if not sys.stdin.isatty():
        fail(
            f"Nobody is here to type a passphrase: give --passphrase-file or {_PASSPHRASE_VARIABLE}.", code=SET_UP_WRONG
        )
    typed = Prompt.ask(f"New passphrase for {of} (nobody can recover it)", password=True, console=ERR)
    if Prompt.ask("Again", password=True, console=ERR) != typed:
        fail("The two differ; nothing was made.", code=SET_UP_WRONG)
    return typed

"""`exchange init`: asks what a new node shall be, or takes flags, and makes it."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.prompt import Prompt

from contracts.vocabulary import AgencyKind, ServiceType
from exchange.cli.console import ERR, SET_UP_WRONG, advise, fail, say
from exchange.cli.passphrase import AGENCY_PASSPHRASE, PASSPHRASE
from exchange.settings import DEFAULT_HOME, SHORTEST_PASSPHRASE, Environment

if TYPE_CHECKING:
    from exchange.cli.founding import Founded, NodePlan

_ELSEWHERE_HELP = "New folder for the agency's own machine: the agency key goes there, and this node reads nothing."
_URL_FILE_HELP = "File that holds the address of the {} database; SQLite in the home otherwise."


def init(
    home: Annotated[Path, typer.Option(envvar="EXCHANGE_HOME", help="New folder for the node.")] = Path(DEFAULT_HOME),
    agency: Annotated[str | None, typer.Option(help="Id of the agency, such as rose-house-shelter.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the agency.")] = None,
    kind: Annotated[AgencyKind | None, typer.Option(help="What kind of agency it is.")] = None,
    country: Annotated[str | None, typer.Option(help="Where it works: ISO 3166-1, such as MY.")] = None,
    represents: Annotated[str | None, typer.Option(help="Embassies: whose authority it is.")] = None,
    service: Annotated[list[ServiceType] | None, typer.Option(help="A service it offers; may be repeated.")] = None,
    public_url: Annotated[
        str | None, typer.Option(envvar="EXCHANGE_PUBLIC_URL", help="https address at which others reach the node.")
    ] = None,
    duty_contact: Annotated[str | None, typer.Option(help="The agency's duty line, never a worker's own.")] = None,
    breach_contact: Annotated[str | None, typer.Option(help="Whom to tell about a breach.")] = None,
    reports_to: Annotated[
        list[str] | None, typer.Option(help="To whom it must report; may be repeated. Or: nobody.")
    ] = None,
    freedom_of_movement: Annotated[str | None, typer.Option(help="Whether she can leave when she wants.")] = None,
    requires_documents: Annotated[bool | None, typer.Option(help="Whether she is asked for papers.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; TLS is the proxy's in front.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="EXCHANGE_PORT", min=1, max=65535, help="Port to listen on.")] = 8080,
    actor: Annotated[str | None, typer.Option(help="Pseudonymous worker id of the first profile.")] = None,
    environment: Annotated[
        Environment, typer.Option(envvar="EXCHANGE_ENVIRONMENT", help="What it is for.")
    ] = Environment.PRODUCTION,
    passphrase_file: Annotated[
        Path | None, typer.Option(envvar="EXCHANGE_PASSPHRASE_FILE", help="File that holds the passphrase.")
    ] = None,
    keys_elsewhere: Annotated[Path | None, typer.Option(help=_ELSEWHERE_HELP, show_default=False)] = None,
    agency_passphrase_file: Annotated[
        Path | None,
        typer.Option(help="With --keys-elsewhere: file that holds the passphrase of the agency's own keys."),
    ] = None,
    database_url_file: Annotated[
        Path | None, typer.Option(envvar="EXCHANGE_DATABASE_URL_FILE", help=_URL_FILE_HELP.format("main"))
    ] = None,
    key_database_url_file: Annotated[
        Path | None, typer.Option(envvar="EXCHANGE_KEY_DATABASE_URL_FILE", help=_URL_FILE_HELP.format("key"))
    ] = None,
) -> None:
    """Make a node: home, keys, databases, first client, configuration, and the card for the federation's roster."""
    from exchange.cli.answers import accepted, ask, told, told_services, told_whether, told_whom_it_reports_to
    from exchange.cli.founding import NodePlan
    from exchange.roster import ToldFirst

    if represents is not None and kind not in {None, AgencyKind.EMBASSY}:
        fail("--represents is for embassies only. Nothing was made.", code=SET_UP_WRONG)
    files = {
        "passphrase_file": passphrase_file,
        "database_url_file": database_url_file,
        "key_database_url_file": key_database_url_file,
    }
    agency = told("--agency", agency, "Id of the agency (small letters, digits, hyphens)")
    kind = kind or AgencyKind(ask("Kind", "--kind", choices=[kind.value for kind in AgencyKind]))
    plan = NodePlan(
        home=home.expanduser().absolute(),
        agency=agency,
        name=told("--name", name, "Name of the agency"),
        kind=kind,
        country=told("--country", country, "Country where it works (ISO 3166-1, such as MY)"),
        represents=told("--represents", represents, "Which country it represents")
        if kind is AgencyKind.EMBASSY
        else None,
        service_types=told_services(service),
        public_url=told("--public-url", public_url, "https address at which others will reach this node"),
        duty_contact=told("--duty-contact", duty_contact, "Duty line of the agency"),
        breach_contact=told("--breach-contact", breach_contact, "Whom to tell about a breach"),
        told_first=ToldFirst(
            # None has a default: she agrees because of it, and other agencies send her there. A house whose door is
            # locked, or an office that must tell the police, would have promised otherwise without saying a word.
            reports_to=told_whom_it_reports_to(reports_to),
            freedom_of_movement=told(
                "--freedom-of-movement", freedom_of_movement, "Whether she can leave when she wants, in one sentence"
            ),
            requires_documents=told_whether(
                "--requires-documents or --no-requires-documents", requires_documents, "Whether she is asked for papers"
            ),
        ),
        environment=environment,
        host=host,
        port=port,
        actor=None if actor is None else accepted("--actor", actor),
        agency_home=keys_elsewhere.expanduser().absolute() if keys_elsewhere is not None else None,
        database_url=secret_in(database_url_file, "EXCHANGE_DATABASE_URL"),
        key_database_url=secret_in(key_database_url_file, "EXCHANGE_KEY_DATABASE_URL"),
        secret_files={setting: path for setting, path in files.items() if path is not None},
    )
    _make(
        plan,
        secret_in(passphrase_file, PASSPHRASE) or new_passphrase("this node's keys", "--passphrase-file", PASSPHRASE),
        _agency_passphrase(keys_elsewhere, agency_passphrase_file),
    )


def _agency_passphrase(keys_elsewhere: Path | None, file: Path | None) -> str | None:
    """Another one than the node's: who knows that one must not open the agency's keys."""
    if keys_elsewhere is None:
        return None
    return secret_in(file, AGENCY_PASSPHRASE) or new_passphrase(
        "the agency's own keys", "--agency-passphrase-file", AGENCY_PASSPHRASE
    )


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
    except StorageError as refused:
        fail(f"The main database cannot be used: {refused} Nothing is left of the new home.", code=SET_UP_WRONG)
    except OSError as refused:
        fail(f"{refused.filename or plan.home} cannot be made: {refused.strerror}.", code=SET_UP_WRONG)
    except ValueError:
        # Each answer alone was looked at before; Pydantic's error would name what was typed.
        fail("These answers do not fit together; plain http is for a sandbox on this machine.", code=SET_UP_WRONG)
    _tell(plan, made)


def _tell(plan: NodePlan, made: Founded) -> None:
    from exchange.cli.roster import key_ids

    say(f"Made the node of {made.member.agency} in {plan.home}.", style="bold green")
    say("\nIts card, for the office that keeps the federation's roster (it holds no secret):\n")
    typer.echo(made.card.read_text(encoding="utf-8"))
    told_first = made.member.told_first
    folders = " and ".join(str(folder) for folder in (plan.home, plan.agency_home) if folder is not None)
    advise(
        "Before she agrees each woman is told of you:\n"
        f"  It must report to: {', '.join(told_first.reports_to) or 'nobody'}. (--reports-to)\n"
        f"  {told_first.freedom_of_movement} (--freedom-of-movement)\n"
        f"  {'She is' if told_first.requires_documents else 'She is not'} asked for papers. (--requires-documents)\n"
        f"If that is not so, do not hand the card over: delete {folders} and make it again with these flags.\n",
        style="bold",
    )
    sign = [f"exchange contract adopt FILE --home {plan.home}"]
    if plan.agency_home is not None:
        sign.append(f"and on the agency's machine: exchange contract adopt FILE --agency-home {plan.agency_home}")
        advise(
            f"The agency key is in {plan.agency_home} and nowhere else. Move that folder to the agency's own machine "
            "now; this server must not keep it. It is left out of backups, but for agency.keys.",
            style="bold",
        )
    elsewhere = (
        ""
        if plan.agency_home is None
        else f", and at roster.json in {plan.agency_home}; while the node runs, there: exchange keys publish"
    )
    advise(
        "Next:\n"
        f"  1. Hand over {made.card}; tell the ids of its keys by telephone:\n"
        f"     {key_ids(made.member)}\n"
        f"  2. Read the contract with your director, then: {', '.join(sign)}\n"
        "     Hand over what it prints, too: the roster says who has adopted what.\n"
        f"  3. Put the roster you get back at {plan.home / 'roster.json'}{elsewhere}.\n"
        f"  4. exchange doctor --home {plan.home}\n"
        f"  5. exchange serve --home {plan.home}",
        style="",
    )


def secret_in(path: Path | None, variable: str) -> str | None:
    """What is in this file, or else in this variable; a file that others can read ends the program."""
    if path is None:
        return os.environ.get(variable) or None
    try:
        text = path.read_text(encoding="utf-8").strip()
        open_to_others = path.stat().st_mode & stat.S_IRWXO
    except (OSError, ValueError):
        fail(f"{path} cannot be read.", code=SET_UP_WRONG)
    if open_to_others:
        # `exchange serve` would refuse it (`open-secret`), and by then it may have been read.
        fail(f"Run `chmod o-rwx {path}`: other users can read a secret. Nothing was made.", code=SET_UP_WRONG)
    return text or fail(f"{path} is empty. Nothing was made.", code=SET_UP_WRONG)


def new_passphrase(of: str, flag: str, variable: str) -> str:
    """A passphrase that is typed twice."""
    if not sys.stdin.isatty():
        fail(f"Nobody is here to type the passphrase of {of}: give {flag} or {variable}.", code=SET_UP_WRONG)
    typed = Prompt.ask(f"New passphrase for {of} (nobody can recover it)", password=True, console=ERR)
    if Prompt.ask("Again", password=True, console=ERR) != typed:
        fail("The two differ; nothing was made.", code=SET_UP_WRONG)
    return typed

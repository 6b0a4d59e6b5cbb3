"""`exchange client …`: which of the agency's own systems may call the node. Works on the database, not over HTTP."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exchange.cli.console import OUT, SET_UP_WRONG, advise, fail, refusals_told, say, table
from exchange.cli.passphrase import opened_keys, opened_storage_key, storage_key_among
from exchange.cli.profile import HomeOption, Profile
from exchange.client import ClientKey
from exchange.client.client_key import SEED_BYTES
from exchange.oauth.scopes import CLIENT_SCOPES, Scope
from exchange.roster import RosterInvalidError, parse_roster
from exchange.settings import Settings, load_settings

if TYPE_CHECKING:
    from exchange.storage.database import Database

app = typer.Typer(no_args_is_help=True, help="Which of the agency's own systems may call the node.")


@app.command()
def add(
    client_id: Annotated[str, typer.Argument(help="A name for the system, such as case-system or night-laptop.")],
    folder: Annotated[
        Path | None, typer.Option(help="New folder for profile and key, to be carried to the system.")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="The system made its own key: its public JSON Web Key.")
    ] = None,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may do; may be repeated. All unless given.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="The branch to which it is bound.")] = None,
    actor: Annotated[str | None, typer.Option(help="Pseudonymous worker id of its profile.")] = None,
    home: HomeOption = None,
) -> None:
    """Register a system: with a key made here, carried over in a folder, or with its own public key."""
    from exchange.cli.answers import accepted
    from exchange.cli.founding import CLIENT_KEY_NAME, add_client, register_client
    from exchange.oauth.clients import ClientKeyError
    from exchange.storage.errors import IntegrityError, StorageError
    from exchange.storage.versions import ensure_current

    if (folder is None) is (public_key is None):
        fail("Give either --folder, for a key made here, or --public-key.", code=SET_UP_WRONG)
    if unit is not None:
        accepted("--unit", unit)
    scopes = frozenset(scope) if scope else CLIENT_SCOPES
    with refusals_told():
        settings = load_settings(home=home)
        _refuse_a_members_name(settings, client_id)
        url = settings.database_url.get_secret_value()
        try:
            ensure_current(url)
            keys = opened_keys(settings)
            storage_key = storage_key_among(keys)
            if public_key is not None:
                register_client(url, storage_key, client_id, _read_jwk(public_key), scopes, unit)
            elif folder is not None:
                profile = Profile(
                    url=settings.public_url,
                    client_id=client_id,
                    key_file=Path(CLIENT_KEY_NAME),
                    scopes=scopes,
                    actor=None if actor is None else accepted("--actor", actor),
                    unit=unit,
                    keys_elsewhere=True if keys.agency is None else None,
                )
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                add_client(url, storage_key, folder, profile)
                advise(f"Carry {folder} to the system and delete it here: it holds the private key.")
        except IntegrityError:
            fail(f"There is, or was, a client {client_id}, and no name is used twice: choose another one.")
        except ClientKeyError as refused:
            fail(str(refused), code=SET_UP_WRONG)
        except StorageError as refused:
            fail(f"{refused} `exchange doctor` says what to do.")
        except OSError as refused:
            fail(f"{folder} cannot be made: {refused.strerror}.", code=SET_UP_WRONG)
    say(f"Registered {client_id}.", style="green")


@app.command("key")
def key_(
    out: Annotated[Path, typer.Option("--out", help="New file for the private half, which never leaves the system.")],
) -> None:
    """Make a system's own key, on its machine. The public half is printed, for `client add --public-key`."""
    key = ClientKey(secrets.token_bytes(SEED_BYTES))
    with refusals_told():
        try:
            key.save(out)
        except OSError as refused:
            fail(f"{out} cannot be written: {refused.strerror}.", code=SET_UP_WRONG)
    typer.echo(json.dumps(key.public_jwk()))


@app.command()
def revoke(client_id: Annotated[str, typer.Argument(help="Which system.")], home: HomeOption = None) -> None:
    """A lost device: refused from the next call on, whatever tokens it holds."""
    from exchange.storage.access import revoke_client

    with _database(_settings(home)) as database:
        if not database.write_sync(lambda connection: revoke_client(connection, client_id)):
            fail(f"No active client is called {client_id}.")
    say(f"Revoked {client_id}.", style="green")


@app.command("list")
def list_(home: HomeOption = None) -> None:
    """Every system that was ever registered, and whatever else stands there: `not registered here` is not let in."""
    from exchange.storage.access import list_clients
    from exchange.use_cases.registered_here import is_foreign

    settings = _settings(home)
    with _database(settings) as database:
        clients = database.read_sync(list_clients)
    storage_key = opened_storage_key(settings)
    rows = [
        (
            client.client_id,
            "not registered here" if is_foreign(storage_key, client) else client.status,
            client.unit or "",
            client.scopes,
        )
        for client in clients
    ]
    OUT.print(table("Clients of this node", ("client", "status", "unit", "scopes"), rows))


def _refuse_a_members_name(settings: Settings, client_id: str) -> None:
    """In the record of this node a client and a member of one id could not be told apart."""
    try:
        members = parse_roster(settings.roster_path.read_bytes()).members
    except (OSError, RosterInvalidError):
        return  # no federation yet, or `exchange doctor` says what is wrong with the file
    if client_id in members:
        fail(f"{client_id} is an agency of the roster: the two would be taken for each other. Choose another name.")


def _settings(home: Path | None) -> Settings:
    with refusals_told():
        return load_settings(home=home)


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    from exchange.storage.database import Database
    from exchange.storage.errors import StorageError
    from exchange.storage.versions import ensure_current

    url = settings.database_url.get_secret_value()
    try:
        ensure_current(url)
        database = Database.open(url)
        try:
            yield database
        finally:
            database.close_sync()
    except StorageError as refused:
        fail(f"{refused} `exchange doctor` says what to do.")


def _read_jwk(path: Path) -> dict[str, str]:
    try:
        members = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        fail(f"{path} cannot be read. `exchange client key` makes a key and prints this half.", code=SET_UP_WRONG)
    except ValueError:
        fail(f"{path} is not a JSON Web Key.", code=SET_UP_WRONG)
    if not isinstance(members, dict):
        fail(f"{path} is not a JSON Web Key.", code=SET_UP_WRONG)
    return members

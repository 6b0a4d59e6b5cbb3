"""`exchange roster …`: this agency's card, and the local roster file that every node of a small federation reads.

Rules:

* A card and an adherence statement hold no secret; they are handed over by any way on which they cannot be exchanged
  for another, and the keys are compared by telephone.
* Every change writes a new version of the file, whole, or nothing. What a card says of its member's standing
  counts only while the roster says nothing. A roster that would not be read is not written, nor is one made of an
  older one than somebody is known to use.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import typer

from exchange.cli.console import OUT, SET_UP_WRONG, advise, fail, refusals_told, say, table
from exchange.cli.profile import HomeOption
from exchange.envelope.errors import StatementError
from exchange.envelope.keys import key_id
from exchange.envelope.statements import Adherence, parse_statement
from exchange.roster import (
    Adoption,
    Member,
    RosterInvalidError,
    RosterSnapshot,
    Status,
    parse_member_card,
    parse_roster,
    roster_bytes,
)
from exchange.settings import CARD_NAME, Settings, load_settings

app = typer.Typer(no_args_is_help=True, help="This agency's card, and the roster of a small federation.")

_NOTHING: Final[tuple[Adoption, ...]] = ()
_FOR_ALL_TO_READ: Final = 0o644


AboveOption = Annotated[
    int | None,
    typer.Option("--above", min=1, help="The newest roster is lost everywhere: the highest version any member has."),
]


@app.command()
def card(home: HomeOption = None) -> None:
    """Print this agency's card, to be handed to the office that keeps the roster."""
    with refusals_told():
        settings = load_settings(home=home)
    path = settings.home / CARD_NAME
    try:
        data = path.read_bytes()
    except OSError:
        fail(f"{path} is not there: run `exchange init` first.", code=SET_UP_WRONG)
    member = _card_in(data.strip())
    if member is None:
        fail(f"{path} is damaged: restore it from where you keep it.", code=SET_UP_WRONG)
    typer.echo(data.decode().rstrip("\n"))
    advise(f"To be told by telephone: {key_ids(member)}", style="")


@app.command()
def add(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Cards and adherence statements.")],
    above: AboveOption = None,
    home: HomeOption = None,
) -> None:
    """Add members (cards) and adherence to contracts (statements) to the roster file: one new version."""
    with refusals_told():
        settings = load_settings(home=home)
    roster = _read(settings) if settings.roster_path.exists() else None
    members = dict(roster.members) if roster else {}
    statements, added_cards = [], []
    for file in files:
        data = file.read_bytes().strip()
        member = _card_in(data)
        if member is not None:
            members[member.agency] = _of_its_standing(member, members.get(member.agency))
            added_cards.append(member)
        else:
            statements.append((file, data))
    adoptions = roster.contracts if roster else _NOTHING
    for file, data in statements:
        adoptions = _adhere(settings, adoptions, file, data)
    written = _write(settings, roster, members, adoptions, above)
    say(f"Wrote version {written.version} of {settings.roster_path}.", style="green")
    for added in added_cards:
        advise(f"Compare by telephone: {added.agency}: {key_ids(added)}", style="")
    _tell_who_is_called_alike(settings, members)


@app.command()
def standing(
    agency: Annotated[str, typer.Argument(help="Id of the member.")],
    status: Annotated[Status, typer.Argument(help="From now on.")],
    above: AboveOption = None,
    home: HomeOption = None,
) -> None:
    """Suspend a member, write down that it has left, or that it is active again: one new version."""
    with refusals_told():
        settings = load_settings(home=home)
    roster = _read(settings)
    member = roster.members.get(agency)
    if member is None:
        fail(f"{agency} is not in the roster. Nothing was written.", code=SET_UP_WRONG)
    members = {**roster.members, agency: member.model_copy(update={"status": status})}
    written = _write(settings, roster, members, roster.contracts, above)
    say(f"Wrote version {written.version} of {settings.roster_path}: {agency} is {status}.", style="green")
    advise("It counts where this file lies: hand it to every member, and in an emergency telephone each.")


def _of_its_standing(card: Member, listed: Member | None) -> Member:
    """A card is the member's own word: who was suspended is not active again because it moved."""
    if listed is None or listed.status is card.status:
        return card
    advise(f"{card.agency} stays {listed.status}: `exchange roster standing` changes that, no card does.")
    return card.model_copy(update={"status": listed.status})


def _tell_who_is_called_alike(settings: Settings, members: Mapping[str, Member]) -> None:
    """A client of this node that has the id of a member that joined after it."""
    from exchange.cli.examining_clients import look_at_clients

    for finding in look_at_clients(settings, members, _own_agency(settings)):
        advise(f"{finding.sentence} {finding.what_to_do}")


def _own_agency(settings: Settings) -> str | None:
    path = settings.home / CARD_NAME
    own = _card_in(path.read_bytes().strip()) if path.exists() else None
    return own.agency if own is not None else None


@app.command()
def show(home: HomeOption = None) -> None:
    """Who is a member, with which keys, whom to telephone there, and which contracts are in force."""
    with refusals_told():
        settings = load_settings(home=home)
    roster = _read(settings)
    made_up = ", SYNTHETIC" if roster.synthetic else ""
    rows = [
        (
            member.agency,
            member.kind.value,
            member.country,
            member.status.value,
            member.node_url,
            key_id(member.agency_key)[:16],
        )
        for member in roster.members.values()
    ]
    columns = ("agency", "kind", "country", "status", "node", "agency key")
    OUT.print(table(f"Roster, version {roster.version}{made_up}", columns, rows))
    # Not in the table: a narrow screen breaks a number there.
    say("Telephone:")
    for member in roster.members.values():
        say(f"  {member.agency}: duty {member.duty_contact}; breach {member.breach_contact}")
    for adoption in roster.contracts:
        say(f"Contract {adoption.digest[:16]}… from {adoption.from_} until {adoption.until}, adopted by:")
        for agency in sorted(adoption.members):
            signed = "signed" if agency in adoption.adherence else "NOT SIGNED"
            say(f"  {agency}: {signed}")


def key_ids(member: Member) -> str:
    """What two people compare by telephone, so that nobody exchanged the keys on the way."""
    return f"agency key {key_id(member.agency_key)}, node key {key_id(member.node_key)}"


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in its place in one step, so that no reader ever sees half of it.

    Whatever the umask, the node's user can read it, and nobody else write: who changes a roster says whom to believe.
    """
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        os.fchmod(file.fileno(), _FOR_ALL_TO_READ)
        file.write(data)
    beside.replace(path)


def _read(settings: Settings) -> RosterSnapshot:
    try:
        return parse_roster(settings.roster_path.read_bytes())
    except OSError:
        fail(f"The roster {settings.roster_path} cannot be read.", code=SET_UP_WRONG)
    except RosterInvalidError as invalid:
        fail(str(invalid), code=SET_UP_WRONG)


def _card_in(data: bytes) -> Member | None:
    try:
        return parse_member_card(data)
    except RosterInvalidError:
        return None


def _adhere(settings: Settings, adoptions: tuple[Adoption, ...], file: Path, data: bytes) -> tuple[Adoption, ...]:
    try:
        claimed = parse_statement(Adherence, data).unverified
    except StatementError:
        fail(f"{file} is neither a member's card nor a statement of adherence. Nothing was written.")
    agency, digest = claimed.agency, claimed.contract
    known = {adoption.digest: adoption for adoption in adoptions}
    adoption = known.get(digest) or Adoption(
        digest, frozenset(), datetime.now(UTC).date(), _end_of(settings, digest), MappingProxyType({})
    )
    known[digest] = replace(
        adoption,
        members=adoption.members | {agency},
        adherence=MappingProxyType({**adoption.adherence, agency: data}),
    )
    return tuple(known.values())


def _end_of(settings: Settings, digest: str) -> date:
    """When a contract that this node has on file ends."""
    from contracts.loader import ContractInvalidError, load_contract

    data = contracts_on_file(settings.contracts_dir).get(digest)
    if data is None:
        fail(f"Put the contract with digest {digest} into {settings.contracts_dir} first. Nothing was written.")
    try:
        return load_contract(data, on=datetime.now(UTC).date()).valid_until
    except ContractInvalidError:
        fail(
            f"The contract with digest {digest} in {settings.contracts_dir} is not valid: `exchange contract check` "
            "says why. Nothing was written."
        )


def contracts_on_file(folder: Path) -> dict[str, bytes]:
    """The contracts that can be read there, by digest: a node goes by that, whatever the file is called."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        with suppress(OSError):
            data = path.read_bytes()
            found[hashlib.sha256(data).hexdigest()] = data
    return found


def _write(
    settings: Settings,
    roster: RosterSnapshot | None,
    members: dict[str, Member],
    adoptions: tuple[Adoption, ...],
    above: int | None,
) -> RosterSnapshot:
    """The next version of this roster, written, unless a newer one is known."""
    from exchange.cli.newest_roster import next_version, tell_who_is_active

    version = next_version(settings, roster, _own_agency(settings), above)
    written = _assembled(version, members, adoptions)
    write_whole(settings.roster_path, written.source)
    if above is not None:
        tell_who_is_active(written)
    return written


def _assembled(version: int, members: dict[str, Member], adoptions: tuple[Adoption, ...]) -> RosterSnapshot:
    data = roster_bytes(
        version=version,
        synthetic=any(member.synthetic for member in members.values()),
        members=tuple(members.values()),
        contracts=adoptions,
    )
    try:
        snapshot = parse_roster(data)
    except RosterInvalidError as invalid:
        fail(f"{invalid} Nothing was written.")
    for adoption in snapshot.contracts:
        unsigned = adoption.members - adoption.adherence.keys()
        if unsigned:
            fail(
                f"The adherence of {', '.join(sorted(unsigned))} is not signed with the key on its card. "
                "Nothing was written."
            )
    return snapshot

"""`exchange keys passphrase` and `exchange keys renew`: the key file under another passphrase, or other keys in one.

Rules:

* The storage key stays: everything in the databases is sealed under it.
* A new passphrase replaces the file in one step. What was copied before opens with the old one.
* New keys go into a new folder, never over those that count: until every member has the roster that lists them the
  node goes on with the old ones. The card and the adherence that the roster needs are made with them.
* Each key is renewed on the machine that has it: where the agency keeps its own, the node's on the node.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from exchange.cli.adopt import sign_adherence
from exchange.cli.asking import agency_folder, keys_are_here
from exchange.cli.console import SET_UP_WRONG, advise, fail, refusals_told, say
from exchange.cli.init import new_passphrase, secret_in
from exchange.cli.passphrase import (
    AGENCY_PASSPHRASE,
    agency_passphrase,
    opened_agency_keys,
    opened_keys,
    passphrase_of,
    settings_to_open,
)
from exchange.cli.profile import HomeOption
from exchange.cli.roster import contracts_on_file, key_ids
from exchange.client.vault.agency_keys import AGENCY_KEYS_NAME, CONTRACTS_NAME, ROSTER_NAME, STORE_NAME
from exchange.envelope.key_file import SALT_BYTES, KeySet, create_key_file, replace_key_file, seal_keys
from exchange.envelope.keys import KEY_BYTES, NONCE_BYTES, AgencyKey, NodeKey
from exchange.roster import Member, RosterInvalidError, member_card, parse_member_card, parse_roster
from exchange.settings import CARD_NAME, KEYS_NAME, SHORTEST_PASSPHRASE, load_settings

NEW_PASSPHRASE: Final = "EXCHANGE_NEW_PASSPHRASE"  # noqa: S105 - the name of a variable

_WHERE_THE_NODES: Final = "Put it where the node reads it before the next start (EXCHANGE_PASSPHRASE_FILE)"
_WHERE_THE_AGENCYS_OWN: Final = (
    f"Type it at this machine from now on, or put it into {AGENCY_PASSPHRASE} of your own programs here, never on the "
    "node: who has that server must not open these keys"
)


def passphrase(
    file: Annotated[
        Path | None, typer.Option("--new-passphrase-file", help="File that holds the new one; typed otherwise.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Close the key file with a new passphrase. The keys stay: the node may go on running."""
    if keys_are_here(home):
        path = (agency_folder(home) or Path()) / AGENCY_KEYS_NAME
        keys, where = opened_agency_keys(path, agency_passphrase()), _WHERE_THE_AGENCYS_OWN
    else:
        with refusals_told():
            settings = load_settings(home=home)
        path, keys, where = settings.home / KEYS_NAME, opened_keys(settings), _WHERE_THE_NODES
    chosen = secret_in(file, NEW_PASSPHRASE) or new_passphrase("these keys", "--new-passphrase-file", NEW_PASSPHRASE)
    if len(chosen) < SHORTEST_PASSPHRASE:
        fail(
            f"Choose a passphrase of at least {SHORTEST_PASSPHRASE} characters; nothing was changed.", code=SET_UP_WRONG
        )
    replace_key_file(path, _sealed(keys, chosen))
    say(f"{path} opens with the new passphrase only.", style="green")
    advise(
        f"{where}, and keep a copy of the file elsewhere, as before. Destroy older copies: they open with the old "
        "passphrase. If somebody else may have had such a copy and the old passphrase, the keys are known, and this is "
        "not enough: exchange keys renew."
    )


def renew(
    folder: Annotated[Path, typer.Argument(help="New folder for the key file, the card and the adherence.")],
    agency: Annotated[bool, typer.Option("--agency", help="A new agency key.")] = False,
    node: Annotated[bool, typer.Option("--node", help="A new node key.")] = False,
    home: HomeOption = None,
) -> None:
    """Make new keys for the roster to list, in a folder beside the home. Nothing of the running node changes."""
    if not agency and not node:
        fail("Say which: --agency, --node, or both.", code=SET_UP_WRONG)
    kept = _at_the_office(home, node=node) if keys_are_here(home) else _at_the_node(home, agency=agency)
    if folder.exists():
        fail(f"{folder} is there already. Name a new folder; nothing was made.", code=SET_UP_WRONG)
    keys = kept.keys
    if agency:
        keys = replace(keys, agency=AgencyKey(secrets.token_bytes(KEY_BYTES)))
    if node:
        keys = replace(keys, node=NodeKey(secrets.token_bytes(KEY_BYTES)))
    card = _card(kept)
    contracts = _adopted(kept, card) if agency else []
    listed = {"agency_key": keys.agency, "node_key": keys.node}
    member = card.model_copy(update={name: key.public for name, key in listed.items() if key is not None})
    folder.mkdir(mode=0o700, parents=True)
    create_key_file(folder / kept.file.name, _sealed(keys, kept.passphrase))
    (folder / CARD_NAME).write_bytes(member_card(member) + b"\n")
    statements = _adhere(folder, contracts, keys)
    say(f"Made in {folder}, for the same passphrase. Tell by telephone: {key_ids(member)}", style="green")
    hand_over = ", ".join(map(str, (folder / CARD_NAME, *statements)))
    advise(f"Next:\n  1. Hand over {hand_over}.\n{kept.then}", style="")


@dataclass(frozen=True, slots=True)
class _Kept:
    """The keys of one machine as they are, and what lies beside them."""

    file: Path
    keys: KeySet
    passphrase: str = field(repr=False)
    roster: Path
    contracts: Path
    then: str
    """What to do once the roster lists the new ones."""


def _at_the_node(home: Path | None, *, agency: bool) -> _Kept:
    with refusals_told():
        settings = settings_to_open(home)
    keys = opened_keys(settings)
    if agency and keys.agency is None:
        fail(
            "The agency key is not on this node: it is renewed on the agency's own machine "
            "(exchange keys renew FOLDER --agency --home OFFICE).",
            code=SET_UP_WRONG,
        )
    return _Kept(
        file=settings.home / KEYS_NAME,
        keys=keys,
        passphrase=passphrase_of(settings),
        roster=settings.roster_path,
        contracts=settings.contracts_dir,
        then="  2. When the roster that lists them is here: stop the node, put that roster in its place, and from "
        f"the new folder {KEYS_NAME} and {CARD_NAME} into {settings.home}. Keep a copy of {KEYS_NAME} elsewhere.\n"
        "  3. exchange doctor, exchange serve; then delete the folder.",
    )


def _at_the_office(home: Path | None, *, node: bool) -> _Kept:
    if node:
        fail(
            "The node key is not here: it is renewed on the node's machine. Say --agency alone; nothing was made.",
            code=SET_UP_WRONG,
        )
    office = agency_folder(home) or Path()
    secret = agency_passphrase()
    return _Kept(
        file=office / AGENCY_KEYS_NAME,
        keys=opened_agency_keys(office / AGENCY_KEYS_NAME, secret),
        passphrase=secret,
        roster=office / ROSTER_NAME,
        contracts=office / CONTRACTS_NAME,
        then="  2. When the roster that lists it is here: stop what works with this folder, put that roster in its "
        f"place here and on the node, and from the new folder {AGENCY_KEYS_NAME} and {CARD_NAME} into {office}, and "
        f"{CARD_NAME} into the node's home. {STORE_NAME} stays where it is: its key is the same. Keep a copy of "
        f"{AGENCY_KEYS_NAME} elsewhere.\n"
        f"  3. exchange keys publish --home {office}; then delete the new folder.\n"
        f"  4. If somebody else may know the passphrase: exchange keys passphrase --home {office}",
    )


def _sealed(keys: KeySet, chosen: str) -> bytes:
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    return seal_keys(keys, chosen.encode(), salt=salt, nonce=nonce)


def _card(kept: _Kept) -> Member:
    path = kept.file.with_name(CARD_NAME)
    try:
        return parse_member_card(path.read_bytes().strip())
    except (OSError, RosterInvalidError):
        fail(f"{path} is missing or damaged: restore it from where you keep it. Nothing was made.", code=SET_UP_WRONG)


def _adopted(kept: _Kept, card: Member) -> list[bytes]:
    """Each contract that this agency has signed already: with one left out the roster's office refuses the new card."""
    try:
        roster = parse_roster(kept.roster.read_bytes())
    except (OSError, RosterInvalidError):
        advise(
            f"{kept.roster} cannot be read: no adherence is signed. If you adhere to a contract, the card with the new "
            "key is refused without: put the newest roster there, delete the new folder, and make it again."
        )
        return []
    if kept.keys.node is None:
        _tell_what_differs(kept.file.with_name(CARD_NAME), card, roster.members.get(card.agency))
    digests = [one.digest for one in roster.contracts if card.agency in one.members]
    on_file = contracts_on_file(kept.contracts)
    missing = [digest for digest in digests if digest not in on_file]
    if missing:
        fail(
            f"You adhere to {', '.join(missing)}, which is not in {kept.contracts} or cannot be read. The card with "
            "the new key is refused without your adherence to each. Get that file from another member "
            "(sha256sum FILE tells its digest), put it there under any name that ends in .yaml, and say this again; "
            "nothing was made.",
            code=SET_UP_WRONG,
        )
    return [on_file[digest] for digest in digests]


def _adhere(folder: Path, contracts: list[bytes], keys: KeySet) -> list[Path]:
    """Adherence to each of these contracts, with the new key."""
    if keys.agency is None:
        return []
    sign, now = keys.agency.sign, int(time.time() * 1000)
    return [sign_adherence(folder, folder / CONTRACTS_NAME, data, sign, now=now) for data in contracts]


def _tell_what_differs(path: Path, card: Member, listed: Member | None) -> None:
    """Address and node key are the node's to change: the card of the agency's own machine may be from before."""
    if listed is None:
        return
    before = card.model_copy(update={"status": listed.status})
    names = [name for name in Member.model_fields if getattr(before, name) != getattr(listed, name)]
    if names:
        advise(
            f"{path} says otherwise than the roster: {', '.join(names)}. The new card says what that one says. If that "
            f"is of before, delete the new folder, put the {CARD_NAME} of the node's home here, and make it again."
        )

"""`exchange keys passphrase` and `exchange keys renew`: the key file under another passphrase, or other keys in one.

Rules:

* The storage key stays: everything in the databases is sealed under it.
* A new passphrase replaces the file in one step. What was copied before opens with the old one.
* New keys go into a new folder, never over those that count: until every member has the roster that lists them the
  node goes on with the old ones. The card and the adherence that the roster needs are made with them.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from exchange.cli.adopt import sign_adherence
from exchange.cli.asking import agency_folder, keys_are_here
from exchange.cli.console import SET_UP_WRONG, advise, fail, refusals_told, say
from exchange.cli.init import new_passphrase, secret_in
from exchange.cli.passphrase import AGENCY_PASSPHRASE, opened_agency_keys, opened_keys, settings_to_open
from exchange.cli.profile import HomeOption
from exchange.cli.roster import key_ids
from exchange.client.vault.agency_keys import AGENCY_KEYS_NAME
from exchange.envelope.key_file import SALT_BYTES, KeySet, create_key_file, replace_key_file, seal_keys
from exchange.envelope.keys import KEY_BYTES, NONCE_BYTES, AgencyKey, NodeKey
from exchange.roster import Member, RosterInvalidError, member_card, parse_member_card, parse_roster
from exchange.settings import CARD_NAME, KEYS_NAME, SHORTEST_PASSPHRASE, Settings, load_settings

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
        keys, where = opened_agency_keys(path), _WHERE_THE_AGENCYS_OWN
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
    with refusals_told():
        settings = settings_to_open(home)
    keys = opened_keys(settings)
    if agency and keys.agency is None:
        fail("The agency key is not on this node: it is renewed on the agency's own machine.", code=SET_UP_WRONG)
    if folder.exists():
        fail(f"{folder} is there already. Name a new folder; nothing was made.", code=SET_UP_WRONG)
    if agency:
        keys = replace(keys, agency=AgencyKey(secrets.token_bytes(KEY_BYTES)))
    if node:
        keys = replace(keys, node=NodeKey(secrets.token_bytes(KEY_BYTES)))
    member = _renewed(settings, keys)
    folder.mkdir(mode=0o700, parents=True)
    assert settings.passphrase is not None  # noqa: S101 - of `settings_to_open`
    create_key_file(folder / KEYS_NAME, _sealed(keys, settings.passphrase.get_secret_value()))
    (folder / CARD_NAME).write_bytes(member_card(member) + b"\n")
    statements = _adhere(settings, folder, member.agency, keys) if agency else []
    say(f"Made in {folder}, for the same passphrase. Tell by telephone: {key_ids(member)}", style="green")
    hand_over = [folder / CARD_NAME, *statements]
    advise(
        f"Next:\n  1. Hand over {', '.join(map(str, hand_over))}.\n"
        "  2. When the roster that lists them is here: stop the node, put that roster in its place, and from "
        f"{folder} {KEYS_NAME} and {CARD_NAME} into {settings.home}. Keep a copy of {KEYS_NAME} elsewhere.\n"
        "  3. exchange doctor, exchange serve; then delete the folder.",
        style="",
    )


def _sealed(keys: KeySet, chosen: str) -> bytes:
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    return seal_keys(keys, chosen.encode(), salt=salt, nonce=nonce)


def _renewed(settings: Settings, keys: KeySet) -> Member:
    path = settings.home / CARD_NAME
    try:
        member = parse_member_card(path.read_bytes().strip())
    except (OSError, RosterInvalidError):
        fail(f"{path} is missing or damaged: restore it from where you keep it. Nothing was made.", code=SET_UP_WRONG)
    listed = {"agency_key": keys.agency, "node_key": keys.node}
    return member.model_copy(update={name: key.public for name, key in listed.items() if key is not None})


def _adhere(settings: Settings, folder: Path, agency: str, keys: KeySet) -> list[Path]:
    """Adherence to each contract that this agency has signed already, with the new key."""
    assert keys.agency is not None  # noqa: S101 - made by the caller
    try:
        adoptions = parse_roster(settings.roster_path.read_bytes()).contracts
    except (OSError, RosterInvalidError):
        advise(f"{settings.roster_path} cannot be read: sign your adherence when the new key counts.")
        return []
    sign, now = keys.agency.sign, int(time.time() * 1000)
    paths = [settings.contracts_dir / f"{one.digest}.yaml" for one in adoptions if agency in one.members]
    return [
        sign_adherence(folder, folder / "contracts", path.read_bytes(), sign, now=now)
        for path in paths
        if path.is_file()
    ]

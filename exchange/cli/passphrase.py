"""Opening the node's key file for a command that needs it: from the settings, or typed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from rich.prompt import Prompt

from exchange.cli.console import ERR, SET_UP_WRONG, fail
from exchange.envelope.errors import KeyFileError
from exchange.envelope.key_file import KeySet, open_keys, read_key_file
from exchange.envelope.keys import StorageKey
from exchange.settings import KEYS_NAME, Settings, load_settings

PASSPHRASE: Final = "EXCHANGE_PASSPHRASE"  # noqa: S105 - the name of a variable
AGENCY_PASSPHRASE: Final = "EXCHANGE_AGENCY_PASSPHRASE"  # noqa: S105 - the name of a variable


def passphrase_of(settings: Settings) -> str:
    """The passphrase that the settings name, or the one that is typed now."""
    if settings.passphrase is not None:
        return settings.passphrase.get_secret_value()
    if not sys.stdin.isatty():
        fail("The operator must set EXCHANGE_PASSPHRASE_FILE: nobody is here to type it.", code=SET_UP_WRONG)
    return Prompt.ask("Passphrase of this node's keys", password=True, console=ERR)


def settings_to_open(home: Path | None) -> Settings:
    """The settings with which this node can be opened: the passphrase is typed now where they name none."""
    settings = load_settings(home=home)
    if settings.passphrase is not None:
        return settings
    return load_settings(home=home, passphrase=SecretStr(passphrase_of(settings)))


def opened_agency_keys(path: Path, passphrase: str) -> KeySet:
    """The agency's own keys, where no node holds them; a wrong passphrase or an exposed file ends the program."""
    try:
        return open_keys(read_key_file(path), passphrase.encode())
    except FileNotFoundError:
        fail(f"{path} is not there: name the folder that `exchange init --keys-elsewhere` made.", code=SET_UP_WRONG)
    except KeyFileError as refused:
        fail(str(refused), code=SET_UP_WRONG)


def agency_passphrase() -> str:
    """The passphrase of the agency's own keys: from the environment, or typed now."""
    found = os.environ.get(AGENCY_PASSPHRASE)
    if found:
        return found
    if not sys.stdin.isatty():
        fail(f"Set {AGENCY_PASSPHRASE}: nobody is here to type the passphrase.", code=SET_UP_WRONG)
    return Prompt.ask("Passphrase of the agency's own keys", password=True, console=ERR)


def opened_storage_key(settings: Settings) -> StorageKey:
    """The storage key of this node, as `opened_keys`."""
    return storage_key_among(opened_keys(settings))


def storage_key_among(keys: KeySet) -> StorageKey:
    """The storage key; without one the program ends."""
    if keys.storage is None:
        fail("The key file holds no storage key: it is not a node's.", code=SET_UP_WRONG)
    return keys.storage


def opened_keys(settings: Settings) -> KeySet:
    """The keys of this node; a wrong passphrase or an exposed file ends the program."""
    path = settings.home / KEYS_NAME
    try:
        return open_keys(read_key_file(path), passphrase_of(settings).encode())
    except FileNotFoundError:
        fail(f"{path} is not there: run `exchange init` first.", code=SET_UP_WRONG)
    except OSError as refused:
        fail(f"{path} cannot be read: {refused.strerror}.", code=SET_UP_WRONG)
    except KeyFileError as refused:
        fail(str(refused), code=SET_UP_WRONG)

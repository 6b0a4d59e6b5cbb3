"""What a test process works out once: functions that give the same for the same, and took a tenth of all tests' time.

Nothing here decides anything, and nothing is skipped that differs from what was there before.
"""

from __future__ import annotations

import functools
from typing import Final

import httpx2._transports.asgi
import typer.testing
import yaml

from contracts import located_yaml
from contracts.located_yaml import LocatedDocument
from contracts.problems import ContractProblem
from exchange.cli import founding
from exchange.envelope import key_file
from exchange.envelope.key_file import KdfCost, KeySet, seal_keys

_scan: Final = located_yaml._refuse_references


@functools.lru_cache(maxsize=16)
def _scanned(text: str) -> tuple[list[yaml.Event], list[ContractProblem]]:
    document = LocatedDocument()
    return _scan(text, document), document.problems


def _scan_once(text: str, document: LocatedDocument) -> list[yaml.Event]:
    events, problems = _scanned(text)
    document.problems.extend(problems)
    return events


def seal_keys_with_one_salt(keys: KeySet, passphrase: bytes, *, salt: bytes, nonce: bytes, cost: KdfCost) -> bytes:
    """So that what is derived for one new node's key file is derived for all."""
    return seal_keys(keys, passphrase, salt=bytes(len(salt)), nonce=nonce, cost=cost)


def install() -> None:
    """From now on."""
    # Building the command line took half of the time of a command that a test calls.
    typer.testing._get_command = functools.cache(typer.testing._get_command)
    # Scanning the shipped contract takes most of reading it.
    located_yaml._refuse_references = _scan_once
    # A module that is not there was looked for in all paths, for every request.
    httpx2._transports.asgi.is_running_trio = functools.cache(httpx2._transports.asgi.is_running_trio)
    # By passphrase, salt and cost.
    key_file._aead = functools.cache(key_file._aead)
    founding.seal_keys = seal_keys_with_one_salt

"""Key files: an agency's and a node's long-lived secrets under a passphrase.

Rules:

* One file holds one set of keys, so that one derivation opens it. The derivation is argon2id with a random salt; its
  cost stands in the file, is authenticated, and has a floor and a ceiling: a weakened file is refused, and so is one
  that would exhaust the machine.
* Below the plain members everything is sealed with XChaCha20-Poly1305; the plain members are associated data.
* A wrong passphrase and a damaged file look alike, on purpose, and give one sentence.
* A file is written with mode 0600 beside its place, flushed, put in place in one step, and the folder is flushed. An
  existing file is never overwritten but by `replace_key_file`. What root writes belongs to the owner of the folder.
* A file that the group or the world can read is refused, not repaired: its keys may be known already.
* The passphrase is an argument. Asking for it is the command line's business.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nacl.pwhash import argon2id
from nacl.secret import Aead

from contracts.canonical_json import canonical
from exchange.envelope.errors import KeyFileError, KeyFileFault, KeyUnusableError, MalformedError, TooLargeError
from exchange.envelope.keys import (
    KEY_BYTES,
    NACL_REFUSALS,
    NONCE_BYTES,
    AgencyKey,
    EpochKey,
    NodeKey,
    Secret,
    StorageKey,
)
from exchange.envelope.tags import Tag, framed
from exchange.envelope.wire import from_base64url, is_positive, parse_canonical, to_base64url

FORMAT: Final = "referral-exchange-keys/v1"
SHORTEST_PASSPHRASE: Final = 12
SALT_BYTES: Final = argon2id.SALTBYTES
_LONGEST_FILE: Final = 64 * 1024
_LONGEST_SEALED: Final = 32 * 1024
_MODE: Final = 0o600
_PLAIN: Final = frozenset({"format", "kdf", "opslimit", "memlimit", "salt"})


@dataclass(frozen=True, slots=True)
class KdfCost:
    """What one derivation costs."""

    opslimit: int
    """Passes over the memory."""
    memlimit: int
    """Bytes of memory."""


MODERATE: Final = KdfCost(argon2id.OPSLIMIT_MODERATE, argon2id.MEMLIMIT_MODERATE)
"""The default: about half a second and 256 MiB."""
FLOOR: Final = KdfCost(argon2id.OPSLIMIT_INTERACTIVE, argon2id.MEMLIMIT_INTERACTIVE)
"""The weakest cost that is accepted when a file is read: 64 MiB."""
CEILING: Final = KdfCost(16, argon2id.MEMLIMIT_SENSITIVE)
"""The most expensive cost that is accepted: 1 GiB."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """The secrets in one file. A keyless node's has no agency key; that of its agency's own software no node key."""

    agency: AgencyKey | None = None
    node: NodeKey | None = None
    storage: StorageKey | None = None
    epochs: tuple[EpochKey, ...] = ()


_CLASSES: Final[Mapping[str, type[Secret]]] = {"agency": AgencyKey, "node": NodeKey, "storage": StorageKey}


def seal_keys(keys: KeySet, passphrase: bytes, *, salt: bytes, nonce: bytes, cost: KdfCost = MODERATE) -> bytes:
    """The bytes of a key file.

    Args:
        keys: what it holds.
        passphrase: at least 12 bytes.
        salt: 16 fresh random bytes.
        nonce: 24 fresh random bytes.
        cost: of the derivation; anything but the default belongs in a test.

    Raises:
        KeyFileError: `passphrase-too-short`.
    """
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise KeyFileError(KeyFileFault.SHORT)
    if len(salt) != SALT_BYTES or len(nonce) != NONCE_BYTES:
        raise KeyFileError(KeyFileFault.MALFORMED)
    plain: dict[str, Any] = {
        "format": FORMAT,
        "kdf": "argon2id",
        "opslimit": cost.opslimit,
        "memlimit": cost.memlimit,
        "salt": to_base64url(salt),
    }
    sealed = _aead(passphrase, salt, cost).encrypt(_written(keys), framed(Tag.KEY_FILE, canonical(plain)), nonce)
    return canonical({**plain, "sealed": to_base64url(bytes(sealed))}) + b"\n"


def open_keys(data: bytes, passphrase: bytes, *, floor: KdfCost = FLOOR) -> KeySet:
    """The keys in a key file.

    Args:
        data: the bytes of the file.
        passphrase: what it was sealed with.
        floor: the weakest derivation accepted; anything but the default belongs in a test.

    Raises:
        KeyFileError: `key-file-malformed`, `key-file-weak` or `passphrase-wrong`.
    """
    try:
        members = parse_canonical(data.removesuffix(b"\n"), longest=_LONGEST_FILE)
        if members.keys() != _PLAIN | {"sealed"} or members["format"] != FORMAT or members["kdf"] != "argon2id":
            raise KeyFileError(KeyFileFault.MALFORMED)
        salt = from_base64url(members["salt"], member="salt", longest=SALT_BYTES)
        sealed = from_base64url(members.pop("sealed"), member="sealed", longest=_LONGEST_SEALED)
    except (MalformedError, TooLargeError) as error:
        raise KeyFileError(KeyFileFault.MALFORMED) from error
    if len(salt) != SALT_BYTES or len(sealed) <= NONCE_BYTES:
        raise KeyFileError(KeyFileFault.MALFORMED)
    cost = _cost_within(members, floor)
    try:
        content = _aead(passphrase, salt, cost).decrypt(sealed, framed(Tag.KEY_FILE, canonical(members)))
    except NACL_REFUSALS as error:
        raise KeyFileError(KeyFileFault.PASSPHRASE) from error
    return _read(content)


def _cost_within(members: Mapping[str, Any], floor: KdfCost) -> KdfCost:
    cost = KdfCost(members["opslimit"], members["memlimit"])
    if not is_positive(cost.opslimit) or not is_positive(cost.memlimit):
        raise KeyFileError(KeyFileFault.MALFORMED)
    if not floor.opslimit <= cost.opslimit <= CEILING.opslimit:
        raise KeyFileError(KeyFileFault.WEAK)
    if not floor.memlimit <= cost.memlimit <= CEILING.memlimit:
        raise KeyFileError(KeyFileFault.WEAK)
    return cost


def _aead(passphrase: bytes, salt: bytes, cost: KdfCost) -> Aead:
    return Aead(argon2id.kdf(KEY_BYTES, passphrase, salt, opslimit=cost.opslimit, memlimit=cost.memlimit))


def _written(keys: KeySet) -> bytes:
    members: dict[str, Any] = {}
    for name in _CLASSES:
        secret: Secret | None = getattr(keys, name)
        if secret is not None:
            members[name] = to_base64url(secret.secret_bytes())
    if keys.epochs:
        members["epochs"] = [to_base64url(key.secret_bytes()) for key in keys.epochs]
    return canonical(members)


def _read(content: bytes) -> KeySet:
    try:
        members = parse_canonical(content, longest=_LONGEST_SEALED)
        written = members.pop("epochs", [])
        if not members.keys() <= _CLASSES.keys() or type(written) is not list:
            raise KeyFileError(KeyFileFault.MALFORMED)
        found: dict[str, Any] = {name: _CLASSES[name](_secret(text)) for name, text in members.items()}
        return KeySet(**found, epochs=tuple(EpochKey(_secret(text)) for text in written))
    except (MalformedError, TooLargeError, KeyUnusableError) as error:
        raise KeyFileError(KeyFileFault.MALFORMED) from error


def _secret(text: object) -> bytes:
    return from_base64url(text, member="key", longest=KEY_BYTES)


def create_key_file(path: Path, data: bytes) -> None:
    """Write a new key file, durably. Either the whole file is there afterwards, or none.

    Raises:
        KeyFileError: `key-file-exists`.
    """
    beside = _write_beside(path, data)
    try:
        # A hard link refuses an existing name, which a rename would silently replace.
        os.link(beside, path)
    except FileExistsError as error:
        raise KeyFileError(KeyFileFault.EXISTS) from error
    finally:
        beside.unlink()
    _flush_folder(path.parent)


def replace_key_file(path: Path, data: bytes) -> None:
    """Put a key file in the place of another, durably: a new passphrase, or a new set of keys."""
    beside = _write_beside(path, data)
    try:
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _write_beside(path: Path, data: bytes) -> Path:
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _MODE)
            if os.geteuid() == 0:
                # Written by root for the node's user, who could not read it at the next start.
                folder = path.parent.stat()
                os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return beside


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_key_file(path: Path) -> bytes:
    """The bytes of a key file that only its owner can read.

    Raises:
        FileNotFoundError: there is none.
        KeyFileError: `key-file-exposed` or `key-file-malformed`.
    """
    with path.open("rb") as file:
        # The open file is looked at, not its name, which could change in between.
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LONGEST_FILE:
            raise KeyFileError(KeyFileFault.MALFORMED)
        if stat.S_IMODE(status.st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(KeyFileFault.EXPOSED)
        return file.read()

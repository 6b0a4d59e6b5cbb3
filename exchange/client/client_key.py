"""The key with which a client proves who it is, and the file that holds it.

Rules:

* The file is a private JSON Web Key (RFC 8037, Ed25519), so that any other library can read it too.
* Only its owner may read the file; one that others can read is refused, since it may have been read already.
* The key never shows: neither in `repr` nor in an error.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from pathlib import Path
from typing import Any, Final

from nacl.signing import SigningKey

from exchange.client.errors import ClientSetupError
from exchange.oauth.assertion import sign_with_seed
from exchange.oauth.compact import Sign

SEED_BYTES: Final = 32
_OWNER_ONLY: Final = 0o600
_LONGEST_FILE: Final = 4096
_MEMBERS: Final = frozenset({"kty", "crv", "x", "d"})
_OPTIONAL: Final = frozenset({"alg", "use", "kid"})


class ClientKey:
    """An Ed25519 key of a client."""

    __slots__ = ("_seed", "_sign", "public")

    def __init__(self, seed: bytes) -> None:
        if type(seed) is not bytes or len(seed) != SEED_BYTES:
            raise ClientSetupError("A client key has 32 bytes.")
        self._seed = seed
        self._sign = sign_with_seed(seed)
        self.public: Final = bytes(SigningKey(seed).verify_key)

    def __repr__(self) -> str:
        return "<ClientKey>"

    @property
    def sign(self) -> Sign:
        """Signs with this key."""
        return self._sign

    def public_jwk(self) -> dict[str, str]:
        """What is registered at the node."""
        return {"kty": "OKP", "crv": "Ed25519", "x": _encode(self.public), "use": "sig"}

    def save(self, path: Path) -> None:
        """Write the private key to a new file that only its owner can read.

        Raises:
            ClientSetupError: the file exists; a key is never overwritten.
        """
        text = json.dumps({"kty": "OKP", "crv": "Ed25519", "x": _encode(self.public), "d": _encode(self._seed)})
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _OWNER_ONLY)
        except FileExistsError:
            raise ClientSetupError(f"{path} exists already; a key is never overwritten.") from None
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")

    @classmethod
    def load(cls, path: Path) -> ClientKey:
        """The key in a file that `save`, or any other library, wrote.

        Raises:
            ClientSetupError: there is no such file, others can read it, or it is not a private Ed25519 JWK.
        """
        try:
            with path.open("rb") as file:
                # The open file is looked at, not its name, which could change in between.
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                written = file.read(_LONGEST_FILE)
        except OSError:
            raise ClientSetupError(f"The client key {path} cannot be read.") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ClientSetupError(f"Run `chmod 600 {path}`: others can read this key; consider a new one.")
        try:
            members: Any = json.loads(written)
        except ValueError:
            raise ClientSetupError(f"{path} is not a JSON Web Key.") from None
        return cls._from_members(members, path)

    @classmethod
    def _from_members(cls, members: Any, path: Path) -> ClientKey:
        wrong = ClientSetupError(f"{path} is not a private Ed25519 JSON Web Key.")
        if not isinstance(members, dict) or not members.keys() >= _MEMBERS:
            raise wrong
        if members.keys() - _MEMBERS - _OPTIONAL or (members["kty"], members["crv"]) != ("OKP", "Ed25519"):
            raise wrong
        try:
            key = cls(base64.b64decode(members["d"] + "=", altchars=b"-_", validate=True))
        except (binascii.Error, ClientSetupError, TypeError, ValueError):
            raise wrong from None
        if members["x"] != _encode(key.public):
            raise wrong
        return key


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")

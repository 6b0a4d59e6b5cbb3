"""Database values sealed under the storage key: headers, consent provisions, private halves of epoch keys.

Rules:

* A value is bound to its table, column and row: copied anywhere else it does not open.
* The first byte is the version of this format; an unknown version is refused.
* Opening is an explicit call. No database column decrypts by itself.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_aead_xchacha20poly1305_ietf_encrypt

from exchange.envelope.errors import SealedRowError
from exchange.envelope.keys import NACL_REFUSALS, NONCE_BYTES, RowKey
from exchange.envelope.tags import Tag, framed, one_more

VERSION: Final = b"\x01"
_SEALED_AT: Final = len(VERSION) + NONCE_BYTES
_SHORTEST: Final = _SEALED_AT + 16


class SealedRows:
    """Seals and opens database values under one node's storage key."""

    __slots__ = ("_key",)

    def __init__(self, key: RowKey) -> None:
        # The key object, not a cipher that holds its bytes: it refuses to be pickled, copied or shown.
        self._key = key

    def seal(self, value: bytes, *, table: str, column: str, row: str, nonce: bytes) -> bytes:
        """The sealed value; `nonce` is 24 fresh random bytes."""
        if len(nonce) != NONCE_BYTES:
            raise SealedRowError
        bound = _bound(table, column, row)
        sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(value, bound, nonce, self._key.secret_bytes())
        return VERSION + nonce + sealed

    def open(self, sealed: bytes, *, table: str, column: str, row: str) -> bytes:
        """The value.

        Raises:
            SealedRowError: another place, another key, an unknown version, or changed.
        """
        if len(sealed) < _SHORTEST or not sealed.startswith(VERSION):
            raise SealedRowError
        try:
            return crypto_aead_xchacha20poly1305_ietf_decrypt(
                sealed[_SEALED_AT:],
                _bound(table, column, row),
                sealed[len(VERSION) : _SEALED_AT],
                self._key.secret_bytes(),
            )
        except NACL_REFUSALS as error:
            raise SealedRowError from error

    def __repr__(self) -> str:
        return "<SealedRows>"


def _bound(table: str, column: str, row: str) -> bytes:
    return _column(table, column) + one_more(row.encode())


@cache
def _column(table: str, column: str) -> bytes:
    return framed(Tag.SEALED_ROW, table.encode(), column.encode())

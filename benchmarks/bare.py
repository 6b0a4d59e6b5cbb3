"""The limit of this machine: the same payload with nothing around it. Run as a module it is the receiving side.

Sealed with the same primitives (SealedBox, XChaCha20-Poly1305, Ed25519), committed on the sending side (SQLite, WAL,
synchronous=FULL, commits shared by whoever waits), posted to a bare ASGI application under uvicorn, verified, opened
and committed there before the answer. No consent, contract, token, header, receipt, audit, inbox or courier.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.secret import Aead
from nacl.signing import SigningKey, VerifyKey

PADDED_BYTES: Final = 4096
_SEED: Final = bytes(range(32))
"""Both sides derive their keys from it: nothing here is secret."""


def bare_seal(content: bytes) -> bytes:
    """One sealed and signed payload, as JSON."""
    dek = os.urandom(32)
    wrapped = SealedBox(PublicKey(bytes(PrivateKey(_SEED).public_key))).encrypt(dek)
    padded = content + b"\x80" + bytes(PADDED_BYTES - len(content) - 1)
    ciphertext = bytes(Aead(dek).encrypt(padded, b"", os.urandom(24)))
    signed = SigningKey(_SEED).sign(wrapped + ciphertext).signature
    return json.dumps([base64.b64encode(part).decode() for part in (wrapped, ciphertext, signed)]).encode()


def bare_open(body: bytes) -> bytes:
    """What is inside."""
    wrapped, ciphertext, signed = (base64.b64decode(part) for part in json.loads(body))
    VerifyKey(bytes(SigningKey(_SEED).verify_key)).verify(wrapped + ciphertext, signed)
    padded = Aead(SealedBox(PrivateKey(_SEED)).decrypt(wrapped)).decrypt(ciphertext, b"")
    return bytes(padded).rstrip(b"\x00")[:-1]


class Shelf:
    """One table, durable; whoever waits at the same moment shares a commit."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE shelf (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._carrier: asyncio.Task[None] | None = None

    async def keep(self, body: bytes) -> None:
        """Return when it is on the disk."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, future))
        if self._carrier is None or self._carrier.done():
            self._carrier = asyncio.create_task(self._carry())
        await future

    async def _carry(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            self._connection.execute("BEGIN IMMEDIATE")
            for body, _ in taken:
                self._connection.execute("INSERT INTO shelf (body) VALUES (?)", (body,))
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.execute, "COMMIT")
            for _, future in taken:
                future.set_result(None)

    def close(self) -> None:
        """Give everything back."""
        self._thread.shutdown()
        self._connection.close()


Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def application(shelf: Shelf) -> Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]:
    """Opens and keeps what is posted."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        bare_open(body)
        await shelf.keep(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


def main(descriptor: int, path: Path) -> None:
    """Serve on a socket that is bound already, until told to stop or the parent is gone."""
    import uvicorn

    threading.Thread(target=_stop_with_parent, daemon=True).start()
    shelf = Shelf(path)
    config = uvicorn.Config(application(shelf), lifespan="off", access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])
    shelf.close()


def _stop_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

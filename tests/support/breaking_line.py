"""A line to a PostgreSQL server that breaks, for good, as soon as somebody asks for something."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url

_READ_BYTES = 65536


class BreakingLine:
    """Carries every connection to the server until a statement holds these words."""

    def __init__(self, server: str, words: bytes) -> None:
        self._server = make_url(server)
        self._words = words
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.broken = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def along(self, url: str) -> str:
        """The address of a database of the server over this line."""
        return make_url(url).set(port=self._listener.getsockname()[1]).render_as_string(hide_password=False)

    def cut(self) -> None:
        """End what is there; nobody connects any more."""
        self.broken.set()
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                its = socket.create_connection((str(self._server.host), self._server.port or 5432))
                self._ends += [ours, its]
                if self.broken.is_set():
                    self.cut()
                threading.Thread(target=self._carry, args=(ours, its), daemon=True).start()
                threading.Thread(target=self._carry, args=(its, ours), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_READ_BYTES):
                if self._words in data:
                    self.cut()
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)


@contextmanager
def breaking_line(server: str, words: bytes) -> Iterator[BreakingLine]:
    """A line for one test."""
    line = BreakingLine(server, words)
    try:
        yield line
    finally:
        line.cut()

"""The file of the agency's key store: made for its owner only, opened beside other programs, refusals in a sentence.

Rules:

* A file that is there is opened by SQLite alone. To close any other descriptor of it would drop the locks of every
  connection that this process has to it: another program that closes the file then takes the write-ahead log away, and
  what this one stores afterwards is in no file.
* Nothing is stored once another file lies in its place, or none: nobody would find it there.
* Of two programs that open a new file at the same moment SQLite refuses one without waiting: it asks again.
* What SQLite refuses is told as a `VaultError`: a full disk, or another program that is busy with the file, is no
  defect of the program that calls. Nothing was stored then.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from exchange.client.vault.errors import VaultError

_BUSY_S: Final = 5.0
_AGAIN_S: Final = 0.01
_PRAGMAS: Final = ("synchronous=FULL", "secure_delete=ON", "temp_store=MEMORY")
_OWNER_ONLY: Final = 0o600
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def connected(path: Path, tables: str) -> tuple[sqlite3.Connection, tuple[int, int] | None]:
    """The file with its tables, made if it is not there; and which file it is.

    Raises:
        VaultError: `store-busy`, `store-unusable`.
        OSError: it is a link, or may not be made.
    """
    _make(path)
    # Looked at before it is opened: what is put in its place meanwhile counts as another one.
    file = file_at(path)
    with _refusals_told():
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, factory=_Connection)
    try:
        _write_ahead(connection)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        with _refusals_told():
            # In one transaction that waits for its turn: two who make the tables at once are refused otherwise.
            connection.executescript(f"BEGIN IMMEDIATE; {tables} COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection, file


def file_at(path: Path) -> tuple[int, int] | None:
    """Which file lies there now; nothing where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def check_same_file(path: Path, opened: tuple[int, int] | None) -> None:
    """Asked before every commit.

    Raises:
        VaultError: `store-replaced`.
    """
    if opened is None or file_at(path) != opened:
        raise VaultError(
            "store-replaced",
            "The file of the key store was replaced or removed while this program used it. Nothing was stored. See "
            "that the newest file lies there, and start the program again.",
        )


def _make(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _OWNER_ONLY))
    except FileExistsError:
        if path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None


def _write_ahead(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except VaultError as refused:
            if refused.code != "store-busy" or time.monotonic() >= deadline:
                raise
        else:
            return
        time.sleep(_AGAIN_S)


@contextmanager
def _refusals_told() -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        # The name of the error alone: no text of SQLite's, which may repeat what was asked or what lies there. What
        # Python refuses by itself, as bytes that are no text, has neither number nor name.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY:
            raise VaultError("store-busy", "Another program is busy with the key store. Try again.") from None
        name = getattr(error, "sqlite_errorname", "damaged")
        raise VaultError(
            "store-unusable",
            f"The key store cannot be read or written ({name}). Look at the disk, its room and the "
            "rights of the folder. Do not put an older copy in its place: it lacks the keys that came since.",
        ) from None


class _Cursor(sqlite3.Cursor):
    def execute(self, *asked: Any) -> _Cursor:
        with _refusals_told():
            super().execute(*asked)
        return self

    def fetchone(self) -> Any:
        with _refusals_told():
            return super().fetchone()

    def fetchall(self) -> list[Any]:
        with _refusals_told():
            return super().fetchall()


class _Connection(sqlite3.Connection):
    def cursor(self, *_: Any) -> _Cursor:  # type: ignore[override]  # whatever cursor is asked for
        return super().cursor(_Cursor)

    def execute(self, *asked: Any) -> _Cursor:
        return self.cursor().execute(*asked)

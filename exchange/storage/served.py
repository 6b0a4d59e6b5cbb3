"""A SQLite database is served by one `exchange serve` at a time.

Rules:

* Who serves holds an advisory lock on `<database>-served`. What it starts inherits that, and the kernel gives it
  back with the last of them, however they end. The file itself is empty, stays there and says nothing.
* It is never the database's own file: closing any descriptor of that drops the locks that SQLite holds on it.
* Commands that work beside a node take no lock. On PostgreSQL as many may serve as like.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from exchange.storage.engine import create_file, parse_url
from exchange.storage.errors import NOT_OPENED, StorageServedError, StorageUnavailableError


@contextmanager
def held(*urls: str) -> Iterator[tuple[int, ...]]:
    """The locks of these databases, as descriptors to hand on to every process that serves them.

    Raises:
        StorageServedError: another node serves one of them.
        StorageUnavailableError: a lock cannot be asked for.
    """
    with ExitStack() as stack:
        files = [parsed.database for parsed in map(parse_url, urls) if parsed.get_backend_name() == "sqlite"]
        descriptors = []
        for file in files:
            descriptors.append(_lock(Path(f"{Path(str(file)).absolute()}-served")))
            stack.callback(os.close, descriptors[-1])
        yield tuple(descriptors)


def _lock(path: Path) -> int:
    try:
        with suppress(FileExistsError):
            create_file(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise StorageUnavailableError(NOT_OPENED) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise StorageServedError("Another `exchange serve` works with this database.") from None
        raise StorageUnavailableError("The database file lies on a disk that cannot share it safely.") from error
    return descriptor

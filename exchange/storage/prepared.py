"""Statements that are compiled once and then given to the driver as they are.

SQLAlchemy writes the text; at the call it is not there: its way to the driver costs five times what SQLite takes to
execute such a statement. `docs/decisions/0013-hot-path.md` has the measurements.

Rules:

* A statement is a constant; what varies is a bound parameter. Names of parameters that are no column begin with `the_`.
* Names, order, types and defaults are those that SQLAlchemy compiled. A parameter that a call leaves out is a mistake.
* Parameters are given by name, or as a row: the values of the columns of an INSERT, in the order in which these were
  named. The driver of SQLite takes values by place, and a row gets there without a detour over its names.
* An error of the driver is raised as SQLAlchemy would raise it, without values; a connection that is broken is dropped.
* The transaction is the connection's: nothing here begins or ends one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NoReturn

from sqlalchemy import Boolean, Connection, Dialect, LargeBinary
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from exchange.storage.statements import Both

Row = tuple[Any, ...]
Parameters = Mapping[str, Any] | Row
_Convert = Callable[[Any], Any]


class Prepared:
    """One statement of the hot path, on either database."""

    def __init__(self, statement: Executable | Both[Any], columns: Iterable[str] | None = None) -> None:
        """Take the statement, and for an INSERT or UPDATE without VALUES the columns that each call gives."""
        self._statement = statement
        self._columns = list(columns) if columns is not None else None
        self._texts: dict[str, _Text] = {}

    def run(self, conn: Connection, parameters: Parameters) -> int:
        """Execute; how many rows it concerned, where the driver knows."""
        count: int = self._text(conn).execute(conn, parameters).rowcount
        return count

    def run_each(self, conn: Connection, rows: Iterable[Parameters]) -> int:
        """Execute once for each; how many rows that concerned together, where the driver knows. Nothing for nobody."""
        given = list(rows)
        return self._text(conn).execute_each(conn, given) if given else 0

    def row(self, conn: Connection, parameters: Parameters) -> Row | None:
        """The first row, or nothing."""
        text = self._text(conn)
        row = text.execute(conn, parameters).fetchone()
        return None if row is None else text.converted(row)

    def rows(self, conn: Connection, parameters: Parameters) -> list[Row]:
        """Every row."""
        text = self._text(conn)
        return [text.converted(row) for row in text.execute(conn, parameters).fetchall()]

    def _text(self, conn: Connection) -> _Text:
        dialect = conn.dialect
        found = self._texts.get(dialect.name)
        if found is None:
            statement = self._statement.on(conn) if isinstance(self._statement, Both) else self._statement
            found = self._texts[dialect.name] = _Text(statement, dialect, self._columns)
        return found


class _Text:
    """A statement as one driver takes it."""

    def __init__(self, statement: Any, dialect: Dialect, columns: list[str] | None) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        if not isinstance(compiled, SQLCompiler) or compiled.post_compile_params:
            raise TypeError("a statement with a list in it has another text at each call")
        self._sql: Final = compiled.string
        self._names: Final = compiled.positiontup
        self._fixed: Final = _fixed(compiled)
        self._to_driver: Final = {
            name: convert
            for parameter, name in compiled.bind_names.items()
            if (convert := _to_driver(parameter.type, dialect)) is not None
        }
        self._columns: Final = tuple(columns or ())
        self._constants: Final = tuple(self._fixed.values())
        self._in_place: Final = _in_place((*self._columns, *self._fixed), self._names, self._to_driver)
        self._from_driver: Final[list[tuple[int, _Convert]]] = [
            (place, convert)
            for place, column in enumerate(getattr(statement, "exported_columns", ()))
            if (convert := column.type.dialect_impl(dialect).result_processor(dialect, None)) is not None
        ]
        self._error: Final = dialect.loaded_dbapi.Error
        # Within its driver's way of many at once (a pipeline) PostgreSQL ends no transaction that stands still.
        self._singly: Final = dialect.name == "postgresql"

    def execute(self, conn: Connection, parameters: Parameters) -> Any:
        """The driver's cursor."""
        driver: Any = conn.connection.dbapi_connection
        bound = self._bound(parameters)
        try:
            return driver.execute(self._sql, bound)
        except self._error as error:
            self._raise(conn, error)

    def execute_each(self, conn: Connection, rows: list[Parameters]) -> int:
        """How many rows it concerned together."""
        if self._singly:
            return sum(self.execute(conn, row).rowcount for row in rows)
        driver: Any = conn.connection.dbapi_connection
        bound = [self._bound(row) for row in rows]
        cursor = driver.cursor()
        try:
            cursor.executemany(self._sql, bound)
        except self._error as error:
            self._raise(conn, error)
        count: int = cursor.rowcount
        return count

    def _bound(self, parameters: Parameters) -> Any:
        if isinstance(parameters, tuple):
            if len(parameters) != len(self._columns) or getattr(parameters, "_fields", self._columns) != self._columns:
                raise TypeError("a row has the values of its statement's columns, in their order")
            if self._in_place is not None:
                return self._in_place((*parameters, *self._constants))
            parameters = dict(zip(self._columns, parameters, strict=False))
        given: Mapping[str, Any] = {**self._fixed, **parameters} if self._fixed else parameters
        if self._to_driver:
            given = {**given, **{name: convert(given[name]) for name, convert in self._to_driver.items()}}
        return given if self._names is None else list(map(given.__getitem__, self._names))

    def converted(self, row: Row) -> Row:
        """The row with the values that Core promises."""
        if not self._from_driver:
            return row
        values = list(row)
        for place, convert in self._from_driver:
            values[place] = convert(values[place])
        return tuple(values)

    def _raise(self, conn: Connection, error: Exception) -> NoReturn:
        broken = conn.dialect.is_disconnect(error, conn.connection.dbapi_connection, None)  # type: ignore[arg-type]
        raised = DBAPIError.instance(
            self._sql,
            None,
            error,
            self._error,
            hide_parameters=True,
            connection_invalidated=broken,
            dialect=conn.dialect,
        )
        if broken:
            conn.invalidate(error)
        raise raised from error


def _in_place(
    given: Sequence[str], names: Sequence[str] | None, to_driver: Mapping[str, _Convert]
) -> Callable[[Row], Row] | None:
    """Puts the values of a row, and the fixed ones behind them, where the driver wants them, if it takes them so."""
    if names is None or len(names) < 2 or not set(names) <= set(given) or not to_driver.keys().isdisjoint(given):  # noqa: PLR2004 - of one name itemgetter makes no row
        return None
    return itemgetter(*map(given.index, names))


def _to_driver(type_: TypeEngine[Any], dialect: Dialect) -> _Convert | None:
    if dialect.name == "sqlite" and isinstance(type_, LargeBinary | Boolean):
        return None  # The driver takes bytes and booleans as they are.
    return type_.dialect_impl(dialect).bind_processor(dialect)


def _fixed(compiled: SQLCompiler) -> dict[str, Any]:
    """Values that stand in the statement itself, and defaults of columns that no call gives."""
    fixed = {name: bound.effective_value for bound, name in compiled.bind_names.items() if not bound.required}
    for column in (*compiled.insert_prefetch, *compiled.update_prefetch):
        if not getattr(column.default, "is_scalar", False):
            raise TypeError("a default that is computed for each row cannot be prepared")
        fixed[column.key] = column.default.arg  # type: ignore[union-attr]
    return fixed

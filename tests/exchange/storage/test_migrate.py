"""Migrations, on both databases: all or nothing, one at a time, never backwards, equal to the tables in the code."""

from __future__ import annotations

import itertools
import json
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, Inspector, MetaData, create_engine, inspect, make_url, text
from sqlalchemy.pool import NullPool
from support.databases import KINDS, MakeDatabase

from exchange.storage import migrate, versions
from exchange.storage.engine import parse_url
from exchange.storage.errors import (
    DatabaseEncodingError,
    DatabaseNewerError,
    DatabaseOlderError,
    MigrationError,
    SchemaDriftError,
    StorageForbiddenError,
    StorageFullError,
    StorageUnavailableError,
)
from exchange.storage.versions import History

histories = pytest.mark.parametrize("history", list(History))

STEP = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = {revision!r}, {down!r}
branch_labels = depends_on = None
def upgrade():
{body}
"""


def steps(folder: Path, *bodies: str) -> Path:
    """A history of its own, for failures that the real one must never have."""
    down = None
    for number, body in enumerate(bodies, start=1):
        revision = f"test_{number}"
        indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
        (folder / f"{revision}.py").write_text(STEP.format(revision=revision, down=down, body=indented))
        down = revision
    return folder


PARENT_AND_CHILD = """
op.create_table("parent", sa.Column("id", sa.Integer, primary_key=True), sa.Column("old", sa.Text))
op.create_table("child", sa.Column("id", sa.Integer, primary_key=True),
                sa.Column("parent", sa.Integer, sa.ForeignKey("parent.id", ondelete="CASCADE", name="fk_child_parent")))
op.execute("INSERT INTO parent (id, old) VALUES (1, 'x')")
op.execute("INSERT INTO child (id, parent) VALUES (1, 1)")
"""
REBUILD = """
with op.batch_alter_table("parent") as batch:
    batch.drop_column("old")
"""
FAIL_HALF_WAY = """
op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
op.execute("INSERT INTO half (id) VALUES (1)")
op.execute("INSERT INTO half (id) VALUES (1)")
"""
BREAK_REFERENCES = """
op.execute("INSERT INTO child (id, parent) VALUES (2, 77)")
"""


def look(url: str, function: Any) -> Any:
    engine = create_engine(parse_url(url), poolclass=NullPool)
    with engine.connect() as connection:
        return function(connection)


def tables(url: str) -> set[str]:
    found: set[str] = look(url, lambda connection: set(inspect(connection).get_table_names()))
    return found


def shape(inspector: Inspector, table: str) -> Mapping[str, Any]:
    """Everything that Alembic's own comparison does not look at, too."""

    def plain(rows: Any) -> list[str]:
        return sorted(str(sorted((key, str(value)) for key, value in dict(row).items())) for row in rows)

    return {
        "columns": plain(inspector.get_columns(table)),
        "primary key": str(inspector.get_pk_constraint(table)),
        "unique": plain(inspector.get_unique_constraints(table)),
        "checks": plain(inspector.get_check_constraints(table)),
        "references": plain(inspector.get_foreign_keys(table)),
        "indexes": plain(
            # The condition of a partial index is an object without a value of its own.
            row | {"dialect_options": {key: str(value) for key, value in row.get("dialect_options", {}).items()}}
            for row in inspector.get_indexes(table)
        ),
    }


@histories
def test_migrations_make_exactly_the_tables_of_the_code(make_database: MakeDatabase, history: History) -> None:
    with make_database(history) as migrated, make_database(None) as created:
        migrate.check(migrated, history.metadata)
        engine = create_engine(parse_url(created), poolclass=NullPool)
        history.metadata.create_all(engine)
        assert tables(migrated) == tables(created) | {"alembic_version"}
        for table in history.metadata.tables:
            wanted, found = (
                look(url, lambda connection, table=table: shape(inspect(connection), table))
                for url in (created, migrated)
            )
            assert found == wanted, table


@histories
def test_the_names_of_the_files_are_the_versions_that_alembic_knows(history: History) -> None:
    scripts = ScriptDirectory.from_config(migrate._config(history, history.folder))
    assert versions.known_versions(history.folder) == [step.revision for step in scripts.walk_revisions()][::-1]
    assert versions.newest(history) == scripts.get_current_head()


def test_looking_at_a_version_does_not_load_what_migrates() -> None:
    code = "import sys, exchange.storage.versions; sys.exit('alembic' in sys.modules)"
    root = Path(migrate.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


@histories
def test_upgrading_twice_changes_nothing(make_database: MakeDatabase, history: History) -> None:
    with make_database(None) as url:
        assert versions.current(url) is None
        assert migrate.upgrade(url, history) == migrate.upgrade(url, history) == versions.newest(history)
        assert versions.current(url) == versions.newest(history)
        versions.ensure_current(url, history)


def test_a_step_that_fails_leaves_nothing_half_done(empty_database_url: str, tmp_path: Path) -> None:
    migrate.upgrade(empty_database_url, versions=steps(tmp_path, PARENT_AND_CHILD))
    before = tables(empty_database_url)
    with pytest.raises(MigrationError):
        migrate.upgrade(empty_database_url, versions=steps(tmp_path, PARENT_AND_CHILD, REBUILD, FAIL_HALF_WAY))
    assert tables(empty_database_url) == before
    assert versions.current(empty_database_url) == "test_1"
    columns = look(empty_database_url, lambda connection: inspect(connection).get_columns("parent"))
    assert [column["name"] for column in columns] == ["id", "old"]


def test_what_is_done_after_the_steps_is_done_with_them_or_not_at_all(empty_database_url: str, tmp_path: Path) -> None:
    seen = []

    def after(connection: Connection, before: str | None) -> None:
        seen.append(before)
        connection.execute(text("UPDATE parent SET id = 2"))
        if before == "test_1":
            raise RuntimeError

    url = empty_database_url
    migrate.upgrade(url, versions=steps(tmp_path, PARENT_AND_CHILD.replace("VALUES (1, 1)", "VALUES (1, NULL)")))
    with pytest.raises(MigrationError):
        migrate.upgrade(url, after=after, versions=steps(tmp_path, PARENT_AND_CHILD, REBUILD))
    assert versions.current(url) == "test_1"
    assert look(url, lambda connection: connection.execute(text("SELECT id, old FROM parent")).all()) == [(1, "x")]
    migrate.upgrade(url, versions=steps(tmp_path, PARENT_AND_CHILD, REBUILD))
    migrate.upgrade(url, after=after, versions=tmp_path)
    assert seen == ["test_1", "test_2"]
    assert look(url, lambda connection: connection.execute(text("SELECT id FROM parent")).all()) == [(2,)]


def test_a_first_upgrade_that_fails_leaves_an_empty_database(empty_database_url: str, tmp_path: Path) -> None:
    with pytest.raises(MigrationError):
        migrate.upgrade(empty_database_url, versions=steps(tmp_path, FAIL_HALF_WAY))
    assert tables(empty_database_url) == set()
    assert versions.current(empty_database_url) is None


def test_rebuilding_a_table_keeps_the_rows_that_refer_to_it(empty_database_url: str, tmp_path: Path) -> None:
    migrate.upgrade(empty_database_url, versions=steps(tmp_path, PARENT_AND_CHILD, REBUILD))
    assert look(empty_database_url, lambda connection: connection.execute(text("SELECT id FROM child")).all()) == [(1,)]


def test_an_answer_that_was_kept_before_a_step_is_repeated_after_it(empty_database_url: str, tmp_path: Path) -> None:
    """A key that got lost on the way would make a second referral."""
    for file in sorted(History.MAIN.folder.glob("*.py"))[:4]:
        shutil.copy(file, tmp_path)
    assert migrate.upgrade(empty_database_url, versions=tmp_path) == "main_0004"
    engine = create_engine(parse_url(empty_database_url), poolclass=NullPool)
    stored = """
        INSERT INTO idempotency (client_id, key, request_digest, status_code, sealed_answer, expires_at)
        VALUES ('case-system', 'one-act', 'digest', 201, :sealed, 7)
    """
    with engine.begin() as connection:
        connection.execute(text(stored), {"sealed": b"sealed"})
    migrate.upgrade(empty_database_url)
    (row,) = look(empty_database_url, lambda connection: connection.execute(text("SELECT * FROM idempotency")).all())
    assert dict(row._mapping) == {
        "client_id": "case-system",
        "key": "one-act",
        "request_digest": "digest",
        "status_code": 201,
        "referral": None,
        "sealed_answer": b"sealed",
        "expires_at": 7,
    }


def test_what_was_listed_by_numbers_keeps_that_order(empty_database_url: str, tmp_path: Path) -> None:
    """A cursor of before has passed the lower numbers, whichever transaction they are of, and none of the higher."""
    for file in sorted(History.MAIN.folder.glob("*.py"))[:11]:
        shutil.copy(file, tmp_path)
    assert migrate.upgrade(empty_database_url, versions=tmp_path) == "main_0011"
    engine = create_engine(parse_url(empty_database_url), poolclass=NullPool)
    stored = text("INSERT INTO change (xid, referral, what, at) VALUES (:xid, 'one', 'sent', 1)")
    with engine.begin() as connection:
        for xid in (30, 10, 20):
            connection.execute(stored, {"xid": xid})
    migrate.upgrade(empty_database_url)
    in_order = text("SELECT seq FROM change ORDER BY xid, seq")
    assert look(empty_database_url, lambda connection: connection.execute(in_order).scalars().all()) == [1, 2, 3]


def test_a_step_that_breaks_references_is_undone(empty_database_url: str, tmp_path: Path) -> None:
    migrate.upgrade(empty_database_url, versions=steps(tmp_path, PARENT_AND_CHILD))
    with pytest.raises(MigrationError):
        migrate.upgrade(empty_database_url, versions=steps(tmp_path, PARENT_AND_CHILD, BREAK_REFERENCES))
    assert versions.current(empty_database_url) == "test_1"


def test_a_database_of_a_newer_version_is_refused_and_not_touched(database_url: str, tmp_path: Path) -> None:
    newer = "op.create_table('tomorrow', sa.Column('id', sa.Integer, primary_key=True))"
    with pytest.raises(DatabaseNewerError):
        migrate.upgrade(database_url, versions=steps(tmp_path, newer))
    assert "tomorrow" not in tables(database_url)
    engine = create_engine(parse_url(database_url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'main_9999'"))
    before = tables(database_url)
    for attempt in (migrate.upgrade, versions.ensure_current):
        with pytest.raises(DatabaseNewerError):
            attempt(database_url)
    assert tables(database_url) == before


def test_main_database_and_key_store_cannot_be_exchanged(database_url: str, key_store_url: str) -> None:
    with pytest.raises(MigrationError):
        versions.ensure_current(database_url, History.KEYS)
    with pytest.raises(MigrationError):
        migrate.upgrade(key_store_url, History.MAIN)


def test_tables_of_something_else_are_not_touched(empty_database_url: str) -> None:
    engine = create_engine(parse_url(empty_database_url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE case_management (id INTEGER)"))
    with pytest.raises(MigrationError):
        migrate.upgrade(empty_database_url)
    assert tables(empty_database_url) == {"case_management"}


def test_an_empty_database_is_too_old(empty_database_url: str) -> None:
    with pytest.raises(DatabaseOlderError):
        versions.ensure_current(empty_database_url)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("ALTER TABLE inbox ADD COLUMN extra TEXT", id="column-more"),
        pytest.param("ALTER TABLE inbox DROP COLUMN opened_at", id="column-less"),
        pytest.param("CREATE TABLE extra (id INTEGER PRIMARY KEY)", id="table-more"),
        pytest.param("DROP TABLE used_jti", id="table-less"),
        pytest.param("DROP INDEX ix_referral_forget", id="index-less"),
    ],
)
def test_drift_is_found(database_url: str, change: str) -> None:
    engine = create_engine(parse_url(database_url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(change))
    with pytest.raises(SchemaDriftError):
        migrate.check(database_url, History.MAIN.metadata)


THREE_AT_ONCE = """
import json, os, sys
from exchange.storage.migrate import upgrade
nodes = []
for _ in range(3):
    node = os.fork()
    if not node:
        try:
            upgrade(sys.argv[1])
            os._exit(0)
        finally:
            os._exit(1)
    nodes.append(node)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(node, 0)[1]) for node in nodes]))
"""
"""The program is loaded once, and they begin closer to each other than it takes to load."""


def test_several_starting_nodes_do_not_collide(empty_database_url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", THREE_AT_ONCE, empty_database_url],
        cwd=Path(migrate.__file__).parents[2],
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    assert json.loads(ended.stdout) == [0, 0, 0]
    migrate.check(empty_database_url, History.MAIN.metadata)


def test_a_database_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StorageUnavailableError):
        migrate.upgrade("postgresql://nobody@127.0.0.1:1/none")


def test_a_draft_of_an_unchanged_schema_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = migrate._config
    copied = tmp_path / "versions"
    copied.mkdir()
    for file in History.MAIN.folder.glob("*.py"):
        (copied / file.name).write_text(file.read_text())
    monkeypatch.setattr(migrate, "_config", lambda history, _versions: real(history, copied))
    written = migrate.draft(History.MAIN, "nothing")
    _, body = written.read_text().split("def upgrade() -> None:")
    assert [line for line in body.split("\n") if line.strip() and "#" not in line] == ["    pass"]


def earlier() -> Iterator[object]:
    """Every earlier version on both databases; on PostgreSQL `make test` has the first and the last of each history."""
    for history in History:
        before = versions.known_versions(history.folder)[:-1]
        for kind, version in itertools.product(KINDS, before):
            usual = kind == "sqlite" or version in {before[0], before[-1]}
            yield pytest.param(
                kind, history, version, id=f"{kind}-{version}", marks=[] if usual else [pytest.mark.faults]
            )


def up_to(folder: Path, history: History, version: str) -> Path:
    """The steps of a history as they were when this version was the newest."""
    for file in history.folder.glob("*_*.py"):
        if file.name[: len(version)] <= version:
            shutil.copy(file, folder)
    return folder


def fill(url: str) -> dict[str, list[dict[str, Any]]]:
    """A row in every table, with a value in every column; what lies there."""
    engine = create_engine(parse_url(url), poolclass=NullPool)
    metadata = MetaData()
    metadata.reflect(engine)
    rows = {}
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            if table.name == versions.VERSION_TABLE:
                continue
            row = {column.name: _value(column) for column in table.columns}
            connection.execute(table.insert().values(row))
            rows[table.name] = [row]
    return rows


def _value(column: Any) -> Any:
    return {bytes: b"\x00sealed", str: "word", bool: True, int: 7}[column.type.python_type]


@pytest.mark.parametrize(("database_kind", "history", "version"), list(earlier()))
def test_every_row_of_every_earlier_version_is_there_after_the_upgrade(
    empty_database_url: str, tmp_path: Path, history: History, version: str
) -> None:
    url = empty_database_url
    assert migrate.upgrade(url, history, versions=up_to(tmp_path, history, version)) == version
    before = fill(url)
    migrate.upgrade(url, history)
    migrate.check(url, history.metadata)
    for name, rows in before.items():
        table = history.metadata.tables[name]
        (after,) = look(url, lambda connection, table=table: connection.execute(table.select()).mappings().all())
        dropped = rows[0].keys() - after.keys()
        assert dropped <= {"fetched_at"}, name
        # `main_0012` makes the order of lists anew.
        anew = {"xid"} if version < "main_0012" else set()
        stays = rows[0].keys() - dropped - anew
        assert {column: after[column] for column in stays} == {column: rows[0][column] for column in stays}, name


FULL_HERE = """
pages = op.get_bind().exec_driver_sql("PRAGMA page_count").scalar_one()
op.get_bind().exec_driver_sql(f"PRAGMA max_page_count={pages + 3}").scalar_one()
try:
    op.execute("UPDATE parent SET old = hex(zeroblob(100000))")
finally:
    op.execute("DROP TABLE what_is_gone")
"""
"""As Alembic does where it rebuilds a table: what it tidies up is gone when a full disk has ended the transaction."""


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_disk_that_fills_up_half_way_is_named_and_everything_is_as_it_was(
    empty_database_url: str, tmp_path: Path
) -> None:
    url = empty_database_url
    migrate.upgrade(url, versions=steps(tmp_path, PARENT_AND_CHILD))
    with pytest.raises(StorageFullError):
        migrate.upgrade(url, versions=steps(tmp_path, PARENT_AND_CHILD, FULL_HERE))
    assert versions.current(url) == "test_1"
    assert look(url, lambda connection: connection.execute(text("SELECT id, old FROM parent")).all()) == [(1, "x")]
    assert migrate.upgrade(url, versions=steps(tmp_path, PARENT_AND_CHILD, REBUILD)) == "test_2"


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_a_role_that_may_not_is_told_so(database_url: str, empty_database_url: str) -> None:
    """As where an administrator has migrated: the node's own role may neither use the tables nor make some."""
    role = f"poor_{secrets.token_hex(4)}"
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    theirs = [
        make_url(url).set(username=role).render_as_string(hide_password=False)
        for url in (database_url, empty_database_url)
    ]
    try:
        with pytest.raises(StorageForbiddenError, match="own that database"):
            versions.ensure_current(theirs[0])
        with pytest.raises(StorageForbiddenError):
            migrate.upgrade(theirs[1])
    finally:
        with psycopg.connect(database_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.parametrize("database_kind", ["postgresql"])
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_script_is_refused_and_not_touched(
    empty_database_url: str, encoding: str
) -> None:
    name = f"test_{secrets.token_hex(6)}"
    make = "CREATE DATABASE {} ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    url = make_url(empty_database_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute(sql.SQL(make).format(sql.Identifier(name), sql.Literal(encoding)))
        try:
            for refused in (migrate.upgrade, versions.ensure_current):
                with pytest.raises(DatabaseEncodingError, match="ENCODING 'UTF8'"):
                    refused(url)
            with psycopg.connect(url) as there:
                assert there.execute("SELECT FROM pg_tables WHERE schemaname = 'public'").fetchall() == []
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


KILLED_HERE = """
op.execute("INSERT INTO parent (id) VALUES (2)")
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_upgrade_that_is_killed_half_way_leaves_everything_as_it_was(
    empty_database_url: str, tmp_path: Path
) -> None:
    url = empty_database_url
    migrate.upgrade(url, versions=steps(tmp_path, PARENT_AND_CHILD))
    steps(tmp_path, PARENT_AND_CHILD, REBUILD, KILLED_HERE)
    code = "import pathlib, sys; from exchange.storage.migrate import upgrade; "
    code += "upgrade(sys.argv[1], versions=pathlib.Path(sys.argv[2]))"
    done = subprocess.run(
        [sys.executable, "-c", code, url, str(tmp_path)], cwd=Path(migrate.__file__).parents[2], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert versions.current(url) == "test_1"
    for statement, rows in (("SELECT id, old FROM parent", [(1, "x")]), ("SELECT id, parent FROM child", [(1, 1)])):
        found = look(url, lambda connection, statement=statement: connection.execute(text(statement)).all())
        assert found == rows
    assert migrate.upgrade(url, versions=steps(tmp_path, PARENT_AND_CHILD, REBUILD, "pass")) == "test_3"

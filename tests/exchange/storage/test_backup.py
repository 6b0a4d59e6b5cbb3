"""The copy of a SQLite database that `docs/running-a-node.md` tells to make is whole while the node writes."""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from sqlalchemy import func, select

from exchange.storage.access import add_audit
from exchange.storage.database import Database
from exchange.storage.migrate import upgrade
from exchange.storage.tables import AUDIT
from exchange.storage.versions import ensure_current

PAGE = Path(__file__).parents[3] / "docs/running-a-node.md"


async def test_the_copy_has_everything_that_was_committed_before_it(tmp_path: Path) -> None:
    [statement] = re.findall(r'`sqlite3 node\.db "([^"]+)"`', PAGE.read_text(encoding="utf-8"))
    file, copy = tmp_path / "node.db", tmp_path / "copy.db"
    upgrade(f"sqlite:///{file}")
    database, done = Database.open(f"sqlite:///{file}"), threading.Event()

    def back_up() -> None:
        with closing(sqlite3.connect(file)) as other:
            other.execute(statement.replace("FILE", str(copy)))
        done.set()

    def one(at: int) -> None:
        database.write_sync(lambda conn: add_audit(conn, at=at, action="done", subject_id="x" * 4096))

    for at in range(200):
        one(at)
    copying = threading.Thread(target=back_up)
    copying.start()
    written = 200
    while not done.is_set():
        one(written)
        written += 1
    copying.join()
    await database.close()
    ensure_current(f"sqlite:///{copy}")
    restored = Database.open(f"sqlite:///{copy}")
    there, last = restored.read_sync(lambda conn: conn.execute(select(func.count(), func.max(AUDIT.c.at))).one())
    await restored.close()
    # Those that were there, and of the later ones each up to some moment.
    assert 200 <= there <= written
    assert last == there - 1

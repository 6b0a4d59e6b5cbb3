"""The search for planted words would find them, however a program wrote them."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.demo.search import search, spellings

WORD = "Kenanga Contoh, pintu ñ"


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(WORD.encode(), id="plain"),
        pytest.param(WORD.encode("utf-16-le"), id="utf-16"),
        pytest.param(WORD.encode().hex().encode(), id="hex"),
        pytest.param(b'"Kenanga Contoh, pintu \\u00f1"', id="json"),
        pytest.param(base64.b64encode(b"{" + WORD.encode() + b"}"), id="base64"),
        pytest.param(base64.urlsafe_b64encode(b"{{" + WORD.encode()), id="base64url"),
    ],
)
def test_every_spelling_is_found(tmp_path: Path, written: bytes) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(b"\0" * 100 + written + b"\0" * 100)
    (tmp_path / "other").write_bytes(b"nothing")
    found = search(tmp_path, (WORD,))
    assert {find.file.name for find in found.finds} == {"file"}
    assert len(found.files) == 2


@settings(max_examples=50)
@given(before=st.binary(max_size=7), after=st.binary(max_size=7))
def test_base64_is_found_at_any_place(before: bytes, after: bytes) -> None:
    written = base64.b64encode(before + WORD.encode() + after)
    assert any(needle in written for _, needle in spellings(WORD))


def test_a_word_in_a_write_ahead_log_is_found(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "node.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.commit()
        connection.execute("INSERT INTO t VALUES (?)", (WORD,))
        connection.commit()
        assert {find.file.name for find in search(tmp_path, (WORD,)).finds} == {"node.db-wal"}


def test_nothing_is_found_in_nothing(tmp_path: Path) -> None:
    assert search(tmp_path, (WORD,)).finds == ()

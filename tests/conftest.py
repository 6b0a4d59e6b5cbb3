"""Fixtures that every test folder may use; they live in tests/support."""

from support.databases import (
    _templates,
    database_kind,
    database_url,
    empty_database_url,
    key_store_url,
    make_database,
)
from support.postgres import postgres

__all__ = [
    "_templates",
    "database_kind",
    "database_url",
    "empty_database_url",
    "key_store_url",
    "make_database",
    "postgres",
]

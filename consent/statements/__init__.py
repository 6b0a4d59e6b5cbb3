"""The words with which consent is asked, as reviewed files with their provenance."""

from consent.statements.library import Statement, StatementLibrary, StatementStatus, Translation, read_statement

__all__ = ["Statement", "StatementLibrary", "StatementStatus", "Translation", "read_statement"]

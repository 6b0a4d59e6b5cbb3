"""Which words may be used to ask her: the library of consent statements.

Rules:

* A statement is a TOML file with its provenance: who wrote it and when, who reviewed it and when, language, version,
  the bases it was written for, and the SHA-256 of its text. If the text no longer has that digest, the file is refused:
  it was changed after somebody stood for it.
* Nothing unknown stands in a file, and nothing is missing.
* An original whose review is still outstanding says so (`draft-needs-local-review`). It serves sandbox and demo, where
  nobody is real; `without_drafts()` is the library for everything else.
* A translation is made by a person and reviewed by another person, who read it against one exact version of the
  original. Anything less is refused, also in a sandbox: she must not be the first to find out what the words mean.
* Of two files for one statement in one language reviewed words go before a draft, then the higher version counts; the
  same version twice is refused.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from datetime import date
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic import Field as Described

from consent.errors import StatementInvalidError
from consent.terms import Language, Sha256, StatementId
from contracts.vocabulary import Basis

MAX_STATEMENT_BYTES: Final = 65_536
_Who = Annotated[str, StringConstraints(min_length=3, max_length=200, strip_whitespace=True)]


class StatementStatus(StrEnum):
    """Whether somebody other than the writer has stood for the words."""

    DRAFT = "draft-needs-local-review"
    REVIEWED = "reviewed"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Translation(_Frozen):
    """Which original a translation renders, and who made it."""

    of_sha256: Sha256
    translated_by: _Who
    method: Literal["human"]


class Statement(_Frozen):
    """Words to say to her, and who stands for them."""

    id: StatementId
    language: Language
    version: Annotated[int, Described(ge=1, strict=True)]
    title: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    bases: Annotated[frozenset[Basis], Described(min_length=1)]
    status: StatementStatus
    written_by: _Who
    written_on: date
    reviewed_by: _Who | None = None
    reviewed_on: date | None = None
    translation: Translation | None = None
    sha256: Sha256
    text: Annotated[str, StringConstraints(min_length=1)]


def read_statement(data: bytes, source: str) -> Statement:
    """One statement from the bytes of its file.

    Raises:
        StatementInvalidError: with a stable code; `source` says which file.
    """
    if len(data) > MAX_STATEMENT_BYTES:
        raise StatementInvalidError("too-large", "A statement is at most 64 KiB.", source)
    try:
        members = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        # tomllib lets a date that does not exist out as a bare ValueError, and deep nesting as a RecursionError.
        raise StatementInvalidError("not-readable", "The file is not TOML in UTF-8.", source) from None
    try:
        statement = Statement.model_validate(members)
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, problem["loc"])) for problem in error.errors()}))
        sentence = f"Members are missing, unknown or malformed: {where}."
        raise StatementInvalidError("not-a-statement", sentence, source) from None
    _check_provenance(statement, source)
    return statement


def _check_provenance(statement: Statement, source: str) -> None:
    """The rules about who stands for the words, each with its own code."""
    if hashlib.sha256(statement.text.encode("utf-8")).hexdigest() != statement.sha256:
        sentence = "The text is not the one that the stated digest was made of."
        raise StatementInvalidError("text-changed", sentence, source)
    reviewed = statement.status is StatementStatus.REVIEWED
    if statement.translation is not None and not reviewed:
        sentence = "A translation has to be reviewed by a second person before anyone hears it."
        raise StatementInvalidError("translation-not-reviewed", sentence, source)
    if reviewed is (statement.reviewed_by is None) or reviewed is (statement.reviewed_on is None):
        sentence = "A reviewed statement says who reviewed it and when; a draft has no reviewer yet."
        raise StatementInvalidError("review-incomplete", sentence, source)
    makers = {statement.written_by.casefold()}
    if statement.translation is not None:
        makers = {statement.translation.translated_by.casefold()}
    if statement.reviewed_by is not None and statement.reviewed_by.casefold() in makers:
        sentence = "Nobody reviews their own words."
        raise StatementInvalidError("reviewed-by-its-writer", sentence, source)
    if statement.reviewed_on is not None and statement.reviewed_on < statement.written_on:
        sentence = "The review is older than the words."
        raise StatementInvalidError("review-too-early", sentence, source)


class StatementLibrary:
    """The statements that may be used, by id and language."""

    def __init__(self, statements: Iterable[tuple[str, Statement]]) -> None:
        """Take `(source, statement)` pairs; `source` only serves messages."""
        pairs = tuple(statements)
        originals = {statement.sha256 for _, statement in pairs if statement.translation is None}
        chosen: dict[tuple[str, str], Statement] = {}
        for source, statement in pairs:
            if statement.translation is not None and statement.translation.of_sha256 not in originals:
                sentence = "The original that this translation renders is not in the library."
                raise StatementInvalidError("original-unknown", sentence, source)
            key = (statement.id, statement.language)
            other = chosen.get(key)
            if other is not None and _rank(other) == _rank(statement):
                sentence = "This version of this statement stands in the library twice."
                raise StatementInvalidError("version-repeated", sentence, source)
            if other is None or _rank(other) < _rank(statement):
                chosen[key] = statement
        self._statements: Mapping[tuple[str, str], Statement] = MappingProxyType(chosen)

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """The shipped statements, and those an agency added in a folder of its own (`*.toml`).

        Raises:
            StatementInvalidError: one bad file refuses the library; a node does not start with half of its words.
        """
        shipped = files("consent.statements").joinpath("en")
        sources = [(entry.name, entry.read_bytes()) for entry in shipped.iterdir() if entry.name.endswith(".toml")]
        if folder is not None:
            sources += [(path.name, path.read_bytes()) for path in folder.glob("*.toml")]
        return cls((source, read_statement(data, source)) for source, data in sorted(sources))

    def get(self, statement_id: str, language: str) -> Statement | None:
        """The statement in exactly this language; nothing is substituted."""
        return self._statements.get((statement_id, language))

    def knows(self, statement_id: str) -> bool:
        """Whether the statement exists in some language."""
        return any(known == statement_id for known, _ in self._statements)

    def all(self) -> tuple[Statement, ...]:
        """Every statement, in the order of id and language."""
        return tuple(self._statements[key] for key in sorted(self._statements))

    def without_drafts(self) -> StatementLibrary:
        """The same library with reviewed words only: what a node with real people in it may use.

        A translation of an original that is still a draft goes too, since its reviewer stood for the rendering only.
        """
        reviewed = [entry for entry in self.all() if entry.status is StatementStatus.REVIEWED]
        originals = {entry.sha256 for entry in reviewed if entry.translation is None}
        return StatementLibrary(
            (entry.id, entry)
            for entry in reviewed
            if entry.translation is None or entry.translation.of_sha256 in originals
        )


def _rank(statement: Statement) -> tuple[bool, int]:
    """Reviewed words go before a draft, whatever its version: an upgrade never displaces what somebody stands for."""
    return (statement.status is StatementStatus.REVIEWED, statement.version)

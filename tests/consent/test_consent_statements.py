"""Which words may be used: provenance, review, translations."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from support.consents import STATEMENTS

from consent.errors import StatementInvalidError
from consent.statements import StatementLibrary, StatementStatus, read_statement
from contracts.vocabulary import EXCEPTION_BASES, Basis

TEXT = "I would like to ask you something."
FILIPINO = "May nais po akong itanong."
ORIGINAL_DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()
FILIPINO_DIGEST = hashlib.sha256(FILIPINO.encode()).hexdigest()


def written(words: str = TEXT, **changes: Any) -> bytes:
    """A statement file; a change to None leaves the line out."""
    lines: dict[str, Any] = {
        "id": '"adult-consent"',
        "language": '"en"',
        "version": "2",
        "title": '"Asking an adult"',
        "bases": '["consent"]',
        "status": '"reviewed"',
        "written_by": '"Caseworkers of Sunrise"',
        "written_on": "2026-01-10",
        "reviewed_by": '"Legal aid of Sunrise"',
        "reviewed_on": "2026-02-10",
        "sha256": f'"{hashlib.sha256(words.encode()).hexdigest()}"',
        "text": f'"{words}"',
    }
    return "\n".join(f"{key} = {value}" for key, value in (lines | changes).items() if value is not None).encode()


def translated(**changes: Any) -> bytes:
    of = changes.pop("of", ORIGINAL_DIGEST)
    method = changes.pop("method", "human")
    by = changes.pop("by", "Sworn translator 14")
    head = written(FILIPINO, **({"language": '"fil"'} | changes))
    return head + f'\n[translation]\nof_sha256 = "{of}"\ntranslated_by = "{by}"\nmethod = "{method}"\n'.encode()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\xff", "not-readable", id="not-utf-8"),
        pytest.param(b"text = ", "not-readable", id="not-toml"),
        pytest.param(written() + b'\nid = "other"', "not-readable", id="a-key-twice"),
        pytest.param(b"#" * 65_537, "too-large", id="too-large"),
        pytest.param(written(unknown="1"), "not-a-statement", id="an-unknown-member"),
        pytest.param(written(written_by=None), "not-a-statement", id="nobody-wrote-it"),
        pytest.param(written(bases="[]"), "not-a-statement", id="for-no-basis"),
        pytest.param(written(bases='["anything"]'), "not-a-statement", id="for-an-unknown-basis"),
        pytest.param(written(language='"English"'), "not-a-statement", id="not-a-language-tag"),
        pytest.param(written(version="0"), "not-a-statement", id="version-nought"),
        pytest.param(written(text=None), "not-a-statement", id="no-text"),
        pytest.param(written(text='"Other words."'), "text-changed", id="words-changed-after-the-review"),
        pytest.param(written(reviewed_by=None), "review-incomplete", id="reviewed-by-nobody"),
        pytest.param(written(reviewed_on=None), "review-incomplete", id="reviewed-never"),
        pytest.param(
            written(status='"draft-needs-local-review"'), "review-incomplete", id="a-draft-that-claims-a-reviewer"
        ),
        pytest.param(written(reviewed_by='"caseworkers of sunrise"'), "reviewed-by-its-writer", id="own-words"),
        pytest.param(written(reviewed_on="2026-01-09"), "review-too-early", id="reviewed-before-written"),
        pytest.param(
            translated(status='"draft-needs-local-review"', reviewed_by=None, reviewed_on=None),
            "translation-not-reviewed",
            id="a-translation-nobody-reviewed",
        ),
        pytest.param(translated(by="Legal aid of Sunrise"), "reviewed-by-its-writer", id="translator-reviews-himself"),
        pytest.param(translated(method="machine"), "not-a-statement", id="a-machine-translated-it"),
        pytest.param(translated(of="00"), "not-a-statement", id="of-no-original"),
    ],
)
def test_a_file_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(StatementInvalidError) as caught:
        read_statement(data, "adult.toml")
    assert caught.value.code == code
    assert caught.value.source == "adult.toml"


def test_one_bad_file_refuses_the_library(tmp_path: Path) -> None:
    (tmp_path / "adult.toml").write_bytes(written(text='"Other words."'))
    with pytest.raises(StatementInvalidError):
        StatementLibrary.load(tmp_path)


@pytest.mark.parametrize(
    ("files", "code"),
    [
        pytest.param([translated()], "original-unknown", id="the-original-is-missing"),
        pytest.param([written(), translated(of="0" * 64)], "original-unknown", id="of-another-original"),
        pytest.param(
            [written(), translated(), translated(of=FILIPINO_DIGEST, language='"ms"')],
            "original-unknown",
            id="of-a-translation",
        ),
        pytest.param([written(), written()], "version-repeated", id="the-same-version-twice"),
    ],
)
def test_a_library_is_refused(files: list[bytes], code: str) -> None:
    with pytest.raises(StatementInvalidError) as caught:
        StatementLibrary(("file", read_statement(data, "file")) for data in files)
    assert caught.value.code == code


def test_a_reviewed_translation_can_be_added(tmp_path: Path) -> None:
    (tmp_path / "adult.toml").write_bytes(written())
    (tmp_path / "adult.fil.toml").write_bytes(translated())
    library = StatementLibrary.load(tmp_path)
    added = library.get("adult-consent", "fil")
    assert added is not None
    assert added.text == FILIPINO
    assert library.get("adult-consent", "tl") is None
    assert library.without_drafts().get("adult-consent", "fil") == added


def test_an_agencys_reviewed_words_go_before_a_draft_of_any_version() -> None:
    draft = written(version="9", status='"draft-needs-local-review"', reviewed_by=None, reviewed_on=None)
    library = StatementLibrary(("file", read_statement(data, "file")) for data in (written(), draft))
    chosen = library.get("adult-consent", "en")
    assert chosen is not None
    assert chosen.status is StatementStatus.REVIEWED


def test_a_translation_of_a_draft_is_no_word_for_production() -> None:
    draft = written(status='"draft-needs-local-review"', reviewed_by=None, reviewed_on=None)
    library = StatementLibrary(("file", read_statement(data, "file")) for data in (draft, translated()))
    assert library.get("adult-consent", "fil") is not None
    assert library.without_drafts().all() == ()


def test_what_is_shipped_is_english_and_says_that_it_is_a_draft() -> None:
    assert {statement.language for statement in STATEMENTS.all()} == {"en"}
    assert {statement.status for statement in STATEMENTS.all()} == {StatementStatus.DRAFT}
    assert STATEMENTS.without_drafts().all() == ()


def test_there_are_words_for_every_basis_but_the_exceptions() -> None:
    covered = frozenset[Basis]().union(*(statement.bases for statement in STATEMENTS.all()))
    assert covered == frozenset(Basis) - EXCEPTION_BASES


@pytest.mark.parametrize("statement", STATEMENTS.all(), ids=lambda statement: statement.id)
def test_the_words_explain_the_limits_first_and_how_to_say_no(statement: Any) -> None:
    limits, asking, no = (
        statement.text.index(words)
        for words in ("What we keep to ourselves, and what we cannot.", "What I would like to ask.", "You can say no.")
    )
    assert limits < asking < no

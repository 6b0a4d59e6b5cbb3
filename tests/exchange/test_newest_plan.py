"""Which of her plans is the newest: by the sender's own numbers, as far as they are signed."""

from __future__ import annotations

from typing import Any

from contracts.canonical_json import canonical
from exchange.envelope.statements import ReleaseStatement, sign_statement
from exchange.storage.inbox import ArrivedHead
from exchange.use_cases.open_items import _number


def number_of(header: dict[str, Any], release: bytes | None = None) -> int:
    return _number(ArrivedHead("b0" * 16, header["kind"], canonical(header), release), header)


def test_a_disclosure_is_as_new_as_its_release_and_anything_else_as_its_header_says() -> None:
    """One that was held, or made anew, comes after a plan that was changed before it was released."""
    said = {"disclosure": "aa" * 32, "referral": "a0" * 16, "accepting": "bb" * 32, "roster_version": 1}
    statement = ReleaseStatement(**said, number=9, released_at=9, consent_live_at=9)  # type: ignore[arg-type]
    release = sign_statement(statement, lambda _: bytes(64)).to_bytes()
    assert number_of({"kind": "disclosure"}, release) == 9
    assert number_of({"kind": "update", "number": 8}) == 8

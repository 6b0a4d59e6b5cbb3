"""Write the vectors: `python tests/vectors/make_vectors.py` from the root of the repository. Same input, same bytes.

Each file is one object {source, about, cases}. Each case names its inputs and what is expected: `success`, or the code
with which every implementation must refuse. The runner is tests/exchange/envelope/test_vectors.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
SOURCE: Final = "referral-exchange, tests/vectors/make_vectors.py"
Case = dict[str, Any]


def _file(about: str, cases: Iterator[Case]) -> bytes:
    document = {"source": SOURCE, "about": about, "cases": list(cases)}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True).encode("ascii") + b"\n"


def build() -> dict[str, bytes]:
    """Every vector file by name."""
    from vectors import content_cases, envelope_cases, signature_cases, statement_cases

    parts: dict[str, tuple[str, Callable[[], Iterator[Case]]]] = {
        "headers.json": (
            "Header bytes as ASCII text. Parse strictly; `member` is the protocol's name of what is wrong.",
            envelope_cases.headers,
        ),
        "envelopes.json": (
            "Whole envelopes. Steps 1, 2, 5, 8, 13, 14, 15 with the keys given; on success the digest and the content.",
            envelope_cases.envelopes,
        ),
        "contents.json": (
            "Step 16: what is inside, as text in UTF-8, and the header above it.",
            content_cases.contents,
        ),
        "padding.json": (
            "Content to padded content and back; long runs are given by their length.",
            envelope_cases.paddings,
        ),
        "keys.json": (
            "Key ids, framing, commitments, derivations; public keys that must be refused.",
            statement_cases.keys,
        ),
        "signatures.json": (
            "Ed25519 where libraries differ. `message` and `signature` as bytes in hexadecimal.",
            signature_cases.signatures,
        ),
        "statements.json": ("Signed statements and the public key to check them with.", statement_cases.statements),
        "receipts.json": ("Step 11: the consent receipt of a header at a time.", statement_cases.receipts),
        "epochs.json": ("Lists of epoch statements and the key to be chosen at a time.", statement_cases.epochs),
        "rest.json": ("At rest: rewrapped data keys, sealed rows, key files.", statement_cases.rest),
    }
    return {name: _file(about, cases()) for name, (about, cases) in parts.items()}


def main() -> None:
    """Write every file."""
    for name, data in build().items():
        (HERE / name).write_bytes(data)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    main()

"""The codes of envelopes and signed statements that the agency's own software hands in. Each entry says what to do."""

from __future__ import annotations

from typing import Final

from exchange.api.catalogue import Entry
from exchange.schemas.problems import Who

_SENDER: Final = Who.SENDER
_SEAL: Final = "Seal it as docs/protocol.md demands, and hand it in again. Nothing was stored."

ENVELOPE: Final = (
    Entry("malformed", 422, _SENDER, "The envelope is not written as the protocol demands", _SEAL),
    Entry(
        "unknown-suite",
        422,
        _SENDER,
        "The envelope uses a cryptographic suite that this node does not know",
        "Use one of the suites on the node's card.",
    ),
    Entry(
        "unknown-vocabulary",
        422,
        _SENDER,
        "The envelope speaks a version of the vocabulary that this node does not know",
        "Use one of the vocabularies on the node's card.",
    ),
    Entry(
        "bad-signature",
        422,
        _SENDER,
        "The signature does not belong to this envelope and this key",
        "Sign the exact bytes that you hand in, with the agency key that stands in the roster.",
    ),
    Entry(
        "receipt-signature",
        422,
        _SENDER,
        "The consent receipt is not signed by the sending agency",
        "Sign the receipt with the agency key that stands in the roster, and seal again.",
    ),
    Entry(
        "receipt-expired",
        422,
        _SENDER,
        "The consent receipt is not valid at this time",
        "Compare the clock of your machine. Cut the receipt from the consent record of today, and seal again.",
    ),
    Entry(
        "receipt-mismatch",
        422,
        _SENDER,
        "The consent receipt does not cover this receiver, purpose or these groups",
        "Cut the receipt for exactly what the envelope holds, and seal again.",
    ),
    Entry(
        "key-unusable",
        422,
        _SENDER,
        "This public key cannot be used",
        "Make a new key. Where it is another agency's, ask that agency to publish a new one.",
    ),
    Entry(
        "statement-malformed",
        422,
        _SENDER,
        "The signed statement is not written as the protocol demands",
        "Sign it as docs/protocol.md demands. Nothing was published.",
    ),
    Entry(
        "statement-signature",
        422,
        _SENDER,
        "The signature does not belong to this statement and this key",
        "Sign it with the agency key that stands in the roster. Nothing was published.",
    ),
    Entry(
        "epoch-not-a-week",
        422,
        _SENDER,
        "The key does not run from Monday to Monday",
        "Let it begin on Monday, 00:00 UTC, and end seven days later. Nothing was published.",
    ),
)
"""What is wrong with something signed, before anybody asks what it says."""

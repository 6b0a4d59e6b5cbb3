"""What nodes say to each other."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from exchange.limits import LIMITS
from exchange.schemas.problems import Problem
from exchange.schemas.shapes import HexId, Strict, Timestamp


class WireEnvelope(Strict):
    """A sealed, signed envelope. Every member is base64url without padding, in one spelling."""

    header: str
    """The JSON header, signed exactly as sent."""
    wrapped_key: str
    """The content key, sealed to the receiver."""
    ciphertext: str
    """The sealed content, padded."""
    signature: str
    """The signature over all of it."""
    release: str | None = None
    """Only with a disclosure: the release statement of the sender's node."""


class EnvelopeBatch(Strict):
    """At most 50 envelopes and 4 MiB."""

    envelopes: tuple[WireEnvelope, ...] = Field(min_length=1, max_length=50)
    """The envelopes."""


class ItemAnswer(Strict):
    """The answer to one envelope; a bad item never fails its batch."""

    result: Literal["accepted", "refused", "later"]
    """`accepted` and `refused` are final; `later`: send it again."""
    receipt: str | None = None
    """With `accepted`: the signed delivery receipt, base64url; a repeat gets the same bytes."""
    problem: Problem | None = None
    """With `refused`: final."""
    retry_after: int | None = None
    """With `later`: seconds."""


class BatchAnswer(Strict):
    """One answer an envelope, in the order sent."""

    answers: tuple[ItemAnswer, ...]
    """One for each envelope, in the order sent."""


class ResyncRequest(Strict):
    """This peer lost what it held since then."""

    since: Timestamp


class ResyncAnswer(Strict):
    """Stops were queued again; the agency's system is asked to send the rest again."""

    stops_queued: int
    """How many stops were queued again."""
    referrals_marked: int
    """How many referrals the agency is asked to send again."""


class ConsentStatusRequest(Strict):
    """Which receipts are asked about; they were cut for the agency that asks."""

    receipts: tuple[HexId, ...] = Field(min_length=1, max_length=LIMITS.consent_status_ids)
    """Ids of consent receipts, as they stand in the headers of forwards."""


class ReceiptStatus(Strict):
    """What stands behind one receipt now."""

    receipt: HexId
    status: Literal["live", "not-live", "lost"]
    """`not-live` is also the answer for a receipt that is unknown, or was cut for somebody else.

    `lost`: unknown, and from a time of which this node has lost its data; or what stands behind it cannot be read; or
    only what the roster of now says of the two agencies lets nothing go. It is no word about the consent.
    """


class ConsentStatusAnswer(Strict):
    """One answer a receipt, in the order asked, and one statement that covers all of them."""

    receipts: tuple[ReceiptStatus, ...]
    """One for each receipt, in the order asked."""
    statement: str
    """The signed statement, base64url."""


class RosterMirror(Strict):
    """The roster as this node holds it."""

    version: int
    """Its version."""
    digest: str
    """SHA-256 of the bytes, in hexadecimal."""
    roster: str
    """The exact bytes, base64url."""

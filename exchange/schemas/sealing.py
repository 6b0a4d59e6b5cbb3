"""What an agency that holds its keys itself hands to its node: sealed envelopes, and statements of its weekly keys."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from exchange.schemas.federation import WireEnvelope
from exchange.schemas.node import EpochKeyView
from exchange.schemas.referrals import ReferralView, ToldFirst
from exchange.schemas.shapes import Digest, HexId, Strict


class EnvelopesRequest(Strict):
    """One message about one referral, or an offer together with the disclosure that is held until its acceptance."""

    envelopes: tuple[WireEnvelope, ...] = Field(min_length=1, max_length=2)
    """Sealed and signed by the agency's own software. The node reads the headers and cannot read more."""
    consent: HexId | None = None
    """With an offer: the consent record under which her data may move."""
    consent_version: int | None = Field(default=None, ge=1)
    """With an offer and whatever else tells about her: the version of the consent record that the software has held the
    fields against. Another one is a conflict: she may have taken something back."""
    disclosure_follows: bool | None = None
    """With an offer that comes alone: the gate lets name or contact go, and her plan has to be confirmed with her
    first. The referral is `awaiting_disclosure` from the beginning. Leave it out otherwise."""
    sharing_stopped: bool | None = None
    """With progress that is sealed anew, and keeps the `seen` of its first time: the software knew that she has stopped
    sharing, and no more is inside than that it is over. Leave it out otherwise."""


class HandedIn(Strict):
    """Where one envelope is now."""

    id: HexId
    digest: Digest
    status: Literal["queued", "held"]
    """`queued`: on its way. `held`: waits for the receiver's acceptance."""


class EnvelopesAnswer(Strict):
    """The envelopes are stored: they survive whatever happens to this node's process."""

    referral: ReferralView
    """As it was when they were stored. A disclosure that comes after an acceptance is let go, or deleted, after that:
    read the referral then."""
    envelopes: tuple[HandedIn, ...]
    """Every envelope, in the order sent. Empty where the same word was on record already and nothing was sent."""
    call_now: bool = False
    """An emergency: telephone the receiver's duty contact now; nothing waits for software."""
    duty_contact: str
    """The other agency's duty contact, an agency's line, never a worker's own."""
    told_first: ToldFirst


class EpochsRequest(Strict):
    """Signed statements of weekly keys whose private halves only the agency's own software has."""

    statements: tuple[str, ...] = Field(min_length=1, max_length=32)
    """Each the signed statement, base64url."""
    revocations: tuple[str, ...] = Field(default=(), max_length=64)
    """Each a signed revocation, base64url: of every key that `GET /v1/epochs` lists, or none at all."""


class OwnEpochs(Strict):
    """The weekly keys of this agency that are published now."""

    epochs: tuple[EpochKeyView, ...]
    """Oldest first."""
    ended: tuple[EpochKeyView, ...] = ()
    """Those of a week that is over for which something may still be held, and the one with the highest `seq`, oldest
    first: a revocation takes them too."""
    weeks_ahead: int
    """How many whole weeks after this one are published. Below two, others may soon be unable to write here."""

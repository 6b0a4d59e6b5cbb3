"""Acts of the agency's systems that may be repeated: what was sealed for one is kept, under the caller's key for it.

Rules:

* What is sealed for an act is stored in the transaction that stores its case: there is no moment in which a program can
  die and seal the act a second time.
* The same key with the same request gives the same sealed bytes, for a day. With another request it is refused.
* A caller's key may be the number of a case, or of her telephone. It goes no further than here: key store and node have
  a digest of it, under the storage key, against which nobody else can try all the numbers there are.
* The same holds of what is told about a referral that exists: sealed anew, an older plan would take a newer one's
  place.
* After that day, once the referral is destroyed, or where the node takes it no more, the key still stands and gives
  nothing: whoever repeats the act then is told which referral it was, and looks first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from exchange.client.vault.errors import VaultError
from exchange.envelope.kinds import Kind
from exchange.limits import DAY_MS
from exchange.referral.canonical import SealedModel
from exchange.referral.content import ReferralContent
from exchange.schemas.referrals import FieldDecision, ReferralCreated
from exchange.schemas.sealing import EnvelopesRequest
from exchange.schemas.shapes import written

KEPT_MS: Final = DAY_MS
"""As long as a node keeps its answers for repeats."""


@dataclass(frozen=True, slots=True, repr=False)
class SealedReferral:
    """A referral that was sealed: what is handed in, as often as needed, and what the worker hears once it is."""

    hand_in: EnvelopesRequest
    created: ReferralCreated


class SealedAct(SealedModel):
    """What was sealed for one act, as the key store keeps it, sealed once more."""

    request: str
    """Digest of what the caller asked for."""
    hand_in: EnvelopesRequest
    created: ReferralCreated


class LaterRequest(SealedModel):
    """What a caller asks to be told about a referral that exists."""

    referral: str
    kind: Kind
    content: ReferralContent


class LaterAct(SealedModel):
    """What was sealed for such an act, as the key store keeps it, sealed once more."""

    request: str
    """Digest of what the caller asked for."""
    made: int
    """How often what is told of her plan had changed by then, with this (`VaultCase.plan_changes`). Where it has
    changed since, something newer was told."""
    begun: bool = False
    """Nothing is sealed yet: what was held with an older plan is deleted first."""
    hand_ins: tuple[EnvelopesRequest, ...] = ()
    """In their order; none once the node has answered."""
    fields: tuple[FieldDecision, ...] = ()


@dataclass(frozen=True, slots=True)
class Act:
    """One act of a caller, under the caller's own key."""

    key: str
    request: str

    @classmethod
    def of(cls, request: BaseModel, idempotency_key: str, digest: Callable[[str, bytes], str]) -> Act:
        """A referral, or what is told about one.

        Args:
            request: what the caller asks for.
            idempotency_key: the caller's own.
            digest: under the storage key (`keyed_digest`).
        """
        return cls(digest("act", idempotency_key.encode()), digest("act-request", written(request)))

    def sealed(self, referral: SealedReferral) -> SealedAct:
        """What is kept."""
        return SealedAct(request=self.request, hand_in=referral.hand_in, created=referral.created)

    def again(self, kept: SealedAct | LaterAct) -> SealedReferral:
        """The referral that was sealed for it before.

        Raises:
            VaultError: `idempotency-key-reused`.
        """
        if kept.request != self.request or not isinstance(kept, SealedAct):
            raise _reused()
        return SealedReferral(kept.hand_in, kept.created)

    def told_again(self, kept: SealedAct | LaterAct) -> LaterAct:
        """What was sealed for it before, about a referral that exists.

        Raises:
            VaultError: `idempotency-key-reused`.
        """
        if kept.request != self.request or not isinstance(kept, LaterAct):
            raise _reused()
        return kept

    def key_of(self, place: int) -> str:
        """Under which one of several envelopes is handed in."""
        return f"{self.key}.{place}"


def _reused() -> VaultError:
    return VaultError("idempotency-key-reused", "This key came with another request. Use a new key for a new request.")


def sealed_before(referral: str) -> VaultError:
    """The act was carried out or has failed, and what was sealed for it is gone, or too old for the node."""
    return VaultError(
        "sealed-before",
        f"Under this key referral {referral}, or something about it, was sealed before, and what was sealed is taken "
        "no longer. Read that referral first; what the node does not have and is still true send again under another "
        "key.",
    )

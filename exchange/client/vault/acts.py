"""Acts of the agency's systems that may be repeated: what was sealed for one is kept, under the caller's key for it.

Rules:

* What is sealed for an act is stored in the transaction that stores its case: there is no moment in which a program can
  die and seal the act a second time.
* The same key with the same request gives the same sealed bytes, for a day. With another request it is refused.
* A caller's key may be the number of a case, or of her telephone. It goes no further than here: key store and node have
  a digest of it, under the storage key, against which nobody else can try all the numbers there are.
* After that day, once the referral is destroyed, or where the node takes it no more, the key still stands and gives
  nothing: whoever repeats the act then is told which referral it was, and looks first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from exchange.client.vault.errors import VaultError
from exchange.limits import DAY_MS
from exchange.referral.canonical import SealedModel
from exchange.schemas.referrals import ReferralCreated, ReferralRequest
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


@dataclass(frozen=True, slots=True)
class Act:
    """One act of a caller, under the caller's own key."""

    key: str
    request: str

    @classmethod
    def of(cls, request: ReferralRequest, idempotency_key: str, digest: Callable[[str, bytes], str]) -> Act:
        """A referral.

        Args:
            request: what the caller asks for.
            idempotency_key: the caller's own.
            digest: under the storage key (`keyed_digest`).
        """
        return cls(digest("act", idempotency_key.encode()), digest("act-request", written(request)))

    def sealed(self, referral: SealedReferral) -> SealedAct:
        """What is kept."""
        return SealedAct(request=self.request, hand_in=referral.hand_in, created=referral.created)

    def again(self, kept: SealedAct) -> SealedReferral:
        """What was sealed for it before.

        Raises:
            VaultError: `idempotency-key-reused`.
        """
        if kept.request != self.request:
            raise VaultError(
                "idempotency-key-reused", "This key came with another request. Use a new key for a new request."
            )
        return SealedReferral(kept.hand_in, kept.created)


def sealed_before(referral: str) -> VaultError:
    """The act was carried out or has failed, and what was sealed for it is gone, or too old for the node."""
    return VaultError(
        "sealed-before",
        f"Under this key referral {referral} was sealed before, and what was sealed is taken no longer. Read that "
        "referral first; where the node does not know it, send it again under another key.",
    )

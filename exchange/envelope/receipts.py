"""Step 11: the consent receipt in a forward's header, cut to one receiver and signed by the sender's agency key.

Rules:

* The receipt is signed on its own, under its own tag, so that it can be shown without the envelope.
* It must have been issued by the sender of the envelope to its recipient, for the purpose of the envelope.
* Every group in the header must be in the receipt. `routing` says nothing about a person and needs no consent.
* It must be in force when it is looked at, within the allowed difference of clocks.

A receipt is the sender's assertion. It proves who asserted it, not that she said yes.
"""

from __future__ import annotations

from collections.abc import Callable

from contracts.vocabulary import Group
from exchange.envelope.errors import BadSignatureError, ReceiptError, ReceiptFault
from exchange.envelope.format import Header
from exchange.envelope.keys import verify
from exchange.envelope.tags import Tag, framed
from exchange.limits import LIMITS


def sign_receipt(signing_body: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """The signature over `CutReceipt.signing_body()`; `sign` belongs to the issuer's agency key."""
    return sign(framed(Tag.CONSENT_RECEIPT, signing_body))


def check_receipt(header: Header, sender_agency_key: bytes, at: int) -> None:
    """Return only if the receipt in this header covers this envelope at this time (Unix milliseconds).

    Raises:
        ReceiptError: `receipt-mismatch`, `receipt-expired` or `receipt-signature`.
    """
    receipt = header.receipt
    if receipt is None:
        raise ReceiptError(ReceiptFault.MISMATCH)
    parties = (receipt.issuer, receipt.recipient, receipt.purpose)
    if parties != (header.sender, header.recipient, header.purpose):
        raise ReceiptError(ReceiptFault.MISMATCH)
    if not set(header.groups) - {Group.ROUTING.value} <= set(receipt.groups):
        raise ReceiptError(ReceiptFault.MISMATCH)
    if not receipt.issued - LIMITS.skew_ms <= at < receipt.expires + LIMITS.skew_ms:
        raise ReceiptError(ReceiptFault.EXPIRED)
    try:
        verify(sender_agency_key, framed(Tag.CONSENT_RECEIPT, receipt.signing_body()), receipt.signature)
    except BadSignatureError as error:
        raise ReceiptError(ReceiptFault.SIGNATURE) from error

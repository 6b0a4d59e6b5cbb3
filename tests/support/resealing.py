"""An agency's own software that has gone wrong: it signs, with the real agency key, headers that say anything."""

from __future__ import annotations

from typing import Any

from support.replacing import replace

from exchange.client.vault import Identity
from exchange.envelope.format import Envelope, parse_envelope
from exchange.envelope.header import Header, encode_header, parse_header
from exchange.envelope.keys import AgencyKey
from exchange.envelope.receipts import sign_receipt
from exchange.schemas.federation import WireEnvelope


def header_of(wire: WireEnvelope) -> Header:
    """What its header says."""
    return parse_header(parse_envelope(wire.model_dump(exclude_none=True)).header)


def resealed(wire: WireEnvelope, identity: Identity, *, key: AgencyKey | None = None, **changes: Any) -> WireEnvelope:
    """The same envelope under a changed header, signed again; `receipt` changes members of the receipt."""
    envelope, sign = parse_envelope(wire.model_dump(exclude_none=True)), (key or identity.key).sign
    header, about_receipt = header_of(wire), changes.pop("receipt", {})
    changed = replace(header, **changes)
    if header.receipt is not None:
        following = {"recipient": changed.recipient, "purpose": changed.purpose, "groups": changed.groups}
        receipt = replace(header.receipt, **(following | about_receipt))
        if "signature" not in about_receipt:
            receipt = replace(receipt, signature=sign_receipt(receipt.signing_body(), sign))
        changed = replace(changed, receipt=receipt)
    again = Envelope(encode_header(changed), envelope.wrapped_key, envelope.ciphertext, bytes(64))
    signed = replace(again, signature=sign(again.signed_input()))
    return WireEnvelope.model_validate(signed.to_json())

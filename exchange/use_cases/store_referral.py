"""Storing a new referral: with its offer, what is held for it and the answer to its caller, in one commit.

Those of one turn (`exchange.use_cases.turns`) reach this together, and are stored together.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from consent.record import ConsentRecord
from exchange.messages import SealedMessage
from exchange.referral.lifecycle import EventName, Side
from exchange.storage.access import AuditEntry
from exchange.storage.consents import ClientCode
from exchange.storage.hand_ins import HandIn, store_hand_ins
from exchange.storage.referrals import EventRecord, ReferralRecord
from exchange.use_cases.acting import Acting
from exchange.use_cases.idempotency import Keep
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import outgoing_record


async def store_referral(
    node: Node,
    acting: Acting,
    record: ReferralRecord,
    sealed: Sequence[SealedMessage],
    *,
    consent: ConsentRecord,
    code: str | None,
    code_is_new: bool = True,
    answer: BaseModel,
    keep: Keep,
) -> None:
    """Store a new referral, queue its offer and hold what follows it; durable when this returns.

    Args:
        node: where.
        acting: who hands it in.
        record: the referral.
        sealed: the offer, and the disclosure if there is one.
        consent: as it was when the gate let this through.
        code: under which the receiver shall know the survivor; nothing where this node is not to know.
        code_is_new: it was made for this; one that was read must not have been erased since.
        answer: to the caller.
        keep: of the caller's idempotency key.

    Raises:
        StaleConsentError: the consent or the code is another one by now; decide again.
        IntegrityError: the referral, one of the envelopes or the idempotency key exists.
    """
    offer, *held = sealed
    header, at = offer.header, record.created_at
    event = (record.id, Side.REFERRING.value, header.number or 0, EventName.OFFERED.value, 0, header.created)
    made = HandIn(
        consent=(consent.id, consent.version),
        code=ClientCode(consent.subject, record.peer, code) if code is not None else None,
        code_is_new=code_is_new,
        referral=record,
        offered=EventRecord(*event, digest=offer.digest),
        envelopes=(
            outgoing_record(node, offer, record.id, "queued"),
            *(outgoing_record(node, message, record.id, "held") for message in held),
        ),
        audit=AuditEntry(at, "referral-sent", record.id, acting.client_id, acting.actor, offer.digest),
        answer=keep.sealed(answer, record.id),
    )
    await node.database.write_together(store_hand_ins, made)

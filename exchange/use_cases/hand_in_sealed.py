"""Envelopes that the agency's own software has sealed, for a node that need not hold its keys: gated by their headers.

Rules:

* What every envelope is held against stands in `sealed_checks`; a forward passes the gate on groups
  (`sealed_forwards`); an answer and an attestation, what the state of the referral allows (`sealed_answer`).
* An offer makes the referral and is queued; a disclosure is held until the acceptance; all else is queued.
* Handed in again, the same bytes are answered as what they are: already here, however late, and also where a disclosure
  that came with an offer has gone since. Other bytes under one id are refused.
* A disclosure that is stored after the acceptance is let go, as long as it is the one that is held; by a repeat too,
  since the process that stored it may have ended before. One that was stored before it is not let go by its repeat.
* A branch is not told that another has a referral: what it may not see is not here, whatever the bytes are.
* No content reaches this node, and no refusal repeats anything of what was sent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from exchange.envelope.header import Header
from exchange.envelope.kinds import Kind, KindClass
from exchange.messages import SealedMessage
from exchange.referral.lifecycle import EventName
from exchange.schemas.sealing import EnvelopesAnswer, EnvelopesRequest
from exchange.storage.database import Connection
from exchange.storage.errors import IntegrityError
from exchange.storage.outbox import digests_out, held_of
from exchange.storage.referrals import ReferralRecord, events_of, load_referral
from exchange.use_cases.acting import Acting
from exchange.use_cases.branches import may_see
from exchange.use_cases.cases import again
from exchange.use_cases.errors import ConflictError, GoneError, InvalidError
from exchange.use_cases.idempotency import Idempotency, Keep, Stored, once
from exchange.use_cases.node import Node
from exchange.use_cases.refusals import not_found
from exchange.use_cases.release_disclosure import release_disclosure
from exchange.use_cases.sealed_answer import store_sealed_answer, store_sealed_attestation
from exchange.use_cases.sealed_checks import AgencySealed, addressed, check_sealed, read_sealed
from exchange.use_cases.sealed_later import store_sealed_later
from exchange.use_cases.sealed_referral import store_sealed_referral
from exchange.use_cases.sealed_views import handed_in


async def hand_in_sealed(
    node: Node, acting: Acting, request: EnvelopesRequest, idem: Idempotency
) -> Stored[EnvelopesAnswer]:
    """Store what was sealed elsewhere.

    Raises:
        EnvelopeError: it is not an envelope of the protocol, or its signature or receipt does not hold.
        NotFoundError, GoneError: there is no such referral here.
        InvalidError, ForbiddenError, ConflictError: a rule refuses; nothing is stored.
        UnavailableError: the receiver's key is not known here yet.
    """
    confirms = True

    async def work(keep: Keep) -> EnvelopesAnswer:
        nonlocal confirms
        read = tuple([read_sealed(node, wire) for wire in request.envelopes])
        known = await _handed_in_before(node, acting, [one.message for one in read])
        if known is not None:
            confirms = await _follows_acceptance(node, read[0].message.header)
            return known
        sealed = tuple([await check_sealed(node, one) for one in read])
        return await again(lambda: _store(node, acting, request, sealed, keep))

    try:
        stored = await once(node, idem, EnvelopesAnswer, work)
    except IntegrityError as error:
        raise _id_taken() from error
    if confirms and stored.answer.referral.flags.awaiting_confirmation:
        await _let_go(node, acting, stored.answer)
    return stored


async def _let_go(node: Node, acting: Acting, answer: EnvelopesAnswer) -> None:
    """Release what was handed in, if it is held still: after an acceptance this call is the worker's confirmation."""
    held = await node.database.read(lambda conn: held_of(conn, answer.referral.id))
    if held is not None and [held.id] == [one.id for one in answer.envelopes]:
        # What keeps it held is told by the referral.
        with contextlib.suppress(ConflictError, GoneError):
            await release_disclosure(node, acting, answer.referral.id)


async def _follows_acceptance(node: Node, header: Header) -> bool:
    """Whether who sealed it had seen that the receiver accepted."""
    events = await node.database.read(lambda conn: events_of(conn, [header.referral]))
    return any(one.name == EventName.ACCEPTED and one.number <= header.seen for one in events[header.referral])


async def _store(
    node: Node, acting: Acting, request: EnvelopesRequest, sealed: tuple[AgencySealed, ...], keep: Keep
) -> EnvelopesAnswer:
    first = sealed[0]
    if first.header.kind is Kind.OFFER:
        return await store_sealed_referral(node, acting, request, sealed, keep)
    if len(sealed) > 1:
        raise InvalidError("not-together", "With an offer comes at most the disclosure of the same referral.")
    if first.header.kind_class is KindClass.FORWARD:
        return await store_sealed_later(node, acting, first, request.consent_version, keep)
    if first.header.kind_class is KindClass.ANSWER:
        return await store_sealed_answer(node, acting, first, bool(request.sharing_stopped), keep)
    return await store_sealed_attestation(node, acting, first, keep)


async def _handed_in_before(node: Node, acting: Acting, sealed: Sequence[SealedMessage]) -> EnvelopesAnswer | None:
    wanted = {one.header.id: one.digest for one in sealed}
    first = sealed[0]

    def read(conn: Connection) -> tuple[dict[str, str], ReferralRecord | None]:
        return digests_out(conn, wanted), load_referral(conn, first.header.referral)

    found, record = await node.database.read(read)
    if record is not None and not may_see(record, acting.unit):
        raise not_found()
    if any(wanted[envelope] != digest for envelope, digest in found.items()):
        raise _id_taken()
    # They are stored in one commit. What was held with an offer may have gone since; it is not there to be listed.
    if record is None or first.header.id not in found:
        return None
    return handed_in(record, [one for one in sealed if one.header.id in found], addressed(node, first.header))


def _id_taken() -> ConflictError:
    sentence = (
        "One of these ids was used for something else, or for what has been destroyed since. Read the referral first; "
        "seal again with fresh ids only what is a new one."
    )
    return ConflictError("id-conflict", sentence)

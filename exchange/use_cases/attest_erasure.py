"""The agency's system says that its own copies are destroyed: the second half of the attestation, signed by the agency.

Saying it again changes nothing. A lying receiver can keep a copy; the statement is what it can be held to.
"""

from __future__ import annotations

from exchange.schemas.inbox import ErasureAttestationRequest, ReferralAct
from exchange.stops import Erased, erasure_receipt
from exchange.storage.database import Connection
from exchange.storage.referrals import attestations_of, record_attestation, save_referral
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import again, audit, find_item
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import agency_key, make_stop, put_out_stop
from exchange.use_cases.views import referral_view


async def attest_erasure(node: Node, acting: Acting, item: str, _request: ErasureAttestationRequest) -> ReferralAct:
    """Attest it.

    Raises:
        NotFoundError: there is no such item.
        ConflictError: `nothing-owed`: nobody asked for erasure; or `keys-elsewhere`.
    """
    agency_key(node)

    async def step() -> ReferralAct:
        def commit(conn: Connection) -> ReferralAct:
            _, _, record = find_item(conn, item, acting.unit)
            owed = {entry.party: entry for entry in attestations_of(conn, record.id)}.get("own-agency")
            if owed is None:
                raise ConflictError("nothing-owed", "Nobody asked for the erasure of this referral.")
            if owed.done_at is not None:
                view = referral_view(record, attestations_of(conn, record.id))
                return ReferralAct(referral=view, repeated=True)
            sealed = make_stop(node, erasure_receipt(Erased.BY_AGENCY), record)
            put_out_stop(node, conn, sealed, record.id)
            record_attestation(conn, record.id, "own-agency", node.clock(), sealed.digest)
            saved = save_referral(conn, record._replace(number=sealed.header.number or record.number))
            audit(conn, node, acting, "erasure-attested", [record.id], sealed.digest)
            return ReferralAct(referral=referral_view(saved, attestations_of(conn, record.id)))

        return await node.database.write(commit)

    return await again(step)

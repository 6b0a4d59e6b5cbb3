"""The agency's own software could not open or verify an item: the sender is told, with a code and nothing else."""

from __future__ import annotations

from dataclasses import replace

from exchange.schemas.inbox import ReferralAct, RefusalRequest
from exchange.stops import RefusalCode, refusal
from exchange.storage.database import Connection
from exchange.storage.inbox import load_arrived
from exchange.storage.referrals import ReferralRecord, load_referral, save_referral
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import again, audit
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import make_stop, put_out
from exchange.use_cases.refusals import not_found
from exchange.use_cases.views import referral_view


async def refuse_item(node: Node, acting: Acting, item: str, request: RefusalRequest) -> ReferralAct:
    """Refuse one envelope that was signed for sealed.

    Raises:
        NotFoundError: there is no such item.
    """

    async def step() -> ReferralAct:
        def commit(conn: Connection) -> ReferralAct:
            found = load_arrived(conn, [item])
            record: ReferralRecord | None = load_referral(conn, found[item][1].referral) if item in found else None
            if record is None:
                raise not_found()
            sealed = make_stop(node, refusal(RefusalCode(request.code)), record, in_reply_to=item)
            put_out(node, conn, sealed)
            saved = save_referral(conn, replace(record, number=sealed.header.number or record.number))
            audit(conn, node, acting, "refused", [item], request.code)
            return ReferralAct(referral=referral_view(saved))

        return await node.database.write(commit)

    return await again(step)

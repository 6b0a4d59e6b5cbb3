"""The agency's own software could not open or verify an item: the sender is told, with a code and nothing else.

What was never taken over is destroyed here with the refusal: it could not be opened, or should not have been sent.
"""

from __future__ import annotations

from exchange.schemas.inbox import ReferralAct, RefusalRequest
from exchange.stops import RefusalCode, refusal
from exchange.storage.database import Connection
from exchange.storage.inbox import wipe_item
from exchange.storage.referrals import save_referral
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import again, audit, find_item
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import make_stop, put_out_stop
from exchange.use_cases.views import referral_view


async def refuse_item(node: Node, acting: Acting, item: str, request: RefusalRequest) -> ReferralAct:
    """Refuse one envelope that was signed for sealed.

    Raises:
        NotFoundError: there is no such item.
    """

    async def step() -> ReferralAct:
        def commit(conn: Connection) -> ReferralAct:
            _, row, record = find_item(conn, item, acting.unit)
            sealed = make_stop(node, refusal(RefusalCode(request.code)), record, in_reply_to=item)
            put_out_stop(node, conn, sealed, record)
            if row.wrapped_key is not None:
                wipe_item(conn, item)
            saved = save_referral(conn, record._replace(number=sealed.header.number or record.number))
            audit(conn, node, acting, "refused", [item], request.code)
            return ReferralAct(referral=referral_view(saved))

        return await node.database.write(commit)

    return await again(step)

"""The agency's own software could not open or verify an item: the sender is told, with a code and nothing else.

What was never taken over is destroyed here with the refusal: it could not be opened, or should not have been sent.
The sender is told once, by the first refusal of an item: the same again, after a lost answer, changes nothing.
"""

from __future__ import annotations

from exchange.envelope.kinds import Kind
from exchange.envelope.wire import read_again
from exchange.schemas.inbox import ReferralAct, RefusalRequest
from exchange.stops import RefusalCode, refusal
from exchange.storage.database import Connection
from exchange.storage.inbox import wipe_item
from exchange.storage.outbox import of_kind
from exchange.storage.referrals import ReferralRecord, save_referral
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import again, audit, find_item
from exchange.use_cases.headers import outgoing_header
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
            _, _, record = find_item(conn, item, acting.unit)
            if _is_refused(node, conn, record, item):
                return ReferralAct(referral=referral_view(record))
            sealed = make_stop(node, refusal(RefusalCode(request.code)), record, in_reply_to=item)
            put_out_stop(node, conn, sealed, record.id)
            wipe_item(conn, item)
            saved = save_referral(conn, record._replace(number=sealed.header.number or record.number))
            audit(conn, node, acting, "refused", [item], request.code)
            return ReferralAct(referral=referral_view(saved))

        return await node.database.write(commit)

    return await again(step)


def _is_refused(node: Node, conn: Connection, record: ReferralRecord, item: str) -> bool:
    headers = (
        outgoing_header(node, said)
        for said in of_kind(conn, record.id, Kind.REFUSAL.value)
        if said.sealed_header is not None
    )
    return any(read_again(header).get("in_reply_to") == item for header in headers)

"""The referral should never have been made: either side may say so, at any time."""

from __future__ import annotations

from exchange.referral.lifecycle import EventName, Side
from exchange.schemas.inbox import ReferralAct
from exchange.stops import entered_in_error
from exchange.storage.database import Connection
from exchange.use_cases.acting import Acting
from exchange.use_cases.answering import repeated
from exchange.use_cases.cases import again, audit, read_case, referral_of_item
from exchange.use_cases.node import Node
from exchange.use_cases.stopping import stop_referral
from exchange.use_cases.views import referral_view


async def declare_error(node: Node, acting: Acting, referral: str) -> ReferralAct:
    """The referring side says it.

    Raises:
        NotFoundError, GoneError: there is no such referral of this agency.
    """
    return await _declare(node, acting, referral, Side.REFERRING)


async def declare_error_of_item(node: Node, acting: Acting, item: str) -> ReferralAct:
    """The receiving side says it.

    Raises:
        NotFoundError, GoneError: there is no such referral here.
    """
    return await _declare(node, acting, await referral_of_item(node, item, acting.unit), Side.RECEIVING)


async def _declare(node: Node, acting: Acting, referral: str, side: Side) -> ReferralAct:
    async def step() -> ReferralAct:
        case = await read_case(node, referral, side, acting.unit)
        if repeated(case, EventName.ENTERED_IN_ERROR):
            return ReferralAct(referral=referral_view(case.record), repeated=True)

        def commit(conn: Connection) -> ReferralAct:
            name = EventName.ENTERED_IN_ERROR
            record = stop_referral(node, conn, case.record, entered_in_error(), name, ends_sharing=True)
            audit(conn, node, acting, "entered-in-error", [referral])
            return ReferralAct(referral=referral_view(record))

        return await node.database.write(commit)

    return await again(step)

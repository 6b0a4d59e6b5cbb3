"""The sender takes a referral back: at once until the service has begun, afterwards by asking."""

from __future__ import annotations

from typing import Final

from exchange.referral.lifecycle import EventName, Side, State
from exchange.schemas.inbox import ReferralAct
from exchange.stops import recall
from exchange.storage.database import Connection
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import again, audit, new_event, read_case
from exchange.use_cases.node import Node
from exchange.use_cases.stopping import stop_referral
from exchange.use_cases.views import referral_view

_RECALLED: Final = frozenset({State.RECALLED, State.RECALL_REQUESTED})
"""Not where the receiver has answered that it goes on: then it is asked once more."""


async def recall_referral(node: Node, acting: Acting, referral: str) -> ReferralAct:
    """Recall. A held disclosure is deleted at once, whatever the receiver answers.

    Said again while it counts, or waits for its answer, it is on its way already, and nothing is sent twice.

    Raises:
        NotFoundError, GoneError: there is no such referral of this agency.
        ConflictError: it has ended otherwise.
    """

    async def step() -> ReferralAct:
        case = await read_case(node, referral, Side.REFERRING, acting.unit)
        if case.state(node.clock()) in _RECALLED:
            return ReferralAct(referral=referral_view(case.record), repeated=True)
        new_event(node, case, EventName.RECALLED)

        def commit(conn: Connection) -> ReferralAct:
            record = stop_referral(node, conn, case.record, recall(), EventName.RECALLED, ends_sharing=True)
            audit(conn, node, acting, "recalled", [referral])
            return ReferralAct(referral=referral_view(record))

        return await node.database.write(commit)

    return await again(step)

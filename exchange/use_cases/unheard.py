"""What this side has said of a referral and nobody has heard: its envelope was destroyed on its way, or refused.

After her no, a recall or an error nothing of that has to be heard any more, nor may it: feedback is disclosure too. But
that this side agrees to a recall of her whom it serves is the answer that the other one waits for. And a service that
had begun undoes a recall: then the receiver lacks what the recall has destroyed, and what was lost before it, and goes
on with an older plan.
"""

from __future__ import annotations

from typing import Final

from exchange.envelope.kinds import Kind
from exchange.referral.lifecycle import EventName, Side, State
from exchange.stops import TAKES_BACK
from exchange.storage.database import Connection
from exchange.storage.outbox import came_to_nothing, sent_of, was_lost
from exchange.storage.referrals import ReferralRecord, events_of

_ENDS_ALL: Final = frozenset({EventName.STOP_SERVICE, EventName.ERASE, EventName.ENTERED_IN_ERROR})
"""Also of a service that was over before, and is called so for ever, and where this side has agreed to a recall."""
LATER: Final = frozenset({Kind.INFORMATION.value, Kind.UPDATE.value})
"""What is given up, so that this is on record, and not merely deleted, where the referral may go on without it."""


def unheard(conn: Connection, record: ReferralRecord) -> frozenset[str]:
    """The digests of the envelopes that carried such events."""
    events = events_of(conn, [record.id])[record.id]
    mine = [event for event in events if event.side == record.side and event.shared]
    agreed = record.side == Side.RECEIVING and any(event.name == EventName.RECALLED for event in mine)
    if (record.state == State.RECALLED and not agreed) or any(event.name in _ENDS_ALL for event in events):
        return frozenset()
    return came_to_nothing(conn, record.id, [event.digest for event in mine if event.digest is not None])


def lacks_something(conn: Connection, record: ReferralRecord) -> bool:
    """Whether information or a plan was lost, in whatever way, and the receiver goes on without it, or may yet."""
    ended = record.closed_at is not None and record.state != State.RECALLED
    return not ended and record.sharing_stopped_at is None and was_lost(conn, record.id, LATER)


def heard_again(conn: Connection, record: ReferralRecord) -> ReferralRecord:
    """What was said last goes, or has arrived: nothing is undeliverable any more, unless something else is."""
    missing = record.undeliverable and (bool(unheard(conn, record)) or lacks_something(conn, record))
    return record._replace(undeliverable=missing)


def ended_by_the_sender(conn: Connection, record: ReferralRecord) -> ReferralRecord:
    """Her no or an error has arrived at the receiver: nobody has to hear what that has said, unless it is a stop."""
    if not record.undeliverable or record.side != Side.RECEIVING:
        return record
    stops = sent_of(conn, record.id, [kind.value for kind in TAKES_BACK])
    return record._replace(undeliverable=any(stop.status != "delivered" for stop in stops))

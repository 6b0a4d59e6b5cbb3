"""Forwards that wait to leave and must not any more: they are deleted, and a release that never left is taken back.

Rules:

* Only what certainly never left is taken back. A disclosure that was put on its way may have arrived although no
  receipt came: it is not sent again, and the release stays on record.
* The number of a release that was taken back stays used. Another disclosure may take its place: should the referral go
  on, it is asked for.
* Two ends can be undone by what the receiver has said before it knew: the clock's, by a yes in time, and a recall, by a
  service that had begun. Then somebody has to know that the receiver lacks something. Therefore that is told at once
  (`undeliverable`): here of the clock, in `stopping.take_back` of a recall. An offer ends with the clock by itself, and
  is told as such (`maintain`). Of whatever has ended otherwise nobody needs to hear more.
* So it is with who she is: what a recall deletes is asked for again should the referral go on, also where it may have
  arrived. Then she stays disclosed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from exchange.envelope.kinds import Kind
from exchange.referral.lifecycle import EventName, State
from exchange.storage.database import Connection
from exchange.storage.outbox import delete_queued, disown, sent_of
from exchange.storage.referrals import ReferralRecord, events_of, hold_referrals, remove_events
from exchange.use_cases.unheard import LATER

FORWARDS: Final = frozenset(kind.value for kind in (Kind.OFFER, Kind.DISCLOSURE, Kind.INFORMATION, Kind.UPDATE))


def take_back_release(conn: Connection, referral: str) -> bool:
    """Delete a disclosure that waits; returns whether a release went with it, and none is on record any more.

    One that was released before may have been read, whatever became of it: then she stays disclosed.
    """
    return took_back(conn, referral, delete_queued(conn, referral, [Kind.DISCLOSURE.value]))


def took_back(conn: Connection, referral: str, never_left: Iterable[str]) -> bool:
    """The same of disclosures that do not wait any more, and certainly never left: by their digests."""
    taken_back = remove_events(conn, referral, never_left)
    left = events_of(conn, [referral])[referral] if taken_back else []
    return taken_back > 0 and all(event.name != EventName.DISCLOSED for event in left)


def disclosure_waits(conn: Connection, referral: str) -> bool:
    """Whether one is held, or was released and is not signed for: then it is deleted with what waits."""
    return any(one.status in {"held", "queued"} for one in sent_of(conn, referral, [Kind.DISCLOSURE.value]))


def take_back_at_the_end(conn: Connection, record: ReferralRecord) -> ReferralRecord:
    """Delete every forward of a referral that has ended. Its offer stays on record, which may have left."""
    hold_referrals(conn, [record.id])
    never_told = take_back_release(conn, record.id)
    if record.state != State.EXPIRED:
        delete_queued(conn, record.id, FORWARDS)
    else:
        waited = delete_queued(conn, record.id, {Kind.DISCLOSURE.value})
        if disown(conn, record.id, LATER, record.updated_at) or waited:
            record = record._replace(undeliverable=True)
    return never_disclosed(record) if never_told else record


def never_disclosed(record: ReferralRecord) -> ReferralRecord:
    """After its release was taken back. The view asks for another one only of a referral that goes on."""
    return record._replace(hold="awaiting-disclosure", disclosed_at=None)

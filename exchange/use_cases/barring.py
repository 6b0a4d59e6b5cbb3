"""What waits and must not leave any more: its receiver was suspended, nothing covers it, or she allows less now.

Rules:

* It is destroyed here and told (`…-barred`, `undeliverable`, or `awaiting_disclosure`): a worker telephones, or hands
  in what may still go.
  Where the receiver of a disclosure is not what she was told, that is told too (`use_cases.not_told`).
* Of a referral that has ended otherwise than by the clock nobody has to hear that nothing more is told.
* A disclosure that was put on its way may have arrived although no receipt came: it is not sent again, and the release
  stays on record. Of one that never left the release is taken back, and what tells more than the offer and waits behind
  it goes with it: it would arrive without the release's conditions, and a newer plan would not be told after it.
* When she allows less, every forward under her consent that waits is looked at in the same transaction. It stays if all
  that may have been inside by the earlier version may still go by the new one, between the two as they are and as they
  were when something was sealed. What is inside is sealed to its receiver, also where this node made it: its groups are
  all that can be judged. Nor does it stay where nothing can be judged now, because the receiver is suspended or the
  contract has ended: it would leave when that is over.
* What of that cannot be read, damaged or of a later version, may say more than she allows: it does not stay either. It
  refuses her nothing. Where the referral cannot be changed, its forwards are deleted, and it is left as it is.
* When her consent ends earlier than before, nothing leaves, and nothing is held, whose receipt says the later end.
* What else is held for an acceptance is judged when it is released, and not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from consent.record import ConsentRecord
from contracts.vocabulary import Stage
from exchange.disclosure import Refused
from exchange.disclosure_groups import groups_allowed, may_be_inside
from exchange.envelope.header import Header, parse_header
from exchange.envelope.kinds import Kind, KindClass
from exchange.referral.lifecycle import State
from exchange.schemas.shapes import to_millis
from exchange.storage.database import Connection
from exchange.storage.outbox import (
    OutgoingRecord,
    delete_queued,
    delete_waiting,
    disown_waiting,
    give_up,
    held_of,
    queued_of,
)
from exchange.storage.referrals import ReferralRecord, lock_referrals_of_consent, remove_events
from exchange.use_cases.change_referral import change_by_id
from exchange.use_cases.facts import Facts, open_facts
from exchange.use_cases.gate_again import as_they_were
from exchange.use_cases.headers import class_here, outgoing_header
from exchange.use_cases.node import Node
from exchange.use_cases.not_told import say_of_what_was_released
from exchange.use_cases.row_by_row import UNREADABLE, left_if_unreadable, tell_unreadable
from exchange.use_cases.sealed_forwards import question_about
from exchange.use_cases.taking_back import FORWARDS, never_disclosed, take_back_release
from exchange.use_cases.unheard import LATER


def bar(node: Node, conn: Connection, items: Iterable[OutgoingRecord]) -> None:
    """Destroy these and tell this agency's system; with an answer go others of its kind that wait for the referral."""
    for item in items:
        never_told = False
        if class_here(item) is KindClass.ANSWER:
            give_up(conn, item.referral, [item.kind], node.clock())
        elif item.kind == Kind.DISCLOSURE:
            never_told = take_back_release(conn, item.referral)
        elif not _destroyed(node, conn, item):
            continue  # it went with the release that it followed

        def adjust(record: ReferralRecord, kind: str = item.kind, never_told: bool = never_told) -> ReferralRecord:
            if never_told:
                return never_disclosed(record)
            if kind in FORWARDS and record.closed_at is not None and record.state != State.EXPIRED:
                return record
            if kind == Kind.DISCLOSURE:
                return record._replace(hold="awaiting-disclosure")
            return record._replace(undeliverable=True)

        changed = change_by_id(node, conn, item.referral, what=f"{item.kind}-barred", adjust=adjust)
        if changed is not None and item.kind == Kind.DISCLOSURE:
            say_of_what_was_released(node, conn, changed)
        if never_told:
            bar_what_followed(node, conn, item.referral)


def _destroyed(node: Node, conn: Connection, item: OutgoingRecord) -> bool:
    """Whether it still waited. What the receiver may go on without stays on record (`unheard.lacks_something`)."""
    if item.kind in LATER:
        return disown_waiting(conn, item.id, node.clock())
    return delete_waiting(conn, item.id)


def bar_what_followed(node: Node, conn: Connection, referral: str) -> None:
    """The only release was taken back: what waits and tells more than an offer may does not leave either."""
    waiting = [item for item in queued_of(conn, referral) if item.kind in LATER]
    bar(node, conn, [item for item in waiting if _tells_more_than_an_offer(node, item)])


def bar_what_she_took_back(node: Node, conn: Connection, before: ConsentRecord, after: ConsentRecord) -> None:
    """She allows less than before: nothing leaves that may hold what she has taken back."""
    for record in lock_referrals_of_consent(conn, before.id):
        if record.sealed_facts is None:
            continue
        with no_forward_if_unreadable(node, conn, record.id):
            bar(node, conn, _of_which_more_may_be_said(node, conn, record, record.sealed_facts, before, after))


def bar_what_says_a_later_end(node: Node, conn: Connection, before: ConsentRecord, after: ConsentRecord) -> None:
    """Her consent ends earlier than before: no receipt that says otherwise leaves any more."""
    if after.expires_at >= before.expires_at:
        return
    ends = to_millis(after.expires_at)
    for record in lock_referrals_of_consent(conn, before.id):
        with no_forward_if_unreadable(node, conn, record.id):
            held = held_of(conn, record.id)
            if held is not None and _says_a_later_end(node, held, ends):
                change_by_id(
                    node,
                    conn,
                    record.id,
                    what="disclosure-barred",
                    adjust=lambda read: read._replace(hold="awaiting-disclosure"),
                )
            bar(node, conn, [item for item in _forwards(conn, record) if _says_a_later_end(node, item, ends)])


@contextmanager
def no_forward_if_unreadable(node: Node, conn: Connection, referral: str) -> Iterator[None]:
    """What she has said now holds whatever row of one referral cannot be read; then no forward of it stays.

    What was done inside is undone, and the referral is left as it is. What certainly never left is no event of it.
    """
    left = True
    with left_if_unreadable(node, conn, referral):
        yield
        left = False
    if left:
        remove_events(conn, referral, delete_queued(conn, referral, FORWARDS))


def _forwards(conn: Connection, record: ReferralRecord) -> list[OutgoingRecord]:
    """A kind that only a later version knows may be a stop. It does not leave by this one."""
    return [item for item in queued_of(conn, record.id) if item.kind in FORWARDS]


def _of_which_more_may_be_said(
    node: Node, conn: Connection, record: ReferralRecord, sealed: bytes, before: ConsentRecord, after: ConsentRecord
) -> list[OutgoingRecord]:
    waiting = _forwards(conn, record)
    try:
        facts = open_facts(node, record.id, sealed)
    except UNREADABLE as error:
        tell_unreadable(node, "referral", record.id, error)
        return waiting
    return [item for item in waiting if _may_say_more(node, record, facts, item, before, after)]


def _says_a_later_end(node: Node, item: OutgoingRecord, ends: int) -> bool:
    header = _header_of(node, item)
    if header is None:
        return True
    receipt = header.receipt
    return receipt is None or receipt.expires > ends


def _tells_more_than_an_offer(node: Node, item: OutgoingRecord) -> bool:
    header = _header_of(node, item)
    return header is None or header.stage != Stage.OFFER


def _header_of(node: Node, item: OutgoingRecord) -> Header | None:
    """Nothing where it cannot be read."""
    try:
        return parse_header(outgoing_header(node, item))
    except UNREADABLE as error:
        tell_unreadable(node, "outbox", item.id, error)
        return None


def _may_say_more(
    node: Node,
    record: ReferralRecord,
    facts: Facts,
    item: OutgoingRecord,
    before: ConsentRecord,
    after: ConsentRecord,
) -> bool:
    """Whether it may hold something that the earlier version let go and the new one does not."""
    world = node.world()
    contract, receiver = world.contracts.get(record.contract), world.roster.members.get(record.peer)
    header = _header_of(node, item)
    if header is None or contract is None or receiver is None or node.agency not in world.roster.members:
        return True
    then = question_about(node, header, receiver, facts.service, contract, before)
    now = replace(then, consent=after)
    if any(isinstance(groups_allowed(question), Refused) for question in (then, now)):
        return True
    # What was sealed when the two were something else may hold what only that let go.
    return any(
        not may_be_inside(question) <= may_be_inside(replace(question, consent=after))
        for question in (then, *as_they_were(facts, then))
    )

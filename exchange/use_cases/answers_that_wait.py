"""Answers that wait when she says "stop sharing": feedback is disclosure too. What has not left says less, or stays.

Rules:

* Only what certainly never left is touched. What was put on its way may have arrived, and goes again as it is, byte for
  byte; so does how it goes, where it is sealed anew because an envelope that may have arrived was destroyed
  (`answering.goes_again`). The answer to a recall always travels.
* What tells how the service goes stays at home: on record here, and no part of what both nodes know. So does what was
  destroyed before it left, or refused: nobody has heard it, and now nobody may.
* That the service is over is still told, and not how. An envelope that may say how is deleted, and the same event is
  sealed anew without outcome or reason. Number, `seen` and time stay, so that both nodes compute the same state and the
  referral closes. The id is a fresh one: a courier that has read the old envelope already finds that it is gone.
* So also where the referral's own data were destroyed meanwhile, or cannot be read: what it answers stands in the
  header of what waited. Where that cannot be read either, nothing is told, and her no counts all the same.
* Sealing needs the agency's keys, and a key of the other agency. Where one is missing the envelope leaves as it was
  sealed: held back, the referral would close on neither node, and its data would be kept without an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from contracts.vocabulary import Feedback, Purpose
from exchange.envelope.kinds import Kind
from exchange.envelope.wire import read_again
from exchange.feedback import Answer, answer, over, tells_how
from exchange.referral.answers import Progress, ProgressContent
from exchange.referral.lifecycle import EventName
from exchange.storage.database import Connection
from exchange.storage.outbox import HeldBack, hold_back, never_arrived
from exchange.storage.referrals import EventRecord, ReferralRecord, add_event, events_of, keep_at_home, remove_events
from exchange.use_cases.answering import seal_word
from exchange.use_cases.facts import Facts, open_facts
from exchange.use_cases.headers import outgoing_header
from exchange.use_cases.node import Node
from exchange.use_cases.outgoing import latest_peer_epoch, put_out
from exchange.use_cases.row_by_row import UNREADABLE

_HOW_IT_GOES: Final = {
    Kind.PROGRESS: frozenset(state.value for state in Progress if not over(state)),
    Kind.INFORMATION_REQUEST: frozenset({EventName.INFORMATION_REQUESTED.value}),
}
"""By kind: the answer to a recall may say the same."""
_OVER: Final = frozenset(state.value for state in Progress if over(state))


def say_less(node: Node, conn: Connection, record: ReferralRecord) -> None:
    """Hold back, or say again with less, what has not left; in the transaction that records her no.

    Sealed in here, as a stop is: only here is it known what has not left. A transaction that runs again seals again.
    """
    events = events_of(conn, [record.id])[record.id]
    told = {event.digest: event for event in events if event.side == record.side and event.digest is not None}
    for kind, names in _HOW_IT_GOES.items():
        digests = [digest for digest, event in told.items() if event.name in names]
        if not digests:
            continue
        unsent = {held.digest for held in hold_back(conn, record.id, kind.value, digests)}
        if unheard := unsent | never_arrived(conn, record.id, kind.value, digests):
            keep_at_home(conn, record.id, unheard)
    endings = [event for event in told.values() if event.name in _OVER]
    if endings:
        _say_only_that_it_is_over(node, conn, record, endings)


def _say_only_that_it_is_over(
    node: Node, conn: Connection, record: ReferralRecord, endings: Sequence[EventRecord]
) -> None:
    if node.keyring is None:
        return
    facts = _facts_left(node, record)
    level = facts.feedback if facts is not None else Feedback.OUTCOME
    epoch = latest_peer_epoch(node, conn, record.peer) if tells_how(level) else None
    if epoch is None:
        return
    for event in endings:
        word = answer(ProgressContent(state=Progress(event.name)), level=level, sharing_stopped=True)
        if not isinstance(word, Answer):
            continue
        for held in hold_back(conn, record.id, word.kind.value, [event.digest or ""]):
            if (answers := _what_it_answers(node, facts, held)) is None:
                keep_at_home(conn, record.id, [held.digest])
                continue
            offer, purpose = answers
            sealed = seal_word(node, record, word, event, epoch, offer=offer, purpose=purpose)
            remove_events(conn, record.id, [held.digest])
            add_event(conn, event._replace(digest=sealed.digest))
            put_out(node, conn, sealed)


def _facts_left(node: Node, record: ReferralRecord) -> Facts | None:
    if record.sealed_facts is None:
        return None
    try:
        return open_facts(node, record.id, record.sealed_facts)
    except UNREADABLE:
        return None


def _what_it_answers(node: Node, facts: Facts | None, held: HeldBack) -> tuple[str, Purpose] | None:
    """The offer and its purpose; nothing where neither the referral nor the header can say."""
    if facts is not None:
        return facts.offer, facts.purpose
    try:
        header = read_again(outgoing_header(node, held))
        return header["in_reply_to"], Purpose(header["purpose"])
    except UNREADABLE:
        return None

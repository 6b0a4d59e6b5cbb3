"""The receiver is not what she was told before her name was sealed: that is said before a fresh disclosure is taken.

Rules:

* It is said as `not-told-first` in the list of changes: when a release finds it, when what was released is destroyed
  before it left, and to whoever hands in a fresh disclosure before. What is held is deleted then, and asked for again.
* A fresh disclosure that comes after that was made by somebody who could know, and is taken. Where the roster says
  something else again since, that is said first.
* What was refused was made before: under the same Idempotency-Key it stays refused.
* Where her consent records what she was told, the gate refuses a fresh disclosure as long as the roster says more
  (`exchange.disclosure`, 7). That is said too: what is held must not go if the roster is changed back.
* That it was said is no reason to tell more otherwise: what she was told is noted when a disclosure is taken.
"""

from __future__ import annotations

from typing import Final

from exchange.disclosure import Refused
from exchange.roster import Member
from exchange.storage.database import Connection
from exchange.storage.referrals import ReferralRecord
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import Case, audit
from exchange.use_cases.change_referral import change_referral
from exchange.use_cases.errors import ForbiddenError
from exchange.use_cases.facts import Facts, open_facts, seal_facts
from exchange.use_cases.gate_again import told_of
from exchange.use_cases.idempotency import Keep
from exchange.use_cases.node import Node
from exchange.use_cases.refusals import gate_says_no
from exchange.use_cases.row_by_row import UNREADABLE, tell_unreadable
from exchange.use_cases.transitions import HOLDING

NOT_TOLD: Final = "not-told-first"
_SAID_NOW: Final = Refused(
    NOT_TOLD,
    "The receiver is not what she was told: whom it reports to, whether she can leave, or its papers. Nothing was "
    "sealed, and what was held is deleted. Tell her, then send a fresh disclosure under a new Idempotency-Key.",
    (),
)


async def check_told(node: Node, acting: Acting, case: Case, receiver: Member, keep: Keep) -> None:
    """Before a fresh disclosure is held: who made it could know what she has to be told.

    Raises:
        ForbiddenError: `not-told-first`. It is on record that this was said.
        StaleReferralError: take the step again.
    """
    facts, now = case.facts, told_of(receiver)
    refused_before = keep.key in facts.untold_keys
    if not refused_before and (facts.told_first in {None, now} or facts.told_anew == now):
        return
    if not refused_before:
        await node.database.write(lambda conn: _say(node, conn, acting, case, keep))
    node.measurements.decided(engine="gate", outcome="refused", code=NOT_TOLD)
    raise gate_says_no(_SAID_NOW, new=False)


async def say_if_untold(node: Node, acting: Acting, case: Case, keep: Keep, refusal: ForbiddenError) -> None:
    """After the gate has refused a fresh disclosure: where this is why, it is on record, and nothing is held any more.

    Raises:
        StaleReferralError: take the step again.
    """
    unsaid = as_said(node, case.facts, case.record.peer) != case.facts
    if refusal.code == NOT_TOLD and (case.record.hold in HOLDING or unsaid):
        await node.database.write(lambda conn: _say(node, conn, acting, case, keep))


def say_of_what_was_released(node: Node, conn: Connection, record: ReferralRecord) -> None:
    """After a disclosure was destroyed on its way: the list of changes says it where this is so."""
    receiver = node.world().roster.members.get(record.peer)
    if receiver is None or record.sealed_facts is None or record.closed_at is not None:
        return
    try:
        facts = open_facts(node, record.id, record.sealed_facts)
    except UNREADABLE as error:
        tell_unreadable(node, "referral", record.id, error, peer=record.peer)
        return
    if facts.told_first not in {None, told_of(receiver)}:
        _change(node, conn, record, as_said(node, facts, record.peer))


def as_said(node: Node, facts: Facts, peer: str) -> Facts:
    """The facts after it was said of the receiver as the roster has it now."""
    receiver = node.world().roster.members.get(peer)
    return facts if receiver is None else facts.model_copy(update={"told_anew": told_of(receiver)})


def _say(node: Node, conn: Connection, acting: Acting, case: Case, keep: Keep) -> None:
    said = as_said(node, case.facts, case.record.peer)
    _change(node, conn, case.record, said.model_copy(update={"untold_keys": (*said.untold_keys, keep.key)}))
    audit(conn, node, acting, "disclosure-refused", [case.record.id], NOT_TOLD)


def _change(node: Node, conn: Connection, record: ReferralRecord, facts: Facts) -> None:
    def adjust(read: ReferralRecord) -> ReferralRecord:
        hold = "awaiting-disclosure" if read.hold in HOLDING else read.hold
        return read._replace(hold=hold, sealed_facts=seal_facts(node, read.id, facts))

    change_referral(node, conn, record, what=NOT_TOLD, adjust=adjust)

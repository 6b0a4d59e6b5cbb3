"""The agency's own software has opened an item and keeps its key from now on: the node drops the sender's wrapped key.

Rules:

* The software stores the key durably first and says so here afterwards. If it dies in between, the wrapped key is still
  here and opening begins anew: at no moment does nobody hold the only key.
* It names the digest of exactly the envelope that it verified; another one drops nothing.
* It may be said again and changes nothing then, but that a level of feedback that was not said yet is heard.
* What the content says about feedback this node cannot know. Until it is told it forwards the least of all; told, once,
  it takes the lesser of that and of what the contract's rule allowed when the offer arrived, ended or not since.
"""

from __future__ import annotations

from contracts.vocabulary import Feedback
from exchange.disclosure import lesser
from exchange.envelope.kinds import Kind
from exchange.roster import Member
from exchange.schemas.inbox import InboxItem, OpeningRequest
from exchange.storage.database import Connection
from exchange.storage.inbox import ArrivedRecord, drop_wrapped_key, mark_opened
from exchange.storage.referrals import ReferralRecord, save_referral
from exchange.use_cases.acting import Acting
from exchange.use_cases.cases import again, audit, find_item
from exchange.use_cases.errors import ConflictError
from exchange.use_cases.facts import Facts, open_facts, seal_facts
from exchange.use_cases.node import Node
from exchange.use_cases.open_items import may_be_shown
from exchange.use_cases.poll_inbox import item_view
from exchange.use_cases.refusals import destroyed


async def record_opening(node: Node, acting: Acting, item: str, request: OpeningRequest) -> InboxItem:
    """Drop the wrapped key of one item.

    Raises:
        NotFoundError, GoneError: there is no such item, or its content is destroyed or blocked.
        ConflictError: `digest-differs`: another envelope was opened than the one that lies here.
        UnavailableError: `not-a-member`: of an offer, with its level.
    """

    def commit(conn: Connection) -> tuple[int, ArrivedRecord, ReferralRecord]:
        _, row, record = find_item(conn, item, acting.unit)
        if not may_be_shown(row, record):
            raise destroyed()
        if row.digest != request.digest:
            raise ConflictError("digest-differs", "Another envelope lies here than the one that you name. Fetch it.")
        first = row.wrapped_key is not None
        if first:
            drop_wrapped_key(conn, item)
            mark_opened(conn, [item], node.clock())
            audit(conn, node, acting, "opened", [item])
        if row.kind == Kind.OFFER and request.feedback is not None:
            _hear_level(node, conn, record, request.feedback, first=first)
        return find_item(conn, item, acting.unit)

    seq, row, record = await again(lambda: node.database.write(commit))
    return item_view(node, seq, row, record)


def _hear_level(node: Node, conn: Connection, record: ReferralRecord, hers: Feedback, *, first: bool) -> None:
    """Store the feedback level that the offer holds, bounded by what this node knows itself, unless it was said before.

    `first`: the offer was not taken over before.
    """
    if record.sealed_facts is None:
        return
    # Whichever bound counts: who has been taken off the roster is told so, and says it again.
    me, facts = node.member, open_facts(node, record.id, record.sealed_facts)
    # A row without a bound has been told, or is of before it was remembered: there the first word alone counts.
    most = facts.feedback_at_most or (_by_the_rule(node, me, record, facts) if first else None)
    if most is not None:
        facts = facts.model_copy(update={"feedback": lesser(most, hers), "feedback_at_most": None})
        save_referral(conn, record._replace(sealed_facts=seal_facts(node, record.id, facts)))


def _by_the_rule(node: Node, me: Member, record: ReferralRecord, facts: Facts) -> Feedback | None:
    """What the contract's rule lets be told back today; nothing where it is not known any more."""
    world = node.world()
    contract, sender = world.contracts.get(record.contract), world.roster.members.get(record.peer)
    rule = contract.rule_for(sender.kind, me.kind, facts.service) if contract and sender else None
    return rule.feedback if rule is not None else None

"""Before a forward is opened: is her consent still live, as far as this node knows, and how old is that word?

Rules:

* The word that came with an envelope counts: of a disclosure the release statement's `consent_live_at`, of any other
  forward the moment its receipt was issued. So a first open asks nobody.
* A word older than one hour is asked for anew, one request a peer for all that is opened, with a short deadline. So is
  one of a time to come, which clocks that were ahead have dated. A peer that did not answer is not asked again for a
  minute.
* What is said of a receipt is said of all that came under it: a sender may send several envelopes under one.
* Only a statement by the sender's node key of today counts, about exactly the receipts asked for, made just now. Today
  is when it is heard: a key that was replaced while it was on its way counts no more.
* Unanswered, an item opens with the age of its word until 72 hours; then not (`consent-not-fresh`), nor with a word of
  a time to come, of which nobody knows how old it is. Hours are counted when the asking is over: a machine may have
  slept meanwhile.
* After a known end nothing opens any more (`consent-ended`), and no later word undoes that.
* A consent that has run out by its own date ends new disclosures, not what was disclosed before: nobody is asked about
  it, and it opens with the age of its last word. Her no would still come, as a stop. So where a sender counts that
  end and, by a clock ahead of this one, has seen it: what it says is over after the receipt's end is no known end.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from exchange.envelope.errors import EnvelopeError
from exchange.envelope.kinds import KindClass
from exchange.envelope.statements import ConsentStatus, parse_statement
from exchange.envelope.wire import from_base64url
from exchange.limits import LIMITS
from exchange.referral.lifecycle import State
from exchange.roster import UnknownMemberError
from exchange.schemas.federation import ConsentStatusAnswer
from exchange.schemas.inbox import WithheldCode
from exchange.storage.consent_words import record_words
from exchange.storage.inbox import ArrivedRecord, Standing
from exchange.storage.referrals import ReferralRecord
from exchange.telemetry.logs import get_logger
from exchange.use_cases.consent_status import digest_of
from exchange.use_cases.headers import class_here, header_members
from exchange.use_cases.node import Node

_ENDED = frozenset({State.WITHDRAWN.value, State.ENTERED_IN_ERROR.value})


@dataclass(frozen=True, slots=True)
class Words:
    """What is known about the consent behind each forward, by item."""

    live_at: Mapping[str, int]
    withheld: Mapping[str, WithheldCode]
    """Items that must not be opened, with the code of why."""
    run_out: frozenset[str] = frozenset()
    """Items whose consent is over by its own date, as it seems."""


async def fresh_words(node: Node, rows: Iterable[tuple[ArrivedRecord, ReferralRecord | Standing]]) -> Words:
    """The word on each of these items; asked for where it is old, and written down."""
    live_at: dict[str, int] = {}
    withheld: dict[str, WithheldCode] = {}
    stale: dict[str, dict[str, list[_Asked]]] = defaultdict(lambda: defaultdict(list))
    run_out: set[str] = set()
    at = node.clock()
    for row, referral in rows:
        if class_here(row) is not KindClass.FORWARD:
            continue
        live_at[row.id] = row.consent_live_at or row.received_at
        fresh = -node.limits.skew_ms <= at - live_at[row.id] <= node.limits.consent_fresh_ms
        if has_ended(row, referral):
            withheld[row.id] = "consent-ended"
        elif not fresh and (receipt := _receipt(node, row)) is not None:
            if receipt.expires <= at:
                run_out.add(row.id)
            else:
                stale[row.sender][receipt.receipt_id].append(_Asked(row.id, receipt.expires))
    if stale:
        for said in await asyncio.gather(*(_ask(node, peer, asked) for peer, asked in stale.items())):
            live_at |= said.live_at
            withheld |= said.withheld
            run_out |= said.run_out
        at = node.clock()
    for item, word in live_at.items():
        of_known_age = -node.limits.skew_ms <= at - word <= node.limits.consent_shown_with_age_ms
        if item not in withheld and item not in run_out and not of_known_age:
            withheld[item] = "consent-not-fresh"
    return Words(live_at, withheld, frozenset(run_out))


def has_ended(row: ArrivedRecord, referral: ReferralRecord | Standing) -> bool:
    """Whether it is known that her consent to this item has ended."""
    ended = row.consent_ended_at is not None or referral.state in _ENDED
    return ended and class_here(row) is KindClass.FORWARD


class _Receipt(NamedTuple):
    receipt_id: str
    expires: int


class _Asked(NamedTuple):
    item: str
    expires: int


def _receipt(node: Node, row: ArrivedRecord) -> _Receipt | None:
    members = header_members(node, row)
    return _Receipt(members["receipt"]["receipt_id"], members["receipt"]["expires"]) if members else None


async def _ask(node: Node, peer: str, asked: Mapping[str, Sequence[_Asked]]) -> Words:
    """Ask one peer about these receipts and what came under each; its words by item, none where it does not answer."""
    nothing, limits = Words({}, {}), node.limits
    at = node.clock()
    # What a clock that was ahead put off for longer is not put off.
    if 0 < node.consent_asked_again.get(peer, 0) - at <= limits.consent_ask_again_ms:
        return nothing
    try:
        member = node.world().roster.member(peer)
    except UnknownMemberError:
        return nothing
    # What keeps nobody from asking any more says nothing: so it holds no more than was asked about in one hour.
    node.consent_lost = {
        receipt: said for receipt, said in node.consent_lost.items() if 0 <= at - said <= limits.consent_fresh_ms
    }
    receipts = [receipt for receipt in asked if receipt not in node.consent_lost]
    if not receipts:
        return nothing
    answer = await node.ask_consent_status(member, receipts)
    statement = _verified(node, peer, receipts, answer) if answer is not None else None
    if answer is None or statement is None:
        node.consent_asked_again[peer] = at + limits.consent_ask_again_ms
        return nothing
    node.consent_lost |= {one.receipt: at for one in answer.receipts if one.status == "lost"}
    live = [one.item for said in answer.receipts if said.status == "live" for one in asked[said.receipt]]
    over = [one for said in answer.receipts if said.status == "not-live" for one in asked[said.receipt]]
    # That its date has passed is no `not-live` of a node like this one. Another may count it: past the receipt's end it
    # may be that; said before, by the same clock, it is another end.
    ended = [one.item for one in over if statement.stated_at < one.expires]
    run_out = frozenset(one.item for one in over) - frozenset(ended)
    stated_at = min(statement.stated_at, at)
    await node.database.write(lambda conn: record_words(conn, live=live, ended=ended, stated_at=stated_at))
    code: WithheldCode = "consent-ended"
    return Words(dict.fromkeys(live, stated_at), dict.fromkeys(ended, code), run_out)


def _verified(node: Node, peer: str, receipts: Sequence[str], answer: ConsentStatusAnswer) -> ConsentStatus | None:
    """The statement, if this member's node made it now, for this node, about exactly these receipts."""
    # The roster may have changed while the answer was on its way, and who has a replaced key would be believed.
    member = node.world().roster.members.get(peer)
    if member is None:
        return None
    try:
        raw = from_base64url(answer.statement, member="statement", longest=LIMITS.statement_bytes)
        said = parse_statement(ConsentStatus, raw).verify(member.node_key)
    except EnvelopeError:
        get_logger().warning("consent-status-refused", peer=peer, code="statement-signature")
        return None
    right = (
        (said.agency, said.recipient) == (peer, node.agency)
        and [one.receipt for one in answer.receipts] == list(receipts)
        and said.receipts == digest_of(answer.receipts)
        and abs(said.stated_at - node.clock()) <= node.limits.skew_ms
    )
    if not right:
        get_logger().warning("consent-status-refused", peer=peer, code="statement-differs")
    return said if right else None

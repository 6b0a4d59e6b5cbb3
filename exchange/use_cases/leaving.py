"""Whether what waits may leave now: hours or days after the gate has looked.

Rules:

* Standing first: of what has none nothing is opened. Stops go to everybody.
* Once a referral has ended only what is on a list leaves (`LEAVE_AFTER_THE_END`): stops, which carry nothing about her,
  and the words from which both nodes compute the state. What tells more of her does not, however it ended: a receiver
  that refuses it has its bytes, and the week's key. It is deleted in the commit that ends the referral
  (`use_cases.change_referral`), so that a courier with it in hand finds it gone; here what lies there all the same is
  found.
* A disclosure leaves only if this node has released it, whatever its row says (`use_cases.released_here`).
* A forward leaves only under a contract that is in force and that this node uses, and before its receipt ends.
* Where the roster is another than the one it was sealed by, sender or receiver may be another kind of office, or in
  another country: the contract has to permit every group inside to these two as they are now, as the receiver will ask
  (step 12), and the gate is asked again, with her consent (`use_cases.gate_again`).
* What cannot be read (damaged, or of a later version) neither leaves nor is destroyed: it waits, and holds up no other.
  So does a forward of which the gate has no answer, since her referral or consent cannot be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from exchange.envelope.header import Header, parse_header
from exchange.envelope.kinds import Kind, KindClass
from exchange.roster import Member, standing_allows
from exchange.storage.outbox import OutgoingRecord
from exchange.storage.referrals import open_among
from exchange.use_cases.gate_again import allowed_again
from exchange.use_cases.headers import class_here, members_of, outgoing_header
from exchange.use_cases.node import Node, World, as_datetime
from exchange.use_cases.released_here import was_released
from exchange.use_cases.row_by_row import UNREADABLE, tell_unreadable
from exchange.verification import groups_permitted

LEAVE_AFTER_THE_END: Final = frozenset(
    kind.value
    for kind in (
        Kind.RECALL,
        Kind.WITHDRAWAL,
        Kind.ERASURE_RECEIPT,
        Kind.REFUSAL,
        Kind.ENTERED_IN_ERROR,
        Kind.DECISION,
        Kind.PROGRESS,
        Kind.INFORMATION_REQUEST,
        Kind.RECALL_ANSWER,
    )
)
"""A kind that is not named here stays."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """What is looked at for all that waits for one peer, at one moment."""

    node: Node
    world: World
    me: Member
    peer: Member
    in_force: Collection[str]
    going_on: Collection[str]
    """Of the referrals of what leaves before the end alone, those that have not ended."""
    at: int

    def header_of(self, item: OutgoingRecord) -> bytes | None:
        """The header with which it leaves; nothing where it may not."""
        if not standing_allows(self.me, self.peer, class_here(item)):
            return None
        header = outgoing_header(self.node, item)
        if b'"kind":"%b"' % item.kind.encode() not in header:
            return None  # the row calls it something else, for which less would be looked at
        return header if self._is_covered(item, header) else None

    def _is_covered(self, item: OutgoingRecord, header: bytes) -> bool:
        if item.kind not in LEAVE_AFTER_THE_END and item.referral not in self.going_on:
            return False
        if class_here(item) is not KindClass.FORWARD:
            return True
        members = members_of(header)
        if members["kind"] == Kind.DISCLOSURE and not was_released(self.node, item):
            return False
        contract = self.world.contracts.get(members["contract"])
        if contract is None or members["contract"] not in self.in_force or self.at >= members["receipt"]["expires"]:
            return False
        if members["roster_digest"] == self.world.roster.digest:
            return True
        permitted = groups_permitted(parse_header(header), self.me, self.peer, contract)
        return permitted.issuperset(members["groups"])

    def sealed_before(self, item: OutgoingRecord, header: bytes) -> Header | None:
        """The header of a forward that was sealed under another roster than today's; nothing for all others."""
        of_today = b'"roster_digest":"%b"' % self.world.roster.digest.encode() in header
        return None if of_today or class_here(item) is not KindClass.FORWARD else parse_header(header)


class Looked(NamedTuple):
    """What waits for one peer, looked at. What is in neither may not leave any more."""

    headers: dict[str, bytes]
    """The header of each envelope that may leave as the world is now, by the envelope's id."""
    unreadable: frozenset[str]
    """Ids of envelopes of which that cannot be said."""


async def headers_leaving(node: Node, world: World, agency: str, items: Iterable[OutgoingRecord]) -> Looked:
    """Of what waits for one peer, what may leave as the world is now, and what cannot be read.

    Raises:
        UnknownMemberError: the roster does not list this agency, or the other.
    """
    at, items = node.clock(), list(items)
    ends = {item.referral for item in items if item.kind not in LEAVE_AFTER_THE_END}
    going_on = await node.database.read(lambda conn: open_among(conn, ends)) if ends else frozenset[str]()
    me, peer = world.roster.member(node.agency), world.roster.member(agency)
    in_force = world.roster.contract_in_force(me.agency, agency, as_datetime(at))
    leaving = Leaving(node, world, me, peer, in_force, going_on, at)
    headers: dict[str, bytes] = {}
    before: dict[str, Header] = {}
    unreadable = set[str]()
    for item in items:
        try:
            if (header := leaving.header_of(item)) is None:
                continue
            sealed_before = leaving.sealed_before(item, header)
        except UNREADABLE as error:
            tell_unreadable(node, "outbox", item.id, error, peer=agency)
            unreadable.add(item.id)
            continue
        headers[item.id] = header
        if sealed_before is not None:
            before[item.id] = sealed_before
    if before:
        asked = await allowed_again(node, world, before)
        unreadable |= asked.unreadable
        for envelope in before.keys() - asked.allowed:
            del headers[envelope]
    return Looked(headers, frozenset(unreadable))

"""Whether what waits may leave now: hours or days after the gate has looked.

Rules:

* Standing first: of what has none nothing is opened. Stops go to everybody.
* A disclosure leaves only if this node has released it, whatever its row says (`use_cases.released_here`).
* A forward leaves only under a contract that is in force and that this node uses, and before its receipt ends.
* Where the roster is another than the one it was sealed by, sender or receiver may be another kind of office: the
  contract has to permit every group inside to these two as they are now, as the receiver will ask (step 12). Which
  fields of a group are inside is not known here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from exchange.envelope.header import parse_header
from exchange.envelope.kinds import Kind, KindClass
from exchange.roster import Member, standing_allows
from exchange.storage.outbox import OutgoingRecord
from exchange.use_cases.headers import class_here, members_of, outgoing_header
from exchange.use_cases.node import Node, World, as_datetime
from exchange.use_cases.released_here import was_released
from exchange.verification import groups_permitted


@dataclass(frozen=True, slots=True)
class Leaving:
    """What is looked at for all that waits for one peer, at one moment."""

    node: Node
    world: World
    me: Member
    peer: Member
    in_force: Collection[str]
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


def leaving_for(node: Node, agency: str) -> Leaving:
    """What is looked at now.

    Raises:
        UnknownMemberError: the roster does not list this agency, or the other.
    """
    world, at = node.world(), node.clock()
    me, peer = world.roster.member(node.agency), world.roster.member(agency)
    return Leaving(node, world, me, peer, world.roster.contract_in_force(me.agency, agency, as_datetime(at)), at)

"""Places: how many names a receiver may have that it has not served, and who gets the one that came free.

Rules:

* How many is the rule's to say (`max_unserved_accepts`); which names count, over all of this agency's referrals to that
  receiver, is one number (`exchange.storage.unserved`).
* A place that comes free goes to the release that waits longest among those whose own rule lets the receiver have one
  more name. One that may not take it does not keep it from those behind.
* A row that cannot be read is passed over: it holds up nobody else's release, nor the word that made the place free.
"""

from __future__ import annotations

from exchange.envelope.errors import SealedRowError
from exchange.storage.database import Connection
from exchange.storage.unserved import count_unserved, goes_next, waiting_for
from exchange.use_cases.facts import Facts, open_facts
from exchange.use_cases.node import Node


def most_unserved(node: Node, peer: str, contract_digest: str, facts: Facts) -> int:
    """How many names the receiver may have that it has not served. Where no rule says so, none."""
    world = node.world()
    contract = world.contracts.get(contract_digest)
    sender, receiver = world.roster.members.get(node.agency), world.roster.members.get(peer)
    if contract is None or sender is None or receiver is None:
        return 0
    rule = contract.rule_for(sender.kind, receiver.kind, facts.service)
    return rule.max_unserved_accepts if rule is not None else 0


def give_place(node: Node, conn: Connection, peer: str) -> bool:
    """A place at this receiver may have come free; returns whether a release is due by it."""
    waiting = waiting_for(conn, peer)
    names = count_unserved(conn, peer, node.clock()) if waiting else 0
    for referral, contract, sealed_facts in waiting:
        try:
            facts = open_facts(node, referral, sealed_facts)
        except SealedRowError:
            continue
        if names < most_unserved(node, peer, contract, facts) and goes_next(conn, referral):
            return True
    return False

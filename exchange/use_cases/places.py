"""Places: how many names a receiver may have that it has not served, and who gets the one that came free.

Rules:

* How many is the rule's to say (`max_unserved_accepts`); which names count, over all of this agency's referrals to that
  receiver, is one number (`exchange.storage.unserved`).
* A place that is free goes to the release that waits longest among those whose own rule lets the receiver have one
  more name. One that may not take it, or does not, keeps it from nobody behind.
* Whether a place is free is looked for in each round of the courier, and not written down by what has made it free:
  that would change another referral than its own, with the row of the peer in its hand, and her no would wait for it.
* A row that cannot be read is passed over: it holds up nobody else's release.
"""

from __future__ import annotations

from collections.abc import Collection

from exchange.envelope.errors import SealedRowError
from exchange.storage.database import Connection
from exchange.storage.unserved import Waiting, all_waiting, names_unserved
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


def next_in_line(node: Node, conn: Connection, tried: Collection[str]) -> list[Waiting]:
    """For each receiver that has a place the release that waits longest for one, of those that were not tried yet."""
    found: dict[str, Waiting] = {}
    names: dict[str, int] = {}
    for waiting in all_waiting(conn):
        if waiting.peer in found or waiting.referral in tried:
            continue
        if waiting.peer not in names:
            names[waiting.peer] = names_unserved(conn, waiting.peer, node.clock())
        if _may_have(node, waiting, names[waiting.peer] + 1):
            found[waiting.peer] = waiting
    return list(found.values())


def _may_have(node: Node, waiting: Waiting, names: int) -> bool:
    contract = node.world().contracts.get(waiting.contract)
    # Most often the receiver has all that any rule gives it, and nobody's facts have to be opened.
    if contract is None or all(names > rule.max_unserved_accepts for rule in contract.rules):
        return False
    try:
        facts = open_facts(node, waiting.referral, waiting.sealed_facts)
    except SealedRowError:
        return False
    return names <= most_unserved(node, waiting.peer, waiting.contract, facts)

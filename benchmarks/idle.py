"""What a node with nothing to do says to the others in a day, and what waiting for news costs.

Rules:

* Between two nodes it is counted for half a minute after they have read each other's cards: nothing may pass.
* What comes by the clock is measured once, over TLS, and multiplied by the schedule: the question whether a card has
  changed, both ways, on a connection that is resumed; and greetings and cards of a start, with a new connection for
  each node that is asked, taken as once a week.
* A client that long-polls is counted apart: it speaks to its own agency's node.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Load
from benchmarks.nodes import Pair, made_pair
from benchmarks.question import Question, measure_question
from benchmarks.relay import Between, relayed
from benchmarks.telling import tell
from benchmarks.wire import cards_fetched
from exchange.limits import DAY_MS
from exchange.use_cases.peer_cards import ASK_EVERY_MS, ASK_QUIET_EVERY_MS

MEASURED_S: Final = 30
DAY_S: Final = 86_400
CARD_EVERY_DAYS: Final = 7
"""Weeks begin once a week: no card has news more often."""
MEMBERS: Final = (2, 10, 30)
HELD_FOR: Final = 3
"""For so many others something is held; fewer where there are not as many."""


def measure_idle(folder: Path) -> dict[str, Any]:
    """Bytes a day between two nodes, and of a client that waits; processor time of both nodes meanwhile."""
    with made_pair(folder / "nodes", apart=True) as pair, relayed(pair.helpline, pair.shelter) as between:
        pair.start()
        found = asyncio.run(_measure(pair, between, folder))
    tell(f"idle: bytes a day by members {found['bytes_a_day']}; a waiting client {found['client_bytes_a_day']}")
    return found


def bytes_a_day(members: int, held_for: int, question: Question, start: int) -> int:
    """Of the line of one node, both ways.

    Args:
        members: of the federation, this one among them.
        held_for: for so many of the others this node holds or queues something.
        question: what it costs to ask for a card in vain.
        start: bytes in clear of two nodes' greetings and cards.
    """
    peers = members - 1
    quietly, hourly = DAY_MS / ASK_QUIET_EVERY_MS, DAY_MS / ASK_EVERY_MS
    asked = (2 * peers * quietly + held_for * (hourly - quietly)) * question.resumed
    connections = 2 * (question.new - question.in_clear)
    return round(asked + peers * (start + connections) / CARD_EVERY_DAYS)


async def _measure(pair: Pair, between: Between, folder: Path) -> dict[str, Any]:
    await cards_fetched(between)
    cards = between.counted().both_ways
    cpu, began = pair.cpu_seconds(), time.monotonic()
    await asyncio.sleep(MEASURED_S)
    after = pair.cpu_seconds()
    passed, took = between.counted().both_ways - cards, time.monotonic() - began
    load = Load(pair)
    await load.sign_in()
    poll = await load.bytes_of_a_poll()
    load.close()
    question = await measure_question(pair.shelter, folder)
    return {
        "measured_s": round(took),
        "passed_meanwhile_bytes": passed,
        "at_start_bytes": cards,
        "question_bytes": asdict(question),
        "bytes_a_day": {
            f"{members} members, held for {held}": bytes_a_day(members, held, question, cards)
            for members in MEMBERS
            for held in (0, min(HELD_FOR, members - 1))
        },
        "client_bytes_a_day": round(poll * DAY_S / 25),
        "cpu_percent": {name: round((after[name] - cpu[name]) / took * 100, 1) for name in after if name != "client"},
    }

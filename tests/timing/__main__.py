"""`PYTHONPATH=tests python -m timing [SAMPLES]`: does the time of a refusal tell what its words do not?

Two requests that are refused in the same words, one about something that exists and one about something that does not,
are sent in turns to a real node in this process, and the first of them a second time as a measure of the noise. Told
is the probability that a request of one kind took longer than one of the other (0.5: nothing to tell), beside the same
for two equal kinds. It counts as telling from 0.1 above or below, where it is more than twice the noise: less is the
decoding of one row. Times are processor time of this process, where no network hides anything.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import statistics
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any, Final

from support.http_world import NOBODYS_ID, SOUTH, Ask, HttpWorld, http_world
from timing.envelopes import envelope_pairs
from timing.pair import WARM_UP, Pair, Send

from exchange.envelope.keys import NodeKey
from exchange.oauth.assertion import make_assertion, token_request

TELLING: Final = 0.1


def longer(one: Sequence[float], other: Sequence[float]) -> float:
    """The probability that a draw of one is larger than a draw of the other: Mann and Whitney's U over the pairs."""
    ordered = sorted(other)
    wins = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in one)
    return wins / (2 * len(one) * len(other))


async def measure(pair: Pair, samples: int, random: Random) -> tuple[float, float, float, float]:
    """Medians in microseconds, how well the two are told apart, and the noise."""
    times: dict[str, list[float]] = {"exists": [], "again": [], "does_not": []}
    sends = {"exists": pair.exists, "again": pair.exists, "does_not": pair.does_not}
    said: dict[str, set[tuple[int, str]]] = {name: set() for name in sends}
    for number in range(samples + WARM_UP):
        for name in random.sample(list(sends), len(sends)):
            began = time.process_time_ns()
            answer = await sends[name]()
            took = (time.process_time_ns() - began) / 1000
            if number >= WARM_UP:
                times[name].append(took)
                said[name].add(answer)
        if number % 50 == 0:
            gc.collect()
    if said["exists"] != said["does_not"]:
        raise SystemExit(f"{pair.name}: the words differ: {said}")
    noise = longer(times["exists"], times["again"])
    both = times["exists"] + times["again"]
    return statistics.median(both), statistics.median(times["does_not"]), longer(both, times["does_not"]), noise


async def pairs(world: HttpWorld) -> list[Pair]:
    """Known and unknown: referral, inbox item, consent, client."""
    referral, item = await world.decided()
    consent = await world.consent()
    found = []
    for name, node, template, member, known in (
        ("a referral of another branch", world.helpline, "/v1/referrals/{id}", "id", referral),
        ("an inbox item of another branch", world.shelter, "/v1/inbox/{id}", "id", item.id),
        ("a consent of another branch", world.helpline, "/v1/consents/{id}", "id", consent),
    ):
        token = await world.token(node, SOUTH)

        def get(
            value: str, node: Any = node, template: str = template, member: str = member, token: str = token
        ) -> Send:
            async def send() -> tuple[int, str]:
                answer = await world.send(Ask(node, {member: value}), "GET", template, token=token)
                return answer.status_code, str(answer.json()["code"])

            return send

        found.append(Pair(name, get(known), get(NOBODYS_ID)))
    found.append(await _client(world))
    return found


async def _client(world: HttpWorld) -> Pair:
    """A client that is registered, and one that is not; both sign with a key that nobody knows."""
    node = world.shelter
    await world.token(node)
    stranger = NodeKey(secrets.token_bytes(32))

    def ask(client: str) -> Send:
        async def send() -> tuple[int, str]:
            assertion = make_assertion(client, node.member.node_url, stranger.sign, now=node.node.clock())
            async with world.http(node) as http:
                answer = await http.post("/oauth/token", data=token_request(assertion, "inbox:read"))
            return answer.status_code, answer.json()["error"]

        return send

    return Pair("a client that is registered", ask("north-system"), ask("nobody-system"))


async def tells(pair: Pair, samples: int, random: Random) -> bool:
    """Measure one pair, print it, and return whether it tells."""
    known, unknown, told, noise = await measure(pair, samples, random)
    found = abs(told - 0.5) > max(TELLING, 2 * abs(noise - 0.5))
    mark = "  TELLS" if found else ""
    print(f"{pair.name:36} {known:6.0f} µs {unknown:6.0f} µs {told:6.3f} {noise:6.3f}{mark}", flush=True)
    return found


async def main(samples: int) -> int:
    """Measure every pair and tell."""
    random = Random(1)
    print(f"{'what is asked about':36} {'known':>9} {'unknown':>9} {'told':>6} {'noise':>6}")
    with tempfile.TemporaryDirectory(prefix="timing-") as folder:
        async with http_world(Path(folder)) as world:
            telling = [await tells(pair, samples, random) for pair in await pairs(world)]
    with tempfile.TemporaryDirectory(prefix="timing-") as folder:
        async with envelope_pairs(Path(folder), samples) as found:
            telling += [await tells(pair, samples, random) for pair in found]
    return 1 if any(telling) else 0


if __name__ == "__main__":
    # Log lines are written and thrown away: they take their time, and stay out of the table.
    with redirect_stderr(StringIO()):
        told = asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 600))
    sys.exit(told)

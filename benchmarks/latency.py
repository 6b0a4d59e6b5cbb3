"""How long a referral takes from handed in to opened when there is time: five a second, for a minute.

Rules:

* Everything is measured twice: first with the processes where the kernel puts them; then *apart*, both APIs on one
  processor, courier and client on another, so that who is woken never waits for the processor of who woke it. So it is
  with two nodes on two machines, and on one whose kernel looks for an idle processor; some kernels of virtual machines
  do not, and keep as much as they can on one.
* Where there is one processor, or no way to choose, there is nothing apart.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.load import Load
from benchmarks.nodes import Pair, running_pair
from benchmarks.telling import tell
from exchange.demo.federation import NewDatabase

A_SECOND: Final = 5
COUNT: Final = 300
"""A 99th percentile of fewer would be their slowest one."""


def measure_latency(folder: Path, new_database: NewDatabase | None = None) -> dict[str, Any]:
    """Percentiles, and the processor time that each process spent on a referral."""
    with running_pair(folder / "nodes", new_database=new_database) as pair:
        found = asyncio.run(_measure(pair))
    told = [f"p50 {one['p50_ms']} ms, p95 {one['p95_ms']} ms, p99 {one['p99_ms']} ms" for one in found.values()]
    tell(f"latency at {A_SECOND}/s: {'; apart: '.join(told)}")
    return {"referrals": COUNT, "per_s": A_SECOND, **found}


async def _measure(pair: Pair) -> dict[str, Any]:
    load = Load(pair)
    await load.prepare()
    await load.end_to_end(50, 4)
    found = {"as_placed": await _at_a_rate(pair, load)}
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        with _apart(pair):
            found["apart"] = await _at_a_rate(pair, load)
    load.close()
    return found


async def _at_a_rate(pair: Pair, load: Load) -> dict[str, Any]:
    before = pair.cpu_seconds()
    found = await load.at_a_rate(COUNT, A_SECOND)
    after = pair.cpu_seconds()
    spent = {name: round((after[name] - before[name]) / COUNT * 1000, 2) for name in before}
    return {**{name: round(value, 1) for name, value in found.items()}, "cpu_ms_per_referral": spent}


@contextmanager
def _apart(pair: Pair) -> Iterator[None]:
    """This process, which is the client, goes back afterwards: other parts may follow in it."""
    allowed = os.sched_getaffinity(0)
    one, other, *_ = sorted(allowed)
    for node in (pair.helpline, pair.shelter):
        for role, process in node.processes().items():
            _keep_on(process, one if role == "api" else other)
    itself = psutil.Process()
    _keep_on(itself, other)
    try:
        yield
    finally:
        for thread in itself.threads():
            os.sched_setaffinity(thread.id, allowed)


def _keep_on(process: psutil.Process, processor: int) -> None:
    for thread in process.threads():
        os.sched_setaffinity(thread.id, {processor})

"""One member posts valid and invalid envelopes as fast as it can: it is told to wait, and nobody else is refused.

The others share a processor with it, and take longer for about a second, while it uses up its bytes of a minute at
once; afterwards hardly, while it asks over fewer than fifty connections (`test_how_long_others_take_meanwhile` prints
it for four, docs/faults.md has the last figures).

Rules:

* A member has so many requests and so many bytes a minute. What goes beyond is 429 with Retry-After, whatever is in
  it, and changes nothing.
* What is small enough may go on from a reserve that is small too, and counts as a request like any other. Her no does
  not wait behind bulk.
* Every member has its own: what one uses up another one still has.
* Of each member one batch is worked on at a time, a few envelopes between two turns of the others, and none while a
  small delivery of another one is on its way.
* Who asks again instead of waiting hears so slowly: its refusals come one after the other, as long as few are waiting;
  so do those of what is no batch at all.
* Our own courier, told to wait, does not call before its time, except with her no, until that is put off too.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select
from support.databases import POSTGRES_IN_FAULTS, MakeDatabase
from support.federation import Federation, TestNode
from support.federation_fixtures import federation_on
from support.ledger import note, record
from support.lying_peer import ENVELOPES, LyingPeer, batch_of, row_counts
from support.real_line import real_line
from support.stories import Story, begin, rows

from exchange.api.rate import REFUSED_EVERY_S, Buckets, ByteBuckets, Refusals
from exchange.demo.federation import EMBASSY, HELPLINE, SHELTER
from exchange.limits import LIMITS
from exchange.storage.tables import INBOX, OUTBOX, PEER
from exchange.use_cases import precedence, receive_envelopes
from exchange.use_cases.node import Node
from exchange.verification import Circumstances, ParsedItem

A_MINUTE = 40
"""What a member has here, so that a test need not send thousands."""
FLOOD = 120
RESERVE = 130_000
_JSON = {"content-type": "application/json"}


@pytest.fixture(params=POSTGRES_IN_FAULTS)
async def three(
    request: pytest.FixtureRequest, tmp_path: Path, make_on: Callable[[str], MakeDatabase]
) -> AsyncIterator[Federation]:
    """A helpline and an embassy, which refer to the same shelter."""
    async with federation_on(tmp_path, (HELPLINE, EMBASSY, SHELTER), make_on(request.param)) as together:
        yield together


def _allow(node: TestNode, a_minute: int) -> None:
    node.network.apps[node.port].app.state.serving.peers = Buckets(a_minute)  # type: ignore[attr-defined]


def _allow_bytes(node: TestNode, a_minute: int, *, reserve: int = RESERVE) -> None:
    given = ByteBuckets(a_minute, reserve=reserve, small=LIMITS.small_request_bytes)
    node.network.apps[node.port].app.state.serving.peer_bytes = given  # type: ignore[attr-defined]


def _bodies(flooder: LyingPeer, count: int) -> list[bytes]:
    """Valid ones, ones whose signature is another's, ones that are no envelope, and what is not even JSON."""
    kinds = (
        lambda: batch_of(flooder.forward()),
        lambda: batch_of(flooder.forward().to_json() | {"signature": flooder.forward().to_json()["signature"]}),
        lambda: batch_of({"header": "e30", "wrapped_key": "", "ciphertext": "", "signature": ""}),
        lambda: b"{" * 2000,
    )
    return [kinds[number % len(kinds)]() for number in range(count)]


def _full(flooder: LyingPeer, count: int) -> list[bytes]:
    """Full batches, all of it valid: the most work that a request can make."""
    return [batch_of(*(flooder.forward() for _ in range(50))) for _ in range(count)]


async def test_it_is_told_to_wait_and_the_others_arrive(three: Federation) -> None:
    shelter, flooder = three[SHELTER], await LyingPeer.of(three[EMBASSY], three[SHELTER])
    _allow(shelter, A_MINUTE)
    first = await begin(three)
    stories = [first, *[await begin(three, consent=first.consent, travel=False) for _ in range(8)]]
    answers: list[httpx2.Response] = []

    async def flood(bodies: list[bytes]) -> None:
        answers.extend([await flooder.post(body) for body in bodies])

    bodies = _bodies(flooder, FLOOD)
    await asyncio.gather(*(flood(bodies[start::4]) for start in range(4)), three[HELPLINE].courier.run_once())
    told = Counter(answer.status_code for answer in answers)
    assert set(told) == {200, 422, 429}
    # It has asked for keys before; and what refills while the test runs is its too.
    assert A_MINUTE // 2 <= FLOOD - told[429] <= FLOOD // 2
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["code"] == "too-many-requests"
    arrived = Counter(row["sender"] for row in await rows(shelter, INBOX))
    assert arrived[HELPLINE.agency] == len(stories)
    # A quarter of what was looked at was valid.
    assert 0 < arrived[EMBASSY.agency] <= (FLOOD - told[429]) // 4 + 4
    before = await row_counts(shelter.node.database)
    refused = [await flooder.post(bodies[0]) for _ in range(4)]
    assert 429 in {answer.status_code for answer in refused}
    grown = (await row_counts(shelter.node.database))["inbox"] - before["inbox"]
    assert grown == 0
    record("flooding peers", lost=len(stories) - arrived[HELPLINE.agency], doubled=0)


async def test_full_batches_use_up_its_bytes_and_nobody_elses(three: Federation) -> None:
    """Whole batches of valid envelopes: the most work that a request can make, within the rate of requests."""
    shelter, flooder = three[SHELTER], await LyingPeer.of(three[EMBASSY], three[SHELTER])
    first = await begin(three)
    bodies = _full(flooder, 4)
    _allow_bytes(shelter, len(bodies[0]))
    answers = [await flooder.post(body) for body in bodies]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert answers[3].json()["code"] == "too-many-requests"
    assert 30 <= int(answers[3].headers["retry-after"]) <= 61
    before = await row_counts(shelter.node.database)
    assert (await flooder.post(bodies[3])).status_code == 429
    assert await row_counts(shelter.node.database) == before
    story = await begin(three, consent=first.consent)
    assert [item.referral for item in await story.items("offer")] == [story.id]
    three.clock.pass_by(seconds=int(answers[3].headers["retry-after"]))
    # Sent again as it was told: everything of it arrives, once.
    assert (await flooder.post(bodies[2])).status_code == 200
    arrived = Counter(row["sender"] for row in await rows(shelter, INBOX))
    assert arrived == {EMBASSY.agency: 150, HELPLINE.agency: 2}


async def test_of_each_member_one_batch_is_worked_on_at_a_time(
    three: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends ten at once waits for itself; another member's batch is taken meanwhile."""
    flooder = await LyingPeer.of(three[EMBASSY], three[SHELTER])
    other = await LyingPeer.of(three[HELPLINE], three[SHELTER])
    real, at_work = receive_envelopes._judge, Counter[str]()
    together: list[dict[str, int]] = []

    async def judge(node: Node, parsed: Any, memory: Any, around: Circumstances, slices: Any) -> Any:
        at_work[around.peer] += 1
        await asyncio.sleep(0.01)
        together.append(dict(at_work))
        outcomes = await real(node, parsed, memory, around, slices)
        at_work[around.peer] -= 1
        return outcomes

    monkeypatch.setattr(receive_envelopes, "_judge", judge)
    answers = await asyncio.gather(
        *(flooder.deliver(flooder.forward()) for _ in range(10)), *(other.deliver(other.forward()) for _ in range(2))
    )
    assert [answer.result for (answer,) in answers] == ["accepted"] * 12
    assert max(count for moment in together for count in moment.values()) == 1
    assert {EMBASSY.agency: 1, HELPLINE.agency: 1} in together


@pytest.mark.parametrize("body", [b"{" * 2000, b'{"envelopes":[]}'], ids=["no JSON", "no batch"])
async def test_what_is_no_batch_is_refused_one_after_the_other(three: Federation, body: bytes) -> None:
    """Nobody else waits for that: neither another member, nor one of the flooder's own that is a batch."""
    flooder = await LyingPeer.of(three[EMBASSY], three[SHELTER])
    other = await LyingPeer.of(three[HELPLINE], three[SHELTER])
    loop, told = asyncio.get_running_loop(), list[float]()
    begun = loop.time()

    async def wrong() -> None:
        assert (await flooder.post(body)).status_code == 422
        told.append(loop.time() - begun)

    wrongs = [asyncio.create_task(wrong()) for _ in range(12)]
    for peer in (other, flooder):
        (answer,) = await peer.deliver(peer.forward())
        assert answer.result == "accepted"
    arrived = loop.time() - begun
    await asyncio.gather(*wrongs)
    assert max(told) >= 11 * REFUSED_EVERY_S * 0.9
    assert arrived < max(told)


async def test_a_large_body_does_not_wait_in_memory_to_be_refused(
    three: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    flooder, turns = await LyingPeer.of(three[EMBASSY], three[SHELTER]), Counter[str]()

    async def turn(_refusals: Refusals, caller: str) -> None:
        turns[caller] += 1

    monkeypatch.setattr(Refusals, "turn", turn)
    small = LIMITS.small_request_bytes
    assert (await flooder.post(b"{" * (small + 1))).status_code == 422
    assert turns.total() == 0
    assert (await flooder.post(b"{" * small)).status_code == 422
    assert turns.total() == 1


async def test_a_small_delivery_goes_before_what_is_left_of_a_full_batch(
    three: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it waits for the database: a slice of the batch that had begun is finished, and no more of it."""
    flooder = await LyingPeer.of(three[EMBASSY], three[SHELTER])
    other = await LyingPeer.of(three[HELPLINE], three[SHELTER])
    checked, answered = receive_envelopes._checked, receive_envelopes._answer
    noted: list[str] = []
    begun = asyncio.Event()

    def check(item: ParsedItem, memory: Any, around: Circumstances) -> Any:
        begun.set()
        noted.append(item.header.sender)
        return checked(item, memory, around)

    def answer(node: Node, outcome: Any) -> Any:
        noted.append(f"answered {outcome.checked.item.header.sender}")
        return answered(node, outcome)

    monkeypatch.setattr(receive_envelopes, "_checked", check)
    monkeypatch.setattr(receive_envelopes, "_answer", answer)
    monkeypatch.setattr(precedence, "SLICE_WAITS_S", 60)
    monkeypatch.setattr(precedence, "WAITS_S", 600)
    (full,), offer = _full(flooder, 1), other.forward()
    await other.token()
    large = asyncio.create_task(flooder.post(full))
    await begun.wait()
    (told,) = await other.deliver(offer)
    assert told.result == "accepted"
    assert (await large).status_code == 200
    first, done = noted.index(HELPLINE.agency), noted.index(f"answered {HELPLINE.agency}")
    assert noted[first:done].count(EMBASSY.agency) <= receive_envelopes.SMALL
    assert noted[:first].count(EMBASSY.agency) < 50
    assert noted.count(f"answered {EMBASSY.agency}") == 50
    assert noted.index(f"answered {EMBASSY.agency}") > done


async def test_our_own_courier_waits_as_long_as_it_was_told(three: Federation) -> None:
    """Against a real node's own 429, not an invented one."""
    first = await begin(three)
    _allow(three[SHELTER], 1)
    courier = three[HELPLINE].courier
    await begin(three, consent=first.consent, travel=False)
    await courier.run_once()
    last = await begin(three, consent=first.consent, travel=False)

    def calls() -> int:
        return len([path for port, path, _ in three.network.posted if (port, path) == (three[SHELTER].port, ENVELOPES)])

    before = calls()
    await courier.run_once()
    assert calls() == before + 1
    for seconds in (1, 20, 30):
        three.clock.pass_by(seconds=seconds)
        await courier.run_once()
        assert calls() == before + 1
    three.clock.pass_by(seconds=15)
    await courier.run_once()
    assert calls() == before + 2
    assert [item.referral for item in await last.items("offer")] == [last.id]


async def test_a_backlog_goes_as_fast_as_the_peer_allows(three: Federation) -> None:
    """After an outage an honest member has more to send than a minute allows. That is no flood, and no new outage."""
    first = await begin(three)
    shelter, helpline = three[SHELTER], three[HELPLINE]
    three.leave(SHELTER)
    for _ in range(40):
        await begin(three, consent=first.consent, travel=False)
    for _ in range(12):
        await helpline.courier.run_once()
        three.clock.pass_by(hours=1)
    three.come_back(SHELTER)
    _allow_bytes(shelter, 50_000)
    await helpline.courier.run_once()
    # One to try the line, then a batch of two dozen that uses up more than there is; then it was told to wait.
    assert len(await rows(shelter, INBOX)) == 1 + 1 + 24
    wait_s = await _due_in_s(helpline)
    assert 60 < wait_s < 240
    posted = len(three.network.posted)
    await begin(three, consent=first.consent, travel=False)
    three.clock.pass_by(seconds=wait_s - 5)
    await helpline.courier.run_once()
    assert len(three.network.posted) == posted
    three.clock.pass_by(seconds=6)
    await helpline.courier.run_once()
    assert len(await rows(shelter, INBOX)) == 1 + 40 + 1


async def test_small_requests_gain_the_reserve_and_no_more(three: Federation) -> None:
    shelter, flooder = three[SHELTER], await LyingPeer.of(three[EMBASSY], three[SHELTER])
    first = await begin(three)
    _allow_bytes(shelter, 400_000)
    (full,) = _full(flooder, 1)
    while (await flooder.post(full)).status_code == 200:
        pass
    before, begun = await row_counts(shelter.node.database), three.clock()
    small = [batch_of(flooder.forward()) for _ in range(30)]
    answers = [await flooder.post(body) for body in small]
    taken = [len(body) for body, answer in zip(small, answers, strict=True) if answer.status_code == 200]
    refilled = (400_000 + RESERVE) * (three.clock() - begun) / 60_000
    assert RESERVE <= sum(taken) <= RESERVE + 2 * max(taken) + refilled
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) + len(taken) == len(small)
    # A small one may go on sooner than a large one, and is told so.
    large = await flooder.post(full)
    assert 1 <= int(refused[-1].headers["retry-after"]) < int(large.headers["retry-after"])
    assert (await row_counts(shelter.node.database))["inbox"] == before["inbox"] + len(taken)
    assert [item.referral for item in await (await begin(three, consent=first.consent)).items("offer")]


async def test_small_requests_are_requests(three: Federation) -> None:
    """The reserve is within the rate of requests and not beside it."""
    shelter, flooder = three[SHELTER], await LyingPeer.of(three[EMBASSY], three[SHELTER])
    await flooder.deliver(flooder.forward())
    _allow_bytes(shelter, 1, reserve=10_000_000)
    _allow(shelter, 5)
    answers = [await flooder.post(batch_of(flooder.forward())) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3


async def _with_much_to_send(three: Federation) -> list[Story]:
    """Eight referrals that have arrived; behind them wait more than the helpline's bytes allow, and than one batch."""
    first = await begin(three)
    arrived = [first, *[await begin(three, consent=first.consent) for _ in range(7)]]
    for _ in range(60):
        await begin(three, consent=first.consent, travel=False)
    _allow_bytes(three[SHELTER], 50_000)
    return arrived


async def _heard_no(story: Story) -> bool:
    return "withdrawal" in {row["kind"] for row in await story.rows(INBOX, at=story.receiver)}


async def _waiting(node: TestNode) -> Counter[str]:
    return Counter(row["kind"] for row in await rows(node, OUTBOX, OUTBOX.c.status == "queued"))


async def test_her_no_does_not_wait_behind_bulk(three: Federation) -> None:
    """One that was queued behind it, and many that are said later, while the rest waits as it was told."""
    first, *others = await _with_much_to_send(three)
    helpline = three[HELPLINE]
    await first.says_no("stop-service", travel=False)
    await helpline.courier.run_once()
    assert await _heard_no(first)
    waiting, wait_s = await _waiting(helpline), await _due_in_s(helpline)
    assert set(waiting) == {"offer"}
    assert wait_s > 60
    three.clock.pass_by(seconds=10)
    for story in others:
        await story.says_no("erase", travel=False)
    posted = len(three.network.posted)
    await helpline.courier.run_once()
    assert [await _heard_no(story) for story in others] == [True] * len(others)
    sizes = [len(body) for _, _, body in three.network.posted[posted:]]
    assert sum(sizes) > LIMITS.small_request_bytes >= max(sizes)
    # What is no stop goes when it was told to, whatever she said meanwhile.
    assert await _waiting(helpline) == waiting
    assert wait_s - 15 < await _due_in_s(helpline) <= wait_s - 10
    posted = len(three.network.posted)
    await begin(three, consent=first.consent, travel=False)
    assert await _due_in_s(helpline) > wait_s - 15
    three.clock.pass_by(seconds=wait_s - 20)
    await helpline.courier.run_once()
    assert len(three.network.posted) == posted
    three.clock.pass_by(seconds=11)
    await helpline.courier.run_once()
    assert await _waiting(helpline) == Counter()


async def test_her_no_that_is_refused_waits_as_long_as_it_was_told(three: Federation) -> None:
    """The reserve is used up as well: no call before its time, also not for another no."""
    first, second, third, *_ = await _with_much_to_send(three)
    helpline = three[HELPLINE]
    _allow_bytes(three[SHELTER], 50_000, reserve=2_000)
    await helpline.courier.run_once()
    await first.says_no("stop-service", travel=False)
    await helpline.courier.run_once()
    # It took more than there was; the next one has to wait until that is paid back.
    assert await _heard_no(first)
    wait_s = await _due_in_s(helpline)
    await second.says_no("stop-service", travel=False)
    posted = len(three.network.posted)
    await helpline.courier.run_once()
    assert len(three.network.posted) == posted + 1
    told_s = await _due_in_s(helpline)
    assert 30 < told_s < wait_s - 60
    await third.says_no("stop-service", travel=False)
    for seconds in (1, 10, told_s - 21):
        three.clock.pass_by(seconds=seconds)
        await helpline.courier.run_once()
        assert len(three.network.posted) == posted + 1
    three.clock.pass_by(seconds=11)
    await helpline.courier.run_once()
    assert await _heard_no(second)
    assert await _heard_no(third)
    assert set(await _waiting(helpline)) == {"offer"}


async def _due_in_s(node: TestNode) -> float:
    due: int = await node.node.database.read(lambda conn: conn.execute(select(PEER.c.due_at)).scalar_one())
    return (due - node.node.clock()) / 1000


@pytest.mark.faults
@pytest.mark.parametrize("size", [1, 50], ids=["valid-and-invalid", "full-batches"])
async def test_how_long_others_take_meanwhile(three: Federation, tmp_path: Path, size: int) -> None:
    """None of the others is refused or put off: another member, and the agency's own software, over real HTTP.

    The flooder and the others are processes of their own, and the node has usual limits. How long they take is printed
    and not judged: it differs more from one machine to the next.
    """
    flooder, other = [await LyingPeer.of(three[agency], three[SHELTER]) for agency in (EMBASSY, HELPLINE)]
    first = await begin(three)
    bodies = _written(tmp_path / "flood", _full(flooder, 24) if size > 1 else _bodies(flooder, 40))
    took: dict[str, list[float]] = {}
    told: Counter[str] = Counter()
    async with real_line(three, three[SHELTER]) as line:
        node = f"http://127.0.0.1:{line.port}"
        ways = {
            "deliver": (node + ENVELOPES, {"authorization": f"Bearer {await other.token()}", **_JSON}),
            "poll": (node + "/v1/inbox?limit=1", {"authorization": f"Bearer {await first.helps.access_token()}"}),
        }
        others = await _process("timed_process", json.dumps(ways))
        for turn in range(12):
            mine = _written(tmp_path / f"turn-{turn}", [batch_of(other.forward()) for _ in range(25)])
            flooding = None
            if turn % 2:
                flooding = await _process("flood_process", await flooder.token(), node + ENVELOPES, str(bodies))
            found = await _answer(others, str(mine))
            assert found.pop("told") == {"200": 50}
            when = "at first" if turn == 1 else "later" if turn % 2 else "alone"
            for way, each in found.items():
                took.setdefault(f"{way} {when}", []).extend(each)
            if flooding is not None:
                said, _ = await flooding.communicate(b"")
                told.update(json.loads(said))
        await others.communicate(b"")
    assert set(told) <= {"200", "422", "429 with retry-after"}
    assert size == 1 or told["429 with retry-after"] > 0
    assert told["200"] > 0
    each = ", ".join(f"{what} {statistics.quantiles(found, n=20)[18]:.1f}" for what, found in took.items())
    answered = " ".join(f"{status}:{count}" for status, count in sorted(told.items()))
    note(f"flooding peer, {size} a batch: p95 of others, ms: {each} ({answered})")


def _written(folder: Path, bodies: list[bytes]) -> Path:
    folder.mkdir()
    for number, body in enumerate(bodies):
        (folder / f"{number:03}").write_bytes(body)
    return folder


async def _process(module: str, first_line: str, *arguments: str) -> asyncio.subprocess.Process:
    """Started and at work: it has said so on a line."""
    command = [sys.executable, "-m", f"support.{module}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment, limit=1 << 20)
    assert await _answer(process, first_line) == "ready"
    return process


async def _answer(process: asyncio.subprocess.Process, line: str) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line.encode() + b"\n")
    return json.loads(await process.stdout.readline())

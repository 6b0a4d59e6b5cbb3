from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.api_node import CLIENT, CLIENT_SEED, ISSUER, NOW, Bench

from exchange.api import attach
from exchange.api.bodies import LARGEST_BODY
from exchange.api.rate import REFUSED_EVERY_S, REFUSED_WITHIN_S, Buckets, ByteBuckets, Refusals
from exchange.limits import LIMITS
from exchange.oauth.assertion import make_assertion, sign_with_seed, token_request


def test_bucket_empties_and_refills() -> None:
    buckets = Buckets(60)
    assert [buckets.take("a", now=0) for _ in range(60)] == [None] * 60
    assert buckets.take("a", now=0) == 1
    assert buckets.take("b", now=0) is None
    assert buckets.take("a", now=1000) is None
    assert buckets.take("a", now=1000) == 1


def test_what_is_larger_than_what_is_left_goes_once_and_is_paid_back() -> None:
    buckets = Buckets(60)
    assert buckets.take("a", now=0, count=59) is None
    assert buckets.take("a", now=0, count=120) is None
    assert buckets.take("a", now=0, count=1) == 120
    assert buckets.take("a", now=119_000, count=1) == 1
    assert buckets.take("a", now=120_000, count=1) is None


def test_clock_that_goes_back_gives_nothing() -> None:
    buckets = Buckets(1)
    assert buckets.take("a", now=60_000) is None
    assert buckets.take("a", now=0) == 60
    # Nor does it give the same minute twice when it is right again.
    assert buckets.take("a", now=60_000) == 60


def test_a_clock_that_was_far_ahead_keeps_nobody_out() -> None:
    buckets, year_ms = Buckets(1), 365 * 86_400_000
    assert buckets.take("a", now=year_ms) is None
    assert buckets.take("a", now=0) == 60
    assert buckets.take("a", now=60_000) is None


def test_memory_is_bounded() -> None:
    buckets = Buckets(1, remembered=10)
    for caller in range(1000):
        buckets.take(str(caller), now=0)
    assert len(buckets._levels) == 10


@settings(max_examples=50)
@given(
    st.integers(1, 600),
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 100)), min_size=1, max_size=200),
)
def test_never_more_than_a_burst_and_the_rate(per_minute: int, asked: list[tuple[int, int]]) -> None:
    buckets, now, allowed = Buckets(per_minute), 0, 0
    for gap, count in asked:
        now += gap
        allowed += count if buckets.take("a", now=now, count=count) is None else 0
    # One more than there is left, once.
    assert allowed <= per_minute + now * per_minute / 60_000 + max(count for _, count in asked)


async def test_refusals_of_one_caller_come_one_after_the_other_and_nobody_elses_wait() -> None:
    refusals, loop = Refusals(), asyncio.get_running_loop()
    begun = loop.time()

    async def told(caller: str) -> float:
        await refusals.turn(caller)
        return loop.time() - begun

    mine = [asyncio.create_task(told("a")) for _ in range(20)]
    another = asyncio.create_task(told("b"))
    took = await asyncio.gather(*mine)
    assert all(at >= number * REFUSED_EVERY_S * 0.9 for number, at in enumerate(took))
    assert await another < took[-1]


async def test_so_many_refusals_wait_and_no_more() -> None:
    """However many connections ask: beyond those that wait, each is told at once."""
    refusals, loop = Refusals(), asyncio.get_running_loop()
    begun = loop.time()
    told = [asyncio.create_task(refusals.turn("a")) for _ in range(500)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting, most = sum(not one.done() for one in told), REFUSED_WITHIN_S / REFUSED_EVERY_S
    # On a busy machine some have waited for long enough already.
    assert most - 1 - (loop.time() - begun) / REFUSED_EVERY_S <= waiting <= most + 1
    await asyncio.gather(*told)
    assert (waiting - 1) * REFUSED_EVERY_S * 0.9 <= loop.time() - begun


async def test_a_caller_that_was_forgotten_is_told_at_once() -> None:
    refusals = Refusals(remembered=1)
    waiting = [asyncio.create_task(refusals.turn("a")) for _ in range(40)]
    await asyncio.sleep(0)
    await refusals.turn("b")
    await refusals.turn("a")
    assert not waiting[-1].done()
    await asyncio.gather(*waiting)


def _used_up() -> ByteBuckets:
    """A hundred bytes a second and a reserve of ten, for what has at most 50; of "a" the first are used up."""
    buckets = ByteBuckets(6000, reserve=600, small=50)
    assert buckets.take("a", now=0, count=9000, size=9000) is None
    return buckets


def test_only_what_is_small_goes_on_from_the_reserve() -> None:
    buckets = _used_up()
    assert buckets.take("a", now=0, count=51, size=51) == 31
    assert buckets.take("a", now=0, count=0, size=51) == 31
    assert buckets.take("a", now=0, count=10, size=None) == 31
    assert buckets.take("a", now=0, count=50, size=50) is None


def test_the_reserve_is_used_up_too_and_says_when() -> None:
    buckets = _used_up()
    assert [buckets.take("a", now=0, count=50, size=50) for _ in range(12)] == [None] * 12
    assert buckets.take("a", now=0, count=0, size=50) == 1
    assert buckets.take("a", now=0, count=50, size=50) == 1
    assert buckets.take("a", now=1000, count=50, size=50) is None
    # Five seconds for what went beyond the reserve, and more for one byte.
    assert buckets.take("a", now=1000, count=50, size=50) == 5
    assert buckets.take("b", now=0, count=6000, size=6000) is None
    assert buckets.take("b", now=0, count=50, size=50) is None


def test_a_small_request_waits_for_whichever_is_there_sooner() -> None:
    buckets = ByteBuckets(6000, reserve=6, small=50)
    assert buckets.take("a", now=0, count=6000, size=6000) is None
    assert buckets.take("a", now=0, count=50, size=50) is None
    # The reserve takes minutes to be paid back.
    assert buckets.take("a", now=0, count=50, size=50) == 1


def test_the_reserve_is_not_touched_while_there_is_something_else() -> None:
    buckets = ByteBuckets(6000, reserve=600, small=50)
    assert [buckets.take("a", now=0, count=50, size=50) for _ in range(120 + 12)] == [None] * 132
    assert buckets.take("a", now=0, count=50, size=50) is not None


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 120), st.booleans()), min_size=1, max_size=200))
def test_never_more_than_both_give(asked: list[tuple[int, int, bool]]) -> None:
    buckets, now, allowed = ByteBuckets(600, reserve=60, small=20), 0, 0
    for gap, count, said in asked:
        now += gap
        allowed += count if buckets.take("a", now=now, count=count, size=count if said else None) is None else 0
    assert allowed <= 660 + now * 660 / 60_000 + 120 + 20


@pytest.mark.parametrize("peer", [False, True], ids=["client", "peer"])
async def test_429_says_when(api: Bench, peer: bool) -> None:
    api.node.limits = replace(api.node.limits, client_requests_per_minute=2, peer_requests_per_minute=2)
    attach(api.app, api.node)  # type: ignore[arg-type]
    path = "/federation/v1/roster" if peer else "/v1/inbox"
    headers = {"Authorization": f"Bearer {api.token(peer=peer)}"}
    async with api.http() as http:
        answers = [await http.get(path, headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[2].headers["retry-after"] == "30"
        assert answers[2].json()["code"] == "too-many-requests"
        api.node.now = NOW + 30_000
        assert (await http.get(path, headers=headers)).status_code == 200


REFUSING = {
    "/v1/inbox": {"client_requests_per_minute": 1},
    "/oauth/token": {"client_requests_per_minute": 1},
    "/federation/v1/roster": {"peer_requests_per_minute": 1},
    "/federation/v1/envelopes": {"peer_bytes_per_minute": 1},
}


@pytest.mark.parametrize("path", list(REFUSING))
async def test_refusals_come_one_after_the_other_wherever_they_are_said(api: Bench, path: str) -> None:
    api.node.limits = replace(api.node.limits, **REFUSING[path])
    attach(api.app, api.node)  # type: ignore[arg-type]
    authorized = {"Authorization": f"Bearer {api.token(peer=path.startswith('/federation'))}"}

    async def ask() -> int:
        if path == "/oauth/token":
            assertion = make_assertion(CLIENT, ISSUER, sign_with_seed(CLIENT_SEED), now=api.node.now)
            answer = await http.post(path, data=token_request(assertion, "inbox:read"))
        elif path.endswith("envelopes"):
            large = b" " * (api.node.limits.small_request_bytes + 1)
            answer = await http.post(path, content=large, headers={**authorized, "Content-Type": "application/json"})
        else:
            answer = await http.get(path, headers=authorized)
        return answer.status_code

    async with api.http() as http:
        assert await ask() == 200
        begun = asyncio.get_running_loop().time()
        assert await asyncio.gather(*(ask() for _ in range(10))) == [429] * 10
        assert asyncio.get_running_loop().time() - begun >= 9 * REFUSED_EVERY_S * 0.9


async def test_unproven_callers_use_up_nobodys_bucket(api: Bench) -> None:
    api.node.limits = replace(api.node.limits, client_requests_per_minute=1)
    attach(api.app, api.node)  # type: ignore[arg-type]
    token = api.token()
    async with api.http() as http:
        for _ in range(5):
            await http.get("/v1/inbox", headers={"Authorization": f"Bearer {token[:-4]}AAAA"})
        assert (await http.get("/v1/inbox", headers={"Authorization": f"Bearer {token}"})).status_code == 200


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_who_does_not_say_that_it_is_small_is_not_small(api: Bench) -> None:
    """Bytes are used up. What counts is what the request says before its body."""
    api.node.limits = replace(api.node.limits, peer_bytes_per_minute=1024)
    attach(api.app, api.node)  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {api.token(peer=True)}", "Content-Type": "application/json"}
    small, large = b"{" + b" " * 100 + b"}", b"{" + b" " * api.node.limits.small_request_bytes + b"}"

    async def post(body: bytes | AsyncIterator[bytes], **more: str) -> int:
        answer = await http.post("/federation/v1/envelopes", content=body, headers=headers | more)
        return answer.status_code

    async with api.http() as http:
        assert await post(large) == 200
        assert await post(large) == 429
        assert await post(_in_pieces(small)) == 429
        assert await post(_in_pieces(small), **{"Transfer-Encoding": "chunked", "Content-Length": "102"}) == 429
        assert await post(_in_pieces(small), **{"Content-Length": "1e2"}) == 429
        assert await post(_in_pieces(small), **{"Content-Length": "9" * 5000}) == 429
        assert await post(small) == 200
        assert await post(small) == 429


async def test_a_body_is_held_to_what_it_says(api: Bench) -> None:
    """A server sees to that; what does not is held to it here, so that nothing large goes as something small."""
    headers = {"Authorization": f"Bearer {api.token(peer=True)}", "Content-Type": "application/json"}
    headers["Content-Length"] = "10"
    async with api.http() as http:
        answer = await http.post("/federation/v1/envelopes", content=_in_pieces(b"{         }"), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


@pytest.mark.parametrize("peer", [False, True], ids=["client", "peer"])
async def test_bodies_on_their_way_have_so_much_room(api: Bench, peer: bool) -> None:
    """Of a client as of a peer; a body that says no length takes as much as it may be."""
    path = "/federation/v1/resync" if peer else "/v1/inbox/open"
    headers = {"Authorization": f"Bearer {api.token(peer=peer)}", "Content-Type": "application/json"}
    headers |= {"Actor": "w-1", "Idempotency-Key": "one"}
    fit, over = LIMITS.arriving_bytes // LARGEST_BODY, asyncio.Event()

    async def unfinished() -> AsyncIterator[bytes]:
        yield b"{"
        await over.wait()

    async with api.http() as http:
        held = [asyncio.create_task(http.post(path, content=unfinished(), headers=headers)) for _ in range(fit)]
        await asyncio.sleep(0.2)
        refused = await http.post(path, content=b"{}", headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        over.set()
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {400}
        assert (await http.post(path, content=b"{}", headers=headers)).status_code == 422

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.api_node import NOW, Bench

from exchange.api import attach
from exchange.api.rate import Buckets


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


async def test_unproven_callers_use_up_nobodys_bucket(api: Bench) -> None:
    api.node.limits = replace(api.node.limits, client_requests_per_minute=1)
    attach(api.app, api.node)  # type: ignore[arg-type]
    token = api.token()
    async with api.http() as http:
        for _ in range(5):
            await http.get("/v1/inbox", headers={"Authorization": f"Bearer {token[:-4]}AAAA"})
        assert (await http.get("/v1/inbox", headers={"Authorization": f"Bearer {token}"})).status_code == 200

"""Watching an inbox: each item once, leased, acknowledged at the end and only at the end."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import httpx2
import pytest
from support.scripted_node import ScriptedNode, json_answer, problem

from exchange.client import (
    HeldItem,
    ProblemError,
    UnexpectedAnswerError,
    UnreadableItemsError,
    UnreadableItemWarning,
    patience,
)
from exchange.client.watching import watch_inbox

INBOX = "/v1/inbox"
FIRST, SECOND = "1" * 32, "2" * 32


def item(item_id: str, **members: Any) -> dict[str, Any]:
    return {
        "id": item_id,
        "cursor": f"after-{item_id[0]}",
        "referral": "a" * 32,
        "sender": "example-helpline",
        "kind": "offer",
        "sector": "accommodation",
        "state": "received",
        "status": "new",
        "received_at": "2026-11-23T00:00:00Z",
    } | members


def page(*items: dict[str, Any], cursor: str | None = None) -> httpx2.Response:
    return json_answer({"items": items, "next_cursor": cursor})


def lease(token: str) -> httpx2.Response:
    return json_answer({"token": token, "until": "2026-11-23T00:01:00Z"})


def a_node(**script: list[Any]) -> ScriptedNode:
    paths = {INBOX: [page(item(FIRST), item(SECOND), cursor="after-2"), page(cursor="after-2")]}
    for one in (FIRST, SECOND):
        paths[f"{INBOX}/{one}/lease"] = [lease(f"lease-{one[0]}")]
        paths[f"{INBOX}/{one}/acknowledgement"] = [json_answer(item(one, status="acknowledged"))]
    return ScriptedNode(script=paths | script)


async def take(node: ScriptedNode, count: int) -> list[str]:
    taken = []
    async with node.client() as client:
        async for held in client.inbox.watch(wait_s=0.01):
            async with held:
                taken.append(held.item.id)
            if len(taken) == count:
                break
    return taken


async def test_items_are_leased_and_acknowledged_with_their_lease() -> None:
    node = a_node()
    assert await take(node, 2) == [FIRST, SECOND]
    for one in (FIRST, SECOND):
        (acknowledged,) = node.requests(f"{INBOX}/{one}/acknowledgement")
        assert acknowledged.content == f'{{"lease":"lease-{one[0]}"}}'.encode()


OF_A_LATER_VERSION = [
    pytest.param({"tone": "calm"}, id="an unknown member"),
    pytest.param({"kind": "whisper"}, id="an unknown kind"),
    pytest.param({"state": "paused"}, id="an unknown state"),
]


@pytest.mark.parametrize("members", OF_A_LATER_VERSION)
async def test_an_item_of_a_later_version_holds_up_no_other_and_is_left_and_told_once(members: dict[str, str]) -> None:
    pages = [page(item(FIRST, **members), item(SECOND), cursor="after-2"), page(item(FIRST, **members), cursor="x")]
    node = a_node(
        **{INBOX: [*pages, page(item("3" * 32), cursor="y")], f"{INBOX}/{'3' * 32}/lease": [lease("lease-3")]}
    )
    told: list[str] = []
    async with node.client() as client:
        watching = client.inbox.watch(wait_s=0.01, unreadable=told.append)
        assert [(await anext(watching)).item.id for _ in range(2)] == [SECOND, "3" * 32]
    assert told == [FIRST]
    for act in ("lease", "acknowledgement"):
        assert node.requests(f"{INBOX}/{FIRST}/{act}") == []


async def test_where_nobody_listens_python_warns_and_names_nobody() -> None:
    node = a_node(**{INBOX: [page(item(FIRST, tone="calm"), item(SECOND), cursor="after-2")]})
    with pytest.warns(UnreadableItemWarning) as warned:
        assert await take(node, 1) == [SECOND]
    assert FIRST not in str(warned[0].message)


@pytest.mark.parametrize("members", OF_A_LATER_VERSION)
async def test_who_reads_all_pages_gets_what_can_be_read_and_hears_that_it_is_not_all(members: dict[str, str]) -> None:
    pages = [page(item(FIRST, **members), cursor="after-1"), page(item(SECOND), cursor="after-2"), page(cursor="z")]
    async with a_node(**{INBOX: list(pages)}).client() as client:
        listed = client.inbox.pages()
        assert (await anext(listed)).id == SECOND
        with pytest.raises(UnreadableItemsError) as unreadable:
            await anext(listed)
    assert unreadable.value.items == (FIRST,)
    told: list[str] = []
    async with a_node(**{INBOX: pages}).client() as client:
        assert [one.id async for one in client.inbox.pages(unreadable=told.append)] == [SECOND]
    assert told == [FIRST]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"items": [{"id": "no id", "kind": "whisper"}]}, id="an item without an id"),
        pytest.param({"items": ["whisper"]}, id="an item that is none"),
        pytest.param({"items": [], "tone": "calm"}, id="a page of a later version"),
        pytest.param({"items": [], "unreadable": [FIRST]}, id="the node names what we cannot read"),
        pytest.param({"unreadable": [FIRST]}, id="that alone"),
        pytest.param({}, id="no page"),
    ],
)
async def test_what_is_no_page_is_no_answer(answer: dict[str, Any]) -> None:
    async with a_node(**{INBOX: [json_answer(answer)]}).client() as client:
        with pytest.raises(UnexpectedAnswerError):
            await client.inbox.list()


@pytest.mark.parametrize("status", [404, 409, 410], ids=["gone", "somebody else has it", "destroyed"])
async def test_an_item_that_cannot_be_leased_is_left_to_others(status: int) -> None:
    node = a_node(**{f"{INBOX}/{FIRST}/lease": [problem(status, "leased")]})
    assert await take(node, 1) == [SECOND]
    assert node.requests(f"{INBOX}/{FIRST}/acknowledgement") == []


async def test_any_other_refusal_ends_the_watch() -> None:
    node = a_node(**{f"{INBOX}/{FIRST}/lease": [problem(403, "scope-missing")]})
    with pytest.raises(ProblemError):
        await take(node, 1)


async def test_a_failure_while_handling_does_not_acknowledge() -> None:
    node = a_node()
    async with node.client() as client:
        held = await anext(client.inbox.watch(wait_s=0.01))
        with pytest.raises(ZeroDivisionError):
            async with held:
                raise ZeroDivisionError
    assert node.requests(f"{INBOX}/{FIRST}/acknowledgement") == []


async def test_the_cursor_moves_on_and_polls_wait() -> None:
    node = a_node(**{INBOX: [page(item(FIRST), cursor="c1"), page(cursor="c1"), page(item(SECOND), cursor="c2")]})
    assert await take(node, 2) == [FIRST, SECOND]
    queries = [dict(request.url.params) for request in node.requests(INBOX)]
    assert [query.get("cursor") for query in queries] == [None, "c1", "c1"]
    assert {query["wait"] for query in queries} == {"0.01"}
    assert {query["state"] for query in queries} == {"new"}


async def test_a_cursor_that_the_node_does_not_know_any_more_begins_anew() -> None:
    """A backup was restored: the numbers went back."""
    pages = [page(item(FIRST), cursor="90"), problem(422, "bad-cursor"), page(item(SECOND), cursor="3")]
    node = a_node(**{INBOX: pages})
    assert await take(node, 2) == [FIRST, SECOND]
    assert [request.url.params.get("cursor") for request in node.requests(INBOX)] == [None, "90", None]


async def test_unfinished_items_come_again_after_their_lease() -> None:
    """The first handling fails; once the lease has run out the list is read from its beginning."""
    node = a_node(**{INBOX: [page(item(FIRST), cursor="c1"), page(cursor="c1"), page(item(FIRST), cursor="c1")]})
    seen: list[HeldItem] = []
    async with node.client() as client:
        clock = itertools.count(step=60)
        async for held in watch_inbox(client.inbox, wait_s=0.01, lease_s=60, clock=lambda: next(clock)):
            seen.append(held)
            if len(seen) == 2:
                break
    assert [held.item.id for held in seen] == [FIRST, FIRST]
    assert [dict(request.url.params).get("cursor") for request in node.requests(INBOX)] == [None, "c1", None]


class _Busy:
    """A node at which a new item comes ten seconds into every wait."""

    def __init__(self) -> None:
        self.now, self.ids, self.leased, self.taken = 0.0, ["0" * 32], dict[str, float](), set[str]()
        self.waits: list[bool] = []

    def page(self, request: httpx2.Request) -> httpx2.Response:
        query = dict(request.url.params)
        after = int(query.get("cursor", "0"))
        self.waits.append("wait" in query)
        if self.waits[-1] and not self.new(after):
            self.now += 10
            self.ids.append(f"{len(self.ids):032x}")
        there = self.new(after)
        cursor = str(there[-1] + 1 if there else after)
        return page(*(item(self.ids[place], cursor=str(place + 1)) for place in there), cursor=cursor)

    def new(self, after: int) -> list[int]:
        return [place for place in range(after, len(self.ids)) if self.ids[place] not in self.taken]

    def lease(self, request: httpx2.Request) -> httpx2.Response:
        of = request.url.path.split("/")[-2]
        if self.leased.get(of, 0) > self.now:
            return problem(409, "leased")
        self.leased[of] = self.now + 60
        return lease("a-lease")

    def acknowledge(self, request: httpx2.Request) -> httpx2.Response:
        of = request.url.path.split("/")[-2]
        self.taken.add(of)
        return json_answer(item(of, status="acknowledged"))


async def test_unfinished_items_come_again_also_where_news_never_stop() -> None:
    """The first item's handling fails, and no wait ever ends without a new item."""
    busy, seen, failed = _Busy(), list[tuple[str, float]](), False
    paths: dict[str, list[Any]] = {INBOX: [busy.page]}
    for number in range(40):
        paths[f"{INBOX}/{number:032x}/lease"] = [busy.lease]
        paths[f"{INBOX}/{number:032x}/acknowledgement"] = [busy.acknowledge]
    async with ScriptedNode(script=paths).client() as client:
        async for held in watch_inbox(client.inbox, wait_s=25, lease_s=60, clock=lambda: busy.now):
            seen.append((held.item.id, busy.now))
            if not failed:
                failed = True
                continue
            await held.acknowledge()
            if busy.now >= 300:
                break
    (again,) = (at for one, at in seen[1:] if one == busy.ids[0])
    assert 60 <= again <= 80
    assert sorted(one for one, _ in seen) == sorted([busy.ids[0], *busy.ids])
    # Once in each lease time somebody looks whether there is more, instead of waiting.
    assert busy.waits.count(False) <= 300 / 60


async def test_items_that_always_fail_hold_up_no_others() -> None:
    """Each takes as long as a lease: the list is read to its end before its beginning comes again."""
    pages = [page(item(FIRST), cursor="c1"), page(item(SECOND), cursor="c2"), page(cursor="c2")]
    node, clock, seen = a_node(**{INBOX: [*pages, *pages]}), itertools.count(step=60), list[str]()
    async with node.client() as client:
        async for held in watch_inbox(client.inbox, wait_s=0.01, lease_s=60, clock=lambda: next(clock)):
            seen.append(held.item.id)
            if len(seen) == 4:
                break
    assert seen == [FIRST, SECOND, FIRST, SECOND]
    cursors = [dict(request.url.params).get("cursor") for request in node.requests(INBOX)]
    assert cursors == [None, "c1", "c2", None, "c1"]


async def test_pages_end_with_the_list() -> None:
    node = a_node(**{INBOX: [page(item(FIRST), cursor="c1"), page(item(SECOND), cursor="c2"), page(cursor="c2")]})
    async with node.client() as client:
        found = [one.id async for one in client.inbox.pages()]
    assert found == [FIRST, SECOND]


async def test_changes_are_followed_without_end() -> None:
    referral = {
        "id": "a" * 32,
        "side": "referring",
        "peer": "rose-house-shelter",
        "sector": "accommodation",
        "state": "received",
        "flags": {},
        "created_at": "2026-11-23T00:00:00Z",
        "updated_at": "2026-11-23T00:00:00Z",
        "respond_by": "2026-11-24T00:00:00Z",
        "contract": "a" * 64,
    }
    numbers = itertools.count(1)

    def answer(_: httpx2.Request) -> httpx2.Response:
        number = next(numbers)
        change = {"cursor": f"c{number}", "what": "state", "at": "2026-11-23T00:00:00Z", "referral": referral}
        return json_answer({"items": [change], "next_cursor": f"c{number}"})

    node = ScriptedNode(script={"/v1/referrals": [answer]})
    cursors = []
    async with node.client() as client:
        async for change in client.referrals.watch(wait_s=1):
            cursors.append(change.cursor)
            if len(cursors) == 3:
                break
    assert cursors == ["c1", "c2", "c3"]
    assert [dict(request.url.params).get("cursor") for request in node.asked] == [None, "c1", "c2"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "outage",
    [
        pytest.param(httpx2.ConnectError("refused"), id="no-answer"),
        pytest.param(problem(503, "starting", retry_after=0), id="starting"),
        pytest.param(problem(429, "too-many-requests", retry_after=0), id="too-many-requests"),
        pytest.param(httpx2.Response(502, content=b"<html>"), id="a-proxy"),
    ],
)
async def test_a_node_that_is_away_ends_no_watch(outage: httpx2.Response | Exception) -> None:
    """Longer than the tries of one call: the node was updated, or its line is down."""
    node = a_node(**{INBOX: [*[outage] * 9, page(item(FIRST), cursor="after-1")]})
    assert await take(node, 1) == [FIRST]


@pytest.mark.usefixtures("impatient")
async def test_a_proxy_that_names_a_time_is_left_alone_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its page is no problem document; its header is one of HTTP all the same."""
    paused, sleep = list[float](), asyncio.sleep

    async def pause(seconds: float) -> None:
        paused.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", pause)
    busy = httpx2.Response(503, content=b"<html>", headers={"retry-after": "120"})
    node = a_node(**{INBOX: [busy, page(item(FIRST), cursor="after-1")]})
    assert await take(node, 1) == [FIRST]
    assert max(paused) == 120


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("status", "code"), [(403, "insufficient-scope"), (404, "not-found"), (500, "internal-error")])
async def test_what_waiting_does_not_mend_ends_a_watch(status: int, code: str) -> None:
    node = a_node(**{INBOX: [problem(status, code)]})
    with pytest.raises(ProblemError) as refused:
        await take(node, 1)
    assert refused.value.problem.code == code
    assert len(node.requests(INBOX)) == 1

"""One row that cannot be read, damaged or of a newer version, stays as it is; everything behind it goes on."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import CapturingLogger
from support.federation import Federation, TestNode
from support.stories import Story, begin, rows

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.federation import courier
from exchange.limits import WEEK_MS
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.database import Connection
from exchange.storage.errors import StorageBusyError
from exchange.storage.tables import ATTESTATION, EPOCH_PRIVATE, OUTBOX, OWN_EPOCH, REFERRAL
from exchange.use_cases import destroy, maintain, release_disclosure, row_by_row, withdraw
from exchange.use_cases.node import Node
from exchange.use_cases.row_by_row import PartlyFailedError

STEPS = ["release_due", "_mark", "_expire_envelopes", "_forget", "publish_own_epochs"]


async def damage(*stories: Story) -> None:
    """What the sender's node remembers of these referrals cannot be read any more."""

    def commit(conn: Connection) -> None:
        for story in stories:
            conn.execute(REFERRAL.update().where(REFERRAL.c.id == story.id).values(sealed_facts=b"damaged"))

    await stories[0].sender.node.database.write(commit)


async def damage_beyond_erasure(story: Story) -> None:
    """As `damage`; nor is it known under which consent it was, which says whose client code ends with her erasure."""
    await damage(story)
    await story.writes(REFERRAL.update().where(REFERRAL.c.id == story.id).values(consent_id=None))


async def fails(work: object, *parts: str) -> None:
    with pytest.raises(PartlyFailedError) as failed:
        await work  # type: ignore[misc]
    assert set(parts) <= failed.value.parts.keys()


async def several(together: Federation, count: int, *, travel: bool = True, **changes: object) -> list[Story]:
    first = await begin(together, travel=False, **changes)  # type: ignore[arg-type]
    more = [await begin(together, consent=first.consent, travel=False, **changes) for _ in range(count - 1)]  # type: ignore[arg-type]
    if travel:
        await together.travel()
    return [first, *more]


async def states(stories: list[Story], name: str = "state") -> list[object]:
    """What the sender's rows say."""
    by_id = {row["id"]: row[name] for row in await rows(stories[0].sender, REFERRAL)}
    return [by_id[story.id] for story in stories]


async def weeks(node: TestNode) -> int:
    return max(row["not_after"] for row in await rows(node, OWN_EPOCH))


async def test_the_clocks_of_all_others_go_on_and_weekly_keys_are_published(on_both: Federation) -> None:
    stories = await several(on_both, 3)
    await damage(stories[0])
    node, published = stories[0].sender, await weeks(stories[0].sender)
    on_both.clock.pass_by(hours=24 * 8)
    await fails(maintain.maintain(node.node), "expired", "overdue")
    assert await states(stories) == ["received", "expired", "expired"]
    assert await weeks(node) == published + WEEK_MS


@pytest.mark.parametrize("bad", [1, 3])
async def test_rows_that_stay_bad_do_not_fill_the_page_for_ever(
    pair: Federation, bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_by_row, "PAGE", 1)
    stories = await several(pair, 5)
    await damage(*stories[:bad])
    pair.clock.pass_by(hours=24 * 3)
    for _ in range(5):
        await fails(maintain.maintain(stories[0].sender.node), "expired", "overdue")
    assert await states(stories) == ["received"] * bad + ["expired"] * (5 - bad)


async def test_every_other_disclosure_is_released(pair: Federation) -> None:
    stories = await several(pair, 2, priority="emergency")
    for story in stories:
        await story.helps.inbox.decide(await story.offer(), DecisionRequest(decision="accepted"))
    await pair[SHELTER].courier.run_once()
    await damage(stories[0])
    await fails(release_disclosure.release_due(stories[0].sender.node), "release")
    assert await states(stories, "hold") == ["release-due", "released"]


async def test_every_other_envelope_that_is_too_late_is_destroyed_and_told(pair: Federation) -> None:
    stories = await several(pair, 2, travel=False)
    # Of a referral that has ended, what it says about its retention is read.
    node = stories[0].sender

    def commit(conn: Connection) -> None:
        conn.execute(OUTBOX.update().where(OUTBOX.c.kind == "offer").values(expires_at=1))
        conn.execute(REFERRAL.update().values(respond_by=1))

    await node.node.database.write(commit)
    await damage(stories[0])
    await fails(maintain.maintain(node.node), "envelopes", "expired", "overdue")
    assert await states(stories, "undeliverable") == [False, True]
    offers = {row["referral"]: row["status"] for row in await rows(node, OUTBOX) if row["kind"] == "offer"}
    assert [offers[story.id] for story in stories] == ["queued", "expired"]


async def _erased(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """She has said it, and nothing is destroyed yet."""

    async def later(_node: Node) -> int:
        return 0

    with monkeypatch.context() as patched:
        patched.setattr(withdraw, "destroy_due", later)
        await story.says_no("erase", travel=False)


async def test_every_other_referral_is_destroyed_and_attested(
    pair: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    stories = await several(pair, 3)
    node = stories[0].sender
    for story in stories[:2]:
        await _erased(story, monkeypatch)
    await damage_beyond_erasure(stories[0])
    for _ in range(2):
        await fails(destroy.destroy_due(node.node), "destroy")
    assert [at is not None for at in await states(stories, "destroyed_at")] == [False, True, False]
    said = {row["referral"] for row in await rows(node, ATTESTATION) if row["party"] == "own-node" and row["done_at"]}
    assert said == {stories[1].id}
    # The key ended first, for all of them: nothing that was wrapped under it can be opened any more.
    assert await node.node.key_store.get(stories[0].id) is None
    # Nor is the next woman's erasure answered with this mistake, or held up by it.
    await stories[2].says_no("erase", travel=False)
    assert [at is not None for at in await states(stories, "destroyed_at")] == [False, True, True]


async def test_the_private_halves_of_past_weeks_are_destroyed_all_the_same(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = await begin(two)
    await _erased(story, monkeypatch)
    await damage_beyond_erasure(story)
    node, store = story.sender.node, story.sender.node.key_store
    two.clock.pass_by(hours=24 * 120)
    ended = await node.key_store.epoch_key_ids()
    await fails(maintain.destroy_ended(node), "destroy")
    assert ended
    assert await store.epoch_key_ids() == frozenset()
    left = await store.database.read(lambda conn: conn.execute(EPOCH_PRIVATE.select()).fetchall())
    assert left == []


@pytest.mark.parametrize("step", STEPS)
async def test_every_clock_runs_whatever_an_earlier_one_raised(
    two: Federation, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    for name in STEPS:

        async def work(_node: Node, *_what: str, name: str = name) -> None:
            ran.append(name)
            if name == step:
                raise ValueError

        monkeypatch.setattr(maintain, name, work)
    with pytest.raises(PartlyFailedError) as failed:
        await maintain.maintain(two[HELPLINE].node)
    assert ran == ["_mark", STEPS[0], *["_mark"] * 4, *STEPS[2:]]
    assert {type(error) for error in failed.value.parts.values()} == {ValueError}


async def test_a_database_that_is_away_ends_the_round_and_is_no_bad_row(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    stories = await several(two, 2)
    two.clock.pass_by(hours=24 * 3)
    tried: list[str] = []

    def busy(_node: Node, _conn: Connection, record: object, *_more: object) -> None:
        tried.append(str(record))
        raise StorageBusyError("busy")

    async def never(_node: Node) -> None:
        raise AssertionError

    monkeypatch.setattr(maintain, "_marked", busy)
    monkeypatch.setattr(maintain, "publish_own_epochs", never)
    with pytest.raises(StorageBusyError):
        await maintain.maintain(stories[0].sender.node)
    assert len(tried) == 1


async def test_the_log_says_each_kind_once_until_it_has_gone_well(
    two: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(courier, "get_logger", lambda: log)
    one, errors = two[HELPLINE].courier, dict[str, Exception]()

    async def work() -> None:
        if errors:
            raise PartlyFailedError(dict(errors))

    async def both() -> list[tuple[str, str]]:
        for name in ("maintain", "release"):
            await one._never_raising(name, work)
        said = [(call.kwargs["kind"], call.kwargs["error_type"]) for call in log.calls]
        assert {call.args for call in log.calls} <= {("courier-beside-failed",)}
        log.calls.clear()
        return said

    errors["expired"] = ValueError("Canary")
    assert await both() == [("expired", "ValueError")]
    assert await both() == []
    errors["release"] = TypeError("Canary")
    assert await both() == [("release", "TypeError")]
    errors["expired"] = KeyError("Canary")
    assert await both() == [("expired", "KeyError")]
    errors.clear()
    assert await both() == []
    errors["expired"] = KeyError("Canary")
    assert await both() == [("expired", "KeyError")]


async def test_the_courier_itself_says_it_once(two: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    log, rounds = CapturingLogger(), asyncio.Semaphore(0)
    monkeypatch.setattr(courier, "get_logger", lambda: log)
    monkeypatch.setattr(courier, "IDLE_MS", 10)
    monkeypatch.setattr(courier, "MAINTAIN_EVERY_MS", 0)

    async def broken(_node: Node) -> None:
        rounds.release()
        raise ValueError

    monkeypatch.setattr(courier, "maintain", broken)
    stop = asyncio.Event()
    running = asyncio.create_task(two[HELPLINE].courier.run(stop))
    async with asyncio.timeout(10):
        for _ in range(4):
            await rounds.acquire()
    stop.set()
    await running
    said = [call.kwargs for call in log.calls if call.args == ("courier-beside-failed",)]
    assert said == [{"kind": "maintain", "error_type": "ValueError"}]

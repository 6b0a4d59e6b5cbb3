"""The day on which the clocks of the machine change: a deadline is an instant, and nothing ends an hour early or late.

The machine's zone is one that changes three hours after a referral was handed in, in the one direction or the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from pydantic import TypeAdapter
from support.federation import Federation
from support.ledger import record
from support.stories import begin, refusal

from exchange.limits import HOUR_MS, SECOND_MS
from exchange.schemas.shapes import Timestamp
from exchange.use_cases.node import as_datetime


def _zone(change: time.struct_time, other: time.struct_time, *, begins: bool) -> str:
    """A zone an hour ahead of UTC from this hour on, or until this hour; the other change is far away."""
    summer, winter = (change, other) if begins else (other, change)
    # The end of summer time is written in summer time.
    return f"AAA0BBB-1,{summer.tm_yday - 1}/{summer.tm_hour},{winter.tm_yday - 1}/{winter.tm_hour + 1}"


@pytest.fixture(params=["begins", "ends"])
def changing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Summer time begins, or ends, in three hours."""
    now = time.time()
    at, other = time.gmtime(now + 3 * 3600), time.gmtime(now + 150 * 24 * 3600)
    monkeypatch.setenv("TZ", _zone(at, other, begins=request.param == "begins"))
    time.tzset()
    before, after = time.localtime(now).tm_gmtoff, time.localtime(now + 4 * 3600).tm_gmtoff
    assert after - before == (3600 if request.param == "begins" else -3600)
    yield
    monkeypatch.undo()
    time.tzset()


def as_ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _go_to(two: Federation, moment_ms: int) -> None:
    two.clock.offset += moment_ms - two.clock()


@pytest.mark.usefixtures("changing")
@pytest.mark.parametrize(("priority", "within"), [("emergency", 1), ("urgent", 24)])
async def test_nothing_ends_an_hour_early_or_late(two: Federation, priority: str, within: int) -> None:
    answered = await begin(two, priority=priority)
    unheard = await begin(two, consent=answered.consent, priority=priority)
    for story in (answered, unheard):
        for node in (story.sender, story.receiver):
            row = await story.record(at=node)
            assert abs(row["respond_by"] - row["created_at"] - within * HOUR_MS) < 20 * SECOND_MS
        due = (await story.record())["respond_by"]
        assert as_ms(story.created.respond_by) == due
        assert as_ms(story.created.expires_at) == due + 24 * HOUR_MS
    due = (await answered.record())["respond_by"]
    _go_to(two, due - 5 * SECOND_MS)
    await answered.decides("accepted")
    await answered.both_say("accepted")
    due = (await unheard.record())["respond_by"]
    assert not (await unheard.flags()).overdue
    _go_to(two, due + SECOND_MS)
    assert (await refusal(unheard.decides("accepted"))).code == "respond-by-passed"
    await unheard.travel()
    assert (await unheard.flags()).overdue
    _go_to(two, due + 24 * HOUR_MS - 20 * SECOND_MS)
    await unheard.travel()
    await unheard.both_say("received")
    assert "expired" not in await unheard.changes()
    _go_to(two, due + 24 * HOUR_MS + SECOND_MS)
    await unheard.travel()
    await unheard.both_say("expired")
    assert "expired" in await unheard.changes()
    await answered.both_say("accepted")
    record("deadlines across a change of the clocks", lost=0, doubled=0)


def test_an_instant_is_written_the_same_in_every_zone(changing: None) -> None:  # noqa: ARG001
    """Around the change every hour of UTC is another instant; by the wall's clock one is missing, or comes twice."""
    start = int(time.time() * 1000)
    instants = [start + hour * HOUR_MS for hour in range(8)]
    timestamps = TypeAdapter(Timestamp)
    written = [timestamps.dump_json(as_datetime(instant)) for instant in instants]
    assert [as_ms(timestamps.validate_json(one)) for one in written] == instants
    assert all(one.endswith(b'Z"') for one in written)
    # Read with the offset of the machine's own zone they are the same instants too.
    local = [as_datetime(instant).astimezone().isoformat(timespec="milliseconds") for instant in instants]
    assert [as_ms(timestamps.validate_python(one)) for one in local] == instants
    assert len({one[-6:] for one in local}) == 2

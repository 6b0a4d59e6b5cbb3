"""Her consent ends in 14 days: the agency that asked is told, once, for each referral that is still open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from support.federation import Federation, federation
from support.stories import Story, begin, now_of

from consent.record import WARNING_BEFORE
from contracts.vocabulary import WithdrawalForm
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.storage.due import ENDS_SOON, ENDS_SOON_MS
from exchange.storage.tables import CHANGE
from exchange.use_cases.consents_that_end import tell_of_consents_that_end

pytestmark = pytest.mark.asyncio(loop_scope="module")
DAY = 24.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Federation]:
    async with federation(tmp_path_factory.mktemp("ends"), (HELPLINE, SHELTER)) as together:
        yield together


async def served(two: Federation, *, days: float, **changes: Any) -> Story:
    """A service that goes on, under a consent that ends in so many days."""
    end = (now_of(two) + timedelta(days=days)).isoformat()
    story = await begin(two, consent={"expires_at": end}, **changes)
    await story.decides("accepted")
    await story.reports("in-service")
    return story


async def told(story: Story) -> int:
    """How often its agency was told: as many as the list of changes holds of it, on whichever page."""
    return [row["what"] for row in await story.rows(CHANGE)].count(ENDS_SOON)


async def test_storage_counts_the_days_that_the_record_counts() -> None:
    assert timedelta(milliseconds=ENDS_SOON_MS) == WARNING_BEFORE


async def test_it_is_told_from_fourteen_days_before_and_once(two: Federation) -> None:
    story = await served(two, days=20)
    await story.later(hours=5 * DAY)
    assert await told(story) == 0
    assert not (await story.asks.consents.read(story.consent)).warn
    before = await story.record()
    assert ENDS_SOON not in await story.changes()
    await story.later(hours=1.5 * DAY)
    assert await told(story) == 1
    assert (await story.asks.consents.read(story.consent)).warn
    assert await story.record() == before
    assert (await story.changes())[-1] == ENDS_SOON
    await story.later(hours=2 * DAY)
    assert await told(story) == 1


async def test_a_renewal_is_told_of_when_its_own_end_is_near(two: Federation) -> None:
    story = await served(two, days=10)
    await story.later(hours=2)
    assert await told(story) == 1
    until = now_of(two) + timedelta(days=40)
    await story.asks.consents.renew(story.consent, until)
    await story.later(hours=20 * DAY)
    assert await told(story) == 1
    await story.later(hours=7 * DAY)
    assert await told(story) == 2


@pytest.mark.parametrize("what", ["sharing-stopped", "ended", "withdrawn", "consent-over"])
async def test_where_nothing_more_would_be_told_nobody_is_warned(two: Federation, what: str) -> None:
    story = await served(two, days=15)
    if what == "sharing-stopped":
        await story.says_no("stop-sharing")
    if what == "ended":
        await story.reports("completed")
    if what == "withdrawn":
        await story.asks.withdrawals.of_consent(story.consent, WithdrawalForm.STOP_SERVICE)
    await story.later(hours=(16 if what == "consent-over" else 2) * DAY)
    assert await told(story) == 0


async def test_two_couriers_tell_once(two: Federation) -> None:
    story, node = await served(two, days=14.5), two[HELPLINE].node
    two.clock.pass_by(hours=DAY)
    for _ in range(2):
        node.consent_ends_looked_at = 0
        await tell_of_consents_that_end(node)
    assert await told(story) == 1


async def test_a_referral_says_until_when_to_who_made_it(two: Federation) -> None:
    story = await served(two, days=30)
    row = await story.asks.consents.read(story.consent)
    mine, theirs = await story.views()
    assert mine.consent_until == row.expires_at
    assert theirs.consent_until is None
    await story.says_no("stop-sharing")
    assert (await story.views())[0].consent_until is None
    other = await served(two, days=30)
    assert (await other.views())[0].consent_until is not None
    await other.reports("completed")
    assert (await other.views())[0].consent_until is None

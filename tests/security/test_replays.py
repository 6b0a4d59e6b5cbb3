"""The same bytes again, days later: remembered as long as they could be good, refused by their own times afterwards."""

from __future__ import annotations

import secrets

import pytest
from support.federation import Federation
from support.lying_peer import LyingPeer, batch_of, row_counts
from support.refusals import CANARY
from support.stories import rows

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.envelope.kinds import Kind
from exchange.limits import DAY_MS, LIMITS
from exchange.schemas.federation import BatchAnswer
from exchange.schemas.inbox import DecisionRequest
from exchange.storage.inbox import forget_answers
from exchange.storage.tables import OUTBOX


async def is_refused_as_old_or_the_first_again(
    pair: Federation, liar: LyingPeer, body: bytes, days: int, *, remembered_days: int
) -> None:
    """The same bytes, so many days later. Nothing is stored either way."""
    node = pair[SHELTER].node
    first = await liar.post(body)
    assert [one.result for one in BatchAnswer.model_validate_json(first.content).answers] == ["accepted"]
    pair.clock.pass_by(hours=24 * days)
    await node.database.write(lambda conn: forget_answers(conn, node.clock()))
    await liar.token()
    before = await row_counts(node.database)
    again = await liar.post(body)
    if days < remembered_days:
        assert again.content == first.content
    else:
        (answer,) = BatchAnswer.model_validate_json(again.content).answers
        assert answer.problem is not None
        assert (answer.result, answer.problem.code) == ("refused", "expired")
    assert await row_counts(node.database) == before


REMEMBERED = LIMITS.dedupe_at_least_ms // DAY_MS


@pytest.mark.parametrize("days", [0, 20, 31, 60])
async def test_an_offer_is_stored_once_in_its_window_and_never_after_it(pair: Federation, days: int) -> None:
    """Also when the memory of the delivery has ended: the envelope has too."""
    liar = await LyingPeer.of(pair[HELPLINE], pair[SHELTER])
    body = batch_of(liar.forward())
    await is_refused_as_old_or_the_first_again(pair, liar, body, days, remembered_days=REMEMBERED)


@pytest.mark.parametrize("days", [0, 13, 15, 31, 60])
async def test_a_disclosure_is_stored_once_and_never_after_its_release_is_old(pair: Federation, days: int) -> None:
    """It may have been held for days: how late it may come is said by its release."""
    liar, shelter = await LyingPeer.of(pair[HELPLINE], pair[SHELTER]), pair[SHELTER]
    referral = secrets.token_hex(16)
    await liar.deliver(liar.forward(referral=referral))
    (offer,) = (await shelter.client().inbox.list()).items
    await shelter.client().inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    (accepting,) = [row["digest"] for row in await rows(shelter, OUTBOX) if row["kind"] == "decision"]
    held = liar.forward(Kind.DISCLOSURE, {"preferred_name": CANARY}, referral=referral, groups=("name",))
    body = batch_of(liar.released(held, accepting))
    await is_refused_as_old_or_the_first_again(pair, liar, body, days, remembered_days=REMEMBERED)


@pytest.mark.parametrize("days", [0, 31, 399, 401])
async def test_her_no_is_remembered_as_long_as_it_is_good(pair: Federation, days: int) -> None:
    """Longer than every retention: it is heard once, and no replay of it is ever news."""
    liar, referral = await LyingPeer.of(pair[HELPLINE], pair[SHELTER]), secrets.token_hex(16)
    await liar.deliver(liar.forward(referral=referral))
    body = batch_of(liar.stop(Kind.WITHDRAWAL, referral=referral, event="erase"))
    good = LIMITS.stop_expires_ms // DAY_MS
    await is_refused_as_old_or_the_first_again(pair, liar, body, days, remembered_days=good)

"""The whole life of a referral between two nodes in one process, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.databases import MakeDatabase
from support.federation import Federation, TestNode
from support.federation_fixtures import federation_on
from support.people import CANARY_NAME, consent_request, referral_request
from support.stories import begin

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.inbox import DecisionRequest, InboxItem, ProgressRequest
from exchange.schemas.referrals import ReferralCreated
from exchange.storage.tables import INBOX


@pytest.fixture
async def two(tmp_path: Path, make_database: MakeDatabase) -> AsyncIterator[Federation]:
    """A helpline and a shelter."""
    async with federation_on(tmp_path, (HELPLINE, SHELTER), make_database) as together:
        yield together


async def sent(together: Federation, **changes: object) -> ReferralCreated:
    """One referral from the helpline to the shelter, delivered."""
    helpline = together[HELPLINE].client()
    consent = await helpline.consents.record(consent_request(SHELTER.agency))
    created = await helpline.referrals.send(referral_request(SHELTER.agency, consent.id, **changes))
    await together.travel()
    return created


async def newest(node: TestNode, kind: str) -> InboxItem:
    """The newest inbox item of a kind."""
    page = await node.client().inbox.list()
    return [item for item in page.items if item.kind == kind][-1]


async def test_accepted_released_completed(two: Federation) -> None:
    helpline, shelter = two[HELPLINE].client(), two[SHELTER].client()
    created = await sent(two)
    assert created.disclosure_held
    offer = await newest(two[SHELTER], "offer")
    opened = await shelter.inbox.open(offer.id)
    assert opened.content is not None
    assert opened.content.preferred_name is None
    assert opened.client_code == created.client_code
    await shelter.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    await two.travel()
    view = await helpline.referrals.read(created.id)
    assert view.state == "accepted"
    assert view.flags.disclosed
    disclosure = await shelter.inbox.open((await newest(two[SHELTER], "disclosure")).id)
    assert disclosure.content is not None
    assert disclosure.content.preferred_name == CANARY_NAME
    for state in ("in-service", "completed"):
        await shelter.inbox.report_progress(offer.id, ProgressRequest(state=state))
        await two.travel()
    assert (await helpline.referrals.read(created.id)).state == "completed"
    assert (await shelter.referrals.read(created.id)).state == "completed"


async def test_no_key_stays_with_which_an_envelope_came(two: Federation) -> None:
    """It could be opened by the key of its week, from a backup too, after the referral's own key is destroyed."""
    story = await begin(two)
    await story.decides("accepted")
    await story.says_no("stop-service")
    for node, kinds in ((story.receiver, {"offer", "disclosure", "withdrawal"}), (story.sender, {"decision"})):
        arrived = {row["kind"]: row for row in await story.rows(INBOX, at=node)}
        assert arrived.keys() == kinds
        assert {kind for kind, row in arrived.items() if row["wrapped_key"] is not None} == set()
        assert {kind for kind, row in arrived.items() if row["rewrapped_key"] is not None} == kinds - {"withdrawal"}

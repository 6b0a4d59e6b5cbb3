"""A node lost its disk and says since when: stops come again, the rest is asked for; and its backup is all there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import update
from support.federation import Federation, federation
from support.networks import OverTransport
from support.people import consent_request, referral_request
from support.stories import begin

from exchange.demo.federation import HELPLINE, SHELTER
from exchange.federation.transport import HTTPTransport
from exchange.schemas.federation import ResyncRequest
from exchange.startup import open_node
from exchange.storage.tables import INBOX


async def test_stops_come_again_and_open_referrals_are_marked(tmp_path: Path) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER)) as two:
        helpline = two[HELPLINE].client()
        consent = await helpline.consents.record(consent_request(SHELTER.agency))
        kept = await helpline.referrals.send(referral_request(SHELTER.agency, consent.id))
        gone = await helpline.referrals.send(referral_request(SHELTER.agency, consent.id))
        await two.travel()
        await helpline.referrals.recall(gone.id)
        await two.travel()
        shelter = two[SHELTER].node
        transport = HTTPTransport(
            shelter.agency, shelter.node_key, shelter.limits, shelter.clock, network=OverTransport(two.network)
        )
        since = datetime.now(UTC) - timedelta(hours=1)
        answer = await transport.resync(two[HELPLINE].member, ResyncRequest(since=since).model_dump_json().encode())
        await transport.close()
        assert (answer.stops_queued, answer.referrals_marked) == (1, 1)
        assert (await helpline.referrals.read(kept.id)).flags.resend
        before = len(two.network.posted)
        await two.travel()
        assert len(two.network.posted) > before
        assert (await helpline.referrals.read(gone.id)).state == "recalled"


async def test_what_a_dump_brings_to_another_server_is_in_the_inbox_when_the_node_has_started(
    on_both: Federation,
) -> None:
    shelter, story = on_both[SHELTER], await begin(on_both)
    if shelter.node.database.dialect == "postgresql":  # SQLite counts no transactions
        # So many the other server had counted.
        await shelter.node.database.write(lambda conn: conn.execute(update(INBOX).values(xid=10**12)).rowcount)
        assert (await story.helps.inbox.list()).items == ()
    async with open_node(shelter.settings):
        pass
    assert [item.referral for item in (await story.helps.inbox.list()).items] == [story.id]

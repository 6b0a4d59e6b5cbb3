"""`exchange resync`: after a lost disk, ask every peer for what was delivered since. Speaks with the node's key."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from exchange.cli.console import advise, fail, refusals_told, say
from exchange.cli.moments import moment
from exchange.cli.passphrase import settings_to_open
from exchange.cli.profile import HomeOption
from exchange.settings import Settings


def resync(
    since: Annotated[datetime, typer.Argument(help="When the last good backup was begun, in UTC.")],
    home: HomeOption = None,
) -> None:
    """Tell every peer since when this node's data is lost: stops come again, and senders are asked to send again."""
    from exchange.startup import StartRefusedError
    from exchange.storage.errors import StorageError

    lost_since = since.replace(tzinfo=UTC)
    if lost_since > datetime.now(UTC):
        fail("SINCE must lie in the past: when the last good backup was begun, in UTC. Nobody was told anything.")
    # On both clocks: of a local time that was typed as UTC some hours of stops would not come again.
    say(f"What is lost since {moment(lost_since)} comes again. If it was earlier, run this again with that time.")
    with refusals_told():
        settings = settings_to_open(home)
    try:
        unreached = asyncio.run(_tell_everybody(settings, lost_since))
    except StartRefusedError as refused:
        fail(str(refused))
    except StorageError as refused:
        fail(f"Not everybody was told: {refused} Mend that, then run the same command again; it may be repeated.")
    if unreached:
        fail(f"Peers that were not reached: {unreached}. Run the same command again later; it may be repeated.")


async def _tell_everybody(settings: Settings, since: datetime) -> int:
    from exchange.federation.transport import HTTPTransport, PeerUnreachableError
    from exchange.schemas.federation import ResyncRequest
    from exchange.schemas.shapes import to_millis
    from exchange.startup import open_node
    from exchange.use_cases.resync import note_loss

    body = ResyncRequest(since=since).model_dump_json().encode()
    unreached = 0
    async with open_node(settings) as node:
        transport = HTTPTransport(node.agency, node.node_key, node.limits, node.clock)
        await note_loss(node, to_millis(since))
        peers = [peer for peer in node.world().roster.members.values() if peer.agency != node.agency]
        if not peers:
            say("No other agency is in the roster: there is nobody to ask.")
        for peer in peers:
            try:
                answer = await transport.resync(peer, body)
            except PeerUnreachableError as error:
                unreached += 1
                advise(f"{peer.agency}: not reached ({error.code})")
                continue
            say(f"{peer.agency}: {answer.stops_queued} stops come again, {answer.referrals_marked} to be sent again")
        await transport.close()
    return unreached

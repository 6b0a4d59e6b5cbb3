"""`exchange sandbox`: two linked nodes to try by hand, with everything ready to paste.

Rules:

* Everything is marked synthetic; a production node refuses this roster and this contract.
* Tokens live an hour here, five minutes everywhere else. What is printed names a curl configuration file per agency, in
  the sandbox's own folder, in which a fresh token is kept for as long as the sandbox runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import typer
from pydantic import BaseModel

from exchange.cli.console import fail, say
from exchange.client import AgencyClient, ClientError
from exchange.demo.federation import (
    HELPLINE,
    SHELTER,
    AgencyPlan,
    FederationError,
    RunningFederation,
    running_federation,
)
from exchange.demo.people import nobody_known
from exchange.settings import Environment

RENEW_EVERY_S: Final = 120.0
_ACTOR: Final = "w-sandbox"
_NAMES: Final = {HELPLINE.agency: "helpline", SHELTER.agency: "shelter"}


def run_sandbox(folder: Path) -> int:
    """Run until stopped; the exit code.

    Args:
        folder: a new or empty folder for the nodes' homes.
    """
    say("Making two nodes, helpline and shelter: keys, databases, contract, roster …")
    try:
        with running_federation(folder, (HELPLINE, SHELTER), environment=Environment.SANDBOX) as federation:
            asyncio.run(_keep_open(federation))
    except (FederationError, ClientError) as failed:
        fail(str(failed))
    say("Stopped.")
    return 0


async def _keep_open(federation: RunningFederation) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as clients:
        opened = {
            agency: await clients.enter_async_context(node.client(_ACTOR)) for agency, node in federation.nodes.items()
        }
        asked = nobody_known(_now()).consent(_now())
        _write(federation.folder / "consent.json", asked)
        consent = await opened[HELPLINE.agency].consents.record(asked)
        referral = federation.folder / "referral.json"
        _write(referral, nobody_known(_now()).referral(consent.id))
        await _renew(federation, opened)
        tokens = {agency: await client.access_token() for agency, client in opened.items()}
        for line in what_to_paste(federation, referral, tokens):
            typer.echo(line)
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), RENEW_EVERY_S)
            except TimeoutError:
                await _renew(federation, opened)
            _refuse_ended(federation)


def what_to_paste(federation: RunningFederation, referral: Path, tokens: Mapping[str, str]) -> Iterator[str]:
    """The lines that take a referral through both nodes, with curl and with the command line."""
    helpline, shelter = federation[HELPLINE], federation[SHELTER]
    mine, theirs = (f"curl -sS -K {_curl_file(federation, plan)}" for plan in (HELPLINE, SHELTER))
    yield ""
    yield "SYNTHETIC: everybody in this sandbox is invented. Never enter anything about a real person."
    yield f"helpline {helpline.url}/docs    shelter {shelter.url}/docs"
    yield ""
    yield "# 1. What would the shelter see, and when? Nothing is stored."
    yield f"{mine} {helpline.url}/v1/referrals/preview --json @{referral}"
    yield "# 2. Send it."
    yield f'{mine} {helpline.url}/v1/referrals -H "Idempotency-Key: try-1" --json @{referral}'
    yield "# 3. The shelter looks into its inbox (waits up to 10 seconds), then opens the item: put its id for ITEM."
    yield f"{theirs} '{shelter.url}/v1/inbox?wait=10'"
    yield f"{theirs} {shelter.url}/v1/inbox/ITEM"
    yield "# 4. It says yes; her words for the door and her plan arrive as an item of their own."
    yield f'{theirs} {shelter.url}/v1/inbox/ITEM/decision --json \'{{"decision": "accepted"}}\''
    yield "# The same from the command line (from the folder of the checkout); it asks before a second one for her:"
    yield f".venv/bin/exchange send {referral} --again --home {helpline.home}"
    yield f".venv/bin/exchange inbox watch --home {shelter.home}"
    yield f".venv/bin/exchange doctor --home {shelter.home}"
    yield ""
    for name, token in tokens.items():
        yield f"{name}'s token, good for an hour:"
        yield token
    yield "The -K files hold the same, renewed while this runs. Stop with Ctrl-C; everything is then removed."


async def _renew(federation: RunningFederation, clients: dict[str, AgencyClient]) -> None:
    for agency, client in clients.items():
        token = await client.access_token()
        path = _curl_file(federation, federation.nodes[agency].plan)
        beside = path.with_suffix(".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f'header = "Authorization: Bearer {token}"\nheader = "Actor: {_ACTOR}"\nnoproxy = "*"\n')
        beside.replace(path)


def _write(path: Path, request: BaseModel) -> None:
    path.write_text(json.dumps(request.model_dump(mode="json", exclude_none=True, by_alias=True), indent=2))


def _curl_file(federation: RunningFederation, plan: AgencyPlan) -> Path:
    return federation.folder / f"{_NAMES[plan.agency]}.curl"


def _refuse_ended(federation: RunningFederation) -> None:
    for node in federation.nodes.values():
        if (child := node.supervisor.ended()) is not None:
            raise FederationError(f"{node.agency}: `{child.role}` ended by itself; see {node.home / 'node.log'}")


def _now() -> datetime:
    return datetime.now(UTC)

"""`exchange doctor`: looks at everything a node needs and says what to do. Exit code 1 if anything is bad."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.text import Text

from exchange.cli.console import OUT, REFUSED, refusals_told
from exchange.cli.examination import (
    Federation,
    Finding,
    Level,
    look_at_contracts,
    look_at_files,
    look_at_keys,
    look_at_receivers,
    look_at_roster,
    look_at_settings,
    look_at_statements,
    look_at_variables,
    read_federation,
    read_keys,
)
from exchange.cli.passphrase import passphrase_of
from exchange.cli.profile import HomeOption
from exchange.limits import SECOND_MS
from exchange.settings import Settings, load_settings, local_address

_STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.BAD: "bold red"}


def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask this node or the peers.")] = False,
    home: HomeOption = None,
) -> None:
    """Look at configuration, keys, clock, databases, consent statements, roster, contracts, peers; say what to do."""
    with refusals_told():
        settings = load_settings(home=home)
    findings = examine(settings, passphrase_of(settings), offline=offline)
    tell(findings)
    if any(finding.level is Level.BAD for finding in findings):
        raise typer.Exit(REFUSED)


def examine(settings: Settings, passphrase: str, *, offline: bool) -> list[Finding]:
    """Every finding, in the order in which a person would repair."""
    from exchange.cli.examining_clients import look_at_clients, look_at_marks
    from exchange.cli.examining_databases import (
        look_at_databases,
        look_at_destruction,
        look_at_lost_weeks,
        look_at_used_roster,
    )

    federation, keys = read_federation(settings), read_keys(settings, passphrase)
    at = round(time.time() * SECOND_MS)
    findings = [
        *look_at_settings(settings, federation),
        *look_at_variables(os.environ),
        *look_at_files(settings),
        *look_at_keys(settings, keys, federation),
        *look_at_databases(settings),
        *look_at_lost_weeks(settings, keys, at),
        *look_at_marks(settings, keys),
        *look_at_statements(settings),
        *look_at_destruction(settings, at),
        *look_at_receivers(settings, at),
    ]
    if isinstance(federation, Finding):
        return [*findings, federation]
    findings += look_at_roster(settings, federation)
    findings += look_at_used_roster(settings, federation.roster)
    findings += look_at_clients(settings, federation.roster.members, federation.own.agency)
    findings += look_at_contracts(settings, federation, datetime.fromtimestamp(time.time(), UTC))
    if not offline:
        findings += asyncio.run(_look_at_network(settings, federation))
    return findings


async def _look_at_network(settings: Settings, federation: Federation) -> list[Finding]:
    from exchange.cli.examining_peers import look_at_network

    return await look_at_network(federation, local_address(settings.host, settings.port))


def tell(findings: Iterable[Finding]) -> None:
    """One line each, and below it what to do."""
    for finding in findings:
        line = Text.assemble((f"{finding.level:<5}", _STYLES[finding.level]), f"{finding.subject}: ", finding.sentence)
        OUT.print(line, soft_wrap=True)
        if finding.what_to_do:
            OUT.print(Text(f"      → {finding.what_to_do}", style="bold"), soft_wrap=True)

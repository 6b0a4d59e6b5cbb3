"""`exchange confirm-clock`: an operator says that this clock is right. Works on the database, not over HTTP."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from exchange.cli.console import fail, refusals_told, say
from exchange.cli.profile import HomeOption
from exchange.limits import MINUTE_MS, SECOND_MS

_TYPED_WITHIN_MS: Final = 5 * MINUTE_MS


def confirm_clock(
    now: Annotated[datetime, typer.Argument(help="The time by a clock that you trust, not this machine's, in UTC.")],
    home: HomeOption = None,
) -> None:
    """After `clock-jumped`, and where no peer can be asked: what has ended by this clock is destroyed."""
    from exchange.settings import load_settings
    from exchange.storage.clock_look import confirm_look
    from exchange.storage.database import Database
    from exchange.storage.errors import StorageError
    from exchange.storage.versions import History, ensure_current

    at = time.time_ns() // 1_000_000
    if abs(now.replace(tzinfo=UTC).timestamp() * SECOND_MS - at) > _TYPED_WITHIN_MS:
        here = f"{datetime.fromtimestamp(at / SECOND_MS, UTC):%Y-%m-%dT%H:%M}"
        fail(f"This machine says {here} (UTC). If that is wrong, set its clock. Nothing was confirmed.")
    with refusals_told():
        url = load_settings(home=home).database_url.get_secret_value()
    try:
        ensure_current(url, History.MAIN)
        database = Database.open(url)
        try:
            doubted = database.write_sync(lambda conn: confirm_look(conn, at))
        finally:
            database.close_sync()
    except StorageError as refused:
        fail(f"main: {refused}")
    say("Confirmed: a node that runs goes on within seconds." if doubted else "It was not in doubt.", style="green")

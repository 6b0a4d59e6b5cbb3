"""One process of a node: `python -m exchange.cli.node_process api FD` or `… courier`. Started by `exchange serve` only.

Rules:

* The first line of standard input is the passphrase as JSON, or empty where a file that the settings name holds it.
* Standard input stays open as long as the parent lives. When it closes, this process stops as if told to.
* SIGTERM ends it in order: no new work, running work finished, databases closed.
* What keeps the node from starting is told by each process that meets it: another one may not have.
* However it ends, it leaves no core file: its memory holds keys and contents.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import threading
from typing import Final

from pydantic import SecretStr

from exchange.cli.core_files import switch_off_core_files
from exchange.settings import Settings, load_settings

_STANDARD_INPUT: Final = 0
SHUTDOWN_S: Final = 8
"""How long running requests may take to end; long-polls are answered at once."""


def main(arguments: list[str]) -> None:
    """Read the passphrase, watch the parent, and be an API process or the courier."""
    switch_off_core_files()
    gc.disable()  # what is loaded now is no garbage, and looking through it took a fifth of the start
    handed = _first_line()
    settings = load_settings(passphrase=SecretStr(json.loads(handed)) if handed else None)
    threading.Thread(target=_stop_with_parent, name="parent", daemon=True).start()
    match arguments:
        case ["api", descriptor]:
            run_api(settings, socket.socket(fileno=int(descriptor)))
        case ["courier"]:
            asyncio.run(run_courier_process(settings))
        case _:
            sys.exit("This module is started by `exchange serve`.")


def run_api(settings: Settings, listener: socket.socket) -> None:
    """Answer requests on a socket that is bound already, until told to stop."""
    import uvicorn

    from exchange.api.one_write import OneWrite
    from exchange.app import create_app
    from exchange.startup import StartRefusedError
    from exchange.telemetry import UVICORN_OPTIONS

    refused: list[StartRefusedError] = []
    app = create_app(settings, refused=refused.append)

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # Otherwise it waits for those who wait for news, and breaks them off in the end.
            app.let_go()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,
        lifespan="on",
        http=OneWrite,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=SHUTDOWN_S,
        **UVICORN_OPTIONS,
    )
    server = Server(config)
    collect_rarely()
    try:
        server.run(sockets=[listener])
    finally:
        # The server ends the process with a code of its own, and without a word.
        if refused:
            sys.exit("\n".join(refused[0].reasons))
    if not server.started:
        sys.exit(1)


async def run_courier_process(settings: Settings) -> None:
    """Deliver until told to stop, then finish what is on its way."""
    from exchange.federation.courier import run_courier
    from exchange.startup import StartRefusedError, open_node

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with open_node(settings) as node:
            collect_rarely()
            await run_courier(node, stop)
    except StartRefusedError as refused:
        sys.exit("\n".join(refused.reasons))


def collect_rarely() -> None:
    """Look for reference cycles seldom, and never again through what is there after starting.

    A referral makes thousands of short-lived objects and no cycles; looking for some took a tenth of the sender's time,
    and looking through everything that was imported stopped a node for a tenth of a second. Until here it was off.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def _first_line() -> bytes:
    """The first line of standard input, read without a buffer: a thread waits on the rest until the end."""
    line = bytearray()
    while (read := os.read(_STANDARD_INPUT, 1)) not in {b"", b"\n"}:
        line += read
    return bytes(line)


def _stop_with_parent() -> None:
    while os.read(_STANDARD_INPUT, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])

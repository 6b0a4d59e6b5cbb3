"""`exchange demo` and `exchange sandbox`: real nodes on this machine, with invented people only."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from exchange.cli.console import SET_UP_WRONG, fail

KEPT_DEMO: Final = Path("demo-data")
KEPT_SANDBOX: Final = Path("sandbox-data")


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the nodes' folders in ./demo-data, to look inside.")
    ] = False,
    blind: Annotated[
        bool,
        typer.Option("--blind", help="Two nodes that hold no agency key: what the agencies seal and open themselves."),
    ] = False,
) -> None:
    """Four real nodes, five referrals, told step by step: what each agency can and cannot see."""
    from exchange.demo.blind import perform_blind
    from exchange.demo.performance import perform as perform_four

    perform = perform_blind if blind else perform_four
    # Told to end, it cleans up as after Ctrl-C: nodes stopped, folders removed.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    if not keep:
        with tempfile.TemporaryDirectory(prefix="exchange-demo-") as folder:
            raise typer.Exit(perform(Path(folder)))
    _refuse_existing(KEPT_DEMO)
    code = perform(KEPT_DEMO.absolute())
    raise typer.Exit(code)


def sandbox(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the nodes' folders in ./sandbox-data.")] = False,
) -> None:
    """Two linked nodes with invented data, a token and curl lines to paste, until Ctrl-C."""
    from exchange.demo.sandbox import run_sandbox

    if not keep:
        with tempfile.TemporaryDirectory(prefix="exchange-sandbox-") as folder:
            raise typer.Exit(run_sandbox(Path(folder)))
    _refuse_existing(KEPT_SANDBOX)
    raise typer.Exit(run_sandbox(KEPT_SANDBOX.absolute()))


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        fail(f"{folder} exists already: remove it first, it holds an earlier run.", code=SET_UP_WRONG)

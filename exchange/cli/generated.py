"""`exchange openapi`: the committed documents, from the code."""

from __future__ import annotations

from typing import Annotated

import typer

from exchange.cli.console import advise, fail, say


def openapi(
    check: Annotated[bool, typer.Option("--check", help="Only say whether the committed files have drifted.")] = False,
) -> None:
    """Write openapi/*.json and the list of problems from the code, or check that they are what the code says."""
    from exchange.cli.openapi import write_openapi

    changed = write_openapi(check)
    for name in changed:
        (advise if check else say)(f"{name} {'differs from the code' if check else 'written'}")
    if check and changed:
        fail("Run `exchange openapi` and commit what it writes.")
    if not changed:
        say("OpenAPI documents and problem list are what the code says.", style="green")

"""An opened item on the screen: every field with what it says, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from exchange.cli.console import OUT, say, table
from exchange.schemas.inbox import InboxItem, OpenedItem

_SHOWN_OF_AN_ID: Final = 8


def show_opened(opened: OpenedItem) -> None:
    """Print it as a table; no value is read as markup."""
    item = opened.item
    say(f"{item.kind} from {item.sender}, received {item.received_at:%Y-%m-%d %H:%M} UTC", style="bold")
    say(f"  the referral is {item.state}; code for the telephone: {opened.client_code or 'none'}")
    members: dict[str, Any] = {}
    if opened.content is not None:
        members = opened.content.model_dump(mode="json", exclude_none=True, by_alias=True)
    elif opened.answer is not None:
        members = opened.answer
    rows = [row for name, value in members.items() for row in lines_of(name, value) if row[1]]
    OUT.print(table("What it says", ("field", "says"), rows))
    if "safe_contact" in members:
        say(f"Before any contact: exchange inbox advice {shortened(item)}", style="bold")


def shortened(item: InboxItem) -> str:
    """The end of its id, by which a worker may name it."""
    return item.id[-_SHOWN_OF_AN_ID:]


def lines_of(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A value as rows: members of objects are named after a dot, lists of plain values stay on one row."""
    if isinstance(value, dict):
        for member, inner in value.items():
            yield from lines_of(f"{name}.{member}", inner)
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for number, inner in enumerate(value, start=1):
            yield from lines_of(f"{name} {number}", inner)
    elif isinstance(value, list):
        yield name, ", ".join(str(inner) for inner in value)
    elif isinstance(value, bool):
        yield name, "yes" if value else "no"
    else:
        yield name, str(value)

"""Items of the inbox on the screen: a line for each; opened, every field with what it says, or what a stop asks for.

Rules:

* The line of an offer says until when to answer, and how urgent that is, only as long as an answer is awaited.
* Whatever comes of a drill is called one, each item and each stop: nobody reads them beside the offer.
* A stop has no fields. What it asks for, and what is to be done, stands there in words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from rich.cells import cell_len

from exchange.cli.console import OUT, advise, say, table
from exchange.cli.moments import moment
from exchange.envelope.kinds import Kind, KindClass, class_of
from exchange.referral.lifecycle import State
from exchange.schemas.inbox import InboxItem, OpenedItem
from exchange.schemas.referrals import ReferralView

_SHOWN_OF_AN_ID: Final = 8
_WHOLE_NUMBER: Final = 40
_LEFT_FOR_NAMES: Final = 14
_BETWEEN: Final = len(" │ ")
_AWAITED: Final = frozenset({State.RECEIVED, State.INFORMATION_REQUESTED})
_DRILL: Final = "  EXERCISE: a drill. Nobody in it is real."
_DONE: Final = "Your node has done its part already."
_STOPS: Final[Mapping[str, str]] = {
    "withdrawal/stop-sharing": f"She said no: nothing further is told about her. The service may go on. {_DONE}",
    "withdrawal/stop-service": f"She said no: nothing further is told about her, and the service ends. {_DONE}",
    "withdrawal/erase": "She said no: the service ends, and what is held about her is destroyed. "
    f"{_DONE} Destroy what you have on paper and in other places. Then, and only then: exchange inbox destroyed {{id}}",
    "entered-in-error": f"The referral should never have been made. {_DONE} Destroy what you have on paper and in "
    "other places.",
    "recall": "The other agency takes the referral back. Do not answer it any more.",
}
_RECALL_ASKED: Final = (
    "The other agency asks for the referral back. Ask her, then answer: "
    "exchange inbox recall-answer {id} goes-on (or: ends)"
)


def show_opened(opened: OpenedItem) -> None:
    """Print it as a table; no value is read as markup. A stop is printed in words."""
    item = opened.item
    if is_stop(item):
        show_stop(item)
        return
    _show_head(item)
    # Only the offer has it; the referral has one all the same.
    code = f"; code for the telephone: {opened.client_code}" if opened.client_code else ""
    say(f"  the referral is {item.state}{code}")
    if is_drill(opened):
        say(_DRILL, style="bold")
    members: dict[str, Any] = {}
    if opened.content is not None:
        members = opened.content.model_dump(exclude_none=True, by_alias=True)
    elif opened.answer is not None:
        members = opened.answer
    rows = [row for name, value in members.items() for row in lines_of(name, value) if row[1]]
    made = table("What it says", ("field", "says"), rows)
    # On a narrow screen the name of a field breaks, and a number to be called does not.
    longest = max((cell_len(said) for _, said in rows), default=0)
    made.columns[0].max_width = max(_LEFT_FOR_NAMES, OUT.width - min(longest, _WHOLE_NUMBER) - _BETWEEN)
    OUT.print(made)
    if "safe_contact" in members:
        say(f"Before any contact: exchange inbox advice {shortened(item)}", style="bold")


def show_stop(item: InboxItem) -> None:
    """Print what a stop asks for. It has nothing inside: the list says all of it."""
    _show_head(item)
    say(f"  the referral is {item.state}")
    if item.exercise:
        say(_DRILL, style="bold")
    asked = item.kind == Kind.RECALL and item.state is State.RECALL_REQUESTED
    words = _RECALL_ASKED if asked else _STOPS.get(what_it_is(item))
    if words is not None:
        say(words.format(id=shortened(item)), style="bold")


def is_drill(opened: OpenedItem) -> bool:
    """Whether it is one by what this node knows of the referral, or by the offer itself: it may be from before that."""
    return bool(opened.item.exercise or (opened.content is not None and opened.content.exercise))


def is_stop(item: InboxItem) -> bool:
    """Whether it has nothing to open."""
    return class_of(item.kind) is KindClass.STOP


def _show_head(item: InboxItem) -> None:
    say(f"{what_it_is(item)} from {item.sender}, received {item.received_at:%Y-%m-%d %H:%M} UTC", style="bold")


def line(item: InboxItem) -> str:
    """One item of the list, without its content."""
    priority = due = ""
    state = f"  referral {item.state}"
    if is_awaited(item):
        state = ""
        due = f"  answer due {item.respond_by:%Y-%m-%d %H:%M}" if item.respond_by else ""
        priority = f"  {item.priority.upper()}" if item.priority else ""
    return (
        f"{item.received_at:%Y-%m-%d %H:%M} UTC  {shortened(item)}  {item.sender}  {what_it_is(item)}{drill(item)}  "
        f"{item.sector}{state}{priority}{due}  ({item.status})"
    )


def tell_unreadable(item: str) -> None:
    """Say that there is an item which nobody here can read; it may be her no, or an emergency."""
    advise(
        f"Item {item[-_SHOWN_OF_AN_ID:]} cannot be read: this software is older than the node. It stays as it is, and "
        "may be urgent: have the software updated now, or ask whoever runs your node what came.",
        style="bold red",
    )


def is_awaited(item: InboxItem) -> bool:
    """Whether it is an offer that nobody has decided or ended yet."""
    return item.kind == Kind.OFFER and item.state in _AWAITED


def drill(of: InboxItem | ReferralView) -> str:
    """What follows its name in a list."""
    return " (EXERCISE)" if of.exercise else ""


def what_it_is(item: InboxItem) -> str:
    """Its kind, with the word that an answer or a stop carries: `withdrawal/erase`."""
    return f"{item.kind}/{item.event}" if item.event else item.kind


def shortened(item: InboxItem) -> str:
    """The end of its id, by which a worker may name it."""
    return item.id[-_SHOWN_OF_AN_ID:]


def lines_of(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """A value as rows: members of objects are named after a dot, lists of plain values stay on one row."""
    if isinstance(value, dict):
        for member, inner in value.items():
            yield from lines_of(f"{name}.{member}", inner)
    elif isinstance(value, list | tuple) and any(isinstance(inner, dict) for inner in value):
        for number, inner in enumerate(value, start=1):
            yield from lines_of(f"{name} {number}", inner)
    elif isinstance(value, list | tuple):
        yield name, ", ".join(str(inner) for inner in value)
    elif isinstance(value, bool):
        yield name, "yes" if value else "no"
    elif isinstance(value, datetime):
        yield name, moment(value)
    else:
        yield name, str(value)

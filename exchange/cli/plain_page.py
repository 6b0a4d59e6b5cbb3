"""A page on paper that gives nothing away when somebody else finds it.

Rules:

* It prints a closed list of fields; every other field stays on the screen. A field that is new is not printed.
* No agency is named, neither ours nor the other; no danger, no health, no law, no contact address.
* Of whatever belongs to a drill it says that it is one.
* Its times are those of the clock here, and say so: who drives by it has no other one.
* It says when it has to be destroyed, and nothing about what it is for.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from contracts.vocabulary import Field
from exchange.cli.moments import moment_here
from exchange.cli.sheet import is_drill, lines_of
from exchange.schemas.inbox import OpenedItem

DEFAULT_DAYS: Final = 7
LONGEST_DAYS: Final = 30

PRINTED: Final[dict[Field, str]] = {
    Field.CLIENT_CODE: "Code",
    Field.ARRIVAL_WORDS: "Words",
    Field.PREFERRED_NAME: "Called",
    Field.ARRIVAL_WINDOW: "When",
    Field.MEETING_POINT: "Where",
    Field.TRANSPORT_NEEDED: "Pick-up",
    Field.PARTY: "Guests",
    Field.EXPECTED_STAY: "Stay",
    Field.LANGUAGE: "Language",
    Field.INTERPRETER: "Interpreter",
    Field.ACCESSIBILITY: "Access",
}
"""What may stand on paper, under a neutral word."""


def plain_page(opened: OpenedItem, today: date, days: int) -> str:
    """The page as plain text.

    Args:
        opened: what is printed from.
        today: the day of printing.
        days: after how many days the page has to be destroyed.
    """
    members = {} if opened.content is None else opened.content.model_dump(mode="json", exclude_none=True)
    if opened.content is not None and (window := opened.content.arrival_window) is not None:
        members[Field.ARRIVAL_WINDOW.value] = {
            "earliest": moment_here(window.earliest),
            "latest": moment_here(window.latest),
        }
    if opened.client_code is not None:
        members[Field.CLIENT_CODE.value] = opened.client_code
    rows = [
        (place.replace(field.value, label, 1), said)
        for field, label in PRINTED.items()
        if field.value in members
        for place, said in lines_of(field.value, members[field.value])
    ]
    width = max((len(place) for place, _ in rows), default=0)
    lines = [f"{place:<{width}}  {said}" for place, said in rows]
    end = f"Destroy this page on or before {(today + timedelta(days=days)).isoformat()}."
    head = "NOTE (EXERCISE)" if is_drill(opened) else "NOTE"
    return "\n".join([head, "", *lines, "", end])

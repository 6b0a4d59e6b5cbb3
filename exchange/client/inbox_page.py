"""A page of the inbox as this software can read it: an item that it cannot read holds up no other.

Rules:

* Each item is read for itself, as strictly as every answer: what it says that is new may be what matters of it. One
  that cannot be read, as of a later version of the node, is named by its id and shown in no other way.
* It is not handed out, leased or acknowledged: it stays new at the node, for software that reads it.
* What is said of the page itself is one answer, read strictly. So is what says no id.
"""

from __future__ import annotations

import re
from typing import Any, Final, Self

from pydantic import ModelWrapValidatorHandler, ValidationError, ValidationInfo, model_validator

from exchange.schemas.inbox import InboxItem, InboxPage
from exchange.schemas.shapes import ID_PATTERN, HexId

_ID: Final = re.compile(ID_PATTERN)
_OURS: Final = "unreadable"


class ReadPage(InboxPage):
    """Items after a cursor, oldest first."""

    unreadable: tuple[HexId, ...] = ()
    """Ids of the items on this page that this software cannot read. They are new for as long as nobody takes them over;
    behind `next_cursor` they are not listed again: whoever keeps cursors notes these ids beside it."""

    @model_validator(mode="wrap")
    @classmethod
    def _one_by_one(cls, data: Any, whole: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not isinstance(data, dict) or not isinstance(data.get("items"), list):
            return whole(data)
        if _OURS in data:
            raise ValueError("what cannot be read here, no node says")
        items: list[InboxItem] = []
        unreadable: list[str] = []
        for one in data["items"]:
            try:
                items.append(InboxItem.model_validate(one, context=info.context))
            except ValidationError:
                named = one.get("id") if isinstance(one, dict) else None
                if not isinstance(named, str) or _ID.fullmatch(named) is None:
                    return whole(data)
                unreadable.append(named)
        return whole(data | {"items": items, _OURS: unreadable})

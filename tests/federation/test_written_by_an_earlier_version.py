"""What an earlier version allowed lies here or is on its way: it is read, although it is handed in no more."""

from __future__ import annotations

import pytest
from support.federation import Federation
from support.stories import begin, her_content

from exchange.referral import values

NAME = "\u061c\u0644\u064a\u0644\u0649"
"""An Arabic letter mark stands in front of it."""


async def test_her_name_is_read_as_it_was_written(two: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(values, "_HIDDEN_TOO", "none")
        story = await begin(two, content=her_content(two, preferred_name=NAME), travel=False)
    await story.travel()
    await story.decides("accepted")
    told = await story.opened("disclosure")
    assert told.content is not None
    assert told.content.preferred_name == NAME

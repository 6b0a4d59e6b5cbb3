"""Defects by which a roster that changes, or a word that is said again, does harm: put in by `mutants.py`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest.mock import patch

from exchange import disclosure
from exchange.disclosure import Allowed
from exchange.disclosure_groups import groups_allowed
from exchange.use_cases import answering, gate_again, leaving, unheard
from exchange.use_cases.gate_again import AskedAgain

Defect = Callable[[], AbstractContextManager[Any]]


def _on(place: Any, name: str, defect: Any) -> Defect:
    return lambda: patch.object(place, name, defect)


async def _all_of_them(_node: Any, _world: Any, headers: Any) -> AskedAgain:
    return AskedAgain(frozenset(headers), frozenset())


def _by_groups(_facts: Any, now: Any) -> bool:
    return isinstance(groups_allowed(now), Allowed)


def _told_anyhow(*_arguments: Any) -> None:
    return None


async def _never_again(*_arguments: Any) -> bool:
    return False


ROSTER_DEFECTS: Final[tuple[tuple[str, Defect], ...]] = (
    ("what leaves under another roster meets no gate", _on(leaving, "allowed_again", _all_of_them)),
    ("under another roster groups are enough", _on(gate_again, "_forward_again", _by_groups)),
    ("what a receiver is now is not held against what she was told", _on(disclosure, "told_refuses", _told_anyhow)),
    ("what was barred does not go when it is said again", _on(answering, "may_go_again", _never_again)),
    ("what was barred goes after her no", _on(unheard, "_ENDS_ALL", frozenset())),
)  # fmt: skip

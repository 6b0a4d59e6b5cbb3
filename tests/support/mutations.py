"""Wrong input that is nearly right: what a hurried implementer, a broken line or an attacker makes of something valid.

Everything follows from one seed, so a finding can be shown again. Mutations know the structure of JSON: members are
dropped, doubled, swapped for another's value or type; numbers go over their edges; texts get another spelling. Below
that, bytes are flipped, cut, repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any, Final

ODD_VALUES: Final = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**53 - 1,
    2**53,
    2**63,
    2**64,
    10**400,
    0.0,
    1.5,
    -0.0,
    1e308,
    "",
    " ",
    "0",
    "null",
    "\x00",
    "\n",
    "\x7f",
    "é",
    "\u202e",
    "\ud800",
    "😀",
    "A" * 100,
    "a" * 70_000,
    "../../etc/passwd",
    "%00",
    "{{7*7}}",
    "'; DROP TABLE inbox; --",
    [],
    {},
    [[]],
    [None],
    [{}],
    {"": ""},
    {"__proto__": {}},
    {"a": {"a": {}}},
)
"""Values that some parser somewhere takes for something else."""

_ODD_TEXT: Final = (
    b"\x00",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b" ",
    b"\n",
    b"\\u0065",
    b'"',
    b"{",
    b"[",
    b"9" * 5000,
    b"1e9999",
    b"-",
    b"NaN",
    b"Infinity",
    b"[" * 5000,
    b'{"a":' * 2000,
)


class Mutations:
    """Draws mutations from one random source."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self._strokes: tuple[Callable[[Any], Any], ...] = (
            self._odd,
            self._drop,
            self._add,
            self._double,
            self._swap,
            self._bend,
            self._bend,
            self._bend,
            self._wrap,
        )

    def value(self, value: Any, *, strokes: int = 1) -> Any:
        """A copy of a JSON value with this many things wrong with it."""
        changed = deepcopy(value)
        for _ in range(strokes):
            changed = self._somewhere(changed)
        return changed

    def data(self, data: bytes, *, strokes: int = 1) -> bytes:
        """The bytes with this many spans flipped, cut, repeated or replaced."""
        for _ in range(strokes):
            data = self._stroke_of_bytes(data)
        return data

    def spelling(self, value: Any) -> bytes:
        """The value as JSON: mostly canonical, sometimes in a spelling that only a lax reader takes."""
        ascii_only, dense = self.random.random() < 0.9, self.random.random() < 0.9
        text = json.dumps(
            value,
            sort_keys=self.random.random() < 0.9,
            ensure_ascii=ascii_only,
            separators=(",", ":") if dense else (", ", ": "),
        )
        return text.encode("utf-8", "surrogatepass")

    def json(self, value: Any) -> bytes:
        """A JSON value as bytes, with one to three things wrong: in its meaning, its spelling or its bytes."""
        draw = self.random.random()
        if draw < 0.1:
            return self.data(self.spelling(value), strokes=self.random.randint(1, 3))
        data = self.spelling(self.value(value, strokes=self.random.choice((1, 1, 1, 2, 3))))
        return self.data(data) if draw > 0.95 else data

    def _somewhere(self, value: Any) -> Any:
        """One stroke at a place drawn from all places of the value."""
        places = list(_places(value))
        path = self.random.choice(places)
        if not path:
            return self.random.choice(self._strokes)(value)
        *way, last = path
        parent = value
        for step in way:
            parent = parent[step]
        parent[last] = self.random.choice(self._strokes)(parent[last])
        return value

    def _odd(self, _value: Any) -> Any:
        return deepcopy(self.random.choice(ODD_VALUES))

    def _drop(self, value: Any) -> Any:
        if isinstance(value, dict | list) and value:
            key: Any = self.random.choice(list(value)) if isinstance(value, dict) else self.random.randrange(len(value))
            del value[key]
        return value

    def _add(self, value: Any) -> Any:
        if isinstance(value, dict):
            name = self.random.choice(
                ("note", "", "__proto__", "id", "kind", "release", "event", "priority", "x" * 300)
            )
            value[name] = self._odd(None)
        elif isinstance(value, list):
            value.insert(self.random.randint(0, len(value)), self._odd(None))
        return value

    def _double(self, value: Any) -> Any:
        if isinstance(value, list) and value:
            value.append(deepcopy(self.random.choice(value)))
        elif isinstance(value, dict) and len(value) > 1:
            source, target = self.random.sample(list(value), 2)
            value[target] = deepcopy(value[source])
        return value * 2 if isinstance(value, str) and len(value) < 1000 else value

    def _swap(self, value: Any) -> Any:
        """The same in another type."""
        if isinstance(value, bool) or value is None:
            return int(value or 0)
        if isinstance(value, int):
            return self.random.choice((str(value), float(value) if abs(value) < 2**60 else 0.5, [value], value == 1))
        if isinstance(value, str):
            return self.random.choice(([value], {"value": value}, len(value), list(value[:5])))
        if isinstance(value, list):
            return self.random.choice((value[::-1], dict.fromkeys(map(str, value)), str(value)[:80]))
        return list(value) if isinstance(value, dict) else str(value)

    def _bend(self, value: Any) -> Any:
        """A little more, a little less, or the same in another spelling."""
        if isinstance(value, bool) or value is None:
            return not value
        if isinstance(value, int):
            return value + self.random.choice((1, -1, -2 * value, -value, 1000, -1000, 86_400_000, 2**53, 10**18))
        if isinstance(value, float):
            return -value
        if isinstance(value, str):
            return self._bent_text(value)
        if isinstance(value, list):
            return value[::-1] if self.random.random() < 0.5 else value[:1]
        return dict(sorted(value.items(), reverse=True)) if isinstance(value, dict) else value

    def _bent_text(self, text: str) -> str:
        at = self.random.randint(0, len(text))
        odd = self.random.choice(("\x00", " ", "\n", "é", "\ud800", "=", "+", "/", "A", "0", "-", "\u0130", "ﬀ"))
        return self.random.choice(
            (
                text[:at] + odd + text[at:],
                text[:at] + odd + text[at + 1 :],
                text[:at],
                text[at:],
                text.upper(),
                text + "=",
                text + "==",
                text + "\n",
                " " + text,
                text.swapcase(),
                text.replace("-", "+").replace("_", "/"),
                text[:-1] + "B",
            )
        )

    def _wrap(self, value: Any) -> Any:
        for _ in range(self.random.choice((1, 1, 2, 10, 200))):
            value = [value] if self.random.random() < 0.5 else {"value": value}
        return value

    def _stroke_of_bytes(self, data: bytes) -> bytes:
        start = self.random.randint(0, len(data))
        end = min(len(data), start + self.random.choice((1, 1, 2, 4, 16, 64)))
        flipped = bytes(byte ^ (1 << self.random.randrange(8)) for byte in data[start:end])
        odd = self.random.choice(_ODD_TEXT)
        middle = self.random.choice((flipped, b"", data[start:end] * 2, odd, data[start:end] + odd))
        return data[:start] + middle + data[end:]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    if len(path) > 6:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:20]):
            yield from _places(inner, (*path, index))

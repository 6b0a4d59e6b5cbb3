"""Looking for planted words in everything a node has written: databases, write-ahead logs, key store, log files.

A word is looked for as it is, and as a program might have written it: UTF-8 and UTF-16, JSON with escapes, hexadecimal,
base64 in each of its three alignments.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Find:
    """A planted word that was found."""

    file: Path
    word: str
    spelling: str


@dataclass(frozen=True, slots=True)
class Search:
    """What was looked through, and what was found."""

    files: tuple[Path, ...]
    size: int
    finds: tuple[Find, ...]


def search(folder: Path, words: Iterable[str]) -> Search:
    """Every file below this folder, for every word in every spelling."""
    spelled = [(word, name, needle) for word in words for name, needle in spellings(word)]
    files, finds, size = [], [], 0
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        files.append(path)
        size += len(data)
        finds += [Find(path, word, name) for word, name, needle in spelled if needle in data]
    return Search(tuple(files), size, tuple(finds))


def find_key(folder: Path, key: bytes) -> Search:
    """Every file below this folder, for a secret key: as bytes, in hexadecimal and in base64."""
    found = [(path, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()]
    needles = [("bytes", key), *_encoded(key)]
    finds = tuple(Find(path, "a key", name) for path, data in found for name, needle in needles if needle in data)
    return Search(tuple(path for path, _ in found), sum(len(data) for _, data in found), finds)


def spellings(word: str) -> Iterable[tuple[str, bytes]]:
    """The ways in which a word may stand in a file."""
    plain = word.encode()
    yield "utf-8", plain
    yield "utf-16", word.encode("utf-16-le")
    escaped = json.dumps(word)[1:-1].encode()
    if escaped != plain:
        yield "json", escaped
    yield from _encoded(plain)


def _encoded(plain: bytes) -> Iterable[tuple[str, bytes]]:
    yield "hex", plain.hex().encode()
    for shift, start in enumerate((0, 2, 3)):
        # The first and the last characters of base64 depend on the neighbours; those in between do not.
        inner = base64.b64encode(b"\0" * shift + plain).rstrip(b"=")[start:-1]
        yield f"base64/{shift}", inner
        yield f"base64url/{shift}", inner.translate(_TO_URL)


_TO_URL: Final = bytes.maketrans(b"+/", b"-_")

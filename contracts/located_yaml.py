"""YAML read so that nothing is guessed and everything knows its line.

Rules:

* One document of mappings with plain string keys, sequences and scalars. Anchors, aliases, tags and merge keys are
  refused: two places of a file never depend on each other, and a reader sees all there is.
* A scalar is a whole number when it is written as one without quotes, and otherwise text: `no`, `1.0` and
  `2027-06-30` stay what they look like.
* Duplicate keys and duplicate list entries are problems, not overwrites.
* Every value's line is kept under its path, so that later checks can point at it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.composer import Composer
from yaml.events import AliasEvent, CollectionStartEvent, ScalarEvent
from yaml.resolver import BaseResolver

from contracts.problems import ContractProblem

LARGEST_FILE: Final = 512 * 1024
"""Bytes. The shipped contract, prose included, is a tenth of it."""
DEEPEST_NESTING: Final = 12
_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_PLAIN_TAGS: Final = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:str"})

Path = tuple[str | int, ...]


@dataclass(slots=True)
class LocatedDocument:
    """The data of a file, the line of every part of it, and what was wrong with its form."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[ContractProblem] = field(default_factory=list)

    def line_of(self, path: Path) -> int:
        """The line of the value at the path or, where it is absent, of the nearest part that encloses it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def report(self, path: Path, code: str, sentence: str) -> None:
        """Adds a problem at the line of the path."""
        self.problems.append(ContractProblem(self.line_of(path), code, sentence))


def read_located(data: bytes) -> LocatedDocument:
    """Parses the bytes; a file that cannot be read has problems and no data."""
    document = LocatedDocument()
    if len(data) > LARGEST_FILE:
        document.report((), "too-large", f"The file is larger than {LARGEST_FILE // 1024} KiB.")
        return document
    try:
        events = _refuse_references(data.decode("utf-8"), document)
        root = None if document.problems else _Nodes(events).get_single_node()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        document.problems.append(ContractProblem(line, "not-utf-8", "The file is not UTF-8 text."))
        return document
    except yaml.YAMLError as error:
        document.problems.append(_syntax_problem(error))
        return document
    if isinstance(root, yaml.MappingNode):
        document.data = _value(root, (), document)
    elif not document.problems:
        document.report((), "not-a-contract", "The file is not a list of keys with values.")
    return document


def _line(part: yaml.Node | yaml.Event) -> int:
    return part.start_mark.line + 1 if part.start_mark is not None else 1


def _syntax_problem(error: yaml.YAMLError) -> ContractProblem:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark is not None else 1
    return ContractProblem(
        line, "not-yaml", f"The file is not readable YAML: {getattr(error, 'problem', 'bad character')}."
    )


class _Nodes(Composer, BaseResolver):
    """Builds nodes from events that were looked at already: scanning the text is what takes the time."""

    def __init__(self, events: Iterable[yaml.Event]) -> None:
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._events = deque(events)

    def check_event(self, *kinds: type[yaml.Event]) -> bool:
        return isinstance(self._events[0], kinds)

    def peek_event(self) -> yaml.Event:
        return self._events[0]

    def get_event(self) -> yaml.Event:
        return self._events.popleft()


def _refuse_references(text: str, document: LocatedDocument) -> list[yaml.Event]:
    """Looks at the event stream, before any node is built, so that a file of references cannot grow in memory."""
    events = []
    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        events.append(event)
        line = _line(event)
        if isinstance(event, AliasEvent) or (
            isinstance(event, ScalarEvent | CollectionStartEvent) and event.anchor is not None
        ):
            sentence = "Anchors and aliases (`&`, `*`) are not used in a contract; write the list out."
            document.problems.append(ContractProblem(line, "reference", sentence))
        elif isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag not in {None, *_PLAIN_TAGS}:
            document.problems.append(ContractProblem(line, "tag", "Tags (`!`) are not used in a contract."))
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            depth -= 1
        if depth > DEEPEST_NESTING:
            document.problems.append(ContractProblem(line, "too-deep", "Lists and keys are nested too deeply."))
            break
    return events


def _value(node: yaml.Node, path: Path, document: LocatedDocument) -> Any:
    document.lines[path] = _line(node)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document)
    if isinstance(node, yaml.SequenceNode):
        return _sequence(node, path, document)
    text = str(node.value)
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return int(text) if is_plain and _WHOLE.fullmatch(text) else text


def _mapping(node: yaml.MappingNode, path: Path, document: LocatedDocument) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = _line(key_node)
        if not isinstance(key_node, yaml.ScalarNode):
            document.problems.append(ContractProblem(line, "bad-key", "A key is one plain word."))
            continue
        key = str(key_node.value)
        if key in result:
            sentence = f"`{key[:60]}` is written twice; a contract says everything once."
            document.problems.append(ContractProblem(line, "duplicate-key", sentence))
            continue
        result[key] = _value(value_node, (*path, key), document)
        # A key's own line is what a reader looks for, also where its value starts on the next one.
        document.lines[(*path, key)] = line
    return result


def _sequence(node: yaml.SequenceNode, path: Path, document: LocatedDocument) -> list[Any]:
    result: list[Any] = []
    seen: set[Any] = set()
    for index, child in enumerate(node.value):
        value = _value(child, (*path, index), document)
        result.append(value)
        if isinstance(child, yaml.ScalarNode):
            if value in seen:
                document.report((*path, index), "duplicate-term", f"`{str(value)[:60]}` is listed twice.")
            seen.add(value)
    return result

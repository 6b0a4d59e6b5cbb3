"""What may stand in a span, a metric or a log line: an allow-list of names, and for each the shape of its value.

Rules:

* A name that is not listed here is dropped, and so is a value that does not have its name's shape.
* A shape is an id this project made, a code, a number, a route template or an agency's id. Nothing that a person typed
  has one: no free text, no address of a request, no query, no message of an exception.
* Codes cannot be told from names by looking. So nobody passes anything on as a code but a constant of the source.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Shape = Callable[[Any], bool]

_ID = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONG_HEX = re.compile(r"[0-9a-f]{16,}")
_CODE = re.compile(r"[a-z][a-z0-9-]{0,47}")
_AGENCY = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
_ROUTE = re.compile(r"(/(\{[a-z_]{1,32}\}|\.?[a-z][a-z0-9.-]{0,39}))+|/|unmatched")
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}")
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(\.[A-Za-z_][A-Za-z0-9_]{0,63}){0,7}|[0-9]{3}")
_PLACE = re.compile(r"([a-z_][a-z0-9_]{0,63}/){0,8}[a-z_][a-z0-9_]{0,63}\.py:[0-9]{1,6}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "_OTHER"})
_LARGEST_NUMBER: Final = 2**53


def _matches(pattern: re.Pattern[str]) -> Shape:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _one_of(words: frozenset[str]) -> Shape:
    return lambda value: isinstance(value, str) and value in words


def _is_code(value: Any) -> bool:
    """A short word of the source; never something that could be an id or a key in disguise."""
    return isinstance(value, str) and bool(_CODE.fullmatch(value)) and not _LONG_HEX.search(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST_NUMBER


def _is_status(value: Any) -> bool:
    return type(value) is int and 100 <= value <= 599  # noqa: PLR2004 - the range of HTTP


CODE: Final = _is_code
ROUTE: Final = _matches(_ROUTE)
CLASS_NAME: Final = _matches(_CLASS)

#: Attributes of spans and of metrics.
ATTRIBUTES: Final[Mapping[str, Shape]] = {
    "http.request.method": _one_of(_METHODS),
    "http.response.status_code": _is_status,
    "http.route": ROUTE,
    "url.scheme": _one_of(frozenset({"http", "https"})),
    "network.protocol.version": _matches(_VERSION),
    "error.type": CLASS_NAME,
    "exchange.code": CODE,
    "exchange.engine": CODE,
    "exchange.kind": CODE,
    "exchange.outcome": CODE,
    "exchange.place": CODE,
    "exchange.sector": CODE,
    "exchange.state": CODE,
    "exchange.step": _is_number,
    "exchange.count": _is_number,
    "peer.agency": _matches(_AGENCY),
}

#: Keys of log lines.
LOG_KEYS: Final[Mapping[str, Shape]] = {
    **{f"{name}_id": _matches(_ID) for name in ("item", "referral", "envelope", "consent", "key", "lease", "trace")},
    **{f"{name}_digest": _matches(_DIGEST) for name in ("contract", "envelope", "roster")},
    **dict.fromkeys(("code", "kind", "state", "outcome", "reason", "sector", "environment", "command"), CODE),
    **{name: _matches(_AGENCY) for name in ("agency", "peer")},
    **dict.fromkeys(("count", "ms", "attempts", "step", "port", "workers", "depth", "bytes", "retry_s"), _is_number),
    "route": ROUTE,
    "method": ATTRIBUTES["http.request.method"],
    "status": _is_status,
    "version": _matches(_VERSION),
    "error_type": CLASS_NAME,
    "error_at": _matches(_PLACE),
    "library": CLASS_NAME,
}


def allowed(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The attributes of a span or a metric that may leave."""
    given = attributes or {}
    return {name: value for name, value in given.items() if (shape := ATTRIBUTES.get(name)) and shape(value)}

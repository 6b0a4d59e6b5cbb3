"""Log lines: one JSON object each, of allowed keys only.

Rules:

* An event is named `room.what-happened` or `what-happened` by a constant of the source, in lower case and without a
  space; whatever else comes in becomes `log.unnamed`.
* A key that is not on the list, or whose value does not have its shape, is dropped and counted; the line still says
  how many were dropped.
* Of an exception the class and the place in the source are written, never its message or its arguments.
* What a library logs is written as the name of the library and the place in it; its text may hold anything.
* uvicorn's own access log is off (`UVICORN_OPTIONS`): it writes addresses with their queries. What takes its place is
  `exchange.telemetry.access`.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final, TextIO

import structlog

from exchange.telemetry.allowed import LOG_KEYS

KEEP_ALIVE_S: Final = 75
"""A connection may rest for longer than a peer keeps it, so that on a slow line no request meets a closed one."""
#: What `uvicorn.run` is given beside address and application.
UVICORN_OPTIONS: Final[Mapping[str, Any]] = {
    "access_log": False,
    "log_config": None,
    "server_header": False,
    "timeout_keep_alive": KEEP_ALIVE_S,
}

_EVENT: Final = re.compile(r"[a-z]{2,16}[.-][a-z][a-z0-9-]{1,47}")
_UNNAMED: Final = "log.unnamed"
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_PACKAGES: Final = ("exchange", "consent", "contracts")

EventDict = MutableMapping[str, Any]


class LogSink:
    """Where lines go and from which level on. One for the process: `SINK`."""

    def __init__(self) -> None:
        """Start with warnings to the standard error, which is safe for a process that configures nothing."""
        self._stream: TextIO | None = None
        self._level = _LEVELS["warning"]
        self._count_dropped: Callable[[int], None] | None = None
        self._lock = threading.Lock()

    def configure(
        self, *, level: str, stream: TextIO | None = None, count_dropped: Callable[[int], None] | None = None
    ) -> None:
        """Set the level, the stream (the standard error unless given), and who counts dropped keys."""
        self._level, self._stream, self._count_dropped = _LEVELS[level], stream, count_dropped

    def hears(self, level: str) -> bool:
        """Whether a line of this level is written."""
        return _LEVELS.get(level, 0) >= self._level

    def dropped(self, count: int) -> None:
        """Count keys that were dropped."""
        if count and self._count_dropped is not None:
            self._count_dropped(count)

    def msg(self, line: str) -> None:
        """Write one line."""
        stream = self._stream or sys.stderr
        with self._lock:
            stream.write(line + "\n")
            stream.flush()

    debug = info = warning = error = critical = msg


SINK: Final = LogSink()


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """The logger of this project. It has its own processors, so no configuration can bypass them."""
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        SINK,
        processors=[_heard, _safe, _line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return logger


def configure_logging(
    *, level: str, stream: TextIO | None = None, count_dropped: Callable[[int], None] | None = None
) -> None:
    """Configure this project's lines, and take over what libraries log, at the level of warnings."""
    SINK.configure(level=level, stream=stream, count_dropped=count_dropped)
    root = logging.getLogger()
    root.handlers = [_LibraryHandler()]
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "fastapi", "authlib", "sqlalchemy"):
        library = logging.getLogger(name)
        library.handlers, library.propagate = [], True
        library.setLevel(logging.WARNING)  # below that authlib writes tokens, SQLAlchemy rows and uvicorn addresses
    logging.captureWarnings(capture=True)


def _heard(_logger: object, level: str, event: EventDict) -> EventDict:
    if not SINK.hears(level):
        raise structlog.DropEvent
    return event


def _safe(_logger: object, level: str, event: EventDict) -> EventDict:
    """The line as it may be written."""
    name = event.pop("event", None)
    error = _exception_of(event.pop("exc_info", None))
    for ignored in ("stack_info", "stack"):
        event.pop(ignored, None)
    kept = {key: value for key, value in event.items() if (shape := LOG_KEYS.get(key)) and shape(value)}
    dropped = len(event) - len(kept)
    named = isinstance(name, str) and _EVENT.fullmatch(name) is not None
    SINK.dropped(dropped + (not named))
    safe: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level}
    safe |= {"event": name if named else _UNNAMED, **kept}
    if error is not None:
        safe |= {"error_type": class_name(error), **_place_of(error.__traceback__)}
    if dropped:
        safe["dropped_keys"] = dropped
    return safe


def _line(_logger: object, _level: str, event: EventDict) -> str:
    return json.dumps(event, ensure_ascii=True, separators=(",", ":"))


def _exception_of(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if isinstance(exc_info[1], BaseException) else None
    return sys.exc_info()[1] if exc_info else None


def class_name(error: BaseException) -> str:
    """The class of an exception, with its module."""
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return name if LOG_KEYS["error_type"](name) else "Exception"


def _place_of(trace: TracebackType | None) -> dict[str, str]:
    """The innermost line of this project's source on the way to the exception."""
    place = None
    while trace is not None:
        place = source_place(trace.tb_frame.f_code.co_filename, trace.tb_lineno) or place
        trace = trace.tb_next
    return {"error_at": place} if place else {}


def source_place(filename: str, line: int) -> str | None:
    """`exchange/api/app.py:12` for a file of this project, `None` for any other."""
    parts = PurePath(filename).parts
    for start in range(len(parts) - 1, -1, -1):
        if parts[start] in _PACKAGES:
            place = f"{'/'.join(parts[start:])}:{line}"
            return place if LOG_KEYS["error_at"](place) else None
    return None


class _LibraryHandler(logging.Handler):
    """Writes that a library said something, and where in its source; not what."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        level = next((name for name, number in _LEVELS.items() if number >= record.levelno), "critical")
        place = f"{record.module}.py:{record.lineno}"
        logger = get_logger().bind(library=record.name, error_at=place if LOG_KEYS["error_at"](place) else None)
        getattr(logger, level)("library.message", exc_info=error)

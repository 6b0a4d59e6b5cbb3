"""Canaries in every argument of every log call; the lines hold none of them."""

import io
import json
import logging
import sys
import warnings
from typing import Any

import pytest

from exchange.telemetry import UVICORN_OPTIONS, configure_logging, get_logger
from exchange.telemetry.access import AccessLog, route_template
from exchange.telemetry.allowed import LOG_KEYS
from exchange.telemetry.logs import class_name, source_place
from exchange.telemetry.measurements import Measurements

CANARY = "Siti-Canary-0812"
ID = "0a1b2c3d" * 4


def last(lines: io.StringIO) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(lines.getvalue().splitlines()[-1])
    return line


def test_a_line_holds_ids_codes_and_numbers(lines: io.StringIO) -> None:
    get_logger().info("courier.delivered", envelope_id=ID, peer="shelter-one", kind="offer", attempts=2, ms=14.5)
    line = last(lines)
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "info",
        "event": "courier.delivered",
        "envelope_id": ID,
        "peer": "shelter-one",
        "kind": "offer",
        "attempts": 2,
        "ms": 14.5,
    }


def test_an_unknown_key_is_dropped_counted_and_admitted(lines: io.StringIO) -> None:
    counted: list[int] = []
    configure_logging(level="info", stream=lines, count_dropped=counted.append)
    get_logger().info("api.refused", name=CANARY, phone=CANARY, code="never")
    assert last(lines)["dropped_keys"] == 2
    assert last(lines)["code"] == "never"
    assert counted == [2]
    assert CANARY not in lines.getvalue()


@pytest.mark.parametrize("key", sorted(LOG_KEYS))
@pytest.mark.parametrize("value", [CANARY, "Ana Silva", "+62 812", {"a": CANARY}, [CANARY], None, b"x", object()])
def test_no_key_takes_free_text_or_a_structure(lines: io.StringIO, key: str, value: object) -> None:
    get_logger().info("api.request", **{key: value})
    assert key not in last(lines)
    assert CANARY not in lines.getvalue()


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(f"sent to {CANARY}", id="sentence"),
        pytest.param(CANARY, id="name"),
        pytest.param(f"api.{CANARY}", id="name-after-a-room"),
        pytest.param("ana silva", id="two-words"),
        pytest.param("request", id="no-room"),
        pytest.param("", id="empty"),
    ],
)
def test_an_event_is_named_by_a_constant(lines: io.StringIO, event: str) -> None:
    get_logger().info(event)
    assert last(lines)["event"] == "log.unnamed"
    assert CANARY not in lines.getvalue()


def test_bound_values_pass_the_same_gate(lines: io.StringIO) -> None:
    get_logger().bind(name=CANARY, agency="helpline-one").new(phone=CANARY, item_id=ID).warning("api.refused")
    assert last(lines)["item_id"] == ID
    assert CANARY not in lines.getvalue()


def test_of_an_exception_only_its_class_and_place_are_written(lines: io.StringIO) -> None:
    class CanaryError(Exception):
        pass

    def fail() -> None:
        raise CanaryError(CANARY) from ValueError(CANARY)

    try:
        fail()
    except CanaryError as error:
        get_logger().exception("node.failed")
        get_logger().error("node.failed", exc_info=error, stack_info=True)
        get_logger().error("node.failed", exc_info=sys.exc_info(), exception=CANARY)
    assert CANARY not in lines.getvalue()
    assert "error_type" in last(lines)


def test_the_place_of_an_exception_is_in_our_own_source(lines: io.StringIO) -> None:
    from exchange.oauth.scopes import parse_scopes

    try:
        parse_scopes(CANARY)
    except ValueError:
        get_logger().exception("oauth.refused")
    assert last(lines)["error_at"].startswith("exchange/oauth/scopes.py:")
    assert last(lines)["error_type"] == "exchange.oauth.scopes.UnknownScopeError"


@pytest.mark.parametrize("name", ["uvicorn.error", "uvicorn.access", "fastapi", "asyncio", "sqlalchemy.engine", "x"])
def test_what_a_library_says_is_not_repeated(lines: io.StringIO, name: str) -> None:
    error = RuntimeError(CANARY)
    logging.getLogger(name).error("%s", CANARY, exc_info=error, extra={"name_of_her": CANARY})
    logging.getLogger(name).warning(f"GET /v1/inbox?name={CANARY}")  # noqa: G004 - what libraries do
    assert CANARY not in lines.getvalue()
    assert (last(lines)["event"], last(lines)["library"]) == ("library.message", name)


@pytest.mark.parametrize("name", ["authlib.oauth2", "uvicorn.access", "sqlalchemy.engine.Engine", "httpx2", "x"])
def test_below_a_warning_libraries_are_not_heard(lines: io.StringIO, name: str) -> None:
    logging.getLogger(name).info(CANARY)
    logging.getLogger(name).debug(CANARY)
    assert lines.getvalue() == ""


def test_a_warning_of_python_is_not_repeated(lines: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn(CANARY, stacklevel=1)
    assert CANARY not in lines.getvalue()


def test_levels_below_the_configured_one_are_silent(lines: io.StringIO) -> None:
    get_logger().debug("node.detail")
    assert lines.getvalue() == ""
    configure_logging(level="debug", stream=lines)
    get_logger().debug("node.detail")
    assert last(lines)["event"] == "node.detail"


def test_a_process_that_configures_nothing_is_as_careful(capsys: pytest.CaptureFixture[str]) -> None:
    get_logger().warning("node.started", name=CANARY)
    get_logger().info("node.started")
    written = capsys.readouterr()
    assert written.out == ""
    assert CANARY not in written.err
    assert len(written.err.splitlines()) == 1


def test_uvicorn_writes_no_addresses() -> None:
    assert UVICORN_OPTIONS["access_log"] is False
    assert UVICORN_OPTIONS["log_config"] is None


@pytest.mark.parametrize(
    ("scope", "template"),
    [
        pytest.param({"exchange.route": "/federation/v1/envelopes"}, "/federation/v1/envelopes", id="plain-route"),
        pytest.param({}, "unmatched", id="none"),
        pytest.param({"path": f"/{CANARY}"}, "unmatched", id="path-only"),
        pytest.param({"exchange.route": f"/v1/inbox/{ID}"}, "unmatched", id="an-id-in-it"),
        pytest.param({"exchange.route": 7}, "unmatched", id="not-text"),
    ],
)
def test_the_template_of_a_route(scope: dict[str, Any], template: str) -> None:
    assert route_template(scope) == template


async def test_a_client_that_goes_away_is_499(lines: io.StringIO) -> None:
    from opentelemetry.metrics import NoOpMeterProvider

    async def silent(_scope: Any, _receive: Any, _send: Any) -> None:
        return

    async def nothing(*_: Any) -> Any:
        return None

    access = AccessLog(silent, measurements=Measurements(NoOpMeterProvider().get_meter("x")))
    await access({"type": "http", "method": "GET", "path": "/x"}, nothing, nothing)
    assert (last(lines)["status"], last(lines)["route"]) == (499, "unmatched")
    await access({"type": "lifespan"}, nothing, nothing)
    assert len(lines.getvalue().splitlines()) == 1


@pytest.mark.parametrize(
    ("filename", "place"),
    [
        ("/srv/app/exchange/api/app.py", "exchange/api/app.py:3"),
        ("/home/exchange/lib/consent/decision.py", "consent/decision.py:3"),
        ("/usr/lib/python3.11/json/decoder.py", None),
        (f"/srv/exchange/{CANARY}.py", None),
    ],
)
def test_places_are_of_this_project_only(filename: str, place: str | None) -> None:
    assert source_place(filename, 3) == place


def test_class_names_are_classes() -> None:
    assert class_name(ValueError(CANARY)) == "ValueError"
    strange = type(CANARY, (Exception,), {})
    assert class_name(strange()) == "Exception"

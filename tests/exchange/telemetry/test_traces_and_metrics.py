"""Canaries are planted wherever a span, a metric or FastAPI could pick them up; none leaves."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry import propagate
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import Link, NoOpTracerProvider, SpanContext, Status, StatusCode, TraceFlags, TraceState
from pydantic import BaseModel
from starlette.testclient import TestClient
from support.collector import Collector

from exchange.telemetry import AccessLog, Telemetry, start_telemetry
from exchange.telemetry.allowed import ATTRIBUTES, allowed
from exchange.telemetry.recording import describe

CANARY = "Siti-Canary-0812"
TRACE = 0x0AF7651916CD43DD8448EB211C80319C


class Body(BaseModel):
    age: int


def application(telemetry: Telemetry) -> FastAPI:
    app = FastAPI(telemetry=telemetry.fastapi())

    @app.get("/v1/inbox/{id}")
    def inbox(id: str) -> dict[str, str]:  # noqa: A002 - the name in the template
        if id.startswith("fail"):
            raise RuntimeError(f"no place for {id}")
        return {}

    @app.post("/v1/referrals")
    def referrals(body: Body) -> dict[str, str]:
        del body
        return {}

    @app.get("/health/live")
    def live() -> dict[str, str]:
        return {}

    app.add_middleware(AccessLog, measurements=telemetry.measurements)
    return app


def test_nothing_of_a_request_leaves_but_its_template(collector: Collector, lines: io.StringIO) -> None:
    with TestClient(application(collector.telemetry), raise_server_exceptions=False) as client:
        client.get(f"/v1/inbox/{CANARY}?name={CANARY}", headers={"X-Name": CANARY, "Host": f"{CANARY}.example"})
        client.get(f"/v1/inbox/fail-{CANARY}")
        client.get(f"/{CANARY}/{CANARY}")
        client.post("/v1/referrals", json={"age": CANARY})
        client.post("/v1/referrals", content=f"{{{CANARY}", headers={"Content-Type": "application/json"})
        client.request(CANARY, "/v1/referrals")
    left = collector.everything() + lines.getvalue()
    assert CANARY.lower() not in left.lower()
    assert {span.name for span in collector.spans.get_finished_spans()} >= {"GET /v1/inbox/{id}", "POST /v1/referrals"}
    routes = {point.attributes["http.route"] for point in collector.points("http.server.request.duration")}
    assert routes == {"/v1/inbox/{id}", "/v1/referrals", "unmatched"}
    statuses = [json.loads(line)["status"] for line in lines.getvalue().splitlines() if "api.request" in line]
    assert statuses == [200, 500, 404, 422, 422, 405]


def test_health_checks_are_neither_traced_nor_written(collector: Collector, lines: io.StringIO) -> None:
    with TestClient(application(collector.telemetry)) as client:
        client.get("/health/live")
    assert collector.spans.get_finished_spans() == ()
    assert lines.getvalue() == ""


def test_fastapi_is_told_everything_it_may_do(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later FastAPI may know more switches; until somebody has looked at them, this fails."""
    from fastapi.telemetry import TelemetryConfig

    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    told = collector.telemetry.fastapi()
    assert set(told) | {"logger_provider"} == set(TelemetryConfig.__annotations__)
    off = {"metrics", "logs", "operation_spans", "auto_configure"}
    assert not any(told[name] for name in off)  # type: ignore[literal-required]


def test_a_span_is_rebuilt_from_allowed_parts(collector: Collector) -> None:
    parent = SpanContext(TRACE, 7, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("v", CANARY)]))
    from opentelemetry import trace

    context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
    links = [Link(parent, {"name": CANARY})]
    with collector.telemetry.tracer.start_as_current_span(
        f"open {CANARY}", context=context, attributes={"name": CANARY, "exchange.code": CANARY}, links=links
    ) as span:
        span.set_attribute("url.path", f"/v1/inbox/{CANARY}")
        span.set_attribute("http.route", f"/v1/inbox/{CANARY}")
        span.set_attribute("exchange.state", "accepted")
        span.add_event(CANARY, {"detail": CANARY})
        span.record_exception(RuntimeError(CANARY))
        span.set_status(Status(StatusCode.ERROR, CANARY))
    left = collector.everything()
    assert CANARY not in left
    [kept] = collector.spans.get_finished_spans()
    assert kept.name == "other"
    assert dict(kept.attributes or {}) == {"exchange.state": "accepted"}
    assert (kept.events, kept.links, kept.status.description) == ((), (), None)
    assert kept.status.status_code is StatusCode.ERROR
    assert dict(kept.resource.attributes) == {"service.name": "referral-exchange", "service.version": "0.1.0"}


def test_an_exception_that_ends_a_span_takes_no_message_along(collector: Collector) -> None:
    with (
        pytest.raises(RuntimeError),
        collector.telemetry.tracer.start_as_current_span("exchange.envelope.open"),
    ):
        raise RuntimeError(CANARY)
    assert CANARY not in collector.everything()
    assert collector.spans.get_finished_spans()[0].name == "exchange.envelope.open"


def test_a_metric_is_rebuilt_from_allowed_parts(collector: Collector) -> None:
    meter = collector.telemetry.meters.get_meter(CANARY, attributes={"name": CANARY})
    meter.create_counter(f"exchange.{CANARY}", unit=CANARY, description=CANARY).add(1)
    counter = meter.create_counter("exchange.decisions", unit=CANARY, description=CANARY)
    with collector.telemetry.tracer.start_as_current_span("exchange.x"):
        counter.add(1, {"name": CANARY, "exchange.code": CANARY, "exchange.outcome": "allowed"})
    assert CANARY not in collector.everything()
    assert dict(collector.points("exchange.decisions")[0].attributes) == {"exchange.outcome": "allowed"}
    assert collector.points("exchange.decisions")[0].exemplars == ()


def test_what_the_node_counts(collector: Collector) -> None:
    measured = collector.telemetry.measurements
    measured.delivered(kind="offer", latency_ms=1500)
    measured.decided(engine="contract", outcome="denied", code="never")
    measured.decided(engine="contract", outcome="denied", code="never")
    measured.refused(place="envelope", code="signature")
    measured.log_keys_dropped(3)
    measured.watch_queue(lambda: {"queued": 4, "held": 2, CANARY: 1})
    assert collector.points("exchange.delivery.latency")[0].sum == 1.5
    assert [(dict(p.attributes), p.value) for p in collector.points("exchange.decisions")] == [
        ({"exchange.engine": "contract", "exchange.outcome": "denied", "exchange.code": "never"}, 2)
    ]
    assert collector.points("exchange.refusals")[0].value == 1
    assert collector.points("exchange.log.dropped")[0].value == 3
    depths = {point.attributes["exchange.state"]: point.value for point in collector.points("exchange.queue.depth")}
    assert depths == {"queued": 4, "held": 2}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("url.path", "/v1/inbox", id="path"),
        pytest.param("url.query", "x=1", id="query"),
        pytest.param("url.full", "https://x", id="full-address"),
        pytest.param("server.address", "node.example", id="host-header"),
        pytest.param("client.address", "10.0.0.1", id="client-address"),
        pytest.param("user_agent.original", "x", id="user-agent"),
        pytest.param("exception.message", "x", id="exception"),
        pytest.param("db.statement", "select", id="statement"),
        pytest.param("http.route", "/v1/inbox/0a1b2c3d0a1b2c3d0a1b2c3d0a1b2c3d", id="route-with-an-id"),
        pytest.param("http.route", "/v1/inbox/Ana", id="route-with-a-name"),
        pytest.param("http.route", "/v1/inbox?x", id="route-with-a-query"),
        pytest.param("http.request.method", "ANA", id="method"),
        pytest.param("http.response.status_code", "Ana", id="status"),
        pytest.param("http.response.status_code", True, id="status-is-true"),
        pytest.param("error.type", "Ana Silva", id="class-with-a-space"),
        pytest.param("exchange.code", "Ana", id="code-with-a-capital"),
        pytest.param("exchange.code", "ana silva", id="code-with-a-space"),
        pytest.param("exchange.code", "k-0a1b2c3d0a1b2c3d", id="code-with-an-id"),
        pytest.param("exchange.code", "+62812", id="code-is-a-telephone-number"),
        pytest.param("exchange.count", "62812", id="number-is-text"),
        pytest.param("exchange.count", 10**20, id="number-too-large"),
        pytest.param("peer.agency", "Rumah Aman", id="agency-is-a-name"),
    ],
)
def test_names_and_values_that_are_dropped(name: str, value: Any) -> None:
    assert allowed({name: value, "exchange.kind": "offer"}) == {"exchange.kind": "offer"}


def test_no_allowed_name_has_room_for_free_text() -> None:
    for text in (CANARY, "Ana Silva", "+62 812 555", "born 1988-02-29", "ana@example.org", "Jl. Melati 4"):
        assert not [name for name, shape in ATTRIBUTES.items() if shape(text)], text


def test_the_environment_of_the_process_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"host.name={CANARY}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", CANARY)
    assert CANARY not in str(describe("0.1.0").attributes)


def test_off_by_default_records_nothing_and_tells_fastapi_so() -> None:
    telemetry = start_telemetry(endpoint=None, trace_ratio=1.0, version="0.1.0")
    assert isinstance(telemetry.tracers, NoOpTracerProvider)
    assert isinstance(telemetry.meters, NoOpMeterProvider)
    assert not telemetry.on
    app = application(telemetry)
    assert not app._native_telemetry.enabled()
    with telemetry.tracer.start_as_current_span("exchange.x") as span:
        assert not span.is_recording()
    telemetry.shut_down()


def test_off_by_default_loads_no_exporter() -> None:
    code = (
        "import sys; from exchange.telemetry import start_telemetry;"
        "start_telemetry(endpoint=None, trace_ratio=1.0, version='0.1.0');"
        "sys.exit(any(name.startswith(('opentelemetry.exporter', 'opentelemetry.sdk')) for name in sys.modules))"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment, cwd=root).returncode == 0


def test_no_trace_crosses_to_another_agency(collector: Collector) -> None:
    start_telemetry(endpoint=None, trace_ratio=1.0, version="0.1.0")
    carrier: dict[str, str] = {}
    with collector.telemetry.tracer.start_as_current_span("exchange.courier.deliver"):
        propagate.inject(carrier)
    assert carrier == {}


def test_no_trace_is_taken_over_from_outside(collector: Collector) -> None:
    start_telemetry(endpoint=None, trace_ratio=1.0, version="0.1.0")
    with TestClient(application(collector.telemetry)) as client:
        client.get("/v1/inbox/x", headers={"traceparent": f"00-{TRACE:032x}-00f067aa0ba902b7-01", "baggage": "a=b"})
    [span] = collector.spans.get_finished_spans()
    assert span.context is not None
    assert span.context.trace_id != TRACE
    assert span.parent is None

"""Telemetry that is kept in memory."""

import io
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.collector import Collector, KeptMetrics

from exchange.telemetry.exporters import AllowListMetricExporter, AllowListSpanExporter
from exchange.telemetry.logs import SINK, configure_logging
from exchange.telemetry.recording import describe, record_metrics, record_spans
from exchange.telemetry.setup import telemetry_with


@pytest.fixture
def collector() -> Iterator[Collector]:
    resource, kept_spans, kept_metrics = describe("0.1.0"), InMemorySpanExporter(), KeptMetrics()
    spans = SimpleSpanProcessor(AllowListSpanExporter(kept_spans, resource))
    reader = PeriodicExportingMetricReader(
        AllowListMetricExporter(kept_metrics, resource), export_interval_millis=float("inf")
    )
    telemetry = telemetry_with(record_spans(spans, resource, trace_ratio=1.0), record_metrics(reader, resource))
    yield Collector(telemetry, kept_spans, kept_metrics, reader)
    telemetry.shut_down()


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What this project's logger and the libraries write, while a test runs."""
    before = (logging.getLogger().handlers[:], logging.getLogger().level)
    stream = io.StringIO()
    configure_logging(level="info", stream=stream)
    yield stream
    logging.getLogger().handlers, _ = before
    logging.getLogger().setLevel(before[1])
    logging.captureWarnings(capture=False)
    SINK.configure(level="warning")

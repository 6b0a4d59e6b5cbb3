"""Recording traces and metrics for a collector. Loaded only where the settings name one."""

from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from exchange.telemetry.allowed import ATTRIBUTES
from exchange.telemetry.exporters import AllowListMetricExporter, AllowListSpanExporter

SERVICE: Final = "referral-exchange"


def record_to(endpoint: str, *, trace_ratio: float, version: str) -> tuple[SdkTracerProvider, SdkMeterProvider]:
    """Providers that send what is allowed to the collector at `endpoint`."""
    resource = describe(version)
    spans = AllowListSpanExporter(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"), resource)
    metrics = AllowListMetricExporter(OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics"), resource)
    return (
        record_spans(BatchSpanProcessor(spans), resource, trace_ratio=trace_ratio),
        record_metrics(PeriodicExportingMetricReader(metrics), resource),
    )


def describe(version: str) -> Resource:
    """All that is said about this process. `Resource.create` would add what the environment of the process says."""
    return Resource({"service.name": SERVICE, "service.version": version})


def record_spans(processor: SpanProcessor, resource: Resource, *, trace_ratio: float) -> SdkTracerProvider:
    """A tracer provider that hands finished spans to `processor`."""
    sampler = ParentBased(TraceIdRatioBased(trace_ratio))
    tracers = SdkTracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(processor)
    return tracers


def record_metrics(reader: MetricReader, resource: Resource) -> SdkMeterProvider:
    """A meter provider whose streams hold allowed attributes only, so that a wrong one never becomes a series."""
    return SdkMeterProvider(
        metric_readers=[reader],
        resource=resource,
        exemplar_filter=AlwaysOffExemplarFilter(),  # an exemplar keeps the attributes that a view removed
        views=[View(instrument_name="*", attribute_keys=set(ATTRIBUTES))],
        shutdown_on_exit=False,
    )

"""Starting and stopping traces and metrics.

Rules:

* Without a collector in the settings nothing is recorded and nothing is sent: meters and tracers that do nothing.
* With one, traces and metrics leave by OTLP over HTTP to it alone, through the exporters of the allow-list.
* No trace crosses to another agency and none is taken over from outside: a shared trace id would link what one woman
  needs at two agencies. The propagator of the process carries nothing.
* FastAPI's own telemetry is told everything it may do, so that neither a global provider nor a variable of the
  environment switches addresses, queries or exceptions on.
* Global providers stay as they are, so that no library records through this node by itself.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi.telemetry import TelemetryConfig
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.propagate import set_global_textmap
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NoOpTracerProvider, Tracer, TracerProvider

from exchange.telemetry.allowed import ATTRIBUTES
from exchange.telemetry.exporters import AllowListMetricExporter, AllowListSpanExporter
from exchange.telemetry.measurements import Measurements

NAME: Final = "exchange"
SERVICE: Final = "referral-exchange"


class NoPropagation(TextMapPropagator):
    """Writes nothing to a request that goes out and takes nothing from one that comes in."""

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """A fresh context, whatever came."""
        del carrier, getter
        return Context() if context is None else context

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Leaves the carrier as it is."""

    @property
    def fields(self) -> set[str]:
        """No header."""
        return set()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The traces and metrics of one process."""

    tracers: TracerProvider
    meters: MeterProvider
    tracer: Tracer
    measurements: Measurements

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""
        return isinstance(self.tracers, SdkTracerProvider)

    def fastapi(self) -> TelemetryConfig:
        """What `FastAPI(telemetry=…)` is told. One span a request; everything else is measured here or not at all."""
        return TelemetryConfig(
            tracing=self.on,
            tracer_provider=self.tracers,
            metrics=False,
            meter_provider=NoOpMeterProvider(),
            logs=False,
            operation_spans=False,
            auto_configure=False,
            exclude=_is_health_check,
        )

    def shut_down(self) -> None:
        """Send what is waiting and stop."""
        if isinstance(self.tracers, SdkTracerProvider):
            self.tracers.shutdown()
        if isinstance(self.meters, SdkMeterProvider):
            self.meters.shutdown()


def start_telemetry(*, endpoint: str | None, trace_ratio: float, version: str) -> Telemetry:
    """The telemetry of this process, sent to the collector at `endpoint`, or off.

    Args:
        endpoint: address of the collector without `/v1/…`.
        trace_ratio: the share of requests that are traced.
        version: the version of this program.
    """
    set_global_textmap(NoPropagation())
    if endpoint is None:
        return telemetry_with(NoOpTracerProvider(), NoOpMeterProvider())
    # Imported here: a node without a collector neither loads nor starts any of it.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    resource = describe(version)
    spans = AllowListSpanExporter(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"), resource)
    metrics = AllowListMetricExporter(OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics"), resource)
    return telemetry_with(
        record_spans(BatchSpanProcessor(spans), resource, trace_ratio=trace_ratio),
        record_metrics(PeriodicExportingMetricReader(metrics), resource),
    )


def telemetry_with(tracers: TracerProvider, meters: MeterProvider) -> Telemetry:
    """Telemetry on given providers."""
    return Telemetry(tracers, meters, tracers.get_tracer(NAME), Measurements(meters.get_meter(NAME)))


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


def _is_health_check(scope: MutableMapping[str, Any]) -> bool:
    return str(scope.get("path", "")).startswith("/health/")

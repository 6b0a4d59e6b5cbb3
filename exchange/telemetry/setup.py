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

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

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
from opentelemetry.trace import NoOpTracerProvider, Tracer, TracerProvider

from exchange.telemetry.measurements import Measurements

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

NAME: Final = "exchange"


@runtime_checkable
class Recorder(Protocol):
    """A provider that records, and not one that does nothing."""

    def shutdown(self) -> None:
        """Send what is waiting and stop."""


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
        return isinstance(self.tracers, Recorder)

    def fastapi(self) -> TelemetryConfig:
        """What `FastAPI(telemetry=…)` is told. One span a request; everything else is measured here or not at all."""
        # Imported here: the courier has telemetry too and never loads the web framework.
        from fastapi.telemetry import TelemetryConfig

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
        for provider in (self.tracers, self.meters):
            if isinstance(provider, Recorder):
                provider.shutdown()


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
    from exchange.telemetry.recording import record_to

    return telemetry_with(*record_to(endpoint, trace_ratio=trace_ratio, version=version))


def telemetry_with(tracers: TracerProvider, meters: MeterProvider) -> Telemetry:
    """Telemetry on given providers."""
    return Telemetry(tracers, meters, tracers.get_tracer(NAME), Measurements(meters.get_meter(NAME)))


def _is_health_check(scope: MutableMapping[str, Any]) -> bool:
    return str(scope.get("path", "")).startswith("/health/")

"""The last gate before telemetry leaves: exporters that rebuild what they pass on from allowed parts.

Rules:

* Nothing is passed through. Every span and every data point is made anew from allowed attributes, times and numbers.
* Events (exceptions with messages), links, status texts, trace state, exemplars and resource attributes other than the
  name and version of this program are not carried over.
* A name that is neither a route nor an operation of this project becomes `other`.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status

from exchange.telemetry.allowed import ROUTE, allowed

_OPERATION: Final = re.compile(r"exchange(\.[a-z][a-z_]{0,31}){1,3}")
_METHOD: Final = re.compile(r"[A-Z_]{3,8}")
_METRIC: Final = re.compile(r"(exchange|http\.server)(\.[a-z][a-z_]{0,31}){1,3}")
_UNIT: Final = re.compile(r"[a-z{}1]{0,16}")
_SCOPE: Final = InstrumentationScope("exchange")


def _span_name(name: str) -> str:
    method, _, route = name.partition(" ")
    if _OPERATION.fullmatch(name) or (_METHOD.fullmatch(method) and (not route or ROUTE(route))):
        return name
    return "other"


def _bare(context: SpanContext | None) -> SpanContext | None:
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


class AllowListSpanExporter(SpanExporter):
    """Passes rebuilt spans on to another exporter."""

    def __init__(self, onward: SpanExporter, resource: Resource) -> None:
        """Take the exporter that sends, and the only resource it is told."""
        self._onward = onward
        self._resource = resource

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send what is allowed of these spans."""
        return self._onward.export([self._rebuilt(span) for span in spans])

    def _rebuilt(self, span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            name=_span_name(span.name),
            context=_bare(span.context),
            parent=_bare(span.parent),
            resource=self._resource,
            attributes=allowed(span.attributes),
            kind=span.kind,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=_SCOPE,
        )

    def shutdown(self) -> None:
        """Stop sending."""
        self._onward.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is waiting."""
        return self._onward.force_flush(timeout_millis)


class AllowListMetricExporter(MetricExporter):
    """Passes rebuilt metrics on to another exporter."""

    def __init__(self, onward: MetricExporter, resource: Resource) -> None:
        """Take the exporter that sends, and the only resource it is told."""
        super().__init__(
            preferred_temporality=onward._preferred_temporality,  # noqa: SLF001 - the reader asks the wrapper for it
            preferred_aggregation=onward._preferred_aggregation,  # noqa: SLF001
        )
        self._onward = onward
        self._resource = resource

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_more: Any) -> MetricExportResult:
        """Send what is allowed of these metrics."""
        metrics = [
            _rebuilt_metric(metric)
            for of_resource in metrics_data.resource_metrics
            for of_scope in of_resource.scope_metrics
            for metric in of_scope.metrics
            if _METRIC.fullmatch(metric.name)
        ]
        scope_metrics = [ScopeMetrics(scope=_SCOPE, metrics=metrics, schema_url="")]
        rebuilt = ResourceMetrics(resource=self._resource, scope_metrics=scope_metrics, schema_url="")
        return self._onward.export(MetricsData(resource_metrics=[rebuilt]), timeout_millis=timeout_millis)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Send what is waiting."""
        return self._onward.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **_more: Any) -> None:
        """Stop sending."""
        self._onward.shutdown(timeout_millis)


def _rebuilt_metric(metric: Metric) -> Metric:
    data: Any = metric.data
    points = [replace(point, attributes=allowed(point.attributes), exemplars=()) for point in data.data_points]
    unit = metric.unit if _UNIT.fullmatch(metric.unit or "") else ""
    return Metric(name=metric.name, description="", unit=unit, data=replace(data, data_points=points))

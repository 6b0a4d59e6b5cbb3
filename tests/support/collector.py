"""A collector in memory, behind the same allow-list that guards a real one."""

from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from exchange.telemetry.setup import Telemetry


class KeptMetrics(MetricExporter):
    """The collector's end, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[MetricsData] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_more: Any) -> MetricExportResult:
        del timeout_millis
        self.sent.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_more: Any) -> None:
        pass


@dataclass
class Collector:
    """Everything that left."""

    telemetry: Telemetry
    spans: InMemorySpanExporter
    metrics: KeptMetrics
    reader: PeriodicExportingMetricReader

    def everything(self) -> str:
        """All that left, as one text to search."""
        self.reader.collect()
        spans = "\n".join(span.to_json() for span in self.spans.get_finished_spans())
        states = "\n".join(repr(span.context.trace_state) for span in self.spans.get_finished_spans() if span.context)
        metrics = "\n".join(data.to_json() + repr(data) for data in self.metrics.sent)
        return f"{spans}\n{states}\n{metrics}"

    def points(self, name: str) -> list[Any]:
        """The data points of one metric, as they were sent last."""
        self.reader.collect()
        return [
            point
            for of_resource in self.metrics.sent[-1].resource_metrics
            for of_scope in of_resource.scope_metrics
            for metric in of_scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

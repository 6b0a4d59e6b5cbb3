"""What this node counts and times. Every reason and code is a constant of the source, never something that came in."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from exchange.telemetry.allowed import CODE

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_DELIVERY_SECONDS: Final = (0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
MILLISECONDS: Final = 1000


class Measurements:
    """The node's instruments. Without a collector they belong to a meter that does nothing."""

    def __init__(self, meter: Meter) -> None:
        """Create every instrument once."""
        self._meter = meter
        self._requests = meter.create_histogram(
            "http.server.request.duration", unit="s", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._delivery = meter.create_histogram(
            "exchange.delivery.latency", unit="s", explicit_bucket_boundaries_advisory=_DELIVERY_SECONDS
        )
        self._decisions = meter.create_counter("exchange.decisions", unit="{decision}")
        self._refusals = meter.create_counter("exchange.refusals", unit="{refusal}")
        self._waits = meter.create_counter("exchange.release.waits", unit="{release}")
        self._dropped = meter.create_counter("exchange.log.dropped", unit="{key}")

    def request(self, *, method: str, route: str, status: int, ms: float) -> None:
        """One answered request; `route` is the template."""
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        self._requests.record(ms / MILLISECONDS, attributes)

    def delivered(self, *, kind: str, latency_ms: int) -> None:
        """One envelope that a peer acknowledged, and how long after it was queued."""
        self._delivery.record(latency_ms / MILLISECONDS, {"exchange.kind": kind})

    def decided(self, *, engine: str, outcome: str, code: str) -> None:
        """One decision of the contract, the consent or the gate, with its reason code."""
        self._decisions.add(1, {"exchange.engine": engine, "exchange.outcome": outcome, "exchange.code": code})

    def refused(self, *, place: str, code: str) -> None:
        """One refusal: where (api, token, envelope, federation) and its code."""
        self._refusals.add(1, {"exchange.place": place, "exchange.code": code})

    def release_waits(self, *, peer: str, code: str) -> None:
        """One release that did not go by itself: to whom, and the code of why."""
        self._waits.add(1, {"peer.agency": peer, "exchange.code": code})

    def log_keys_dropped(self, count: int) -> None:
        """Keys that a log line may not hold: a mistake in the source that somebody must look at."""
        self._dropped.add(count)

    def watch_queue(self, depths: Callable[[], Mapping[str, int]]) -> None:
        """Ask for the number of waiting envelopes by state whenever metrics are collected."""

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(depth, {"exchange.state": state}) for state, depth in depths().items() if CODE(state)]

        self._meter.create_observable_gauge("exchange.queue.depth", callbacks=[observe], unit="{envelope}")

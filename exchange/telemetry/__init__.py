"""Traces, metrics and log lines that hold ids, codes and numbers, and nothing about a person.

`allowed` is the list; `exporters` and `logs` apply it; `setup` starts traces and metrics and
`recording` keeps them for a collector; `access` writes one line for each request; `measurements` is what the node
counts.
"""

from exchange.telemetry.access import AccessLog
from exchange.telemetry.logs import UVICORN_OPTIONS, configure_logging, get_logger
from exchange.telemetry.measurements import Measurements
from exchange.telemetry.setup import Telemetry, start_telemetry

__all__ = [
    "UVICORN_OPTIONS",
    "AccessLog",
    "Measurements",
    "Telemetry",
    "configure_logging",
    "get_logger",
    "start_telemetry",
]

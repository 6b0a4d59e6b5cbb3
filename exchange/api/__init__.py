"""The HTTP face of a node: parse, authenticate, call one use case, render. `build_api` makes it."""

from exchange.api.api import build_api
from exchange.api.serving import attach, detach

__all__ = ["attach", "build_api", "detach"]

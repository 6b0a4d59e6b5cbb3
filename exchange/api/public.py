"""The routes that anybody may call. A route is on this list or has a caller type, never both; a test says so."""

from __future__ import annotations

from typing import Final

PUBLIC: Final = frozenset(
    {
        ("POST", "/oauth/token"),
        ("GET", "/.well-known/oauth-authorization-server"),
        ("GET", "/.well-known/referral-node"),
        ("GET", "/health/live"),
        ("GET", "/health/ready"),
        ("GET", "/"),
        ("GET", "/docs"),
        ("GET", "/docs/federation"),
        ("GET", "/docs/assets/{name}"),
        ("GET", "/openapi.json"),
        ("GET", "/federation/openapi.json"),
    }
)

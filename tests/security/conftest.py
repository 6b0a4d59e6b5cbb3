"""Two nodes for the tests of this folder: `pair`, `two` where files are looked at, and `on_both`."""

from __future__ import annotations

from support.federation_fixtures import on_both, pair, two

__all__ = ["on_both", "pair", "two"]

from __future__ import annotations

import pytest
from support.api_node import Bench, bench


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The application with use cases that answer with the documented examples."""
    return bench(monkeypatch)

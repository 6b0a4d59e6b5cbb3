"""The documentation as a browser shows it: rendered, asking nobody but this node, and within its own policy.

Runs where chromium is installed. Names of other hosts do not resolve in it, so that the browser's own housekeeping goes
nowhere either; what a page asked for is told apart from that by its initiator in the network log.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from exchange.api import build_api

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed here")


@dataclass(frozen=True)
class Seen:
    """A page after its scripts have run, what it asked for, and what the console said."""

    html: str
    asked: list[str]
    console: str


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The application on a real socket; the pages need no node."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(build_api(), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


def visit(address: str, path: str, folder: Path) -> Seen:
    assert CHROMIUM is not None
    log = folder / "net.json"
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder}/profile", f"--log-net-log={log}", "--dump-dom", address + path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return Seen(done.stdout, list(_asked(json.loads(log.read_text()), address)), done.stderr)


def _asked(log: dict[str, Any], address: str) -> Iterator[str]:
    """The address of the page, and of everything that a page asked for."""
    for event in log["events"]:
        params = event.get("params", {})
        if "url" in params and (
            params.get("initiator", "not an origin") != "not an origin" or address in params["url"]
        ):
            yield params["url"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        pytest.param("/", ["API documentation"], id="landing"),
        pytest.param("/docs", ["operations-consents-record_consent_of_survivor", "Send a referral"], id="agency"),
        pytest.param("/docs/federation", ["operations-federation-receive_envelope_batch"], id="federation"),
    ],
)
def test_page_renders_asks_nobody_else_and_keeps_its_policy(
    address: str, tmp_path: Path, path: str, shown: list[str]
) -> None:
    seen = visit(address, path, tmp_path)
    for text in shown:
        assert text in seen.html
    assert address + path in seen.asked
    assert {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in seen.asked} == {address}
    assert "Content Security Policy" not in seen.console
    assert "Uncaught" not in seen.console


def test_a_page_that_breaks_the_rules_would_be_noticed(tmp_path: Path) -> None:
    """The net log and the console show what the test above says is absent."""
    page = tmp_path / "page.html"
    policy = "<meta http-equiv='Content-Security-Policy' content=\"script-src 'none'\">"
    page.write_text(f"{policy}<img src='http://other.example/pixel.png'><script>1</script>", encoding="utf-8")
    seen = visit("file://", str(page), tmp_path)
    assert "http://other.example/pixel.png" in seen.asked
    assert "Content Security Policy" in seen.console

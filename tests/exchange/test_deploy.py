"""What the files in `deploy/` promise, as far as it can be read there: the programs that they are for are not here."""

from __future__ import annotations

import re
from pathlib import Path

from exchange.limits import KIB, LIMITS

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_proxy_writes_down_neither_paths_nor_callers() -> None:
    """Without an access log it still tells what it could not hand on, with the whole request."""
    lines = [line.split() for line in (DEPLOY / "Caddyfile").read_text("utf-8").splitlines()]
    written = [words for words in lines if words and not words[0].startswith("#")]
    assert written[0] == ["{"]
    (start,) = (place for place, words in enumerate(written) if words[0] == "log")
    assert written[start : start + 3] == [
        ["log", "default", "{"],
        ["exclude", "http.log.error", "http.handlers.reverse_proxy"],
        ["}"],
    ]
    assert start < written.index(["{$NODE_NAME}", "{"])


def test_no_proxy_is_advised_that_puts_bodies_on_its_disk() -> None:
    """By itself nginx does, and Caddy does not."""
    advice = (DEPLOY / "README.md").read_text("utf-8")
    (block,) = re.findall(r"```nginx\n(.*?)```", advice, re.DOTALL)
    said = dict(line.strip().removesuffix(";").split(" ", 1) for line in block.splitlines() if line.strip())
    assert said["proxy_request_buffering"] == "off"
    # Otherwise a body that comes in chunks is put aside all the same.
    assert said["proxy_http_version"] == "1.1"
    assert said["proxy_max_temp_file_size"] == "0"
    assert int(said["client_max_body_size"].removesuffix("m")) * KIB * KIB >= LIMITS.batch_bytes


def test_the_service_goes_by_the_settings_of_its_home_as_root_does() -> None:
    """Root's `exchange doctor --home` reads the file in the home: of another one it would say that all is well."""
    lines = (DEPLOY / "exchange.service").read_text("utf-8").splitlines()
    named = dict(line.removeprefix("Environment=").split("=", 1) for line in lines if line.startswith("Environment="))
    assert named["EXCHANGE_HOME"] == "/var/lib/exchange"
    assert "EXCHANGE_CONFIG" not in named
    assert not any("exchange.toml /" in line for line in lines)

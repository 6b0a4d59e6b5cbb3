"""This software never contacts her: the modules that can open a connection are these, and whom they speak to."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SPEAKS_TO: Final = {
    "exchange/client/agency_client.py": "the agency's own node",
    "exchange/client/connection.py": "the agency's own node",
    "exchange/client/refusals.py": "nobody: it reads what the own node has answered",
    "exchange/client/session.py": "the agency's own node",
    "exchange/client/tokens.py": "the agency's own node",
    "exchange/cli/examining_peers.py": "nodes of the roster, for their cards",
    "exchange/cli/node_process.py": "whoever asks this node",
    "exchange/cli/serve.py": "its own processes",
    "exchange/demo/federation.py": "invented nodes on this machine",
    "exchange/federation/http_answers.py": "nodes of the roster",
    "exchange/federation/http_connections.py": "nodes of the roster",
    "exchange/storage/errors.py": "its databases",
    "exchange/storage/transaction.py": "its databases",
    "exchange/storage/wake_channels.py": "its databases",
    "exchange/telemetry/recording.py": "the operator's collector",
}
LINES: Final = frozenset(
    "aiohappyeyeballs ftplib http.client httpcore2 httpx2 imaplib nntplib opentelemetry.exporter poplib psycopg "
    "requests smtplib socket socketserver ssl subprocess urllib.request urllib3 webbrowser xmlrpc".split()
)
"""What a connection is opened with, or another program started that may."""


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_line(name: str) -> bool:
    return any(name == line or name.startswith(f"{line}.") for line in LINES)


def test_nothing_but_these_modules_opens_a_connection() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for package in ("exchange", "consent", "contracts")
        for path in (ROOT / package).rglob("*.py")
        if any(map(_is_line, _imported(ast.parse(path.read_bytes()))))
    }
    assert found == set(SPEAKS_TO)

"""`exchange openapi`: writes what is generated from the code, or says that it has drifted.

Three files: both OpenAPI documents, and docs/problems.md from the table of problem codes. The same code always
gives the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from exchange.api import build_api
from exchange.api.openapi import agency_document, federation_document
from exchange.api.problem_page import problem_page

ROOT: Final = Path(__file__).resolve().parents[2]


def generated() -> dict[str, str]:
    """Every generated file: its path in the repository, and what it should hold."""
    app = build_api()
    return {
        "openapi/openapi.json": _json(agency_document(app)),
        "openapi/federation.json": _json(federation_document(app)),
        "docs/problems.md": problem_page(),
    }


def write_openapi(check: bool, *, root: Path = ROOT) -> list[str]:
    """Write the generated files, or only compare them.

    Args:
        check: compare and write nothing.
        root: the repository.

    Returns:
        The paths that differed from what the code says.
    """
    changed = []
    for name, text in generated().items():
        path = root / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        changed.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return changed


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

from __future__ import annotations

import re

import pytest
from support.api_node import Bench

PAGES = ["/", "/docs", "/docs/federation"]


@pytest.mark.parametrize("path", PAGES)
async def test_no_script_in_a_page_and_none_from_outside(api: Bench, path: str) -> None:
    async with api.http() as http:
        page = await http.get(path)
    assert page.status_code == 200
    scripts = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert scripts["script-src"] == "'self'"
    assert scripts["default-src"] == "'none'"
    assert not re.search(r"<script(?! src=\"/)", page.text)
    assert not re.search(r"(src|href)=\"(?!/)", page.text)
    assert "style=" not in page.text
    assert not re.search(r"\son[a-z]+=", page.text)


@pytest.mark.parametrize("path", ["/docs", "/docs/federation"])
async def test_everything_a_page_needs_is_here(api: Bench, path: str) -> None:
    async with api.http() as http:
        page = await http.get(path)
        needed = re.findall(r"(?:src|href|data-document)=\"([^\"]+)\"", page.text)
        answers = {name: (await http.get(name)).status_code for name in needed}
    assert len(answers) == 4
    assert set(answers.values()) == {200}


async def test_landing_page_tells_a_passer_by_nothing(api: Bench) -> None:
    async with api.http() as http:
        page = await http.get("/")
    for word in ("women", "migrant", "shelter", "violence", "helpline", api.node.agency):
        assert word not in page.text.lower()
    assert len(page.content) < 500


@pytest.mark.parametrize("name", ["redoc.standalone.js", "favicon.png", "..%2F__init__.py", "docs.js.map"])
async def test_only_the_files_needed_are_served(api: Bench, name: str) -> None:
    async with api.http() as http:
        assert (await http.get(f"/docs/assets/{name}")).status_code == 404

"""`exchange keys` in an agency's own folder, over a real node that holds no agency key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from exchange.cli.application import app
from exchange.demo.federation import SHELTER, RunningNode, running_federation


@pytest.fixture(scope="module")
def shelter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A shelter's node, and the folder of its own machine."""
    with running_federation(tmp_path_factory.mktemp("nodes") / "f", (SHELTER,), keys_elsewhere=True) as federation:
        yield federation[SHELTER]


def run(shelter: RunningNode, *words: str, home: Path | None = None, code: int = 0) -> Result:
    variables = {
        "EXCHANGE_HOME": str(home or shelter.office),
        "EXCHANGE_AGENCY_PASSPHRASE": shelter.passphrase,
        "COLUMNS": "400",
    }
    result = CliRunner().invoke(app, list(words), env=variables)
    assert result.exit_code == code, result.output
    return result


def published_here(shelter: RunningNode) -> list[str]:
    """The weekly keys that the folder has, the lowest number first."""
    identity = shelter.identity()
    try:
        return [key_id for key_id, _, _, _ in identity.store.epochs()]
    finally:
        identity.store.close()


def test_weekly_keys_are_revoked_where_they_are(shelter: RunningNode) -> None:
    run(shelter, "keys", "publish")
    first = published_here(shelter)
    said = run(shelter, "keys", "revoke", "--since", "2026-01-02T03:04:05").output
    for words in ("Revoked 6 weekly keys", "2026-01-02 03:04 UTC", "case by case"):
        assert words in said
    after = published_here(shelter)
    assert (after[:6], len(after)) == (first, 12)
    run(shelter, "keys", "publish")
    assert published_here(shelter) == after


@pytest.mark.parametrize("since", ["2999-01-01T00:00:00", "1970-01-01T00:00:00"], ids=["future", "never"])
def test_not_since_a_time_that_cannot_be(shelter: RunningNode, since: str) -> None:
    before = published_here(shelter)
    run(shelter, "keys", "revoke", "--since", since, code=1)
    assert published_here(shelter) == before

"""`exchange contract ...`: what it prints, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.contract_files import question_json, small
from typer.testing import CliRunner, Result

from contracts.loader import shipped_contract
from exchange.cli.contract import app

EXAMPLES = Path(__file__).parents[2] / "openapi" / "examples"


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_bytes(small())
    return path


def test_check_accepts_the_shipped_contract_and_says_draft() -> None:
    result = run("check")
    assert result.exit_code == 0
    assert "digest " in result.stdout
    assert "DRAFT" in result.stdout


def test_check_names_every_problem_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(
        small().replace(b"[needs, language,", b"[legal_name, langauge,").replace(b"2027-12-31", b"2026-01-01")
    )
    result = run("check", str(path))
    assert result.exit_code == 1
    assert "line 8: expired:" in result.stderr
    assert "line 31: identifying-in-offer: `legal_name`" in result.stderr
    assert "line 31: unknown-term: `langauge`" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("check", "/nowhere/contract.yaml"), id="no such contract"),
        pytest.param(("who-sees", "nickname"), id="unknown field"),
        pytest.param(("who-sees",), id="no field"),
        pytest.param(("sees", "hostel"), id="unknown kind"),
        pytest.param(("explain", "/nowhere/request.json"), id="no such request"),
        pytest.param(("render", "--format", "pdf"), id="unknown form"),
        pytest.param(("prove", "--strict"), id="unknown option"),
    ],
)
def test_wrong_calls_exit_with_two(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("command", [("prove",), ("sees", "shelter"), ("who-sees", "needs"), ("render",)])
def test_an_invalid_contract_is_refused_by_every_command(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(small("title:", "titel:"))
    result = run(*command, "--contract", str(path))
    assert result.exit_code == 1
    assert "unknown-key" in result.stderr


def test_who_sees_immigration_status() -> None:
    result = run("who-sees", "immigration_status")
    assert result.exit_code == 0
    assert result.stdout.startswith("immigration_status: legal-aid only.")
    assert "named" in result.stdout
    assert not {"police", "shelter", "embassy", "labour-office"} & set(result.stdout.split())


def test_who_sees_narrative() -> None:
    result = run("who-sees", "narrative")
    assert result.exit_code == 0
    assert "nobody" in result.stdout


def test_sees() -> None:
    assert "preferred_name" in run("sees", "shelter").stdout
    assert "immigration: nothing" in run("sees", "immigration").stdout


def test_prove_holds() -> None:
    result = run("prove")
    assert result.exit_code == 0
    assert "FALSE" not in result.stdout
    assert result.stdout.count("holds ") == 5


def test_prove_fails_with_a_counterexample(tmp_path: Path) -> None:
    path = tmp_path / "hole.yaml"
    path.write_bytes(small("to: [police, labour-office]", "to: [police, legal-aid]"))
    result = run("prove", "--contract", str(path))
    assert result.exit_code == 1
    assert "FALSE  rules-respect-nevers" in result.stdout
    assert "for example: Rule `lawyer` lists `immigration_status`" in result.stdout


def test_explain_permits_with_a_reason_for_every_field() -> None:
    result = run("explain", str(EXAMPLES / "contract-explain-shelter-tonight.json"))
    assert result.exit_code == 0
    assert "permit by rule shelter-placement" in result.stdout
    assert "employer_name" in result.stdout
    assert "not-listed" in result.stdout


def test_explain_denies_with_exit_one() -> None:
    result = run("explain", str(EXAMPLES / "contract-explain-immigration-status.json"))
    assert result.exit_code == 1
    assert "deny never" in result.stdout
    assert "never[1]" in result.stdout


def test_explain_as_json_from_standard_input(small_file: Path) -> None:
    result = run("explain", "-", "--json", "--contract", str(small_file), stdin=question_json())
    assert result.exit_code == 0
    assert json.loads(result.stdout)["allowed"]["offer"] == ["needs"]


def test_explain_asks_at_the_stated_moment(small_file: Path) -> None:
    late = question_json(at="2028-01-01T00:00:00Z")
    result = run("explain", "-", "--contract", str(small_file), stdin=late)
    assert result.exit_code == 1
    assert "expired" in result.stderr


def test_explain_refuses_a_broken_request_without_echo() -> None:
    result = run("explain", "-", stdin=question_json(fields=["Sokha-CANARY"]))
    assert result.exit_code == 2
    assert "fields.0" in result.stderr
    assert "CANARY" not in result.output


def test_render_both_forms(small_file: Path) -> None:
    text = run("render", "--contract", str(small_file))
    assert text.exit_code == 0
    assert text.stdout.startswith("# A small contract")
    table = run("render", "--format", "table", "--contract", str(small_file))
    assert table.exit_code == 0
    assert "perpetrator_identity" in table.stdout


def test_the_shipped_contract_is_what_is_rendered_by_default() -> None:
    assert "Information-sharing protocol" in run("render").stdout
    assert shipped_contract().startswith(b"#")

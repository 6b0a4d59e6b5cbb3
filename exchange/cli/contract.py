"""`exchange contract ...`: check, explain and prove an information-sharing contract, offline.

Exit codes: 0 yes, 1 refused or false, 2 the call itself is wrong. Answers go to standard output, problems to standard
error. Nothing here reads a key, a database or the network.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from contracts.analysis import Sighting, prove, sees, who_sees
from contracts.decision import Deny, Permit, decide
from contracts.loader import ContractInvalidError, load_contract, shipped_contract
from contracts.model import Contract, ContractStatus
from contracts.question_file import QuestionInvalidError, answer_as_json, read_question
from contracts.rendering import LEGEND, TextTable, markdown, matrix, services_covered
from contracts.vocabulary import AgencyKind, Field, Stage

REFUSED: Final = 1
WRONG_CALL: Final = 2
_WIDTH_WHEN_PIPED: Final = 240

app = typer.Typer(no_args_is_help=True, help="Check, explain and prove an information-sharing contract.")


class _Form(StrEnum):
    MARKDOWN = "markdown"
    TABLE = "table"


ContractOption = Annotated[
    Path | None,
    typer.Option("--contract", exists=True, dir_okay=False, help="A contract file; without it the shipped contract."),
]


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="A contract file; default the shipped one.")
    ] = None,
) -> None:
    """Say whether a contract is valid; every problem with its line."""
    contract = _load(file, datetime.now(UTC).date())
    print(f"{contract.name} {contract.version}: valid until {contract.valid_until}, {len(contract.rules)} rules")
    print(f"digest {contract.digest}")
    if contract.status is ContractStatus.DRAFT:
        print("DRAFT: needs local legal review; a node refuses it outside sandbox and demo.")


@app.command()
def explain(
    request: Annotated[
        str, typer.Argument(help="A JSON file {from, to, service, basis, fields, at?}, or - for input.")
    ],
    contract_file: ContractOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program.")] = False,
) -> None:
    """Answer one request, with a reason for every field."""
    try:
        question, stated = read_question(_read_request(request))
    except QuestionInvalidError as error:
        _fail(error.problems, WRONG_CALL)
    at = stated or datetime.now(UTC)
    contract = _load(contract_file, at.astimezone(UTC).date())
    decision = decide(contract, question, at)
    if as_json:
        print(json.dumps(answer_as_json(decision), indent=2, ensure_ascii=False))
    else:
        _print_decision(decision)
    if isinstance(decision, Deny):
        raise typer.Exit(REFUSED)


@app.command("who-sees")
def who_sees_command(
    field: Annotated[Field, typer.Argument(metavar="FIELD", help="A field of the vocabulary, such as legal_name.")],
    contract_file: ContractOption = None,
) -> None:
    """List every kind of agency that gets to see a field, at which stage and by which rule."""
    found = who_sees(_load(contract_file, datetime.now(UTC).date()), field)
    if not found:
        print(f"{field.value}: nobody. No rule lets any kind of agency see it.")
        return
    kinds = ", ".join(kind.value for kind in AgencyKind if any(sighting.receiver is kind for sighting in found))
    print(f"{field.value}: {kinds} only.")
    _print_table(_grouped(found, "seen by", lambda sighting: sighting.receiver.value))


@app.command("sees")
def sees_command(
    kind: Annotated[AgencyKind, typer.Argument(metavar="KIND", help="An agency kind, such as shelter.")],
    contract_file: ContractOption = None,
) -> None:
    """List every field that a kind of agency gets to see."""
    found = sees(_load(contract_file, datetime.now(UTC).date()), kind)
    if not found:
        print(f"{kind.value}: nothing. No rule lets it receive a referral.")
        return
    _print_table(_grouped(found, "field", lambda sighting: sighting.field.value))


@app.command("prove")
def prove_command(contract_file: ContractOption = None) -> None:
    """Check every promise of a contract over the whole space; a broken one comes with a counterexample."""
    claims = prove(_load(contract_file, datetime.now(UTC).date()))
    for claim in claims:
        print(f"{'holds' if claim.holds else 'FALSE'}  {claim.code}: {claim.sentence}")
        if claim.counterexample is not None:
            print(f"       for example: {claim.counterexample}")
    if not all(claim.holds for claim in claims):
        raise typer.Exit(REFUSED)


@app.command()
def render(
    contract_file: ContractOption = None,
    form: Annotated[_Form, typer.Option("--format", help="Prose and rules, or only the tables.")] = _Form.MARKDOWN,
) -> None:
    """Print a contract as people read it."""
    contract = _load(contract_file, datetime.now(UTC).date())
    if form is _Form.MARKDOWN:
        print(markdown(contract), end="")
        return
    _print_table(matrix(contract))
    print(LEGEND)
    _print_table(services_covered(contract))


def _load(file: Path | None, on: date) -> Contract:
    data = shipped_contract() if file is None else _read_file(file)
    try:
        return load_contract(data, on=on)
    except ContractInvalidError as error:
        name = "the shipped contract" if file is None else str(file)
        _fail((f"{name} is not a valid contract:", *(str(problem) for problem in error.problems)), REFUSED)


def _read_request(request: str) -> bytes:
    return sys.stdin.buffer.read() if request == "-" else _read_file(Path(request))


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        _fail((f"{path}: {error.strerror or 'cannot be read'}",), WRONG_CALL)


def _fail(lines: Sequence[str], code: int) -> NoReturn:
    for line in lines:
        print(line, file=sys.stderr)
    raise typer.Exit(code)


def _print_decision(decision: Permit | Deny) -> None:
    if isinstance(decision, Permit):
        rule = decision.rule
        print(f"permit by rule {rule.id} (release {rule.release.value}, feedback {rule.feedback.value})")
    else:
        print(f"deny {decision.code}: {decision.sentence}")
    rows = tuple(
        (
            verdict.field.value,
            verdict.outcome,
            verdict.stage.value if verdict.stage else "",
            verdict.rule or "",
            verdict.code,
            verdict.sentence,
        )
        for verdict in decision.verdicts
    )
    _print_table(TextTable(("field", "outcome", "stage", "rule", "code", "why"), rows))
    print(f"contract {decision.contract_digest}")


def _grouped(found: Sequence[Sighting], heading: str, name: Callable[[Sighting], str]) -> TextTable:
    """One row per stage, name and rule; senders and services are joined."""
    order = list(Stage)

    def key(sighting: Sighting) -> tuple[int, str, str]:
        return order.index(sighting.stage), name(sighting), sighting.rule

    rows: list[tuple[str, ...]] = []
    for (stage, label, rule), group in groupby(sorted(found, key=key), key=key):
        members = list(group)
        services = ", ".join(dict.fromkeys(sighting.service.value for sighting in members))
        rows.append((label, order[stage].value, services, rule))
    return TextTable((heading, "stage", "services", "rule"), tuple(rows))


def _print_table(table: TextTable) -> None:
    console = Console(width=None if sys.stdout.isatty() else _WIDTH_WHEN_PIPED, markup=False, highlight=False)
    drawn = Table(show_edge=False)
    for position, heading in enumerate(table.headings):
        drawn.add_column(heading, overflow="fold", no_wrap=position == 0)
    for row in table.rows:
        drawn.add_row(*row)
    console.print(drawn)

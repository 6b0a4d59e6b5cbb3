"""What the command line prints: answers to standard output, refusals and advice to standard error.

Rules:

* A refusal says who must do what; it never shows a stack trace, whose variables could hold her data.
* What a node answers is printed as text, never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from exchange.envelope.errors import EnvelopeError
    from exchange.referral.errors import ReferralError
    from exchange.schemas.problems import Problem

OUT: Final = Console(highlight=False)
ERR: Final = Console(stderr=True, highlight=False)

_WHO_ACTS: Final[Mapping[str, str]] = {
    "sender": "you",
    "node": "whoever runs your node",
    "peer": "the other agency",
}
REFUSED: Final = 1
SET_UP_WRONG: Final = 2


def say(sentence: str, *, style: str = "") -> None:
    """One line of an answer."""
    OUT.print(Text(sentence, style=style), soft_wrap=True)


def advise(sentence: str, *, style: str = "yellow") -> None:
    """One line of advice, beside the answer."""
    ERR.print(Text(sentence, style=style), soft_wrap=True)


def fail(sentence: str, *, code: int = REFUSED) -> NoReturn:
    """End with a sentence that says what to do."""
    ERR.print(Text(sentence, style="bold red"), soft_wrap=True)
    raise typer.Exit(code)


def show_json(answer: BaseModel) -> None:
    """The answer as JSON, for another program."""
    # Written around rich: it would wrap long lines.
    typer.echo(json.dumps(answer.model_dump(mode="json", exclude_none=True, by_alias=True), indent=2))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table; no cell is read as markup."""
    made = Table(title=Text(title), title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


@contextmanager
def refusals_told() -> Iterator[None]:
    """What the node, the SDK, the settings or whoever seals here refuse becomes a sentence and an exit code."""
    from exchange.client import ClientError, ClientSetupError, ProblemError
    from exchange.envelope.errors import EnvelopeError
    from exchange.referral.errors import ReferralError
    from exchange.settings import SettingsError

    try:
        yield
    except ProblemError as refused:
        _tell_problem(refused.problem)
    except ClientSetupError as wrong:
        fail(str(wrong), code=SET_UP_WRONG)
    except ClientError as wrong:
        fail(str(wrong))
    except SettingsError as wrong:
        fail(str(wrong), code=SET_UP_WRONG)
    except (ReferralError, EnvelopeError) as refused:
        _tell_unsealed(refused)


def _tell_problem(problem: Problem) -> NoReturn:
    ERR.print(Text(f"{problem.title} [{problem.code}]", style="bold red"))
    ERR.print(Text(problem.detail))
    for field in problem.fields:
        ERR.print(Text(f"  {field.path}: {field.sentence}"))
    ERR.print(Text(f"Who has to act: {_WHO_ACTS[problem.who]}", style="dim"))
    raise typer.Exit(REFUSED)


def _tell_unsealed(refused: ReferralError | EnvelopeError) -> NoReturn:
    from exchange.referral.errors import ContentInvalidError

    ERR.print(Text(f"{refused} Nothing was sent.", style="bold red"), soft_wrap=True)
    for problem in refused.problems if isinstance(refused, ContentInvalidError) else ():
        ERR.print(Text(f"  {problem.path.removeprefix('$.')}: {problem.sentence}"), soft_wrap=True)
    raise typer.Exit(REFUSED)

"""What is refused becomes a sentence and an exit code, wherever it was refused."""

from __future__ import annotations

import pytest
import typer

from exchange.cli.console import refusals_told
from exchange.envelope.errors import ContentTooLargeError, EpochError, EpochFault
from exchange.referral.errors import ContentInvalidError, ContentProblem, TransitionError


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        pytest.param(ContentTooLargeError(), "larger than one envelope can carry", id="too-large"),
        pytest.param(EpochError(EpochFault.NONE), "no key for this week", id="no-key"),
        pytest.param(TransitionError("state-forbids", "It has ended."), "It has ended.", id="not-now"),
        pytest.param(
            ContentInvalidError([ContentProblem("$.needs[0]", "need-of-another-service")]),
            "\n  needs[0]: One of the needs does not belong",
            id="content",
        ),
    ],
)
def test_what_the_agencys_own_software_refuses_before_it_seals_is_told(
    refused: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, refusals_told():
        raise refused
    said = capsys.readouterr().err
    assert ended.value.exit_code == 1
    assert words in said
    assert "Nothing was sent." in said

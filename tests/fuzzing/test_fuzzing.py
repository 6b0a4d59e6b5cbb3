"""A few seconds of what `make fuzz` does for an hour, the same in every run, and what it has found so far."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from fuzzing.node_targets import node_fuzzer
from fuzzing.pure_targets import TARGETS, Target
from support.mutations import Mutations

from consent.errors import StatementInvalidError
from consent.statements.library import read_statement

EXECUTIONS = 25
ASKED = 6
ENVELOPES = 20


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_reader_refuses_in_its_own_words(target: Target) -> None:
    random = Random(3)
    mutations = Mutations(random)
    refused = 0
    for _ in range(EXECUTIONS):
        given = target.make(random, mutations)
        try:
            target.run(given)
        except target.may_raise:
            refused += 1
    assert refused or not target.may_raise


async def test_a_node_answers_everything(tmp_path: Path) -> None:
    async with node_fuzzer(tmp_path, Random(3)) as fuzzer:
        answered = Counter([await fuzzer.endpoint() for _ in range(ASKED)])
        judged = Counter([await fuzzer.envelope() for _ in range(ENVELOPES)])
    assert len(answered) > 1, "the requests reach deep"
    assert len(judged) > 3, "the envelopes reach deep"


@pytest.mark.parametrize(
    "toml",
    ["a = " + "[" * 5000, "a = " + "{a=" * 5000, "a = 2026-99-99", "a = 25:61:00"],
    ids=["lists", "tables", "no-such-day", "no-such-time"],
)
def test_found_a_consent_statement_that_the_toml_reader_of_python_stumbles_over(toml: str) -> None:
    with pytest.raises(StatementInvalidError) as refused:
        read_statement(toml.encode(), "a file")
    assert refused.value.code == "not-readable"

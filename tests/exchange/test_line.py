"""What a line is trusted with: small at first, by what it did afterwards, never more than it carries in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.limits import KIB, LIMITS
from exchange.use_cases.line import AIM_S, EXCHANGE_S, NEAR_ENVELOPES, NEAR_S, Line, exchange_s

FULL = LIMITS.batch_bytes
SMALL = 7 * KIB


@pytest.mark.parametrize(
    ("known", "sent", "took_s", "carries"),
    [
        pytest.param(None, SMALL, 0.02, FULL, id="a-good-line-gets-full-batches-after-one-answer"),
        pytest.param(None, SMALL, 7.5, LIMITS.batch_first_bytes, id="a-slow-answer-to-little-changes-nothing"),
        pytest.param(32 * KIB, 32 * KIB, 12, 40 * KIB, id="a-bad-line-grows-by-what-it-did"),
        pytest.param(FULL, SMALL, 10, FULL, id="what-was-slow-but-in-time-takes-nothing-away"),
        pytest.param(FULL, FULL, 30, FULL // 2, id="what-took-twice-the-time-is-halved"),
        pytest.param(FULL, FULL, 0, FULL, id="no-time-at-all"),
        pytest.param(32 * KIB, SMALL, -5, FULL, id="a-clock-that-went-back"),
    ],
)
def test_after_an_answer(known: int | None, sent: int, took_s: float, carries: int) -> None:
    line = Line(known)
    line.answered(sent, took_s, 1)
    assert line.carries == carries


@pytest.mark.parametrize(
    ("known", "sent", "carries"),
    [
        pytest.param(FULL, FULL, FULL // 4, id="a-quarter-of-what-was-sent"),
        pytest.param(FULL, SMALL, SMALL // 4, id="less-than-that-was-too-much"),
        pytest.param(KIB, SMALL, KIB, id="never-more-than-before"),
        pytest.param(1, 1, 1, id="one-envelope-always-goes"),
    ],
)
def test_after_no_answer(known: int, sent: int, carries: int) -> None:
    line = Line(known)
    line.failed(sent)
    assert line.carries == carries


def test_a_line_that_nobody_knows_begins_small() -> None:
    assert Line(None).carries == LIMITS.batch_first_bytes < LIMITS.batch_bytes


@pytest.mark.parametrize(
    ("answers", "envelopes"),
    [
        pytest.param([], LIMITS.batch_envelopes, id="nobody knows"),
        pytest.param([(NEAR_S, 1)], NEAR_ENVELOPES, id="near"),
        pytest.param([(NEAR_S + 0.01, 1)], LIMITS.batch_envelopes, id="far"),
        pytest.param([(0.02, 1), (4, 1)], LIMITS.batch_envelopes, id="it got worse"),
        pytest.param([(4, 1), (0.02, 1)], NEAR_ENVELOPES, id="it got better"),
        pytest.param([(0.02, NEAR_ENVELOPES - 1)], NEAR_ENVELOPES, id="nothing waits behind it"),
        pytest.param([(0.02, NEAR_ENVELOPES)], LIMITS.batch_envelopes, id="more waits"),
        pytest.param([(0.02, LIMITS.batch_envelopes)], LIMITS.batch_envelopes, id="much more waits"),
        pytest.param([(0.02, LIMITS.batch_envelopes), (0.02, 3)], NEAR_ENVELOPES, id="nothing waits any more"),
    ],
)
def test_a_near_line_gets_few_envelopes_at_once_unless_more_wait(
    answers: list[tuple[float, int]], envelopes: int
) -> None:
    line = Line(None)
    for seconds, held in answers:
        line.answered(SMALL, seconds, held)
    assert line.envelopes == envelopes


@pytest.mark.parametrize("sent", [0, SMALL, LIMITS.batch_first_bytes])
def test_a_small_request_has_the_usual_time(sent: int) -> None:
    assert exchange_s(sent) == EXCHANGE_S


@pytest.mark.parametrize("sent", [LIMITS.envelope_bytes, FULL])
def test_no_request_is_waited_for_longer_than_the_largest_envelope_needs(sent: int) -> None:
    assert EXCHANGE_S < exchange_s(sent) < 4 * EXCHANGE_S


@given(
    bytes_a_s=st.floats(min_value=2 * KIB, max_value=100 * KIB * KIB),
    latency_s=st.floats(min_value=0, max_value=8),
    known=st.integers(min_value=1, max_value=FULL),
)
def test_whatever_was_believed_a_steady_line_ends_with_batches_that_arrive_in_time(
    bytes_a_s: float, latency_s: float, known: int
) -> None:
    line = Line(known)

    def needs(sent: int) -> float:
        return latency_s + sent / bytes_a_s

    for _ in range(30):
        sent = max(SMALL, line.carries)
        if needs(sent) > exchange_s(sent):
            line.failed(sent)
        else:
            line.answered(sent, needs(sent), 1)
    sent = max(SMALL, line.carries)
    assert needs(sent) <= exchange_s(sent)
    # And it is used: either it carries all there is, or a batch takes about as long as is aimed at.
    assert line.carries == FULL or needs(line.carries) > AIM_S / 2

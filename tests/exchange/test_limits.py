"""The constants agree with each other."""

from __future__ import annotations

import pytest

from exchange.limits import DAY_MS, HOUR_MS, LIMITS, MINUTE_MS, SECOND_MS


@pytest.mark.parametrize(
    ("failing_for", "wait"),
    [
        pytest.param(0, SECOND_MS, id="at-once"),
        pytest.param(SECOND_MS, 2 * SECOND_MS, id="after-a-second"),
        pytest.param(5 * SECOND_MS, 3 * SECOND_MS, id="first-ten-minutes"),
        pytest.param(10 * MINUTE_MS - 1, 3 * SECOND_MS, id="end-of-ten-minutes"),
        pytest.param(10 * MINUTE_MS, MINUTE_MS, id="first-hour"),
        pytest.param(HOUR_MS, 10 * MINUTE_MS, id="first-day"),
        pytest.param(DAY_MS, HOUR_MS, id="from-then-on"),
        pytest.param(100 * DAY_MS, HOUR_MS, id="months-later"),
    ],
)
def test_the_retry_schedule(failing_for: int, wait: int) -> None:
    assert LIMITS.retry_after_ms(failing_for) == wait


def test_a_full_batch_of_small_envelopes_fits() -> None:
    assert LIMITS.batch_envelopes * LIMITS.envelope_bytes > LIMITS.batch_bytes
    assert LIMITS.envelope_bytes <= LIMITS.batch_bytes
    assert LIMITS.batch_first_bytes <= LIMITS.batch_bytes


def test_keys_outlive_what_is_sealed_to_them() -> None:
    assert LIMITS.epoch_grace_ms >= LIMITS.sealed_expires_ms + LIMITS.skew_ms
    assert LIMITS.epoch_grace_ms >= LIMITS.epoch_release_ms + LIMITS.released_within_ms


def test_stops_outlive_answers_and_memory() -> None:
    assert LIMITS.stop_expires_ms > LIMITS.answer_expires_ms
    assert LIMITS.stop_expires_ms > LIMITS.dedupe_at_least_ms
    assert LIMITS.stop_expires_ms > 90 * DAY_MS


def test_leases_and_waits_are_ordered() -> None:
    assert LIMITS.lease_shortest_s <= LIMITS.lease_default_s <= LIMITS.lease_longest_s
    assert LIMITS.wait_longest_s < LIMITS.lease_default_s

"""A clock that has jumped ahead ends nothing, and counts again by itself after a while."""

from __future__ import annotations

import pytest

from exchange.limits import DAY_MS, HOUR_MS, MINUTE_MS
from exchange.storage.clock_look import (
    DOUBTED_AT_MOST_MS,
    JUMP_MS,
    ClockLook,
    clock_look,
    confirm_look,
    ends_by,
    remember_look,
)
from exchange.storage.database import Database

NOW = 1_800_000_000_000
SEEN = ClockLook(NOW, NOW)


@pytest.mark.parametrize("passed", [0, MINUTE_MS, JUMP_MS, 8 * DAY_MS, -DAY_MS, -1])
def test_a_clock_that_goes_on_with_the_node_is_believed(passed: int) -> None:
    look = SEEN.after(NOW + passed, max(0, passed))
    assert look == ClockLook(NOW + passed, NOW + passed)
    assert look.ends_by(NOW + passed) == NOW + passed


@pytest.mark.parametrize("ahead", [1, MINUTE_MS, JUMP_MS])
def test_one_that_is_ahead_by_an_hour_is_believed_and_not_certain(ahead: int) -> None:
    assert SEEN.ends_by(NOW + ahead) == NOW + ahead
    assert SEEN.after(NOW + ahead, 0) == ClockLook(NOW, NOW + ahead)


@pytest.mark.parametrize("ahead", [JUMP_MS + 1, 8 * DAY_MS, 20 * 365 * DAY_MS])
def test_one_that_has_jumped_ends_nothing_that_was_not_over(ahead: int) -> None:
    assert SEEN.ends_by(NOW + ahead) == NOW
    assert SEEN.after(NOW + ahead, 0) == ClockLook(NOW, NOW + ahead)


def test_what_the_node_has_run_since_is_settled() -> None:
    look = SEEN.after(NOW + 8 * DAY_MS, 0).after(NOW + 8 * DAY_MS + 10 * MINUTE_MS, 10 * MINUTE_MS)
    assert 0 <= look.ends_by(NOW + 8 * DAY_MS + 10 * MINUTE_MS) - (NOW + 10 * MINUTE_MS) <= 10 * MINUTE_MS // 20
    assert look.doubted_ms == 10 * MINUTE_MS


@pytest.mark.parametrize("step", [MINUTE_MS, 50 * MINUTE_MS, JUMP_MS])
@pytest.mark.parametrize("back", [0, 1], ids=["ahead-only", "and-back-a-little"])
def test_small_steps_ahead_are_a_jump_too(step: int, back: int) -> None:
    """However they are made, no more ends than what the node has run, an hour, and a twentieth."""
    look, at, ran = SEEN, NOW, 0
    for number in range(600):
        at, ran = at + MINUTE_MS + step - (step // 2 if back and number % 2 else 0), ran + MINUTE_MS
        look = look.after(at, MINUTE_MS)
        assert look.ends_by(at) <= NOW + ran + ran // 20 + JUMP_MS
    assert look.doubts(at)


@pytest.mark.parametrize("lost", [2 * MINUTE_MS // 60, 0])
def test_what_processes_lose_between_their_looks_does_not_add_up(lost: int) -> None:
    look, at = SEEN.after(NOW + 50 * MINUTE_MS, 0), NOW + 50 * MINUTE_MS
    for _ in range(3 * 24 * 60):
        at += MINUTE_MS
        look = look.after(at, MINUTE_MS - lost)
        assert not look.doubts(at)
    assert at - look.settled_at < MINUTE_MS


def test_one_that_is_put_right_is_believed_at_once() -> None:
    look, ahead = SEEN, 8 * DAY_MS
    for ran in range(0, 5 * HOUR_MS, MINUTE_MS):
        look = look.after(NOW + ahead + ran, MINUTE_MS)
    assert abs(look.ends_by(NOW + ahead + ran) - (NOW + ran)) <= ran // 20 + 2 * MINUTE_MS
    assert look.after(NOW + ran + MINUTE_MS, MINUTE_MS) == ClockLook(NOW + ran + MINUTE_MS, NOW + ran + MINUTE_MS)


@pytest.mark.parametrize("off", [0, 16 * HOUR_MS], ids=["runs", "off-at-night"])
def test_no_doubt_is_without_an_end(off: int) -> None:
    look, at, ran = SEEN, NOW + 8 * DAY_MS, 0
    while (look := look.after(at, 10 * MINUTE_MS if ran else 0)).ends_by(at) < at:
        at, ran = at + 10 * MINUTE_MS, ran + 10 * MINUTE_MS
        if ran % (8 * HOUR_MS) == 0:
            at += off
        assert ran <= DOUBTED_AT_MOST_MS + 2 * HOUR_MS
    assert ran >= DOUBTED_AT_MOST_MS
    assert look == ClockLook(at, at)


def test_where_nobody_has_looked_the_clock_counts(database_url: str) -> None:
    database = Database.open(database_url)
    assert database.read_sync(lambda conn: ends_by(conn, NOW)) == NOW
    for look in (SEEN, SEEN.after(NOW + DAY_MS, 0)):
        database.write_sync(lambda conn, look=look: remember_look(conn, look))
        assert database.read_sync(clock_look) == look
    assert database.read_sync(lambda conn: ends_by(conn, NOW + DAY_MS)) == NOW
    database.close_sync()


@pytest.mark.parametrize(
    ("at", "doubted", "left"),
    [
        pytest.param(NOW - MINUTE_MS, False, SEEN, id="earlier than what is certain"),
        pytest.param(NOW, False, SEEN, id="certain already"),
        pytest.param(NOW + JUMP_MS, False, ClockLook(NOW + JUMP_MS, NOW + JUMP_MS), id="believed"),
        pytest.param(NOW + DAY_MS, True, ClockLook(NOW + DAY_MS, NOW + DAY_MS), id="doubted"),
    ],
)
def test_what_somebody_else_confirms_is_certain_and_takes_nothing_of_it_back(
    database_url: str, at: int, doubted: bool, left: ClockLook
) -> None:
    """Whoever asked may have waited for the answer while another process looked."""
    database = Database.open(database_url)
    assert database.write_sync(lambda conn: confirm_look(conn, at)) is False
    database.write_sync(lambda conn: remember_look(conn, SEEN))
    assert database.write_sync(lambda conn: confirm_look(conn, at)) is doubted
    assert database.read_sync(clock_look) == left
    database.close_sync()

"""When what is due, overdue, over and destroyed."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.rule import Retention
from contracts.vocabulary import PRIORITY_RESPOND_WITHIN_S, Priority, WithdrawalForm
from exchange.limits import DAY_MS, HOUR_MS, LIMITS, MINUTE_MS
from exchange.referral import clocks
from exchange.referral.contact_plan import SafeContact
from exchange.referral.lifecycle import TERMINAL, State

START = 1_800_000_000_000
RETENTION = Retention.model_validate({"declined": "24h", "expired": "7d", "closed": "90d"})


@pytest.mark.parametrize(
    ("priority", "within", "hours"),
    [
        pytest.param(Priority.EMERGENCY, {}, 1, id="emergency-default"),
        pytest.param(Priority.URGENT, {}, 24, id="urgent-default"),
        pytest.param(Priority.ROUTINE, {}, 72, id="routine-default"),
        pytest.param(Priority.URGENT, {Priority.URGENT: 6 * 3600}, 6, id="tightened"),
        pytest.param(Priority.URGENT, {Priority.URGENT: 48 * 3600}, 24, id="never-loosened"),
        pytest.param(Priority.URGENT, {Priority.ROUTINE: 3600}, 24, id="another-priority"),
    ],
)
def test_time_to_answer(priority: Priority, within: dict[Priority, int], hours: int) -> None:
    assert clocks.respond_by(START, priority, within) == START + hours * HOUR_MS


@pytest.mark.parametrize(
    ("priority", "minutes"), [(Priority.EMERGENCY, 15), (Priority.URGENT, 120), (Priority.ROUTINE, 720)]
)
def test_time_to_tell_that_nothing_arrived(priority: Priority, minutes: int) -> None:
    assert clocks.undelivered_at(START, priority) == START + minutes * MINUTE_MS


def test_reminder_at_half_and_expiry_a_day_after() -> None:
    assert clocks.remind_at(START, START + HOUR_MS) == START + HOUR_MS // 2
    assert clocks.expires_at(START) == START + DAY_MS


def written(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat().replace("+00:00", "Z")


def agency_plan(confirmed: int, until: int | None = None) -> SafeContact:
    members = {
        "who_initiates": "agency",
        "channels": [{"channel": "phone-call", "safe": True}],
        "last_confirmed_at": written(confirmed),
        "valid_until": until and written(until),
    }
    return SafeContact.model_validate(members)


FAR = START + 400 * DAY_MS
SURVIVOR = SafeContact.model_validate({"who_initiates": "survivor", "last_confirmed_at": written(START)})
ENDS = [
    pytest.param(agency_plan(START), FAR, FAR, FAR, START + 72 * HOUR_MS, id="confirmation"),
    pytest.param(agency_plan(START, START + HOUR_MS), FAR, FAR, FAR, START + HOUR_MS, id="end-of-the-plan"),
    pytest.param(agency_plan(START), START + 5, FAR, FAR, START + 5, id="end-of-consent"),
    pytest.param(agency_plan(START), FAR, START - DAY_MS + 7, FAR, START + 7, id="expiry-of-the-referral"),
    pytest.param(agency_plan(START), FAR, FAR, START + 9, START + 9, id="end-of-the-key"),
    pytest.param(SURVIVOR, FAR, FAR, START + 9 * DAY_MS, START + 9 * DAY_MS, id="she-calls-so-nothing-gets-stale"),
    pytest.param(None, FAR, START, FAR, START + DAY_MS, id="no-plan"),
]


@pytest.mark.parametrize(("plan", "consent", "due", "key", "expected"), ENDS)
def test_a_disclosure_expires_first_of_all(
    plan: SafeContact | None, consent: int, due: int, key: int, expected: int
) -> None:
    assert clocks.disclosure_expires(plan, consent_ends=consent, due=due, key_ends=key) == expected


@settings(max_examples=50, deadline=None)
@given(st.integers(START, FAR), st.integers(START, FAR), st.integers(START, FAR), st.integers(START, FAR))
def test_a_disclosure_never_outlives_what_it_rests_on(confirmed: int, consent: int, due: int, key: int) -> None:
    ends = clocks.disclosure_expires(agency_plan(confirmed), consent_ends=consent, due=due, key_ends=key)
    assert ends <= min(confirmed + LIMITS.contact_plan_fresh_ms, consent, due + DAY_MS, key)


@pytest.mark.parametrize(
    ("state", "kept_ms"),
    [
        (State.DECLINED, DAY_MS),
        (State.REDIRECTED, DAY_MS),
        (State.RECALLED, DAY_MS),
        (State.ENTERED_IN_ERROR, DAY_MS),
        (State.EXPIRED, 7 * DAY_MS),
        (State.COMPLETED, 90 * DAY_MS),
        (State.FAILED, 90 * DAY_MS),
        (State.WITHDRAWN, 90 * DAY_MS),
    ],
)
def test_retention(state: State, kept_ms: int) -> None:
    assert clocks.destroy_at(state, closed_at=START, retention=RETENTION) == START + kept_ms


@pytest.mark.parametrize("state", State)
def test_erase_destroys_at_once_and_every_end_has_an_end(state: State) -> None:
    erased = clocks.destroy_at(state, closed_at=START, retention=RETENTION, withdrawal=WithdrawalForm.ERASE)
    assert erased == START
    assert (clocks.destroy_at(state, closed_at=START, retention=RETENTION) is not None) is (state in TERMINAL)


def test_the_tombstone_ends_after_two_years() -> None:
    assert clocks.forget_at(START) == START + 730 * DAY_MS


def test_every_priority_has_a_default() -> None:
    assert set(PRIORITY_RESPOND_WITHIN_S) == set(Priority)

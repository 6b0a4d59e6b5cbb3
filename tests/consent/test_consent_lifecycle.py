"""Every pair of states, her no, renewal, narrowing, expiry."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from support.consents import CONSENT_ID, NOW, SHELTER_LINE, STATEMENTS, SUBJECT, draft, recorded

from consent.errors import ConsentInvalidError, ConsentTransitionError
from consent.lifecycle import (
    LEGAL_STEPS,
    expire,
    give,
    invalidate,
    narrow,
    record_consent,
    refuse,
    renew,
    request_consent,
    revoke,
    withdraw,
)
from consent.record import ConsentRecord, Provision, warns
from consent.terms import ConsentState
from contracts.vocabulary import WithdrawalForm

DAY = timedelta(days=1)
STEPS: dict[ConsentState, Callable[[ConsentRecord], ConsentRecord]] = {
    ConsentState.GIVEN: lambda record: give(record, at=NOW),
    ConsentState.REFUSED: lambda record: refuse(record, at=NOW),
    ConsentState.RENEWED: lambda record: renew(record, until=NOW + 30 * DAY, at=NOW),
    ConsentState.WITHDRAWN: lambda record: withdraw(record, at=NOW),
    ConsentState.REVOKED: lambda record: revoke(record, at=NOW),
    ConsentState.INVALIDATED: lambda record: invalidate(record, at=NOW),
    ConsentState.EXPIRED: lambda record: expire(record, at=record.expires_at),
}
LEGAL = {
    "requested": {"given", "refused", "expired", "invalidated"},
    "refused": set[str](),
    "given": {"renewed", "expired", "withdrawn", "revoked", "invalidated"},
    "renewed": {"renewed", "expired", "withdrawn", "revoked", "invalidated"},
    "expired": {"withdrawn", "invalidated"},
    "withdrawn": {"withdrawn"},
    "revoked": {"withdrawn"},
    "invalidated": {"withdrawn"},
}


def requested(**changes: Any) -> ConsentRecord:
    return request_consent(draft(**changes), consent_id=CONSENT_ID, subject=SUBJECT, at=NOW, statements=STATEMENTS)


def in_state(state: ConsentState) -> ConsentRecord:
    if state is ConsentState.REQUESTED:
        return requested()
    if state is ConsentState.REFUSED:
        return refuse(requested(), at=NOW)
    if state is ConsentState.GIVEN:
        return recorded()
    return STEPS[state](recorded())


@pytest.mark.parametrize("after", [state for state in ConsentState if state is not ConsentState.REQUESTED])
@pytest.mark.parametrize("before", list(ConsentState))
def test_every_pair_of_states(before: ConsentState, after: ConsentState) -> None:
    record = in_state(before)
    assert record.state is before
    if after.value in LEGAL[before.value]:
        following = STEPS[after](record)
        assert following.state is after
        assert following.version == record.version + 1
        assert (following.id, following.subject) == (record.id, record.subject)
    else:
        with pytest.raises(ConsentTransitionError):
            STEPS[after](record)


def test_the_table_of_steps_is_the_one_tested() -> None:
    assert {before.value: {after.value for after in steps} for before, steps in LEGAL_STEPS.items()} == LEGAL


def test_nothing_becomes_requested() -> None:
    assert all(ConsentState.REQUESTED not in steps for steps in LEGAL_STEPS.values())


@pytest.mark.parametrize(
    "state",
    [
        ConsentState.REFUSED,
        ConsentState.EXPIRED,
        ConsentState.WITHDRAWN,
        ConsentState.REVOKED,
        ConsentState.INVALIDATED,
    ],
)
def test_what_ended_is_live_at_no_moment(state: ConsentState) -> None:
    record = in_state(state)
    assert not any(record.is_live(NOW + days * DAY) for days in range(-2, 400))


def test_a_request_allows_nothing_until_she_gives() -> None:
    record = requested()
    assert record.given_at is None
    assert not record.is_live(NOW)
    given = give(record, at=NOW + DAY)
    assert given.is_live(NOW + DAY)
    assert not given.is_live(NOW)
    assert given.expires_at == record.expires_at


def test_her_yes_is_no_earlier_than_that_she_was_asked() -> None:
    given = give(requested(), at=NOW - DAY)
    assert (given.given_at, given.changed_at) == (NOW, NOW)
    assert not given.is_live(NOW - DAY)


def test_a_request_has_no_moment_of_her_yes() -> None:
    with pytest.raises(ConsentInvalidError) as caught:
        requested(given_at=NOW)
    assert [problem.code for problem in caught.value.problems] == ["not-given-yet"]


def test_a_request_that_ran_out_cannot_be_given() -> None:
    with pytest.raises(ConsentTransitionError):
        give(requested(), at=NOW + 90 * DAY)


def test_expiry_is_exclusive_and_needs_nobody_to_write_it_down() -> None:
    record = recorded()
    assert record.is_live(record.expires_at - timedelta(microseconds=1))
    assert not record.is_live(record.expires_at)
    assert record.state is ConsentState.GIVEN
    assert record.state_at(record.expires_at) is ConsentState.EXPIRED


def test_expiry_is_not_written_down_early() -> None:
    record = recorded()
    with pytest.raises(ConsentTransitionError) as caught:
        expire(record, at=record.expires_at - timedelta(microseconds=1))
    assert caught.value.code == "not-ended-yet"


@pytest.mark.parametrize(
    ("at", "warned"),
    [
        pytest.param(NOW, False, id="fresh"),
        pytest.param(NOW + 76 * DAY - timedelta(seconds=1), False, id="just-before"),
        pytest.param(NOW + 76 * DAY, True, id="fourteen-days-before"),
        pytest.param(NOW + 90 * DAY - timedelta(seconds=1), True, id="last-second"),
        pytest.param(NOW + 90 * DAY, False, id="ended"),
    ],
)
def test_the_worker_is_warned_fourteen_days_before(at: datetime, warned: bool) -> None:
    assert warns(recorded(), at) is warned
    assert not warns(withdraw(recorded(), at=NOW), at)


@pytest.mark.parametrize(
    ("until", "at"),
    [
        pytest.param(NOW, NOW, id="ends-now"),
        pytest.param(NOW - DAY, NOW, id="ended-before"),
        pytest.param(NOW + timedelta(days=365, seconds=1), NOW, id="over-a-year"),
        pytest.param(NOW + 200 * DAY, NOW + 90 * DAY, id="at-its-end"),
        pytest.param(NOW + 200 * DAY, NOW + 91 * DAY, id="after-its-end"),
    ],
)
def test_a_renewal_is_refused(until: datetime, at: datetime) -> None:
    with pytest.raises(ConsentTransitionError):
        renew(recorded(), until=until, at=at)


def test_a_renewal_lasts_a_year_at_most() -> None:
    assert renew(recorded(), until=NOW + 366 * DAY, at=NOW + DAY).expires_at == NOW + 366 * DAY


def test_a_renewal_holds_until_its_own_end() -> None:
    renewed = renew(recorded(), until=NOW + 200 * DAY, at=NOW + 80 * DAY)
    assert renewed.is_live(NOW + 199 * DAY)
    assert not renewed.is_live(NOW + 200 * DAY)
    assert renewed.provisions == recorded().provisions


@pytest.mark.parametrize("form", list(WithdrawalForm))
def test_her_no_in_each_form(form: WithdrawalForm) -> None:
    record = withdraw(recorded(), at=NOW + DAY, form=form)
    assert record.withdrawal is form
    assert record.changed_at == NOW + DAY


def test_a_stronger_no_counts_and_a_weaker_changes_nothing() -> None:
    for weaker, stronger in pairwise(WithdrawalForm):
        said = withdraw(recorded(), at=NOW, form=weaker)
        assert withdraw(said, at=NOW, form=stronger).withdrawal is stronger
        again = withdraw(said, at=NOW, form=stronger)
        assert withdraw(again, at=NOW, form=weaker).withdrawal is stronger


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(in_state(ConsentState.EXPIRED), id="after-expiry"),
        pytest.param(in_state(ConsentState.REVOKED), id="after-somebody-else-ended-it"),
        pytest.param(in_state(ConsentState.INVALIDATED), id="after-it-was-found-invalid"),
        pytest.param(in_state(ConsentState.RENEWED), id="after-a-renewal"),
    ],
)
def test_her_no_is_always_accepted(record: ConsentRecord) -> None:
    assert withdraw(record, at=NOW + 400 * DAY, form=WithdrawalForm.ERASE).withdrawal is WithdrawalForm.ERASE


def test_her_no_is_accepted_when_a_clock_went_back() -> None:
    record = recorded()
    ended = withdraw(record, at=NOW - DAY)
    assert ended.state is ConsentState.WITHDRAWN
    assert ended.changed_at == record.changed_at


WIDE = Provision.model_validate(
    {
        "fields": ["legal_name"],
        "groups": ["need", "safety"],
        "agencies": ["harbour-shelter", "hill-shelter"],
        "kinds": ["shelter", "health"],
        "countries": ["MY", "PH"],
        "purposes": ["provide-safe-accommodation", "statistics"],
        "feedback": "status",
    }
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param({}, {"fields": ["legal_name", "date_of_birth"]}, id="a-field"),
        pytest.param({}, {"groups": ["need", "safety", "name"]}, id="a-group"),
        pytest.param({}, {"fields": ["safety_flags"]}, id="naming-a-field-of-a-group"),
        pytest.param({}, {"agencies": ["harbour-shelter", "new-shelter"]}, id="an-agency"),
        pytest.param({}, {"kinds": ["shelter", "legal-aid"]}, id="a-kind"),
        pytest.param({}, {"countries": ["MY", "PH", "TH"]}, id="a-country"),
        pytest.param({}, {"countries": []}, id="no-limit-of-countries"),
        pytest.param({}, {"kinds": [], "agencies": []}, id="any-agency-in-the-countries"),
        pytest.param({}, {"purposes": ["provide-repatriation"]}, id="a-purpose"),
        pytest.param({}, {"purposes": ["statistics", "provide-repatriation"]}, id="a-purpose-beside-one-she-gave"),
        pytest.param({}, {"feedback": "outcome"}, id="feedback"),
        pytest.param({"countries": []}, {"countries": ["PH"]}, id="across-a-border"),
        pytest.param({"kinds": []}, {"kinds": [], "agencies": []}, id="countries-that-meant-nothing"),
        pytest.param({"kinds": []}, {"kinds": ["shelter"]}, id="a-class-beside-named-agencies"),
        pytest.param({"agencies": []}, {"agencies": ["harbour-shelter"]}, id="naming-an-agency-of-a-kind"),
        # A contract may ask for a consent that names the field; the group did not name it.
        pytest.param({}, {"fields": ["needs"], "groups": []}, id="naming-a-field-of-a-group"),
    ],
)
def test_narrowing_never_adds(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = WIDE.model_dump() | old
    record = recorded(provisions=[before])
    with pytest.raises(ConsentTransitionError) as caught:
        narrow(record, [Provision.model_validate(before | new)], at=NOW)
    assert caught.value.code == "adds-something"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param({}, {}, id="nothing-changes"),
        pytest.param({}, {"groups": []}, id="no-groups"),
        pytest.param({}, {"agencies": ["hill-shelter"]}, id="one-agency-less"),
        pytest.param({}, {"kinds": [], "countries": []}, id="named-agencies-only"),
        pytest.param({}, {"agencies": [], "kinds": ["health"], "countries": ["MY"]}, id="one-kind-in-one-country"),
        pytest.param({}, {"purposes": ["statistics"]}, id="one-purpose"),
        pytest.param({}, {"feedback": "decision"}, id="less-feedback"),
        pytest.param(
            {"agencies": [], "kinds": []},
            {"agencies": [], "kinds": ["shelter"], "countries": ["PH"]},
            id="from-a-country-to-a-kind-in-it",
        ),
    ],
)
def test_narrowing_is_possible(old: dict[str, Any], new: dict[str, Any]) -> None:
    before = WIDE.model_dump() | old
    after = Provision.model_validate(before | new)
    record = narrow(recorded(provisions=[before]), [after], at=NOW)
    assert record.provisions == (after,)
    assert record.state is ConsentState.GIVEN


def test_one_of_two_lines_may_stay() -> None:
    other = SHELTER_LINE.model_copy(update={"agencies": frozenset({"hill-shelter"})})
    assert narrow(recorded(provisions=[other, SHELTER_LINE]), [SHELTER_LINE], at=NOW).provisions == (SHELTER_LINE,)


def test_one_line_that_adds_something_is_not_narrowing_beside_one_that_does_not() -> None:
    with pytest.raises(ConsentTransitionError) as caught:
        narrow(recorded(), [SHELTER_LINE, WIDE], at=NOW)
    assert caught.value.code == "adds-something"


def test_narrowing_to_nothing_is_a_withdrawal_and_says_so() -> None:
    with pytest.raises(ConsentInvalidError):
        narrow(recorded(), [], at=NOW)


def test_narrowing_needs_a_live_consent() -> None:
    with pytest.raises(ConsentTransitionError):
        narrow(recorded(), [SHELTER_LINE], at=NOW + 90 * DAY)
    with pytest.raises(ConsentTransitionError):
        narrow(withdraw(recorded(), at=NOW), [SHELTER_LINE], at=NOW)


def test_the_record_before_is_untouched() -> None:
    record = recorded()
    before = record.to_json_bytes()
    withdraw(record, at=NOW)
    renew(record, until=NOW + DAY, at=NOW)
    assert record.to_json_bytes() == before


def test_a_draft_cannot_pass_for_a_record_of_another_person() -> None:
    with pytest.raises(ValueError, match="subject"):
        record_consent(draft(), consent_id=CONSENT_ID, subject="Maria", at=NOW, statements=STATEMENTS)

"""Nobody contacts her in a way that she has not said is safe."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.vocabulary import Channel
from exchange.referral.contact_model import Weekday
from exchange.referral.contact_plan import SafeContact, advice, may_be_asked
from exchange.referral.values import AS_WRITTEN
from exchange.schemas.inbox import ContactAdvice

MONDAY = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)
"""10:30 on a Monday in Kuala Lumpur."""
PHONE = {"channel": "phone-call", "address": "+60 12 000 0000", "safe": True}
SMS = {"channel": "sms", "address": "+60 12 000 0000", "safe": True}
TRUSTED = {"name": "Example Neighbour", "channel": "phone-call", "address": "+60 12 000 0002"}


def window(weekday: str, start: str, end: str, zone: str = "Asia/Kuala_Lumpur") -> dict[str, str]:
    return {"weekday": weekday, "from": start, "to": end, "time_zone": zone}


MORNING = window("monday", "10:00", "11:00")


def plan(**changes: Any) -> SafeContact:
    members: dict[str, Any] = {
        "who_initiates": "agency",
        "channels": [PHONE],
        "safe_times": [MORNING],
        "last_confirmed_at": "2026-11-22T02:00:00Z",
        "say_if_other_answers": "Wrong number, sorry.",
        "code_word_safe": "mango",
        "code_word_danger": "rambutan",
    }
    return SafeContact.model_validate(members | changes)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_the_way_she_said_is_open() -> None:
    now = advice(plan(), Channel.PHONE_CALL, MONDAY)
    assert now.may_contact
    assert now.address == "+60 12 000 0000"
    assert now.say_if_other_answers == "Wrong number, sorry."
    assert (now.code_word_safe, now.code_word_danger) == ("mango", "rambutan")
    assert not now.agency_name_may_be_said


def test_printed_advice_says_nothing_about_her() -> None:
    printed = repr(advice(plan(), Channel.PHONE_CALL, MONDAY))
    for value in ("+60", "Wrong number", "mango", "rambutan"):
        assert value not in printed


REFUSED = [
    pytest.param({"who_initiates": "survivor"}, Channel.PHONE_CALL, MONDAY, "she-initiates", id="she-calls"),
    pytest.param({"who_initiates": "neither"}, Channel.PHONE_CALL, MONDAY, "nobody-initiates", id="nobody-calls"),
    pytest.param({"valid_until": "2026-11-23T02:30:00Z"}, Channel.PHONE_CALL, MONDAY, "plan-expired", id="expired-now"),
    pytest.param({"last_confirmed_at": "0001-01-01T00:00:00Z"}, Channel.PHONE_CALL, MONDAY, "plan-unconfirmed",
                 id="confirmed-on-the-first-day-of-the-calendar"),
    pytest.param({"last_confirmed_at": "9999-12-31T23:59:59Z"}, Channel.PHONE_CALL, MONDAY, "plan-unconfirmed",
                 id="confirmed-on-its-last-day"),
    pytest.param({"who_initiates": "survivor", "valid_until": "2026-11-01T00:00:00Z"}, Channel.PHONE_CALL, MONDAY,
                 "plan-expired", id="expired-beats-initiator"),
    pytest.param({"last_confirmed_at": "2026-11-20T02:30:00Z"}, Channel.PHONE_CALL, MONDAY, "plan-unconfirmed",
                 id="unconfirmed-for-72-hours"),
    pytest.param({"last_confirmed_at": "2026-11-23T02:33:00Z"}, Channel.PHONE_CALL, MONDAY, "plan-unconfirmed",
                 id="confirmed-in-the-future"),
    pytest.param({"last_confirmed_at": "2026-11-23T02:32:00.001Z"}, Channel.PHONE_CALL, MONDAY, "plan-unconfirmed",
                 id="ahead-by-more-than-clocks-differ"),
    pytest.param({}, Channel.WHATSAPP, MONDAY, "channel-not-listed", id="channel-she-did-not-name"),
    pytest.param({"channels": [PHONE | {"safe": False}]}, Channel.PHONE_CALL, MONDAY, "channel-unsafe", id="unsafe"),
    pytest.param({"channels": [PHONE | {"monitored": True}]}, Channel.PHONE_CALL, MONDAY, "channel-monitored",
                 id="monitored-beats-safe"),
    pytest.param({"channels": [PHONE | {"network": "employer"}]}, Channel.PHONE_CALL, MONDAY, "network-of-employer",
                 id="employers-network"),
    pytest.param({"channels": [PHONE | {"location_shared": True}]}, Channel.PHONE_CALL, MONDAY, "location-shared",
                 id="location-shared"),
    pytest.param({"channels": [SMS]}, Channel.SMS, MONDAY, "no-text", id="nothing-written"),
    pytest.param({"channels": [SMS], "trusted_contact": TRUSTED}, Channel.SMS, MONDAY, "no-text",
                 id="that-her-neighbour-is-called-allows-no-writing-to-her"),
    pytest.param({"channels": [SMS | {"shared_device": True}], "text_ok": True}, Channel.SMS, MONDAY, "shared-device",
                 id="messages-stay-on-a-shared-device"),
    pytest.param({"safe_times": []}, Channel.PHONE_CALL, MONDAY, "outside-safe-times", id="no-safe-time"),
    pytest.param({"unsafe_times": [window("monday", "10:15", "10:45")]}, Channel.PHONE_CALL, MONDAY, "unsafe-time",
                 id="unsafe-beats-safe"),
    pytest.param({"safe_times": [window("tuesday", "10:00", "11:00")]}, Channel.PHONE_CALL, MONDAY,
                 "outside-safe-times", id="another-day"),
    pytest.param({"safe_times": [window("monday", "10:00", "11:00", "Asia/Bangkok")]}, Channel.PHONE_CALL, MONDAY,
                 "outside-safe-times", id="another-clock"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "channel", "moment", "code"), REFUSED)
def test_do_not_contact(changes: dict[str, Any], channel: Channel, moment: datetime, code: str) -> None:
    now = advice(plan(**changes), channel, moment)
    assert (now.may_contact, now.code) == (False, code)
    assert now.address is None
    assert now.code_word_safe is None


@pytest.mark.parametrize("zone", ["localtime", "Factory", "posixrules", "Mars/Olympus", "asia/kuala_lumpur"])
@pytest.mark.parametrize("times", ["safe_times", "unsafe_times"])
def test_a_clock_that_is_another_at_each_server_is_no_clock(times: str, zone: str) -> None:
    with pytest.raises(ValidationError, match="unknown_time_zone"):
        plan(**{times: [window("monday", "10:00", "11:00", zone)]})


@pytest.mark.parametrize("times", ["safe_times", "unsafe_times"])
@pytest.mark.parametrize("more", [[], [MORNING]], ids=["alone", "beside-another"])
def test_a_plan_that_is_held_with_such_a_clock_has_no_safe_time(times: str, more: list[dict[str, str]]) -> None:
    held = {
        "who_initiates": "agency",
        "channels": [PHONE],
        "safe_times": [MORNING],
        "last_confirmed_at": "2026-11-22T02:00:00Z",
        times: [window("monday", "00:00", "24:00", "localtime"), *more],
    }
    read = SafeContact.model_validate_json(json.dumps(held), context=AS_WRITTEN)
    for hour in range(24):
        now = advice(read, Channel.PHONE_CALL, MONDAY.replace(hour=hour))
        assert (now.may_contact, now.code, now.next_window) == (False, "outside-safe-times", None)


PERMITTED = [
    pytest.param({"last_confirmed_at": "2026-11-23T02:32:00Z"}, id="confirmed-on-a-clock-that-is-ahead"),
    pytest.param({"last_confirmed_at": "2026-11-20T02:30:00.001Z"}, id="confirmed-just-within-72-hours"),
    pytest.param(
        {"trusted_contact": TRUSTED | {"channel": "sms"}}, id="that-her-neighbour-is-written-to-stops-no-call"
    ),
]


@pytest.mark.parametrize("channel", ["phone-call", "video-call", "in-person"])
def test_what_leaves_nothing_written_needs_no_word_on_writing(channel: str) -> None:
    way = PHONE | {"channel": channel, "shared_device": True}
    assert advice(plan(channels=[way]), Channel(channel), MONDAY).may_contact


@pytest.mark.parametrize("changes", PERMITTED)
def test_she_may_be_called(changes: dict[str, Any]) -> None:
    assert advice(plan(**changes), Channel.PHONE_CALL, MONDAY).may_contact


def test_a_second_number_that_is_safe_is_used() -> None:
    safe = PHONE | {"address": "+60 12 000 0001"}
    now = advice(plan(channels=[PHONE | {"monitored": True}, safe]), Channel.PHONE_CALL, MONDAY)
    assert now.address == "+60 12 000 0001"


def test_disappearing_messages_may_go_to_a_shared_device_where_writing_is_fine() -> None:
    way = {"channel": "signal", "safe": True, "shared_device": True, "disappearing": True}
    assert advice(plan(channels=[way], text_ok=True), Channel.SIGNAL, MONDAY).may_contact


def test_word_through_a_trusted_person_goes_to_that_person() -> None:
    way = {"channel": "via-trusted-person", "safe": True}
    now = advice(plan(channels=[way], trusted_contact=TRUSTED), Channel.VIA_TRUSTED_PERSON, MONDAY)
    assert now.address == "+60 12 000 0002"


@pytest.mark.parametrize(("text_ok", "code"), [(False, "no-text"), (True, "may-contact")])
def test_nothing_is_written_to_a_trusted_person_either_unless_writing_is_fine(text_ok: bool, code: str) -> None:
    trusted = TRUSTED | {"channel": "sms"}
    way = {"channel": "via-trusted-person", "safe": True}
    now = advice(plan(channels=[way], trusted_contact=trusted, text_ok=text_ok), Channel.VIA_TRUSTED_PERSON, MONDAY)
    assert (now.code, now.address is not None) == (code, text_ok)


NIGHT = window("monday", "22:00", "02:00")
TIMES = [
    pytest.param(NIGHT, "2026-11-23T21:59+08:00", False, id="before-midnight-window"),
    pytest.param(NIGHT, "2026-11-23T22:00+08:00", True, id="start-is-included"),
    pytest.param(NIGHT, "2026-11-24T00:00+08:00", True, id="midnight-belongs-to-mondays-window"),
    pytest.param(NIGHT, "2026-11-24T01:59+08:00", True, id="tuesday-morning-of-mondays-window"),
    pytest.param(NIGHT, "2026-11-24T02:00+08:00", False, id="end-is-not-included"),
    pytest.param(NIGHT, "2026-11-23T01:00+08:00", False, id="monday-morning-belongs-to-sunday"),
    pytest.param(window("monday", "20:00", "24:00"), "2026-11-23T23:59+08:00", True, id="until-the-end-of-the-day"),
    pytest.param(window("monday", "20:00", "24:00"), "2026-11-24T00:00+08:00", False, id="the-day-is-over"),
    pytest.param(window("sunday", "22:00", "06:00"), "2026-11-23T05:00+08:00", True, id="over-the-end-of-the-week"),
    # Kathmandu is 5:45 ahead of UTC, Yangon 6:30: an offset need not be whole hours.
    pytest.param(window("monday", "10:00", "10:30", "Asia/Kathmandu"), "2026-11-23T04:20Z", True, id="kathmandu"),
    pytest.param(window("monday", "10:00", "10:30", "Asia/Yangon"), "2026-11-23T03:20Z", False, id="yangon-too-early"),
    pytest.param(window("monday", "10:00", "10:30", "Asia/Yangon"), "2026-11-23T03:40Z", True, id="yangon"),
    # Sydney, 5 April 2026: at 03:00 the clock goes back to 02:00, so 02:30 happens twice.
    pytest.param(window("sunday", "02:15", "02:45", "Australia/Sydney"), "2026-04-04T15:30Z", False,
                 id="first-of-two-half-pasts"),
    pytest.param(window("sunday", "01:00", "04:00", "Australia/Sydney"), "2026-04-04T15:30Z", True,
                 id="a-window-around-the-change-back"),
    pytest.param(window("sunday", "01:00", "04:00", "Australia/Sydney"), "2026-04-04T16:30Z", True,
                 id="both-half-pasts-inside"),
    pytest.param(window("sunday", "02:30", "04:00", "Australia/Sydney"), "2026-04-04T16:15Z", False,
                 id="a-quarter-past-that-comes-after-half-past"),
    pytest.param(window("sunday", "02:30", "04:00", "Australia/Sydney"), "2026-04-04T16:35Z", True,
                 id="after-the-second-half-past"),
    # Sydney, 4 October 2026: at 02:00 the clock goes to 03:00, so 02:30 does not happen.
    pytest.param(window("sunday", "02:15", "02:45", "Australia/Sydney"), "2026-10-03T16:30Z", False,
                 id="a-window-that-does-not-happen"),
    pytest.param(window("sunday", "02:30", "04:00", "Australia/Sydney"), "2026-10-03T16:05Z", False,
                 id="start-that-does-not-happen"),
    pytest.param(window("sunday", "02:30", "04:00", "Australia/Sydney"), "2026-10-03T16:40Z", True,
                 id="inside-after-the-gap"),
]  # fmt: skip


@pytest.mark.parametrize(("safe", "moment", "open_now"), TIMES)
def test_safe_times(safe: dict[str, str], moment: str, open_now: bool) -> None:
    confirmed = at(moment) - timedelta(hours=1)
    now = advice(plan(safe_times=[safe], last_confirmed_at=confirmed), Channel.PHONE_CALL, at(moment))
    assert now.may_contact is open_now


def test_an_unsafe_hour_that_happens_twice_is_unsafe_twice() -> None:
    unsafe = window("sunday", "02:15", "02:45", "Australia/Sydney")
    all_day = window("sunday", "00:00", "24:00", "Australia/Sydney")
    for moment in (at("2026-04-04T15:30Z"), at("2026-04-04T16:30Z")):
        changes = {"safe_times": [all_day], "unsafe_times": [unsafe], "last_confirmed_at": moment}
        assert advice(plan(**changes), Channel.PHONE_CALL, moment).code == "unsafe-time"


NEXT = [
    pytest.param({}, "2026-11-23T01:00Z", "2026-11-23T02:00Z", "2026-11-23T03:00Z", id="later-today"),
    pytest.param({"unsafe_times": [window("monday", "09:00", "10:30")]}, "2026-11-23T01:30Z", "2026-11-23T02:30Z",
                 "2026-11-23T03:00Z", id="the-rest-after-an-unsafe-time"),
    pytest.param({"unsafe_times": [window("monday", "10:00", "11:00")]}, "2026-11-23T01:30Z", None, None,
                 id="all-of-it-unsafe-and-next-week-too-far"),
    pytest.param({}, "2026-11-23T03:00Z", None, None, id="next-week-is-after-the-confirmation"),
    pytest.param({"valid_until": "2026-11-23T02:45:00Z"}, "2026-11-23T01:00Z", "2026-11-23T02:00Z",
                 "2026-11-23T02:45Z", id="cut-off-where-the-plan-ends"),
    pytest.param({"valid_until": "2026-11-23T01:45:00Z"}, "2026-11-23T01:00Z", None, None, id="plan-ends-before"),
    pytest.param({"valid_until": "2026-11-23T02:00:00Z"}, "2026-11-23T01:00Z", None, None, id="plan-ends-as-it-opens"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "moment", "start", "end"), NEXT)
def test_the_next_window(changes: dict[str, Any], moment: str, start: str | None, end: str | None) -> None:
    found = advice(plan(**changes), Channel.PHONE_CALL, at(moment)).next_window
    assert (found and found.start) == (at(start) if start else None)
    assert (found and found.end) == (at(end) if end else None)


def test_no_next_window_where_waiting_does_not_help() -> None:
    assert advice(plan(who_initiates="survivor"), Channel.PHONE_CALL, MONDAY).next_window is None
    assert advice(plan(), Channel.SMS, MONDAY).next_window is None


INVALID = [
    pytest.param({"channels": []}, id="agency-without-a-channel"),
    pytest.param({"last_confirmed_at": None}, id="agency-without-a-confirmation"),
    pytest.param({"channels": [PHONE, PHONE | {"safe": False}]}, id="channel-twice"),
    pytest.param({"code_word_danger": "Mango"}, id="same-code-word"),
    pytest.param({"code_word_danger": "man\u200bgo"}, id="same-code-word-to-the-eye"),
    pytest.param({"code_word_danger": "man go"}, id="same-code-word-to-the-ear"),
    pytest.param({"code_word_danger": "\uff4dango"}, id="same-code-word-in-wide-letters"),
    pytest.param({"code_word_danger": "mango\ufe0f"}, id="same-code-word-with-a-variation-selector"),
    pytest.param({"code_word_danger": "man\u3164go"}, id="same-code-word-with-a-letter-that-is-not-seen"),
    pytest.param({"code_word_safe": "\u2600", "code_word_danger": "\u2600\ufe0f"}, id="same-sign"),
    pytest.param({"channels": [{"channel": "via-trusted-person", "safe": True}]}, id="no-trusted-person"),
    pytest.param({"safe_times": [window("monday", "10:00", "10:00")]}, id="empty-window"),
    pytest.param({"safe_times": [window("monday", "24:00", "10:00")]}, id="starts-at-24"),
    pytest.param({"safe_times": [window("monday", "9:00", "10:00")]}, id="one-digit-hour"),
    pytest.param({"safe_times": [window("monday", "10:00", "24:01")]}, id="after-the-end-of-the-day"),
    pytest.param({"safe_times": [window("Monday", "10:00", "11:00")]}, id="weekday-spelling"),
    pytest.param({"safe_times": [window("monday", "10:00", "11:00", "Malaysia")]}, id="no-such-zone"),
    pytest.param({"safe_times": [window("monday", "10:00", "11:00", "../etc/passwd")]}, id="a-path-as-zone"),
    pytest.param({"channels": [PHONE | {"safe": "yes"}]}, id="safe-as-text"),
    pytest.param({"channels": [{"channel": "phone-call"}]}, id="safe-not-said"),
    pytest.param({"last_confirmed_at": "2026-11-22 02:00"}, id="time-without-zone"),
]


@pytest.mark.parametrize("changes", INVALID)
def test_a_plan_that_cannot_be_followed_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        plan(**changes)


def test_signs_that_look_different_are_told_apart() -> None:
    assert plan(code_word_safe="\u2600\ufe0f", code_word_danger="\u2602\ufe0f").code_word_safe == "\u2600\ufe0f"


def test_she_needs_no_channel_to_call() -> None:
    assert SafeContact.model_validate({"who_initiates": "survivor"}).channels == ()


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(TypeError):
        advice(plan(), Channel.PHONE_CALL, MONDAY.replace(tzinfo=None))


CLOCKS = st.sampled_from([f"{hour:02}:{minute:02}" for hour in range(24) for minute in (0, 30)])
WINDOWS = st.builds(
    window,
    st.sampled_from([day.value for day in Weekday]),
    CLOCKS,
    CLOCKS,
    st.sampled_from(["Asia/Kuala_Lumpur", "Australia/Sydney", "Asia/Kathmandu", "Pacific/Apia"]),
).filter(lambda made: made["from"] != made["to"])
MOMENTS = st.datetimes(datetime(2026, 3, 28), datetime(2026, 4, 12), timezones=st.just(UTC))  # noqa: DTZ001


@settings(max_examples=60, deadline=None)
@given(st.lists(WINDOWS, max_size=4), st.lists(WINDOWS, max_size=3), WINDOWS, MOMENTS)
def test_one_more_unsafe_time_never_opens_anything(
    safe: list[dict[str, str]], unsafe: list[dict[str, str]], more: dict[str, str], moment: datetime
) -> None:
    before = advice(plan(safe_times=safe, unsafe_times=unsafe, last_confirmed_at=moment), Channel.PHONE_CALL, moment)
    stricter = plan(safe_times=safe, unsafe_times=[*unsafe, more], last_confirmed_at=moment)
    after = advice(stricter, Channel.PHONE_CALL, moment)
    assert before.may_contact or not after.may_contact


@settings(max_examples=60, deadline=None)
@given(st.lists(WINDOWS, max_size=4), st.lists(WINDOWS, max_size=3), MOMENTS)
def test_what_is_promised_for_later_holds_then(
    safe: list[dict[str, str]], unsafe: list[dict[str, str]], moment: datetime
) -> None:
    made = plan(safe_times=safe, unsafe_times=unsafe, last_confirmed_at=moment)
    found = advice(made, Channel.PHONE_CALL, moment).next_window
    if found is not None:
        start = max(found.start, moment)
        assert advice(made, Channel.PHONE_CALL, start).may_contact
        assert advice(made, Channel.PHONE_CALL, found.end - timedelta(seconds=1)).may_contact
        assert not advice(made, Channel.PHONE_CALL, found.end).may_contact


@settings(max_examples=60, deadline=None)
@given(st.lists(WINDOWS, min_size=1, max_size=3), MOMENTS)
def test_contact_only_where_a_clock_on_the_wall_says_so(safe: list[dict[str, str]], moment: datetime) -> None:
    made = plan(safe_times=safe, last_confirmed_at=moment)
    if advice(made, Channel.PHONE_CALL, moment).may_contact:
        assert any(on_the_wall(one.zone, one.weekday, one.from_, one.to, moment) for one in made.safe_times)


def on_the_wall(zone: Any, weekday: Weekday, start: str, end: str, moment: datetime) -> bool:
    local = moment.astimezone(zone)
    today, yesterday = (list(Weekday)[(local.weekday() - back) % 7] for back in (0, 1))
    clock = local.strftime("%H:%M")
    if start < end:
        return weekday is today and start <= clock < end
    return (weekday is today and clock >= start) or (weekday is yesterday and clock < end)


OTHER_NUMBER = PHONE | {"address": "+60 12 000 0001"}


def test_the_advice_that_an_agency_gets_names_the_number_and_how_to_use_it() -> None:
    """Of two numbers on one channel one may be the employer's: a yes for the channel alone would be a yes to both."""
    unsafe_first = plan(
        channels=[PHONE | {"network": "employer"}, OTHER_NUMBER],
        code_word_safe="paper",
        code_word_danger="lantern",
        dropped_call="wait",
        who_may_answer="only-her",
    )
    told = ContactAdvice.of(unsafe_first, Channel.PHONE_CALL, MONDAY)
    assert (told.may_contact, told.channel, told.address) == (True, Channel.PHONE_CALL, "+60 12 000 0001")
    assert (told.code_word_safe, told.code_word_danger) == ("paper", "lantern")
    assert (told.dropped_call, told.who_may_answer, told.delete_after) == ("wait", "only-her", True)
    assert told.say_if_other_answers == "Wrong number, sorry."
    assert not any(value in repr(told) + str(told) for value in ("+60", "paper", "lantern", "Wrong number"))


@pytest.mark.parametrize(
    ("channels", "changes", "expected"),
    [
        pytest.param([SMS, PHONE], {}, (True, "may-contact", Channel.PHONE_CALL), id="the-second-is-safe"),
        pytest.param([SMS, PHONE], {"safe_times": [window("tuesday", "10:00", "11:00")]},
                     (False, "outside-safe-times", Channel.PHONE_CALL), id="the-second-is-safe-tomorrow"),
        pytest.param([SMS, PHONE | {"monitored": True}], {}, (False, "no-text", Channel.SMS), id="none-is-safe"),
        pytest.param([], {"who_initiates": "survivor"}, (False, "she-initiates", Channel.PHONE_CALL), id="she-calls"),
    ],
)  # fmt: skip
def test_where_no_channel_is_named_any_that_may_be_used_counts(
    channels: list[dict[str, Any]], changes: dict[str, Any], expected: tuple[bool, str, Channel]
) -> None:
    told = ContactAdvice.of(plan(channels=channels, **changes), None, MONDAY)
    assert (told.may_contact, told.code, told.channel) == expected
    assert (told.address is not None) is told.may_contact


@pytest.mark.parametrize("zone", ["Asia/Kuala_Lumpur", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("moment", ["1970-01-01T00:00:00Z", "9998-12-31T23:59:59.999999Z"])
def test_advice_is_given_about_every_moment_that_may_be_asked(moment: str, zone: str) -> None:
    days = [window(day.value, "00:00", "24:00", zone) for day in Weekday]
    asked = at(moment)
    assert may_be_asked(asked)
    said = ContactAdvice.of(plan(last_confirmed_at=moment, safe_times=days, unsafe_times=[MORNING]), None, asked)
    assert said.code in {"may-contact", "unsafe-time"}


@pytest.mark.parametrize("moment", [datetime.min.replace(tzinfo=UTC), at("1969-12-31T23:59:59.999999Z"),
                                    at("9999-01-01T00:00:00Z"), datetime.max.replace(tzinfo=UTC),
                                    at("0001-01-01T00:00:00+14:00"), at("9999-12-31T23:59:59-14:00")])  # fmt: skip
def test_about_the_ends_of_the_calendar_nothing_may_be_asked(moment: datetime) -> None:
    assert not may_be_asked(moment)

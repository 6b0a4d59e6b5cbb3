"""May she be contacted, on this channel, at this moment? When in doubt: no.

Rules, in this order. The first that applies answers.

1. A plan that is past `valid_until` allows nothing.
2. Where she initiates, or nobody does, nobody contacts her.
3. A plan that she has not confirmed within the last 72 hours allows nothing; nor does one confirmed in the future.
4. A channel that is not listed, or that she did not call safe, is not used. Neither is one that is monitored, runs over
   an employer's network, or gives away where she is: unsafe beats safe.
5. Nothing is written unless she said that writing is fine, not to the person she trusts either; on a shared device only
   where messages delete themselves.
6. In an unsafe time: no. Outside a safe time: no. Where she named no safe time there is none; nor is there where one of
   the windows is on a clock that is another at each server.
7. Otherwise yes, and the advice says how: caller id, agency name, voicemail, code words, what to say to others.

`next_window` is the next time at which rules 1, 3 and 6 allow a contact: it never lies after the plan has ended or its
confirmation has run out. It is absent where waiting does not help.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from contracts.vocabulary import Channel
from exchange.limits import LIMITS
from exchange.referral.contact_model import (
    CallerId,
    ContactChannel,
    DroppedCall,
    Initiator,
    MayAnswer,
    Network,
    SafeContact,
    TrustedContact,
    Voicemail,
)
from exchange.referral.contact_windows import Stretch, contact_stretches, is_within

__all__ = ["Advice", "SafeContact", "advice"]

FRESH_FOR: Final = timedelta(milliseconds=LIMITS.contact_plan_fresh_ms)
_SKEW: Final = timedelta(milliseconds=LIMITS.skew_ms)
_FIRST_ASKED: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_LONGER_ASKED: Final = datetime(9999, 1, 1, tzinfo=UTC)
_WITHOUT_TRACE: Final = frozenset(
    {Channel.PHONE_CALL, Channel.VIDEO_CALL, Channel.IN_PERSON, Channel.VIA_TRUSTED_PERSON}
)
"""Channels on which nothing written stays behind."""

_SENTENCES: Final[dict[str, str]] = {
    "may-contact": "She may be contacted now, in the way that is written here.",
    "plan-expired": "The contact plan has ended. Do not contact her; wait for her, or ask the referring agency.",
    "she-initiates": "She calls, nobody calls her. Do not contact her; be ready for her.",
    "nobody-initiates": "Nobody contacts her. Wait for her to come.",
    "plan-unconfirmed": "She has not confirmed this plan for 72 hours. Do not contact her; ask the referring agency.",
    "channel-not-listed": "She did not name this channel. Do not use it.",
    "channel-unsafe": "She said that this channel is not safe. Do not use it.",
    "channel-monitored": "Somebody reads or listens along on this channel. Do not use it.",
    "network-of-employer": "Her device is on her employer's network. Do not use this channel.",
    "location-shared": "This channel gives away where she is. Do not use it.",
    "no-text": "Nothing in writing. Use a channel on which nothing stays behind.",
    "shared-device": "Somebody else uses the same device, and messages would stay on it. Do not write.",
    "unsafe-time": "This is a time at which she must not be contacted.",
    "outside-safe-times": "This is not a time that she called safe.",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """May she be contacted, why or why not, how, and when next. Printing it shows nothing about her."""

    may_contact: bool
    code: str
    sentence: str
    channel: Channel
    next_window: Stretch | None = None
    address: str | None = field(default=None, repr=False)
    trusted_name: str | None = field(default=None, repr=False)
    trusted_channel: Channel | None = None
    who_may_answer: MayAnswer | None = None
    say_if_other_answers: str | None = field(default=None, repr=False)
    voicemail: Voicemail | None = None
    caller_id: CallerId | None = None
    agency_name_may_be_said: bool = False
    code_word_safe: str | None = field(default=None, repr=False)
    code_word_danger: str | None = field(default=None, repr=False)
    dropped_call: DroppedCall | None = None
    delete_after: bool = True


def may_be_asked(at: datetime) -> bool:
    """Whether advice can be given about this moment: for windows the calendar is read some days around it."""
    return _FIRST_ASKED <= at < _NO_LONGER_ASKED


def advice(plan: SafeContact, channel: Channel, at: datetime) -> Advice:
    """What the plan says about contacting her on this channel at this moment.

    Raises:
        TypeError: if `at` has no time zone.
    """
    code = _plan_forbids(plan, at)
    if code is not None:
        return _no(code, channel)
    ways = [way for way in plan.channels if way.channel is channel]
    usable = [way for way in ways if _way_forbids(plan, way) is None]
    if not usable:
        return _no(_way_forbids(plan, ways[0]) or "channel-unsafe" if ways else "channel-not-listed", channel)
    if not plan.has_known_clocks():
        return _no("outside-safe-times", channel)
    window = _next_window(plan, at)
    if window is not None and window.start <= at:
        return _yes(plan, usable[0], window)
    unsafe = is_within(plan.unsafe_times, at, wide=True)
    return _no("unsafe-time" if unsafe else "outside-safe-times", channel, window)


def _plan_forbids(plan: SafeContact, at: datetime) -> str | None:
    if plan.valid_until is not None and at >= plan.valid_until:
        return "plan-expired"
    if plan.who_initiates is Initiator.SURVIVOR:
        return "she-initiates"
    if plan.who_initiates is Initiator.NEITHER:
        return "nobody-initiates"
    confirmed = plan.last_confirmed_at
    # The difference of two moments always exists; a moment a little earlier may lie before the calendar begins.
    if confirmed is None or not -_SKEW <= at - confirmed < FRESH_FOR:
        return "plan-unconfirmed"
    return None


def _way_forbids(plan: SafeContact, way: ContactChannel) -> str | None:
    trusted = _trusted(plan, way)
    written = (way.channel if trusted is None else trusted.channel) not in _WITHOUT_TRACE
    reasons = (
        (not way.safe, "channel-unsafe"),
        (way.monitored, "channel-monitored"),
        (way.network is Network.EMPLOYER, "network-of-employer"),
        (way.location_shared, "location-shared"),
        (written and not plan.text_ok, "no-text"),
        (written and way.shared_device and not way.disappearing, "shared-device"),
    )
    return next((code for applies, code in reasons if applies), None)


def _trusted(plan: SafeContact, way: ContactChannel) -> TrustedContact | None:
    """Who hears it instead of her; somebody whom she trusts changes nothing on any other channel."""
    return plan.trusted_contact if way.channel is Channel.VIA_TRUSTED_PERSON else None


def _next_window(plan: SafeContact, at: datetime) -> Stretch | None:
    """The stretch that is open now or the next one, cut off where the plan itself stops allowing anything."""
    ends = [end for end in (plan.valid_until, plan.last_confirmed_at and plan.last_confirmed_at + FRESH_FOR) if end]
    for stretch in contact_stretches(plan.safe_times, plan.unsafe_times, at):
        cut = Stretch(stretch.start, min([stretch.end, *ends]))
        if cut.start < cut.end:
            return cut
    return None


def _yes(plan: SafeContact, way: ContactChannel, window: Stretch) -> Advice:
    trusted = _trusted(plan, way)
    return Advice(
        may_contact=True,
        code="may-contact",
        sentence=_SENTENCES["may-contact"],
        channel=way.channel,
        next_window=window,
        address=trusted.address if trusted is not None else way.address,
        trusted_name=trusted.name if trusted is not None else None,
        trusted_channel=trusted.channel if trusted is not None else None,
        who_may_answer=plan.who_may_answer,
        say_if_other_answers=plan.say_if_other_answers,
        voicemail=plan.voicemail,
        caller_id=plan.caller_id,
        agency_name_may_be_said=plan.agency_name_may_be_said,
        code_word_safe=plan.code_word_safe,
        code_word_danger=plan.code_word_danger,
        dropped_call=plan.dropped_call,
        delete_after=plan.delete_after,
    )


def _no(code: str, channel: Channel, window: Stretch | None = None) -> Advice:
    return Advice(may_contact=False, code=code, sentence=_SENTENCES[code], channel=channel, next_window=window)

"""The safe-contact plan as it is written down: what she said about reaching her.

Rules:

* `survivor` initiates needs no channel: she calls, and nobody calls her.
* Where the agency initiates, the plan says by which channels and when she last confirmed them.
* The two code words of a new plan differ by what is heard, and no channel is listed twice with two different answers.
* A clock is the same wherever it is read. `localtime`, which earlier versions allowed, is each machine's own.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Final, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, ConfigDict, StringConstraints, ValidationInfo, model_validator
from pydantic import Field as Described
from pydantic_core import PydanticCustomError

from consent.terms import Moment
from contracts.vocabulary import Channel
from contracts.vocabulary.term import Term
from exchange.referral.canonical import SealedModel
from exchange.referral.values import AS_WRITTEN, Name, ShortText, Text, Yes, as_heard

MAX_CHANNELS: Final = 15
MAX_WINDOWS: Final = 28


class Initiator(Term):
    """Who starts a conversation."""

    SURVIVOR = "survivor"
    AGENCY = "agency"
    NEITHER = "neither"


class Network(Term):
    """Whose network her device is on."""

    OWN = "own"
    PUBLIC = "public"
    EMPLOYER = "employer"


class Weekday(Term):
    """The day on which a window begins."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"


class MayAnswer(Term):
    """Who else may pick up."""

    ONLY_HER = "only-her"
    TRUSTED_PERSON = "trusted-person"
    ANYONE = "anyone"


class Voicemail(Term):
    """Whether a message may be left."""

    NEVER = "never"
    VAGUE = "vague"
    OK = "ok"


class CallerId(Term):
    """Whether the caller's number may be seen."""

    HIDE = "hide"
    SHOW = "show"


class DroppedCall(Term):
    """What to do when a call breaks off."""

    CALL_BACK = "call-back"
    WAIT = "wait"


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    # Not what lies on this machine: its `localtime`, and what its owner added, would be another zone on the next one.
    listed = files("tzdata").joinpath("zones").read_text(encoding="ascii")
    return frozenset(listed.split()) - {"Factory"}


def _zone(name: str, info: ValidationInfo) -> str:
    if info.context is not AS_WRITTEN and name not in _zones():
        raise PydanticCustomError("unknown_time_zone", "must be a time zone such as Asia/Kuala_Lumpur")
    return name


Clock = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
ClockEnd = Annotated[str, StringConstraints(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]
Zone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone)]
CodeWord = Annotated[str, Text(40)]


class Window(SealedModel):
    """A time of the week, on the clock of the place where she is. An end before the start is on the next day."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    weekday: Weekday
    from_: Clock = Described(alias="from", description="Start, included.", examples=["22:00"])
    to: ClockEnd = Described(description="End, not included; `24:00` is the end of the day.", examples=["23:30"])
    time_zone: Zone = Described(
        description="IANA time zone of the clock; never `localtime`.", examples=["Asia/Kuala_Lumpur"]
    )

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        if self.from_ == self.to:
            raise PydanticCustomError("empty_window", "a window must end at another time than it starts")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone itself."""
        return ZoneInfo(self.time_zone)


class ContactChannel(SealedModel):
    """One way to reach her, and what makes it dangerous."""

    channel: Channel
    address: ShortText | None = Described(
        default=None, description="Number, account or place.", examples=["+60 12 000 0000"]
    )
    safe: Yes = Described(description="Whether she said that this channel is safe.")
    monitored: Yes = Described(default=False, description="Somebody reads or listens along.")
    shared_device: Yes = Described(default=False, description="Somebody else uses the same device.")
    network: Network = Described(default=Network.OWN, description="Whose network the device is on.")
    location_shared: Yes = Described(default=False, description="The channel gives away where she is.")
    disappearing: Yes = Described(default=False, description="Messages delete themselves.")


class TrustedContact(SealedModel):
    """Somebody she trusts to pass a word on."""

    name: Name = Described(examples=["Example Neighbour"])
    channel: Channel
    address: ShortText


class SafeContact(SealedModel):
    """How, when and by whom she may be contacted. Nobody contacts her in a way that she has not said is safe."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"who_initiates": "survivor"}]})

    who_initiates: Initiator = Described(description="`survivor`: she calls; nobody calls her.")
    channels: Annotated[tuple[ContactChannel, ...], Described(max_length=MAX_CHANNELS)] = ()
    safe_times: Annotated[tuple[Window, ...], Described(max_length=MAX_WINDOWS)] = Described(
        default=(), description="When she may be contacted. Any other time is not safe."
    )
    unsafe_times: Annotated[tuple[Window, ...], Described(max_length=MAX_WINDOWS)] = Described(
        default=(), description="When she must not be contacted, whatever `safe_times` says."
    )
    who_may_answer: MayAnswer = MayAnswer.ONLY_HER
    say_if_other_answers: ShortText | None = Described(
        default=None, description="What to say if somebody else answers.", examples=["Wrong number, sorry."]
    )
    voicemail: Voicemail = Voicemail.NEVER
    text_ok: Yes = Described(default=False, description="Whether anything may be sent in writing.")
    caller_id: CallerId = CallerId.HIDE
    agency_name_may_be_said: Yes = False
    code_word_safe: CodeWord | None = Described(default=None, description="She says it when it is safe to talk.")
    code_word_danger: CodeWord | None = Described(default=None, description="She says it when she is in danger.")
    dropped_call: DroppedCall = DroppedCall.WAIT
    trusted_contact: TrustedContact | None = None
    delete_after: Yes = Described(default=True, description="Whether traces of the contact have to be deleted.")
    device_checked_at: Moment | None = Described(default=None, description="When her device was last checked.")
    last_confirmed_at: Moment | None = Described(
        default=None, description="When she last said that this plan holds. After 72 hours: do not contact."
    )
    valid_until: Moment | None = Described(default=None, description="From this moment on: do not contact.")

    @model_validator(mode="after")
    def _agrees_with_itself(self, info: ValidationInfo) -> Self:
        if self.who_initiates is Initiator.AGENCY and not (self.channels and self.last_confirmed_at):
            raise PydanticCustomError(
                "no_way_to_reach", "where the agency initiates, the plan needs a channel and when she confirmed it"
            )
        ways = [(way.channel, way.address) for way in self.channels]
        if len(set(ways)) != len(ways):
            raise PydanticCustomError("named_twice", "must not list the same channel and address twice")
        told_apart_by = str.casefold if info.context is AS_WRITTEN else as_heard
        words = {told_apart_by(word or "") for word in (self.code_word_safe, self.code_word_danger)}
        if self.code_word_safe is not None and len(words) == 1:
            raise PydanticCustomError("same_code_word", "the word for safe and the word for danger must differ")
        if any(way.channel is Channel.VIA_TRUSTED_PERSON for way in self.channels) and self.trusted_contact is None:
            raise PydanticCustomError("no_trusted_contact", "a channel by a trusted person needs that person")
        return self

    def has_known_clocks(self) -> bool:
        """Whether each window is on a clock that is the same wherever it is read: of what is handed in, each is."""
        return all(window.time_zone in _zones() for window in (*self.safe_times, *self.unsafe_times))

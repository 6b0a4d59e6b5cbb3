"""What the receiving side says and hears: list, lease, open, acknowledge, decide, report, attest."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from contracts.vocabulary import (
    Channel,
    DeclineReason,
    FailReason,
    Feedback,
    Outcome,
    Priority,
    Purpose,
    Sector,
    ServiceType,
)
from contracts.vocabulary import Field as ReferralField
from exchange.envelope.kinds import Kind
from exchange.limits import LIMITS
from exchange.referral.contact_plan import Advice, SafeContact, advice
from exchange.referral.content import ReferralContent
from exchange.referral.lifecycle import State
from exchange.schemas.referrals import Drill, ReferralView
from exchange.schemas.shapes import AgencyId, Digest, HexId, Strict, Timestamp, from_millis, to_millis


class InboxItem(Strict):
    """One envelope that arrived, without its content."""

    id: HexId
    cursor: str
    """Its place in the list by arrival."""
    referral: HexId
    sender: AgencyId
    kind: Kind
    """About her: `offer`, `disclosure`, `information`, `update`. Answers: `decision`, `progress`,
    `information-request`, `recall-answer`. Stops: `recall`, `withdrawal`, `erasure-receipt`, `refusal`,
    `entered-in-error`. The others are for later versions and do not arrive yet."""
    event: str | None = None
    """Of an answer or a stop: what it says, in one word. Absent with every other kind.
    `decision`: `accepted`, `waitlisted`, `declined`, `redirected`. `progress`: `scheduled`, `not-reached`,
    `not-arrived`, `in-service`, `completed`, `failed`. `information-request`: `information-requested`.
    `recall-answer`: `recalled`, `in-service`, `completed`, `failed`. `withdrawal`: `stop-sharing`, `stop-service`,
    `erase`. `erasure-receipt`: `erased-by-node`, `erased-by-agency`. `refusal`: `cannot-unwrap`,
    `commitment-mismatch`, `cannot-decrypt`, `cannot-open`, `bad-padding`, `content-invalid`, `groups-mismatch`,
    `over-shared`, `other`."""
    purpose: Purpose | None = None
    sector: Sector
    priority: Priority | None = None
    """Of an offer. Absent too, as `purpose` is, where the node cannot read the item: it is destroyed, or damaged
    (`sealed-row` when it is opened). A damaged offer may be an emergency: telephone its sender."""
    state: State
    """The state of the referral, as both nodes compute it."""
    status: Literal["new", "acknowledged", "destroyed"]
    """Whether your system has taken it over, and whether its content still exists."""
    received_at: Timestamp
    respond_by: Timestamp | None = None
    exercise: Drill = None
    """The offer of its referral said that it is a drill: nobody in it is real, whatever else came. Absent where it did
    not, or where only your own software can read the offer: the vault sets it in what it has opened."""
    leased_until: Timestamp | None = None


class InboxPage(Strict):
    """Items after a cursor, oldest first; or, with `order=urgent`, new offers, the first to be answered on top."""

    items: tuple[InboxItem, ...]
    """The items."""
    next_cursor: str | None = None
    """Where to go on. With `order=urgent` absent where nothing is behind this page."""


class LeaseRequest(Strict):
    """Take an item for a while, so that two pollers never both handle it."""

    seconds: int = Field(default=LIMITS.lease_default_s, ge=LIMITS.lease_shortest_s, le=LIMITS.lease_longest_s)
    """For how long."""


class Lease(Strict):
    """The item is yours until then. Send the token with the acknowledgement."""

    token: str
    """Send it with the acknowledgement."""
    until: Timestamp


class AcknowledgementRequest(Strict):
    """Taken over into the agency's own system."""

    lease: str | None = Field(default=None, pattern=r"^[!-~]{1,128}$")
    """The lease token, where the item is leased."""


class OpenRequest(Strict):
    """Open many items at once; one audit event each."""

    ids: tuple[HexId, ...] = Field(min_length=1, max_length=50)
    """The items to open."""


class OpenedItem(Strict):
    """Verified content. Opening it is on record under the actor's id."""

    item: InboxItem
    client_code: str | None = None
    """The random code under which the sender knows her for this receiver."""
    content: ReferralContent | None = None
    """For offers, disclosures, information and updates."""
    answer: dict[str, Any] | None = Field(default=None, repr=False)
    """For answers, what the receiving agency says. `decision`: `decision`, with `reason`, `arrival` or
    `suggested_service` where it has one. `progress`: `state`, with `outcome` or `fail_reason`. `information-request`:
    `fields`. `recall-answer`: `agreed`. The terms are those of the requests with which an agency says it."""
    digest: Digest
    consent_checked_at: Timestamp | None = None
    """Of a forward: when the sender's node last said that her consent is live.
    Absent where your own software opened it."""
    verified: bool = True
    """Signature, contract, consent and content were checked."""


WithheldCode = Literal["consent-not-fresh", "consent-ended"]


class WithheldItem(Strict):
    """An item that is not opened now."""

    id: HexId
    code: WithheldCode
    """`consent-not-fresh`: the sender's node has not said for 72 hours that her consent is live; telephone the sender.
    `consent-ended`: it said that it is not."""


class OpenedItems(Strict):
    """One entry for every id that exists and may be seen, in the order asked."""

    items: tuple[OpenedItem, ...]
    """What was opened."""
    missing: tuple[HexId, ...] = ()
    """Ids under which there is nothing that may be seen, or nothing any more."""
    withheld: tuple[WithheldItem, ...] = ()
    """Ids of items that exist and are not opened now, with the reason."""


class ContactAdvice(Strict):
    """May she be contacted now, on this channel, and how. When in doubt: no."""

    may_contact: bool
    """No means: nobody contacts her now, on this channel."""
    code: str
    """Stable code of the reason, for programs."""
    sentence: str
    """The advice in plain English."""
    channel: Channel | None = None
    """Which channel this is about. Where you named none: the first of hers that may be used now;
    where there is none of hers to speak of, `phone-call`, which `may_contact` then forbids."""
    address: str | None = Field(default=None, repr=False)
    """The number, account or place to use, and no other of the same channel: she may have called another one unsafe."""
    trusted_name: str | None = Field(default=None, repr=False)
    """With `via-trusted-person`: who that is. The address is that person's."""
    trusted_channel: Channel | None = None
    """With `via-trusted-person`: how that person is reached, and in no other way."""
    at: Timestamp
    next_window_from: datetime | None = None
    """When the next safe time starts, if the plan names one."""
    next_window_to: datetime | None = None
    """When it ends."""
    say_if_other_answers: str | None = Field(default=None, repr=False)
    """What to say if somebody else answers."""
    agency_name_may_be_said: bool = False
    """Whether the agency's name may be said to whoever answers."""
    voicemail: str | None = None
    """Whether a message may be left: `never`, `vague` or `ok`."""
    caller_id: str | None = None
    """Whether the caller's number may be seen: `hide` or `show`."""
    who_may_answer: str | None = None
    """Who else may pick up: `only-her`, `trusted-person` or `anyone`."""
    code_word_safe: str | None = Field(default=None, repr=False)
    """She says it when it is safe to talk."""
    code_word_danger: str | None = Field(default=None, repr=False)
    """She says it when she is in danger."""
    dropped_call: str | None = None
    """What to do when a call breaks off: `call-back` or `wait`."""
    delete_after: bool = True
    """Whether traces of the contact have to be deleted."""
    exercise: Drill = None
    """The plan is a drill's: nobody in it is real."""

    @classmethod
    def of(cls, plan: SafeContact, channel: Channel | None, at: datetime, *, exercise: Drill = None) -> Self:
        """What a plan says about this moment; where no channel is named, about the first that may be used."""
        said = advice(plan, channel, at) if channel is not None else _any_channel(plan, at)
        window = said.next_window
        return cls(
            may_contact=said.may_contact,
            code=said.code,
            sentence=said.sentence,
            channel=said.channel,
            address=said.address,
            trusted_name=said.trusted_name,
            trusted_channel=said.trusted_channel,
            at=from_millis(to_millis(at)),
            next_window_from=window.start if window is not None else None,
            next_window_to=window.end if window is not None else None,
            say_if_other_answers=said.say_if_other_answers,
            agency_name_may_be_said=said.agency_name_may_be_said,
            voicemail=said.voicemail,
            caller_id=said.caller_id,
            who_may_answer=said.who_may_answer,
            code_word_safe=said.code_word_safe,
            code_word_danger=said.code_word_danger,
            dropped_call=said.dropped_call,
            delete_after=said.delete_after,
            exercise=exercise,
        )


def _any_channel(plan: SafeContact, at: datetime) -> Advice:
    """The first channel of hers that may be used now; else the first that may be later; else the first, and why not."""
    said = [advice(plan, way, at) for way in dict.fromkeys(one.channel for one in plan.channels)]
    said = said or [advice(plan, Channel.PHONE_CALL, at)]
    usable = (one for one in said if one.may_contact)
    later = (one for one in said if one.next_window is not None)
    return next(usable, None) or next(later, said[0])


class DecisionRequest(Strict):
    """The receiving agency's word on an offer. The same again is 200; another is 409."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"decision": "accepted"}]})

    decision: Literal["accepted", "declined", "waitlisted", "redirected", "information-requested"]
    """What the agency decides."""
    reason: DeclineReason | None = None
    """With `declined`. Two of the reasons stay here and travel as `other`."""
    suggested_service: ServiceType | None = None
    """With `redirected`."""
    fields: tuple[ReferralField, ...] = ()
    """With `information-requested`: which fields; there is no free text."""


class ProgressRequest(Strict):
    """How the service goes; how much of it travels is the rule's and her consent's to say."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"state": "completed", "outcome": "service-provided"}]})

    state: Literal["scheduled", "not-reached", "not-arrived", "in-service", "completed", "failed"]
    """How it goes."""
    outcome: Outcome | None = None
    """With `completed`."""
    fail_reason: FailReason | None = None
    """With `failed`."""


class RecallAnswerRequest(Strict):
    """The receiver is already serving her: does it stop?"""

    agreed: bool
    """Whether the service ends."""


class RefusalRequest(Strict):
    """The agency's own software could not open or verify an item."""

    code: Literal[
        "cannot-open",
        "cannot-unwrap",
        "commitment-mismatch",
        "cannot-decrypt",
        "bad-padding",
        "content-invalid",
        "groups-mismatch",
        "over-shared",
    ]
    """What is wrong with it: the step of the verification that failed, or `cannot-open` for any other reason."""


class OpeningRequest(Strict):
    """The agency's own software has verified an item, and has stored its key durably in its own key store."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"digest": "0b" * 32, "feedback": "status"}]})

    digest: Digest
    """Of the envelope that was opened: no other is meant."""
    feedback: Feedback | None = None
    """With an offer: how much may be told back, as it stands inside."""


class ErasureAttestationRequest(Strict):
    """The agency's system says that its own copies are destroyed."""

    copies_destroyed: Literal[True]
    """True, and nothing else, can be attested."""


StaysHere = Literal["feedback-level", "sharing-stopped"]


class ReferralAct(Strict):
    """The referral after an act of the receiving side."""

    referral: ReferralView
    repeated: bool = False
    """The same act was on record already; nothing new was sent."""
    stays_here: StaysHere | None = None
    """Of progress that the other agency does not hear of, and why: her consent and the rule let only the decision be
    told, or she stopped sharing. Absent where it is told. What the other agency has to know for her safety is not known
    there: people have to see to it."""

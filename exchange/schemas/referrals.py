"""What the referring side says and hears: preview, send, follow, release, recall, her no."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from contracts.vocabulary import Field as ReferralField
from contracts.vocabulary import Priority, ReleaseMode, Sector, ServiceType, Stage, WithdrawalForm
from exchange.referral.contact_plan import SafeContact
from exchange.referral.content import ReferralContent
from exchange.referral.lifecycle import State
from exchange.schemas.shapes import AgencyId, HexId, Strict, Timestamp

Drill = Literal[True] | None
"""There for a drill, and absent otherwise: whoever does not know takes her for real."""

SMALLEST_REFERRAL: Final[JsonDict] = {
    "to": "rose-house-shelter",
    "consent": "5d2f0c1ab94e4c7f8a6e1b3d9c7f0a21",
    "service_type": "safe-accommodation",
    "priority": "urgent",
    "content": {
        "needs": ["tonight", "women-only"],
        "age_band": "25-49",
        "language": "id",
        "arrival_words": "paper lantern",
        "safe_contact": {"who_initiates": "survivor"},
    },
}
"""Synthetic: a woman without a name or a phone. Nine values in all."""


class ReferralRequest(Strict):
    """One agency asks another to provide one service to one person."""

    model_config = ConfigDict(json_schema_extra={"examples": [SMALLEST_REFERRAL]})

    to: AgencyId
    """The agency that is asked."""
    consent: HexId
    """The consent record under which her data may move."""
    service_type: ServiceType
    priority: Priority = Priority.ROUTINE
    """An open care window makes any referral an emergency."""
    content: ReferralContent
    """Everything the sender would like to say; the gate decides what may go, and when."""
    exercise: bool = Field(default=False, strict=True)
    """A drill: marked as such everywhere, never a real person."""


class FieldDecision(Strict):
    """What the gate decided about one field, and why."""

    field: ReferralField
    outcome: Literal["allowed", "withheld", "forbidden"]
    """`withheld`: it stays here. `forbidden`: the contract says never."""
    stage: Stage | None = None
    """`offer`: goes with the request. `disclosure` and `named`: held until the receiver accepts."""
    rule: str | None = None
    """The rule of the contract that decided."""
    consent_line: int | None = None
    """The provision of her consent that allows it, counted from 0."""
    code: str
    """Stable code of the reason, for programs."""
    sentence: str
    """The reason in plain English."""


class ToldFirst(Strict):
    """What she should hear about the receiver before she agrees."""

    reports_to: tuple[str, ...] = ()
    """To whom this receiver must report, and what."""
    freedom_of_movement: str | None = None
    """Whether she can leave when she wants."""
    requires_documents: bool = False
    """Whether she is asked for papers."""


class ReferralPreview(Strict):
    """What would happen, field by field. Nothing was stored and nothing was sent."""

    allowed: bool
    """Whether the referral as a whole would go."""
    code: str
    """`allowed`, or the reason for which the referral as a whole would be refused."""
    sentence: str
    """The reason in plain English."""
    fields: tuple[FieldDecision, ...]
    """Every field of the request, with what would be decided."""
    priority: Priority
    respond_within_seconds: int | None = None
    """The time the receiver would have to answer."""
    release: ReleaseMode | None = None
    told_first: ToldFirst | None = None
    exercise: Drill = None
    """It would be marked as a drill, by the request or because this node marks all: nobody would come for her."""


class ReferralCreated(Strict):
    """The referral is stored, sealed and queued: it survives whatever happens to this node's process."""

    id: HexId
    client_code: str
    """The random code under which this receiver, and only this one, knows her."""
    state: State
    to: AgencyId
    priority: Priority
    respond_by: Timestamp
    expires_at: Timestamp
    disclosure_held: bool
    """Whether name and contact are sealed and wait for the receiver's acceptance."""
    release: ReleaseMode
    withheld: tuple[FieldDecision, ...]
    """Every field that will not go, and why."""
    call_now: bool
    """An emergency: telephone the receiver's duty contact now; nothing waits for software."""
    duty_contact: str
    """The receiver's duty contact, an agency's line, never a worker's own."""
    told_first: ToldFirst
    exercise: Drill = None
    """It is marked as a drill, by the request or because this node marks all: nobody comes for her."""


class ReferralFlags(Strict):
    """Local facts that are not part of the state both nodes share."""

    queued: bool = False
    """The offer waits to be delivered. Of what follows it this says nothing: that goes by itself, however long the
    other node is away. Whether her no has arrived stands in `stops`."""
    delivered: bool = False
    """The receiver's node signed for the offer."""
    overdue: bool = False
    """The time to answer has passed without an answer."""
    undeliverable: bool = False
    """What was sent last will not be read as it is: the other node was not reached in time, it or its agency's software
    refused what came, or it was destroyed here before it left (`what` of the change says which). Her no and other stops
    are not lost by that, and go on waiting; it is said when one has waited for two hours. Telephone."""
    disclosed: bool = False
    """Name and contact have gone to the receiver."""
    sharing_stopped: bool = False
    """She said no to further sharing."""
    awaiting_disclosure: bool = False
    """The held disclosure is gone: confirm with her, then `PUT …/disclosure`."""
    awaiting_confirmation: bool = False
    """Accepted; a worker has to confirm the release: `POST …/release`."""
    destroyed: bool = False
    """What was sealed is destroyed here. Software that holds keys of its own destroys them now."""
    receiver_unserved: bool = False
    """It waits because the receiver has accepted many and served none of them yet. Telephone the receiver before you
    confirm; when it serves one of them, this one goes by itself."""
    resend: bool = False
    """The receiver lost its data: send this referral again as a new one."""


class Attestation(Strict):
    """Who has said, signed, that the referral was destroyed."""

    party: Literal["own-node", "own-agency", "peer-node", "peer-agency"]
    """Who owes the statement: node or agency, of this side or the other."""
    owed_since: Timestamp
    done_at: Timestamp | None = None
    """When the statement was made here, or arrived here. Absent: it is still owed."""


class StopSent(Strict):
    """Her no, a recall or an entry in error, on its way to the other node."""

    kind: Literal["withdrawal", "recall", "entered-in-error"]
    """Her no in any of its forms; the sender takes the referral back; it was made by mistake."""
    made_at: Timestamp
    delivered_at: Timestamp | None = None
    """When the other node signed for it. Absent: nobody there knows of it yet. It goes again until it is signed for; do
    not wait for it where it matters now: telephone."""


class ReferralView(Strict):
    """State and flags; never content, which the referring node cannot read."""

    id: HexId
    side: Literal["referring", "receiving"]
    """Whether this agency asked or was asked."""
    peer: AgencyId
    sector: Sector
    state: State
    flags: ReferralFlags
    created_at: Timestamp
    updated_at: Timestamp
    respond_by: Timestamp
    contract: str
    """Digest of the contract that governs this referral, to its end."""
    number: int = 0
    """The highest number that this side has used: for software that seals itself, which has to go higher."""
    exercise: Drill = None
    """It is a drill: nobody in it is real. Absent where it is none, or where only your own software can know."""
    seen: int = 0
    """The other side's highest number that was processed: the most that such software may say it has seen."""
    attestations: tuple[Attestation, ...] = ()
    """After `erase`: who owes a signed word, and who has given it."""
    stops: tuple[StopSent, ...] | None = None
    """What was sent to stop it, oldest first: in the answer to her no, and where one referral is read. Absent
    elsewhere."""
    consent_until: Timestamp | None = None
    """When the consent ends under which you made it: nothing new is told after that. Where one open referral is read,
    by the side that made it. From 14 days before, the list of changes says `consent-ends-soon`, once."""


class OpenReferrals(Strict):
    """What is open under a consent."""

    items: tuple[ReferralView, ...]
    """Every referral that was made under it, that has not ended, and that you may see; the oldest first."""


class ReferralChange(Strict):
    """One change of one referral of this agency."""

    cursor: str
    """Its place in the list."""
    what: str
    """What happened, in one word. What to do stands in `referral`, in its state and flags: decide by those, since a
    later version may have more words. By this agency: `sent`, `information`, `update`, `disclosure-replaced`,
    `plan-changed`, `disclosed`, `recalled`, `entered-in-error`, `stop-sharing`, `stop-service`, `erase`. By the
    receiver: `information-requested`, `accepted`, `waitlisted`, `declined`, `redirected`, `scheduled`, `not-reached`,
    `not-arrived`, `in-service`, `completed`, `failed`, and like this agency `recalled`, `entered-in-error` and her no;
    of its stops the word is the `event` of the item in the inbox, such as `erased-by-node` or `cannot-open`. On the
    way: `delivered`, `stop-delivered`, `stop-undelivered` (a stop has waited for two hours, and goes on waiting),
    `undelivered`, `overdue`, `expired`, `resend`, `consent-ends-soon`. A disclosure that waits:
    `awaiting-confirmation`, `receiver-unserved`, `awaiting-disclosure`; `not-told-first`, where the roster says
    something else now of whom the receiver reports to, whether she can leave or whether it asks for papers: tell her,
    then send a fresh one, which is refused before this was said; `untold`, where the receiver may not tell that it
    serves, and this name counts no longer among those that it has not served. After the kind of what did not
    arrive, such as `offer-barred`: `…-expired` (it could not leave in time), `…-barred` (it may no longer go, and
    was destroyed before it left), `…-refused` (the other node refused it)."""
    at: Timestamp
    referral: ReferralView


class ReferralChanges(Strict):
    """Changes after a cursor, oldest first. The cursor never skips a change that was committed late."""

    items: tuple[ReferralChange, ...]
    """The changes."""
    next_cursor: str
    """Where to go on."""


class ReleaseAnswer(Strict):
    """Whether the held disclosure went, and if not, why."""

    released: bool
    """Whether it went."""
    code: str
    """Stable code of the reason, for programs."""
    sentence: str
    """The reason in plain English."""
    referral: ReferralView


class DisclosureRequest(Strict):
    """A fresh disclosure, after the plan was confirmed with her again."""

    content: ReferralContent


class InformationRequest(Strict):
    """The fields that the receiver asked for, as far as she agrees."""

    content: ReferralContent


class SafeContactRequest(Strict):
    """Her safe-contact plan changed."""

    safe_contact: SafeContact


class ForwardAnswer(Strict):
    """What the gate decided about fields that were sent after the offer."""

    referral: ReferralView
    fields: tuple[FieldDecision, ...]
    """Every field of the request, with what was decided."""


class WithdrawalRequest(Strict):
    """Her no. Exactly one of `referral` and `consent`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"referral": "9f4e2a60c1d84b6e8a1b0c5d7e3f2a94", "form": "erase"}]}
    )

    referral: HexId | None = None
    consent: HexId | None = None
    """Every referral under this consent, and every later use of it."""
    form: WithdrawalForm
    """`stop-sharing`: nothing further flows. `stop-service`: and the receiver ends its work. `erase`: and what it holds
    is destroyed."""


class WithdrawalAnswer(Strict):
    """Her no is stored and on its way; it will be delivered however long the other node is away."""

    form: WithdrawalForm
    referrals: tuple[ReferralView, ...]
    """Every referral that it reaches and that you may see: it reaches those of other branches too."""
    unreadable: tuple[HexId, ...] | None = None
    """Referrals under this consent of which a row cannot be read at this node, so that it cannot say that they are
    stopped. Her consent has ended, and nothing more is told of them: telephone whoever has them."""
    destroyed_at: Timestamp | None = None
    """When this node destroyed, or will destroy, what it holds."""

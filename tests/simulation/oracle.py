"""Who judges a history: it reads what left a node and what a node answered, and compares with what was agreed.

It uses nothing of the code under test. Every observation has a tick; what was asked between two ticks may have taken
effect at any of them, so a consent that was being changed counts in both versions until the change was answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from simulation import opened
from simulation.federations import FIELDS, Agency, Cast, Changed
from simulation.opened import ANSWERS, FORWARDS, Opened
from simulation.permit import LEVELS, ROUTING, Allowed, is_only_plan, permitted, told_back
from simulation.undelivered import Standing, Undelivered

from exchange.schemas.federation import BatchAnswer

FOREVER: Final = 1 << 60
_ENDS_SERVICE: Final = frozenset({"stop-service", "erase"})
_ENDS_SHARING: Final = _ENDS_SERVICE | {"stop-sharing", "recalled", "entered-in-error"}
_STOPPED_BY: Final = {"recall": "recalled", "entered-in-error": "entered-in-error"}
_SERVED: Final = frozenset({"in-service", "completed"})
_ENDS: Final = frozenset({"declined", "redirected", "completed", "failed"})
"""What a receiver says and nothing of its own follows."""
_STAYS_AT_HOME: Final = frozenset({"duplicate", "conflict-of-interest"})


PROMISES: Final = ("lost", "doubled", "disagreement", "leaked", "kept", "refused", "waits", "failed")


class ViolationError(Exception):
    """A promise was broken: `lost`, `doubled`, `disagreement`, `leaked`, `kept` (not destroyed), `refused` (without a
    reason that counts), `waits` (and nobody has to act), or `failed`.
    """

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise
        self.what = what


@dataclass(slots=True, eq=False)
class Version:
    """One version of a consent, and between which ticks it may have been the one that counts."""

    allowed: Allowed
    begins: int
    ends: int = FOREVER
    sure: bool = False
    """Whether the node has answered that it holds."""


@dataclass(slots=True)
class Try:
    """One call: between which ticks it ran, and the node's clock."""

    begins: int
    at: int
    ends: int = FOREVER


@dataclass(slots=True, eq=False)
class HandIn:
    """One request to tell somebody something; made again where nobody answered."""

    kind: str
    sender: str
    receiver: str
    consent: str
    fields: dict[str, Any]
    emergency: bool = False
    referral: str | None = None
    tries: list[Try] = field(default_factory=list)
    withheld: frozenset[str] | None = None
    """What of it stays here, as the node has answered it; nothing where nobody was answered."""


@dataclass(slots=True)
class Oracle:
    """The memory of one history."""

    cast: Cast
    private_half: Callable[[str, str], bytes]
    """(agency, key id): the week's key, so that the oracle can open what was sealed to it."""
    tick: int = 0
    step_begins: int = 0
    """The tick at which the step that runs now began."""
    consents: dict[tuple[str, str], list[Version]] = field(default_factory=lambda: defaultdict(list))
    hand_ins: list[HandIn] = field(default_factory=list)
    clocks: dict[str, list[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(list))
    """By agency: (first tick, last tick, what its clock said)."""
    seen: dict[str, Opened] = field(default_factory=dict)
    """Everything that ever left a node, by envelope id."""
    receipts: dict[tuple[str, str], str] = field(default_factory=dict)
    """By receiver and envelope."""
    arrived: dict[tuple[str, str], list[Opened]] = field(default_factory=lambda: defaultdict(list))
    """By receiver and referral: what it has signed for, in order."""
    stopped: dict[tuple[str, str], dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By agency and referral: her no and other stops, as soon as the agency's node has acknowledged them."""
    ended: dict[tuple[str, str], int] = field(default_factory=dict)
    """By agency and referral: since when its node has signed for an answer by which what it has made is over."""
    rosters: dict[str, list[tuple[int, Changed]]] = field(default_factory=lambda: defaultdict(lambda: [(0, ())]))
    """By agency: since which tick it goes by a roster in which these are not what they were."""
    deaths: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By agency: the ticks at which its process was found dead."""
    confirmed: dict[str, int] = field(default_factory=dict)
    """Referral: since when a worker has asked for its release."""
    leaving: tuple[int, int, int] = (0, 0, 0)
    """First tick, last tick and clock of the step in which a batch leaves, so far."""
    judged: int = 0
    blind: frozenset[str] = frozenset()
    """Agencies whose node holds no agency key."""
    undelivered: Undelivered = field(init=False)

    def __post_init__(self) -> None:
        self.undelivered = Undelivered(self.cast)

    def passes(self) -> int:
        """The next tick."""
        self.tick += 1
        return self.tick

    # What left.

    def leaves(
        self, sender: str, receiver: str, body: bytes, standing: Standing, exchanged_with: Callable[[str], set[str]]
    ) -> None:
        """A batch leaves its sender, whose clock and roster say this.

        Who has a roster of before may post to whoever has exchanged addresses with whom it means.
        """
        now = self.passes()
        self.leaving = (self.step_begins, now, standing.at)
        self.goes_by(sender, standing.others.changed)
        for envelope in opened.batch(body):
            # Who has the roster of before knows the old address: whoever is there now says that it is not for it.
            meant = envelope.header["to"]
            if envelope.header["from"] != sender or receiver not in {meant, *exchanged_with(meant)}:
                raise ViolationError("leaked", "an envelope is on its way to somebody else than it is for")
            self._check_not_stopped(sender, envelope, now)
            self._check_not_ended(sender, envelope, now)
            known = self.seen.get(envelope.id)
            if known is not None:
                if known.digest != envelope.digest:
                    raise ViolationError("doubled", f"{envelope.kind} has another content under the same id")
                continue
            self.seen[envelope.id] = envelope
            self.undelivered.leaves(envelope)
            self.judged += 1
            if envelope.kind in FORWARDS:
                self._check_forward(envelope)
            elif envelope.kind in ANSWERS:
                self._check_answer(envelope)

    def _check_not_stopped(self, sender: str, envelope: Opened, now: int) -> None:
        for name, since in self.stopped.get((sender, envelope.referral), {}).items():
            if name == "recalled" and self._in_service(sender, envelope.referral):
                continue  # the receiver is asked, and until it answers the service goes on
            forward = envelope.kind in FORWARDS
            if since < now and (forward or (name in _ENDS_SERVICE and envelope.kind in ANSWERS)):
                raise ViolationError("leaked", f"{envelope.kind} leaves {sender} after `{name}` was acknowledged there")

    def _check_not_ended(self, sender: str, envelope: Opened, now: int) -> None:
        """A receiver that refuses it has its bytes, and the week's key, all the same."""
        if envelope.kind in FORWARDS and self.ended.get((sender, envelope.referral), now) < now:
            raise ViolationError("leaked", f"{envelope.kind} leaves {sender} after the referral's end was stored there")

    def _in_service(self, sender: str, referral: str) -> bool:
        return any(one.header.get("event") in _SERVED for one in self.arrived[sender, referral])

    def _check_forward(self, envelope: Opened) -> None:
        header = envelope.header
        body = opened.inside(envelope, self.private_half(header["to"], header["epoch_key"]))
        content = body["content"]
        fields = frozenset(content) - ROUTING
        mine = [one for one in self.hand_ins if self._may_be(one, envelope)]
        if not mine:
            raise ViolationError("leaked", f"nobody asked for this {envelope.kind}")
        if not any(self._covered(one, envelope, fields, content) for one in mine):
            raise ViolationError("leaked", f"{envelope.kind} holds more than was permitted: {sorted(fields)}")
        if not any(self._still_covered(one, envelope, fields) for one in mine):
            raise ViolationError("leaked", f"{envelope.kind} leaves after she took something back: {sorted(fields)}")
        self._check_groups(envelope, content)
        self._check_not_avoided(envelope)
        if envelope.kind == "disclosure":
            self._check_released(envelope, mine)
        elif header["stage"] == "disclosure":
            self._check_follows_a_release(envelope)

    def _check_not_avoided(self, envelope: Opened) -> None:
        """She said whose authorities she avoids when she was referred, and it counts for as long as anything leaves."""
        for one in self.hand_ins:
            avoided = one.fields.get("avoid_own_authorities")
            if (one.kind, one.referral) != ("offer", envelope.referral) or avoided is None:
                continue
            if all(
                pair[1].authority_of == avoided["country"] for pair in self._pairs(one, self.step_begins, self.tick)
            ):
                raise ViolationError("leaked", f"{envelope.kind} leaves for an authority that she avoids")

    def _check_follows_a_release(self, envelope: Opened) -> None:
        """What tells more than an offer has no conditions of its own: a release has left before it."""
        before = (one for one in self.seen.values() if one.referral == envelope.referral)
        if not any(one.kind == "disclosure" for one in before):
            raise ViolationError("leaked", f"{envelope.kind} leaves, and no release has")

    def _may_be(self, one: HandIn, envelope: Opened) -> bool:
        header = envelope.header
        if (one.sender, one.receiver) != (header["from"], header["to"]):
            return False
        if one.referral not in {None, envelope.referral}:
            return False
        kinds = {"offer", "disclosure"} if one.kind == "offer" else {one.kind}
        return envelope.kind in kinds

    def goes_by(self, agency: str, changed: Changed) -> None:
        """From now on a machine has a roster in which these are not what they were."""
        if self.rosters[agency][-1][1] != changed:
            self.rosters[agency].append((self.tick, changed))

    def _pairs(self, one: HandIn, begins: int, ends: int) -> list[tuple[Agency, Agency]]:
        """Sender and receiver, by every roster that counted at the sender between two ticks."""
        known = self.rosters[one.sender]
        before = [changed for since, changed in known if since <= begins][-1:]
        later = [changed for since, changed in known if begins < since <= ends]
        return [(self.cast.agency(one.sender, each), self.cast.agency(one.receiver, each)) for each in before + later]

    def _covered(self, one: HandIn, envelope: Opened, fields: frozenset[str], content: dict[str, Any]) -> bool:
        agreement = self.cast.agreement(envelope.header["contract"])
        if not all(same(content[name], one.fields.get(name)) for name in fields):
            return False
        # What may be told before a yes may be told after it, where a release finds other parties than the seal did.
        stages = dict.fromkeys(("offer", envelope.header["stage"]) if envelope.release else (envelope.header["stage"],))
        plan = is_only_plan(envelope.kind, fields)
        return any(
            fields
            <= frozenset[str]().union(
                *(permitted(agreement, *pair, allowed, stage=stage, at=at, only_plan=plan) for stage in stages)
            )
            for allowed, at, pairs in self._consents(one, envelope)
            for pair in pairs
        )

    def _still_covered(self, one: HandIn, envelope: Opened, fields: frozenset[str]) -> bool:
        """Whether a version that may count while it leaves allows what is inside, however long its time is over.

        What may be told before a yes may be told after it: who they are now may ask less of a field than it did then.
        """
        agreement = self.cast.agreement(envelope.header["contract"])
        stages = dict.fromkeys(("offer", envelope.header["stage"]))
        pair = self._pairs(one, self.tick, self.tick)[-1]
        if envelope.kind == "disclosure" and not self._told_so(one, pair[1]):
            return False
        at_first = partial(permitted, agreement, *pair, only_plan=is_only_plan(envelope.kind, fields))
        return any(
            fields <= frozenset[str]().union(*(at_first(allowed, stage=stage, at=allowed.given_at) for stage in stages))
            for allowed in (
                version.allowed
                for version in self.consents[one.sender, one.consent]
                if version.ends >= self.step_begins
            )
        )

    def _told_so(self, one: HandIn, receiver: Agency) -> bool:
        """Whether she may have been told of the receiver what the roster says of it now, before it was sealed."""
        return receiver.told in [pair[1].told for pair in self._asked_between(one)]

    def _consents(self, one: HandIn, envelope: Opened) -> Iterator[tuple[Allowed, int, list[tuple[Agency, Agency]]]]:
        """Every version that counted when this was handed in; for a disclosure, when it was released."""
        spans = [(call.begins, call.ends, call.at) for call in one.tries]
        if envelope.release is not None:
            released = envelope.release["released_at"]
            spans = [span for span in [*self.clocks[one.sender], self.leaving] if span[2] == released]
        for begins, ends, at in spans:
            pairs = self._pairs(one, begins, ends)
            for version in self.consents[one.sender, one.consent]:
                if version.begins <= ends and begins <= version.ends:
                    yield version.allowed, at, pairs

    def _check_groups(self, envelope: Opened, content: dict[str, Any]) -> None:
        groups = sorted({"routing" if name in ROUTING else FIELDS[name].group for name in content})
        header = envelope.header
        if header["groups"] != groups or header["receipt"]["groups"] != groups:
            raise ViolationError("leaked", "the header names other groups than are inside")
        if header["receipt"]["recipient"] != header["to"] or header["receipt"]["purpose"] != header["purpose"]:
            raise ViolationError("leaked", "the receipt is for somebody or something else")

    def _check_released(self, envelope: Opened, mine: list[HandIn]) -> None:
        header, release = envelope.header, envelope.release
        if release is None:
            raise ViolationError("leaked", "a disclosure leaves without its release")
        # What has left its maker may have arrived, also where the process died that would have answered.
        accepted = {
            one.digest
            for one in self.seen.values()
            if one.header["to"] == header["from"]
            and one.referral == envelope.referral
            and one.header.get("event") == "accepted"
        }
        if release["accepting"] not in accepted or release["disclosure"] != envelope.digest:
            raise ViolationError("leaked", "a disclosure is released without an acceptance")
        agreement = self.cast.agreement(header["contract"])
        rules = [agreement.rule(*pair) for one in mine for pair in self._asked_between(one)]
        by_itself = any(rule is not None and rule["release"] != "confirm" for rule in rules)
        asks = not by_itself and not any(one.emergency for one in mine)
        if asks and envelope.referral not in self.confirmed:
            raise ViolationError("leaked", "a disclosure is released although no worker confirmed it")

    def _asked_between(self, one: HandIn) -> list[tuple[Agency, Agency]]:
        """Sender and receiver, as they may have been when it was handed in."""
        return [pair for call in one.tries for pair in self._pairs(one, call.begins, call.ends)]

    def _check_answer(self, envelope: Opened) -> None:
        header = envelope.header
        content = opened.inside(envelope, self.private_half(header["to"], header["epoch_key"]))
        if content.get("reason") in _STAYS_AT_HOME:
            raise ViolationError("leaked", "a reason that stays at home leaves")
        if envelope.kind != "progress":
            return
        since = self.stopped.get((header["from"], envelope.referral), {}).get("stop-sharing")
        stopped = since is not None and not self._was_leaving(header, since)
        level = max((self._level(one, header["contract"]) for one in self._offers(envelope.referral)), default=0)
        over = content["state"] in {"completed", "failed"}
        as_sealed = since is not None and self._cannot_seal(header, since) and self._made_by(header, since)
        if set(content) - {"state"} and (level < LEVELS.index("outcome") or (stopped and not as_sealed)):
            raise ViolationError("leaked", "progress tells how it ended")
        # An envelope of the same event left before her no, and may have arrived: taken back, two states would differ.
        may_be_known = len(self.undelivered.sealed[envelope.referral, header["number"]]) > 1
        if not over and (level == 0 or (stopped and not may_be_known)):
            raise ViolationError("leaked", "progress tells more than the feedback level allows")

    def _cannot_seal(self, header: dict[str, Any], since: int) -> bool:
        """Whether what waited then leaves as it was sealed before her no (`exchange.use_cases.answers_that_wait`).

        So it does at a node without its agency's keys, and where no key of the other agency may be known, because the
        roster lists another agency key for it, or does not list it.
        """
        before = [one for seen, one in self.undelivered.standings[header["from"]] if seen <= since]
        return header["from"] in self.blind or any(
            (header["to"], "agency") in one.replaced or one.others.unlisted == header["to"] for one in before
        )

    def _was_leaving(self, header: dict[str, Any], since: int) -> bool:
        """Whether what was said before her no, and leaves for the first time now, was already about to leave then.

        A courier that has written down that something leaves lets it leave in the same step, unless its process dies.
        """
        made = self._made_by(header, since)
        return bool(made) and (
            since > self.step_begins or any(died >= min(made) for died in self.deaths[header["from"]])
        )

    def _made_by(self, header: dict[str, Any], since: int) -> list[int]:
        """The steps, not after this tick, in which it may have been made."""
        spans = [*self.clocks[header["from"]], self.leaving]
        return [begins for begins, _, at in spans if at == header["created"] and begins <= since]

    def _offers(self, referral: str) -> list[HandIn]:
        return [one for one in self.hand_ins if one.kind == "offer" and one.referral in {None, referral}]

    def _level(self, one: HandIn, contract: str) -> int:
        agreement = self.cast.agreement(contract)
        versions = self.consents[one.sender, one.consent]
        pairs = self._asked_between(one)
        levels = [LEVELS.index(told_back(agreement, *pair, version.allowed)) for version in versions for pair in pairs]
        return max(levels, default=0)

    # What was answered.

    def answered(self, receiver: str, body: bytes, answer: BatchAnswer, standing: Standing) -> None:
        """A node has answered a batch: what it accepted it has, from now on, for ever."""
        now = self.passes()
        for envelope, given in zip(opened.batch(body), answer.answers, strict=True):
            if given.result == "refused":
                code = given.problem.code if given.problem is not None else ""
                if not self.undelivered.refusal(
                    receiver, envelope, code, standing, lambda envelope=envelope: self._fields(envelope)
                ):
                    raise ViolationError("lost", f"{receiver} refused {envelope.kind} as `{code}`")
            if given.result != "accepted":
                continue
            key = (receiver, envelope.id)
            known = self.receipts.setdefault(key, str(given.receipt))
            if known != given.receipt and (
                (receiver, "node") not in standing.replaced
                or opened.statement(known) != opened.statement(str(given.receipt))
            ):
                raise ViolationError("doubled", f"a repeated {envelope.kind} was answered with another receipt")
            if envelope.id not in {one.id for one in self.arrived[receiver, envelope.referral]}:
                self.arrived[receiver, envelope.referral].append(envelope)
            if self._is_over(receiver, envelope.referral):
                self.ended.setdefault((receiver, envelope.referral), now)
            stop = _STOPPED_BY.get(envelope.kind) or envelope.header.get("event")
            if envelope.kind in {"withdrawal", *_STOPPED_BY}:
                self.stops(receiver, envelope.referral, str(stop), now)

    def _is_over(self, agency: str, referral: str) -> bool:
        """Whether what this agency has signed for says that a referral it made has ended.

        One whose first decision is late goes on until it expires; one that was recalled, where the recall itself does
        not end it, until the receiver agrees. Her no and other stops count by themselves (`stopped`).
        """
        answers = [one for one in self.arrived[agency, referral] if one.kind in ANSWERS]
        if "recalled" in self.stopped.get((agency, referral), {}):
            return any(one.header.get("event") == "recalled" for one in answers)
        answer_by = self.undelivered.answer_by.get(referral, 0)
        counts = any(one.kind in {"decision", "progress"} and one.header["created"] <= answer_by for one in answers)
        return counts and any(one.header.get("event") in _ENDS for one in answers)

    def _fields(self, envelope: Opened) -> frozenset[str]:
        """What a forward says about her."""
        body = opened.inside(envelope, self.private_half(envelope.header["to"], envelope.header["epoch_key"]))
        return frozenset(body["content"]) - ROUTING

    def stops(self, agency: str, referral: str, name: str, since: int) -> None:
        """An agency's node has acknowledged her no, or another end."""
        if name in _ENDS_SHARING:
            self.stopped[agency, referral].setdefault(name, since)

    def consent_is(self, agency: str, consent: str, allowed: Allowed, begins: int, *, sure: bool) -> Version:
        """From `begins` on this version may count; once it is sure the one before counts no more."""
        versions = self.consents[agency, consent]
        version = Version(allowed, begins)
        versions.append(version)
        if sure:
            self.consent_sure(agency, consent, version)
        return version

    def consent_sure(self, agency: str, consent: str, version: Version) -> None:
        """The node has answered: what counted before ends now."""
        version.sure = True
        for other in self.consents[agency, consent]:
            if other is version:
                break
            other.ends = min(other.ends, self.tick)

    def consent_was_refused(self, agency: str, consent: str, version: Version) -> None:
        """Nothing changed."""
        self.consents[agency, consent].remove(version)


def same(said: Any, asked: Any) -> bool:
    """Whether a value is what was asked for; an object may have gained what stands for nothing said."""
    if isinstance(said, dict) and isinstance(asked, dict):
        return all(same(said.get(name), value) for name, value in asked.items() if name != "last_confirmed_at")
    if isinstance(said, list) and isinstance(asked, list):
        return len(said) == len(asked) and all(same(one, other) for one, other in zip(said, asked, strict=True))
    return bool(said == asked)

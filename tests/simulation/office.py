"""The workers of the agencies: they ask their own node for things, at random, and remember what it answered.

Whatever a node answers with success is remembered and has to be true from then on. A call whose process died was not
answered; one with an idempotency key is made again with the same key until it is.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from simulation import wishes
from simulation.federations import Cast
from simulation.machines import Machine
from simulation.officers import Officers
from simulation.oracle import HandIn, Oracle, Try, Version, ViolationError
from simulation.permit import Allowed
from simulation.reached import Reached
from simulation.refused import Promise

from contracts.vocabulary import WithdrawalForm
from exchange.schemas.consents import ConsentRequest, ProvisionsRequest, RenewalRequest
from exchange.schemas.referrals import (
    DisclosureRequest,
    ForwardAnswer,
    InformationRequest,
    ReferralRequest,
    SafeContactRequest,
    WithdrawalRequest,
)
from exchange.schemas.shapes import to_millis, written
from exchange.storage.errors import StorageUnavailableError
from exchange.use_cases.acting import Acting
from exchange.use_cases.declare_error import declare_error
from exchange.use_cases.errors import GoneError, UseCaseError
from exchange.use_cases.idempotency import Idempotency, Stored
from exchange.use_cases.node import Node
from exchange.use_cases.recall_referral import recall_referral
from exchange.use_cases.record_consent import narrow_consent, record_consent, renew_consent
from exchange.use_cases.release_disclosure import release_disclosure
from exchange.use_cases.replace_disclosure import replace_disclosure
from exchange.use_cases.send_information import send_information, update_safe_contact
from exchange.use_cases.send_referral import send_referral
from exchange.use_cases.withdraw import withdraw

if TYPE_CHECKING:
    from simulation.blind import BlindOffice

ACTING: Final = Acting("system", "w-1")
DAY: Final = 86_400_000
_WAITS_FOR_A_WORKER: Final = frozenset({"receiver-unserved", "awaiting-confirmation"})
LEEWAY: Final = 600_000
"""Clocks of one machine jump by less between two looks at them."""


@dataclass(slots=True, eq=False)
class Consent:
    """A consent that a node has recorded."""

    id: str
    agency: str
    version: int
    withdrawn: bool = False


@dataclass(slots=True, eq=False)
class Case:
    """One referral, as the workers of both sides know it."""

    id: str
    sender: str
    receiver: str
    consent: Consent
    person: int
    made: tuple[int, int] = (0, 0)
    """Tick and clock when its first request began."""
    said: dict[str, list[str]] = field(default_factory=dict)
    """By agency: events and acts that its node has acknowledged."""
    since: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """By agency and event: tick and clock before it was first asked for."""

    last: Callable[[], Awaitable[None]] | None = None
    """Says the receiver's last word again."""
    last_word: str = ""
    again: int | None = None
    """The tick since which the receiver's last word, and what it counts by, have been said again, as it was told to."""

    def remember(self, agency: str, what: str) -> None:
        """The node has answered that this is done."""
        self.said.setdefault(agency, []).append(what)


@dataclass(slots=True, eq=False)
class Pending:
    """A call with an idempotency key: made again until it is answered, and sometimes afterwards."""

    agency: str
    what: str
    call: Callable[[], Awaitable[None]]
    answer: bytes | None = None
    """What was answered first."""
    first_at: int = 0
    """When it was made first, by the node's clock."""
    done: bool = False
    given_up: bool = False
    """Never answered: not in the day for which a node keeps a key, or not before its referral was destroyed."""


@dataclass(slots=True)
class Office:
    """All workers of the federation."""

    chance: random.Random
    cast: Cast
    oracle: Oracle
    machines: dict[str, Machine]
    trace: Callable[[str], None]
    officers: Officers
    blind: Mapping[str, BlindOffice]
    """The workers whose agency's node holds no key: they seal and open with the agency's own software."""
    consents: list[Consent] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    pending: list[Pending] = field(default_factory=list)
    keys: int = 0
    people: int = 0
    reached: Reached = field(default_factory=Reached)
    taken: set[tuple[str, str]] = field(default_factory=set)
    """(agency, item) that a node has said is taken over."""

    async def ask(
        self, agency: str, what: str, work: Callable[[Node], Awaitable[Any]], promise: Promise | None = None
    ) -> Any:
        """What the agency's node answers; nothing if it refuses, or dies before it has answered.

        Where something is promised, a node that lives refuses only for a reason that is on the list (`refused.py`).
        """
        machine = self.machines[agency]
        process = machine.process
        for _ in range(self.chance.choice([0, 0, 0, 1, 2, 4, 7])):
            await asyncio.sleep(0)
        if process is None or not process.alive:
            return None
        self.oracle.passes()
        try:
            answer = await work(process.node)
        except UseCaseError as error:
            self.trace(f"{agency} {what}: {error.code}")
            died = error.code == "software-died" or not process.alive
            if promise is not None and not died and promise.broken_by(error.code):
                raise ViolationError("refused", f"{what} was refused as `{error.code}`") from error
            return None
        except StorageUnavailableError:
            if process.alive:
                raise ViolationError("failed", f"{what}: the database is not there") from None
            self.trace(f"{agency} {what}: died")
            return None
        except ViolationError:
            raise
        except Exception as error:
            raise ViolationError("failed", f"{what}: {type(error).__name__} {error}") from error
        if not process.alive:
            self.trace(f"{agency} {what}: died")
            return None
        self.oracle.passes()
        self.trace(f"{agency} {what}: ok")
        return answer

    def at(self, agency: str) -> int:
        """The clock of an agency's machine."""
        return self.machines[agency].now()

    async def with_key(
        self, agency: str, what: str, request: dict[str, Any], work: Callable[[Node, Idempotency], Awaitable[Any]],
        answered: Callable[[Any], None], hand_in: HandIn | None = None,
        promise: Callable[[], Promise] | None = None,
    ) -> None:  # fmt: skip
        """Make a call under a fresh idempotency key, and remember to make it again until it is answered."""
        self.keys += 1
        idem = Idempotency("system", f"key-{self.keys}", json.dumps(request, sort_keys=True).encode())
        pending = Pending(agency, what, self._nothing, first_at=self.at(agency))

        async def by_node(node: Node) -> Any:
            try:
                return await work(node, idem)
            except GoneError as error:
                if error.code == "answer-destroyed":
                    pending.given_up = pending.answer is None
                raise

        async def call() -> None:
            if self.at(agency) >= pending.first_at + DAY - LEEWAY:
                # A key is kept for a day: the same call later would be another one.
                pending.done, pending.given_up = True, pending.answer is None
                return
            attempt = Try(self.oracle.tick, self.at(agency))
            if hand_in is not None:
                hand_in.tries.append(attempt)
            stored = await self.ask(agency, what, by_node, promise() if promise is not None else None)
            attempt.ends = self.oracle.tick
            if stored is None:
                pending.done = pending.done or self.alive(agency)
                return
            said = stored.body
            pending.done = True
            if pending.answer is None:
                pending.answer = said
                answered(stored.answer)
                _note_withheld(hand_in, stored.answer)
            elif said != pending.answer:
                raise ViolationError("doubled", f"{what} was repeated with its key and answered otherwise")

        pending.call = call
        self.pending.append(pending)
        await call()

    def alive(self, agency: str) -> bool:
        """Whether the agency's process lives."""
        process = self.machines[agency].process
        return process is not None and process.alive

    async def _nothing(self) -> None:
        pass

    # The referring side.

    async def records_consent(self, agency: str, others: list[str]) -> None:
        """A woman says yes."""
        known = [self.officers.listed(other, agency) for other in others]
        also = self.officers.also_told(others)
        wish = wishes.consent(self.chance, known, self.at(agency), also)
        named = {entry["agency"] for entry in wish["told_first"]}
        told = {one.id: one.told for one in known if one.id in named}

        def answered(view: Any) -> None:
            consent = Consent(view.id, agency, view.version)
            self.consents.append(consent)
            allowed = Allowed(
                tuple(wish["provisions"]), to_millis(view.record.given_at), to_millis(view.expires_at), told
            )
            self.oracle.consent_is(agency, view.id, allowed, 0, sure=True)

        request = ConsentRequest.model_validate(wish)
        await self.with_key(
            agency, "records a consent", wish, lambda node, idem: record_consent(node, ACTING, request, idem), answered
        )

    def settled(self, consent: Consent) -> bool:
        """Whether it is known which version holds: after a call that nobody answered it is not."""
        return self.oracle.consents[consent.agency, consent.id][-1].sure

    async def narrows(self, consent: Consent) -> None:
        """She allows less."""
        self.reached.count_less(self.machines[consent.agency], consent.id)
        allowed = self._newest(consent)
        if not allowed.provisions:
            return  # she has said no meanwhile, and nothing is left that could be less
        lines = wishes.less(self.chance, allowed.provisions)
        narrower = Allowed(tuple(lines), allowed.given_at, allowed.expires_at, allowed.told_first)
        request = ProvisionsRequest.model_validate({"provisions": lines})
        await self._changes(
            consent, "narrows", narrower, lambda node: narrow_consent(node, ACTING, consent.id, request), "less"
        )

    async def renews(self, consent: Consent) -> None:
        """She allows the same for longer."""
        allowed = self._newest(consent)
        until = self.at(consent.agency) + 100 * DAY
        longer = Allowed(allowed.provisions, allowed.given_at, until, allowed.told_first)
        request = RenewalRequest.model_validate({"until": wishes.moment(until)})
        await self._changes(
            consent, "renews", longer, lambda node: renew_consent(node, ACTING, consent.id, request), "again yes"
        )

    async def _changes(
        self, consent: Consent, what: str, allowed: Allowed, work: Callable[[Node], Awaitable[Any]], act: str
    ) -> None:
        version = self.oracle.consent_is(consent.agency, consent.id, allowed, self.oracle.tick, sure=False)
        view = await self.ask(
            consent.agency, what, work, Promise(self.machines[consent.agency], act, consent=consent.id)
        )
        if view is not None:
            consent.version = max(consent.version, view.version)
            self.oracle.consent_sure(consent.agency, consent.id, version)
        elif self.alive(consent.agency):
            self.oracle.consent_was_refused(consent.agency, consent.id, version)

    def _newest(self, consent: Consent) -> Allowed:
        return self.oracle.consents[consent.agency, consent.id][-1].allowed

    async def refers(self, consent: Consent, receiver: str) -> None:
        """A worker refers her to another agency."""
        agency = consent.agency
        self.people += 1
        service = self.cast.agency(receiver).service
        said = wishes.content(self.chance, service, self.people, self.at(agency))
        priority = self.chance.choice(["emergency", "urgent", "urgent", "routine"])
        wish = {
            "to": receiver,
            "consent": consent.id,
            "service_type": service,
            "priority": priority,
            "content": said,
        }
        hand_in = self._hand_in("offer", consent, receiver, said, emergency=priority == "emergency")
        person = self.people

        def answered(created: Any) -> None:
            hand_in.referral = referral = created.referral.id if agency in self.blind else created.id
            made = hand_in.tries[0]
            self.cases.append(Case(referral, agency, receiver, consent, person, (made.begins, made.at)))

        request = ReferralRequest.model_validate(wish)
        if agency in self.blind:
            work = self.blind[agency].referring(request)
            await self.with_key(agency, "refers", wish, work, answered, hand_in)
            return
        await self.with_key(
            agency, "refers", wish, lambda node, idem: send_referral(node, ACTING, request, idem), answered, hand_in
        )

    def _hand_in(
        self, kind: str, consent: Consent, receiver: str, said: dict[str, Any], *, emergency: bool = False
    ) -> HandIn:
        hand_in = HandIn(kind, consent.agency, receiver, consent.id, said, emergency)
        self.oracle.hand_ins.append(hand_in)
        return hand_in

    async def tells(self, case: Case, kind: str) -> None:
        """Information that was asked for, a changed plan, or a fresh disclosure."""
        node_at = self.at(case.sender)
        if kind == "update":
            said: dict[str, Any] = {"safe_contact": wishes.plan(self.chance, case.person, node_at)}
        else:
            said = wishes.content(self.chance, self.cast.agency(case.receiver).service, case.person, node_at)
        hand_in = self._hand_in(kind, case.consent, case.receiver, said)
        hand_in.referral = case.id
        if kind == "disclosure":
            self.oracle.confirmed.setdefault(case.id, self.oracle.tick)
        if case.sender in self.blind:
            work = self.blind[case.sender].telling(case.id, kind, said)
            await self._tells_once(case, f"seals {kind}", hand_in, work)
        elif kind == "disclosure":
            fresh = DisclosureRequest.model_validate({"content": said})
            await self.with_key(
                case.sender, "discloses anew", said,
                lambda node, idem: _discloses(node, case.id, fresh, idem), _no_news, hand_in,
            )  # fmt: skip
        elif kind == "update":
            plan = SafeContactRequest.model_validate(said)
            await self.with_key(
                case.sender, "updates the plan", said,
                lambda node, idem: update_safe_contact(node, ACTING, case.id, plan, idem), _no_news, hand_in,
            )  # fmt: skip
        else:
            words = InformationRequest.model_validate({"content": said})
            await self.with_key(
                case.sender, "informs", said,
                lambda node, idem: send_information(node, ACTING, case.id, words, idem), _no_news, hand_in,
            )  # fmt: skip

    async def _tells_once(self, case: Case, what: str, hand_in: HandIn, work: Callable[[Node], Awaitable[Any]]) -> None:
        attempt = Try(self.oracle.tick, self.at(case.sender))
        hand_in.tries.append(attempt)
        answer = await self.ask(case.sender, what, work)
        attempt.ends = self.oracle.tick
        _note_withheld(hand_in, answer)

    async def releases(self, case: Case) -> None:
        """A worker confirms the release."""
        self.oracle.confirmed.setdefault(case.id, self.oracle.tick)
        answer = await self.ask(
            case.sender, "releases", lambda node: release_disclosure(node, ACTING, case.id),
            self._promised(case, "release"),
        )  # fmt: skip

        if answer is not None and answer.code in _WAITS_FOR_A_WORKER:
            raise ViolationError("refused", f"a worker confirmed a release, and it waits: `{answer.code}`")

    def _promised(self, case: Case, act: str) -> Promise:
        """To the sender."""
        return Promise(self.machines[case.sender], act, referral=case.id)

    def _begins_to_stop(self, agency: str, referral: str) -> None:
        self.oracle.undelivered.begun[agency, referral].add("stopped")

    async def recalls(self, case: Case) -> None:
        """The sender takes it back."""
        self._begins_to_stop(case.sender, case.id)
        promise = self._promised(case, "recall")
        if await self.ask(case.sender, "recalls", lambda node: recall_referral(node, ACTING, case.id), promise):
            self._stopped(case.sender, case.id, "recalled")

    async def errs(self, case: Case) -> None:
        """The sender says it should never have been made."""
        self._begins_to_stop(case.sender, case.id)
        promise = self._promised(case, "error")
        if await self.ask(case.sender, "declares an error", lambda node: declare_error(node, ACTING, case.id), promise):
            self._stopped(case.sender, case.id, "entered-in-error")

    # Her no, at either side.

    async def says_no(self, agency: str, form: str, case: Case | None, consent: Consent | None) -> None:
        """She says no, to whomever."""
        wish = {"form": form} | ({"referral": case.id} if case else {"consent": consent.id if consent else ""})
        version: Version | None = None
        hers = [one.id for one in self.cases if one is case or (consent is not None and one.consent is consent)]
        for referral in hers:
            self._begins_to_stop(agency, referral)
        if consent is not None:
            allowed = self._newest(consent)
            ended = Allowed((), allowed.given_at, allowed.expires_at, allowed.told_first, ended=True)
            version = self.oracle.consent_is(agency, consent.id, ended, self.oracle.tick, sure=False)

        def answered(answer: Any) -> None:
            if consent is not None and version is not None:
                consent.withdrawn = True
                self.oracle.consent_sure(agency, consent.id, version)
            self._check_all_of_hers(form, hers, answer.referrals)
            for view in answer.referrals:
                self._stopped(agency, view.id, form)

        request = WithdrawalRequest.model_validate(wish)
        assert WithdrawalForm(form)
        machine = self.machines[agency]
        self.reached.count_no(machine, consent.id if consent is not None else None)

        def promise() -> Promise:
            if consent is not None:
                return Promise(machine, "no to a consent", consent=consent.id)
            return Promise(machine, "no to a referral", referral=case.id if case is not None else None)

        await self.with_key(
            agency, f"says no: {form}", wish, lambda node, idem: withdraw(node, ACTING, request, idem), answered,
            promise=promise,
        )  # fmt: skip

    def _check_all_of_hers(self, form: str, hers: Sequence[str], views: Sequence[Any]) -> None:
        """What is answered with success is not refused for some of it."""
        if not {view.id for view in views} >= set(hers):
            raise ViolationError("refused", f"`{form}` was answered, and leaves some of hers out")
        if form != "stop-sharing" and any(view.state != "withdrawn" for view in views):
            raise ViolationError("refused", f"`{form}` was answered, and something of hers goes on")

    def _stopped(self, agency: str, referral: str, name: str) -> None:
        self.oracle.stops(agency, referral, name, self.oracle.tick)
        for case in self.cases:
            if case.id == referral:
                case.remember(agency, name)


async def _discloses(node: Node, referral: str, fresh: DisclosureRequest, idem: Idempotency) -> Stored[ForwardAnswer]:
    """A repeat is answered with what the gate said then; how the referral stands is told as it is now."""
    answer = await replace_disclosure(node, ACTING, referral, fresh, idem)
    return Stored(lambda: answer, b"".join(written(field) for field in answer.fields), repeated=False)


def _note_withheld(hand_in: HandIn | None, answer: Any) -> None:
    if hand_in is not None and answer is not None:
        decided = getattr(answer, "fields", ())
        hand_in.withheld = frozenset(one.field.value for one in decided if one.outcome != "allowed")


def _no_news(_answer: Any) -> None:
    pass

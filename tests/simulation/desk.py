"""The workers of the receiving agency: they read what arrived, decide, report, and answer for what was destroyed."""

from __future__ import annotations

import functools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from simulation.office import ACTING, Case, Office
from simulation.oracle import ViolationError
from simulation.refused import Promise
from simulation.undelivered import KEPT_AT_LEAST
from simulation.words import Words

from exchange.client.vault import AgencyVault
from exchange.schemas.inbox import (
    DecisionRequest,
    ErasureAttestationRequest,
    ProgressRequest,
    RecallAnswerRequest,
)
from exchange.use_cases.answer_recall import answer_recall
from exchange.use_cases.attest_erasure import attest_erasure
from exchange.use_cases.decide_referral import decide_referral
from exchange.use_cases.declare_error import declare_error_of_item
from exchange.use_cases.follow_referrals import read_referral
from exchange.use_cases.node import Node
from exchange.use_cases.open_items import open_items
from exchange.use_cases.poll_inbox import acknowledge_item, lease_item, list_inbox
from exchange.use_cases.report_progress import report_progress

_STOPPED: Final = {"entered-in-error": "stopped"}
_BEGINS: Final = frozenset({"scheduled", "not-reached", "not-arrived", "in-service"})
"""What may be said first of a service."""
_SAID_AGAIN: Final = _BEGINS | {"completed", "failed", "accepted", "declined", "waitlisted", "redirected"}
_TO_A_RECALL: Final = "answers the recall"
_DESTROYED_IN_TIME: Final = "SELECT 1 FROM referral WHERE id = ? AND destroyed_at >= closed_at + ?"
_GOES_ALONG: Final = frozenset({"accepted", "waitlisted", "in-service", "completed"})
"""With the last word, where nobody has heard it: what that counts by."""
_REASONS: Final = ("no-capacity", "not-eligible", "duplicate", "conflict-of-interest")


@dataclass(slots=True)
class Desk:
    """The receiving side of every agency."""

    office: Office
    chance: random.Random
    words: Words

    def offer_of(self, case: Case) -> str | None:
        """The id of the offer, if the receiver has signed for it."""
        arrived = self.office.oracle.arrived.get((case.receiver, case.id), [])
        return next((one.id for one in arrived if one.kind == "offer"), None)

    async def _act(
        self, case: Case, what: str, event: str | None, work: Callable[[Node, str], Awaitable[Any]],
        sealed: Callable[[AgencyVault], Awaitable[Any]] | None = None, act: str | None = None,
    ) -> None:  # fmt: skip
        """One act; `act` is what is promised (`refused.py`).

        `sealed`: how it is done by the agency's own software, where the node holds no key.
        """
        item = self.offer_of(case)
        if item is None:
            return
        if event is not None:
            office, agency = self.office, case.receiver
            case.since.setdefault((agency, event), (office.oracle.tick, office.at(agency)))
            office.oracle.undelivered.begun[agency, case.id].add(_STOPPED.get(event, event))
        blind, machine = self.office.blind.get(case.receiver), self.office.machines[case.receiver]
        promise = None
        if act is not None:
            promise = functools.partial(Promise, machine, act, referral=case.id, item=item, blind=blind is not None)
        if blind is None or sealed is None:
            await self._asks(case, what, event, lambda node: work(node, item), promise)
            return
        if machine.process is not None:
            # Nobody waits here: the offer is opened first, and the node may have to ask about her consent.
            machine.run(self._asks(case, what, event, blind.answering(case.id, sealed), promise))

    async def _asks(
        self, case: Case, what: str, event: str | None, work: Callable[[Node], Awaitable[Any]],
        promise: Callable[[], Promise] | None,
    ) -> None:  # fmt: skip
        answer = await self.office.ask(case.receiver, what, work, promise() if promise is not None else None)
        if answer is None:
            return
        if event is not None:
            case.remember(case.receiver, event)
        if (event in _SAID_AGAIN or what == _TO_A_RECALL) and not what.endswith(" again"):
            case.last_word = event or "recalled"
            case.last = functools.partial(self._asks, case, f"{what} again", event, work, None)

    async def says_again(self, case: Case) -> None:
        """A worker is told that something has not arrived, and says the last word again: what was barred goes then."""
        view = await self.office.ask(case.receiver, "looks", lambda node: read_referral(node, case.id, None))
        if view is None or not view.flags.undeliverable or case.last is None:
            return
        before, tick = len(case.said[case.receiver]), self.office.oracle.tick
        undelivered = self.office.oracle.undelivered
        excused = undelivered.said_again(case.sender, case.id, {case.last_word, *_GOES_ALONG})
        await case.last()
        if len(case.said[case.receiver]) > before:
            case.again = tick
        elif self.office.machines[case.receiver].main.rows(_DESTROYED_IN_TIME, case.id, KEPT_AT_LEAST):
            # It was refused after its referral had been destroyed: nobody can say it again, and its maker is told.
            undelivered.refused |= excused

    async def decides(self, case: Case, decision: str) -> None:
        """A worker's word on an offer."""
        wish: dict[str, Any] = {"decision": decision}
        if decision == "declined":
            wish["reason"] = self.chance.choice(_REASONS)
        elif decision == "redirected":
            wish["suggested_service"] = "other-support"
        elif decision == "information-requested":
            wish["fields"] = ["area", "language"]
        request = DecisionRequest.model_validate(wish)
        await self._act(
            case, f"decides {decision}", decision,
            lambda node, item: decide_referral(node, ACTING, item, request),
            lambda vault: vault.decide(case.id, request),
            "decision" if decision in {"accepted", "declined"} else "first decision",
        )  # fmt: skip

    async def reports(self, case: Case, state: str) -> None:
        """How the service goes."""
        wish = {"state": state}
        if state == "completed":
            wish["outcome"] = "service-provided"
        elif state == "failed":
            wish["fail_reason"] = "not-reached"
        request = ProgressRequest.model_validate(wish)
        await self._act(
            case, f"reports {state}", state,
            lambda node, item: report_progress(node, ACTING, item, request),
            lambda vault: vault.report_progress(case.id, request),
            "progress" if state in _BEGINS else None,
        )  # fmt: skip

    async def answers_recall(self, case: Case) -> None:
        """Whether the service stops."""
        request = RecallAnswerRequest(agreed=self.chance.random() < 0.5)
        await self._act(
            case, _TO_A_RECALL, None,
            lambda node, item: answer_recall(node, ACTING, item, request),
            lambda vault: vault.answer_recall(case.id, request),
        )  # fmt: skip

    async def errs(self, case: Case) -> None:
        """The receiver says that it should never have been made."""
        before = len(case.said.get(case.receiver, []))
        await self._act(
            case, "declares an error", "entered-in-error",
            lambda node, item: declare_error_of_item(node, ACTING, item), act="error",
        )  # fmt: skip
        # Others may have said something meanwhile.
        if "entered-in-error" in case.said.get(case.receiver, [])[before:]:
            self.office.oracle.stops(case.receiver, case.id, "entered-in-error", self.office.oracle.tick)

    async def attests(self, case: Case) -> None:
        """The agency's own copies are destroyed."""
        request = ErasureAttestationRequest(copies_destroyed=True)
        await self._act(
            case, "attests", "erased-by-agency",
            lambda node, item: attest_erasure(node, ACTING, item, request),
            lambda vault: vault.attest_erasure(case.id), "attestation",
        )  # fmt: skip

    async def looks(self, agency: str) -> None:
        """List what arrived, and lease, take over or begin to read one of it."""
        page = await self.office.ask(agency, "lists", lambda node: list_inbox(node, limit=20))
        if page is None or not page.items:
            return
        ids = [item.id for item in page.items]
        if len(ids) != len(set(ids)):
            raise ViolationError("doubled", "an item stands twice in the inbox")
        item, machine = self.chance.choice(ids), self.office.machines[agency]
        does = self.chance.choice(["opens", "opens", "takes", "leases"])
        if does == "opens":
            self.begins_to_read(agency, [item])
        elif does == "leases":
            leases = Promise(machine, "lease", item=item)
            await self.office.ask(agency, does, lambda node: lease_item(node, ACTING, item, 60), leases)
        elif await self.office.ask(
            agency, does, lambda node: acknowledge_item(node, ACTING, item, None),
            Promise(machine, "taking over", item=item),
        ):  # fmt: skip
            self.office.taken.add((agency, item))

    def begins_to_read(self, agency: str, items: Sequence[str]) -> None:
        """Open these. Nobody waits here: the node may have to ask another whether her consent still holds."""
        machine = self.office.machines[agency]
        if machine.process is not None:
            machine.run(self._reads(agency, items))

    async def _reads(self, agency: str, items: Sequence[str]) -> None:
        blind = self.office.blind.get(agency)
        if blind is not None:
            await self.office.ask(agency, "opens sealed", lambda node: blind.opens(node, items))
            return
        process = self.office.machines[agency].process
        found = await self.office.ask(agency, "opens", lambda node: open_items(node, ACTING, items))
        if found is None:
            return
        for one in found.items:
            self.words.shown(agency, process, one, self.office.at(agency))
        for one in found.withheld:
            self.office.trace(f"{agency} is told {one.code}")
            if one.code == "consent-ended":
                self.words.told_that_ended(agency, one.id)

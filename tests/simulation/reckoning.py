"""The books at the end of a history: what was acknowledged is there, once, and both sides say the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from simulation import opened
from simulation.machines import Machine
from simulation.office import Case, Office
from simulation.opened import Opened
from simulation.oracle import HandIn, Oracle, ViolationError, same

from consent.receipt import receipt_ends
from exchange.use_cases.follow_referrals import read_referral
from exchange.use_cases.node import as_datetime
from exchange.use_cases.poll_inbox import list_inbox

_STOP_ARRIVES_AS: Final = {
    "stop-sharing": {("withdrawal", "stop-sharing"), ("withdrawal", "stop-service")},
    "stop-service": {("withdrawal", "stop-service")},
    "erase": {("withdrawal", "erase")},
    "recalled": {("recall", None)},
    "entered-in-error": {("entered-in-error", None)},
}
_DECISIONS: Final = frozenset({"accepted", "declined", "waitlisted", "redirected", "information-requested"})
_PLAN: Final = "safe_contact"
_SERVED: Final = frozenset({"accepted", "scheduled", "in-service", "not-reached", "not-arrived"})
_SEALED: Final = {
    "inbox": ("sealed_header", "rewrapped_key", "ciphertext", "signature", "part_digests", "release"),
    "outbox": ("sealed_header", "wrapped_key", "ciphertext", "signature", "release"),
    "referral": ("sealed_facts",),
}
_STOPS: Final = "('recall','withdrawal','erasure-receipt','refusal','entered-in-error')"


@dataclass(slots=True)
class Reckoning:
    """Checks what the oracle remembers against what the nodes say now."""

    office: Office
    oracle: Oracle
    machines: dict[str, Machine]
    inboxes: dict[str, list[tuple[str, str, str, str | None]]] = field(default_factory=dict)

    def check(self) -> None:
        """Nothing lost, nothing doubled, no disagreement."""
        self.inboxes = {agency: self._inbox(agency) for agency in self.machines}
        self._check_receipts()
        self._check_referrals_made()
        self._check_consents()
        self._check_taken_over()
        self._check_kept_answers()
        for case in self.office.cases:
            self._check_stops(case)
            self._check_decisions(case)
            self._check_agreement(case)
            self._check_notice(case)
            self._check_disclosed(case)
            self._check_plan(case)

    def _inbox(self, agency: str) -> list[tuple[str, str, str, str | None]]:
        """(id, referral, kind, event) of everything in the inbox, as the node lists it."""
        machine = self.machines[agency]
        found: list[tuple[str, str, str, str | None]] = []
        cursor: str | None = None
        while True:
            page = machine.loop.finish(list_inbox(machine.node, cursor=cursor, limit=100))
            found += [(item.id, item.referral, item.kind, item.event) for item in page.items]
            if len(page.items) < 100:
                return found
            cursor = page.next_cursor

    def _check_receipts(self) -> None:
        for agency in self.machines:
            listed = Counter(item[0] for item in self.inboxes[agency])
            if any(count > 1 for count in listed.values()):
                raise ViolationError("doubled", f"an item stands twice in the inbox of {agency}")
            signed = {envelope for receiver, envelope in self.oracle.receipts if receiver == agency}
            missing = signed - listed.keys()
            if missing:
                kinds = sorted(self.oracle.seen[envelope].kind for envelope in missing)
                raise ViolationError("lost", f"{agency} signed for {kinds} and does not have it")

    def _check_referrals_made(self) -> None:
        made = {case.id for case in self.office.cases}
        for agency, machine in self.machines.items():
            rows = machine.main.rows("SELECT id FROM referral WHERE side = 'referring'")
            there = {row[0] for row in rows}
            mine = {case.id for case in self.office.cases if case.sender == agency}
            if mine - there:
                raise ViolationError("lost", f"{agency} answered a referral and does not have it")
            unknown = sum(one.given_up for one in self.office.pending if (one.agency, one.what) == (agency, "refers"))
            if len(there - made) > unknown:
                raise ViolationError("doubled", f"{agency} made a referral that nobody was told of")

    def _check_consents(self) -> None:
        for consent in self.office.consents:
            rows = self.machines[consent.agency].main.rows("SELECT version FROM consent WHERE id = ?", consent.id)
            if not rows or rows[0][0] < consent.version:
                raise ViolationError("lost", "a consent is not at the version that was answered")

    def _check_taken_over(self) -> None:
        for agency, item in sorted(self.office.taken):
            rows = self.machines[agency].main.rows("SELECT status FROM inbox WHERE id = ?", item)
            if not rows or rows[0][0] == "new":
                raise ViolationError("lost", "an item that was taken over is new again")

    def _check_kept_answers(self) -> None:
        """Within the day of its key, too, an answer does not outlive its referral."""
        query = """
            SELECT 1 FROM idempotency JOIN referral ON referral.id = idempotency.referral
            WHERE referral.destroyed_at IS NOT NULL AND idempotency.sealed_answer IS NOT NULL
        """
        for agency, machine in self.machines.items():
            if machine.main.rows(query):
                raise ViolationError("kept", f"{agency} keeps the answer to a request about a destroyed referral")

    def _heard(self, agency: str, case: Case) -> list[tuple[str, str | None]]:
        return [(kind, event) for _, referral, kind, event in self.inboxes[agency] if referral == case.id]

    def _check_stops(self, case: Case) -> None:
        for speaker, hearer in ((case.sender, case.receiver), (case.receiver, case.sender)):
            said = [word for word in case.said.get(speaker, []) if word in _STOP_ARRIVES_AS]
            if not said:
                continue
            heard = self._heard(hearer, case)
            for word in said:
                if _STOP_ARRIVES_AS[word].isdisjoint(heard):
                    raise ViolationError("lost", f"`{word}` of {speaker} never reached {hearer}")

    def _check_decisions(self, case: Case) -> None:
        said = [word for word in case.said.get(case.receiver, []) if word in _DECISIONS]
        if not said or self._over_early(case):
            return
        heard = {event for _, event in self._heard(case.sender, case)}
        for word in said:
            excused = self._may_be_missing(case, word) and self._told_undelivered(case.receiver, case)
            if word not in heard and not excused:
                raise ViolationError("lost", f"`{word}` of {case.receiver} never reached {case.sender}")

    def _over_early(self, case: Case) -> bool:
        """Whether somebody ended it: then a decision may have been held back."""
        keys = ((case.sender, case.id), (case.receiver, case.id))
        return any(self.oracle.stopped.get(key) for key in keys)

    def _told_undelivered(self, agency: str, case: Case) -> bool:
        """Whether the agency is told that something of it did not arrive in time."""
        machine = self.machines[agency]
        view = machine.loop.finish(read_referral(machine.node, case.id, None))
        return view.flags.undeliverable

    def _is_on_record(self, case: Case, word: str) -> bool:
        query = "SELECT 1 FROM event WHERE referral = ? AND side = 'receiving' AND name = ?"
        return bool(self.machines[case.receiver].main.rows(query, case.id, word))

    def _may_be_missing(self, case: Case, word: str) -> bool:
        since = case.since.get((case.receiver, word))
        # With the last word goes what it counts by; what was said between the two says nothing any more. A question is
        # asked once. What was taken back, as the agency's key was replaced, is not said again by whoever says what came
        # after it.
        said_again = word != "information-requested" and self._is_on_record(case, word)
        if since is not None and case.again is not None and said_again:
            since = max(since[0], case.again), since[1]
        return since is not None and self.oracle.undelivered.may_be_missing(
            case.receiver, case.sender, case.id, word, since
        )

    def _check_agreement(self, case: Case) -> None:
        sender, receiver = self.machines[case.sender], self.machines[case.receiver]
        if not receiver.main.rows("SELECT 1 FROM referral WHERE id = ?", case.id):
            return
        # At one moment: within the error of a clock one says already that its time is over, and both are right.
        now = max(sender.now(), receiver.now())
        views = [one.at(now, lambda one=one: read_referral(one.node, case.id, None)) for one in (sender, receiver)]
        states = [str(view.state) for view in views]
        if states[0] == "sent":
            states[0] = "received"
        if states[0] == states[1]:
            return
        # Also what was asked for and never answered, because the process died: it may have been done.
        asked = [word for agency, word in case.since if agency == case.receiver]
        missing = [word for word in asked if self._may_be_missing(case, word)]
        if missing and self._told_undelivered(case.receiver, case):
            return
        raise ViolationError("disagreement", f"{case.sender} says {states[0]}, {case.receiver} says {states[1]}")

    def _check_notice(self, case: Case) -> None:
        """An offer that nobody signed for is told to its sender, unless the referral has ended."""
        arrived = self.oracle.arrived.get((case.receiver, case.id), [])
        if any(one.kind == "offer" for one in arrived):
            return
        machine = self.machines[case.sender]
        view = machine.loop.finish(read_referral(machine.node, case.id, None))
        if str(view.state) in {"withdrawn", "recalled", "expired", "entered-in-error"}:
            return
        missing = self.oracle.undelivered.may_be_missing(case.sender, case.receiver, case.id, "offer", case.made)
        covered = not self._less_than_before(case) and not self._has_run_out(case, machine.now())
        if (missing or not covered) and view.flags.undeliverable:
            return
        raise ViolationError("lost", "an offer did not arrive, and its sender was not told")

    def _check_disclosed(self, case: Case) -> None:
        """Where she is served, who she is has arrived, or somebody at the sender is asked to act."""
        machine = self.machines[case.sender]
        view = machine.loop.finish(read_referral(machine.node, case.id, None))
        flags, [(hold,)] = view.flags, machine.main.rows("SELECT hold FROM referral WHERE id = ?", case.id)
        if str(view.state) not in _SERVED or flags.sharing_stopped or flags.destroyed or hold == "none":
            return
        arrived = self.oracle.arrived.get((case.receiver, case.id), [])
        asked = flags.awaiting_disclosure or flags.awaiting_confirmation or flags.undeliverable
        if not asked and not any(one.kind == "disclosure" for one in arrived):
            raise ViolationError("waits", f"{case.receiver} waits for who she is, and {case.sender} is told nothing")

    def _check_plan(self, case: Case) -> None:
        """The plan that was told last is the one by which the receiver calls her, or somebody is asked to act."""
        told = [one for one in self.oracle.hand_ins if one.referral == case.id and _PLAN in one.fields]
        came = [one for one in self.oracle.arrived.get((case.receiver, case.id), []) if _tells_a_plan(one)]
        last = max(told, key=lambda one: one.tries[0].begins, default=None)
        if (
            not came
            or last is None
            or last.kind != "update"
            or last.withheld is None
            or _PLAN in last.withheld
            or _at_once(told, last)
        ):
            return
        machine = self.machines[case.sender]
        view = machine.loop.finish(read_referral(machine.node, case.id, None))
        if str(view.state) in _SERVED and not (view.flags.sharing_stopped or view.flags.undeliverable):
            newest = max(came, key=lambda one: one.number)
            key = self.oracle.private_half(case.receiver, newest.header["epoch_key"])
            if not same(opened.inside(newest, key)["content"].get(_PLAN), last.fields[_PLAN]):
                raise ViolationError("lost", f"{case.receiver} calls her by another plan than was told last")

    def _less_than_before(self, case: Case) -> bool:
        """Whether she has taken something back: an offer that waited then, and may have held it, was destroyed."""
        first, *later = self.oracle.consents[case.sender, case.consent.id]
        return any(version.allowed.provisions != first.allowed.provisions for version in later)

    def _has_run_out(self, case: Case, now: int) -> bool:
        """Whether a receipt that was cut from her consent may have ended: an offer that waited then was destroyed."""
        versions, made = self.oracle.consents[case.sender, case.consent.id], as_datetime(case.made[1])
        return now >= min(receipt_ends(as_datetime(version.allowed.expires_at), made) for version in versions)

    def check_destroyed(self) -> None:
        """Everything has ended long ago: only tombstones are left, on both sides."""
        for agency, machine in self.machines.items():
            self._check_nothing_left(agency, machine)

    def _check_nothing_left(self, agency: str, machine: Machine) -> None:
        rows = machine.main.rows("SELECT id, state, destroyed_at FROM referral WHERE closed_at IS NOT NULL")
        for referral, state, destroyed_at in rows:
            if destroyed_at is None:
                raise ViolationError("kept", f"{agency} keeps a referral that is {state}")
            if machine.secret.rows("SELECT 1 FROM referral_key WHERE referral = ?", referral):
                raise ViolationError("kept", f"{agency} keeps the key of a destroyed referral")
            for table, columns in _SEALED.items():
                name = "id" if table == "referral" else "referral"
                there = " OR ".join(f"{column} IS NOT NULL" for column in columns)
                but = "" if table == "referral" else f" AND kind NOT IN {_STOPS}"
                query = f"SELECT 1 FROM {table} WHERE {name} = ? AND ({there}){but}"
                if machine.main.rows(query, referral):
                    raise ViolationError("kept", f"{agency} keeps something of a destroyed referral in {table}")


def _tells_a_plan(one: Opened) -> bool:
    return one.header.get("stage") == "disclosure" and "contact" in one.header["groups"]


def _at_once(told: list[HandIn], last: HandIn) -> bool:
    """Whether another plan was told while the last one was: which of them counts nobody knows."""
    begins = last.tries[0].begins
    return any(call.ends >= begins for one in told if one is not last for call in one.tries)

"""What people do in a history: what a sensible worker would do next, and sometimes anything else.

Rules:

* Every choice comes from the history's own chance. What is chosen is returned, and somebody else starts it.
* A worker does what the state of things suggests; now and then one does something that only a refusal can answer.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from simulation.desk import Desk
from simulation.federations import Cast
from simulation.office import Case

FORMS: Final = ("stop-sharing", "stop-sharing", "stop-service", "erase")
DECISIONS: Final = ("accepted",) * 6 + ("declined", "waitlisted", "redirected", "information-requested")
PROGRESS: Final = ("scheduled", "not-reached", "not-arrived", "in-service", "in-service", "completed", "failed")

Way = Callable[[], Awaitable[None]]
"""Something that somebody does, to be started."""


@dataclass(frozen=True, slots=True)
class Temper:
    """What people are like in one history."""

    her_no: float
    """How often she says no: seldom enough in most histories for a service to come to its end."""
    her_less: float
    """How often she allows less while the receiver has not been told who she is."""
    to_everything: float = 0.2
    """How much of her no is to everything under her consent."""
    confirms: float = 0.5
    """How often a worker looks at what was accepted and is not disclosed, and releases it."""
    goes_on: float = 1.0
    """How often the receiver does something for somebody whose name it has."""
    at_once: int = 4
    """How many referrals workers make."""

    @classmethod
    def of(cls, chance: random.Random) -> Temper:
        """Some say no at once."""
        return cls(chance.choice([0.01, 0.01, 0.03, 0.06, 0.3]), chance.choice([0.0, 0.05, 0.3]))

    def in_a_crowd(self) -> Temper:
        """Many wait, few are served, and she speaks of everything that was done for her."""
        return replace(self, to_everything=0.5, confirms=0.06, goes_on=0.3, at_once=7)


class People:
    """The workers of all agencies, and the women they speak with."""

    def __init__(self, temper: Temper, desk: Desk, cast: Cast, names: Sequence[str], chance: random.Random) -> None:
        self.temper = temper
        self.desk = desk
        self.office = desk.office
        self.oracle = self.office.oracle
        self.cast = cast
        self.names = names
        self.chance = chance

    def ways(self) -> list[Way]:
        found = (self._some_work() for _ in range(self.chance.choice([1, 1, 1, 2, 3])))
        return [way for way in found if way is not None]

    def _some_work(self) -> Way | None:
        office, chance = self.office, self.chance
        usable = [one for one in office.consents if not one.withdrawn]
        if not usable or (len(usable) < 3 and chance.random() < 0.03):
            name = chance.choice(self.names)
            return lambda: office.records_consent(name, self.others(name))
        if len(office.cases) < self.temper.at_once and chance.random() < (0.9 if not office.cases else 0.1):
            return self.referral
        if not office.cases:
            return None
        case = chance.choice(office.cases)
        kind = chance.random()
        if kind < self.temper.her_no:
            return self.her_no(case)
        if kind < self.temper.her_no + 0.12:
            return chance.choice([self._receiver_work, self._sender_work])(case)
        return self.next_step(case)

    def next_step(self, case: Case) -> Way | None:
        """What a sensible worker would do now; nothing where she waits for the other side."""
        desk, office, chance = self.desk, self.office, self.chance
        if desk.offer_of(case) is None:
            return None
        arrived, disclosed = self.oracle.arrived, self.disclosed(case)
        if not disclosed and office.settled(case.consent) and chance.random() < self.temper.her_less:
            return lambda: office.narrows(case.consent)
        words = case.said.get(case.receiver, [])
        if self.over(case) and chance.random() < 0.8:
            return (lambda: desk.attests(case)) if chance.random() < 0.2 else None
        if "accepted" not in words:
            decision = chance.choice(DECISIONS)
            return lambda: desk.decides(case, decision)
        if all(one.header.get("event") != "accepted" for one in arrived.get((case.sender, case.id), [])):
            return None
        if not disclosed:
            return (lambda: office.releases(case)) if chance.random() < self.temper.confirms else None
        if self.temper.goes_on < 1 and chance.random() >= self.temper.goes_on:
            return None
        if chance.random() < 0.4:
            return self._sender_work(case)
        states = [state for state in PROGRESS if state not in words]
        state = chance.choice(states) if states else "completed"
        return lambda: desk.reports(case, state)

    def disclosed(self, case: Case) -> bool:
        """Whether the receiver has her name."""
        return any(one.kind == "disclosure" for one in self.oracle.arrived.get((case.receiver, case.id), []))

    def over(self, case: Case) -> bool:
        """Whether a sensible worker would still do something."""
        stopped = any(self.oracle.stopped.get((agency, case.id)) for agency in (case.sender, case.receiver))
        return stopped or not {"declined", "redirected"}.isdisjoint(case.said.get(case.receiver, []))

    def her_no(self, case: Case) -> Way:
        form, who = self.chance.choice(FORMS), self.chance.random()
        if who < 0.25:
            return lambda: self.office.says_no(case.receiver, form, case, None)
        if who < 0.25 + self.temper.to_everything:
            return lambda: self.office.says_no(case.sender, form, None, case.consent)
        return lambda: self.office.says_no(case.sender, form, case, None)

    async def referral(self) -> None:
        usable = [one for one in self.office.consents if not one.withdrawn]
        ways = [(consent, other) for consent in usable for other in self.others(consent.agency)]
        possible = [way for way in ways if self.cast.may_refer(way[0].agency, way[1])]
        if ways:
            # A worker who tries what no contract allows is refused; most of them know.
            consent, other = self.chance.choice(possible if possible and self.chance.random() < 0.9 else ways)
            await self.office.refers(consent, other)

    def _receiver_work(self, case: Case) -> Way:
        """Anything, sensible or not."""
        desk, chance = self.desk, self.chance
        decision, state = chance.choice(DECISIONS), chance.choice(PROGRESS)
        return chance.choice(
            [
                lambda: desk.decides(case, decision),
                lambda: desk.reports(case, state),
                lambda: desk.looks(case.receiver),
                lambda: desk.looks(case.receiver),
                lambda: desk.answers_recall(case),
                lambda: desk.errs(case),
                lambda: desk.attests(case),
            ]
        )

    def _sender_work(self, case: Case) -> Way:
        """Anything, sensible or not."""
        office, chance, consent = self.office, self.chance, case.consent
        changes = office.narrows if chance.random() < 0.7 else office.renews
        earlier = chance.choice(office.pending)
        return chance.choice(
            [
                lambda: office.releases(case),
                lambda: office.tells(case, "disclosure"),
                lambda: office.tells(case, "update"),
                lambda: office.tells(case, "information"),
                lambda: office.recalls(case),
                lambda: office.errs(case),
                lambda: self.desk.looks(case.sender),
                lambda: changes(consent) if office.settled(consent) else _nothing(),
                earlier.call,
            ]
        )

    def others(self, name: str) -> list[str]:
        return [other for other in self.names if other != name]


async def _nothing() -> None:
    pass

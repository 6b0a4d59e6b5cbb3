"""Crowded histories: one woman is referred to one receiver several times, others wait beside her, and few are served.

Rules:

* A fifth of all histories is crowded, by a generator of its own: every other history is the one it was.
* Their contracts let a receiver have one name or two that it has not served (`federations.py`). So most releases wait,
  for a place that somebody else's service or end makes free.
* All of it begins on good days: what is in doubt is what happens to those who wait, and to her no to everything.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from simulation.office import Case, Consent
from simulation.people import FORMS, People, Way

_HISTORIES: Final = 0.2


def crowded(seed: object) -> bool:
    """Whether many wait in this history."""
    return random.Random(f"crowd {seed}").random() < _HISTORIES


@dataclass(frozen=True, slots=True)
class Days:
    """What the scheduler does for a crowd on its good days."""

    step: Callable[[Sequence[Way]], None]
    travel: Callable[[], None]
    agree_anew: Callable[[], None]
    """The second contract is in force from now on."""
    weeks_pass: Callable[[int], None]
    """So many days later, when everybody has looked."""
    nothing_waits: Callable[[], None]
    """Everything has travelled, and nothing waits that nobody has to act on."""


class Crowd:
    """One receiver that many are referred to."""

    def __init__(self, seed: object, people: People, days: Days) -> None:
        self.people = people
        self.office = people.office
        self.chance = random.Random(f"waiting {seed}")
        self._days = days
        self._step = days.step
        self._travel = days.travel

    def gathers(self) -> None:
        """Two women, and what is done for both at one receiver: it accepts, and serves nobody."""
        office, chance = self.office, self.chance
        if not office.consents:
            return
        first = office.consents[0]
        others = [one for one in self.people.others(first.agency) if self.people.cast.may_refer(first.agency, one)]
        if not others:
            return
        receiver = chance.choice(others)
        self._step([lambda: office.records_consent(first.agency, self.people.others(first.agency))])
        another = office.consents[-1] if office.consents[-1].agency == first.agency else first
        # Of hers one is served or waits for another, and behind it waits somebody else.
        self._refers([first, first, another, *chance.choices([first, another], k=chance.choice([0, 0, 1]))], receiver)
        # The names that it has are old, or were given under another contract, when others come to wait.
        agreed = chance.random() < 0.4
        if agreed:
            self._days.agree_anew()
        late = chance.random() < 0.3
        if late:
            self._days.weeks_pass(chance.choice([27, 28, 29]))
        self._refers(chance.choices([first, another], k=2 if agreed else 1), receiver)
        if late:
            self._days.weeks_pass(chance.choice([2, 3, 4]))
        for case in self._there():
            if chance.random() < (0.4 if agreed else 0.1):
                self._step([functools.partial(self.people.desk.reports, case, "in-service")])
                self._travel()
        self._days.nothing_waits()

    def _refers(self, consents: Sequence[Consent], receiver: str) -> None:
        chance = self.chance
        for consent in consents:
            self._step([functools.partial(self.office.refers, consent, receiver)])
        self._travel()
        for case in self._there():
            if "accepted" not in case.said.get(case.receiver, []) and chance.random() < 0.9:
                self._step([functools.partial(self.people.desk.decides, case, "accepted")])
            if chance.random() < 0.5:
                self._travel()
        self._travel()

    def last_words(self) -> None:
        """She says no to everything, or somebody is served or stopped, perhaps two at once."""
        chance = self.chance
        if chance.random() < 0.4 and self.office.cases:
            case = self.office.cases[0]
            self._step([functools.partial(self.office.says_no, case.sender, chance.choice(FORMS), None, case.consent)])
            self._travel()
        for case in self._there():
            if chance.random() < 0.3:
                self._step([self._something(case) for _ in range(chance.choice([1, 1, 2]))])
            if chance.random() < 0.3:
                self._travel()

    def _there(self) -> list[Case]:
        return [case for case in self.office.cases if self.people.desk.offer_of(case) is not None]

    def _something(self, case: Case) -> Way:
        office, desk, chance = self.office, self.people.desk, self.chance
        form, state = chance.choice(FORMS), chance.choice(["in-service", "completed", "failed"])
        ways: list[Way] = [
            functools.partial(desk.reports, case, state),
            functools.partial(office.says_no, case.sender, form, case, None),
            functools.partial(office.says_no, case.sender, form, None, case.consent),
            functools.partial(office.recalls, case),
        ]
        if office.settled(case.consent) and not case.consent.withdrawn:
            ways.append(functools.partial(office.narrows, case.consent))
        return chance.choice(ways)

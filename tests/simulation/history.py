"""One history: a seed, and everything that follows from it.

Rules:

* Every choice comes from the seed. The same seed gives the same trace, in any process (`digest` of the trace).
* A step starts up to three things at once and lets everything run until it waits for the network. Between two steps
  time passes, letters arrive or get lost, machines die and come back, clocks go wrong, rosters change.
* At the end the network heals, the machines run, and couriers work until nothing moves; then the books are checked
  (`simulation.reckoning`), in some histories once more after all retention has passed.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from simulation.blind import BlindOffice, blind_among
from simulation.crowds import Crowd, Days, crowded
from simulation.desk import Desk
from simulation.federations import CASTS, CROWDED, cast_of
from simulation.listening import Listener
from simulation.liveness import Liveness
from simulation.machines import Machine
from simulation.network import Answer, Letter, Question
from simulation.office import DAY, Office
from simulation.officers import Officers
from simulation.opened import FORWARDS
from simulation.oracle import Oracle, ViolationError
from simulation.people import People, Temper
from simulation.playground import Playground
from simulation.reckoning import Reckoning
from simulation.weather import CALM, Weather
from simulation.words import Words

from exchange.federation.peers import greet_peers, refresh_peers
from exchange.schemas.federation import BatchAnswer, ConsentStatusAnswer
from exchange.use_cases.clock_jumps import clock_jumped
from exchange.use_cases.destroy import destroy_due
from exchange.use_cases.maintain import destroy_ended, maintain
from exchange.use_cases.release_disclosure import release_due

SECOND: Final = 1000
HOUR: Final = 3600 * SECOND
_WAITING: Final = """
    SELECT 1 FROM outbox WHERE status = 'queued' UNION SELECT 1 FROM referral WHERE hold = 'release-due' LIMIT 1
"""
_UNSENT: Final = """
    SELECT 1 FROM outbox WHERE referral = ? AND kind = 'disclosure' AND status = 'queued' AND attempted_at IS NULL
"""
_UNSERVED: Final = "SELECT 1 FROM referral WHERE hold = 'unserved' LIMIT 1"


@dataclass(slots=True)
class Outcome:
    """What became of a history."""

    seed: int
    violation: ViolationError | None
    trace: list[str]
    judged: int
    referrals: int
    deaths: int
    reached: Counter[str]

    @property
    def digest(self) -> str:
        """Equal for equal histories."""
        return sha256("\n".join(self.trace).encode()).hexdigest()


def play(ground: Playground, seed: int) -> Outcome:
    """Play one history to its end, or to the first broken promise."""
    history = History(ground, seed)
    violation = None
    try:
        history.play()
    except ViolationError as error:
        violation = error
    finally:
        history.clear_away()
    oracle = history.oracle
    office = history.office
    return Outcome(
        seed, violation, history.lines, oracle.judged, len(office.cases), history.deaths, office.reached.counts
    )


class History:
    """The scheduler of one seed."""

    def __init__(self, ground: Playground, seed: int) -> None:
        self.ground = ground
        self.loop = ground.loop
        self.network = ground.network
        self.chance = random.Random(f"history {seed}")
        number, crowds = self.chance.randrange(CASTS), crowded(seed)
        self.cast = cast_of(CASTS + number % CROWDED if crowds else number)
        count = self.chance.choice([2, 2, 2, 2, 2, 2, 3, 3, 4])
        self.plans = random.Random(f"plans {seed}")
        """Whose plan changes at a bad moment follows from this alone."""
        self.weather = Weather.of(self.chance)
        temper = Temper.of(self.chance)
        temper = temper.in_a_crowd() if crowds else temper
        self.oracle = Oracle(self.cast, ground.private_half)
        self.words = Words(self.oracle)
        self.officers = Officers(self.cast, self.chance, self.trace, seed)
        listener = Listener(self.oracle, self.words, self.loop, self.officers)
        blind = blind_among(list(ground.machines)[:count], seed)
        self.machines = ground.begin(self.cast, count, seed, listener.watch(), blind)
        self.officers.machines = self.machines
        self.names = list(self.machines)
        self.lines: list[str] = []
        self.deaths = 0
        self.blind = {
            name: BlindOffice(
                ground.softwares[name], self.oracle, self.words, random.Random(f"workers {name} {seed}"), self.trace
            )
            for name in blind
        }
        self.oracle.blind = frozenset(blind)
        self.office = Office(self.chance, self.cast, self.oracle, self.machines, self.trace, self.officers, self.blind)
        self.desk = Desk(self.office, self.chance, self.words)
        self.people = People(temper, self.desk, self.cast, self.names, self.chance)
        self.crowd = Crowd(seed, self.people, self._days()) if crowds else None
        self.couriers: set[str] = set()
        for machine in self.machines.values():
            machine.dies = self._dies
        for one in self.blind.values():
            one.software.dies = self._dies
            self.trace(f"{one.agency} is blind")

    # The run.

    def play(self) -> None:
        """All of it."""
        first = self.chance.sample(self.names, 2)
        self._step([lambda: self.office.records_consent(first[0], self.people.others(first[0]))])
        for _ in range(self.chance.choice([1, 1, 2])):
            self._step([self.people.referral])
        self._good_days()
        for _ in range(self.chance.randint(8, 24)):
            self._check_failures()
            self._plan_and_less()
            self.officers.change()
            self.network.addresses = self.officers.addresses
            if self.officers.looks_again() and self.office.cases:
                self._step([functools.partial(self.desk.says_again, self.office.cases[0])])
            self._anything()
        self._last_words()
        self._end_well()
        reckoning = Reckoning(self.office, self.oracle, self.machines)
        reckoning.check()
        liveness = Liveness(self.office)
        liveness.check()
        for machine in self.machines.values():
            self.office.reached.count_at_the_end(machine)
        for one in self.blind.values():
            one.check_node_holds_nothing()
        if self.chance.random() < 0.1:
            self._much_later(liveness)
            reckoning.check()
            reckoning.check_destroyed()
            self._destroys_elsewhere()

    def _good_days(self) -> None:
        """Trouble finds referrals at every age: before it begins some of them have come a long way."""
        rough, self.weather = self.weather, CALM
        if self.crowd is not None:
            self.crowd.gathers()
        for _ in range(self.chance.choice([0, 0, 1, 2, 3, 4, 6])):
            for case in self.office.cases:
                way = self.people.next_step(case)
                if way is not None:
                    self._step([way])
            self._round()
        self.weather = rough

    def _last_words(self) -> None:
        """Few histories come to these by themselves: her plan changes late; what was said has not left, and she stops
        sharing.
        """
        for case in self.office.cases:
            if self.people.disclosed(case) and not self.people.over(case) and self.plans.random() < 0.4:
                self._step([functools.partial(self.office.tells, case, "update")])
            if self.people.disclosed(case) and not self.people.over(case) and self.chance.random() < 0.5:
                state = self.chance.choice(["in-service", "completed", "failed", "failed"])
                self._step([functools.partial(self.desk.reports, case, state)])
                self._step([functools.partial(self.office.says_no, case.receiver, "stop-sharing", case, None)])
        if self.crowd is not None:
            self.crowd.last_words()

    def _days(self) -> Days:
        return Days(self._step, self._round, self.officers.agree_anew, self._days_pass, self._nothing_waits)

    def _nothing_waits(self) -> None:
        self._deliver_all()
        Liveness(self.office).check()

    def clear_away(self) -> None:
        """Nothing of this history goes on."""
        for machine in self.machines.values():
            machine.dies = _never
            self.ground.softwares[machine.agency].dies = _never
            if machine.process is not None and machine.process.tasks:
                machine.bury()
        self.network.under_way.clear()
        self.loop.settle()

    def trace(self, line: str) -> None:
        """One line of what happened."""
        self.lines.append(line)

    def _anything(self) -> None:
        kind = self.chance.random()
        if kind < 0.42:
            self._work()
        elif kind < 0.70:
            self._pump()
        elif kind < 0.78:
            self._pass_time()
            self._reads_again()
        elif kind < 0.90:
            self._letters()
        else:
            self._trouble()

    def _plan_and_less(self) -> None:
        """Her plan changes, and then she allows less, while what was released for her has not left."""
        for case in self.office.cases:
            waits = self.machines[case.sender].main.rows(_UNSENT, case.id)
            if waits and self.office.alive(case.sender) and self.plans.random() < 0.5:
                self._step([functools.partial(self.office.tells, case, "update")])
                self._step([functools.partial(self.office.narrows, case.consent)])

    def _work(self) -> None:
        ways = self.people.ways()
        if ways:
            self._step(ways)
        else:
            self._pump()

    def _step(self, ways: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Start these, and let everything run that can."""
        tasks = [self.loop.create_task(_as_coroutine(way)) for way in ways]
        begins = self.oracle.step_begins = self.oracle.tick
        self._note_rosters()
        self.loop.settle()
        self._after(begins)
        for task in tasks:
            if not task.done():
                raise ViolationError("failed", "a call waits for ever")
            error = task.exception()
            if error is not None:
                raise error
        self._check_failures()

    def _note_rosters(self) -> None:
        """What every machine goes by from here on."""
        for name, machine in self.machines.items():
            self.oracle.goes_by(name, self.officers.standing(machine).others.changed)

    def _after(self, begins: int) -> None:
        """A step is over: what the clocks said during it, and who died in it."""
        ends = self.oracle.passes()
        self._note_rosters()
        for name, machine in self.machines.items():
            self.oracle.clocks[name].append((begins, ends, machine.now()))
            self.oracle.undelivered.standings[name].append((begins, self.officers.standing(machine)))
            if machine.process is not None and not machine.process.alive:
                self.deaths += 1
                self.oracle.deaths[name].append(ends)
                self.trace(f"{name} died")
                machine.bury()
                self.couriers.discard(name)
        self.ground.time += self.chance.choice([1, 40, SECOND, 7 * SECOND])

    def _check_failures(self) -> None:
        for error in self.loop.failures:
            if isinstance(error, ViolationError):
                raise error
            raise ViolationError("failed", f"{type(error).__name__}: {error}")

    def _reads_again(self) -> None:
        """After some time somebody opens what came long ago, perhaps two at once, and she may say no meanwhile."""
        arrived = self.oracle.arrived.items()
        items = [(who, one.id) for (who, _), those in arrived for one in those if one.kind in FORWARDS]
        if not items:
            return
        agency, item = self.chance.choice(items)
        others = [other for who, other in items if who == agency]
        for _ in range(self.chance.choice([1, 1, 2])):
            self.desk.begins_to_read(agency, list(dict.fromkeys([item, self.chance.choice(others)])))
            self._step([])
        if self.chance.random() < 0.2:
            self._step([self.people.her_no(self.chance.choice(self.office.cases))] if self.office.cases else [])
        self._letters()
        self._letters()

    # What machines do.

    def _pump(self) -> None:
        """The couriers' rounds, and most letters arrive."""
        for name in self.chance.sample(self.names, 2):
            self._courier(name)
            if self.network.under_way and self.office.cases and self.chance.random() < 0.3:
                # What is said while something is on its way is what is most easily overlooked.
                case = self.chance.choice(self.office.cases)
                self._step(
                    [self.people.her_no(case)]
                    if self.chance.random() < self.people.temper.her_no
                    else self.people.ways()
                )
            for _ in range(self.chance.choice([0, 2, 4, 6])):
                self._one_letter()

    def _courier(self, name: str, *, everything: bool = False) -> None:
        machine = self.machines[name]
        if machine.process is None:
            self._restart(machine)
        process = machine.process
        assert process is not None

        async def clocks() -> None:
            if everything or self.chance.random() < 0.15:
                await maintain(process.node)
                await destroy_ended(process.node)
                if name in self.blind:
                    await self.blind[name].tends(process.node)
            else:
                await release_due(process.node)
                await destroy_due(process.node)

        async def delivers() -> None:
            await process.courier.run_once()

        async def greets() -> None:
            await process.courier._look_at_clock()
            if await clock_jumped(process.node):
                await process.courier._greet()

        machine.run(greets())
        work = [clocks()] if everything or not self.weather.held_back or self.chance.random() < 0.6 else []
        if name not in self.couriers:
            self.couriers.add(name)
            task = machine.run(delivers())
            task.add_done_callback(lambda _: self.couriers.discard(name))
        self.trace(f"{name} courier")
        self._step([_once(machine.run(one)) for one in work])

    def _letters(self) -> None:
        for _ in range(self.chance.choice([1, 2, 3])):
            self._one_letter()

    def _one_letter(self) -> None:
        """Something happens to one letter that is under way."""
        if not self.network.under_way:
            return
        if self.network.old and self.chance.random() < self.weather.doubled:
            again = self.chance.choice(self.network.old)
            self.network.copy(again)
            self.trace(f"{again} copied")
        place = self.chance.randrange(len(self.network.under_way)) if self.chance.random() < 0.5 else 0
        letter = self.network.under_way[place]
        if self.chance.random() < self.weather.held_back:
            return
        self.network.under_way.pop(place)
        if isinstance(letter, Question) and self.chance.random() < 2 * self.weather.doubled:
            self.trace(f"{letter} goes astray")
            self.network.goes_astray(letter, self.chance)
        if self.chance.random() < self.weather.lost:
            self.trace(f"{letter} lost")
            self.network.lose(letter)
        else:
            self._goes_on(letter)
        self._step([])

    def _goes_on(self, letter: Letter) -> None:
        if letter.answer is None:
            self.trace(f"{letter} {letter.sender.agency} -> {letter.receiver.agency}")
            self.network.arrive(letter)
        else:
            self.trace(f"{letter} answered {','.join(_results(letter.answer))}")
            self.network.come_back(letter)

    def _pass_time(self) -> None:
        longest = self.chance.choice([60 * SECOND, HOUR, 5 * HOUR, DAY, 3 * DAY, 8 * DAY])
        if longest > HOUR:
            self._all_awake()
        if self.weather.wrong_clocks and self.chance.random() < 0.4:
            self._clock_jumps(self.machines[self.chance.choice(self.names)])
        passes = self.chance.randrange(longest)
        self._sleep(passes if longest >= DAY else 0)
        self.ground.time += passes
        self.trace(f"time +{longest // SECOND}")

    def _sleep(self, how_long: int) -> None:
        """No machine knows how long it was."""
        for machine in self.machines.values():
            machine.slept += how_long

    def _all_awake(self) -> None:
        for machine in self.machines.values():
            if machine.process is None:
                self._restart(machine)

    def _restart(self, machine: Machine) -> None:
        self.trace(f"{machine.agency} starts")
        machine.start()
        process = machine.process
        assert process is not None
        machine.run(greet_peers(process.node, process.courier._transport))
        calls = [one.call for one in self.office.pending if not one.done and one.agency == machine.agency]
        if calls:
            dies, machine.dies = machine.dies, _never
            self._step([*calls])
            machine.dies = dies

    def _trouble(self) -> None:
        kind, name = self.chance.random(), self.chance.choice(self.names)
        machine = self.machines[name]
        if kind < 0.3 and self.chance.random() < self.weather.cuts * 4:
            pair = frozenset(self.chance.sample(self.names, 2))
            self.network.cut ^= {pair}
            self.trace(f"cut {sorted(pair)}")
        elif kind < 0.5 and self.weather.deaths and machine.process is not None:
            self.trace(f"{name} killed")
            machine.process.die()
            self._step([])
        elif kind < 0.65 and self.weather.wrong_clocks:
            machine.offset = self.chance.randrange(-50 * SECOND, 50 * SECOND)
            self.trace(f"{name} clock {machine.offset}")
        elif kind < 0.8:
            renewed = self.officers.publish()
            if renewed is not None and renewed.process is not None:
                renewed.process.die()
                self._step([])
        elif machine.process is not None:
            self.trace(f"{name} asks for cards")
            process = machine.process
            self._step([_once(machine.run(refresh_peers(process.node, process.courier._transport)))])

    def _clock_jumps(self, machine: Machine) -> None:
        """Its clock is far ahead for some rounds in which nobody works; one that has never looked believes it."""
        works = any(not one.done and one.agency == machine.agency for one in self.office.pending)
        if works or not machine.main.rows("SELECT 1 FROM clock_look"):
            return
        ahead, steps = self.chance.choice([(2 * HOUR, 1), (60 * DAY, 1), (3 * DAY, 80), (9 * DAY, 240)])
        self.trace(f"{machine.agency} clock jumps {ahead // HOUR} hours in {steps}")
        kept = machine.offset
        for _ in range(steps):
            machine.offset += ahead // steps
            if machine.process is not None:
                self._step([_once(machine.run(machine.process.courier._look_at_clock()))])
        for _ in range(self.chance.choice([1, 2])):
            self._courier(machine.agency, everything=True)
            self._letters()
        machine.offset = kept

    def _dies(self, point: str) -> bool:
        if self.weather.deaths and self.chance.random() < self.weather.deaths:
            self.trace(point)
            return True
        return False

    # The end.

    def _end_well(self) -> None:
        """The network heals, the machines run, everything arrives."""
        self.trace("the end")
        self.weather = CALM
        self.network.cut.clear()
        self.officers.end_well()
        self._all_awake()
        for call in [one.call for one in self.office.pending if not one.done]:
            self._step([call])
        self._deliver_all()
        for case in self.office.cases:
            self._step([functools.partial(self.desk.says_again, case)])
        self._deliver_all()
        self._opens_everything()
        self._round(clocks=True)
        self._deliver_all()

    def _opens_everything(self) -> None:
        """Whose node is blind opens what lies there: twice, since what was opened once has to open again."""
        for one in [*self.blind.values()] * 2:
            opens = functools.partial(one.opens, settled=True)
            self.machines[one.agency].run(self.office.ask(one.agency, "opens everything", opens))
            self._step([])
            self._round()

    def _destroys_elsewhere(self) -> None:
        for one in self.blind.values():
            self._step([functools.partial(one.tends, self.machines[one.agency].node)])
            one.check_destroyed()

    def _deliver_all(self) -> None:
        for _ in range(40):
            if not self._something_to_do():
                self._look_for_places()
                if not self._something_to_do():
                    return
            self._round()
            self.ground.time += 11 * 60 * SECOND
        raise ViolationError("lost", "something stays queued although everybody can be reached")

    def _look_for_places(self) -> None:
        """A courier makes a round every two seconds; whether a place came free is written nowhere else."""
        for name in self.names:
            if self.machines[name].main.rows(_UNSERVED):
                self._courier(name)
                self._step([])

    def _round(self, *, clocks: bool = False) -> None:
        for name in self.names:
            if clocks or self._has_to_do(self.machines[name]):
                self._courier(name, everything=clocks)
            while self.network.under_way:
                self._goes_on(self.network.under_way.pop(0))
                self._step([])

    def _something_to_do(self) -> bool:
        return any(self._has_to_do(machine) for machine in self.machines.values())

    def _has_to_do(self, machine: Machine) -> bool:
        return bool(machine.main.rows(_WAITING))

    def _much_later(self, liveness: Liveness) -> None:
        """All clocks run out, also one that was sixty days ahead, and nothing waits at any time for what is over."""
        for days in (5, 12, 80):
            self._days_pass(days)
            self._deliver_all()
            liveness.check()
        self._round(clocks=True)

    def _days_pass(self, days: int) -> None:
        self._sleep(days * DAY)
        self.ground.time += days * DAY
        # By then nobody has seen this time, and only then everybody has confirmed it to everybody.
        self._round(clocks=True)
        self._round(clocks=True)


def _results(answer: Answer) -> list[str]:
    if isinstance(answer, ConsentStatusAnswer):
        return [one.status for one in answer.receipts]
    return [one.result for one in answer.answers] if isinstance(answer, BatchAnswer) else []


def _once(task: Any) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        await task

    return wait


async def _as_coroutine(way: Callable[[], Awaitable[None]]) -> None:
    await way()


def _never(_point: str) -> bool:
    return False

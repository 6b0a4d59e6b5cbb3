"""What all histories of a process share: the loop, the machines, and the templates of their disks.

Making a machine takes as long as a hundred histories; a history begins by copying the templates back. Nothing that
happens in one history is left for the next: `Playground.begin` is where that is made sure.
"""

from __future__ import annotations

import io
import random
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from simulation.federations import AGENCIES, BEGIN, Cast, cast_of, world_of
from simulation.machines import Keys, Machine, Process
from simulation.network import Network, Watch
from simulation.one_thread import OneThread
from simulation.software import Software

from exchange.federation.peers import fetch_peer_keys
from exchange.federation.transport import PeerUnreachableError
from exchange.roster import Member
from exchange.schemas.federation import ConsentStatusAnswer
from exchange.telemetry.logs import configure_logging
from exchange.use_cases.own_epochs import publish_own_epochs

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it


class LoggedErrors(io.StringIO):
    """Where nodes log errors: a courier survives every mistake in it, and says so in its log alone."""

    def __init__(self, loop: OneThread) -> None:
        super().__init__()
        self._loop = loop

    def write(self, line: str) -> int:
        self._loop.failures.append(RuntimeError(f"a node logged {line.strip()}"))
        return len(line)


class Playground:
    """Four machines and a clock."""

    def __init__(self) -> None:
        where = _MEMORY if _MEMORY.is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="simulation-", dir=where))
        self.time = BEGIN
        self.loop = OneThread(lambda: self.time)
        configure_logging(level="error", stream=LoggedErrors(self.loop))
        self.machines = {agency: Machine(agency, self.folder, self.loop, lambda: self.time) for agency in AGENCIES}
        self.network = Network(self.loop, self.machines, Watch(_nobody, _nobody, _nobody))
        self.epochs: dict[str, bytes] = {}
        self.softwares = {name: Software(machine, self.folder) for name, machine in self.machines.items()}
        self._make_templates(cast_of(0))

    def close(self) -> None:
        """Give the memory back."""
        for software in self.softwares.values():
            software.close()
        for machine in self.machines.values():
            machine.close()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        configure_logging(level="warning")
        shutil.rmtree(self.folder, ignore_errors=True)

    def begin(
        self, cast: Cast, count: int, seed: object, watch: Watch, blind: Collection[str] = ()
    ) -> dict[str, Machine]:
        """Fresh machines of this cast, running, all with the first roster; the blind ones without the agency's keys."""
        self.time = BEGIN + random.Random(f"begin {seed}").randrange(4 * 86_400_000)
        self.loop.begin_anew()
        machines = dict(list(self.machines.items())[:count])
        self.network.begin_anew(machines, watch)
        world = world_of(cast, count, 1, None, False)
        for machine in machines.values():
            machine.offset = machine.slept = 0
            machine.keys = Keys.of(machine.agency)
            machine.entropy = random.Random(f"{machine.agency} {seed}")
            machine.world = world
            machine.newest = lambda: world
            machine.dies = _never
            machine.blind = machine.agency in blind
            machine.begin_anew()
            if machine.blind:
                self.softwares[machine.agency].begin_anew(seed)
        return machines

    def private_half(self, agency: str, key_id: str) -> bytes:
        """An agency's key of a week, taken from its key store while it is there."""
        found = self.epochs.get(key_id)
        if found is None:
            machine = self.machines[agency]
            found = (self.softwares[agency] if machine.blind else machine).private_half(key_id)
            assert found is not None, "sealed to a key that its owner does not have"
            self.epochs[key_id] = found
        return found

    def connect(self, machine: Machine, process: Process) -> object:
        """The way of a process to the others."""
        way = self.network.transport(machine, process)

        async def fetch(peer: Member) -> None:
            await fetch_peer_keys(process.node, way, peer)

        async def ask(peer: Member, receipts: Sequence[str]) -> ConsentStatusAnswer | None:
            try:
                return await way.consent_status(peer, receipts)
            except PeerUnreachableError:
                return None

        process.node.fetch_peer_keys = fetch
        process.node.ask_consent_status = ask
        return way

    def _make_templates(self, cast: Cast) -> None:
        world = world_of(cast, len(AGENCIES), 1, None, False)
        for machine in self.machines.values():
            machine.connect = self.connect  # type: ignore[assignment]
            machine.world = world
            machine.start()
            self.loop.finish(publish_own_epochs(machine.node))
        for machine in self.machines.values():
            for peer in self.machines.values():
                if peer is not machine:
                    member = world.roster.member(peer.agency)
                    self.loop.finish(machine.node.fetch_peer_keys(member))
        for machine in self.machines.values():
            machine.bury()
            machine.main.keep_as_template()
            machine.secret.keep_as_template()


def _nobody(*_said: object) -> None:
    pass


def _never(_point: str) -> bool:
    return False

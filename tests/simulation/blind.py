"""What workers do with their agency's own software, where the node holds no agency key; and what it must keep.

Rules:

* What an honest agency sent opens, as exactly what was sealed, once and again, until it is destroyed or the week of its
  key has ended. The software refuses nothing of it, and doubts nothing for good.
* What her consent withholds is withheld here too (`words.py`): the node does not hand it out.
* The node's files never hold anything that opens an envelope: no key of the agency, of a week or of a referral, and no
  word of what was inside.
* Of what is destroyed at the node the software keeps no key.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from simulation import opened
from simulation.line import SoftwareDiedError
from simulation.machines import Keys
from simulation.office import ACTING
from simulation.opened import ANSWERS, FORWARDS, Opened
from simulation.oracle import Oracle, ViolationError
from simulation.software import Software
from simulation.words import Words

from exchange.client.errors import ProblemError
from exchange.client.vault import AgencyVault, DoubtfulItemError, RefusedItemError, VaultError
from exchange.envelope.keys import key_id
from exchange.referral.content import ReferralContent
from exchange.schemas.inbox import InboxItem, OpenedItem
from exchange.schemas.referrals import ReferralRequest
from exchange.schemas.sealing import EnvelopesAnswer, EnvelopesRequest
from exchange.use_cases.errors import UseCaseError
from exchange.use_cases.hand_in_sealed import hand_in_sealed
from exchange.use_cases.idempotency import Idempotency, Stored
from exchange.use_cases.node import Node

T = TypeVar("T")
_HISTORIES: Final = 0.25
_TENDED_MEANWHILE: Final = 0.1
_WORDS: Final = (b"paper lantern", b"Wrong number", b"perpetrator-nearby", b'"preferred_name":"Name')


def blind_among(names: Sequence[str], seed: object) -> tuple[str, ...]:
    """Whose keys lie with their own software: somebody in a quarter of all histories. No other choice depends on it."""
    chance = random.Random(f"blind {seed}")
    if chance.random() >= _HISTORIES:
        return ()
    return tuple(sorted(chance.sample(names, chance.choice([1, 1, len(names)]))))


@dataclass(slots=True)
class BlindOffice:
    """The workers of one agency, at its software."""

    software: Software
    oracle: Oracle
    words: Words
    chance: random.Random
    trace: Callable[[str], None]

    @property
    def agency(self) -> str:
        """Whose workers they are."""
        return self.software.agency

    async def act(self, node: Node, work: Callable[[AgencyVault], Awaitable[T]]) -> T:
        """One act; what is done daily may be done meanwhile."""
        if self.chance.random() < _TENDED_MEANWHILE and self.software.machine.process is not None:
            self.software.machine.run(self.tends(node))
        return await self._act(node, work)

    async def _act(self, node: Node, work: Callable[[AgencyVault], Awaitable[T]]) -> T:
        """Somebody may have installed another roster before it."""
        machine = self.software.machine
        assert machine.world is not None
        self.software.installs(machine.newest() if self.chance.random() < 0.1 else machine.world)
        return await self.software.act(node, work)

    def referring(self, request: ReferralRequest) -> Callable[[Node, Idempotency], Awaitable[Stored[EnvelopesAnswer]]]:
        """Refers her: sealed once under one key, whenever the software dies, and handed in until it is answered."""
        kept: list[EnvelopesRequest] = []

        key = self.software._fresh_key()

        async def once(vault: AgencyVault) -> EnvelopesRequest:
            return (await vault.seal(request, idempotency_key=key)).hand_in

        async def work(node: Node, idem: Idempotency) -> Stored[EnvelopesAnswer]:
            while not kept:
                with suppress(SoftwareDiedError):
                    kept.append(await self.act(node, once))
            return await hand_in_sealed(node, ACTING, kept[0], idem)

        return work

    def telling(self, referral: str, kind: str, said: dict[str, Any]) -> Callable[[Node], Awaitable[Any]]:
        """Tells the receiver something later."""
        content = ReferralContent.model_validate_json(json.dumps(said))

        def tell(vault: AgencyVault) -> Awaitable[Any]:
            if kind == "disclosure":
                return vault.replace_disclosure(referral, content)
            if kind == "information":
                return vault.inform(referral, content)
            assert content.safe_contact is not None
            return vault.update_safe_contact(referral, content.safe_contact)

        return lambda node: self.act(node, tell)

    # What arrived.

    def answering(self, referral: str, sealed: Callable[[AgencyVault], Awaitable[T]]) -> Callable[[Node], Awaitable[T]]:
        """Answers an offer, which he has opened before."""

        async def answer(vault: AgencyVault) -> T:
            await self._knows(vault, referral)
            return await sealed(vault)

        return lambda node: self.act(node, answer)

    async def opens(self, node: Node, items: Collection[str] | None = None, *, settled: bool = False) -> None:
        """Open these, or everything; `settled`: nobody's roster is on its way, and nothing may stay in doubt."""

        async def work(vault: AgencyVault) -> None:
            there = [item async for item in vault._client.inbox.pages()]
            for item in sorted(there, key=lambda one: one.kind != "offer"):
                chosen = items is None or item.id in items
                if chosen and item.status != "destroyed" and item.kind in FORWARDS | ANSWERS:
                    await self._opens(vault, item, settled=settled)

        await self.act(node, work)

    async def _knows(self, vault: AgencyVault, referral: str) -> None:
        if vault._identity.store.case(referral) is None:
            async for item in vault._client.inbox.pages():
                if (item.referral, item.kind) == (referral, "offer") and item.status != "destroyed":
                    await self._opens(vault, item, settled=False)

    async def _opens(self, vault: AgencyVault, item: InboxItem, *, settled: bool) -> None:
        process = self.software.machine.process
        try:
            found = await vault.open(item)
        except RefusedItemError as error:
            there = self._week_goes_on(item.id) and not self._other_key_now(item, error.code)
            if there and not self._other_office_now(item, error.code):
                self._fails(item, f"is refused at step {error.step} as `{error.code}`")
            self.trace(f"{self.agency} refuses {item.kind}: its week is over, or its sender's key was replaced")
        except DoubtfulItemError as error:
            if settled and self._may_be_known(item) and not self._other_office_now(item, error.code):
                self._fails(item, f"stays in doubt at step {error.step} as `{error.code}`")
            self.trace(f"{self.agency} doubts {item.kind}: {error.code}")
        except VaultError as error:
            if not self._gone_at_node(item):
                self._fails(item, f"does not open: {error.code}")
        except ProblemError as error:
            self.trace(f"{self.agency} does not open {item.kind}: {error.problem.code}")
            if error.problem.code == "consent-ended":
                self.words.told_that_ended(self.agency, item.id)
        else:
            self._shown(item, found)
            self.words.shown(self.agency, process, found, self.software.machine.now())

    def _fails(self, item: InboxItem, how: str) -> None:
        raise ViolationError("lost", f"{item.kind} from {item.sender} {how} by the software of {self.agency}")

    def _envelope(self, item: str) -> Opened:
        return self.oracle.seen[item]

    def _week_goes_on(self, item: str) -> bool:
        key = self._envelope(item).header["epoch_key"]
        rows = self.software.machine.main.rows("SELECT not_after FROM own_epoch WHERE key_id = ?", key)
        return bool(rows) and int(rows[0][0]) > self.software.machine.now()

    def _other_key_now(self, item: InboxItem, code: str) -> bool:
        """Whether the sender has another agency key now than the one that signed, or another node key than at first."""
        members = self.software.machine.newest().roster.members
        if item.sender not in members:
            return True
        if code == "release-invalid":
            return members[item.sender].node_key != Keys.of(item.sender).node.public
        return self._envelope(item.id).header["signing_key"] != key_id(members[item.sender].agency_key)

    def _other_office_now(self, item: InboxItem, code: str) -> bool:
        """Whether one of the two has become another office: the software opens by the roster of today, and nothing that
        the contract would not let go between what they are now.
        """
        members, cast = self.software.machine.newest().roster.members, self.oracle.cast
        others = [one for one in (self.agency, item.sender) if members[one].kind != cast.agency(one).kind]
        return code in {"no-rule", "over-shared", "respond-by-too-late"} and bool(others)

    def _may_be_known(self, item: InboxItem) -> bool:
        return self.software.store.case(item.referral) is not None

    def _gone_at_node(self, item: InboxItem) -> bool:
        query = "SELECT destroyed_at, blocked_at FROM referral WHERE id = ?"
        return any(any(row) for row in self.software.machine.main.rows(query, item.referral))

    def _shown(self, item: InboxItem, found: OpenedItem) -> None:
        envelope = self._envelope(item.id)
        inside = opened.inside(envelope, self.oracle.private_half(self.agency, envelope.header["epoch_key"]))
        if found.content is None:
            same = found.answer == inside
        else:
            same = found.content == ReferralContent.model_validate_json(json.dumps(inside["content"]))
        if not same or found.digest != envelope.digest:
            raise ViolationError("disagreement", f"{self.agency} shows another {item.kind} than was sealed")

    async def tends(self, node: Node) -> None:
        """What the agency's machine does daily: weekly keys, and the end of what the node has destroyed."""

        async def work(vault: AgencyVault) -> None:
            await vault.publish_epochs()
            await vault.destroy_ended()

        with suppress(UseCaseError):
            await self._act(node, work)

    # The books.

    def check_node_holds_nothing(self) -> None:
        """Nothing on the node's disks opens an envelope, or says what was in one."""
        machine = self.software.machine
        for what, query in _OPENS.items():
            if (machine.secret if what in _IN_KEY_STORE else machine.main).rows(query):
                raise ViolationError("leaked", f"the node of {self.agency} holds {what}")
        secrets = [machine.keys.agency.secret_bytes(), self.software.storage.row_key().secret_bytes(), *_WORDS]
        secrets += [half for key_id, *_ in self.software.store.epochs() if (half := self.software.private_half(key_id))]
        for disk in (machine.main, machine.secret):
            for path in disk.path.parent.glob(f"{disk.path.name}*"):
                data = path.read_bytes()
                if any(secret in data for secret in secrets):
                    raise ViolationError("leaked", f"a file of the node of {self.agency} holds what opens an envelope")

    def check_destroyed(self) -> None:
        """Of what the node has destroyed no key is left here, nor of what it does not know and never will."""
        for referral, case in self.software.store.cases():
            rows = self.software.machine.main.rows("SELECT destroyed_at FROM referral WHERE id = ?", referral)
            gone = rows[0][0] is not None if rows else case.forgotten_by(self.software.machine.now())
            if gone:
                raise ViolationError("kept", f"the software of {self.agency} keeps the key of a destroyed referral")


_IN_KEY_STORE: Final = frozenset({"a private half of a week", "a key of a referral"})
_OPENS: Final = {
    "a private half of a week": "SELECT 1 FROM epoch_private LIMIT 1",
    "a key of a referral": "SELECT 1 FROM referral_key LIMIT 1",
    "a key of an envelope": "SELECT 1 FROM inbox WHERE rewrapped_key IS NOT NULL LIMIT 1",
}

"""Which refusals of her no, and of what else nobody may be refused, are right. The list is closed.

Rules:

* Her no is recorded, in every form and from either side, wherever there is something to say no to. Of a consent it is
  never refused; of a referral only where the node has never had it, or has forgotten it.
* So is less than before while her consent lives, a recall and a release while the referral lives, an error until it is
  destroyed, an attestation that is owed, and that an item was taken over.
* So are a decision in time on an offer that is open, and the first word about a service that was promised.
* That others write at the same moment is no reason (`changed-meanwhile`): the node takes the step again.
* What is looked at is what lies on the node's disk before and after the call: who is refused because of what another
  did meanwhile is refused for what can be read there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from simulation.machines import Machine

_DAY: Final = 86_400_000
_SKEW: Final = 120_000
_OPEN: Final = frozenset({"sent", "received", "information-requested"})
_OVER: Final = frozenset(
    {"declined", "redirected", "expired", "completed", "failed", "withdrawn", "recalled", "entered-in-error"}
)
_HELD: Final = frozenset({"held", "confirm", "unserved", "release-due"})
_ELSEWHERE: Final = frozenset({"roster-differs", "sender-not-active", "unknown-referral"})
"""The agency's own software has another roster than its node, perhaps one that does not list it, or has not opened the
offer."""
_REFERRAL: Final = """
    SELECT state, hold, destroyed_at, respond_by, number, closed_at, sharing_stopped_at, destroy_at
    FROM referral WHERE id = ?
"""
_CONSENT: Final = "SELECT version, state, expires_at FROM consent WHERE id = ?"
_OWN_WORDS: Final = "SELECT name FROM event WHERE referral = ? AND side = ? ORDER BY number"
_OWED: Final = "SELECT 1 FROM attestation WHERE referral = ? AND party = 'own-agency'"
_ITEM: Final = "SELECT status, lease_until FROM inbox WHERE id = ?"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What lies there at one moment."""

    now: int
    referral: tuple[Any, ...] | None
    consent: tuple[Any, ...] | None
    item: tuple[Any, ...] | None
    received: tuple[str, ...]
    """The receiving side's words, oldest first."""
    owed: bool
    listed: bool
    """Whether the roster here lists this agency and the other."""

    @property
    def state(self) -> str:
        return str(self.referral[0]) if self.referral is not None else "nothing"

    @property
    def destroyed(self) -> bool:
        """Or about to be: whose time is over is called destroyed, though the courier has not been there."""
        due = self.referral[7] if self.referral is not None else None
        return self.referral is None or self.referral[2] is not None or (due is not None and self.now >= due)

    @property
    def late(self) -> bool:
        """Whether the time to answer is over, by a clock of this process."""
        return self.referral is None or self.now > (self.referral[3] or 0)

    @property
    def over(self) -> bool:
        expired = self.state in _OPEN and self.referral is not None and self.now >= (self.referral[3] or 0) + _DAY
        return self.destroyed or expired or self.state in _OVER or "completed" in self.received

    @property
    def number(self) -> int:
        return int(self.referral[4]) if self.referral is not None else 0


@dataclass(slots=True)
class Promise:
    """One call that only a reason on the list refuses. Made before the call."""

    machine: Machine
    act: str
    referral: str | None = None
    consent: str | None = None
    item: str | None = None
    blind: bool = False
    before: _Seen = field(init=False)

    def __post_init__(self) -> None:
        self.before = self._look()

    def broken_by(self, code: str) -> bool:
        """Whether this refusal is not right."""
        if code in _UNLISTED and self.act in _SEALED and not (self.before.listed and self._look().listed):
            return False
        right = _RIGHT[self.act].get(code)
        if right is None:
            return not (self.blind and self.act in _SEALED and code in _ELSEWHERE)
        after = self._look()
        return not (right(self.before) or right(after) or (right is _overtaken and _has_moved(self.before, after)))

    def _look(self) -> _Seen:
        rows = self.machine.main.rows
        received = rows(_OWN_WORDS, self.referral, "receiving") if self.referral is not None else []
        return _Seen(
            self.machine.now(),
            next(iter(rows(_REFERRAL, self.referral)), None) if self.referral is not None else None,
            next(iter(rows(_CONSENT, self.consent)), None) if self.consent is not None else None,
            next(iter(rows(_ITEM, self.item)), None) if self.item is not None else None,
            tuple(name for (name,) in received),
            owed=self.referral is not None and bool(rows(_OWED, self.referral)),
            listed=self._is_listed(),
        )

    def _is_listed(self) -> bool:
        world = self.machine.world
        peers = self.machine.main.rows("SELECT peer FROM referral WHERE id = ?", self.referral or "")
        assert world is not None
        return {self.machine.agency, *(peer for (peer,) in peers)} <= world.roster.members.keys()


def _has_moved(before: _Seen, after: _Seen) -> bool:
    """Whether somebody else has written about the same meanwhile."""
    return before.number != after.number or before.consent != after.consent


def _overtaken(_seen: _Seen) -> bool:
    """Right only where another was faster: what was asked for is wrong since."""
    return False


def _always(_seen: _Seen) -> bool:
    return True


def _unknown(seen: _Seen) -> bool:
    return seen.referral is None


def _destroyed(seen: _Seen) -> bool:
    return seen.destroyed


def _destroyed_here_or_there(seen: _Seen) -> bool:
    """At the node, or with the keys of the agency's own software, which destroys them before it attests."""
    return seen.destroyed or (seen.owed and seen.over)


def _no_item(seen: _Seen) -> bool:
    return seen.item is None


def _ended(seen: _Seen) -> bool:
    """Of a consent."""
    return seen.consent is None or seen.consent[1] not in {"given", "renewed"} or seen.now >= seen.consent[2] - _SKEW


def _over(seen: _Seen) -> bool:
    return seen.over or seen.state == "recall-requested"


def _nothing_held(seen: _Seen) -> bool:
    return seen.referral is None or seen.referral[1] not in _HELD


def _not_accepted(seen: _Seen) -> bool:
    return seen.over or seen.state in _OPEN | {"waitlisted"} or "accepted" not in seen.received


def _leased(seen: _Seen) -> bool:
    return seen.item is not None and seen.item[1] > seen.now


def _not_new(seen: _Seen) -> bool:
    return seen.item is not None and seen.item[0] != "new"


def _not_owed(seen: _Seen) -> bool:
    return not seen.owed


def _decided(seen: _Seen) -> bool:
    return seen.over or seen.state not in _OPEN | {"waitlisted"}


def _spoken_to(seen: _Seen) -> bool:
    return _decided(seen) or bool(seen.received)


def _not_promised(seen: _Seen) -> bool:
    return seen.over or seen.state != "accepted" or seen.received[-1:] != ("accepted",)


def _said_to_be_over(seen: _Seen) -> bool:
    """The receiver has said that its service is over: nothing follows, also while a recall waits for an answer.

    It waits where the service had begun by a word that stayed at home, and the state is no end in itself then.
    """
    return not {"completed", "failed"}.isdisjoint(seen.received)


def _silenced(seen: _Seen) -> bool:
    """She stopped sharing, and there is nothing to decide: the agency's own software says the former first."""
    return _decided(seen) and seen.referral is not None and seen.referral[6] is not None


def _late(seen: _Seen) -> bool:
    return seen.late


Right = Callable[[_Seen], bool]
_ANSWERED: Final[Mapping[str, Right]] = {
    "not-found": _no_item,
    "destroyed": _destroyed_here_or_there,
    # What is said is sealed to a key of this week, which a sender that is away may not have shown yet.
    "peer-keys-unknown": _always,
    "peer-keys-refused": _always,
}
_RIGHT: Final[Mapping[str, Mapping[str, Right]]] = {
    "no to a referral": {"not-found": _unknown},
    "no to a consent": {},
    "less": {"not-live": _ended, "consent-invalid": _ended, "adds-something": _overtaken},
    "again yes": {"not-live": _ended},
    "recall": {"destroyed": _destroyed, "state-forbids": _over},
    "error": {"destroyed": _destroyed, "not-found": _no_item},
    "release": {"destroyed": _destroyed, "nothing-held": _nothing_held, "not-accepted": _not_accepted},
    "attestation": {"nothing-owed": _not_owed, "not-found": _no_item},
    "taking over": {"leased": _leased, "not-found": _no_item},
    "lease": {"leased": _leased, "not-new": _not_new, "not-found": _no_item},
    "decision": {"state-forbids": _decided, "sharing-stopped": _silenced, "respond-by-passed": _late, **_ANSWERED},
    "first decision": {
        "state-forbids": _spoken_to,
        "sharing-stopped": _silenced,
        "respond-by-passed": _late,
        **_ANSWERED,
    },
    "progress": {"state-forbids": _not_promised, "unreachable": _said_to_be_over, **_ANSWERED},
}
_UNLISTED: Final = frozenset({"receiver-not-active", "sender-not-active", "not-found", "unknown-agency", "not-listed"})
"""Nothing can be sealed for whom the roster does not list, or by whom."""
_SEALED: Final = frozenset({"decision", "first decision", "progress", "attestation"})

"""Which refusals the protocol allows between two honest nodes, and what may never have arrived.

Rules:

* A stop is never refused, and an answer to a referral that its sender made is never unknown there.
* Forwards and answers may be refused by their own end of time, by standing, by a contract that is not in force at the
  receiver, and by a referral that has ended there. A forward also where, by the receiver's roster, the two are those
  between whom the contract does not let it go; anything by a node that has the receiver's old address.
* What was said and never arrived was refused in one of these ways, barred while one of the two was suspended or since
  the agency's own key was replaced, or too old; an offer also where she allowed less, her consent ran out, the file of
  its contract was gone, or one of the two was another kind of office or elsewhere, before it left. Its maker has to be
  told in each case; whether it is, is the reckoning's question. What a worker has said again because of it, and the
  node has taken, arrives like anything that is said then.

A step that died before it was answered may have been done: what was begun counts where it excuses something.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from simulation.federations import NO_OTHERS, Agency, Cast, Others
from simulation.machines import Replaced
from simulation.opened import ANSWERS, FORWARDS, Opened

_DAY: Final = 86_400_000
_SKEW: Final = 120_000
_ANSWER_LIVES: Final = 14 * _DAY
_RELEASE_LIVES: Final = 14 * _DAY
KEPT_AT_LEAST: Final = _DAY
"""The shortest retention of any contract (`federations.py`)."""
_JUMP: Final = 600_000
"""Clocks of one machine jump by less."""
_ENDS: Final = frozenset({"declined", "redirected", "completed", "failed"})


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node's roster and clock say at one moment."""

    at: int
    suspended: str | None
    second: bool
    """Whether the second contract is in force."""
    replaced: Replaced = ()
    lacks: bool = False
    """Whether the second contract's file is not there: what waits under it is destroyed, and told."""
    others: Others = NO_OTHERS


@dataclass(slots=True)
class Undelivered:
    """The memory for these two questions."""

    cast: Cast
    begun: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """By agency and referral: events that a worker there has asked for, or a peer's stop has brought."""
    standings: dict[str, list[tuple[int, Standing]]] = field(default_factory=lambda: defaultdict(list))
    """By agency: (tick, what held there)."""
    refused: set[tuple[str, str, str]] = field(default_factory=set)
    """(receiver, referral, event or kind) that was refused as it may be."""
    sealed: dict[tuple[str, int], dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By referral and number: the envelopes of one event, and what each has seen. One may have arrived and ended it."""
    answer_by: dict[str, int] = field(default_factory=dict)
    """By referral: until when its offer said that it waits."""

    def leaves(self, envelope: Opened) -> None:
        """An envelope is on its way: from now on it may have arrived."""
        if envelope.kind == "offer":
            self.answer_by[envelope.referral] = envelope.header["respond_by"]
        elif envelope.kind in ANSWERS:
            self.sealed[envelope.referral, envelope.header["number"]][envelope.header["id"]] = envelope.header["seen"]
        elif envelope.kind not in FORWARDS | ANSWERS:
            self.begun[envelope.header["to"], envelope.referral].add("stopped")

    def refusal(
        self, receiver: str, envelope: Opened, code: str, now: Standing, fields: Callable[[], frozenset[str]]
    ) -> bool:
        """Remember that an envelope was refused; returns whether it may be."""
        if code == "wrong-recipient":
            return receiver != envelope.header["to"]  # it stays in the queue, whatever it is, and has to arrive
        if code == "release-invalid":
            # Signed by the node key of before: it goes again with a signature of today, and has to arrive.
            return (envelope.header["from"], "node") in now.replaced
        self.refused.add((receiver, envelope.referral, _name(envelope)))
        if envelope.kind not in FORWARDS | ANSWERS:
            return False
        header = envelope.header
        match code:
            case "expired" if envelope.release is not None:
                return now.at > int(envelope.release["released_at"]) + _RELEASE_LIVES
            case "expired":
                return bool(now.at > header["expires"] + _SKEW)
            case "receipt-expired":
                return bool(now.at >= header["receipt"]["expires"] + _SKEW)
            case "not-in-good-standing":
                return now.suspended in {header["from"], receiver}
            case "contract-not-in-force":
                return self._not_in_force(envelope, now)
            case "withdrawn" | "not-legal":
                return self._over(receiver, envelope, now)
            case "no-rule" | "over-shared" | "respond-by-too-late" if envelope.kind in FORWARDS:
                return self._not_permitted(envelope, code, now, fields())
        return False

    def _not_in_force(self, envelope: Opened, now: Standing) -> bool:
        header = envelope.header
        first = self.cast.agreements[0].contract.digest
        signed = self.cast.outsider not in {header["from"], header["to"]}
        return header["contract"] != first and not (now.second and signed)

    def _not_permitted(self, envelope: Opened, code: str, now: Standing, fields: frozenset[str]) -> bool:
        """Whether the two are, by the roster here, between whom this may not go; its sender had another one."""
        header = envelope.header
        sender, receiver = (self.cast.agency(header[name], now.others.changed) for name in ("from", "to"))
        rule = self.cast.agreement(header["contract"]).rule(sender, receiver)
        if rule is None or "consent" not in rule["bases"]:
            return code == "no-rule"
        if code == "respond-by-too-late":
            hours = int(rule["respond_within"][header["priority"]].removesuffix("h"))
            return bool(header["respond_by"] > header["created"] + hours * 3_600_000)
        listed = rule["offer"] if header["stage"] == "offer" else rule["disclosure"] + rule["named"]
        return code == "over-shared" and not fields <= set(listed)

    def _over(self, receiver: str, envelope: Opened, now: Standing) -> bool:
        sealed = self.sealed[envelope.referral, envelope.header["number"]] if envelope.kind in ANSWERS else {}
        if len(sealed) > 1 and now.at > envelope.header["created"] + KEPT_AT_LEAST - _JUMP:
            return True
        if len(set(sealed.values())) > 1:
            return True  # what has seen more, keys elsewhere, is another event under its number (`docs/simulation.md`)
        begun = self.begun[receiver, envelope.referral]
        expired_at = self.answer_by.get(envelope.referral, now.at) + _DAY
        if envelope.kind in ANSWERS or envelope.kind == "offer":
            # An answer that crosses an ordinary end is recorded, for as long as the referral is kept after it.
            return "stopped" in begun or now.at > expired_at + KEPT_AT_LEAST
        return now.at > expired_at or bool(begun & (_ENDS | {"stopped"}))

    def said_again(self, hearer: str, referral: str, words: set[str]) -> set[tuple[str, str, str]]:
        """A worker says again what did not arrive: that it was refused before excuses nothing any more.

        Returns what it has excused until now.
        """
        before = self.refused & {(hearer, referral, word) for word in words}
        self.refused -= before
        return before

    def may_be_missing(self, speaker: str, hearer: str, referral: str, name: str, since: tuple[int, int]) -> bool:
        """Whether what was said at this (tick, clock) may never have arrived."""
        if (hearer, referral, name) in self.refused:
            return True
        tick, clock = since
        lives = self._offer_lives(speaker, hearer) if name == "offer" else _ANSWER_LIVES
        later = [one for seen, one in self.standings[speaker] if seen >= tick]
        before = [one for seen, one in self.standings[speaker] if seen < tick][-1:]
        # What was sealed cannot be signed by the agency key of today.
        if len({one.replaced.count((speaker, "agency")) for one in before + later}) > 1:
            return True
        if name == "offer" and any(one.lacks for one in before + later):
            return True
        if name == "offer" and len({self._pair(speaker, hearer, one) for one in before + later}) > 1:
            return True  # they are not any more what they were: what waited may have been destroyed
        return self._barred(later, {speaker, hearer}) or any(one.at >= clock + lives - _JUMP for one in later)

    def _pair(self, one: str, other: str, now: Standing) -> tuple[Agency, Agency]:
        return self.cast.agency(one, now.others.changed), self.cast.agency(other, now.others.changed)

    def _barred(self, standings: Iterable[Standing], pair: set[str]) -> bool:
        return any(one.suspended in pair or one.others.unlisted in pair for one in standings)

    def _offer_lives(self, speaker: str, hearer: str) -> int:
        """At the least, under either contract and with any priority."""
        sender, receiver = self.cast.agency(speaker), self.cast.agency(hearer)
        rules = [one.rule(sender, receiver) for one in self.cast.agreements]
        hours = [int(text.removesuffix("h")) for rule in rules if rule for text in rule["respond_within"].values()]
        return _DAY + min(hours) * 3_600_000


def _name(envelope: Opened) -> str:
    return str(envelope.header.get("event") or envelope.kind)

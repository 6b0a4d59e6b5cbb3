"""Whose turn it is in the queue of one peer, where one envelope after the other fails there. Pure, and in memory.

Rules:

1. An envelope that went alone, and was answered by something that says nothing of it (500, 403, 413, a page), is passed
   over, and what lies behind it goes: stops first, her no among them, then the rest, in the order of the queue.
2. After `MOST_FAILED` such answers the peer is left alone until its next try. One that is wholly down is not asked once
   for each envelope.
3. The next try begins behind what was passed over, with the stops; that has its turn again when everything else has
   had it. Where several failed in one request it begins with these, and what went before them has its turn again then:
   it may have been put off, and would make the request large again each time.
4. What is passed over is not overtaken by anything about the same referral, but by stops. A stop that is passed over
   holds nothing back: what lies before it in the queue has its turn after the stops.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from exchange.envelope.kinds import STOPS
from exchange.storage.outbox import OutgoingRecord

MOST_FAILED: Final = 3


class Turns:
    """Where a courier is in the queue of one peer, from the claim of its lease until that goes back."""

    def __init__(self, before: Mapping[str, str | None] | None = None) -> None:
        """Begin behind what the last try has left (`left`)."""
        self._before = dict(before or {})
        """The referrals by envelope; nothing where others of it may go."""
        self._failed = dict[str, str | None]()
        self._held = set[str]()
        self._astray = bool(self._before)
        self.stops_first = self._astray
        """Whether it is the stops' turn alone."""
        self.after = 0
        """Up to which number of the queue it has come, in this turn."""
        self.sent = set[str]()
        """Every envelope that was answered."""
        self.unreadable = set[str]()
        """Envelopes that cannot be read here, and wait where they lie."""

    @property
    def passed(self) -> Collection[str]:
        """What waits where it lies, although the courier came by."""
        return {*self.unreadable, *self._failed, *self._held}

    @property
    def done(self) -> Collection[str]:
        """What does not go in this turn, wherever it lies; nothing as long as nothing has failed: `after` is enough."""
        return {*self._before, *self._failed, *self.sent, *self.unreadable} if self._astray else ()

    @property
    def left(self) -> dict[str, str | None]:
        """What the next try begins behind."""
        return self._before | self._failed

    def went(self, items: Iterable[OutgoingRecord], last_seq: int) -> None:
        """These were answered."""
        self.sent.update(item.id for item in items)
        self.after = last_seq

    def free(self, items: Sequence[OutgoingRecord]) -> Sequence[OutgoingRecord]:
        """Those that overtake nothing about their own referral that was passed over. Stops may."""
        if not self._astray:
            return items
        waits = {*self._before.values(), *self._failed.values()}
        held = {item.id: item for item in items if item.referral in waits and item.kind not in STOPS}
        self._held |= held.keys()
        return [item for item in items if item.id not in held]

    def goes_on(self, items: Sequence[OutgoingRecord]) -> bool:
        """These were answered by something that says nothing of them: whether to go on behind them."""
        if len(items) > 1:
            self._before |= dict.fromkeys(self.sent)
            return False
        self._failed |= {item.id: None if item.kind in STOPS else item.referral for item in items}
        self._astray = self.stops_first = True
        self.after = 0
        return len(self._failed) < MOST_FAILED

    def next_turn(self) -> bool:
        """Nothing is left in this turn: whether there is another one."""
        self.after = 0
        again = self.stops_first or bool(self._before)
        if self.stops_first:
            self.stops_first = False
        elif again:
            self._before.clear()
            self._held.clear()
        return again

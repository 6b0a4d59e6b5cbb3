"""What nodes said to each other about consents, and what was opened after it.

Rules:

* A node says `live` of no receipt whose referral was ended there by her no or as an error; and anything else of none
  behind which nothing has changed, neither of hers nor of the two agencies. Where the two have, and not what she
  allowed, it may give no word (`lost`), and not `not-live`. A consent past its date counts as it did before: the date
  ends new disclosures, and `not-live` would close for ever what has arrived.
* A word counts where it came in time, from the node that cut the receipt, to its recipient, about what was asked,
  signed by the node key that the asker's roster lists, and stated within two minutes of that moment. Whatever else came
  back is as if nothing had.
* After a word of an end nothing about her is shown: by the process that heard it, and by every later one once a worker
  was told. Nor is it after a stop that ends her consent was signed for there. No worker is told of an end otherwise.
  What is said to be over after the receipt's end, by the clock that says it, may be that end: no word of another.
* What is shown says an age no younger than the newest word that counts, and none is older than 72 hours, but for a
  consent that ran out by its own date.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from simulation import opened
from simulation.opened import FORWARDS, Opened
from simulation.oracle import Oracle, ViolationError
from simulation.undelivered import Standing

from exchange.schemas.federation import ConsentStatusAnswer
from exchange.schemas.inbox import OpenedItem
from exchange.schemas.shapes import to_millis

_SKEW: Final = 120_000
_SHOWN_WITH_AGE: Final = 72 * 3_600_000
_JUMP: Final = 600_000
"""Clocks of one machine jump by less."""
_ENDS_CONSENT: Final = frozenset({"stop-service", "erase", "entered-in-error"})


@dataclass(slots=True)
class Words:
    """The memory for these questions."""

    oracle: Oracle
    said: dict[str, tuple[str, str, tuple[str, ...], int]] = field(default_factory=dict)
    """By statement: by whom, to whom and about what it was made, and by the how manieth node key."""
    live: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    """By agency and item: when it was stated, of each word that counts."""
    ended: dict[tuple[str, str], list[tuple[int, object]]] = field(default_factory=lambda: defaultdict(list))
    """By agency and item: tick, and the process that heard of the end; none where a worker was told."""

    def states(self, by: str, to: str, asked: Sequence[str], answer: ConsentStatusAnswer, now: Standing, *,
               unchanged: frozenset[str]) -> None:  # fmt: skip
        """A node has answered; `unchanged`: receipts of what nothing has ended or taken back."""
        at = now.at
        self.said[answer.statement] = (by, to, tuple(asked), now.replaced.count((by, "node")))
        for one in answer.receipts:
            mine = [each for each in self._behind(one.receipt) if (each.header["from"], each.header["to"]) == (by, to)]
            if one.status == "live":
                self._check_live(by, mine)
            elif one.receipt in unchanged and (
                self._are_what_they_were(by, to, now) or (one.status == "not-live" and self._allowed_once(mine))
            ):
                self._check_ended(mine, at)

    def _allowed_once(self, mine: Sequence[Opened]) -> bool:
        """Whether she allows still what she allowed when these were sealed: no less, and nothing anew."""
        return all(len(self._versions(one)) == 1 for one in mine)

    def _are_what_they_were(self, by: str, to: str, now: Standing) -> bool:
        """Where one is another office or elsewhere, her consent may not cover it any more, and has ended for it."""
        cast, rosters = self.oracle.cast, [(), *(changed for _, changed in self.oracle.rosters[by])]
        are = [cast.agency(one, now.others.changed) for one in (by, to)]
        return all(replace(cast.agency(one.id, before), told=one.told) == one for one in are for before in rosters)

    def _behind(self, receipt: str) -> Iterable[Opened]:
        found = (one for one in self.oracle.seen.values() if one.kind in FORWARDS)
        return (one for one in found if one.header["receipt"]["receipt_id"] == receipt)

    def _check_live(self, by: str, mine: Sequence[Opened]) -> None:
        if not mine:
            raise ViolationError("leaked", f"{by} says `live` of what it has not sent to whoever asks")
        for one in mine:
            stops = self.oracle.stopped.get((by, one.referral), {})
            if any(since <= self.oracle.step_begins for name, since in stops.items() if name in _ENDS_CONSENT):
                raise ViolationError("leaked", f"{by} says `live` after she said no, or after an error")

    def _check_ended(self, mine: Sequence[Opened], at: int) -> None:
        for one in mine:
            if all(version.allowed.begun(at) for version in self._versions(one)):
                raise ViolationError("lost", "a consent that nobody ended was said to have ended")

    def _versions(self, envelope: Opened) -> list[Any]:
        header = envelope.header
        names = {one.consent for one in self.oracle.hand_ins if one.referral == envelope.referral}
        if not names:
            # Its maker was never told of it; any of his consents may be the one.
            names = {consent for agency, consent in self.oracle.consents if agency == header["from"]}
        return [version for name in sorted(names) for version in self.oracle.consents[header["from"], name]]

    def heard(self, agency: str, process: object, asked: tuple[str, Sequence[str]], answer: ConsentStatusAnswer,
              now: Standing) -> None:  # fmt: skip
        """Something reaches an asker in time; `asked`: whom it meant, and about what."""
        tick, at = self.oracle.passes(), now.at
        by, to, receipts, key = self.said[answer.statement]
        if key != now.replaced.count((by, "node")):
            return
        stated_at = int(opened.statement(answer.statement)["stated_at"])
        if (by, to, receipts) != (asked[0], agency, tuple(asked[1])) or abs(stated_at - at) > _SKEW:
            return
        for one in answer.receipts:
            for item in self._behind(one.receipt):
                if one.status == "live":
                    self.live[agency, item.id].append(stated_at)
                elif one.status == "not-live" and stated_at < item.header["receipt"]["expires"]:
                    self.ended[agency, item.id].append((tick, process))

    def told_that_ended(self, agency: str, item: str) -> None:
        """A worker was told that her consent has ended."""
        known, referral = self.ended[agency, item], self.oracle.seen[item].referral
        if not known and "stopped" not in self.oracle.undelivered.begun[agency, referral]:
            raise ViolationError("lost", f"{agency} says that a consent ended, and nobody who may say so has told it")
        known.append((self.oracle.passes(), None))

    def shown(self, agency: str, process: object, one: OpenedItem, at: int) -> None:
        """A worker reads it, by a clock that says this."""
        envelope = self.oracle.seen[one.item.id]
        if envelope.kind not in FORWARDS:
            return
        begins = self.oracle.step_begins
        stops = self.oracle.stopped.get((agency, envelope.referral), {})
        if any(since < begins for name, since in stops.items() if name in _ENDS_CONSENT):
            raise ViolationError("leaked", f"{agency} shows what she has said no to")
        for tick, by in self.ended[agency, envelope.id]:
            if tick <= begins and by in {None, process}:
                raise ViolationError("leaked", f"{agency} shows {envelope.kind} after it heard that her consent ended")
        came_with = envelope.release["consent_live_at"] if envelope.release else envelope.header["receipt"]["issued"]
        newest = max([came_with, *self.live[agency, envelope.id]])
        # A sealed envelope carries no age: what counts is that its node knew of a word that is young enough.
        unsaid = newest if agency in self.oracle.blind else 0
        shown = to_millis(one.consent_checked_at) if one.consent_checked_at is not None else unsaid
        if shown > newest:
            raise ViolationError("leaked", f"{agency} shows a younger word than it was given")
        run_out = at >= envelope.header["receipt"]["expires"] - _JUMP
        if not run_out and at - shown > _SHOWN_WITH_AGE + _JUMP:
            raise ViolationError("leaked", f"{agency} shows {envelope.kind} by a word that is too old")

"""Which rare situations a history came to: a promise that no history puts to the test is not checked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from simulation.machines import Machine

_OF_CONSENT: Final = "SELECT hold, state, peer FROM referral WHERE consent_id = ? AND side = 'referring'"
_HAS_A_NAME: Final = ("accepted", "scheduled", "not-reached", "not-arrived")
_WAITED: Final = "SELECT DISTINCT subject_id FROM audit WHERE action = 'release-waits' AND detail = 'receiver-unserved'"
_WENT_BY_ITSELF: Final = """
    SELECT 1 FROM audit AS went JOIN audit AS waits ON waits.subject_id = went.subject_id AND waits.seq < went.seq
    WHERE went.action = 'released' AND went.client_id IS NULL
    AND waits.action = 'release-waits' AND waits.detail = 'receiver-unserved' LIMIT 1
"""


@dataclass(slots=True)
class Reached:
    """By situation, how often."""

    counts: Counter[str] = field(default_factory=Counter)

    def count_no(self, machine: Machine, consent: str | None) -> None:
        """She is about to say no here: to everything under this consent, or to one."""
        if consent is None:
            self.counts["her no to one"] += 1
            return
        self.counts["her no to everything"] += 1
        rows = machine.main.rows(_OF_CONSENT, consent)
        waits = {peer for hold, _, peer in rows if hold == "unserved"}
        if len(rows) > 1:
            self.counts["her no to several at once"] += 1
        if waits:
            self.counts["her no where one of hers waits"] += 1
        if any(hold == "released" and state in _HAS_A_NAME and peer in waits for hold, state, peer in rows):
            self.counts["her no where one of hers waits for another of hers"] += 1

    def count_less(self, machine: Machine, consent: str) -> None:
        """She is about to allow less."""
        self.counts["less than before"] += 1
        if any(hold == "unserved" for hold, _, _ in machine.main.rows(_OF_CONSENT, consent)):
            self.counts["less than before while one waits"] += 1

    def count_at_the_end(self, machine: Machine) -> None:
        """What has waited here, and what of it went by itself."""
        if machine.main.rows(_WAITED):
            self.counts["a release waited for service"] += 1
        if machine.main.rows(_WENT_BY_ITSELF):
            self.counts["a place came free and was taken"] += 1

"""In the end nothing waits that nobody has to act on: all lines are up, and every courier has had its rounds.

Rules, for every node:

* No release is due, nothing is queued, no peer is leased, but for two minutes by a process that died. One that is
  leased for longer than any lease was leased by a clock that was ahead, and counts as free. Nothing is held where the
  receiver has accepted.
* No release waits for service while there is a place: fewer than its rule allows of this agency's names at that
  receiver are unserved. A name is, from its release until the receiver serves or the referral ends; where she or the
  contract lets no progress be told, for thirty days.
* A node that has destroyed what she wanted erased has said so, signed.

The limit is read from what was agreed, and states and times from the rows; what the node has counted is not asked.
"""

from __future__ import annotations

from typing import Final

from simulation.machines import Machine
from simulation.office import Case, Office
from simulation.oracle import ViolationError
from simulation.permit import LEVELS, told_back

_DAY: Final = 86_400_000
_LEASE: Final = 180_000
_COUNTS_UNTOLD: Final = 30 * _DAY
_HAS_A_NAME: Final = frozenset({"accepted", "scheduled", "not-reached", "not-arrived"})
_DUE: Final = "SELECT 1 FROM referral WHERE hold = 'release-due'"
_QUEUED: Final = "SELECT 1 FROM outbox WHERE status = 'queued'"
_LEASED: Final = "SELECT 1 FROM peer WHERE lease_token IS NOT NULL AND lease_until > ? AND lease_until <= ?"
_UNATTESTED: Final = """
    SELECT 1 FROM attestation JOIN referral ON referral.id = attestation.referral
    WHERE party = 'own-node' AND done_at IS NULL AND destroyed_at IS NOT NULL
"""
_REFERRALS: Final = "SELECT id, peer, contract, state, hold, disclosed_at FROM referral WHERE side = 'referring'"


class Liveness:
    """Looks at every node when nothing moves any more."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._cases = {case.id: case for case in office.cases}

    def check(self) -> None:
        """Nothing waits that nobody has to act on."""
        for agency, machine in self._office.machines.items():
            longest = machine.now() + _LEASE
            leases_end = longest if self._office.oracle.deaths[agency] else machine.now()
            for query, what, values in (
                (_DUE, "a release is due", ()),
                (_QUEUED, "something is queued", ()),
                (_LEASED, "a peer is leased", (leases_end, longest)),
                (_UNATTESTED, "a node has destroyed what she wanted erased and does not say so", ()),
            ):
                if machine.main.rows(query, *values):
                    raise ViolationError("waits", f"{what} at {agency}, and nothing moves")
            self._check_releases(agency, machine)

    def _check_releases(self, agency: str, machine: Machine) -> None:
        rows = machine.main.rows(_REFERRALS)
        for referral, peer, contract, state, hold, _ in rows:
            if hold == "held" and state == "accepted":
                raise ViolationError("waits", f"a disclosure is held at {agency} although {peer} has accepted")
            if hold == "unserved":
                names = sum(self._may_count(machine, row) for row in rows if row[1] == peer and row[0] != referral)
                if names < self._most(agency, peer, contract):
                    raise ViolationError("waits", f"a release waits at {agency}, and {peer} has only {names} names")

    def _may_count(self, machine: Machine, row: tuple[str, str, str, str, str, int | None]) -> bool:
        """Whether it may be a name that the receiver has and has not served."""
        referral, _, _, state, _, disclosed_at = row
        if disclosed_at is None or state not in _HAS_A_NAME:
            return False
        ran_out = machine.now() >= disclosed_at + _COUNTS_UNTOLD
        return not (ran_out and referral in self._cases and self._tells_nothing(self._cases[referral]))

    def _tells_nothing(self, case: Case) -> bool:
        """Whether no version of her consent under any contract lets progress be told."""
        cast, versions = self._office.cast, self._office.oracle.consents[case.sender, case.consent.id]
        return all(
            told_back(agreement, cast.agency(case.sender, one), cast.agency(case.receiver, one), version.allowed)
            == LEVELS[0]
            for _, one in self._office.oracle.rosters[case.sender]
            for agreement in cast.agreements
            for version in versions
        )

    def _most(self, sender: str, receiver: str, contract: str) -> int:
        """How many names it may have, by the roster at the sender; where it has no rule for them, none."""
        office = self._office
        one, other = (office.officers.listed(agency, sender) for agency in (sender, receiver))
        rule = office.cast.agreement(contract).rule(one, other)
        return rule["max_unserved_accepts"] if rule is not None else 0

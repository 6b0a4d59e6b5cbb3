"""Branches of an agency: who sees what, and how a referral that arrived comes to belong to one.

Rules:

* A system that is bound to no branch, and names none, works for the whole agency.
* A branch sees what was made in its name, and what it has taken over. What other branches have, and what systems of the
  whole agency made for themselves, is to it as if it did not exist.
* What arrives belongs to nobody yet: every branch sees it, so that the nearest can act. The branch that acknowledges
  an item or answers an offer first has the referral from then on, with everything that still comes for it.
* Her no under a consent reaches every referral made under it, in whichever branch it lies. Who passes it on is answered
  with those that it may see.

What is read for a branch follows the same rules in SQL (`exchange.storage.referrals.in_sight`, and `load_consent`), so
that what it may not see takes no longer than what does not exist.
"""

from __future__ import annotations

from exchange.referral.lifecycle import Side
from exchange.storage.referrals import ReferralRecord


def may_see(record: ReferralRecord, unit: str | None) -> bool:
    """Whether a branch, or the whole agency where none is named, may see this referral."""
    if unit is None or record.unit == unit:
        return True
    return record.unit is None and record.side == Side.RECEIVING


def taken_over(record: ReferralRecord, unit: str | None) -> ReferralRecord:
    """The referral after this branch has taken it over; another's, and the agency's own, stay as they are."""
    if unit is None or record.unit is not None or record.side != Side.RECEIVING:
        return record
    return record._replace(unit=unit)

"""When what is due, overdue, over and destroyed. All times are Unix milliseconds; nothing here reads a clock.

Rules:

* A contract may tighten the time to answer, never loosen the vocabulary's default for the priority.
* A referral without a decision expires 24 hours after respond_by. The 24 hours are for answers on their way.
* A disclosure expires at the earliest of everything it rests on: the confirmation of the contact plan + 72 h, the end
  of that plan, the end of the consent, the expiry of the referral, and the last moment its key can be released under.
* Her `erase` destroys at once. Every other end waits for the contract's retention, and nothing is kept without an end.
"""

from __future__ import annotations

from contracts.model import Retention
from contracts.vocabulary import (
    PRIORITY_RESPOND_WITHIN_S,
    PRIORITY_UNDELIVERED_AFTER_S,
    Priority,
    WithdrawalForm,
)
from exchange.limits import LIMITS, SECOND_MS
from exchange.referral.contact_model import Initiator, SafeContact
from exchange.referral.lifecycle import State

__all__ = [
    "confirmation_ends",
    "destroy_at",
    "disclosure_expires",
    "expires_at",
    "forget_at",
    "remind_at",
    "respond_by",
    "undelivered_at",
]

_UNUSED = frozenset({State.DECLINED, State.REDIRECTED, State.RECALLED, State.ENTERED_IN_ERROR})
_CLOSED = frozenset({State.COMPLETED, State.FAILED, State.WITHDRAWN})


def respond_by(referred_at: int, priority: Priority, respond_within_s: dict[Priority, int]) -> int:
    """When the receiver has to have answered; `respond_within_s` is the rule's."""
    default = PRIORITY_RESPOND_WITHIN_S[priority]
    return referred_at + min(default, respond_within_s.get(priority, default)) * SECOND_MS


def undelivered_at(referred_at: int, priority: Priority) -> int:
    """When the sender is told that the offer has not been delivered."""
    return referred_at + PRIORITY_UNDELIVERED_AFTER_S[priority] * SECOND_MS


def remind_at(referred_at: int, due: int) -> int:
    """When the receiver's duty contact is reminded: at half the time to answer."""
    return referred_at + (due - referred_at) // 2


def expires_at(due: int) -> int:
    """When a referral without a decision expires, and with it the offer and whatever is held."""
    return due + LIMITS.offer_after_respond_by_ms


def confirmation_ends(plan: SafeContact) -> int | None:
    """When the plan stops allowing contact; nothing where it has no such moment.

    Where she initiates, or nobody does, nobody will call her, so no confirmation has to be fresh.
    """
    ends: list[int] = []
    if plan.valid_until is not None:
        ends.append(round(plan.valid_until.timestamp() * SECOND_MS))
    if plan.last_confirmed_at is not None and plan.who_initiates is Initiator.AGENCY:
        ends.append(round(plan.last_confirmed_at.timestamp() * SECOND_MS) + LIMITS.contact_plan_fresh_ms)
    return min(ends, default=None)


def disclosure_expires(plan: SafeContact | None, *, consent_ends: int, due: int, key_ends: int) -> int:
    """The earliest end of everything that a disclosure rests on."""
    confirmed = None if plan is None else confirmation_ends(plan)
    ends = [consent_ends, expires_at(due), key_ends]
    return min(ends if confirmed is None else [*ends, confirmed])


def destroy_at(
    state: State, *, closed_at: int, retention: Retention, withdrawal: WithdrawalForm | None = None
) -> int | None:
    """When sealed content has to be destroyed; nothing while the referral is open."""
    if withdrawal is WithdrawalForm.ERASE:
        return closed_at
    if state in _UNUSED:
        return closed_at + retention.declined_s * SECOND_MS
    if state is State.EXPIRED:
        return closed_at + retention.expired_s * SECOND_MS
    return closed_at + retention.closed_s * SECOND_MS if state in _CLOSED else None


def forget_at(destroyed_at: int) -> int:
    """When the tombstone ends too."""
    return destroyed_at + LIMITS.tombstone_ms

"""Which kinds of envelope exist, and which members the header of each kind has.

Rules:

* A *forward* moves her data: it names contract, purpose, stage, groups and carries the cut-down consent receipt.
* An *answer* comes back under the referral's own contract: it names what it answers and, at most, the new state.
* A *stop* carries nothing about her: no receipt, no groups, no purpose, no contract, no key. It is complete in its
  header, so that a node without keys can obey it.
* Each kind has exactly one shape. A member that is not required or optional for a kind is refused there.
* `event` has a closed list of values per kind, and a kind without such a list has no `event`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from contracts.vocabulary import Stage, WithdrawalForm
from contracts.vocabulary.term import Term


class KindClass(Term):
    """The three classes of envelope."""

    FORWARD = "forward"
    ANSWER = "answer"
    STOP = "stop"


class Kind(Term):
    """Every kind of envelope."""

    OFFER = "offer"
    DISCLOSURE = "disclosure"
    INFORMATION = "information"
    UPDATE = "update"
    APPOINTMENT = "appointment"
    ONWARD_REQUEST = "onward-request"
    PROBE = "probe"
    HOLD = "hold"
    DECISION = "decision"
    PROGRESS = "progress"
    INFORMATION_REQUEST = "information-request"
    ONWARD_ANSWER = "onward-answer"
    PROBE_ANSWER = "probe-answer"
    RECALL_ANSWER = "recall-answer"
    RECALL = "recall"
    WITHDRAWAL = "withdrawal"
    ERASURE_RECEIPT = "erasure-receipt"
    REFUSAL = "refusal"
    ENTERED_IN_ERROR = "entered-in-error"


class SignedBy(Term):
    """Which of an agency's two signing keys signed."""

    AGENCY = "agency"
    NODE = "node"


ERASED_BY_NODE: Final = "erased-by-node"
ERASED_BY_AGENCY: Final = "erased-by-agency"

HIDDEN_REFUSALS: Final = frozenset({"duplicate", "already-received", "conflict-of-interest"})
"""Codes that would tell a peer whether a person is known: they stay at home and travel as `other`."""

_ALWAYS: Final = frozenset(
    "suite id kind referral from to signed_by signing_key vocabulary roster_version roster_digest seen created "
    "expires".split()
)
_SEALED: Final = _ALWAYS | {"epoch_key", "dek_commitment", "contract", "purpose"}
_FORWARD: Final = _SEALED | {"stage", "groups", "receipt"}
_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Shape:
    """What the header of one kind looks like."""

    kind_class: KindClass
    required: frozenset[str]
    optional: frozenset[str] = _NONE
    stages: frozenset[str] = _NONE
    """The values of `stage`; empty where the kind has none."""
    events: frozenset[str] | None = _NONE
    """The values of `event`; empty where the kind has none; nothing where it is a problem code."""


_OFFER_ONLY: Final[frozenset[str]] = frozenset({Stage.OFFER.value})
_DISCLOSURE_ONLY: Final[frozenset[str]] = frozenset({Stage.DISCLOSURE.value})
_EITHER_STAGE: Final = _OFFER_ONLY | _DISCLOSURE_ONLY


def _forward(*more: str, stages: frozenset[str], optional: frozenset[str] = _NONE) -> Shape:
    return Shape(KindClass.FORWARD, _FORWARD | frozenset(more), optional, stages)


def _answer(events: str) -> Shape:
    states = frozenset(events.split())
    members = _SEALED | {"number", "in_reply_to"} | (frozenset({"event"}) if states else _NONE)
    return Shape(KindClass.ANSWER, members, events=states)


def _stop(*more: str, optional: frozenset[str] = _NONE, events: frozenset[str] | None = _NONE) -> Shape:
    return Shape(KindClass.STOP, _ALWAYS | {"number"} | frozenset(more), optional, events=events)


_REPLY: Final = frozenset({"in_reply_to"})

SHAPES: Final[Mapping[Kind, Shape]] = MappingProxyType(
    {
        Kind.OFFER: _forward("number", "priority", "respond_by", stages=_OFFER_ONLY),
        # The number of a disclosure stands in its release statement: nobody knows it while the disclosure is held.
        Kind.DISCLOSURE: _forward(stages=_DISCLOSURE_ONLY),
        Kind.INFORMATION: _forward("number", "in_reply_to", stages=_EITHER_STAGE),
        Kind.UPDATE: _forward("number", stages=_EITHER_STAGE, optional=_REPLY),
        Kind.APPOINTMENT: _forward("number", stages=_EITHER_STAGE, optional=_REPLY),
        Kind.ONWARD_REQUEST: _forward("number", stages=_EITHER_STAGE, optional=_REPLY),
        Kind.PROBE: _forward("number", stages=_OFFER_ONLY),
        Kind.HOLD: _forward("number", stages=_OFFER_ONLY, optional=_REPLY),
        Kind.DECISION: _answer("accepted waitlisted declined redirected"),
        Kind.PROGRESS: _answer("scheduled not-reached not-arrived in-service completed failed"),
        Kind.INFORMATION_REQUEST: _answer("information-requested"),
        # Neither changes the state of a referral, so neither names one; what they say is inside.
        Kind.ONWARD_ANSWER: _answer(""),
        Kind.PROBE_ANSWER: _answer(""),
        Kind.RECALL_ANSWER: _answer("recalled in-service completed failed"),
        Kind.RECALL: _stop(),
        Kind.WITHDRAWAL: _stop("event", events=frozenset(form.value for form in WithdrawalForm)),
        Kind.ERASURE_RECEIPT: _stop("event", optional=_REPLY, events=frozenset({ERASED_BY_NODE, ERASED_BY_AGENCY})),
        Kind.REFUSAL: _stop("event", "in_reply_to", events=None),
        Kind.ENTERED_IN_ERROR: _stop(optional=_REPLY),
    }
)


def class_of(kind: Kind) -> KindClass:
    """The class of a kind."""
    return SHAPES[kind].kind_class


STOPS: Final = frozenset(kind.value for kind in Kind if class_of(kind) is KindClass.STOP)
"""The kinds that end something. Nothing holds them back, and they overtake everything else."""

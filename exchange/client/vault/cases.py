"""What the agency's own software remembers of a referral, sealed in its key store: enough to verify and to answer."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from contracts.vocabulary import Feedback, Purpose
from exchange.limits import DAY_MS, LIMITS
from exchange.referral.canonical import SealedModel
from exchange.referral.lifecycle import EventName, Side, State
from exchange.schemas.referrals import Drill
from exchange.verification import ReferralMemory

_NEVER_HANDED_IN_MS: Final = DAY_MS
"""Much longer than `limits.hand_in_within_ms`, so that a clock that is put right meanwhile destroys nothing."""
_BEGAN: Final = frozenset({EventName.IN_SERVICE, EventName.COMPLETED})
_SERVED = frozenset({EventName.IN_SERVICE, EventName.COMPLETED, EventName.FAILED})


class Word(SealedModel):
    """One answer, as its header said it: sealed anew it is the same event."""

    number: int
    seen: int
    at: int
    said: str = ""
    """Keyed digest of the content of a decision or of progress; nothing of the answer to a recall."""

    def contradicts(self, said: str) -> bool:
        """Whether it is known to say something else than another word of this event, of which this is the digest."""
        return bool(self.said) and bool(said) and self.said != said


class VaultCase(SealedModel):
    """One referral. Codes, ids and digests; nothing about her but the code under which a receiver knows her."""

    side: Side
    peer: str
    contract: str
    purpose: Purpose
    offer: str
    """Id of the offer's envelope."""
    feedback: Feedback
    """How much may be told back; it stands inside the offer."""
    sent: tuple[str, ...] = ()
    """Ids of the envelopes that this software made for the referral; and one for each change of plan that it began."""
    opened: tuple[str, ...] = ()
    """Ids of those that it opened."""
    plans: dict[str, int] = Field(default_factory=dict)
    """Of those with a contact plan inside the sender's number, by id, as it was verified."""
    acceptances: tuple[str, ...] = ()
    """Digests of its own accepting decisions: a release statement has to name one."""
    consent: str | None = None
    subject: str | None = None
    client_code: str | None = None
    known_since: int = 0
    """When it was sealed here, or its offer was opened."""
    handed_in: bool = False
    """Of one that was sealed here: the node has said that it has it."""
    in_doubt: bool = False
    """Of one that was sealed here: it was sent to the node, which has not said since whether it has it."""
    exercise: Drill = None
    """Its offer said that it is a drill; nothing that follows it says so again."""
    served: State | None = None
    """What it said last of a service that had begun: what an answer to a recall repeats."""
    words: dict[EventName, Word] = Field(default_factory=dict)
    """Of each event that it has answered with the newest word."""
    began: dict[EventName, Word] = Field(default_factory=dict)
    """Of the events that say that the service had begun, the progress that said so: in `words` an answer to a recall
    takes its place. Cases of before it was remembered have none."""

    def memory(self) -> ReferralMemory:
        """What the verification may look at. State and retention are the node's to check, and were checked there."""
        return ReferralMemory(
            side=self.side,
            contract=self.contract,
            state=State.RECEIVED,
            closed=False,
            destroyed=False,
            purpose=self.purpose,
            sent=frozenset(self.sent),
            received=frozenset({self.offer, *self.opened}),
            acceptances=frozenset(self.acceptances),
            sharing_stopped=False,
            feedback=self.feedback,
            heard=frozenset(),
        )

    def with_sent(self, envelope: str, *, accepting: str | None = None) -> VaultCase:
        """The case after this software made one more envelope."""
        acceptances = self.acceptances if accepting is None else (*self.acceptances, accepting)
        return self.model_copy(update={"sent": (*self.sent, envelope), "acceptances": acceptances})

    def with_opened(self, envelope: str, *, plan_number: int | None) -> VaultCase:
        """The case after this software opened one more envelope. A number that is known stays."""
        opened = tuple(dict.fromkeys((*self.opened, envelope)))
        plans = self.plans if plan_number is None else {envelope: plan_number} | self.plans
        return self.model_copy(update={"opened": opened, "plans": plans})

    def with_begun(self) -> VaultCase:
        """The case before what was sealed is sent to the node."""
        return self.model_copy(update={"in_doubt": not self.handed_in})

    def with_refused(self) -> VaultCase:
        """The case after the node has said that it does not take what was sealed, and has not taken it before."""
        return self.model_copy(update={"in_doubt": False})

    def with_handed_in(self) -> VaultCase:
        """The case after the node has said that it has what was sealed."""
        return self.model_copy(update={"handed_in": True, "in_doubt": False})

    def forgotten_by(self, at: int) -> bool:
        """Whether a node that knows nothing of it can only have forgotten it, or will never have it.

        What was sealed and not sent to it the node takes no more soon after it was made (`hand_in_within_ms`). All else
        it has had or may have, also what has been answered: then it keeps a tombstone, and what is younger it does not
        show, to another branch, or has lost.
        """
        return at >= self.known_since + (LIMITS.tombstone_ms if self.may_be_at_node() else _NEVER_HANDED_IN_MS)

    def may_be_at_node(self) -> bool:
        """Whether the node has had it, or nobody has heard that it has not."""
        return self.handed_in or self.in_doubt or self.side is Side.RECEIVING or bool(self.opened)

    def with_said(self, event: EventName, word: Word | None = None) -> VaultCase:
        """The case after this software said how it goes; `word`: in an envelope of its own."""
        before = [said[event].number for said in (self.words, self.began) if event in said]
        if word is not None and word.number in before and not self._is_newest(word):
            return self  # it goes along with what was said since
        served = State(event.value) if event in _SERVED else self.served
        words = self.words if word is None else {**self.words, event: word}
        began = {event: word} if event in _BEGAN and word is not None and word.said else {}
        return self.model_copy(update={"served": served, "words": words, "began": began | self.began})

    def with_unsaid(self, event: EventName, envelope: str, before: VaultCase) -> VaultCase:
        """The case after the node has refused that word, in this envelope, unless something was said since.

        The same word in another envelope counts: another program may have been heard where this one was not.
        """
        if self.sent[-1:] != (envelope,):
            return self
        said_last = event in _SERVED and self.served is State(event.value)
        served = before.served if said_last else self.served
        words = self._words_with(event, before)
        return self.model_copy(update={"words": words, "served": served, "began": before.began})

    def with_repeated(self, event: EventName, envelope: str, before: VaultCase) -> VaultCase:
        """The case after the node had that word on record already, and left this envelope: it counts as said before."""
        if self.sent[-1:] != (envelope,):
            return self
        return self.model_copy(update={"words": self._words_with(event, before), "began": before.began})

    def _words_with(self, event: EventName, before: VaultCase) -> dict[EventName, Word]:
        words = {name: word for name, word in self.words.items() if name is not event}
        if event in before.words:
            words[event] = before.words[event]
        return words

    def unheard(self, event: EventName, *, at: int) -> Word | None:
        """The newest word of this kind, if it may be said again: the last of all, or the acceptance, in its time."""
        word = self.words.get(event)
        if word is None or at >= word.at + LIMITS.answer_expires_ms:
            return None
        return word if self._is_newest(word) or event is EventName.ACCEPTED else None

    def goes_along(self, event: EventName, *, at: int) -> Word | None:
        """This word, in its time, as it was said before any answer to a recall: another one may count by it."""
        word = self.began.get(event) if event in _BEGAN else self.words.get(event)
        return word if word is not None and at < word.at + LIMITS.answer_expires_ms else None

    def _is_newest(self, word: Word) -> bool:
        return all(word.number >= other.number for other in self.words.values())

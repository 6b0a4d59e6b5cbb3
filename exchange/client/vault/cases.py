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

    def is_event(self, other: Word) -> bool:
        """Whether it is the same event, by what the node goes by."""
        return (self.number, self.seen, self.at) == (other.number, other.seen, other.at)


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
    """Ids of the envelopes that this software made for the referral."""
    plan_changes: int = 0
    """How many of them are disclosures or hold a contact plan; and how many changes of one were begun."""
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
    """Of each event that it has answered with the newest word that the node has said it has stored. In cases of before
    `unanswered`: that was handed in."""
    began: dict[EventName, Word] = Field(default_factory=dict)
    """Of the events that say that the service had begun, or how it ended, the progress that said so: in `words` an
    answer to a recall takes its place. Cases of before it was remembered have none."""
    unanswered: dict[EventName, tuple[Word, ...]] = Field(default_factory=dict)
    """Of each event what was handed in and not answered, oldest first. Nobody knows whether the node has stored it."""

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

    def with_plan_changes(self, count: int) -> VaultCase:
        """The case after so many more envelopes with a plan were made, or changes of it begun."""
        return self.model_copy(update={"plan_changes": self.plan_changes + count})

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
        """The case after this software said how it goes; `word`: in an envelope of its own, which is handed in now."""
        served = State(event.value) if event in _SERVED else self.served
        if word is None:
            return self.model_copy(update={"served": served})
        if self._noted(event, word) is None:
            unanswered = self._unanswered_with(event, (*self.unanswered.get(event, ()), word))
            return self.model_copy(update={"served": served, "unanswered": unanswered})
        said = [*self.words.values(), *(one for words in self.unanswered.values() for one in words)]
        if any(one.number > word.number for one in said):
            return self  # it goes along with what was said since
        return self.model_copy(update={"served": served})

    def with_stored(self, event: EventName, word: Word) -> VaultCase:
        """The case after the node has said that it has stored that word: of those before it, it has stored none."""
        newest, noted = self.words.get(event), self._noted(event, word) or word
        words, began = self.words, self.began
        if newest is None or newest.number <= word.number:
            words = {**words, event: word}
        if event in _SERVED and noted.said:
            began = {**began, event: word}
        # But an answer to a recall is an event of its own: what progress said the same before it, it does not tell.
        left = tuple(one for one in self.unanswered.get(event, ()) if bool(one.said) is not bool(noted.said))
        unanswered = self._unanswered_with(event, left)
        return self.model_copy(update={"words": words, "began": began, "unanswered": unanswered})

    def with_unsaid(self, event: EventName, word: Word, envelope: str, before: VaultCase) -> VaultCase:
        """The case after the node has refused that word, in this envelope, unless something was said since.

        The same word in another envelope counts: another program may have been heard where this one was not.
        """
        if self.sent[-1:] != (envelope,):
            return self
        said_last = event in _SERVED and self.served is State(event.value)
        served = before.served if said_last else self.served
        return self._without(event, word, before).model_copy(update={"served": served})

    def with_repeated(self, event: EventName, word: Word, envelope: str, before: VaultCase) -> VaultCase:
        """The case after the node had that word on record already, and left this envelope: it counts as said before."""
        return self if self.sent[-1:] != (envelope,) else self._without(event, word, before)

    def unheard(self, event: EventName, *, at: int, number: int) -> tuple[Word, ...]:
        """What the node may have on record as the newest word of this kind, if that may be said again.

        That is the last of all, or the acceptance, in its time. Whoever tries them in this order says none again that
        is not on record: one that came is the reason why those after it were not stored.

        Args:
            event: of this kind.
            at: now.
            number: the highest that is on record at the node. What has a higher one is not there.
        """
        known = [*self._newest(event), *self.unanswered.get(event, ())]
        # Answers to a recall are told apart by the node, each from the others and from progress: there the last counts.
        answers = sorted((one for one in known if not one.said), key=lambda one: -one.number)
        return tuple(
            one
            for one in (*answers, *(one for one in known if one.said))
            if one.number <= number
            and _in_time(one, at)
            and (event is EventName.ACCEPTED or self._is_newest(event, one, number))
        )

    def goes_along(self, event: EventName, *, at: int, number: int) -> tuple[Word, ...]:
        """As `unheard`: this word as it was said before any answer to a recall; another one may count by it."""
        told = self.began.get(event) if event in _SERVED else self.words.get(event)
        known = [*([] if told is None else [told]), *(one for one in self.unanswered.get(event, ()) if one.said)]
        return tuple(one for one in known if one.number <= number and _in_time(one, at))

    def contradicted(self, event: EventName, said: str, *, number: int) -> bool:
        """Whether what the node has on record of this event, up to this number, says something else, or may do so."""
        newest, waiting = self.words.get(event), self.unanswered.get(event, ())
        stored = [one for one in waiting if one.number == number]
        if not stored and (newest is None or not self._is_newest(event, newest, number)):
            stored = [one for one in waiting if one.number < number]
        if newest is not None and not newest.said and event not in self.began:
            # The answer to a recall repeats progress, which may be what was not answered before it.
            stored += [one for one in waiting if one.number < newest.number]
        told = [self.began[event]] if event in self.began else []
        return any(one.contradicts(said) for one in (*self._newest(event), *told, *stored))

    def _newest(self, event: EventName) -> list[Word]:
        return [self.words[event]] if event in self.words else []

    def _noted(self, event: EventName, word: Word) -> Word | None:
        known = [*self._newest(event), *self.unanswered.get(event, ())]
        known += [self.began[event]] if event in self.began else []
        return next((one for one in known if one.is_event(word)), None)

    def _without(self, event: EventName, word: Word, before: VaultCase) -> VaultCase:
        if before._noted(event, word) is not None:
            return self
        left = tuple(one for one in self.unanswered.get(event, ()) if not one.is_event(word))
        return self.model_copy(update={"unanswered": self._unanswered_with(event, left)})

    def _unanswered_with(self, event: EventName, words: tuple[Word, ...]) -> dict[EventName, tuple[Word, ...]]:
        others = {name: known for name, known in self.unanswered.items() if name is not event}
        return {**others, event: words} if words else others

    def _is_newest(self, event: EventName, word: Word, number: int) -> bool:
        """Whether the node can have no word, up to this number, that was said after it; but of the same event."""
        waiting = (one for name, words in self.unanswered.items() if name is not event for one in words)
        return all(word.number >= one.number for one in (*self.words.values(), *waiting) if one.number <= number)


def _in_time(word: Word, at: int) -> bool:
    return at < word.at + LIMITS.answer_expires_ms

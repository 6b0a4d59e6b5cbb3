"""Who hears everything on the line, and tells the oracle and the book of words."""

from __future__ import annotations

from typing import Final

from simulation.machines import Machine
from simulation.network import Letter, Question, Watch
from simulation.officers import Officers
from simulation.one_thread import OneThread
from simulation.oracle import Oracle, ViolationError
from simulation.words import Words

from exchange.schemas.federation import BatchAnswer, ConsentStatusAnswer

# What was taken back before its receipt came (her no, a member that was suspended) is no longer there, and not said to
# be live: it may have arrived, and its sender does not stand behind it.
_UNCHANGED: Final = """
    SELECT outbox.consent_receipt FROM outbox JOIN referral ON referral.id = outbox.referral
    WHERE outbox.consent_receipt IS NOT NULL
    AND referral.closed_at IS NULL AND referral.destroyed_at IS NULL AND referral.blocked_at IS NULL
"""


class Listener:
    """Hears what leaves, what is answered, and what of it is heard."""

    def __init__(self, oracle: Oracle, words: Words, loop: OneThread, officers: Officers) -> None:
        self.oracle = oracle
        self.words = words
        self.loop = loop
        self.officers = officers

    def watch(self) -> Watch:
        """What the network calls."""
        return Watch(self._leaves, self._answered, self._heard)

    def _leaves(self, sender: Machine, receiver: Machine, body: bytes) -> None:
        # Not raised here: a courier goes on with its other peers, whatever one of them answers.
        try:
            self.oracle.leaves(
                sender.agency, receiver.agency, body, self.officers.standing(sender), self.officers.exchanged_with
            )
        except ViolationError as error:
            self.loop.failures.append(error)

    def _answered(self, letter: Letter) -> None:
        receiver, answer = letter.receiver, letter.answer
        if isinstance(answer, BatchAnswer):
            self.oracle.answered(receiver.agency, letter.body, answer, self.officers.standing(receiver))
        elif isinstance(letter, Question) and answer is not None:
            unchanged = frozenset(row[0] for row in receiver.main.rows(_UNCHANGED))
            self.words.states(
                receiver.agency,
                letter.sender.agency,
                letter.receipts,
                answer,
                self.officers.standing(receiver),
                unchanged=unchanged,
            )

    def _heard(self, question: Question, meant: str) -> None:
        asker, answer = question.sender, question.answer
        if isinstance(answer, ConsentStatusAnswer):
            self.words.heard(
                asker.agency, asker.process, (meant, question.receipts), answer, self.officers.standing(asker)
            )

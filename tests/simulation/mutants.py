"""Defects put into the code on purpose: a simulation that finds none of them proves nothing.

Each mutant replaces one small part of the code under test while histories are played. `python -m simulation --mutants`
runs them all and says how many histories each one survived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from unittest.mock import Mock, patch

from simulation.history import play
from simulation.playground import Playground
from simulation.roster_mutants import ROSTER_DEFECTS
from simulation.waiting_mutants import DEFECTS
from sqlalchemy import update

from consent import decision
from contracts.vocabulary import Feedback, WithdrawalForm
from exchange.client.vault import AgencyVault, agency_vault, ending
from exchange.client.vault import answering as answering_elsewhere
from exchange.client.vault.store import AgencyKeyStore
from exchange.envelope.statements import ConsentStatus, parse_statement
from exchange.envelope.wire import from_base64url
from exchange.federation import way
from exchange.limits import HOUR_MS
from exchange.referral.lifecycle import EventName
from exchange.storage import access
from exchange.storage.clock_look import ClockLook
from exchange.storage.key_store import KeyStore
from exchange.storage.tables import OUTBOX
from exchange.use_cases import (
    answers_that_wait,
    arrivals,
    change_referral,
    consent_freshness,
    consent_status,
    destroy,
    leasing,
    leaving,
    open_items,
    receive_envelopes,
    release_disclosure,
    settle,
    signed_before,
    stopping,
    store_arrival,
    taking_back,
    withdraw,
)
from exchange.use_cases.cases import Case


@dataclass(frozen=True, slots=True)
class Mutant:
    """One defect."""

    name: str
    defect: Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Hunt:
    """What became of one defect: after how many histories it was noticed, and as what; nothing if it was not."""

    noticed: tuple[int, str] | None
    failed: int
    """Histories that failed before. They noticed nothing: the defect itself may be what no longer fits the code."""


def hunt(ground: Playground, mutant: Mutant, count: int) -> Hunt:
    """Play so many histories, until it is noticed."""
    failed = 0
    with mutant.defect():
        for seed in range(count):
            violation = play(ground, seed).violation
            if violation is not None and violation.promise != "failed":
                return Hunt((seed + 1, str(violation)), failed)
            failed += violation is not None
    return Hunt(None, failed)


def _nothing(*_arguments: object, **_options: object) -> None:
    pass


def _no_rows(*_arguments: object, **_options: object) -> list[str]:
    return []


@contextmanager
def _nothing_is_deleted() -> Iterator[None]:
    with patch.object(stopping, "delete_queued", _no_rows), patch.object(taking_back, "delete_queued", _no_rows):
        yield


def _as_it_is(_conn: Any, record: Any) -> Any:
    return record


def _every(_conn: Any, referrals: Any) -> frozenset[str]:
    return frozenset(referrals)


@contextmanager
def _the_end_is_not_looked_at() -> Iterator[None]:
    with (
        patch.object(change_referral, "take_back_at_the_end", _as_it_is),
        patch.object(leaving, "open_among", _every),
    ):
        yield


def _true(*_arguments: object, **_options: object) -> bool:
    return True


def _no_memory(*_arguments: object, **_options: object) -> dict[str, Any]:
    return {}


async def _keeps_keys(_store: KeyStore, _referrals: Iterable[str]) -> None:
    pass


def _as_she_said(form: WithdrawalForm, _events: object) -> EventName:
    return EventName(form.value)


_verdict = decision._verdict


def _as_if_she_had_named_it(field: Any, kind: Any, lines: list[Any]) -> decision.ConsentVerdict:
    found = _verdict(field, kind, lines)
    provision = lines[0][0] if found.provision is None else found.provision
    return found._replace(allowed=True, named=True, provision=provision)


_statement = release_disclosure._statement


def _accepting_anything(node: Any, case: Any, held: Any, number: int, at: int) -> Any:
    facts = case.facts.model_copy(update={"accepting": case.facts.accepting or held.digest})
    return _statement(node, replace(case, facts=facts), held, number, at)


@contextmanager
def _released_unasked() -> Iterator[None]:
    with patch.object(Case, "accepted", _true), patch.object(release_disclosure, "_statement", _accepting_anything):
        yield


async def _delivered_whatever(node: Any, lease: Any, batch: Any, _answer: Any, *, last: Any) -> None:
    def commit(conn: Any) -> None:
        ids = [item.id for item in batch.items]
        conn.execute(update(OUTBOX).where(OUTBOX.c.id.in_(ids)).values(status="delivered", receipt=b""))

    await node.database.write(commit)
    if last is not None:
        await leasing.give_back(node, lease, last.line, reached=True, retry_after_ms=None)


def _whoever_says_so(_node: Any, _member: Any, _receipts: Any, answer: Any) -> ConsentStatus:
    return parse_statement(ConsentStatus, from_base64url(answer.statement, member="", longest=4096)).unverified


async def _however_old(node: Any, rows: Any) -> consent_freshness.Words:
    words = await _fresh_words(node, rows)
    over = {item: code for item, code in words.withheld.items() if code == "consent-ended"}
    return replace(words, withheld=over)


_fresh_words = consent_freshness.fresh_words


def _live_whatever_she_said(_node: Any, _sender: Any, _receiver: Any, _cut: Any, row: Any) -> str:
    return "not-live" if row is None else "live"


def _nobody_ended(*_arguments: object) -> frozenset[str]:
    return frozenset()


async def _answers_first(node: Any, *rest: Any) -> None:
    if node.entropy(1)[0] % 8:
        await _commit(node, *rest)


_commit = receive_envelopes._commit


async def _attests_first(keys: Any, client: Any, referral: str) -> Any:
    keys.store.destroy([referral])
    return await ending.attest(keys, client, referral)


def _everything(content: Any, *, level: Any, sharing_stopped: bool) -> Any:
    return _answer(
        content, level=Feedback.OUTCOME if level is Feedback.STATUS else level, sharing_stopped=sharing_stopped
    )


_answer = answering_elsewhere.answer


async def _destroys_nothing(_vault: AgencyVault) -> tuple[str, ...]:
    return ()


def _on(place: Any, name: str, defect: Any) -> Callable[[], AbstractContextManager[Any]]:
    return lambda: patch.object(place, name, defect)


def _as_it_says(_look: ClockLook, now: int) -> int:
    return now


_after = ClockLook.after


def _by_the_same_clock(look: ClockLook, now: int, _ran_ms: int) -> ClockLook:
    passed = now - look.looked_at
    return _after(look, now, passed if 0 < passed <= HOUR_MS else 0)


def _as_then(_node: object, repeat: Any) -> bytes:
    given: bytes = repeat.answer
    return given


MUTANTS: Final = (
    Mutant("her no leaves the queue as it is", _nothing_is_deleted),
    Mutant("the end of a referral leaves the queue as it is", _the_end_is_not_looked_at),
    Mutant("how it goes leaves although she has stopped sharing", _on(stopping, "say_less", _nothing)),
    Mutant("how it ended leaves although she has stopped sharing",
        _on(answers_that_wait, "_say_only_that_it_is_over", _nothing)),
    Mutant("her no is sent as she said it, whatever was released", _on(withdraw, "word_of_no", _as_she_said)),
    Mutant("a release does not ask for an acceptance", _released_unasked),
    Mutant("a release does not look at the consent again", _on(release_disclosure, "disclosure_again", _nothing)),
    Mutant("the gate forgets her consent field by field", _on(decision, "_verdict", _as_if_she_had_named_it)),
    Mutant("a receiver does not remember what it answered", _on(arrivals, "recall_answers", _no_memory)),
    Mutant("an idempotency key is not kept", _on(access, "_STORE_ANSWERS", Mock())),
    Mutant("a batch is answered before it is stored", _on(receive_envelopes, "_commit", _answers_first)),
    Mutant("whatever a peer answers counts as a receipt", _on(way, "settle", _delivered_whatever)),
    Mutant("what a peer refuses stays queued for ever", _on(settle, "_refused", _nothing)),
    Mutant("stops arrive without an event", _on(store_arrival, "_STOP_EVENTS", {})),
    Mutant("whoever answers about a consent is believed", _on(consent_freshness, "_verified", _whoever_says_so)),
    Mutant("an end of a consent is not kept", _on(consent_freshness, "record_words", _nothing)),
    Mutant("an old word about a consent is enough for ever", _on(open_items, "fresh_words", _however_old)),
    Mutant("a consent is live whatever she has said", _on(consent_status, "_status_of", _live_whatever_she_said)),
    Mutant("an open does not look again for an end", _on(open_items, "ended_among", _nobody_ended)),
    Mutant("destroying keeps the keys", _on(KeyStore, "destroy", _keeps_keys)),
    Mutant("destroying keeps the inbox", _on(destroy, "wipe_items", _nothing)),
    Mutant("destroying keeps the answers", _on(destroy, "wipe_answers", _nothing)),
    Mutant("a clock that has jumped counts", _on(ClockLook, "ends_by", _as_it_says)),
    Mutant("what a node has run is what its clock says", _on(ClockLook, "after", _by_the_same_clock)),
    Mutant("what an old node key has signed goes as it is", _on(settle, "signed_anew", _nothing)),
    Mutant("what an old agency key has signed waits", _on(signed_before, "_told", _nothing)),
    Mutant("a repeat is answered with the signature of before", _on(receive_envelopes, "_signed_today", _as_then)),
    Mutant("elsewhere: a key is said to be stored and is not", _on(AgencyKeyStore, "take", _nothing)),
    Mutant("elsewhere: an attestation destroys before it asks", _on(agency_vault, "attest", _attests_first)),
    Mutant("elsewhere: how it ended is told at every level", _on(answering_elsewhere, "answer", _everything)),
    Mutant("elsewhere: destroying keeps the keys", _on(AgencyVault, "destroy_ended", _destroys_nothing)),
    *(Mutant(name, defect) for name, defect in (*DEFECTS, *ROSTER_DEFECTS)),
)  # fmt: skip

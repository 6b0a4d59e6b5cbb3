"""Hand-ins that are stored together: each one's guards, rows and refusals are its own, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import Connection, Table, event, select, update
from sqlalchemy.exc import IntegrityError

from exchange.storage.access import AuditEntry, KeptAnswer
from exchange.storage.consents import (
    ClientCode,
    StaleConsentError,
    StoredConsent,
    forget_client_code,
    insert_consent,
    save_consent,
)
from exchange.storage.database import Database
from exchange.storage.hand_ins import HandIn, store_hand_ins
from exchange.storage.outbox import OutgoingRecord
from exchange.storage.referrals import EventRecord, ReferralRecord
from exchange.storage.tables import (
    AUDIT,
    CHANGE,
    CLIENT_CODE,
    CONSENT,
    EVENT,
    IDEMPOTENCY,
    OUTBOX,
    PEER,
    REFERRAL,
)

PEERS = ("shelter", "embassy")
WRITTEN = (REFERRAL, EVENT, OUTBOX, CHANGE, AUDIT, IDEMPOTENCY)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """With nine consents of nine survivors, each read at its version 3."""
    opened = Database.open(database_url)

    def consents(conn: Connection) -> None:
        for number in range(9):
            insert_consent(conn, StoredConsent(f"consent-{number}", f"subject-{number}", 3, "live", 9, 1, b"sealed"))

    await opened.write(consents)
    yield opened
    await opened.close()


def hand_in(number: int, **other: Any) -> HandIn:
    """The hand-in of this number: odd ones hold nothing, and go to the second peer."""
    referral, peer = f"referral-{number}", PEERS[number % 2]
    kinds = ("offer", "disclosure") if number % 2 == 0 else ("offer",)
    made = HandIn(
        consent=(f"consent-{number}", 3),
        code=ClientCode(f"subject-{number}", peer, f"code-{number}"),
        code_is_new=True,
        referral=ReferralRecord(referral, "referring", peer, "shelter", "contract", "sent", number, number, 99),
        offered=EventRecord(referral, "referring", number, "offered", 0, number, digest=f"digest-{number}"),
        envelopes=tuple(
            OutgoingRecord(
                f"{kind}-{number}",
                referral,
                peer,
                kind,
                "queued" if kind == "offer" else "held",
                f"digest-{kind}-{number}",
                number,
                99,
                b"header",
                b"key",
                b"content",
                b"signature",
            )
            for kind in kinds
        ),
        audit=AuditEntry(number, "referral-sent", referral, "client", "worker", f"digest-{number}"),
        answer=KeptAnswer("client", f"key-{number}", "request", 201, referral, f"answer-{number}".encode(), 99),
    )
    return made._replace(**other)


async def hand_in_at_once(database: Database, made: Sequence[HandIn]) -> list[type[Exception] | None]:
    """What each of their callers heard."""
    answers = await asyncio.gather(
        *(database.write_together(store_hand_ins, one) for one in made), return_exceptions=True
    )
    return [type(answer) if isinstance(answer, Exception) else None for answer in answers]


async def rows(database: Database, table: Table) -> list[dict[str, Any]]:
    query = select(table).order_by(*(table.c[name] for name in ("seq", "referral", "key") if name in table.c))
    return await database.read(lambda conn: [dict(row) for row in conn.execute(query).mappings()])


async def stored(database: Database) -> dict[str, list[str]]:
    """Whose rows are where, in the order in which they are listed."""
    column = {"referral": "id", "audit": "subject_id"}
    return {
        table.name: [row[column.get(table.name, "referral")] for row in await rows(database, table)]
        for table in WRITTEN
    }


def only(*numbers: int) -> dict[str, list[str]]:
    """What is stored if exactly these hand-ins are, in this order."""
    listed = [f"referral-{number}" for number in numbers]
    by_id = sorted(listed)
    envelopes = [name for number, name in zip(numbers, listed, strict=True) for _ in hand_in(number).envelopes]
    return {
        "referral": by_id,
        "event": by_id,
        "outbox": envelopes,
        "change": listed,
        "audit": listed,
        "idempotency": by_id,
    }


async def test_all_of_them_are_stored_with_one_statement_a_table_in_the_order_of_their_coming(
    database: Database,
) -> None:
    commits: list[int] = []
    event.listen(database._write_engine, "commit", lambda _: commits.append(1))
    order = [4, 0, 3, 8, 1]
    mark = {name: database.wake.mark(name) for name in ("outbox", "changes")}
    assert await hand_in_at_once(database, [hand_in(number) for number in order]) == [None] * 5
    stored_now = await stored(database)
    assert {name: sorted(found) for name, found in stored_now.items()} == {
        name: sorted(found) for name, found in only(*order).items()
    }
    for name in ("outbox", "change", "audit"):
        assert stored_now[name] == only(*order)[name], name
    assert len(commits) == 1
    for name in ("outbox", "changes"):
        assert await database.wake.wait(name, 0.0, since=mark[name])
    assert [row["code"] for row in await rows(database, CLIENT_CODE)] == [f"code-{number}" for number in sorted(order)]
    assert [row["id"] for row in await rows(database, OUTBOX)][:3] == ["offer-4", "disclosure-4", "offer-0"]


async def test_one_whose_consent_changed_meanwhile_is_refused_and_the_others_are_stored(database: Database) -> None:
    changed = StoredConsent("consent-2", "subject-2", 4, "withdrawn", 9, 1, None)
    await database.write(lambda conn: save_consent(conn, changed, read_version=3))
    assert await hand_in_at_once(database, list(map(hand_in, range(5)))) == [None, None, StaleConsentError, None, None]
    assert await stored(database) == only(0, 1, 3, 4)
    assert "code-2" not in {row["code"] for row in await rows(database, CLIENT_CODE)}


async def test_her_no_in_the_same_batch_wins_over_what_comes_behind_it(database: Database) -> None:
    def withdraw(conn: Connection) -> None:
        save_consent(conn, StoredConsent("consent-2", "subject-2", 4, "withdrawn", 9, 1, None), read_version=3)

    before = [database.write_together(store_hand_ins, hand_in(number)) for number in (0, 2)]
    second = hand_in(4, consent=("consent-2", 3))
    after = [database.write_together(store_hand_ins, one) for one in (second, hand_in(6))]
    answers = await asyncio.gather(*before, database.write(withdraw), *after, return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None)] * 3 + [StaleConsentError, type(None)]
    assert await stored(database) == only(0, 2, 6)


async def test_two_that_read_different_versions_of_one_consent_are_not_both_right(database: Database) -> None:
    older = hand_in(2, consent=("consent-1", 2))
    assert await hand_in_at_once(database, [hand_in(1), older]) == [None, StaleConsentError]
    assert await stored(database) == only(1)


async def test_a_consent_that_does_not_exist_is_refused(database: Database) -> None:
    strange = hand_in(2, consent=("consent-99", 3))
    assert await hand_in_at_once(database, [hand_in(1), strange]) == [None, StaleConsentError]
    assert await hand_in_at_once(database, [strange]) == [StaleConsentError]


async def test_of_two_with_one_idempotency_key_the_first_is_carried_out(database: Database) -> None:
    again = hand_in(2)._replace(answer=hand_in(0).answer._replace(referral="referral-2"))
    assert await hand_in_at_once(database, [hand_in(0), hand_in(1), again, hand_in(3)]) == [
        None,
        None,
        IntegrityError,
        None,
    ]
    assert await stored(database) == only(0, 1, 3)
    assert (await rows(database, IDEMPOTENCY))[0]["sealed_answer"] == b"answer-0"


async def test_of_two_new_codes_for_one_survivor_one_stands_and_the_other_decides_again(database: Database) -> None:
    other = ClientCode("subject-0", PEERS[0], "code-other")
    assert await hand_in_at_once(database, [hand_in(0), hand_in(2, code=other), hand_in(4)]) == [
        None,
        StaleConsentError,
        None,
    ]
    # It is right under the code that stands, and another receiver knows her under another one.
    known = hand_in(2, code=other._replace(code="code-0"), code_is_new=False)
    elsewhere = hand_in(6, code=ClientCode("subject-0", "labour", "code-6"))
    assert await hand_in_at_once(database, [known, elsewhere, hand_in(8)]) == [None] * 3
    found = {(row["subject"], row["receiver"]): row["code"] for row in await rows(database, CLIENT_CODE)}
    assert found[("subject-0", PEERS[0])] == "code-0"
    assert found[("subject-0", "labour")] == "code-6"


async def test_a_code_that_was_erased_meanwhile_does_not_come_back(database: Database) -> None:
    await database.write_together(store_hand_ins, hand_in(0))
    again = ClientCode("subject-0", PEERS[0], "code-0")
    await database.write(lambda conn: forget_client_code(conn, again.subject, again.receiver))
    assert await hand_in_at_once(database, [hand_in(1), hand_in(2, code=again, code_is_new=False), hand_in(3)]) == [
        None,
        StaleConsentError,
        None,
    ]
    assert again.code not in {row["code"] for row in await rows(database, CLIENT_CODE)}


async def test_an_id_that_exists_is_its_own_callers_mistake(database: Database) -> None:
    await database.write_together(store_hand_ins, hand_in(0))
    same_envelope = hand_in(2)._replace(envelopes=hand_in(0).envelopes)
    same_referral = hand_in(4)._replace(referral=hand_in(0).referral)
    assert await hand_in_at_once(database, [hand_in(1), same_envelope, same_referral, hand_in(3)]) == [
        None,
        IntegrityError,
        IntegrityError,
        None,
    ]
    assert await stored(database) == only(0, 1, 3)


async def test_each_peer_is_hurried_and_of_one_that_does_not_answer_nothing_is_changed(database: Database) -> None:
    await hand_in_at_once(database, [hand_in(0), hand_in(1)])

    def put_off(conn: Connection) -> None:
        conn.execute(update(PEER).values(due_at=1000))
        conn.execute(update(PEER).where(PEER.c.agency == PEERS[1]).values(attempts=2))

    await database.write(put_off)
    assert await hand_in_at_once(database, list(map(hand_in, range(2, 6)))) == [None] * 4
    due = {row["agency"]: row["due_at"] for row in await rows(database, PEER)}
    assert due[PEERS[0]] <= 5
    assert due[PEERS[1]] == 1000


async def test_nothing_is_stored_where_the_last_statement_fails(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.storage.hand_ins.store_answers", Mock(side_effect=LookupError))
    assert await hand_in_at_once(database, list(map(hand_in, range(3)))) == [LookupError] * 3
    assert await stored(database) == only()
    assert await rows(database, CLIENT_CODE) == []
    assert [row["version"] for row in await rows(database, CONSENT)] == [3] * 9


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_no_in_another_process_waits_for_hand_ins_that_were_guarded_before_it(database_url: str) -> None:
    here, there = Database.open(database_url), Database.open(database_url)
    consents = [StoredConsent(f"consent-{n}", f"subject-{n}", 3, "live", 9, 1, b"sealed") for n in range(3)]
    await here.write(lambda conn: [insert_consent(conn, one) for one in consents] and None)
    withdrawn = partial(save_consent, row=consents[1]._replace(version=4), read_version=3)

    def hold_on(conn: Connection, made: Sequence[HandIn]) -> None:
        store_hand_ins(conn, made)
        guarded.set()
        conn.exec_driver_sql("SELECT pg_sleep(0.3)")

    guarded = asyncio.Event()
    handing_in = [asyncio.create_task(here.write_together(hold_on, hand_in(n))) for n in range(3)]
    while not guarded.is_set():  # noqa: ASYNC110 - set in a thread
        await asyncio.sleep(0.01)
    no = asyncio.create_task(there.write(withdrawn))
    await asyncio.sleep(0.1)
    assert not no.done()
    await asyncio.gather(no, *handing_in)
    await here.close()
    await there.close()

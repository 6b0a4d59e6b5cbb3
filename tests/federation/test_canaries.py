"""The canary search: planted values of every personal field are looked for wherever a node could have left them.

A whole life (accepted, released, a new plan, information, her no) and a refused request, told to two nodes with logs,
spans and metrics switched on. Then every byte is searched, in every spelling a program might have used: database files
and write-ahead logs (or every row of every table), key stores, node homes, log lines, spans, metrics, problems, and
everything that travelled. Once while the referral lives, and once after it was destroyed; then also in what the nodes'
own storage keys open, for the code under which the receiver knew her.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import create_engine, inspect, text
from support.databases import POSTGRES_IN_FAULTS, MakeDatabase
from support.federation import Federation, TestNode
from support.federation_fixtures import federation_on
from support.people import referral_request
from support.stories import Story, begin, content, her_content, now_of, plan, refusal, rows, said_inside

from contracts.vocabulary import Field, terms
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.demo.search import spellings
from exchange.referral.contact_plan import SafeContact
from exchange.storage.tables import CLIENT_CODE, METADATA
from exchange.telemetry import Telemetry, configure_logging
from exchange.telemetry.exporters import AllowListSpanExporter
from exchange.telemetry.recording import describe, record_metrics, record_spans
from exchange.telemetry.setup import telemetry_with

CANARIES: Final = {
    "preferred_name": "Bunga Kenari-Satu",
    "arrival_words": "kenari dua",
    "meeting_point": "Kenari Tiga market, north gate",
    "phone": "+00 555 0100 7301",
    "new phone": "+00 555 0100 7302",
    "say_if_other_answers": "Kenari Lima bakery, sorry.",
    "code_word_safe": "kenari-enam",
    "code_word_danger": "kenari-tujuh",
    "trusted_contact": "Kenari Delapan",
    "trusted phone": "+00 555 0100 7303",
    "asked name": "Kenari Sembilan",
}
"""Planted and sent: sealed to the receiver, and found nowhere."""
REFUSED: Final = {
    "current_location": "Kenari Empat clinic, side door",
    "narrative": "Kenari-sepuluh ran at night.",
    "perpetrator_identity": "Kenari Sebelas",
    "legal_name": "Kenari Duabelas Binti Contoh",
    "passport_number": "XK1300013",
    "employer_name": "Kenari Empatbelas Household",
    "police_statement": "Kenari-limabelas said so.",
    "health_facts": "Kenari-enambelas allergy.",
}
"""Planted, and refused or withheld: these must not even be inside an envelope."""
ALL: Final = tuple(CANARIES.values()) + tuple(REFUSED.values())


@dataclass(slots=True)
class Watched:
    """A federation and everything that it says about itself."""

    together: Federation
    urls: list[str]
    logs: io.StringIO
    spans: InMemorySpanExporter
    metrics: InMemoryMetricReader
    problems: list[bytes] = field(default_factory=list)


@pytest.fixture
def observed() -> Iterator[tuple[Telemetry, InMemorySpanExporter, InMemoryMetricReader]]:
    """Telemetry as `start_telemetry` makes it, with a memory in place of the collector."""
    spans, metrics, resource = InMemorySpanExporter(), InMemoryMetricReader(), describe("0")
    telemetry = telemetry_with(
        record_spans(SimpleSpanProcessor(AllowListSpanExporter(spans, resource)), resource, trace_ratio=1.0),
        record_metrics(metrics, resource),
    )
    yield telemetry, spans, metrics
    telemetry.shut_down()


@pytest.fixture(params=POSTGRES_IN_FAULTS)
async def watched(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    make_on: Callable[[str], MakeDatabase],
    observed: tuple[Telemetry, InMemorySpanExporter, InMemoryMetricReader],
) -> AsyncIterator[Watched]:
    """Two nodes that write logs, spans and metrics into memory; `make test` searches PostgreSQL in tests/security."""
    telemetry, spans, metrics = observed
    logs = io.StringIO()
    configure_logging(level="debug", stream=logs, count_dropped=telemetry.measurements.log_keys_dropped)
    made = make_on(request.param)
    async with federation_on(tmp_path, (HELPLINE, SHELTER), made, telemetry=telemetry) as together:
        settings = [one.settings for one in together.nodes.values()]
        urls = [url for one in settings for url in (one.database_url, one.key_database_url) if url is not None]
        assert len(urls) == 4
        yield Watched(together, [url.get_secret_value() for url in urls], logs, spans, metrics)
    configure_logging(level="warning")


def her_plan(together: Federation, phone: str) -> dict[str, Any]:
    return plan(
        now_of(together),
        address=phone,
        say_if_other_answers=CANARIES["say_if_other_answers"],
        code_word_safe=CANARIES["code_word_safe"],
        code_word_danger=CANARIES["code_word_danger"],
        trusted_contact={
            "name": CANARIES["trusted_contact"],
            "channel": "phone-call",
            "address": CANARIES["trusted phone"],
        },
    )


async def a_whole_life(watched: Watched) -> Story:
    """Everything that can be said about her is said, and everything that must be refused is tried."""
    together = watched.together
    sent = {name: CANARIES[name] for name in ("preferred_name", "arrival_words", "meeting_point")}
    withheld = {
        name: REFUSED[name]
        for name in ("current_location", "legal_name", "passport_number", "employer_name", "health_facts")
    }
    story = await begin(
        together,
        content=her_content(together, **sent, **withheld, safe_contact=her_plan(together, CANARIES["phone"])),
    )
    for name in ("narrative", "perpetrator_identity", "police_statement"):
        request = referral_request(
            SHELTER.agency,
            story.consent,
            now=now_of(together),
            content=her_content(together, **sent, **{name: REFUSED[name]}),
        )
        if name == "police_statement":
            watched.problems.append((await story.asks.referrals.preview(request)).model_dump_json().encode())
        else:
            watched.problems.append((await refusal(story.asks.referrals.send(request))).model_dump_json().encode())
    await tries_forms(watched, story)
    await story.decides("information-requested", fields=["preferred_name"])
    await story.decides("accepted")
    answer = await story.asks.referrals.send_information(story.id, content(preferred_name=CANARIES["asked name"]))
    watched.problems.append(answer.model_dump_json().encode())
    await story.travel()
    new = SafeContact.model_validate_json(json.dumps(her_plan(together, CANARIES["new phone"])))
    await story.asks.referrals.update_safe_contact(story.id, new)
    await story.travel()
    for kind in ("offer", "disclosure", "information", "update"):
        assert (await story.opened(kind)).content is not None
    advice = await story.helps.inbox.contact_advice(await story.offer())
    assert advice.may_contact
    await story.reports("in-service", "completed", outcome="ended-by-survivor")
    return story


async def tries_forms(watched: Watched, story: Story) -> None:
    """Bodies, addresses and headers that do not parse, each with her name where a program might repeat it."""
    name, token = CANARIES["preferred_name"], await story.asks.access_token()
    headers = {"Authorization": f"Bearer {token}", "Actor": "w-test", "Content-Type": "application/json"}
    tries: tuple[tuple[str, str, Any, dict[str, str]], ...] = (
        ("POST", "/v1/referrals", {"to": name, "content": {"arrival_words": name}}, {"Idempotency-Key": "k-1"}),
        ("POST", "/v1/referrals", {name: name}, {"Idempotency-Key": "k-2"}),
        ("POST", "/v1/consents", {"provisions": [{"fields": [name]}]}, {"Idempotency-Key": "k-3"}),
        ("POST", "/v1/withdrawals", {"referral": name, "form": name}, {"Idempotency-Key": "k-4"}),
        ("GET", f"/v1/inbox?cursor={name}", None, {}),
        ("GET", f"/v1/referrals/{name}", None, {}),
        ("GET", f"/{name}", None, {}),
    )
    async with httpx2.AsyncClient(transport=watched.together.network, base_url=story.sender.member.node_url) as client:
        for method, path, body, more in tries:
            answer = await client.request(method, path, json=body, headers=headers | more)
            assert answer.status_code >= 400
            watched.problems.append(answer.content)


def at_rest(watched: Watched) -> Iterator[tuple[str, bytes]]:
    """Every file of every node; for PostgreSQL every row of every table."""
    for path in sorted(watched.together.folder.rglob("*")):
        if path.is_file():
            yield str(path), path.read_bytes()
    for url in watched.urls:
        if url.startswith("sqlite"):
            main = Path(url.removeprefix("sqlite:///"))
            for path in main.parent.rglob("*"):
                if path.is_file():
                    yield str(path), path.read_bytes()
        else:
            yield url, _dump(url)


def _dump(url: str) -> bytes:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    dumped = b""
    with engine.connect() as conn:
        for table in inspect(engine).get_table_names():
            for row in conn.execute(text(f'SELECT * FROM "{table}"')):  # noqa: S608 - names of our own tables
                for value in row:
                    dumped += bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                    dumped += b"\n"
    engine.dispose()
    return dumped


async def kept_by(node: TestNode) -> bytes:
    """Every row of the main database, sealed values as the node's storage key opens them."""
    kept = []
    for name, table in METADATA.tables.items():
        for row in await rows(node, table):
            place = f"{row['client_id']}/{row['key']}" if name == "idempotency" else row.get("id", "")
            for column, value in row.items():
                sealed = column.startswith("sealed_") and value is not None
                kept.append(node.node.open_row(value, name, column, place) if sealed else str(value).encode())
    return b"\n".join(kept)


def said(watched: Watched) -> Iterator[tuple[str, bytes]]:
    """Everything the nodes said, to whomever."""
    yield "logs", watched.logs.getvalue().encode()
    yield "spans", "\n".join(span.to_json() for span in watched.spans.get_finished_spans()).encode()
    metrics = watched.metrics.get_metrics_data()
    yield "metrics", metrics.to_json().encode() if metrics is not None else b""
    for problem in watched.problems:
        yield "problem", problem
    for _, path, body in watched.together.network.posted:
        yield path, body
    for answer in watched.together.network.answered:
        yield "answer", answer


def finds(places: Iterator[tuple[str, bytes]], words: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Where a word stands, and how it is spelled."""
    needles = [(word, spelling, needle) for word in words for spelling, needle in spellings(word)]
    return [(place, word, spelling) for place, data in places for word, spelling, needle in needles if needle in data]


async def test_no_planted_word_is_found_anywhere_while_the_referral_lives(watched: Watched) -> None:
    story = await a_whole_life(watched)
    assert finds(at_rest(watched), ALL) == []
    assert finds(said(watched), ALL) == []
    inside = await said_inside(watched.together)
    assert all(word.encode() in inside for word in CANARIES.values())
    assert not any(word.encode() in inside for word in REFUSED.values())
    # In its own row, and in the answer that is kept for a repeat.
    assert (await kept_by(story.sender)).count(story.created.client_code.encode()) == 2
    # A search in nothing finds nothing.
    heard = dict(said(watched))
    assert b'"event"' in heard["logs"]
    assert heard["spans"]
    assert heard["metrics"]
    assert watched.problems


async def test_no_planted_word_is_found_anywhere_after_destruction(watched: Watched) -> None:
    story = await a_whole_life(watched)
    await story.says_no("erase")
    for node in (story.sender, story.receiver):
        await story.nothing_is_left(at=node)
    assert finds(at_rest(watched), ALL) == []
    assert await rows(story.sender, CLIENT_CODE) == []
    for node in (story.sender, story.receiver):
        kept = await kept_by(node)
        assert story.id.encode() in kept
        assert story.created.client_code.encode() not in kept
        assert not any(word.encode() in kept for word in ALL)
        await node.node.database.carry_log()  # as the courier does
    assert finds(said(watched), ALL) == []
    assert finds(at_rest(watched), (story.created.client_code,)) == [], "it stood in a column of its own, in the clear"


CODED: Final = frozenset(
    word.value
    for words in (
        *(terms.ServiceType, terms.Purpose, terms.Priority, terms.Channel, terms.AgeBand, terms.Sex, terms.Gender),
        *(terms.Accessibility, terms.SafetyFlag, terms.CareWindow, terms.Relationship, terms.Outcome),
        *(terms.FailReason, terms.DeclineReason, terms.NotReferred, terms.Group, terms.Basis, Field),
    )
    for word in words
) - {"none"}  # `referral.hold` says it too
"""What is told about her in words of which everybody has the list."""
TO_A_KEY: Final = frozenset({"ciphertext", "wrapped_key", "rewrapped_key", "signature", "part_digests"})


async def unsealed(node: TestNode) -> dict[str, list[bytes]]:
    """What a thief without any key reads, column by column."""
    found: dict[str, list[bytes]] = {}
    for name, table in METADATA.tables.items():
        for row in await rows(node, table):
            for column, value in row.items():
                if value is not None and not column.startswith("sealed_") and column not in TO_A_KEY:
                    found.setdefault(f"{name}.{column}", []).append(
                        value if isinstance(value, bytes) else str(value).encode()
                    )
    return found


async def test_no_coded_word_about_her_stands_in_the_clear(watched: Watched) -> None:
    """Neither as a value nor, where JSON lies in a column as it was signed, inside one."""
    story = await a_whole_life(watched)
    refused = await begin(watched.together, consent=story.consent)
    await refused.decides("declined", reason="policy-violation")
    failed = await begin(watched.together, consent=story.consent)
    await failed.decides("accepted")
    await failed.reports("failed", fail_reason="eligibility-changed")
    for node in (story.sender, story.receiver):
        lying = await unsealed(node)
        told = {
            (column, word)
            for column, values in lying.items()
            for word in CODED
            for value in values
            if value == word.encode() or f'"{word}"'.encode() in value
        }
        assert told == set()
        assert b"accommodation" in lying["referral.sector"], "a word that stands there is found"
    kept = await kept_by(story.receiver)
    assert b'"policy-violation"' in kept, "sealed, and there"


async def test_the_search_finds_what_is_there(watched: Watched) -> None:
    """A search that finds nothing proves nothing unless it would find something."""
    story = await begin(watched.together)
    assert {place.rsplit("/", 1)[-1] for place, _, _ in finds(at_rest(watched), (story.id,))}
    assert finds(said(watched), ("lantern-helpline",))
    (watched.together.folder / "left-behind").write_text(json.dumps(CANARIES["preferred_name"]))
    assert [word for _, word, _ in finds(at_rest(watched), ALL)] == [CANARIES["preferred_name"]]

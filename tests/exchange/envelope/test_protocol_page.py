"""docs/protocol.md is normative: what the code knows has to stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.lies import TABLE
from vectors import make_vectors

from contracts.vocabulary import (
    LOCAL_DECLINE_REASONS,
    NEEDS_BY_SERVICE,
    ROUTING_FIELDS,
    Basis,
    BasisClass,
    DeclineReason,
    FailReason,
    Feedback,
    Group,
    Outcome,
    Priority,
    Purpose,
    ServiceType,
    basis_class,
)
from exchange.api.rate import REFUSED_EVERY_S, REFUSED_WITHIN_S
from exchange.api.room import LEAST
from exchange.envelope import errors
from exchange.envelope.epochs import EpochRevocation, EpochStatement
from exchange.envelope.kinds import SHAPES, Kind
from exchange.envelope.statements import (
    Adherence,
    ConsentStatus,
    DeliveryReceipt,
    ReleaseStatement,
    Statement,
)
from exchange.envelope.tags import Tag
from exchange.limits import DAY_MS, HOUR_MS, KIB, LIMITS, MINUTE_MS
from exchange.roster import Member
from exchange.schemas.node import EpochKeyView, NodeCard
from exchange.use_cases.line import EXCHANGE_S

PAGE = (Path(make_vectors.__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
BASES = {"envelope", "receipt", "epoch", "statement", "key-file"}
"""Codes of classes that are only raised with one of their faults."""


def _codes() -> set[str]:
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    codes = {kind.code for kind in classes if issubclass(kind, errors.EnvelopeError)} - BASES
    for faults in (errors.ReceiptFault, errors.EpochFault, errors.StatementFault, errors.KeyFileFault):
        codes |= {fault.value for fault in faults}
    return codes


@pytest.mark.parametrize("code", sorted(_codes()))
def test_every_code_is_on_the_page_and_in_the_family_tree(code: str) -> None:
    assert f"`{code}`" in PAGE
    assert code in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", sorted(Kind))
def test_every_kind_its_events_and_members_are_on_the_page(kind: Kind) -> None:
    shape = SHAPES[kind]
    row = next(line for line in PAGE.splitlines() if line.startswith("| `") and f"`{kind.value}`" in line)
    assert all(f"`{event}`" in row for event in shape.events or ())
    assert all(re.search(rf"[` ]{member}[` ]", PAGE) for member in shape.required)


@pytest.mark.parametrize("tag", list(Tag), ids=lambda tag: tag.value.decode())
def test_every_tag_is_on_the_page(tag: Tag) -> None:
    name = tag.value.decode()
    assert f"`{name}`" in PAGE or f"`…/{name.rsplit('/', 1)[1]}`" in PAGE


@pytest.mark.parametrize("name", sorted(make_vectors.build()))
def test_the_table_of_vectors_is_current(name: str) -> None:
    cases = json.loads((Path(make_vectors.__file__).parent / name).read_bytes())["cases"]
    assert f"| `{name}` | {len(cases)} |" in PAGE


def _rows(section: str) -> list[list[str]]:
    """The tables of a section, cell by cell."""
    text = PAGE.split(f"\n## {section} ", 1)[1].split("\n## ", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


@pytest.mark.parametrize("member", ["purpose", "groups", "priority"])
def test_the_terms_of_a_header_are_the_vocabularys(member: str) -> None:
    terms = {"groups": set(Group), "priority": set(Priority), "purpose": {"provide-", *Purpose}}[member]
    text = (
        PAGE.split("Terms of vocabulary 1", 1)[1].split(f"- `{member}`", 1)[1].split("\n- ", 1)[0].split("\n\n", 1)[0]
    )
    said = re.findall(r"`([a-z-]+)`", text)
    if member == "purpose":
        said = [term if term in {"statistics", "provide-"} else f"provide-{term}" for term in said]
    assert sorted(said) == sorted(map(str, terms))


def _terms(text: str) -> list[str]:
    return sorted(re.findall(r"`([a-z_-]+)`", text))


def test_the_terms_of_a_content_are_the_vocabularys() -> None:
    text = PAGE.split("\n**Content.**", 1)[1].split("\n## 9 ", 1)[0]
    rows = {cells[0]: cells[1] for cells in _rows("8") if cells[0] in {"`basis`", "`feedback`"}}
    assert _terms(rows["`feedback`"]) == sorted(Feedback)
    classes = dict(re.findall(r"`(consent|guardian|exception)`: ((?:`[a-z-]+` ?)+)", rows["`basis`"]))
    for name in BasisClass:
        assert _terms(classes[name]) == sorted(basis for basis in Basis if basis_class(basis) is name)
    for member, terms in (
        ("reason", set(DeclineReason) - LOCAL_DECLINE_REASONS),
        ("outcome", set(Outcome)),
        ("fail_reason", set(FailReason)),
    ):
        said = text.split(f"`{member}`:", 1)[1].split(".", 1)[0]
        assert _terms(said) == sorted(terms)
    routing = text.split("where `groups` names `routing` then:", 1)[1].split(" for a drill", 1)[0]
    assert _terms(routing) == sorted(ROUTING_FIELDS)


def test_the_needs_of_a_service_are_the_vocabularys() -> None:
    text = PAGE.split("The needs of each service:", 1)[1].split(".\n", 1)[0]
    said: dict[str, list[str]] = {}
    for part in text.split(";"):
        services, needs = map(_terms, part.split(":"))
        said |= dict.fromkeys(services, needs)
    referred_to = set(ServiceType) - {ServiceType.PEER_SUPPORT}
    assert said == {service.value: sorted(NEEDS_BY_SERVICE[service]) for service in referred_to}


def test_the_members_of_card_and_roster_are_the_codes() -> None:
    text = " ".join(PAGE.split("\n## 17 ", 1)[1].split())
    card, entry = text.split("A **card** has all of ", 1)[1].split("; an entry of `epochs` all of ", 1)
    assert _terms(card) == sorted(NodeCard.model_fields)
    assert _terms(entry.split(" - ", 1)[0]) == sorted(EpochKeyView.model_fields)
    rows = {cells[0]: cells[1] for cells in _rows("17")}
    members = re.sub(r"\(`active`[^)]*\)", "", rows["`members`"])
    assert _terms(members) == sorted(Member.model_fields)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("delivery receipt", DeliveryReceipt),
        ("release", ReleaseStatement),
        ("consent status", ConsentStatus),
        ("adherence", Adherence),
        ("epoch key", EpochStatement),
        ("epoch revocation", EpochRevocation),
    ],
)
def test_the_body_of_a_statement_is_on_the_page(name: str, kind: type[Statement]) -> None:
    (row,) = (row for row in _rows("4") if row[0] == name)
    assert set(re.findall(r"`([a-z_]+)`", row[2])) == set(kind.CHECKS)


def test_each_code_of_a_lie_stands_at_its_step() -> None:
    said: dict[str, set[str]] = {}
    for row in _rows("15"):
        codes, steps = (row[0], row[1]) if row[0].startswith("`") else (row[1], row[0])
        for step in steps.split(", "):
            said.setdefault(step, set()).update(re.findall(r"`([a-z-]+)`", codes))
    for lie in TABLE:
        assert lie.refusal.code in said[str(lie.refusal.step)], lie.id


def test_the_constants_are_those_of_the_code() -> None:
    text = " ".join(PAGE.split("\n## 14 ", 1)[1].split("\n## 15 ", 1)[0].split()).replace("\u2013", "-")
    lim, (low, high) = LIMITS, LIMITS.retry_jitter
    for said in (
        f"skew {lim.skew_ms // MINUTE_MS} min",
        f"life of a forward or answer ≤ {lim.sealed_expires_ms // DAY_MS} days",
        f"stops {lim.stop_expires_ms // DAY_MS} days",
        f"delivery of a released disclosure {lim.released_within_ms // DAY_MS} days",
        f"epoch 1 week, {lim.epochs_ahead} ahead, {lim.epoch_grace_ms // DAY_MS} days after",
        f"{lim.epochs_ahead_read} weeks ahead read",
        f"{low}-{high}, at once on any inbound contact",
        f"lease {lim.lease_default_s} s ({lim.lease_shortest_s}-{lim.lease_longest_s})",
        f"dedupe ≥ {lim.dedupe_at_least_ms // DAY_MS} days",
        f"{lim.peer_bytes_per_minute // KIB**2} MiB of envelopes a minute from one peer",
        f"every {REFUSED_EVERY_S * 1000:.0f} ms as long as no more than fifty wait",
        f"Content-Length is at most {lim.small_request_bytes // KIB} KiB",
        f"a reserve of {lim.peer_bytes_per_minute // lim.peer_reserve_share // KIB} KiB a minute",
        f"as {lim.batch_bytes // KIB**2} MiB without one",
        f"{lim.arriving_bytes // KIB**2} MiB of one caller's bodies on their way at once",
        f"each counted as {LEAST // KIB} KiB at least",
        f"{EXCHANGE_S:.0f} s for a body, and a second more for each KiB over {lim.batch_first_bytes // KIB}",
        f"consent fresh {lim.consent_fresh_ms // HOUR_MS} h",
        f"shown with its age until {lim.consent_shown_with_age_ms // HOUR_MS} h",
        f"token {lim.token_s // 60} min",
        f"list ≤ {lim.page_items}",
        f"long-poll ≤ {lim.wait_longest_s} s",
        f"open ≤ {lim.open_items} at once",
    ):
        assert said in text
    assert REFUSED_WITHIN_S / REFUSED_EVERY_S == 50

"""What reads bytes that somebody else wrote: each reader with something valid to start from, and what it may raise."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from random import Random
from typing import Any, Final

from support.contract_files import question_json, small
from support.mutations import Mutations
from support.referrals import HELPLINE, SHELTER
from support.replacing import replace
from vectors.samples import (
    AGENCY,
    CREATED,
    DEK,
    EPOCH,
    NODE,
    REFERRAL_KEY,
    STORAGE,
    fixed_bytes,
    fixed_id,
    sample_envelope,
)
from vectors.statement_cases import CHEAP, PASSPHRASE, sample_statements

from consent.errors import StatementInvalidError
from consent.statements.library import read_statement
from contracts.canonical_json import canonical
from contracts.loader import ContractInvalidError, load_contract, shipped_contract
from contracts.question_file import QuestionInvalidError, read_question
from contracts.vocabulary import Basis, Feedback
from exchange.envelope.errors import EnvelopeError, KeyFileError, SealedRowError, StatementError
from exchange.envelope.format import parse_envelope, parse_header
from exchange.envelope.key_file import KeySet, open_keys, seal_keys
from exchange.envelope.keys import AgencyKey, Dek
from exchange.envelope.kinds import Kind, KindClass, SignedBy
from exchange.envelope.open import check_signature, decrypt, unwrap
from exchange.envelope.receipts import check_receipt
from exchange.envelope.rewrap import rewrap, unwrap_again
from exchange.envelope.seal import seal
from exchange.envelope.sealed_rows import SealedRows
from exchange.envelope.statements import Adherence, parse_statement, sign_statement
from exchange.envelope.wire import from_base64url, to_base64url
from exchange.feedback import read_answer
from exchange.messages import ForwardBody
from exchange.oauth.assertion import make_assertion
from exchange.oauth.client_proof import AssertionRefusedError, check_assertion, unverified_subject
from exchange.oauth.clients import PeerClient
from exchange.referral.content import CONTENT_EXAMPLE, ContentInvalidError, ReferralContent
from exchange.roster import Adoption, RosterInvalidError, parse_member_card, parse_roster, roster_bytes
from exchange.verification import VerificationError, parse_item

ISSUER: Final = "https://shelter.example"
ON: Final = date(2027, 1, 1)
NONCE: Final = bytes(24)


@dataclass(frozen=True)
class Target:
    """One reader."""

    name: str
    make: Callable[[Random, Mutations], Any]
    run: Callable[[Any], object]
    may_raise: tuple[type[Exception], ...]
    share: int = 1
    """How often it is drawn; slow ones less."""


def _kind(random: Random) -> Kind:
    return random.choice(list(Kind))


def _item(random: Random, mutations: Mutations) -> object:
    members = sample_envelope(_kind(random)).to_json()
    if random.random() < 0.3:
        member = random.choice(list(members))
        return members | {member: mutations.value(members[member])}
    return mutations.value(members, strokes=random.randint(1, 3))


def _run_item(value: object) -> None:
    parsed = parse_item(value)
    assert parsed.envelope.to_json() == value, "what is accepted has one spelling"


def _header(random: Random, mutations: Mutations) -> bytes:
    return mutations.json(json.loads(sample_envelope(_kind(random)).header))


def _run_header(data: bytes) -> None:
    assert canonical(parse_header(data).members()) == data, "what is accepted has one spelling"


def _sealed(random: Random, mutations: Mutations) -> dict[str, str]:
    """Changed anywhere behind the signature, and signed again: what is refused is refused for what it is."""
    envelope = sample_envelope(random.choice([kind for kind in Kind if kind is not Kind.DISCLOSURE]))
    member, length = random.choice((("header", 0), ("wrapped_key", 80), ("ciphertext", 4136)))
    if member == "header":
        header = mutations.json(json.loads(envelope.header))[:4096]
        envelope = replace(envelope, header=header)
    else:
        changed = mutations.data(getattr(envelope, member), strokes=random.randint(1, 3))
        envelope = replace(envelope, **{member: changed[:length].ljust(length, b"\x00")})
    key = NODE if b'"signed_by":"node"' in envelope.header else AGENCY
    return replace(envelope, signature=key.sign(envelope.signed_input())).to_json()


def _open(value: dict[str, str]) -> None:
    envelope = parse_envelope(value)
    header = parse_header(envelope.header)
    check_signature(envelope, (AGENCY if header.signed_by is SignedBy.AGENCY else NODE).public)
    if header.kind_class is KindClass.FORWARD:
        check_receipt(header, AGENCY.public, CREATED)
    if header.kind_class is not KindClass.STOP:
        decrypt(envelope, unwrap(envelope, EPOCH))


def _content_sealed(random: Random, _mutations: Mutations) -> bytes:
    """Any content of any length: it is sealed here, and has to come out again."""
    return random.randbytes(random.choice((0, 1, 4095, 4096, 16383, 16384, 65535, random.randrange(65536))))


def _round_trip(content: bytes) -> None:
    header = parse_header(sample_envelope(Kind.OFFER).header)
    envelope = seal(
        replace(header, dek_commitment=None),
        content,
        epoch_public=EPOCH.public,
        sign=AGENCY.sign,
        dek=DEK.secret_bytes(),
        nonce=NONCE,
    ).envelope
    parsed = parse_envelope(envelope.to_json())
    assert decrypt(parsed, unwrap(parsed, EPOCH)) == content


def _statement(random: Random, mutations: Mutations) -> tuple[str, bytes]:
    name, (signed, _) = random.choice(list(sample_statements().items()))
    statement = json.loads(signed.to_bytes())
    if random.random() < 0.5:
        return name, canonical(statement | {"body": mutations.value(statement["body"])})
    return name, mutations.json(statement)


def _run_statement(given: tuple[str, bytes]) -> None:
    name, data = given
    signed, public = sample_statements()[name]
    read = parse_statement(type(signed.unverified), data)
    assert read.to_bytes() == data, "what is accepted has one spelling"
    read.verify(public)


CONTENT: Final = json.loads(ReferralContent.model_validate(CONTENT_EXAMPLE).to_bytes())
BODY: Final = {"basis": Basis.CONSENT.value, "content": CONTENT, "feedback": Feedback.OUTCOME.value}


def _body(random: Random, mutations: Mutations) -> bytes:
    changed = BODY | {"content": mutations.value(CONTENT)} if random.random() < 0.7 else mutations.value(BODY)
    return canonical(changed) if random.random() < 0.8 else mutations.json(changed)


def _run_body(data: bytes) -> None:
    assert ForwardBody.from_bytes(data).to_bytes() == data, "what is accepted has one spelling"


ANSWERS: Final[dict[Kind, dict[str, Any]]] = {
    Kind.DECISION: {"decision": "declined", "reason": "no-capacity"},
    Kind.PROGRESS: {"state": "in-service"},
    Kind.INFORMATION_REQUEST: {"fields": ["party"]},
    Kind.RECALL_ANSWER: {"agreed": True},
}


def _answer(random: Random, mutations: Mutations) -> tuple[Kind, bytes]:
    kind = random.choice(list(ANSWERS))
    return kind, mutations.json(ANSWERS[kind])


def _run_answer(given: tuple[Kind, bytes]) -> None:
    kind, data = given
    assert read_answer(kind, data).to_bytes() == data, "what is accepted has one spelling"


@cache
def _contracts() -> tuple[bytes, ...]:
    lines = shipped_contract().splitlines(keepends=True)
    return small(), small(), small(), b"".join(lines[: len(lines) // 8])


_YAML: Final = (
    *(b"&a ", b"*a", b"!!python/object:os.system ", b"<<: *a\n", b"? ", b"- ", b"\t", b"---\n", b"...\n", b"|\n"),
    *(b">\n", b"%YAML 1.1\n", b"{", b"[", b"2026-99-99", b".inf", b"0o777", b"~", b"yes", b"\xef\xbb\xbf"),
    *(b"!!binary aGk=", b'"\\ud800"', b"1_000", b"12:30:45", b"#", b": ", b"'"),
)


def _contract(random: Random, mutations: Mutations) -> bytes:
    data = random.choice(_contracts())
    for _ in range(random.randint(1, 3)):
        lines = data.splitlines(keepends=True)
        at = random.randrange(len(lines))
        draw = random.random()
        if draw < 0.25:
            lines[at] = b"  " * random.randint(0, 4) + lines[at].lstrip()
        elif draw < 0.45:
            lines.insert(at, random.choice(lines))
        elif draw < 0.6:
            del lines[at]
        elif draw < 0.8:
            line = lines[at]
            place = random.randint(0, len(line))
            lines[at] = line[:place] + random.choice(_YAML) + line[place:]
        else:
            lines[at] = mutations.data(lines[at])
        data = b"".join(lines) or b"\n"
    return data


def _question(_random: Random, mutations: Mutations) -> bytes:
    return mutations.json(json.loads(question_json()))


@cache
def _statement_text() -> bytes:
    return resources.files("consent.statements").joinpath("en/adult-consent.toml").read_bytes()


def _consent_statement(random: Random, mutations: Mutations) -> bytes:
    return mutations.data(_statement_text(), strokes=random.randint(1, 3))


@cache
def _roster() -> dict[str, Any]:
    keys = {listed.agency: AgencyKey(fixed_bytes(listed.agency)) for listed in (HELPLINE, SHELTER)}
    members = tuple(
        listed.model_copy(update={"agency_key": keys[listed.agency].public}) for listed in (HELPLINE, SHELTER)
    )
    adherence = {
        agency: sign_statement(Adherence(agency=agency, contract="aa" * 32, adopted_at=CREATED), key.sign).to_bytes()
        for agency, key in keys.items()
    }
    adoption = Adoption("aa" * 32, frozenset(keys), ON, ON, adherence)
    return dict(json.loads(roster_bytes(version=3, synthetic=True, members=members, contracts=(adoption,))))


def _roster_file(random: Random, mutations: Mutations) -> bytes:
    return mutations.json(_roster() if random.random() < 0.5 else _roster()["members"][0])


def _run_roster(data: bytes) -> None:
    try:
        parse_member_card(data)
    except RosterInvalidError:
        parse_roster(data)


@cache
def _key_file() -> tuple[bytes, dict[str, Any]]:
    keys = KeySet(AGENCY, NODE, STORAGE, (EPOCH,))
    data = seal_keys(keys, PASSPHRASE.encode(), salt=bytes(16), nonce=NONCE, cost=CHEAP)
    return data, json.loads(data)


def _a_key_file(random: Random, mutations: Mutations) -> bytes:
    data, members = _key_file()
    return mutations.data(data) if random.random() < 0.4 else mutations.json(members) + b"\n"


def _at_rest(random: Random, mutations: Mutations) -> tuple[bytes, bytes]:
    wrapped = rewrap(DEK, referral_key=REFERRAL_KEY, referral=fixed_id("r"), envelope=fixed_id("e"), nonce=NONCE)
    row = SealedRows(STORAGE.row_key()).seal(b"value", table="inbox", column="header", row="1", nonce=NONCE)
    return mutations.data(wrapped, strokes=random.randint(1, 2)), mutations.data(row, strokes=random.randint(1, 2))


def _run_at_rest(given: tuple[bytes, bytes]) -> None:
    wrapped, row = given
    with suppress(SealedRowError):
        opened = unwrap_again(wrapped, referral_key=REFERRAL_KEY, referral=fixed_id("r"), envelope=fixed_id("e"))
        assert opened == Dek(DEK.secret_bytes())
    assert SealedRows(STORAGE.row_key()).open(row, table="inbox", column="header", row="1") == b"value"


def _assertion(random: Random, mutations: Mutations) -> str:
    assertion = make_assertion("helpline-one", ISSUER, NODE.sign, now=CREATED)
    segments = assertion.split(".")
    if random.random() < 0.5:
        at = random.randrange(2)
        value = json.loads(from_base64url(segments[at], member="segment", longest=4096))
        segments[at] = to_base64url(mutations.json(value))
        signing_input = f"{segments[0]}.{segments[1]}".encode()
        segments[2] = to_base64url(NODE.sign(signing_input))
        return ".".join(segments)
    return mutations.data(assertion.encode()).decode("utf-8", "replace")


def _run_assertion(assertion: str) -> None:
    unverified_subject(assertion)
    check_assertion(assertion, PeerClient("helpline-one", NODE.public), issuer=ISSUER, now=CREATED)


TARGETS: Final = (
    Target("item", _item, _run_item, (VerificationError,), 4),
    Target("header", _header, _run_header, (EnvelopeError,), 4),
    Target("opener", _sealed, _open, (EnvelopeError,), 4),
    Target("sealing", _content_sealed, _round_trip, ()),
    Target("statement", _statement, _run_statement, (StatementError,), 4),
    Target("forward-body", _body, _run_body, (EnvelopeError, ContentInvalidError), 4),
    Target("answer", _answer, _run_answer, (ContentInvalidError,), 2),
    Target("contract", _contract, lambda data: load_contract(data, on=ON), (ContractInvalidError,)),
    Target("question", _question, read_question, (QuestionInvalidError,)),
    Target("consent-statement", _consent_statement, lambda d: read_statement(d, "a file"), (StatementInvalidError,)),
    Target("roster", _roster_file, _run_roster, (RosterInvalidError,)),
    Target("key-file", _a_key_file, lambda d: open_keys(d, PASSPHRASE.encode(), floor=CHEAP), (KeyFileError,)),
    Target("at-rest", _at_rest, _run_at_rest, (SealedRowError,)),
    Target("assertion", _assertion, _run_assertion, (AssertionRefusedError,), 2),
)

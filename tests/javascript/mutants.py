"""Cases in the form of tests/vectors that no file lists, and what this implementation says of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

from support.mutations import Mutations
from support.replacing import replace
from vectors.samples import AGENCY, EPOCH, NODE, sample_envelope
from vectors.statement_cases import sample_statements

from contracts.canonical_json import canonical
from exchange.envelope.errors import BadSignatureError, EnvelopeError
from exchange.envelope.format import Envelope, check_on_the_wire, parse_envelope, parse_header
from exchange.envelope.keys import EpochKey
from exchange.envelope.kinds import Kind, KindClass, SignedBy
from exchange.envelope.open import check_signature, decrypt, unwrap
from exchange.envelope.statements import parse_statement

Case = dict[str, Any]
KEYS: Final = {
    "agency_public": AGENCY.public.hex(),
    "node_public": NODE.public.hex(),
    "epoch_private": EPOCH.secret_bytes().hex(),
}


def mutants(seed: int, count: int) -> Iterator[Case]:
    """Cases one to three strokes away from a valid one, as {file, case}; the same for the same seed."""
    random = Random(seed)  # noqa: S311  # repeatable input, nothing secret
    mutations = Mutations(random)
    makers: dict[str, Callable[[Random, Mutations], Case]] = {
        "headers": _header,
        "statements": _statement,
        "envelopes": _envelope,
    }
    for _ in range(count):
        file = random.choice(list(makers))
        yield {"file": file, "case": makers[file](random, mutations)}


def _header(random: Random, mutations: Mutations) -> Case:
    header = json.loads(sample_envelope(random.choice(list(Kind))).header)
    return {"header": mutations.json(header).decode("utf-8", "replace")}


def _statement(random: Random, mutations: Mutations) -> Case:
    name, (signed, public) = random.choice(list(sample_statements().items()))
    statement = json.loads(signed.to_bytes())
    if random.random() < 0.5:
        # Another body under the right key: only the form is left to refuse it.
        statement["body"] = mutations.value(statement["body"])
    return {
        "kind": name,
        "statement": mutations.json(statement).decode("utf-8", "replace"),
        "public": public.hex(),
    }


def _envelope(random: Random, mutations: Mutations) -> Case:
    envelope = sample_envelope(random.choice(list(Kind)))
    draw = random.random()
    if draw < 0.4:
        return KEYS | {"envelope": mutations.value(envelope.to_json(), strokes=random.randint(1, 2))}
    if draw < 0.7:
        header = mutations.value(json.loads(envelope.header))
        return KEYS | {"envelope": _signed(replace(envelope, header=_written(header))).to_json()}
    member, length = random.choice((("wrapped_key", 80), ("ciphertext", 4136)))
    changed = mutations.data(getattr(envelope, member))[:length].ljust(length, b"\x00")
    return KEYS | {"envelope": _signed(replace(envelope, **{member: changed})).to_json()}


def _written(header: object) -> bytes:
    try:
        return canonical(header)[:5000]
    except ValueError:
        # A number that Python does not write: no header either.
        return b"{}"


def _signed(envelope: Envelope) -> Envelope:
    """Signed again after it was changed, so that what is refused is not refused for its signature."""
    key = NODE if b'"signed_by":"node"' in envelope.header else AGENCY
    return replace(envelope, signature=key.sign(envelope.signed_input()))


def outcome(file: str, case: Case) -> str:
    """`success`, or the code with which this implementation refuses."""
    try:
        _RUN[file](case)
    except EnvelopeError as error:
        return error.code
    return "success"


def _run_header(case: Case) -> None:
    parse_header(case["header"].encode())


def _run_statement(case: Case) -> None:
    kind = type(sample_statements()[case["kind"]][0].unverified)
    parse_statement(kind, case["statement"].encode()).verify(bytes.fromhex(case["public"]))


def _run_envelope(case: Case) -> None:
    envelope = parse_envelope(case["envelope"])
    header = parse_header(envelope.header)
    check_on_the_wire(envelope, header)
    key = AGENCY if header.signed_by is SignedBy.AGENCY else NODE
    if header.signing_key != key.key_id:
        # Step 7 finds the key in a roster. Without one, another key is another signature.
        raise BadSignatureError
    check_signature(envelope, key.public)
    if header.kind_class is not KindClass.STOP:
        decrypt(envelope, unwrap(envelope, EpochKey(bytes.fromhex(case["epoch_private"]))))


_RUN: Final[dict[str, Callable[[Case], None]]] = {
    "headers": _run_header,
    "statements": _run_statement,
    "envelopes": _run_envelope,
}

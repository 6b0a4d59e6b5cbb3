"""Every vector file, as a second implementation would run it: inputs in, success or the expected code out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vectors import make_vectors

from exchange.envelope import epochs, key_file, statements
from exchange.envelope.errors import EnvelopeError, MalformedError
from exchange.envelope.format import check_on_the_wire, parse_envelope, parse_header
from exchange.envelope.header import Header
from exchange.envelope.keys import Dek, EpochKey, ReferralKey, StorageKey, key_id, verify
from exchange.envelope.kinds import KindClass, SignedBy
from exchange.envelope.open import check_signature, decrypt, unpad, unwrap
from exchange.envelope.receipts import check_receipt
from exchange.envelope.rewrap import unwrap_again
from exchange.envelope.seal import pad, wrap_dek
from exchange.envelope.sealed_rows import SealedRows
from exchange.envelope.tags import Tag, framed
from exchange.verification import VerificationError, read_forward, read_told

Case = dict[str, Any]
FOLDER = Path(make_vectors.__file__).parent
STATEMENTS: dict[str, type[statements.Statement]] = {
    kind.__name__: kind
    for kind in (
        statements.DeliveryReceipt,
        statements.ReleaseStatement,
        statements.ConsentStatus,
        statements.Adherence,
        epochs.EpochStatement,
        epochs.EpochRevocation,
    )
}


def run_header(case: Case) -> None:
    data = case["header"].encode()
    header = parse_header(data)
    assert json.loads(data) == json.loads(json.dumps(header.members()))


def run_envelope(case: Case) -> None:
    envelope = parse_envelope(case["envelope"])
    header = parse_header(envelope.header)
    check_on_the_wire(envelope, header)
    signer = "agency_public" if header.signed_by is SignedBy.AGENCY else "node_public"
    check_signature(envelope, bytes.fromhex(case[signer]))
    if header.kind_class is not KindClass.STOP:
        content = decrypt(envelope, unwrap(envelope, EpochKey(bytes.fromhex(case["epoch_private"]))))
        assert len(content) == case.get("content_length", len(content))
        assert content.hex() == case.get("content", content.hex())
    assert envelope.digest() == case["digest"]
    assert envelope.to_json() == case["envelope"]


def run_padding(case: Case) -> None:
    if "padded_head" in case:
        unpad(bytes.fromhex(case["padded_head"]).ljust(case["padded_length"], b"\x00"))
    content = bytes.fromhex(case["content"]) if "content" in case else b"c" * case["content_length"]
    padded = pad(content)
    assert len(padded) == case["padded_length"]
    assert unpad(padded) == content


def run_key(case: Case) -> None:
    if "seal_to" in case:
        wrap_dek(Dek(bytes(32)), bytes.fromhex(case["seal_to"]))
    elif "key_id" in case:
        assert key_id(bytes.fromhex(case["public"])) == case["key_id"]
    elif "framed" in case:
        assert framed(Tag[case["tag"]], *map(bytes.fromhex, case["parts"])).hex() == case["framed"]
    elif "commitment" in case:
        assert Dek(bytes.fromhex(case["dek"])).commitment() == case["commitment"]
    else:
        storage = StorageKey(bytes.fromhex(case["storage"]))
        assert storage.row_key().secret_bytes().hex() == case["row_key"]
        assert storage.token_key().secret_bytes().hex() == case["token_seed"]
        assert storage.keyed_digest(case["digest_use"], bytes.fromhex(case["digest_value"])) == case["digest"]


def run_signature(case: Case) -> None:
    verify(*(bytes.fromhex(case[name]) for name in ("public", "message", "signature")))


def run_statement(case: Case) -> None:
    data = case["statement"].encode()
    signed = statements.parse_statement(STATEMENTS[case["kind"]], data)
    statement = signed.verify(bytes.fromhex(case["public"]))
    assert signed.to_bytes() == data
    if isinstance(statement, statements.DeliveryReceipt):
        assert statement.leaf == case["leaf"]


def run_receipt(case: Case) -> None:
    check_receipt(parse_header(case["header"].encode()), bytes.fromhex(case["public"]), at=case["at"])


def run_epoch(case: Case) -> None:
    stated = [epochs.EpochStatement(**members) for members in case["statements"]]
    revoked = [epochs.EpochRevocation(**members) for members in case["revocations"]]
    for statement in stated:
        epochs.check_epoch(statement)
    epochs.check_not_older(case["known_seq"], [*stated, *revoked])
    epochs.check_numbered_once((), [*stated, *revoked])
    assert epochs.current_epoch(stated, revoked, at=case["at"]).key_id == case["chosen"]


def run_rest(case: Case) -> None:
    if case["kind"] == "rewrap":
        key = ReferralKey(bytes.fromhex(case["key"]))
        wrapped = bytes.fromhex(case["wrapped"])
        dek = unwrap_again(wrapped, referral_key=key, referral=case["referral"], envelope=case["envelope"])
        assert dek.secret_bytes().hex() == case["value"]
    elif case["kind"] == "row":
        rows = SealedRows(StorageKey(bytes.fromhex(case["key"])).row_key())
        place = {name: case[name] for name in ("table", "column", "row")}
        assert rows.open(bytes.fromhex(case["sealed"]), **place).hex() == case["value"]
    else:
        floor = key_file.KdfCost(case["opslimit_floor"], case["memlimit_floor"])
        keys = key_file.open_keys(case["file"].encode(), case["passphrase"].encode(), floor=floor)
        assert keys.agency is not None
        assert keys.agency.key_id == case["agency"]


def run_content(case: Case) -> None:
    header = parse_header(case["header"].encode())
    read: Callable[[Header, bytes], object] = read_told if header.kind_class is KindClass.ANSWER else read_forward
    read(header, case["content"].encode())


RUNNERS: dict[str, Callable[[Case], None]] = {
    "contents.json": run_content,
    "headers.json": run_header,
    "envelopes.json": run_envelope,
    "padding.json": run_padding,
    "keys.json": run_key,
    "signatures.json": run_signature,
    "statements.json": run_statement,
    "receipts.json": run_receipt,
    "epochs.json": run_epoch,
    "rest.json": run_rest,
}


def _cases() -> list[Any]:
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        document = json.loads(path.read_bytes())
        assert document["source"]
        found += [pytest.param(path.name, case, id=f"{path.stem}-{case['name']}") for case in document["cases"]]
    return found


@pytest.mark.parametrize(("file", "case"), _cases())
def test_vector(file: str, case: Case) -> None:
    if case["expect"] == "success":
        RUNNERS[file](case)
        return
    with pytest.raises((EnvelopeError, VerificationError)) as refused:
        RUNNERS[file](case)
    assert refused.value.code == case["expect"]
    if "member" in case:
        assert isinstance(refused.value, MalformedError)
        assert refused.value.member == case["member"]


@pytest.mark.parametrize("name", sorted(RUNNERS))
def test_the_committed_vectors_are_golden(name: str) -> None:
    """The generator still writes these bytes: nothing that is signed, sealed or digested has changed its form."""
    assert make_vectors.build()[name] == (FOLDER / name).read_bytes()


def test_every_file_has_a_runner() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == RUNNERS.keys() == make_vectors.build().keys()

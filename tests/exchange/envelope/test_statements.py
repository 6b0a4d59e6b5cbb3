"""Signed statements: one spelling, one tag, one key; nothing unverified is handed out as true."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors.samples import AGENCY, NODE, fixed_bytes, sample_release
from vectors.statement_cases import sample_statements

from exchange.envelope.errors import StatementError
from exchange.envelope.statements import (
    Adherence,
    ReleaseStatement,
    Signed,
    parse_statement,
    sign_statement,
)

SAMPLES = sample_statements()
EACH = pytest.mark.parametrize("name", sorted(SAMPLES))
RELEASE = parse_statement(ReleaseStatement, sample_release(fixed_bytes("disclosure").hex()))


@EACH
def test_round_trip(name: str) -> None:
    signed, public = SAMPLES[name]
    read = parse_statement(type(signed.unverified), signed.to_bytes())
    assert read == signed
    assert read.verify(public) == signed.unverified


@EACH
def test_a_statement_is_not_read_as_another(name: str) -> None:
    signed, _ = SAMPLES[name]
    for other, (another, _) in SAMPLES.items():
        if other != name:
            with pytest.raises(StatementError):
                parse_statement(type(another.unverified), signed.to_bytes())


@EACH
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_refuses(name: str, data: st.DataObject) -> None:
    signed, public = SAMPLES[name]
    right = signed.to_bytes()
    at = data.draw(st.integers(0, len(right) * 8 - 1))
    changed = bytearray(right)
    changed[at // 8] ^= 1 << at % 8
    with pytest.raises(StatementError):
        parse_statement(type(signed.unverified), bytes(changed)).verify(public)


@EACH
def test_another_spelling_of_the_same_is_refused(name: str) -> None:
    signed, _ = SAMPLES[name]
    right = signed.to_bytes().decode()
    said = json.loads(right)
    first = min(said["body"])
    number = next(f'"{member}":' for member, value in said["body"].items() if type(value) is int)
    others = [
        json.dumps(said, sort_keys=True),
        json.dumps(said, separators=(",", ":")).replace('{"body"', '{ "body"'),
        json.dumps({"tag": said["tag"], **said}, separators=(",", ":")),
        right.replace(first, f"\\u{ord(first[0]):04x}{first[1:]}", 1),
        right.replace('{"body":{', '{"body":{"aaaa":"0",'),
        right.replace('},"signature"', ',"zzzz":1},"signature"'),
        right.replace('","tag"', '=","tag"'),
        right.replace('","tag"', 'A","tag"'),
        right.replace('","tag"', '","signature":"","tag"'),
        right.replace(number, number + "0"),
        right.replace(number, number + "-"),
        right.replace(number, number + '"') + '"',
        right + "\n",
        " " + right,
        "\ufeff" + right,
        right * 200,
    ]
    for other in others:
        assert other != right
        with pytest.raises(StatementError):
            parse_statement(type(signed.unverified), other.encode())


@pytest.mark.parametrize(
    ("member", "wrong"),
    [
        pytest.param("disclosure", "00", id="digest-short"),
        pytest.param("accepting", "G" * 64, id="digest-not-hexadecimal"),
        pytest.param("referral", "0" * 31, id="id-short"),
        pytest.param("number", 0, id="number-zero"),
        pytest.param("number", True, id="number-true"),
        pytest.param("released_at", -1, id="time-negative"),
        pytest.param("released_at", "1", id="time-as-text"),
        pytest.param("consent_live_at", 1.5, id="time-with-fraction"),
        pytest.param("roster_version", 2**53, id="version-too-large"),
    ],
)
def test_a_wrong_member_is_refused_when_it_is_made(member: str, wrong: object) -> None:
    with pytest.raises(StatementError):
        replace(RELEASE.unverified, **{member: wrong})


def test_only_the_right_key_verifies() -> None:
    with pytest.raises(StatementError):
        RELEASE.verify(AGENCY.public)
    assert RELEASE.verify(NODE.public).referral == RELEASE.unverified.referral


def test_a_signature_over_one_statement_does_not_fit_another_with_the_same_words() -> None:
    adherence = Adherence(agency="shelter-two", contract="0" * 64, adopted_at=1)
    signed = sign_statement(adherence, AGENCY.sign)
    with pytest.raises(StatementError):
        Signed(replace(adherence, contract="1" * 64), signed.signature).verify(AGENCY.public)


def test_a_refusal_repeats_nothing() -> None:
    with pytest.raises(StatementError) as refused:
        parse_statement(Adherence, b'{"canary":1}')
    assert "canary" not in str(refused.value)


def test_the_leaf_follows_from_the_receipt_alone() -> None:
    signed, _ = SAMPLES["DeliveryReceipt"]
    receipt = signed.unverified
    assert receipt.leaf == replace(receipt).leaf
    assert receipt.leaf != replace(receipt, received_at=receipt.received_at + 1).leaf

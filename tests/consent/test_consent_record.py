"""What is stored comes back, and nothing else is read."""

import json
from datetime import timedelta

import pytest
from pydantic import ValidationError
from support.consents import NOW, POLICE_TOLD, SHELTER_LINE, recorded

from consent.errors import ConsentUnreadableError
from consent.lifecycle import withdraw
from consent.record import ConsentRecord, Provision
from contracts.vocabulary import Field, Group, WithdrawalForm

STORED = recorded(told_first=[POLICE_TOLD]).to_json_bytes()


def changed(**members: object) -> bytes:
    value = json.loads(STORED) | members
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_a_record_comes_back_as_it_was() -> None:
    record = withdraw(recorded(told_first=[POLICE_TOLD]), at=NOW + timedelta(microseconds=7), form=WithdrawalForm.ERASE)
    read = ConsentRecord.from_sealed_bytes(record.to_json_bytes())
    assert read == record
    assert read.to_json_bytes() == record.to_json_bytes()


def test_equal_provisions_are_equal_bytes() -> None:
    one = Provision(fields=frozenset({Field.NEEDS, Field.AREA, Field.LANGUAGE}))
    other = Provision(fields=frozenset({Field.LANGUAGE, Field.NEEDS, Field.AREA}))
    assert one.model_dump_json() == other.model_dump_json()


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="not-utf-8"),
        pytest.param(b"[]", id="not-an-object"),
        pytest.param(STORED[:-1], id="cut-off"),
        pytest.param(changed(unknown=1), id="an-unknown-member"),
        pytest.param(changed(version=0), id="no-version"),
        pytest.param(changed(version="1"), id="version-as-a-string"),
        pytest.param(changed(state="live"), id="an-unknown-state"),
        pytest.param(changed(id="Maria"), id="not-an-id"),
        pytest.param(changed(statement_digest="00"), id="not-a-digest"),
        pytest.param(changed(expires_at="2027-02-21T02:11:00"), id="no-offset"),
    ],
)
def test_other_bytes_are_refused_without_an_echo(stored: bytes) -> None:
    with pytest.raises(ConsentUnreadableError) as caught:
        ConsentRecord.from_sealed_bytes(stored)
    assert "Maria" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        recorded().version = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        SHELTER_LINE.groups = frozenset({Group.IDENTITY})  # type: ignore[misc]

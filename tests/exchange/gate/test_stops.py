"""A stop says that, and never who."""

import dataclasses
from enum import StrEnum

import pytest

from contracts.vocabulary import WithdrawalForm
from exchange.envelope.kinds import SHAPES, Kind, KindClass, class_of
from exchange.stops import (
    Erased,
    RefusalCode,
    Stop,
    entered_in_error,
    erasure_receipt,
    recall,
    refusal,
    withdrawal,
)

ALL = [
    recall(),
    entered_in_error(),
    *(withdrawal(form) for form in WithdrawalForm),
    *(erasure_receipt(erased) for erased in Erased),
    *(refusal(code) for code in RefusalCode),
]


@pytest.mark.parametrize("stop", ALL, ids=lambda stop: f"{stop.kind}-{stop.term}")
def test_every_stop_is_one_on_the_wire(stop: Stop) -> None:
    shape = SHAPES[stop.kind]
    assert class_of(stop.kind) is KindClass.STOP
    assert ("event" in shape.required) is (stop.term is not None)
    assert shape.events is None or stop.term is None or stop.term.value in shape.events


def test_every_kind_of_stop_can_be_made() -> None:
    assert {stop.kind for stop in ALL} == {kind for kind in Kind if class_of(kind) is KindClass.STOP}


def test_a_stop_has_no_room_for_a_person() -> None:
    assert [field.name for field in dataclasses.fields(Stop)] == ["kind", "term"]
    assert all(stop.term is None or isinstance(stop.term, StrEnum) for stop in ALL)


@pytest.mark.parametrize(
    ("kind", "term"),
    [
        pytest.param(Kind.OFFER, None, id="a-forward"),
        pytest.param(Kind.DECISION, None, id="an-answer"),
        pytest.param(Kind.WITHDRAWAL, None, id="no-without-a-form"),
        pytest.param(Kind.WITHDRAWAL, Erased.BY_NODE, id="another-list"),
        pytest.param(Kind.WITHDRAWAL, "erase", id="a-bare-text"),
        pytest.param(Kind.REFUSAL, "maria-santos", id="a-name-as-code"),
        pytest.param(Kind.REFUSAL, None, id="refusal-without-code"),
        pytest.param(Kind.RECALL, RefusalCode.CANNOT_OPEN, id="recall-with-a-term"),
        pytest.param(Kind.ERASURE_RECEIPT, "erased", id="unknown-half"),
    ],
)
def test_refused(kind: Kind, term: object) -> None:
    with pytest.raises(TypeError):
        Stop(kind, term)  # type: ignore[arg-type]

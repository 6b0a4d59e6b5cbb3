"""Receipts and words about consents: each member of what another node has signed is held against what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from exchange.envelope.keys import NodeKey
from exchange.envelope.statements import ConsentStatus, DeliveryReceipt, sign_statement
from exchange.envelope.wire import to_base64url
from exchange.limits import LIMITS
from exchange.schemas.federation import ConsentStatusAnswer, ItemAnswer, ReceiptStatus
from exchange.use_cases.consent_freshness import _verified
from exchange.use_cases.consent_status import digest_of
from exchange.use_cases.settle import _receipt

NOW = 1_800_000_000_000
KEY, OTHER_KEY = NodeKey(b"n" * 32), NodeKey(b"o" * 32)
PEER = cast("Any", SimpleNamespace(agency="harbour-shelter", node_key=KEY.public, agency_key=OTHER_KEY.public))
WORLD = SimpleNamespace(roster=SimpleNamespace(members={PEER.agency: PEER}))
ME = cast("Any", SimpleNamespace(agency="orchid-helpline", clock=lambda: NOW, limits=LIMITS, world=lambda: WORLD))
ITEM = cast("Any", SimpleNamespace(id="ab" * 16, digest="cd" * 32))
RECEIPTS = ["1a" * 16, "2b" * 16]
Sign = Callable[[bytes], bytes]


def receipt(sign: Sign = KEY.sign, **changes: Any) -> ItemAnswer:
    members = {
        "envelope": ITEM.id,
        "digest": ITEM.digest,
        "sender": ME.agency,
        "recipient": PEER.agency,
        "referral": "ef" * 16,
        "received_at": NOW,
    }
    signed = sign_statement(DeliveryReceipt(**(members | changes)), sign)
    return ItemAnswer(result="accepted", receipt=to_base64url(signed.to_bytes()))


def test_a_receipt_counts_that_the_peer_has_signed_for_this_envelope() -> None:
    assert _receipt(ITEM, receipt(), PEER) is not None


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(receipt(envelope="00" * 16), id="for-another-envelope"),
        pytest.param(receipt(digest="00" * 32), id="for-other-bytes"),
        pytest.param(receipt(recipient="another-shelter"), id="by-another-in-its-name"),
        pytest.param(receipt(OTHER_KEY.sign), id="by-its-agency-key"),
        pytest.param(receipt().model_copy(update={"result": "later"}), id="beside-another-result"),
        pytest.param(receipt().model_copy(update={"receipt": None}), id="none"),
        pytest.param(receipt().model_copy(update={"receipt": "e30"}), id="that-is-no-statement"),
    ],
)
def test_no_other_receipt_does(given: ItemAnswer) -> None:
    assert _receipt(ITEM, given, PEER) is None


def word(sign: Sign = KEY.sign, answers: list[tuple[str, str]] | None = None, **changes: Any) -> ConsentStatusAnswer:
    said = [ReceiptStatus(receipt=one, status=cast("Any", status)) for one, status in answers or LIVE]
    members = {"agency": PEER.agency, "recipient": ME.agency, "receipts": digest_of(said), "stated_at": NOW}
    signed = sign_statement(ConsentStatus(**(members | changes)), sign)
    return ConsentStatusAnswer(receipts=tuple(said), statement=to_base64url(signed.to_bytes()))


LIVE = [(one, "live") for one in RECEIPTS]
ENDED = [(one, "not-live") for one in RECEIPTS]


@pytest.mark.parametrize("off", [0, LIMITS.skew_ms, -LIMITS.skew_ms])
@pytest.mark.parametrize("answers", [LIVE, ENDED])
def test_a_word_counts_that_the_member_has_signed_for_this_node_now(answers: list[tuple[str, str]], off: int) -> None:
    assert _verified(ME, PEER.agency, RECEIPTS, word(answers=answers, stated_at=NOW + off)) is not None


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(word(agency="another-shelter"), id="in-anothers-name"),
        pytest.param(word(recipient="another-helpline"), id="for-another"),
        pytest.param(word(receipts="00" * 32), id="over-another-answer"),
        pytest.param(word(answers=LIVE[:1]), id="about-less"),
        pytest.param(word(answers=[*LIVE, ("3c" * 16, "live")]), id="about-more"),
        pytest.param(word(answers=LIVE[::-1]), id="in-another-order"),
        pytest.param(word(answers=[LIVE[0], LIVE[0]]), id="about-one-twice"),
        pytest.param(word(stated_at=NOW - LIMITS.skew_ms - 1), id="from-before"),
        pytest.param(word(stated_at=NOW + LIMITS.skew_ms + 1), id="from-the-future"),
        pytest.param(word(OTHER_KEY.sign), id="by-its-agency-key"),
        pytest.param(word().model_copy(update={"receipts": word(answers=ENDED).receipts}), id="beside-another-answer"),
    ],
)
def test_no_other_word_does(given: ConsentStatusAnswer) -> None:
    assert _verified(ME, PEER.agency, RECEIPTS, given) is None


def test_nor_does_that_of_a_node_that_is_not_listed_any_more() -> None:
    assert _verified(ME, "closed-shelter", RECEIPTS, word(agency="closed-shelter")) is None

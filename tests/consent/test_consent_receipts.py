"""Her copy, the receiver's copy, and the codes that cannot be joined."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.consents import CONSENT_ID, NOW, PLACEMENT, POLICE_TOLD, SHELTER_LINE, SUBJECT, question, recorded

from consent.client_code import new_client_code
from consent.decision import ConsentPermit, decide
from consent.errors import ReceiptError
from consent.lifecycle import withdraw
from consent.receipt import Controller, cut_receipt, receipt_ends, receipt_for_her
from consent.record import Provision
from contracts.vocabulary import (
    AgencyKind,
    Basis,
    BasisClass,
    Field,
    Group,
    Purpose,
    Sector,
    ServiceType,
    WithdrawalForm,
    basis_class,
)

RECEIPT_ID = "7e" * 16
CONTROLLER = Controller("sunrise-helpline", "Sunrise Women's Helpline", "+60 3 5550 0100", "MY")
POLICE_LINE = Provision.model_validate(
    {
        "fields": ["legal_name", "police_statement"],
        "agencies": ["kl-police"],
        "countries": ["PH"],
        "purposes": ["provide-police-protection"],
        "feedback": "outcome",
    }
)
RECORD = recorded(provisions=[SHELTER_LINE, POLICE_LINE], told_first=[POLICE_TOLD])


def permitted() -> ConsentPermit:
    permit = decide(RECORD, question(), NOW)
    assert isinstance(permit, ConsentPermit)
    return permit


def cut(permit: ConsentPermit | None = None, **changes: Any) -> Any:
    members: dict[str, Any] = {
        "groups": frozenset({Group.ROUTING, Group.NEED}),
        "receipt_id": RECEIPT_ID,
        "issuer": "sunrise-helpline",
        "recipient": "harbour-shelter",
        "purpose": PLACEMENT,
        "at": NOW,
    }
    return cut_receipt(permit or permitted(), **(members | changes))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"recipient": "kl-police"}, "other-recipient", id="another-receiver"),
        pytest.param({"issuer": "harbour-shelter"}, "other-recipient", id="to-itself"),
        pytest.param({"purpose": Purpose.STATISTICS}, "other-purpose", id="another-purpose"),
        pytest.param({"groups": frozenset({Group.IDENTITY})}, "groups-not-allowed", id="a-group-not-allowed"),
        pytest.param({"groups": frozenset({Group.NEED, Group.CONTACT})}, "groups-not-allowed", id="not-asked-for"),
        pytest.param({"groups": frozenset[Group]()}, "groups-not-allowed", id="no-groups"),
        pytest.param({"receipt_id": CONSENT_ID}, "receipt-id", id="the-consents-own-id"),
        pytest.param({"receipt_id": "1"}, "receipt-id", id="not-random"),
        pytest.param({"at": NOW + timedelta(days=90)}, "consent-ended", id="after-the-end"),
    ],
)
def test_a_receipt_never_says_more_than_its_permit(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(ReceiptError) as caught:
        cut(**changes)
    assert caught.value.code == code


def test_the_signed_body_is_exactly_this() -> None:
    assert cut().signing_body() == (
        b'{"basis":"consent","expires":1803168000000,"groups":["need","routing"],"issued":1795399860000,'
        b'"issuer":"sunrise-helpline","purpose":"provide-safe-accommodation",'
        b'"receipt_id":"7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e7e","recipient":"harbour-shelter"}'
    )


def test_the_receipt_reveals_nothing_of_the_rest() -> None:
    body = cut().signing_body().decode()
    for other in ("kl-police", "police", "identity", "PH", "outcome", "contact", "name", CONSENT_ID, SUBJECT):
        assert other not in body


@pytest.mark.parametrize("basis", list(Basis))
def test_only_the_class_of_the_basis_travels(basis: Basis) -> None:
    receipt = cut(permitted()._replace(basis=basis))
    assert receipt.basis is basis_class(basis)
    assert json.loads(receipt.signing_body())["basis"] in set(BasisClass)


def test_two_receivers_see_no_common_moment_of_the_consents_end() -> None:
    receipt = cut()
    assert receipt.expires % 86_400_000 == 0
    assert receipt.expires < permitted().expires_at.timestamp() * 1000
    earlier = cut(permitted()._replace(expires_at=permitted().expires_at - timedelta(hours=1, seconds=7)))
    assert earlier.expires == receipt.expires


@pytest.mark.parametrize(
    ("cut_at", "ends"),
    [
        pytest.param("2026-11-22T22:30:00", "2026-11-23T00:00:00", id="the-day-before"),
        pytest.param("2026-11-22T23:00:00.001", "2026-11-23T18:00:00", id="no-hour-before-midnight"),
        pytest.param("2026-11-23T17:59:00", "2026-11-23T18:00:00", id="the-last-day"),
        pytest.param("2026-11-23T17:59:00.001", "2026-11-23T18:23:00", id="no-minute-before-the-hour"),
        pytest.param("2026-11-23T18:22:59", "2026-11-23T18:23:00", id="the-last-hour"),
        pytest.param("2026-11-23T18:22:59.001", "2026-11-23T18:23:42.123", id="the-last-minute"),
    ],
)
def test_near_its_end_a_receipt_tells_no_more_of_it_than_it_has_to(cut_at: str, ends: str) -> None:
    """Rounded down, but never so far that nothing would arrive in time."""
    consent_ends = datetime.fromisoformat("2026-11-23T18:23:42.123+00:00")
    receipt = cut(permitted()._replace(expires_at=consent_ends), at=datetime.fromisoformat(f"{cut_at}+00:00"))
    assert datetime.fromtimestamp(receipt.expires / 1000, UTC) == datetime.fromisoformat(f"{ends}+00:00")


def test_her_copy_has_the_fields_of_the_standard() -> None:
    receipt = receipt_for_her(RECORD, CONTROLLER, NOW)
    assert {"schema_version", "receipt_id", "record_id", "pii_principal_id"} <= receipt.keys()
    assert {"pii_processing", "party_identification", "event"} <= receipt.keys()
    assert {"privacy_notice", "language", "purposes"} <= receipt["pii_processing"].keys()
    for purpose in receipt["pii_processing"]["purposes"]:
        assert {
            "purpose",
            "lawful_basis",
            "pii_information",
            "pii_controllers",
            "collection_method",
            "recipient_third_parties",
            "withdrawal_method",
            "jurisdiction",
        } <= purpose.keys()
    assert receipt["event"][0]["event_state"] == "given"
    assert receipt["event"][0]["validity_duration"] == "P90D"
    json.dumps(receipt)


def test_her_copy_says_everything() -> None:
    text = json.dumps(receipt_for_her(RECORD, CONTROLLER, NOW))
    for term in (
        "kl-police",
        "police_statement",
        "the public prosecutor",
        "harbour-shelter",
        "+60 3 5550 0100",
        "contact",
    ):
        assert term in text


def test_her_copy_tells_that_it_ended() -> None:
    ended = withdraw(RECORD, at=NOW, form=WithdrawalForm.ERASE)
    event = receipt_for_her(ended, CONTROLLER, NOW)["event"][0]
    assert (event["event_state"], event["withdrawal_form"]) == ("withdrawn", "erase")
    assert receipt_for_her(RECORD, CONTROLLER, NOW + timedelta(days=90))["event"][0]["event_state"] == "expired"


@pytest.mark.parametrize("at", [NOW, NOW + timedelta(days=400)])
def test_the_neutral_copy_tells_a_stranger_nothing(at: datetime) -> None:
    text = json.dumps(receipt_for_her(RECORD, CONTROLLER, at, neutral=True)).casefold()
    words = {term.value for terms in (AgencyKind, ServiceType, Purpose, Field, Group, Basis) for term in terms}
    words |= {sector.value for sector in Sector} - {"other"}
    words |= {"sunrise", "harbour", "helpline", "violence", "abuse", "5550", '"my"', '"ph"', "t02:", SUBJECT, "adult"}
    # These words of the vocabularies are ordinary English and stand in the standard's own member names.
    ordinary = {"name", "contact", "party"}
    assert [word for word in sorted(words - ordinary) if word in text] == []


def test_the_neutral_copy_says_until_when_and_how_to_stop() -> None:
    receipt = receipt_for_her(RECORD, CONTROLLER, NOW, neutral=True)
    assert receipt["event"] == [{"event_state": "valid", "valid_until": "2027-02-21"}]
    assert (
        receipt_for_her(withdraw(RECORD, at=NOW), CONTROLLER, NOW, neutral=True)["event"][0]["event_state"] == "ended"
    )
    run_out = receipt_for_her(RECORD, CONTROLLER, RECORD.expires_at, neutral=True)
    assert run_out["event"][0]["event_state"] == "ended"


@pytest.mark.parametrize(
    ("ends", "last_day"),
    [
        pytest.param("2027-02-20T00:00:00", "2027-02-19", id="as-the-day-begins"),
        pytest.param("2027-02-20T00:00:00.001", "2027-02-20", id="a-moment-later"),
        pytest.param("2027-02-19T23:59:59.999", "2027-02-19", id="as-the-day-ends"),
    ],
)
def test_the_neutral_copy_names_the_last_day_on_which_it_holds(ends: str, last_day: str) -> None:
    record = recorded(expires_at=f"{ends}+00:00")
    assert receipt_for_her(record, CONTROLLER, NOW, neutral=True)["event"][0]["valid_until"] == last_day


@pytest.mark.parametrize("entropy", [b"", b"1234"])
def test_a_client_code_needs_entropy(entropy: bytes) -> None:
    with pytest.raises(ValueError, match="5 random bytes"):
        new_client_code(entropy)


@pytest.mark.parametrize(
    ("entropy", "code"),
    [
        pytest.param(bytes(5), "0000-0000", id="lowest"),
        pytest.param(b"\xff" * 5, "ZZZZ-ZZZZ", id="highest"),
        pytest.param(bytes.fromhex("0123456789"), "04HM-ASW9", id="in-between"),
        pytest.param(bytes.fromhex("0123456789ff"), "04HM-ASW9", id="more-than-needed"),
    ],
)
def test_a_client_code_is_its_entropy(entropy: bytes, code: str) -> None:
    assert new_client_code(entropy) == code


@given(
    st.timedeltas(timedelta(days=-40 * 365), timedelta(days=40 * 365)).map(NOW.__add__),
    st.timedeltas(timedelta(0), timedelta(days=3)),
)
def test_a_receipt_ends_at_the_last_whole_unit_that_is_not_too_near(at: datetime, before_its_end: timedelta) -> None:
    """To the exact millisecond, as the rule says it: day, hour, minute, or the consent's own end."""
    epoch, millisecond = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
    issued, end = (at - epoch) // millisecond, (at + before_its_end - epoch) // millisecond
    units = ((86_400_000, 3_600_000), (3_600_000, 60_000), (60_000, 1_000))
    rounded = [end - end % unit for unit, least in units if end - end % unit >= issued + least]
    assert receipt_ends(at + before_its_end, at) == [*rounded, end][0]

"""The printed page gives nothing away when somebody else finds it."""

from __future__ import annotations

import json
import time
from datetime import date
from typing import Any

import pytest
from typer.testing import CliRunner

from contracts.vocabulary import Field
from exchange.cli.application import app
from exchange.cli.plain_page import PRINTED, plain_page
from exchange.referral.content import ReferralContent
from exchange.schemas.inbox import InboxItem, OpenedItem

ITEM = InboxItem.model_validate_json(
    json.dumps(
        {
            "id": "1" * 32,
            "cursor": "1",
            "referral": "2" * 32,
            "sender": "lantern-helpline",
            "kind": "disclosure",
            "sector": "accommodation",
            "state": "accepted",
            "status": "new",
            "received_at": "2026-11-23T00:00:00Z",
        }
    )
)
FULL: dict[str, Any] = {
    "referring_agency": "lantern-helpline",
    "duty_contact": "+00 99 999 9999",
    "service_type": "safe-accommodation",
    "needs": ["women-only", "confidential-address"],
    "age_band": "25-49",
    "safety_flags": ["perpetrator-nearby", "weapon"],
    "immediate_medical": True,
    "relationship": "partner",
    "preferred_name": "Melati",
    "arrival_words": "paper lantern",
    "legal_name": "Melati Contoh",
    "passport_number": "X0000000",
    "current_location": "Example Hospital",
    "meeting_point": "Example Station",
    "safe_contact": {"who_initiates": "survivor", "code_word_danger": "blue kettle"},
    "employer_name": "Example Household",
    "health_facts": "needs insulin",
    "immigration_status": "expired",
    "police_statement": "He said",
    "perpetrator_identity": "Mr Example",
    "narrative": "It began",
    "language": "id",
}


def page_of(content: dict[str, Any], days: int = 7) -> str:
    opened = OpenedItem(
        item=ITEM,
        client_code="K7QF-3M2P",
        content=ReferralContent.model_validate_json(json.dumps(content)),
        digest="a" * 64,
    )
    return plain_page(opened, date(2026, 11, 23), days)


def test_the_page_of_a_full_content() -> None:
    assert page_of(FULL).splitlines() == [
        "NOTE",
        "",
        "Code      K7QF-3M2P",
        "Words     paper lantern",
        "Called    Melati",
        "Where     Example Station",
        "Language  id",
        "",
        "Destroy this page on or before 2026-11-30.",
    ]


@pytest.mark.parametrize("name", sorted(FULL.keys() - {field.value for field in PRINTED}))
def test_no_other_field_is_printed(name: str) -> None:
    said = FULL[name]
    words = said if isinstance(said, list) else said.values() if isinstance(said, dict) else [said]
    page = page_of(FULL)
    printed_anyway = {"Melati"}
    assert not [word for word in words if isinstance(word, str) and word in page and word not in printed_anyway]


def test_what_may_be_printed_is_a_closed_list_without_danger_health_or_law() -> None:
    assert PRINTED.keys() == {
        Field.CLIENT_CODE,
        Field.ARRIVAL_WORDS,
        Field.PREFERRED_NAME,
        Field.ARRIVAL_WINDOW,
        Field.MEETING_POINT,
        Field.TRANSPORT_NEEDED,
        Field.PARTY,
        Field.EXPECTED_STAY,
        Field.LANGUAGE,
        Field.INTERPRETER,
        Field.ACCESSIBILITY,
    }


def test_an_item_without_content_prints_no_more_than_its_end() -> None:
    opened = OpenedItem(item=ITEM, digest="a" * 64)
    assert plain_page(opened, date(2026, 11, 23), 1).splitlines()[-1] == "Destroy this page on or before 2026-11-24."


@pytest.mark.parametrize("days", ["0", "31", "-1"])
def test_pages_that_are_kept_too_long_are_refused(days: str) -> None:
    assert CliRunner().invoke(app, ["inbox", "print", "1" * 32, "--days", days]).exit_code == 2


def test_when_she_comes_stands_there_by_the_clock_of_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver reads the hour and nothing else."""
    window = {"earliest": "2026-11-30T14:00:00Z", "latest": "2026-11-30T16:30:00Z"}
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kuala_Lumpur")
        time.tzset()
        page = page_of(FULL | {"arrival_window": window})
    time.tzset()
    assert "When.earliest  2026-11-30 22:00 (UTC+08:00)" in page
    assert "When.latest    2026-12-01 00:30 (UTC+08:00)" in page
    assert "14:00" not in page


def test_a_drill_is_one_on_paper_too() -> None:
    assert page_of(FULL | {"exercise": True}).splitlines()[0] == "NOTE (EXERCISE)"


def test_so_is_the_page_of_what_follows_its_offer() -> None:
    opened = OpenedItem(item=ITEM.model_copy(update={"exercise": True}), digest="a" * 64)
    assert plain_page(opened, date(2026, 11, 23), 7).splitlines()[0] == "NOTE (EXERCISE)"

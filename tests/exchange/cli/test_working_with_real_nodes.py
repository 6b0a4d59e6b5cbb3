"""The whole work of a helpline and of a shelter with one laptop, from the command line, over real nodes."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import Result
from support.lost_answers import answers_are_lost, ctrl_c_before_the_answer
from support.node_processes import until
from support.real_nodes import TwoNodes, two_nodes
from typer.testing import CliRunner

from exchange.cli.application import app
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.demo.people import Person, melati, nobody_known, placement_provisions

__all__ = ["two_nodes"]

NAME = "Melati Contoh"


class Laptop:
    """The command line at one agency."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *words: str, code: int = 0, typed: str | None = None) -> Result:
        variables = {"EXCHANGE_HOME": str(self.home), "COLUMNS": "200"}
        result = CliRunner().invoke(app, list(words), env=variables, input=typed)
        assert result.exit_code == code, result.output
        return result


@pytest.fixture
def helpline(two_nodes: TwoNodes) -> Laptop:
    return Laptop(two_nodes[HELPLINE].home)


@pytest.fixture
def shelter(two_nodes: TwoNodes) -> Laptop:
    return Laptop(two_nodes[SHELTER].home)


def a_consent(helpline: Laptop, person: Person) -> str:
    request = person.consent(datetime.now(UTC)).model_dump_json(exclude_none=True)
    said = helpline.run("consent", "record", "-", typed=request).output
    return said.split()[1]


def a_referral(helpline: Laptop, person: Person, **content: object) -> tuple[str, dict[str, object]]:
    request = person.referral(a_consent(helpline, person)).model_dump(mode="json", exclude_none=True, by_alias=True)
    request["content"] |= content
    return json.dumps(request), request


def sent(helpline: Laptop, person: Person) -> str:
    text, _ = a_referral(helpline, person)
    answer: dict[str, str] = json.loads(helpline.run("send", "-", "--json", typed=text).stdout)
    return answer["id"]


def item(shelter: Laptop, referral: str, kind: str) -> str:
    """The id of the item, once it is there."""
    for _ in range(40):
        for line in shelter.run("inbox", "watch", "--once").stdout.splitlines():
            words = line.split()
            if words[5].split("/")[0] != kind:
                continue
            # What another test has ended is not opened any more.
            shown = CliRunner().invoke(app, ["inbox", "show", words[3], "--json", "--home", str(shelter.home)])
            if shown.exit_code == 0 and json.loads(shown.stdout)["item"]["referral"] == referral:
                return words[3]
        time.sleep(0.1)
    raise AssertionError("It did not arrive.")


def watched(shelter: Laptop, named: str) -> str:
    """The line of an item that is new."""
    lines = shelter.run("inbox", "watch", "--once").stdout.splitlines()
    return next(line for line in lines if named in line)


def test_a_bed_for_the_night(helpline: Laptop, shelter: Laptop) -> None:
    referral = sent(helpline, melati(datetime.now(UTC)))
    offer = item(shelter, referral, "offer")
    assert NAME not in shelter.run("inbox", "show", offer).output
    assert "answer due" in watched(shelter, offer)
    assert "accepted" in shelter.run("inbox", "accept", offer).output
    assert "answer due" not in watched(shelter, offer)
    disclosure = item(shelter, referral, "disclosure")
    assert NAME in shelter.run("inbox", "show", disclosure).output
    page = shelter.run("inbox", "print", disclosure, "--days", "3").stdout
    assert "Destroy this page on or before" in page
    assert HELPLINE.agency not in page
    assert SHELTER.name not in page
    assert "+00 12" not in page
    yes = shelter.run("inbox", "advice", disclosure, "--channel", "phone-call").output
    assert "must NOT be said" in yes
    assert "By phone-call: +00 12" in yes
    assert "Only until" in yes
    then = (datetime.now(UTC) + timedelta(hours=1)).astimezone(timezone(timedelta(hours=8)))
    later = shelter.run("inbox", "advice", disclosure, "--at", f"{then:%Y-%m-%d %H:%M%z}").output
    assert f"Not about now, but about {then.astimezone(UTC):%Y-%m-%d %H:%M} UTC" in later
    assert "Do not use it" in shelter.run("inbox", "advice", disclosure, "--channel", "sms").output
    shelter.run("inbox", "progress", offer, "in-service")
    shelter.run("inbox", "progress", offer, "completed", "--outcome", "service-provided")
    shelter.run("inbox", "ack", offer)
    assert offer not in shelter.run("inbox", "watch", "--once").output
    for _ in range(100):
        if "completed" in helpline.run("referrals", "show", referral).output:
            break
        time.sleep(0.1)
    assert "completed" in helpline.run("referrals", "watch", "--once").output


def test_what_the_helpline_may_not_hear_is_not_said_to_be_on_its_way(helpline: Laptop, shelter: Laptop) -> None:
    her = replace(melati(datetime.now(UTC)), provisions=placement_provisions("decision"))
    offer = item(shelter, sent(helpline, her), "offer")
    shelter.run("inbox", "accept", offer)
    for said in (shelter.run("inbox", "progress", offer, "not-arrived").output for _ in range(2)):
        assert "on its way" not in said
        assert f"{HELPLINE.agency} hear the decision only. Nobody there hears of it" in said
    shelter.run("inbox", "progress", offer, "in-service")
    assert "on its way" in shelter.run("inbox", "progress", offer, "completed").output


def test_an_answer_does_not_take_an_item_over_and_taking_it_over_answers_nothing(
    helpline: Laptop, shelter: Laptop
) -> None:
    accepted, taken = (item(shelter, sent(helpline, melati(datetime.now(UTC))), "offer") for _ in range(2))
    shelter.run("inbox", "accept", accepted)
    assert accepted in shelter.run("inbox", "watch", "--once").output
    shelter.run("inbox", "ack", taken)
    assert taken not in shelter.run("inbox", "watch", "--once").output
    assert "accepted" in shelter.run("inbox", "accept", taken).output
    shelter.run("inbox", "show", taken)
    shelter.run("inbox", "progress", taken, "in-service")


@pytest.mark.parametrize("words", ["show", "print"])
def test_letters_that_the_terminal_does_not_have_end_no_answer(
    two_nodes: TwoNodes, helpline: Laptop, shelter: Laptop, words: str
) -> None:
    her = melati(datetime.now(UTC))
    her = replace(her, content=her.content | {"preferred_name": "ส ตัวอย่าง"})
    referral = sent(helpline, her)
    shelter.run("inbox", "accept", item(shelter, referral, "offer"))
    said = by_itself(
        two_nodes, "inbox", words, item(shelter, referral, "disclosure"), PYTHONIOENCODING="latin-1", PYTHONUTF8="0"
    )
    assert "\\u0e2a" in said
    assert "paper lantern" in said


def test_nothing_is_printed_of_what_was_taken_back(helpline: Laptop, shelter: Laptop) -> None:
    referral = sent(helpline, melati(datetime.now(UTC)))
    offer = item(shelter, referral, "offer")
    shelter.run("inbox", "accept", offer)
    disclosure = item(shelter, referral, "disclosure")
    helpline.run("referrals", "recall", referral)
    stop = item(shelter, referral, "recall")
    for named in (offer, disclosure, stop):
        refused = shelter.run("inbox", "print", named, code=1)
        assert "The referral is recalled" in refused.output
        assert "NOTE" not in refused.output


def test_a_question_is_answered(helpline: Laptop, shelter: Laptop) -> None:
    referral = sent(helpline, melati(datetime.now(UTC)))
    shelter.run("inbox", "request-info", item(shelter, referral, "offer"), "--field", "accessibility")
    item(helpline, referral, "information-request")
    text = json.dumps({"content": {"accessibility": ["step-free"]}})
    assert "accessibility" in helpline.run("referrals", "inform", referral, "-", typed=text).output
    item(shelter, referral, "information")


def test_what_she_has_replaced_is_not_shown_as_if_it_counted(helpline: Laptop, shelter: Laptop) -> None:
    her = melati(datetime.now(UTC))
    referral = sent(helpline, her)
    shelter.run("inbox", "accept", item(shelter, referral, "offer"))
    disclosure = item(shelter, referral, "disclosure")
    assert "Not the newest" not in shelter.run("inbox", "show", disclosure).output
    plan = her.content["safe_contact"] | {"say_if_other_answers": "The bakery, sorry."}
    said = helpline.run("referrals", "plan", referral, "-", typed=json.dumps({"safe_contact": plan})).output
    assert "allowed" in said
    update = item(shelter, referral, "update")
    for words in (("show", "--json"), ("show",), ("print",)):
        said = shelter.run("inbox", words[0], disclosure, *words[1:])
        assert f"later came {update} (update)" in said.stderr
    of_the_last = shelter.run("inbox", "show", update)
    assert "Not the newest" not in of_the_last.output
    # The one that came last may be the one that counts no more: of two plans only the advice says which is hers.
    assert f"Before it came {disclosure} (disclosure)" in of_the_last.stderr
    assert f"what counts is: exchange inbox advice {update}" in of_the_last.stderr
    assert "The bakery, sorry." in shelter.run("inbox", "advice", disclosure).output


def test_that_name_and_contact_wait_for_a_worker_is_said_at_once(helpline: Laptop, shelter: Laptop) -> None:
    her = melati(datetime.now(UTC))
    long_ago = (datetime.now(UTC) - timedelta(hours=80)).isoformat()
    text, _ = a_referral(helpline, her, safe_contact=her.content["safe_contact"] | {"last_confirmed_at": long_ago})
    said = helpline.run("send", "-", typed=text)
    referral = said.stdout.split()[1]
    assert "name and contact are not held" in said.stdout
    assert f"hand in a fresh disclosure: exchange referrals disclosure {referral} FILE" in said.stderr
    shelter.run("inbox", "accept", item(shelter, referral, "offer"))
    assert f"exchange referrals disclosure {referral} FILE" in helpline.run("referrals", "show", referral).stderr
    lines = helpline.run("referrals", "watch", "--once").stdout.splitlines()
    assert any("awaiting disclosure" in line for line in lines if referral in line)
    assert "fresh disclosure" not in helpline.run("send", "-", "--json", typed=a_referral(helpline, her)[0]).stderr


def test_a_decision_is_not_paper(helpline: Laptop, shelter: Laptop) -> None:
    referral = sent(helpline, melati(datetime.now(UTC)))
    shelter.run("inbox", "waitlist", item(shelter, referral, "offer"))
    refused = helpline.run("inbox", "print", item(helpline, referral, "decision"), code=1)
    assert "nothing for paper in a decision" in refused.output


@pytest.mark.parametrize("words", [("accept",), ("show",), ("destroyed",), ("advice",), ("ack",)])
def test_a_slip_of_one_key_names_no_item(helpline: Laptop, shelter: Laptop, words: tuple[str, ...]) -> None:
    offer = item(shelter, sent(helpline, nobody_known(datetime.now(UTC))), "offer")
    for name in (offer[-1:], offer[-3:], ""):
        assert "Type 4 characters" in shelter.run("inbox", *words, name, code=1).output
    assert "answer due" in watched(shelter, offer)


def test_her_no(helpline: Laptop, shelter: Laptop) -> None:
    referral = sent(helpline, nobody_known(datetime.now(UTC)))
    offer = item(shelter, referral, "offer")
    said = helpline.run("withdraw", "--referral", referral, "--form", "erase").output
    assert "stored" in said
    assert f"exchange referrals show {referral}" in said
    for _ in range(100):
        followed = helpline.run("referrals", "show", referral).output
        if "withdrawal: has reached" in followed:
            break
        assert "does not know it yet" in followed
        time.sleep(0.1)
    assert "does not know it yet" not in followed
    for _ in range(100):
        shown = CliRunner().invoke(app, ["inbox", "show", offer, "--home", str(shelter.home)])
        if shown.exit_code:
            break
        time.sleep(0.1)
    assert "Who has to act: you" in shown.output
    assert "quiet harbour" not in shown.output


def test_her_no_is_a_new_item_for_the_receiver(helpline: Laptop, shelter: Laptop) -> None:
    referral = sent(helpline, nobody_known(datetime.now(UTC)))
    item(shelter, referral, "offer")
    helpline.run("withdraw", "--referral", referral, "--form", "erase")
    stop = item(shelter, referral, "withdrawal")
    assert {"withdrawal", "erase"} <= set(shelter.run("inbox", "list").output.split())
    shown = shelter.run("inbox", "show", stop).output
    assert "withdrawal/erase" in shown
    assert f"exchange inbox destroyed {stop}" in shown
    assert "on record" in shelter.run("inbox", "destroyed", stop).output


def test_her_no_goes_by_the_end_of_an_items_id(helpline: Laptop, shelter: Laptop) -> None:
    referral = sent(helpline, nobody_known(datetime.now(UTC)))
    offer = item(shelter, referral, "offer")
    assert "4 characters" in shelter.run("withdraw", "--referral", offer[-3:], "--form", "erase", code=2).output
    said = shelter.run("withdraw", "--referral", offer, "--form", "erase")
    assert referral in said.output
    assert re.search(r"Nobody opens it any more. It is destroyed 20\d\d-\d\d-\d\d \d\d:\d\d UTC", said.stderr)


@pytest.mark.parametrize("name", ["zzzz", "", "0" * 31, "0" * 33, "CANARY", "../inbox", "f" * 31 + "F"])
@pytest.mark.parametrize("of", ["--referral", "--consent"])
def test_her_no_to_what_is_no_id_says_where_the_id_stands(helpline: Laptop, of: str, name: str) -> None:
    refused = helpline.run("withdraw", of, name, "--form", "erase", code=2)
    assert refused.exception is None or isinstance(refused.exception, SystemExit)
    for words in ("32 characters", "`exchange ", "Nothing was sent"):
        assert words in refused.output
    assert "CANARY" not in refused.output


def test_her_no_reads_no_inbox_where_the_whole_id_is_given(helpline: Laptop, tmp_path: Path) -> None:
    referral = sent(helpline, nobody_known(datetime.now(UTC)))
    folder = tmp_path / "her-no-only"
    helpline.run("client", "add", "her-no-only", "--folder", str(folder), "--scope", "consents:write", "--actor", "w-9")
    Laptop(folder).run("withdraw", "--referral", referral, "--form", "erase")


def test_only_a_yes_says_that_her_name_comes(helpline: Laptop, shelter: Laptop) -> None:
    offer = item(shelter, sent(helpline, nobody_known(datetime.now(UTC))), "offer")
    comes = "come as an item of their own"
    assert comes in shelter.run("inbox", "accept", offer).output
    assert comes not in shelter.run("inbox", "accept", offer).output
    said = shelter.run("inbox", "progress", offer, "in-service").output
    assert comes not in said
    assert "`in-service` is on record" in said


def test_a_recall_is_answered_and_copies_are_attested(helpline: Laptop, shelter: Laptop) -> None:
    referral = sent(helpline, melati(datetime.now(UTC)))
    offer = item(shelter, referral, "offer")
    shelter.run("inbox", "accept", offer)
    shelter.run("inbox", "progress", offer, "in-service")
    assert "no-recall" in shelter.run("inbox", "recall-answer", offer, "ends", code=1).output
    assert "nothing-owed" in shelter.run("inbox", "destroyed", offer, code=1).output
    wait_for(helpline, referral, "in-service")
    helpline.run("referrals", "recall", referral)
    item(shelter, referral, "recall")
    shelter.run("inbox", "recall-answer", offer, "perhaps", code=2)
    assert "goes-on is on record" in shelter.run("inbox", "recall-answer", offer, "goes-on").output
    helpline.run("withdraw", "--referral", referral, "--form", "erase")
    item(shelter, referral, "withdrawal")
    assert "copies are destroyed is on record" in shelter.run("inbox", "destroyed", offer).output
    assert "was on record already" in shelter.run("inbox", "destroyed", offer).output


def test_a_fresh_disclosure_is_handed_in_after_a_waiting_list(helpline: Laptop, shelter: Laptop) -> None:
    her = melati(datetime.now(UTC))
    referral = sent(helpline, her)
    offer = item(shelter, referral, "offer")
    shelter.run("inbox", "waitlist", offer)
    wait_for(helpline, referral, "waitlisted")
    text = json.dumps({"content": her.content})
    assert "waiting list" in helpline.run("referrals", "disclosure", referral, "-", typed=text, code=1).output
    shelter.run("inbox", "accept", offer)
    wait_for(helpline, referral, "accepted")
    helpline.run("referrals", "disclosure", referral, "-", typed='{"content": {"CANARY": 1}}', code=2)
    assert "preferred_name" in helpline.run("referrals", "disclosure", referral, "-", typed=text).output
    item(shelter, referral, "disclosure")


def test_what_was_recalled_asks_for_no_fresh_disclosure(helpline: Laptop, shelter: Laptop) -> None:
    referral = sent(helpline, melati(datetime.now(UTC)))
    shelter.run("inbox", "waitlist", item(shelter, referral, "offer"))
    assert "exchange referrals disclosure" in wait_for(helpline, referral, "waitlisted")
    assert "exchange referrals disclosure" not in helpline.run("referrals", "recall", referral).output


def wait_for(helpline: Laptop, referral: str, state: str) -> str:
    """What is shown of the referral, once it is so."""

    def shown() -> str | None:
        said = helpline.run("referrals", "show", referral).output
        return said if state in said else None

    return until(shown, f"the referral to be {state}")


def followed(laptop: Laptop) -> set[str]:
    """The referrals of which there are changes."""
    return set(re.findall(r"\b[0-9a-f]{32}\b", laptop.run("referrals", "watch", "--once").stdout))


def test_a_preview_stores_nothing(helpline: Laptop) -> None:
    before = followed(helpline)
    text, _ = a_referral(helpline, melati(datetime.now(UTC)))
    preview = helpline.run("send", "-", "--preview", typed=text).output
    assert "withheld" in preview
    assert "Tell her first" in preview
    assert followed(helpline) == before


def test_a_drill_is_called_one_on_both_sides_before_anything_else(helpline: Laptop, shelter: Laptop) -> None:
    """In a file of last week's drill, the word would have nobody come for a woman who is real."""
    _, request = a_referral(helpline, melati(datetime.now(UTC)))
    text = json.dumps(request | {"exercise": True})
    assert "EXERCISE" in helpline.run("send", "-", "--preview", typed=text).stderr
    sent_as = helpline.run("send", "-", "--json", typed=text)
    assert "If she is, take `exercise` out" in sent_as.stderr
    shown = shelter.run("inbox", "show", item(shelter, json.loads(sent_as.stdout)["id"], "offer")).stdout
    assert shown.index("EXERCISE") < shown.index("What it says")


@pytest.mark.parametrize("words", [("send", "-"), ("send", "-", "--preview")], ids=["send", "preview"])
def test_what_never_travels_is_refused_with_its_rule(helpline: Laptop, words: tuple[str, ...]) -> None:
    text, _ = a_referral(helpline, melati(datetime.now(UTC)), immigration_status="expired")
    refused = helpline.run(*words, typed=text, code=1)
    assert "immigration_status" in refused.output
    assert "never" in refused.output


def test_the_same_key_and_body_is_the_same_referral(helpline: Laptop) -> None:
    text, _ = a_referral(helpline, nobody_known(datetime.now(UTC)))
    first = helpline.run("send", "-", "--json", "--key", "once-only", typed=text).stdout
    assert helpline.run("send", "-", "--json", "--key", "once-only", typed=text).stdout == first
    other, _ = a_referral(helpline, nobody_known(datetime.now(UTC)))
    assert "idempotency-key-reused" in helpline.run("send", "-", "--key", "once-only", typed=other, code=1).output


@pytest.mark.parametrize(
    ("lose", "code"),
    [pytest.param(answers_are_lost, 1, id="lost"), pytest.param(ctrl_c_before_the_answer, 130, id="ctrl-c")],
)
def test_a_send_whose_answer_was_lost_says_how_it_is_repeated_as_the_same(
    helpline: Laptop, monkeypatch: pytest.MonkeyPatch, lose: Callable[[pytest.MonkeyPatch, str], None], code: int
) -> None:
    """It is stored. "Try again" alone would be a second referral of the same woman."""
    text, _ = a_referral(helpline, nobody_known(datetime.now(UTC)))
    before = followed(helpline)
    with monkeypatch.context() as patch:
        lose(patch, "/v1/referrals")
        said = helpline.run("send", "-", typed=text, code=code).output
    key = re.search(r"--key ([0-9a-f]{32})", said)
    assert key is not None, said
    created = json.loads(helpline.run("send", "-", "--json", "--key", key[1], typed=text).stdout)
    assert followed(helpline) - before == {created["id"]}


def test_a_file_that_is_sent_again_is_no_second_woman(helpline: Laptop) -> None:
    """The window was closed, and with it went the answer and its key."""
    text, _ = a_referral(helpline, nobody_known(datetime.now(UTC)))
    first = json.loads(helpline.run("send", "-", "--json", "--key", "first", typed=text).stdout)["id"]
    before = followed(helpline)
    refused = helpline.run("send", "-", typed=text, code=1)
    for words in ("Nothing was sent", first, "--again"):
        assert words in refused.stderr
    assert json.loads(helpline.run("send", "-", "--json", "--key", "first", typed=text).stdout)["id"] == first
    assert followed(helpline) == before
    second = json.loads(helpline.run("send", "-", "--json", "--again", typed=text).stdout)["id"]
    assert followed(helpline) - before == {second}


def test_a_send_that_was_refused_for_what_is_in_it_is_not_to_be_repeated(helpline: Laptop) -> None:
    text, _ = a_referral(helpline, melati(datetime.now(UTC)), immigration_status="expired")
    assert "--key" not in helpline.run("send", "-", typed=text, code=1).output


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(("inbox", "show", "0" * 32), 1, id="an item that is not there"),
        pytest.param(("inbox", "accept", "zzzz"), 1, id="no item ends so"),
        pytest.param(("inbox", "show", "../clients"), 1, id="no id at all"),
        pytest.param(("referrals", "show", "0" * 32), 1, id="a referral that is not there"),
        pytest.param(("referrals", "show", "../inbox"), 2, id="an id that leads elsewhere"),
        pytest.param(("withdraw", "--form", "erase"), 2, id="her no to nothing"),
        pytest.param(("inbox", "progress", "0" * 32, "eaten"), 2, id="an unknown state"),
        pytest.param(("inbox", "decline", "0" * 32, "--reason", "busy"), 2, id="an unknown reason"),
        pytest.param(("consent", "show", "0" * 32), 1, id="a consent that is not there"),
        pytest.param(("inbox", "show", "0" * 32, "--actor", "Jane Doe"), 2, id="a name instead of a pseudonym"),
        pytest.param(("inbox", "list", "--actor", "Jané"), 2, id="letters that no header carries"),
        pytest.param(("inbox", "list", "--actor", "w-1\n"), 2, id="two lines"),
        pytest.param(("inbox", "destroyed", "0" * 32), 1, id="an item that is not there, destroyed"),
        pytest.param(("inbox", "recall-answer", "zzzz", "ends"), 1, id="no item to answer"),
        pytest.param(("keys", "attest", "0" * 32), 2, id="keys that the node holds"),
    ],
)
def test_refusals_are_sentences(helpline: Laptop, words: tuple[str, ...], code: int) -> None:
    refused = helpline.run(*words, code=code)
    assert isinstance(refused.exception, SystemExit)
    assert refused.output.strip()


def test_an_invalid_request_is_told_without_its_values(helpline: Laptop) -> None:
    _, request = a_referral(helpline, melati(datetime.now(UTC)))
    wrong = request | {"priority": "CANARY-1", "CANARY-2": "CANARY-3"}
    refused = helpline.run("send", "-", typed=json.dumps(wrong), code=2)
    assert "priority" in refused.output
    assert "CANARY" not in refused.output


def test_the_name_of_a_lost_laptop_is_not_used_again_and_nothing_looks_ready(helpline: Laptop, tmp_path: Path) -> None:
    helpline.run("client", "add", "old-laptop", "--folder", str(tmp_path / "old"))
    helpline.run("client", "revoke", "old-laptop")
    new = tmp_path / "new"
    refused = helpline.run("client", "add", "old-laptop", "--folder", str(new), code=1)
    assert "no name is used twice" in refused.stderr
    assert list(new.iterdir()) == []
    helpline.run("client", "add", "old-laptop-2", "--folder", str(new))


def test_a_revoked_client_is_refused_at_once(helpline: Laptop, tmp_path: Path) -> None:
    folder = tmp_path / "lost-laptop"
    helpline.run("client", "add", "lost-laptop", "--folder", str(folder), "--actor", "w-9")
    lost = Laptop(folder)
    lost.run("referrals", "watch", "--once")
    helpline.run("client", "revoke", "lost-laptop")
    assert "no token" in lost.run("referrals", "watch", "--once", code=1).output
    assert "revoked" in helpline.run("client", "list").output
    helpline.run("client", "revoke", "lost-laptop", code=1)


@pytest.mark.parametrize(
    "since", ["2999-01-01T00:00:00", "1970-01-01T00:00:00", "yesterday"], ids=["future", "never", "no-time"]
)
def test_keys_are_not_revoked_since_a_time_that_cannot_be(two_nodes: TwoNodes, shelter: Laptop, since: str) -> None:
    before = published(two_nodes)
    shelter.run("keys", "revoke", "--since", since, code=2 if since == "yesterday" else 1)
    shelter.run("keys", "revoke", code=2)
    assert published(two_nodes) == before


def test_after_a_revocation_the_next_referral_is_sealed_to_a_new_key(
    two_nodes: TwoNodes, helpline: Laptop, shelter: Laptop
) -> None:
    """In processes of their own: the node that revokes runs on, the other learns of it when it asks for the card."""
    old, held = published(two_nodes), sent(helpline, melati(datetime.now(UTC)))
    offer = item(shelter, held, "offer")
    said = by_itself(two_nodes, "keys", "revoke", "--since", "2026-01-02T03:04:05")
    for words_said in (
        "Revoked 6 weekly keys",
        "new ones for this week",
        "2026-01-02 03:04 UTC",
        "case by case",
        "is not released",
    ):
        assert words_said in said
    assert not published(two_nodes) & old
    two_nodes[HELPLINE].stop()
    two_nodes[HELPLINE].start()
    until(lambda: (known(two_nodes) and not known(two_nodes) & old) or None, "the helpline to learn of it")
    fresh = sent(helpline, melati(datetime.now(UTC)))
    shelter.run("inbox", "show", item(shelter, fresh, "offer"))
    shelter.run("inbox", "accept", offer)

    async def waits_for_a_fresh_one() -> bool:
        async with two_nodes[HELPLINE].client() as client:
            flags = (await client.referrals.read(held)).flags
            assert not flags.disclosed
            return flags.awaiting_disclosure

    until(lambda: asyncio.run(waits_for_a_fresh_one()) or None, "the node to ask for a fresh disclosure")


def test_peers_are_told_of_a_lost_disk_with_the_passphrase_from_a_file(two_nodes: TwoNodes) -> None:
    assert "come again" in by_itself(two_nodes, "resync", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"))


def by_itself(two_nodes: TwoNodes, *words: str, **variables: str) -> str:
    """What a command of the shelter says in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from exchange.cli import main; main()", *words],
        env=two_nodes[SHELTER].environment() | {"COLUMNS": "400"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def published(two_nodes: TwoNodes) -> set[str]:
    """The keys on the shelter's card."""

    async def ask() -> set[str]:
        async with two_nodes[SHELTER].client() as client:
            return {epoch.key_id for epoch in (await client.federation.card()).epochs}

    return asyncio.run(ask())


def known(two_nodes: TwoNodes) -> set[str]:
    """The keys of the shelter that the helpline's node names."""

    async def ask() -> set[str]:
        async with two_nodes[HELPLINE].client() as client:
            return {epoch.key_id for epoch in (await client.federation.peer_keys(SHELTER.agency)).epochs}

    return asyncio.run(ask())


def test_a_narrow_client_can_do_no_more(helpline: Laptop, tmp_path: Path) -> None:
    folder = tmp_path / "reader"
    helpline.run("client", "add", "reader", "--folder", str(folder), "--scope", "referrals:read", "--actor", "w-9")
    reader = Laptop(folder)
    reader.run("referrals", "watch", "--once")
    assert "Who has to act" in reader.run("inbox", "list", code=1).output


def test_doctor_finds_two_healthy_nodes(helpline: Laptop, shelter: Laptop) -> None:
    for laptop in (helpline, shelter):
        said = laptop.run("doctor").output
        assert "bad" not in said.split()
        assert "running and ready" in said
        assert "keys as in the roster" in said


def test_token_is_for_this_node_only(helpline: Laptop) -> None:
    token = helpline.run("token").stdout.strip()
    assert token.count(".") == 2

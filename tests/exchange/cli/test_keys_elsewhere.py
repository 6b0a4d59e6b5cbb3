"""`exchange keys` in an agency's own folder, over a real node that holds no agency key."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from support.lost_answers import answers_are_lost, ctrl_c_before_the_answer
from support.node_processes import NodeProcesses, node_processes, until
from support.real_nodes import TwoNodes
from typer.testing import CliRunner

from contracts.vocabulary import Feedback
from exchange.cli.application import app
from exchange.client.connection import Connection
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.demo.people import melati

NAME = "Melati Contoh"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    """Two nodes, and the folders of their agencies' own machines."""
    folder = tmp_path_factory.mktemp("nodes") / "f"
    with node_processes(folder, (HELPLINE, SHELTER), keys_elsewhere=True) as nodes:
        for node in nodes:
            node.start()
        yield {node.plan: node for node in nodes}


@pytest.fixture
def shelter(both: TwoNodes) -> NodeProcesses:
    return both[SHELTER]


def run(
    shelter: NodeProcesses, *words: str, home: Path | None = None, code: int = 0, typed: str | None = None
) -> Result:
    variables = {
        "EXCHANGE_HOME": str(home or shelter.office),
        "EXCHANGE_AGENCY_PASSPHRASE": shelter.passphrase,
        "COLUMNS": "400",
    }
    result = CliRunner().invoke(app, list(words), env=variables, input=typed)
    assert result.exit_code == code, result.output
    return result


def published_here(shelter: NodeProcesses) -> list[str]:
    """The weekly keys that the folder has, the lowest number first."""
    identity = shelter.identity()
    try:
        return [key_id for key_id, _, _, _ in identity.store.epochs()]
    finally:
        identity.store.close()


def test_weekly_keys_are_revoked_where_they_are(shelter: NodeProcesses) -> None:
    run(shelter, "keys", "publish")
    first = published_here(shelter)
    said = run(shelter, "keys", "revoke", "--since", "2026-01-02T03:04:05").output
    for words in ("Revoked 6 weekly keys", "2026-01-02 03:04 UTC", "case by case"):
        assert words in said
    after = published_here(shelter)
    assert (after[:6], len(after)) == (first, 12)
    run(shelter, "keys", "publish")
    assert published_here(shelter) == after


@pytest.mark.parametrize("since", ["2999-01-01T00:00:00", "1970-01-01T00:00:00"], ids=["future", "never"])
def test_not_since_a_time_that_cannot_be(shelter: NodeProcesses, since: str) -> None:
    before = published_here(shelter)
    run(shelter, "keys", "revoke", "--since", since, code=1)
    assert published_here(shelter) == before


def test_a_recall_is_answered_a_fresh_disclosure_handed_in_and_copies_are_attested(both: TwoNodes) -> None:
    helpline, shelter, her = both[HELPLINE], both[SHELTER], melati(datetime.now(UTC))
    for agency in (helpline, shelter):
        run(agency, "keys", "publish")
    consent = her.consent(datetime.now(UTC)).model_dump_json(exclude_none=True)
    recorded = run(helpline, "consent", "record", "-", typed=consent).output.split()[1]
    request = her.referral(recorded).model_dump_json(exclude_none=True, by_alias=True)
    referral = json.loads(run(helpline, "send", "-", "--json", typed=request).stdout)["id"]
    offer = arrived(shelter, "offer")
    run(shelter, "inbox", "show", offer)
    run(shelter, "inbox", "waitlist", offer)
    stands(helpline, referral, "waitlisted")
    run(shelter, "inbox", "accept", offer)
    assert "exchange referrals disclosure" in stands(helpline, referral, "accepted")
    run(helpline, "referrals", "disclosure", referral, "-", typed=json.dumps({"content": her.content}))
    run(shelter, "inbox", "show", arrived(shelter, "disclosure"))
    plan = json.dumps({"safe_contact": her.content["safe_contact"] | {"say_if_other_answers": "The bakery, sorry."}})
    assert "allowed" in run(helpline, "referrals", "plan", referral, "-", typed=plan).output
    run(shelter, "inbox", "show", arrived(shelter, "update"))
    assert "The bakery, sorry." in run(shelter, "inbox", "advice", offer).output
    assert "no-recall" in run(shelter, "inbox", "recall-answer", offer, "ends", code=1).output
    assert "nothing-owed" in run(shelter, "inbox", "destroyed", offer, code=1).output
    assert "is on record and on its way" in run(shelter, "inbox", "progress", offer, "in-service").output
    stands(helpline, referral, "in-service")
    run(helpline, "referrals", "recall", referral)
    arrived(shelter, "recall")
    assert "goes-on is on record" in run(shelter, "inbox", "recall-answer", offer, "goes-on").output
    run(helpline, "withdraw", "--referral", referral, "--form", "erase")
    stop = arrived(shelter, "withdrawal")
    assert f"exchange inbox destroyed {stop}" in run(shelter, "inbox", "show", stop).output
    assert json.loads(run(shelter, "inbox", "show", stop, "--json").stdout)["event"] == "erase"
    assert "copies are destroyed is on record" in run(shelter, "inbox", "destroyed", offer).output


def test_progress_that_is_not_told_is_said_to_stay_here(both: TwoNodes) -> None:
    """Who reports that she never came counts on somebody there being alarmed."""
    helpline, shelter, her = both[HELPLINE], both[SHELTER], melati(datetime.now(UTC))
    for agency in (helpline, shelter):
        run(agency, "keys", "publish")
    asked = her.consent(datetime.now(UTC))
    least = tuple(line.model_copy(update={"feedback": Feedback.DECISION}) for line in asked.provisions)
    consent = asked.model_copy(update={"provisions": least}).model_dump_json(exclude_none=True)
    recorded = run(helpline, "consent", "record", "-", typed=consent).output.split()[1]
    request = her.referral(recorded).model_dump_json(exclude_none=True, by_alias=True)
    referral = json.loads(run(helpline, "send", "-", "--json", typed=request).stdout)["id"]
    offer = arrived(shelter, "offer")
    run(shelter, "inbox", "show", offer)
    run(shelter, "inbox", "accept", offer)
    stands(helpline, referral, "accepted")
    for said in ("is on record here, and nowhere else", "was on record here, and nowhere else"):
        told = run(shelter, "inbox", "progress", offer, "not-arrived").output
        assert said in told
        assert "nobody else knows" in told


@pytest.mark.parametrize(
    ("lose", "code"),
    [pytest.param(answers_are_lost, 1, id="lost"), pytest.param(ctrl_c_before_the_answer, 130, id="ctrl-c")],
)
def test_a_send_whose_answer_was_lost_is_repeated_under_the_key_that_is_named(
    both: TwoNodes, monkeypatch: pytest.MonkeyPatch, lose: Callable[[pytest.MonkeyPatch, str], None], code: int
) -> None:
    """Sealed again it would be another referral; under the key the same envelopes are handed in."""
    helpline, her = both[HELPLINE], melati(datetime.now(UTC))
    for agency in both.values():
        run(agency, "keys", "publish")
    consent = her.consent(datetime.now(UTC)).model_dump_json(exclude_none=True)
    recorded = run(helpline, "consent", "record", "-", typed=consent).output.split()[1]
    request = her.referral(recorded).model_dump_json(exclude_none=True, by_alias=True)
    with monkeypatch.context() as patch:
        lose(patch, "/v1/envelopes")
        said = run(helpline, "send", "-", typed=request, code=code).output
    named = re.search(r"--key ([0-9a-f]{32})", said)
    assert named is not None, said
    again = [run(helpline, "send", "-", "--json", "--key", named[1], typed=request).stdout for _ in range(2)]
    assert again[0] == again[1]
    assert "referring" in run(helpline, "referrals", "show", json.loads(again[0])["id"]).output
    other = (
        her.referral(recorded).model_copy(update={"exercise": True}).model_dump_json(exclude_none=True, by_alias=True)
    )
    assert "idempotency-key-reused" in run(helpline, "send", "-", "--key", named[1], typed=other, code=1).output


def test_what_cannot_be_sealed_is_told_with_its_field_and_no_stack_trace(both: TwoNodes) -> None:
    """Where the node holds the keys it answers so; the clock of her worker's machine may be wrong here as there."""
    helpline, her = both[HELPLINE], melati(datetime.now(UTC))
    run(both[SHELTER], "keys", "publish")
    consent = her.consent(datetime.now(UTC)).model_dump_json(exclude_none=True)
    recorded = run(helpline, "consent", "record", "-", typed=consent).output.split()[1]
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    request = her.referral(recorded).model_dump(mode="json", exclude_none=True, by_alias=True)
    request["content"]["safe_contact"]["last_confirmed_at"] = tomorrow
    refused = run(helpline, "send", "-", typed=json.dumps(request), code=1)
    assert isinstance(refused.exception, SystemExit)
    for words in ("Nothing was sent.", "  safe_contact.last_confirmed_at: She cannot have confirmed the plan later"):
        assert words in refused.stderr
    assert tomorrow not in refused.output
    assert NAME not in refused.output


def test_ctrl_c_at_the_passphrase_ends_the_command(shelter: NodeProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once. While a loop runs the first one is only noted down."""
    typed_on = False

    def prompt() -> str:
        nonlocal typed_on
        signal.raise_signal(signal.SIGINT)
        typed_on = True
        return shelter.passphrase

    monkeypatch.setattr("exchange.cli.asking.agency_passphrase", prompt)
    run(shelter, "keys", "publish", code=130)
    assert not typed_on


def test_what_a_branch_is_not_shown_keeps_its_keys_and_is_counted(both: TwoNodes) -> None:
    helpline, her = both[HELPLINE], melati(datetime.now(UTC))
    run(both[SHELTER], "keys", "publish")
    consent = her.consent(datetime.now(UTC)).model_dump_json(exclude_none=True)
    recorded = run(helpline, "consent", "record", "-", typed=consent).output.split()[1]
    run(helpline, "send", "-", typed=her.referral(recorded).model_dump_json(exclude_none=True, by_alias=True))
    assert "others stay" not in run(helpline, "keys", "destroy").output
    profile = helpline.office / "client.toml"
    of_the_agency = profile.read_text()
    profile.write_text(f'{of_the_agency}unit = "north"\n')
    try:
        assert re.search(r"keys of \d+ others stay", run(helpline, "keys", "destroy").stderr)
    finally:
        profile.write_text(of_the_agency)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every path that is asked of a node from here."""
    paths, build = list[str](), Connection.build

    def seen(self: Connection, method: str, path: str, **more: Any) -> Any:
        paths.append(path)
        return build(self, method, path, **more)

    monkeypatch.setattr(Connection, "build", seen)
    return paths


OF_HER = json.dumps({"content": melati(datetime.now(UTC)).content})
A_REFERRAL = melati(datetime.now(UTC)).referral("f" * 32).model_dump_json(exclude_none=True, by_alias=True)
A_PLAN = json.dumps({"safe_contact": melati(datetime.now(UTC)).content["safe_contact"]})
SEALED_HERE = {
    "send": (("send", "-"), A_REFERRAL),
    "preview": (("send", "-", "--preview"), A_REFERRAL),
    "disclosure": (("referrals", "disclosure", "f" * 32, "-"), OF_HER),
    "plan": (("referrals", "plan", "f" * 32, "-"), A_PLAN),
    "inform": (("referrals", "inform", "f" * 32, "-"), OF_HER),
    "accept": (("inbox", "accept", "f" * 32), None),
    "advice": (("inbox", "advice", "f" * 32), None),
}


@pytest.mark.parametrize("name", SEALED_HERE)
def test_without_the_keys_nothing_is_asked_of_the_node(
    both: TwoNodes, asked: list[str], tmp_path: Path, name: str
) -> None:
    """The stick is not there, or was not copied yet: the node would refuse, and would have read it."""
    folder = Path(shutil.copytree(both[HELPLINE].office, tmp_path / "office"))
    (folder / "agency.keys").unlink()
    words, typed = SEALED_HERE[name]
    refused = run(both[HELPLINE], *words, home=folder, code=2, typed=typed)
    assert (asked, "Nothing was sent" in refused.output) == ([], True)


def test_the_keys_lie_beside_the_profile_wherever_the_clients_key_is(
    both: TwoNodes, asked: list[str], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(both[HELPLINE].office, tmp_path / "office"))
    profile, moved = folder / "client.toml", tmp_path / "client.jwk"
    (folder / "client.jwk").rename(moved)
    profile.write_text(profile.read_text().replace('"client.jwk"', json.dumps(str(moved))))
    recorded = a_consent(both[HELPLINE])
    request = melati(datetime.now(UTC)).referral(recorded).model_dump_json(exclude_none=True, by_alias=True)
    assert "To " in run(both[HELPLINE], "send", "-", "--preview", home=folder, typed=request).output
    assert f"/v1/consents/{recorded}" in asked
    assert not [path for path in asked if path.startswith("/v1/referrals")]


def a_consent(helpline: NodeProcesses) -> str:
    """The id of her consent, on record."""
    consent = melati(datetime.now(UTC)).consent(datetime.now(UTC)).model_dump_json(exclude_none=True)
    return run(helpline, "consent", "record", "-", typed=consent).output.split()[1]


@pytest.mark.parametrize("word", ["destroy", "destroyed", "attest"])
def test_her_no_waits_for_no_roster(both: TwoNodes, word: str) -> None:
    helpline, shelter = both[HELPLINE], both[SHELTER]
    for agency in (helpline, shelter):
        run(agency, "keys", "publish")
    request = melati(datetime.now(UTC)).referral(a_consent(helpline)).model_dump_json(exclude_none=True, by_alias=True)
    referral = json.loads(run(helpline, "send", "-", "--again", "--json", typed=request).stdout)["id"]
    offer = arrived_of(shelter, "offer", referral)
    run(shelter, "inbox", "show", offer)
    run(helpline, "withdraw", "--referral", referral, "--form", "erase")
    stop = arrived_of(shelter, "withdrawal", referral)
    roster = shelter.office / "roster.json"
    good = roster.read_bytes()
    roster.write_bytes(good[:-20])
    try:
        if word == "destroy":
            # The node destroys it beside the post: in a moment.
            until(lambda: True if " of 1 " in run(shelter, "keys", "destroy").output else None, "its keys to go")
        else:
            words = ("inbox", "destroyed", stop) if word == "destroyed" else ("keys", "attest", referral)
            said = run(shelter, *words, code=1).output
            assert ("are destroyed here" in said, "Install the federation's roster" in said) == (True, True)
    finally:
        roster.write_bytes(good)
    assert referral not in living(shelter)
    assert "is on record" in run(shelter, "inbox", "destroyed", stop).output


def living(shelter: NodeProcesses) -> list[str]:
    """The referrals whose keys the folder has."""
    identity = shelter.identity()
    try:
        return list(identity.store.living())
    finally:
        identity.store.close()


def arrived(shelter: NodeProcesses, kind: str) -> str:
    """The item of this kind, once it is there."""

    def found() -> str | None:
        lines = [line.split() for line in run(shelter, "inbox", "watch", "--once").stdout.splitlines()]
        return next((words[3] for words in lines if words[5].split("/")[0] == kind), None)

    return until(found, f"the {kind} to arrive")


def arrived_of(shelter: NodeProcesses, kind: str, referral: str) -> str:
    """The item of this kind about this referral, once it is there."""

    async def look() -> str | None:
        async with shelter.client() as client:
            items = [item async for item in client.inbox.pages(referral=referral)]
        return next((item.id for item in items if item.kind == kind), None)

    return until(lambda: asyncio.run(look()), f"the {kind} to arrive")


def stands(helpline: NodeProcesses, referral: str, state: str) -> str:
    """What is shown of the referral, once it is so."""

    def shown() -> str | None:
        said = run(helpline, "referrals", "show", referral).output
        return said if state in said else None

    return until(shown, f"the referral to be {state}")

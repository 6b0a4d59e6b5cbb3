"""Who is a member, and which contracts are in force; anything doubtful is refused whole."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError
from support.referrals import EMBASSY, HELPLINE, SHELTER, member

from contracts.vocabulary import AgencyKind
from exchange.envelope.keys import AgencyKey
from exchange.envelope.kinds import KindClass
from exchange.envelope.statements import Adherence, sign_statement
from exchange.roster import (
    Adoption,
    Member,
    RosterInvalidError,
    RosterSnapshot,
    Status,
    UnknownMemberError,
    member_card,
    parse_member_card,
    parse_roster,
    roster_bytes,
    standing_allows,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DIGEST, OLDER = "aa" * 32, "bb" * 32
KEYS = {agency: AgencyKey(agency[:1].encode() * 32) for agency in ("orchid-helpline", "harbour-shelter", "id-embassy")}


def keyed(listed: Member) -> Member:
    return listed.model_copy(update={"agency_key": KEYS[listed.agency].public})


MEMBERS = tuple(keyed(listed) for listed in (HELPLINE, SHELTER, EMBASSY))


def signed(agency: str, digest: str = DIGEST, by: str | None = None) -> bytes:
    statement = Adherence(agency=agency, contract=digest, adopted_at=1_800_000_000_000)
    return sign_statement(statement, KEYS[by or agency].sign).to_bytes()


def adoption(**changes: Any) -> Adoption:
    members: dict[str, Any] = {
        "digest": DIGEST,
        "members": frozenset({"orchid-helpline", "harbour-shelter"}),
        "from_": date(2026, 11, 1),
        "until": date(2026, 12, 31),
        "adherence": {agency: signed(agency) for agency in ("orchid-helpline", "harbour-shelter")},
    }
    return Adoption(**(members | changes))


def roster(*contracts: Adoption, members: tuple[Member, ...] = MEMBERS) -> RosterSnapshot:
    return parse_roster(roster_bytes(version=7, synthetic=True, members=members, contracts=contracts))


def in_force(snapshot: RosterSnapshot, at: datetime = NOON) -> tuple[str, ...]:
    return snapshot.contract_in_force("orchid-helpline", "harbour-shelter", at)


def test_a_roster_survives_being_written_and_read() -> None:
    snapshot = roster(adoption())
    assert (snapshot.version, snapshot.synthetic) == (7, True)
    assert snapshot.members == {listed.agency: listed for listed in MEMBERS}
    assert snapshot.contracts == (adoption(),)


def test_any_number_of_members_may_adopt_one_contract() -> None:
    """Who has left stays listed, and a roster that is not read takes its suspensions with it."""
    many = tuple(member(f"house-{number}") for number in range(200))
    listed = adoption(members=frozenset(one.agency for one in many), adherence={})
    assert roster(listed, members=many).contracts == (listed,)


def test_the_digest_is_over_the_exact_bytes() -> None:
    data = roster_bytes(version=7, synthetic=True, members=MEMBERS)
    assert parse_roster(data).digest != parse_roster(data + b"\n").digest
    assert parse_roster(data).source == data


def test_a_card_survives_being_written_and_read() -> None:
    assert parse_member_card(member_card(EMBASSY)) == EMBASSY


def test_a_name_that_earlier_versions_allowed_is_in_the_roster_and_on_no_new_card() -> None:
    """A roster that a node cannot read any more keeps it from starting."""
    listed = MEMBERS[0].model_copy(update={"name": "\u061crose"})
    assert roster(members=(listed,)).member(listed.agency).name == listed.name
    with pytest.raises(RosterInvalidError):
        parse_member_card(member_card(listed))


def test_a_member_that_is_not_listed_is_unknown() -> None:
    with pytest.raises(UnknownMemberError) as caught:
        roster().member("nobody-here")
    assert "nobody-here" not in str(caught.value)


def test_a_contract_both_adhere_to_is_in_force() -> None:
    assert in_force(roster(adoption())) == (DIGEST,)


def test_the_latest_to_begin_comes_first() -> None:
    older = adoption(
        digest=OLDER,
        from_=date(2026, 1, 1),
        adherence={agency: signed(agency, OLDER) for agency in ("orchid-helpline", "harbour-shelter")},
    )
    assert in_force(roster(older, adoption())) == (DIGEST, OLDER)


BOTH = {agency: signed(agency) for agency in ("orchid-helpline", "harbour-shelter")}
NOT_IN_FORCE = [
    pytest.param({"adherence": {"orchid-helpline": BOTH["orchid-helpline"]}}, NOON, id="one-signature-missing"),
    pytest.param({"adherence": {"harbour-shelter": BOTH["harbour-shelter"]}}, NOON, id="the-other-signature-missing"),
    pytest.param({"adherence": BOTH | {"harbour-shelter": signed("harbour-shelter", by="id-embassy")}}, NOON,
                 id="signed-by-another"),
    pytest.param({"adherence": BOTH | {"harbour-shelter": signed("harbour-shelter", OLDER)}}, NOON,
                 id="signed-another-contract"),
    pytest.param({"adherence": BOTH | {"harbour-shelter": signed("orchid-helpline")}}, NOON, id="one-signed-twice"),
    pytest.param({"adherence": BOTH | {"harbour-shelter": b'{"body":{},"signature":"","tag":""}'}}, NOON,
                 id="no-statement"),
    pytest.param({"members": frozenset({"orchid-helpline"})}, NOON, id="signed-and-not-listed"),
    pytest.param({}, datetime(2026, 10, 31, 23, 59, tzinfo=UTC), id="not-begun"),
    pytest.param({}, datetime(2027, 1, 1, tzinfo=UTC), id="ended"),
    pytest.param({}, datetime(2026, 11, 1, 7, 59, tzinfo=timezone(timedelta(hours=8))), id="not-begun-in-utc"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "at"), NOT_IN_FORCE)
def test_not_in_force(changes: dict[str, Any], at: datetime) -> None:
    assert in_force(roster(adoption(**changes)), at) == ()


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(datetime(2026, 11, 1, tzinfo=UTC), id="as-its-first-day-begins"),
        pytest.param(datetime(2026, 12, 31, 23, 59, tzinfo=UTC), id="as-its-last-day-ends"),
        pytest.param(
            datetime(2027, 1, 1, 7, 59, tzinfo=timezone(timedelta(hours=8))), id="by-a-clock-that-is-ahead-of-utc"
        ),
    ],
)
def test_a_contract_holds_from_its_first_day_through_its_last(at: datetime) -> None:
    assert in_force(roster(adoption()), at) == (DIGEST,)


def test_a_contract_may_hold_for_one_day() -> None:
    one_day = adoption(from_=NOON.date(), until=NOON.date())
    assert in_force(roster(one_day)) == (DIGEST,)


def test_what_a_member_signs_that_is_not_listed_is_not_kept() -> None:
    snapshot = roster(adoption(adherence=BOTH | {"id-embassy": signed("id-embassy")}))
    assert snapshot.contracts[0].adherence.keys() == BOTH.keys()


def test_a_changed_agency_key_ends_adherence() -> None:
    rotated = tuple(
        listed.model_copy(update={"agency_key": b"z" * 32}) if listed.agency == "harbour-shelter" else listed
        for listed in MEMBERS
    )
    assert in_force(roster(adoption(), members=rotated)) == ()


STANDING = {
    (KindClass.FORWARD, Status.ACTIVE, Status.ACTIVE),
    (KindClass.ANSWER, Status.ACTIVE, Status.ACTIVE),
    (KindClass.ANSWER, Status.SUSPENDED, Status.ACTIVE),
    *((KindClass.STOP, one, other) for one, other in product(Status, Status)),
}


@pytest.mark.parametrize(
    ("kind_class", "sender", "receiver"),
    [pytest.param(*row, id="-".join(part.value for part in row)) for row in product(KindClass, Status, Status)],
)
def test_standing(kind_class: KindClass, sender: Status, receiver: Status) -> None:
    allowed = standing_allows(member("one-agency", status=sender), member(status=receiver), kind_class)
    assert allowed is ((kind_class, sender, receiver) in STANDING)


Change = Callable[[dict[str, Any]], object]


def shelter(file: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in file["members"] if one["agency"] == "harbour-shelter")
    return found


INVALID: list[Any] = [
    pytest.param(lambda f: f.update(note="x"), "$", "unknown-member", id="unknown-member"),
    pytest.param(lambda f: f.pop("version"), "$.version", "missing", id="no-version"),
    pytest.param(lambda f: f.update(version=0), "$.version", "greater-than-equal", id="version-zero"),
    pytest.param(lambda f: f.update(version="7"), "$.version", "int-type", id="version-as-text"),
    pytest.param(lambda f: f.update(synthetic=False), "$", "synthetic-mixed", id="synthetic-in-a-real-roster"),
    pytest.param(lambda f: shelter(f).update(synthetic=False), "$", "synthetic-mixed", id="real-in-a-synthetic-one"),
    pytest.param(lambda f: f["members"].append(shelter(f) | {"agency_key": "A" * 43, "node_key": "B" * 42 + "A"}), "$",
                 "agency-twice", id="agency-twice"),
    pytest.param(lambda f: f["members"].append(shelter(f) | {"agency": "another"}), "$", "key-twice", id="key-twice"),
    pytest.param(lambda f: f["members"].append(shelter(f) | {"agency": "another", "agency_key": "A" * 43}), "$",
                 "key-twice", id="node-key-twice"),
    pytest.param(lambda f: f["members"].append(
                     shelter(f) | {"agency": "another", "agency_key": shelter(f)["node_key"], "node_key": "A" * 43}),
                 "$", "key-twice", id="anothers-node-key-as-agency-key"),
    pytest.param(lambda f: shelter(f).update(node_key=shelter(f)["agency_key"]), "$.members[1]", "same-key",
                 id="one-key-for-two-roles"),
    pytest.param(lambda f: shelter(f).update(node_key="AAAA"), "$.members[1].node_key", "not-a-key", id="short-key"),
    pytest.param(lambda f: shelter(f).update(node_key="A" * 42 + "B"), "$.members[1].node_key", "not-a-key",
                 id="second-spelling-of-a-key"),
    pytest.param(lambda f: shelter(f).update(node_key=7), "$.members[1].node_key", "not-a-key", id="key-as-number"),
    pytest.param(lambda f: shelter(f).update(kind="bank"), "$.members[1].kind", "unknown-term", id="unknown-kind"),
    pytest.param(lambda f: shelter(f).update(kind="embassy"), "$.members[1]", "represents-misplaced",
                 id="embassy-of-nobody"),
    pytest.param(lambda f: shelter(f).update(represents="ID"), "$.members[1]", "represents-misplaced",
                 id="shelter-that-represents"),
    pytest.param(lambda f: shelter(f).update(status="gone"), "$.members[1].status", "unknown-term", id="status"),
    pytest.param(lambda f: shelter(f).update(agency="Harbour"), "$.members[1].agency", "string-pattern-mismatch",
                 id="agency-id"),
    pytest.param(lambda f: shelter(f).update(node_url="http://harbour.example"), "$.members[1].node_url",
                 "not-a-node-url", id="plain-http-elsewhere"),
    pytest.param(lambda f: shelter(f).update(node_url="http://localhost.example"), "$.members[1].node_url",
                 "not-a-node-url", id="plain-http-to-what-begins-like-this-machine"),
    pytest.param(lambda f: shelter(f).update(node_url="http://127.0.0.1.example:8443"), "$.members[1].node_url",
                 "not-a-node-url", id="plain-http-to-what-begins-like-its-address"),
    pytest.param(lambda f: shelter(f).update(node_url="https://a:b@harbour.example"), "$.members[1].node_url",
                 "not-a-node-url", id="password-in-url"),
    pytest.param(lambda f: shelter(f).update(node_url="https://harbour.example/"), "$.members[1].node_url",
                 "not-a-node-url", id="trailing-slash"),
    pytest.param(lambda f: shelter(f).update(node_url="https://harbour.example:65536"), "$.members[1].node_url",
                 "not-a-node-url", id="no-such-port"),
    pytest.param(lambda f: shelter(f).update(node_url="https://harbour.example:0"), "$.members[1].node_url",
                 "not-a-node-url", id="port-zero"),
    pytest.param(lambda f: shelter(f).update(service_types=["spa"]), "$.members[1].service_types[0]", "unknown-term",
                 id="unknown-service"),
    pytest.param(lambda f: shelter(f).pop("told_first"), "$.members[1].told_first", "missing", id="nothing-told-first"),
    pytest.param(lambda f: f["contracts"][0].update(until="2026-10-01"), "$.contracts[0]", "dates-backwards",
                 id="ends-before-it-begins"),
    pytest.param(lambda f: f["contracts"][0].update(digest="AA" * 32), "$.contracts[0].digest",
                 "string-pattern-mismatch", id="digest-in-capitals"),
    pytest.param(lambda f: f["contracts"].append(f["contracts"][0]), "$", "contract-twice", id="contract-twice"),
    pytest.param(lambda f: f["contracts"][0].update(members=["harbour-shelter"] * 2), "$.contracts[0].members",
                 "named-twice", id="adopted-twice-by-one"),
    pytest.param(lambda f: f["contracts"][0].update(members=["nobody-here"]), "$", "unknown-adopter",
                 id="adopted-by-a-stranger"),
    pytest.param(lambda f: f["contracts"][0]["members"].append("nobody-here"), "$", "unknown-adopter",
                 id="adopted-by-a-stranger-beside-members"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "path", "code"), INVALID)
def test_a_roster_is_refused_whole(change: Change, path: str, code: str) -> None:
    file = json.loads(roster_bytes(version=7, synthetic=True, members=MEMBERS, contracts=(adoption(),)))
    change(file)
    with pytest.raises(RosterInvalidError) as caught:
        parse_roster(json.dumps(file).encode())
    assert (path, code) in {(problem.path, problem.code) for problem in caught.value.problems}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'{"version":1,"version":2,"members":[]}', id="member-twice"),
        pytest.param(b'{"version":1.5,"members":[]}', id="float"),
        pytest.param(b" " * (4 * 1024 * 1024 + 1), id="too-large"),
    ],
)
def test_what_is_no_roster_is_refused(data: bytes) -> None:
    with pytest.raises(RosterInvalidError):
        parse_roster(data)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_none_as_bytes_either(length: int) -> None:
    with pytest.raises(ValidationError):
        member(node_key=b"k" * length)


def test_a_synthetic_member_may_live_on_this_machine() -> None:
    local = member(node_url="http://127.0.0.1:8443")
    assert parse_member_card(member_card(local)) == local
    with pytest.raises(RosterInvalidError):
        parse_member_card(member_card(local).replace(b'"synthetic":true', b'"synthetic":false'))


def test_a_card_of_another_kind_is_refused() -> None:
    card = member_card(SHELTER).replace(AgencyKind.SHELTER.value.encode(), b"safe-house")
    with pytest.raises(RosterInvalidError) as caught:
        parse_member_card(card)
    assert "safe-house" not in str(caught.value)

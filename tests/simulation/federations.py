"""Federations to play in: who is a member, of which kind and where, under which contracts. Made once, used often.

A contract is written here as plain data (`Rules`), so that the oracle judges by what was agreed and not by what the
code under test makes of it.
"""

from __future__ import annotations

import functools
import json
import random
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

from simulation.machines import Keys, Replaced
from support.contract_files import SECTIONS

from contracts.model import Contract
from exchange.envelope.statements import Adherence, sign_statement
from exchange.roster import Adoption, Member, RosterSnapshot, Status, parse_roster, roster_bytes
from exchange.use_cases.node import World

BEGIN: Final = int(datetime(2026, 11, 25, 2, tzinfo=UTC).timestamp() * 1000)
"""A Wednesday. Every history begins within a few days of it."""
AGENCIES: Final = ("amber", "birch", "cedar", "dahlia")
CASTS: Final = 24
CROWDED: Final = 8
"""Beside them so many in which a receiver gets one name or two, and no more before it has served."""
AUTHORITIES: Final = frozenset({"embassy", "police", "labour-office"})
_OFFERED: Final = {
    "helpline": "psychosocial-support",
    "shelter": "safe-accommodation",
    "health": "health-care",
    "legal-aid": "legal-aid",
    "embassy": "travel-documents",
    "labour-office": "wage-claim",
    "police": "police-protection",
    "social-welfare": "cash-or-goods",
}
NEED_OF: Final = {
    "psychosocial-support": "individual",
    "safe-accommodation": "tonight",
    "health-care": "injury",
    "legal-aid": "advice",
    "travel-documents": "lost",
    "wage-claim": "unpaid-wages",
    "police-protection": "escort",
    "cash-or-goods": "food",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One field as the field table has it: the ceiling of every contract."""

    group: str
    stage: str
    only_to: tuple[str, ...] = tuple(_OFFERED)
    named_to: tuple[str, ...] = ()


FIELDS: Final[dict[str, Row]] = {
    "needs": Row("need", "offer"),
    "age_band": Row("need", "offer"),
    "language": Row("need", "offer"),
    "area": Row("need", "offer"),
    "immediate_medical": Row("health", "offer", ("shelter", "health")),
    "medication_or_mental_health_support": Row("health", "named", ("shelter", "health")),
    "safety_flags": Row("safety", "offer", named_to=("police",)),
    "preferred_name": Row("name", "disclosure"),
    "arrival_words": Row("name", "disclosure"),
    "safe_contact": Row("contact", "disclosure", named_to=("police",)),
    "meeting_point": Row("place", "disclosure"),
    "legal_name": Row("identity", "named"),
    "employer_name": Row("employment", "named", ("labour-office",)),
    "immigration_status": Row("status", "named", ("legal-aid",)),
    "narrative": Row("perpetrator", "never", ()),
}
_STAGES: Final = ("offer", "disclosure", "named")


def stage_for(field: str, kind: str) -> str:
    """The earliest stage at which any contract may let this kind of agency have the field."""
    row = FIELDS[field]
    if kind not in row.only_to:
        return "never"
    return "named" if kind in row.named_to else row.stage


@dataclass(frozen=True, slots=True)
class Told:
    """What a woman should hear of an agency first."""

    reports_to: tuple[str, ...] = ()
    freedom_of_movement: str = "She may leave."
    requires_documents: bool = False

    def covers(self, now: Told) -> bool:
        """Whether who has heard this knows to whom it reports now, and of the papers that it asks for."""
        return set(now.reports_to) <= set(self.reports_to) and self.requires_documents >= now.requires_documents

    @property
    def data(self) -> dict[str, Any]:
        """As roster and consent have it."""
        return {**asdict(self), "reports_to": list(self.reports_to)}


TOLD: Final = (
    Told(),
    Told(reports_to=("the police",)),
    Told(requires_documents=True),
    Told(freedom_of_movement="She may not leave at night."),
)


@dataclass(frozen=True, slots=True)
class Agency:
    """A member as a roster describes it."""

    id: str
    kind: str
    country: str
    represents: str | None
    service: str
    """The one service that it offers, whatever becomes of it."""
    told: Told = TOLD[0]

    @property
    def foreign_to(self) -> frozenset[str]:
        """The countries that data sent to it reaches."""
        return frozenset({self.country, self.represents or self.country})

    @property
    def authority_of(self) -> str | None:
        """The country for which it acts; nothing where it is no authority."""
        return (self.represents or self.country) if self.kind in AUTHORITIES else None


Changed = tuple[Agency, ...]
"""Members that are not any more what they were."""


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """One contract: the data that was agreed, and what the code under test read from its bytes."""

    data: dict[str, Any]
    contract: Contract

    def rule(self, sender: Agency, receiver: Agency) -> dict[str, Any] | None:
        """The rule for this way, read from the data."""
        for rule in self.data["rules"]:
            if (
                sender.kind in rule["from"]
                and receiver.kind in rule["to"]
                and receiver.service in rule["service_types"]
            ):
                found: dict[str, Any] = rule
                return found
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """Agencies, and the contracts they adopt one after the other."""

    number: int
    agencies: tuple[Agency, ...]
    agreements: tuple[Agreement, Agreement]
    outsider: str | None
    """An agency that has not signed the second contract."""

    def agency(self, agency_id: str, changed: Changed = ()) -> Agency:
        """The agency of this id, by a roster in which these have changed."""
        return next(agency for agency in (*changed, *self.agencies) if agency.id == agency_id)

    def may_refer(self, sender: str, receiver: str) -> bool:
        """Whether the first contract has a rule for somebody who consents."""
        rule = self.agreements[0].rule(self.agency(sender), self.agency(receiver))
        return rule is not None and "consent" in rule["bases"]

    def agreement(self, digest: str) -> Agreement:
        """The contract of this digest."""
        return next(one for one in self.agreements if one.contract.digest == digest)


@functools.cache
def cast_of(number: int) -> Cast:
    """One of `CASTS` federations; from that number on the crowded ones."""
    chance = random.Random(f"cast {number}")
    agencies = tuple(_agency(name, place, chance) for place, name in enumerate(AGENCIES))
    few: tuple[tuple[int, ...], ...] = ((1, 1, 2), (1, 2, 2)) if number >= CASTS else ((), ())
    first, second = (
        _agreement(f"rules-{number}-{version}", agencies, chance, most=few[version - 1]) for version in (1, 2)
    )
    outsider = chance.choice([None, None, *AGENCIES])
    return Cast(number, agencies, (first, second), outsider)


def _agency(name: str, place: int, chance: random.Random) -> Agency:
    kinds = ["helpline", "shelter", "health", "legal-aid", "embassy", "labour-office", "police", "social-welfare"]
    kind = ("helpline", "shelter")[place] if place < 2 else chance.choice(kinds[1:])
    country = chance.choice(["MY"] * 6 + ["SG"])
    return Agency(name, kind, country, "ID" if kind == "embassy" else None, _OFFERED[kind])


def _agreement(name: str, agencies: tuple[Agency, ...], chance: random.Random, *, most: tuple[int, ...]) -> Agreement:
    ways = sorted({(one.kind, other.kind) for one in agencies for other in agencies if one is not other})
    rules = [_rule(f"rule-{place}", *way, chance) for place, way in enumerate(ways) if chance.random() < 0.97]
    if not rules:
        rules = [_rule("rule-0", *ways[0], chance)]
    rules += _rules_of_others(name, agencies)
    if most:
        rules = [rule | _few_at_once(chance, most) for rule in rules]
    data = {
        "contract": name,
        "version": "1.0.0",
        "language_version": 1,
        "vocabulary": 1,
        "status": "draft-needs-local-legal-review",
        "title": "A contract of a simulation",
        "review_on": "2027-06-30",
        "valid_until": "2027-12-31",
        "prose": dict.fromkeys(SECTIONS, "words"),
        "countries": {},
        "rules": rules,
        "never": [
            {"fields": ["narrative"], "to": "any"},
            *([{"fields": ["legal_name"], "to": ["social-welfare"]}] if chance.random() < 0.3 else []),
        ],
        "obligations": {
            "breach_notice": "72h",
            "erasure_receipt": "24h",
            "authority_request_notice": "24h",
            "staff_complaint_notice": "24h",
            "leaving_notice": "60d",
        },
    }
    # Past the reading of files, which takes a hundred times as long; one of the tests reads them as files.
    digest = sha256(file_of(data)).hexdigest()
    return Agreement(data, Contract.model_validate({**data, "digest": digest}))


def file_of(data: dict[str, Any]) -> bytes:
    """The contract as the file that its members would sign."""
    return json.dumps(data, indent=1).encode()


def _rules_of_others(name: str, agencies: tuple[Agency, ...]) -> list[dict[str, Any]]:
    """A member that has become another kind of office goes on with its service: there may be rules for that too."""
    chance = random.Random(f"others {name}")
    kinds = sorted({one.kind for one in agencies})
    ways = [(one, other, of) for one in kinds for other in kinds for of in kinds if other != of]
    return [
        _rule(f"other-{place}", one, other, chance) | {"service_types": [_OFFERED[of]]}
        for place, (one, other, of) in enumerate(ways)
        if chance.random() < 0.5
    ]


def _rule(name: str, sender: str, receiver: str, chance: random.Random) -> dict[str, Any]:
    listed: dict[str, list[str]] = {stage: [] for stage in _STAGES}
    for field in FIELDS:
        earliest = stage_for(field, receiver)
        if earliest != "never" and chance.random() < 0.75:
            later = _STAGES[_STAGES.index(earliest) :]
            listed[later[0] if chance.random() < 0.8 else chance.choice(later)].append(field)
    return {
        "id": name,
        "from": [sender],
        "to": [receiver],
        "service_types": [_OFFERED[receiver]],
        **listed,
        "bases": ["consent"] if chance.random() < 0.95 else ["caregiver"],
        "release": chance.choice(["automatic", "automatic", "confirm"]),
        "max_unserved_accepts": chance.choice([1, 10, 10, 10]),
        "feedback": chance.choice(["decision", "status", "outcome"]),
        "onward": "none",
        "cross_border": chance.choice(
            ["forbidden", "named-country-consent", "named-country-consent", "named-country-consent", "allowed"]
        ),
        "respond_within": {"emergency": "1h", "urgent": chance.choice(["6h", "24h"]), "routine": "72h"},
        "retention": {
            "declined": "24h",
            "expired": chance.choice(["24h", "7d"]),
            "closed": chance.choice(["2d", "30d"]),
        },
    }


def _few_at_once(chance: random.Random, most: tuple[int, ...]) -> dict[str, Any]:
    return {
        "bases": ["consent"],
        "release": chance.choice(["automatic", "automatic", "automatic", "confirm"]),
        "max_unserved_accepts": chance.choice(most),
        "cross_border": "allowed",
    }


@dataclass(frozen=True, slots=True)
class Others:
    """What is different in a roster besides standing, keys and contracts."""

    changed: Changed = ()
    unlisted: str | None = None
    """A member that is not listed for a while."""
    exchanged: tuple[str, ...] = ()
    """Two that have exchanged their addresses."""

    def address(self, agency: str) -> str:
        """Whose first address an agency has now."""
        return next((one for one in self.exchanged if one != agency), agency) if agency in self.exchanged else agency

    def become(self, agency: Agency) -> Others:
        """One more is not what it was."""
        return replace(self, changed=(*(one for one in self.changed if one.id != agency.id), agency))


NO_OTHERS: Final = Others()


@functools.lru_cache(maxsize=4096)
def world_of(
    cast: Cast,
    count: int,
    version: int,
    suspended: str | None,
    second: bool,
    replaced: Replaced = (),
    others: Others = NO_OTHERS,
) -> World:
    """The federation of the first `count` agencies as one roster has it.

    Args:
        cast: the agencies.
        count: how many of them play.
        version: of the roster.
        suspended: one that is suspended in it.
        second: whether the second contract is in force, beside the first and before it.
        replaced: whose keys were replaced.
        others: what else is different in it.
    """
    members = tuple(
        _member(cast.agency(agency.id, others.changed), suspended, _of(replaced, agency.id), others.address(agency.id))
        for agency in cast.agencies[:count]
        if agency.id != others.unlisted
    )
    rekeyed = tuple(one for one in replaced if one[1] == "agency")
    adoptions = [_adoption_of(cast.number, 0, count, date(2026, 1, 1), rekeyed, others.unlisted)]
    if second:
        adoptions.append(_adoption_of(cast.number, 1, count, date(2026, 6, 1), rekeyed, others.unlisted))
    data = roster_bytes(version=version, synthetic=True, members=members, contracts=tuple(adoptions))
    contracts = {one.contract.digest: one.contract for one in cast.agreements}
    return World(_parsed(data), MappingProxyType(contracts))


@functools.lru_cache(maxsize=4096)
def _parsed(data: bytes) -> RosterSnapshot:
    return parse_roster(data)


@functools.cache
def _member(agency: Agency, suspended: str | None, replaced: Replaced, address: str) -> Member:
    if suspended is not None:
        member = _member(agency, None, replaced, address)
        return member.model_copy(update={"status": Status.SUSPENDED}) if agency.id == suspended else member
    keys = Keys.of(agency.id, replaced)
    return Member.model_validate(
        {
            "agency": agency.id,
            "name": agency.id.title(),
            "kind": agency.kind,
            "country": agency.country,
            "represents": agency.represents,
            "service_types": [agency.service],
            "node_url": f"https://{address}.example",
            "agency_key": keys.agency.public,
            "node_key": keys.node.public,
            "duty_contact": "+00 000 0000 (synthetic)",
            "breach_contact": "breach@example.org (synthetic)",
            "told_first": agency.told.data,
            "synthetic": True,
        }
    )


def _of(replaced: Replaced, agency: str) -> Replaced:
    return tuple(one for one in replaced if one[0] == agency)


@functools.cache
def _adoption_of(
    cast_number: int, place: int, count: int, begins: date, replaced: Replaced, unlisted: str | None
) -> Adoption:
    cast = cast_of(cast_number)
    digest = cast.agreements[place].contract.digest
    without_these = {unlisted} if place == 0 else {unlisted, cast.outsider}
    names = [agency.id for agency in cast.agencies[:count] if agency.id not in without_these]
    adherence = {}
    for name in names:
        adopted = Adherence(agency=name, contract=digest, adopted_at=BEGIN)
        adherence[name] = sign_statement(adopted, Keys.of(name, replaced).agency.sign).to_bytes()
    return Adoption(digest, frozenset(names), begins, date(2027, 12, 31), MappingProxyType(adherence))


def without(world: World, digest: str) -> World:
    """The same world at a node that has not read one of the contracts."""
    contracts = {key: contract for key, contract in world.contracts.items() if key != digest}
    return replace(world, contracts=MappingProxyType(contracts))


def id_of(*words: object) -> str:
    """A stable id out of some words."""
    return sha256(" ".join(map(str, words)).encode()).hexdigest()[:32]

"""What people ask for at random: consents, contents, decisions. Everybody is invented."""

from __future__ import annotations

import random
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final

from simulation.federations import AUTHORITIES, FIELDS, NEED_OF, Agency

GROUPS: Final = sorted({row.group for row in FIELDS.values()})
_USUAL: Final = ("needs", "age_band", "language", "safety_flags", "preferred_name", "arrival_words", "safe_contact")
_HOUR: Final = 3_600_000


def moment(at: int) -> str:
    """A time as the API takes it."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat()


def consent(chance: random.Random, others: list[Agency], at: int, also: Collection[str] = ()) -> dict[str, Any]:
    """What a woman allows; `also`: of whom she is told, too."""
    lines = [_line(chance, others) for _ in range(chance.choice([1, 1, 2]))]
    told = {agency.id: agency.told for agency in others if agency.kind in AUTHORITIES or agency.id in also}
    wish: dict[str, Any] = {
        "basis": "consent",
        "age_band": "25-49",
        "provisions": lines,
        "given_how": "verbal",
        "language": "en",
        "statement_id": "adult-consent",
        "limits_explained_at": moment(at - 600_000),
        "given_at": moment(at - 300_000),
        "told_first": [{"agency": agency} | told[agency].data for agency in sorted(told)],
    }
    if chance.random() < 0.15:
        wish["expires_at"] = moment(at + chance.choice([2, 30, 80]) * _HOUR)
    return wish


def _line(chance: random.Random, others: list[Agency]) -> dict[str, Any]:
    who: dict[str, list[str]] = {"agencies": [], "kinds": [], "countries": []}
    how = chance.random()
    if how < 0.9:
        who["agencies"] = [agency.id for agency in others if chance.random() < 0.9] or [others[0].id]
    elif how < 0.95:
        who["kinds"] = sorted({agency.kind for agency in others})
        who["countries"] = chance.choice([[], ["MY"], ["MY", "SG"]])
    else:
        who["countries"] = ["MY", "SG"]
    fields = [field for field in sorted(FIELDS) if FIELDS[field].stage == "named" and chance.random() < 0.4]
    return {
        "fields": fields if who["agencies"] else [],
        "groups": [group for group in GROUPS if group == "need" or chance.random() < 0.8],
        **who,
        "purposes": sorted({f"provide-{agency.service}" for agency in others}),
        "feedback": chance.choice(["decision", "status", "outcome"]),
    }


def less(chance: random.Random, lines: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    """A narrower consent than these lines."""
    narrowed = []
    for line in lines:
        kept = [group for group in line["groups"] if group == "need" or chance.random() < 0.5]
        fields = [field for field in line["fields"] if chance.random() < 0.5]
        narrowed.append(line | {"groups": kept, "fields": fields})
    return narrowed


def content(chance: random.Random, service: str, person: int, at: int) -> dict[str, Any]:
    """Everything that a worker would like to say; some of it may not go."""
    values: dict[str, Any] = {
        "needs": [NEED_OF[service]],
        "age_band": "25-49",
        "language": "id",
        "area": "MY-14",
        "immediate_medical": True,
        "medication_or_mental_health_support": True,
        "safety_flags": ["perpetrator-nearby"],
        "preferred_name": f"Name {person}",
        "arrival_words": "paper lantern",
        "safe_contact": plan(chance, person, at),
        "meeting_point": f"Place {person}",
        "legal_name": f"Legal {person}",
        "employer_name": f"Household {person}",
        "immigration_status": "expired",
    }
    wanted = {field for field in values if chance.random() < (0.9 if field in _USUAL else 0.35)}
    if chance.random() < 0.9:
        # A contract that says `never` refuses the whole request; most workers know.
        wanted -= {"immigration_status"} if service != "legal-aid" else set()
        wanted -= {"legal_name"} if service == "cash-or-goods" else set()
    said = {field: values[field] for field in sorted(wanted | {"needs"})}
    if chance.random() < 0.02:
        said["narrative"] = f"Story {person}"
    # Whom she avoids follows from who she is, so that every other history is the one it was.
    if (avoids := random.Random(f"avoids {person}")).random() < 0.5:
        said["avoid_own_authorities"] = {"country": avoids.choice(["ID", "PH", "PH", "MY", "SG"])}
    return said


def plan(chance: random.Random, person: int, at: int) -> dict[str, Any]:
    """How she may be contacted."""
    if chance.random() < 0.5:
        return {"who_initiates": "survivor", "say_if_other_answers": f"Wrong number {chance.randrange(10**6)}"}
    return {
        "who_initiates": "agency",
        "channels": [{"channel": "sms", "address": f"+00 12 {person} {chance.randrange(10**6)}", "safe": True}],
        "last_confirmed_at": moment(at - chance.choice([0, 1, 70]) * _HOUR),
    }

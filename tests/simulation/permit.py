"""What may be inside an envelope, worked out from what was agreed, allowed and asked: nothing of the gate is used.

Rules: a field goes only if the rule of the contract lists it for this stage, no `never` stands against it, she allows
it to this agency for this purpose at this moment, and it was asked for. Where she was told of the agency, it reports to
nobody else now, and asks for no papers of which she does not know; a changed plan alone goes all the same. Routing
fields say nothing about her.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from simulation.federations import AUTHORITIES, FIELDS, Agency, Agreement, Told, stage_for

ROUTING: Final = frozenset(
    {
        "client_code", "priority", "service_type", "referred_at", "respond_by", "vocabulary_version", "exercise",
        "referring_agency", "duty_contact",
    }
)  # fmt: skip
LEVELS: Final = ("decision", "status", "outcome")


@dataclass(frozen=True, slots=True)
class Allowed:
    """One version of a consent: what she allowed from some moment on."""

    provisions: tuple[dict[str, Any], ...]
    given_at: int
    expires_at: int
    told_first: Mapping[str, Told]
    """By agency: what she was told of it."""
    ended: bool = False

    def live(self, at: int) -> bool:
        """Whether it allows anything at this time."""
        return self.begun(at) and at < self.expires_at

    def begun(self, at: int) -> bool:
        """Whether she has said it by this time, and nobody has ended it; its date may have passed."""
        return not self.ended and self.given_at <= at


def permitted(
    agreement: Agreement,
    sender: Agency,
    receiver: Agency,
    allowed: Allowed,
    *,
    stage: str,
    at: int,
    only_plan: bool = False,
) -> frozenset[str]:
    """The fields about her that may stand in an envelope of this stage."""
    rule = agreement.rule(sender, receiver)
    if rule is None or "consent" not in rule["bases"] or not allowed.live(at):
        return frozenset()
    lines = [line for line in allowed.provisions if _covers(line, sender, receiver)]
    if receiver.kind in AUTHORITIES and receiver.id not in allowed.told_first:
        lines = []
    told = allowed.told_first.get(receiver.id)
    if told is not None and not told.covers(receiver.told) and not only_plan:
        return frozenset()
    if receiver.foreign_to - {sender.country}:
        if rule["cross_border"] == "forbidden":
            return frozenset()
        lines = [line for line in lines if _names_border(line, sender, receiver)]
    listed = rule["offer"] if stage == "offer" else rule["disclosure"] + rule["named"]
    never = {field for one in agreement.data["never"] if _meant(one["to"], receiver) for field in one["fields"]}
    return frozenset(
        field
        for field in listed
        if field not in never
        and stage_for(field, receiver.kind) != "never"
        and any(_gives(line, field, receiver, by_name=field in rule["named"]) for line in lines)
    )


def is_only_plan(kind: str, fields: frozenset[str]) -> bool:
    """Whether an envelope of this kind changes her plan and says nothing else about her."""
    return kind in {"update", "information"} and fields == {"safe_contact"}


def told_back(agreement: Agreement, sender: Agency, receiver: Agency, allowed: Allowed) -> str:
    """How much the receiver may tell the sender: the lesser of the rule's level and hers."""
    rule = agreement.rule(sender, receiver)
    lines = [line for line in allowed.provisions if _covers(line, sender, receiver)]
    hers = max((LEVELS.index(line["feedback"]) for line in lines), default=0)
    return LEVELS[min(hers, LEVELS.index(rule["feedback"]))] if rule is not None else LEVELS[0]


def _meant(kinds: str | list[str], receiver: Agency) -> bool:
    return kinds == "any" or receiver.kind in kinds


def _covers(line: dict[str, Any], _sender: Agency, receiver: Agency) -> bool:
    if f"provide-{receiver.service}" not in line["purposes"]:
        return False
    if receiver.id in line["agencies"]:
        return True
    if receiver.kind in AUTHORITIES:
        return False
    in_place = not line["countries"] or receiver.country in line["countries"]
    if line["kinds"]:
        return receiver.kind in line["kinds"] and in_place
    return bool(line["countries"]) and not line["agencies"] and in_place


def _names_border(line: dict[str, Any], sender: Agency, receiver: Agency) -> bool:
    return receiver.id in line["agencies"] or receiver.foreign_to - {sender.country} <= set(line["countries"])


def _gives(line: dict[str, Any], field: str, receiver: Agency, *, by_name: bool) -> bool:
    if field in line["fields"] and receiver.id in line["agencies"]:
        return True
    if by_name or stage_for(field, receiver.kind) == "named":
        return False
    return field in line["fields"] or FIELDS[field].group in line["groups"]

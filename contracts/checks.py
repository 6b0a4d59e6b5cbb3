"""What a well-formed contract must also keep to: the field table, one rule per question, dates that hold.

These checks read the file's data, not the model, and skip what they cannot read. So one unknown term does not hide an
identifying field in the next line: every problem of a file is told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final, TypeVar

from contracts.located_yaml import LocatedDocument, Path
from contracts.model import ContractStatus
from contracts.prose import NEEDS_LOCAL_REVIEW
from contracts.rule import parse_duration
from contracts.verdict import an_agency
from contracts.vocabulary import (
    FIELD_SPECS,
    PRIORITY_RESPOND_WITHIN_S,
    ROUTING_FIELDS,
    AgencyKind,
    Field,
    Priority,
    Sensitivity,
    ServiceType,
    Stage,
    ceiling,
)

_Term = TypeVar("_Term", bound=StrEnum)
_STRICTNESS: Final = {stage: rank for rank, stage in enumerate(Stage)}
_IDENTIFYING: Final = frozenset({Sensitivity.C3, Sensitivity.C5})
_REPATRIATION_ASKS: Final = (Field.RETURN_VOLUNTARY, Field.SAFE_RETURN_ASSESSED)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class _RuleView:
    """The readable terms of one rule, each with the path it stands at."""

    path: Path
    id: str
    senders: dict[AgencyKind, Path]
    receivers: dict[AgencyKind, Path]
    services: dict[ServiceType, Path]
    fields: dict[Stage, dict[Field, Path]]


def check_meaning(document: LocatedDocument, on: date) -> None:
    """Reports every conflict with the field table, between rules, and with the calendar."""
    views = list(_rule_views(document.data))
    _check_ids(document, views)
    for view in views:
        _check_fields(document, view)
        _check_services(document, view)
        _check_answer_times(document, view)
    _check_ambiguity(document, views)
    _check_nevers(document)
    _check_calendar(document, on)
    _check_status(document)


def _terms(data: Any, path: Path, vocabulary: type[_Term]) -> dict[_Term, Path]:
    known = {term.value: term for term in vocabulary}
    items = data if isinstance(data, list) else []
    return {known[item]: (*path, index) for index, item in enumerate(items) if isinstance(item, str) and item in known}


def _list_at(data: Any, key: str) -> list[Any]:
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, list) else []


def _rule_views(data: Any) -> Iterator[_RuleView]:
    for index, rule in enumerate(_list_at(data, "rules")):
        path: Path = ("rules", index)
        yield _RuleView(
            path=path,
            id=rule["id"] if isinstance(rule, dict) and isinstance(rule.get("id"), str) else f"rule {index + 1}",
            senders=_terms(_list_at(rule, "from"), (*path, "from"), AgencyKind),
            receivers=_terms(_list_at(rule, "to"), (*path, "to"), AgencyKind),
            services=_terms(_list_at(rule, "service_types"), (*path, "service_types"), ServiceType),
            fields={
                stage: _terms(_list_at(rule, stage.value), (*path, stage.value), Field)
                for stage in (Stage.OFFER, Stage.DISCLOSURE, Stage.NAMED)
            },
        )


def _check_ids(document: LocatedDocument, views: list[_RuleView]) -> None:
    seen: set[str] = set()
    for view in views:
        if view.id in seen:
            document.report((*view.path, "id"), "duplicate-rule-id", "Two rules have the same id.")
        seen.add(view.id)


def _check_fields(document: LocatedDocument, view: _RuleView) -> None:
    listed: set[Field] = set()
    for stage, fields in view.fields.items():
        for field, path in fields.items():
            if field in listed:
                sentence = f"`{field.value}` stands in two stages of this rule; list it once."
                document.report(path, "listed-twice", sentence)
            listed.add(field)
            if field in ROUTING_FIELDS:
                sentence = f"`{field.value}` always flows and is not listed."
                document.report(path, "routing-listed", sentence)
            else:
                _check_ceiling(document, view, field, stage, path)


def _check_ceiling(document: LocatedDocument, view: _RuleView, field: Field, stage: Stage, path: Path) -> None:
    spec = FIELD_SPECS[field]
    if spec.stage is Stage.NEVER:
        document.report(path, "never-listed", f"No contract may list `{field.value}`.")
    elif stage is Stage.OFFER and spec.sensitivity in _IDENTIFYING:
        sentence = f"`{field.value}` identifies her or is special, so it can never stand in an offer."
        document.report(path, "identifying-in-offer", sentence)
    elif _STRICTNESS[stage] < _STRICTNESS[spec.stage]:
        sentence = f"`{field.value}` may flow at stage `{spec.stage.value}` at the earliest, not at `{stage.value}`."
        document.report(path, "before-its-stage", sentence)
    else:
        _check_receivers(document, view, field, stage, path)


def _check_receivers(document: LocatedDocument, view: _RuleView, field: Field, stage: Stage, path: Path) -> None:
    """Limits of the field table by receiver and service; the first breach stands for all of the same entry."""
    for receiver in view.receivers:
        for service in view.services:
            earliest = ceiling(field, receiver, service)
            if earliest is Stage.NEVER:
                sentence = f"`{field.value}` may not go to {an_agency(receiver)} for {service.value}."
                document.report(path, "beyond-field-table", sentence)
                return
            if _STRICTNESS[stage] < _STRICTNESS[earliest]:
                sentence = f"`{field.value}` goes to {an_agency(receiver)} only at stage `{earliest.value}`."
                document.report(path, "before-its-stage", sentence)
                return


def _check_services(document: LocatedDocument, view: _RuleView) -> None:
    if ServiceType.PEER_SUPPORT in view.services:
        path = view.services[ServiceType.PEER_SUPPORT]
        sentence = "`peer-support` is listed in directories only; nobody is referred to it."
        document.report(path, "not-referable", sentence)
    if ServiceType.REPATRIATION in view.services:
        for field in _REPATRIATION_ASKS:
            if field not in view.fields[Stage.OFFER]:
                sentence = f"A rule for repatriation must ask `{field.value}` in its offer."
                document.report((*view.path, "offer"), "repatriation-unasked", sentence)


def _check_answer_times(document: LocatedDocument, view: _RuleView) -> None:
    rule = document.data["rules"][view.path[1]]
    within = rule.get("respond_within") if isinstance(rule, dict) else None
    if not isinstance(within, dict):
        return
    for priority in Priority:
        path = (*view.path, "respond_within", priority.value)
        if priority.value not in within:
            document.report(path, "missing-key", f"`respond_within` does not say `{priority.value}`.")
            continue
        try:
            seconds = parse_duration(within[priority.value])
        except ValueError:
            continue  # The structure check reports it.
        longest = PRIORITY_RESPOND_WITHIN_S[priority]
        if seconds > longest:
            sentence = f"`{priority.value}` must be answered within {longest // 3600}h; a contract may only shorten it."
            document.report(path, "answers-too-late", sentence)


def _check_ambiguity(document: LocatedDocument, views: list[_RuleView]) -> None:
    for position, later in enumerate(views):
        for earlier in views[:position]:
            senders = [kind for kind in AgencyKind if kind in earlier.senders and kind in later.senders]
            receivers = [kind for kind in AgencyKind if kind in earlier.receivers and kind in later.receivers]
            services = [kind for kind in ServiceType if kind in earlier.services and kind in later.services]
            if senders and receivers and services:
                sentence = (
                    f"Rules `{earlier.id}` and `{later.id}` both cover {senders[0].value} to {receivers[0].value} "
                    f"for {services[0].value}; one question has one rule."
                )
                document.report(later.path, "ambiguous-rules", sentence)


def _check_nevers(document: LocatedDocument) -> None:
    for index, never in enumerate(_list_at(document.data, "never")):
        path: Path = ("never", index, "fields")
        for field, where in _terms(_list_at(never, "fields"), path, Field).items():
            if field in ROUTING_FIELDS:
                sentence = f"`{field.value}` says nothing about a person and cannot be forbidden."
                document.report(where, "routing-listed", sentence)


def _check_calendar(document: LocatedDocument, on: date) -> None:
    valid_until, review_on = _date_at(document.data, "valid_until"), _date_at(document.data, "review_on")
    if valid_until is not None and valid_until < on:
        document.report(("valid_until",), "expired", f"The contract ended on {valid_until.isoformat()}.")
    if valid_until is not None and review_on is not None and review_on > valid_until:
        document.report(("review_on",), "review-after-end", "The review date is after the end of the contract.")


def _date_at(data: Any, key: str) -> date | None:
    value = data.get(key)
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def _check_status(document: LocatedDocument) -> None:
    """A text that says it was reviewed must not still wait for review."""
    if document.data.get("status") != ContractStatus.REVIEWED.value:
        return
    countries = document.data.get("countries")
    for country, annex in countries.items() if isinstance(countries, dict) else ():
        for key, value in annex.items() if isinstance(annex, dict) else ():
            if value == NEEDS_LOCAL_REVIEW:
                sentence = f"The contract says `reviewed`, but `{key}` of {country} still waits for local legal review."
                document.report(("countries", country, key), "review-incomplete", sentence)

"""A contract as people read it: prose and rules together, so that what is signed is what is evaluated.

Everything here is a pure function to text or to tables of text. Colours and column widths are the command line's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from contracts.analysis import sightings
from contracts.model import Contract, ContractStatus, CountryAnnex, Obligations, Prose, Rule
from contracts.vocabulary import FIELD_SPECS, ROUTING_FIELDS, AgencyKind, Field, ServiceType, Stage

_LETTER: Final = {Stage.OFFER: "o", Stage.DISCLOSURE: "d", Stage.NAMED: "n"}
LEGEND: Final = (
    "o = with the request, before anyone agreed; d = after acceptance; n = after acceptance, and only with a consent "
    "that names this field and this agency; x = never; · = not shared. The earliest stage for any service is shown. "
    "Routing fields go with every referral and are left out."
)


@dataclass(frozen=True, slots=True)
class TextTable:
    """Headings and rows of plain text."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [self.headings, tuple("---" for _ in self.headings), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

    def plain(self) -> str:
        """The table in aligned columns."""
        widths = [max(len(row[column]) for row in (self.headings, *self.rows)) for column in range(len(self.headings))]
        rule = tuple("-" * width for width in widths)
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (self.headings, rule, *self.rows)
        )


def matrix(contract: Contract) -> TextTable:
    """Fields by receiver kind, with the earliest stage at which any referral shows the field."""
    earliest: dict[tuple[Field, AgencyKind], Stage] = {}
    order = list(Stage)
    for sighting in sightings(contract):
        key = (sighting.field, sighting.receiver)
        earliest[key] = min(earliest.get(key, sighting.stage), sighting.stage, key=order.index)

    def cell(field: Field, kind: AgencyKind) -> str:
        if field in contract.prohibited(kind):
            return "x"
        stage = earliest.get((field, kind))
        return _LETTER[stage] if stage else "·"

    return TextTable(
        ("field", "class", *(kind.value for kind in AgencyKind)),
        tuple(
            (field.value, FIELD_SPECS[field].sensitivity.value, *(cell(field, kind) for kind in AgencyKind))
            for field in Field
            if field not in ROUTING_FIELDS
        ),
    )


def services_covered(contract: Contract) -> TextTable:
    """Services by receiver kind, with the rules that cover them."""
    found: dict[tuple[ServiceType, AgencyKind], list[str]] = {}
    for rule in contract.rules:
        for service in rule.service_types:
            for kind in rule.to:
                found.setdefault((service, kind), []).append(rule.id)
    rows = (
        (service.value, kind.value, ", ".join(found[service, kind]))
        for service in ServiceType
        for kind in AgencyKind
        if (service, kind) in found
    )
    return TextTable(("service", "asked of", "rules"), tuple(rows))


def markdown(contract: Contract) -> str:
    """The whole contract: status, prose, matrix, rules, prohibitions, annexes, obligations."""
    parts = [_head(contract)]
    parts += [f"## {_heading(name)}\n\n{getattr(contract.prose, name)}" for name in Prose.model_fields]
    parts.append(f"## Who may see what\n\n{LEGEND}\n\n{matrix(contract).markdown()}")
    parts.append(f"## Services\n\n{services_covered(contract).markdown()}")
    parts.append("## Rules\n\n" + "\n\n".join(_rule(rule) for rule in contract.rules))
    parts.append("## Never\n\n" + "\n".join(_nevers(contract)))
    parts.append("## Country annexes\n\n" + "\n\n".join(_annex(*pair) for pair in sorted(contract.countries.items())))
    parts.append("## Obligations\n\n" + _obligations(contract.obligations).markdown())
    return "\n\n".join(parts) + "\n"


def duration(seconds: int) -> str:
    """Seconds as a contract writes them: `15m`, `72h`, `90d`."""
    if seconds % 86400 == 0 and seconds > 3 * 86400:
        return f"{seconds // 86400}d"
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds // 60}m"


def _head(contract: Contract) -> str:
    warning = (
        "> **DRAFT. Needs local legal review. Not for use with real people.**\n\n"
        if contract.status is ContractStatus.DRAFT
        else ""
    )
    return (
        f"# {contract.title}\n\n{warning}`{contract.name}` {contract.version} · review on {contract.review_on} · "
        f"valid until {contract.valid_until} · language {contract.language_version}, "
        f"vocabulary {contract.vocabulary}\n\n"
        f"SHA-256 of the signed file: `{contract.digest}`"
    )


def _heading(name: str) -> str:
    return name.removesuffix("_s").replace("_", " ").capitalize()


def _terms(terms: Iterable[str], order: Iterable[str]) -> str:
    chosen = set(terms)
    return ", ".join(str(term) for term in order if term in chosen) or "nothing"


def _rule(rule: Rule) -> str:
    within = ", ".join(f"{priority.value} {duration(seconds)}" for priority, seconds in rule.respond_within.items())
    ends = ("declined", "expired", "closed")
    kept = zip(ends, (rule.retention.declined_s, rule.retention.expired_s, rule.retention.closed_s), strict=True)
    lines = (
        ("from", _terms(rule.from_, AgencyKind)),
        ("to", _terms(rule.to, AgencyKind)),
        ("services", _terms(rule.service_types, ServiceType)),
        ("with the request", _terms(rule.offer, Field)),
        ("after acceptance", _terms(rule.disclosure, Field)),
        ("only if her consent names it", _terms(rule.named, Field)),
        ("bases", ", ".join(sorted(basis.value for basis in rule.bases))),
        ("release", f"{rule.release.value}; at most {rule.max_unserved_accepts} accepted and not yet served"),
        ("feedback", rule.feedback.value),
        ("onward", rule.onward.value),
        ("across a border", rule.cross_border.value),
        ("answer within", within),
        ("kept", ", ".join(f"{end} {duration(seconds)}" for end, seconds in kept)),
    )
    return f"### {rule.id}\n\n" + "\n".join(f"- **{name}:** {value}" for name, value in lines)


def _nevers(contract: Contract) -> Iterable[str]:
    for number, never in enumerate(contract.never, start=1):
        to = "anybody" if len(never.to) == len(AgencyKind) else _terms(never.to, AgencyKind)
        yield f"{number}. {_terms(never.fields, Field)}: never to {to}."


def _annex(code: str, annex: CountryAnnex) -> str:
    open_entries = annex.unreviewed()
    lines = [
        f"- **{_heading(name)}:** {' '.join(getattr(annex, name).split())}"
        for name in CountryAnnex.model_fields
        if name != "name" and name not in open_entries
    ]
    if open_entries:
        waiting = ", ".join(_heading(name).lower() for name in open_entries)
        lines.append(f"- **Still to be written by local legal review:** {waiting}.")
    return f"### {annex.name} ({code})\n\n" + "\n".join(lines)


def _obligations(obligations: Obligations) -> TextTable:
    rows = ((_heading(name), duration(getattr(obligations, name))) for name in Obligations.model_fields)
    return TextTable(("duty", "within"), tuple(rows))

"""How the demo tells what happens, and how it makes sure that what it tells is true.

Rules:

* A sentence that claims something is printed by `holds` together with the fact it rests on. A claim that does not hold
  ends the demo with an error: nothing is told that was not checked.
* What an agency sees is taken from what its own node answered, never from what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from contracts.vocabulary import Field, Stage
from exchange.demo.federation import AgencyPlan
from exchange.schemas.referrals import FieldDecision

NOTHING: Final = "·"
_LONGEST: Final = 34


class ClaimFailedError(AssertionError):
    """The demo told something that is not so."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One field: what each side sees of it at this moment, whether it is held, and why."""

    field: str
    sender: str
    receiver: str
    held: str
    why: str


@dataclass(slots=True)
class Narrator:
    """Prints the story and checks it."""

    console: Console
    claims: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def opening(self, title: str, sentences: str) -> None:
        """The first screen."""
        self.console.print(Panel(Text(sentences), title=Text(title), padding=(1, 2)))

    def story(self, number: int, title: str, sentence: str) -> None:
        """A story begins."""
        self.console.print()
        self.console.print(Rule(Text(f"Story {number}: {title}", style="bold")))
        self.console.print(Text(sentence, style="italic"))

    def step(self, who: str, sentence: str) -> None:
        """Somebody does something."""
        self.console.print(Text.assemble("\n", (f"{who}  ", "bold cyan"), sentence))

    def holds(self, claim: str, *, fact: bool) -> None:
        """A claim, with what it rests on.

        Raises:
            ClaimFailedError: it is not so.
        """
        if not fact:
            self.console.print(Text(f"  ✗ {claim}", style="bold red"))
            raise ClaimFailedError(claim)
        self.claims += 1
        self.console.print(Text.assemble(("  ✓ ", "bold green"), claim))

    def sights(self, title: str, receiver: AgencyPlan, sights: Sequence[Sight]) -> None:
        """What both sides see, field by field."""
        table = Table(title=Text(f"  {title}", style="bold"), title_justify="left", box=box.SIMPLE, pad_edge=False)
        heads = ("field", "helpline sees", f"{receiver.kind.value} sees", "held", "why")
        for head in heads:
            table.add_column(head, overflow="fold")
        for sight in sights:
            seen = "dim" if sight.receiver == NOTHING else "green"
            table.add_row(
                sight.field, Text(sight.sender), Text(sight.receiver, style=seen), Text(sight.held), Text(sight.why)
            )
        self.console.print(table)

    def ended(self, how: str) -> None:
        """A story ended, this way."""
        self.counts[how] = self.counts.get(how, 0) + 1


def sights_of(
    written: Mapping[str, Any], decisions: Sequence[FieldDecision], seen: Mapping[str, Any], *, held: str
) -> list[Sight]:
    """One row for every field that the caseworker wrote.

    Args:
        written: what the helpline's caseworker wrote.
        decisions: what the gate decided about each field.
        seen: what the receiver's node has shown its worker so far.
        held: what to say of a field that waits for an acceptance and was not seen.
    """
    decided = {decision.field: decision for decision in decisions}
    rows = []
    for name, value in written.items():
        decision = decided.get(Field(name))
        later = decision is not None and decision.stage in {Stage.DISCLOSURE, Stage.NAMED}
        is_seen = name in seen
        rows.append(
            Sight(
                field=name,
                sender=brief(value),
                receiver=brief(seen[name]) if is_seen else NOTHING,
                held=held if later and not is_seen else "",
                why=_why(decision),
            )
        )
    return rows


def brief(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{name}: {brief(inner)}" for name, inner in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(sorted(brief(inner) for inner in value))
    else:
        text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


_WHEN: Final = {
    Stage.OFFER: "with the offer",
    Stage.DISCLOSURE: "only after a yes",
    Stage.NAMED: "only after a yes; she named it",
}


def _why(decision: FieldDecision | None) -> str:
    if decision is None:
        return ""
    if decision.outcome != "allowed" or decision.stage is None:
        return f"{decision.outcome}: {decision.sentence}"
    line = f", consent line {decision.consent_line + 1}" if decision.consent_line is not None else ""
    return f"{_WHEN[decision.stage]} (rule {decision.rule}{line})"

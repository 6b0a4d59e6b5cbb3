"""What a contract says about one field: outcome, stage, the rule that says so, a stable code and a sentence."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final, Literal, NamedTuple

from contracts.vocabulary import AgencyKind, Field, Stage

Outcome = Literal["allowed", "withheld", "forbidden"]

_SENTENCES: Final[dict[str, str]] = {
    "always-flows": "`{field}` says nothing about a person; it flows wherever rule `{rule}` allows a referral.",
    "in-offer": "Rule `{rule}` lets {receiver} see `{field}` with the request, before it has agreed.",
    "in-disclosure": "Rule `{rule}` lets {receiver} see `{field}` only after it accepted.",
    "in-named": "Rule `{rule}` lets {receiver} see `{field}` only after it accepted, and only with a consent "
    "that names this field and this agency.",
    "not-listed": "Rule `{rule}` does not list `{field}` for {receiver}: it stays with you.",
    "never": "`{field}` may never go to {receiver} (`{rule}`). Remove it; no consent changes this.",
    "no-rule": "No rule covers this referral, so `{field}` may not flow.",
    "basis-not-allowed": "Rule `{rule}` does not accept this basis, so `{field}` may not flow.",
    "contract-expired": "The contract has ended, so `{field}` may not flow.",
    "refused-with-request": "Nothing is sent, `{field}` included, while the request asks for a forbidden field.",
}
FIELD_CODES: Final = frozenset(_SENTENCES)
"""Every code a verdict may carry."""


@cache
def an_agency(kind: AgencyKind) -> str:
    """The kind as it stands in a sentence: `a shelter agency`, `an embassy agency`."""
    article = "an" if kind.value[0] in "aeiou" else "a"
    return f"{article} {kind.value} agency"


class FieldVerdict(NamedTuple):
    """The answer for one requested field. `rule` is a rule's id, or `never[2]` for the second `never`."""

    field: Field
    outcome: Outcome
    stage: Stage | None
    rule: str | None
    code: str
    receiver: AgencyKind

    @property
    def sentence(self) -> str:
        """The reason, for a person; made when asked for, since most decisions are never read."""
        return _sentence(self.code, self.field, self.rule, self.receiver)


@lru_cache(maxsize=4096)
def _sentence(code: str, field: Field, rule: str | None, receiver: AgencyKind) -> str:
    return _SENTENCES[code].format(field=field.value, rule=rule, receiver=an_agency(receiver))

"""A synthetic example for every request and answer. Invented throughout; a test keeps each one valid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from exchange.api.examples.consents import CONSENTS
from exchange.api.examples.federation import FEDERATION
from exchange.api.examples.inbox import INBOX
from exchange.api.examples.node import NODE, NOT_READY
from exchange.api.examples.referrals import REFERRALS
from exchange.api.examples.sealing import SEALING
from exchange.api.examples.tokens import TOKEN_ANSWER, TOKEN_FORM, TOKEN_FORM_REFUSAL, TOKEN_METADATA, TOKEN_REFUSAL

EXAMPLES: Final[Mapping[type[BaseModel], dict[str, Any]]] = {
    **CONSENTS,
    **REFERRALS,
    **INBOX,
    **NODE,
    **FEDERATION,
    **SEALING,
}


def example_of(model: type[BaseModel]) -> dict[str, Any]:
    """The example for a request or an answer.

    Raises:
        KeyError: there is none, which no model of the API may have.
    """
    return EXAMPLES[model]


__all__ = [
    "EXAMPLES",
    "NOT_READY",
    "TOKEN_ANSWER",
    "TOKEN_FORM",
    "TOKEN_FORM_REFUSAL",
    "TOKEN_METADATA",
    "TOKEN_REFUSAL",
    "example_of",
]

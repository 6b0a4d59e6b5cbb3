"""The SDK that other systems import: a typed, asynchronous client of one agency's node."""

from exchange.client.agency_client import AgencyClient
from exchange.client.client_key import ClientKey
from exchange.client.errors import (
    ClientError,
    ClientSetupError,
    NodeUnreachableError,
    ProblemError,
    TokenRefusedError,
    UnexpectedAnswerError,
    UnreadableItemsError,
    UnreadableItemWarning,
)
from exchange.client.retries import RetryPolicy
from exchange.client.session import new_idempotency_key
from exchange.client.watching import HeldItem

__all__ = [
    "AgencyClient",
    "ClientError",
    "ClientKey",
    "ClientSetupError",
    "HeldItem",
    "NodeUnreachableError",
    "ProblemError",
    "RetryPolicy",
    "TokenRefusedError",
    "UnexpectedAnswerError",
    "UnreadableItemWarning",
    "UnreadableItemsError",
    "new_idempotency_key",
]

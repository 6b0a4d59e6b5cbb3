"""What can go wrong when a program talks to its node. Every class says who has to act.

    ClientError
    ├── ProblemError          the node refused, with an RFC 9457 problem document
    ├── TokenRefusedError     the node gave no token to this client
    ├── NodeUnreachableError  no answer, after all tries
    ├── UnexpectedAnswerError an answer that is not of this protocol
    ├── UnreadableItemsError  items of a list that are of a later version than this software
    └── ClientSetupError      the client was given an address or a key that it does not use

No text of these errors repeats anything that was sent or received.
"""

from __future__ import annotations

from typing import Final

from exchange.schemas.problems import Problem

_SCOPE: Final = "invalid_scope"


class ClientError(Exception):
    """Base of everything the SDK raises by itself."""

    idempotency_key: str | None = None
    """Of a call that creates something: under this key it is the same act again, and under another one another act.
    Whatever ended the call, the node may have carried it out."""


class ProblemError(ClientError):
    """The node refused. `problem.who` says who has to act, `problem.detail` what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.title} ({problem.code})")
        self.problem = problem


class TokenRefusedError(ClientError):
    """The node gave no token: the client is unknown or revoked, its key is another one, or a scope is not its own."""

    def __init__(self, code: str) -> None:
        wrong = (
            "it asks for scopes that it was not registered with. Name only its own (`scopes`), or ask whoever runs "
            "your node to register it with more."
            if code == _SCOPE
            else "its key is not registered there, was revoked, or lacks the right; its `issuer`, which is its address "
            "of the node unless told otherwise, is not the node's public address to the letter; or the clock of this "
            "machine, or the node's, is wrong. Look at address and clock, then call whoever runs your node."
        )
        super().__init__(f"The node gave this client no token ({code}): {wrong}")
        self.code = code


class NodeUnreachableError(ClientError):
    """The node did not answer. A request that creates something may be repeated with the same `idempotency_key`."""

    def __init__(self) -> None:
        super().__init__("The node does not answer. Nothing is lost: try again, or call whoever runs your node.")


class UnexpectedAnswerError(ClientError):
    """Something else answered in the node's place, or another version of it."""

    def __init__(self, status: int, retry_after: int | None = None) -> None:
        super().__init__(
            f"The answer (status {status}) is not one of this protocol: something else answers in the node's place, or "
            "it is of another version than this software. Call whoever runs your node."
        )
        self.status = status
        self.retry_after = retry_after


class UnreadableItemsError(ClientError):
    """All that could be read was handed out; these items could not."""

    def __init__(self, items: tuple[str, ...]) -> None:
        super().__init__(
            f"{len(items)} item(s) in the inbox cannot be read by this software: it is older than the node. Nothing is "
            "lost, and nobody has taken them over. Update this software, or call whoever runs your node."
        )
        self.items = items


class UnreadableItemWarning(UserWarning):
    """An item was left at the node because this software cannot read it."""


class ClientSetupError(ClientError, ValueError):
    """The SDK was given an address, a key file or an actor that it refuses to use."""

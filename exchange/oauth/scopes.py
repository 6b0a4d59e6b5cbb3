"""What a bearer token may be good for: a closed list, one scope for one kind of right.

Rules:

* Listing an inbox, opening an item and deciding on it are three rights.
* `federation` belongs to peers of the roster alone: no client of the agency can hold it, and a peer holds nothing else.
* A scope that is not listed here is an error for whoever reads it, never ignored.
"""

from enum import StrEnum


class Scope(StrEnum):
    """Every scope this node knows, spelled as it stands in a token request."""

    CONSENTS_WRITE = "consents:write"
    REFERRALS_WRITE = "referrals:write"
    REFERRALS_READ = "referrals:read"
    INBOX_READ = "inbox:read"
    INBOX_OPEN = "inbox:open"
    INBOX_DECIDE = "inbox:decide"
    CONTRACTS_READ = "contracts:read"
    FEDERATION = "federation"


#: What a client of the agency may be given. A peer is given `Scope.FEDERATION` and nothing else.
CLIENT_SCOPES = frozenset(Scope) - {Scope.FEDERATION}


class UnknownScopeError(ValueError):
    """The text is not a list of known scopes, each once and separated by one space. The text itself is not repeated."""


def parse_scopes(text: str) -> frozenset[Scope]:
    """The scopes a text lists; `UnknownScopeError` when it is empty, repeats itself or holds an unknown one."""
    words = text.split(" ")
    if len(set(words)) != len(words):
        raise UnknownScopeError("A scope is named twice.")
    try:
        return frozenset(Scope(word) for word in words)
    except ValueError:
        # `from None`: the message of the enum repeats what was submitted.
        raise UnknownScopeError("A scope is not known here.") from None


def format_scopes(scopes: frozenset[Scope]) -> str:
    """The one spelling of a set of scopes: sorted, separated by one space."""
    return " ".join(sorted(scopes))

"""The authorization server's description of itself (RFC 8414).

It says what this node accepts and names no key: peers take keys and addresses from the roster, never from here, and an
access token is read by nobody but the node that signed it.
"""

from collections.abc import Mapping
from typing import Any

from exchange.oauth.assertion import GRANT_TYPE
from exchange.oauth.flow import AUTH_METHOD
from exchange.oauth.scopes import Scope

METADATA_PATH = "/.well-known/oauth-authorization-server"
TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path, not a secret


def server_metadata(issuer: str) -> Mapping[str, Any]:
    """The document at `METADATA_PATH`."""
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}{TOKEN_PATH}",
        "grant_types_supported": [GRANT_TYPE],
        "response_types_supported": [],
        "scopes_supported": [scope.value for scope in Scope],
        "token_endpoint_auth_methods_supported": [AUTH_METHOD],
        "token_endpoint_auth_signing_alg_values_supported": ["Ed25519", "EdDSA", "ES256", "RS256"],
    }

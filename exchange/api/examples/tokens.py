"""The token endpoint. The tokens are cut short: nobody should think that one could be used."""

from __future__ import annotations

from typing import Any, Final

from exchange.oauth.metadata import server_metadata
from exchange.oauth.server import OAuthError

TOKEN_FORM: Final[dict[str, Any]] = {
    "grant_type": "client_credentials",
    "scope": "referrals:read referrals:write",
    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    "client_assertion": "eyJhbGciOiJFZDI1NTE5In0.eyJpc3MiOiJjYXNlLXN5c3RlbSJ9.c2lnbmF0dXJl",
}
TOKEN_ANSWER: Final[dict[str, Any]] = {
    "access_token": "eyJ0eXAiOiJhdCtqd3QifQ.eyJzdWIiOiJjYXNlLXN5c3RlbSJ9.c2lnbmF0dXJl",
    "token_type": "Bearer",
    "expires_in": 300,
    "scope": "referrals:read referrals:write",
}
TOKEN_REFUSAL: Final[dict[str, Any]] = dict(OAuthError("invalid_client", "example").body)
TOKEN_FORM_REFUSAL: Final[dict[str, Any]] = dict(OAuthError("invalid_scope", "example").body)
TOKEN_METADATA: Final[dict[str, Any]] = dict(server_metadata("https://helpline.example"))

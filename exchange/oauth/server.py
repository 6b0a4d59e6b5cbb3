"""The token endpoint without HTTP and without SQL: form pairs in, one of two answers out.

Rules:

* One grant (`client_credentials`) and one way to prove oneself (`private_key_jwt`, `exchange.oauth.client_proof`).
* A parameter that stands in the form twice is refused, and so is a second credential beside the assertion.
* A client names the scopes it needs; one scope too many refuses the whole request. A peer gets `federation` only.
* An unknown client, a revoked one and a bad signature look the same: `invalid_client`, 401, the same bytes.
* A token lives five minutes and is signed by a key of this node; it is stored nowhere. No refresh tokens.
* Before `TokenResponse.body` leaves, the caller stores `used_jti` with a unique insert, and answers `replayed()` where
  it is stored already.
* No answer repeats anything that was submitted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import OAuth2Error

from exchange.oauth.access_token import TOKEN_LIFETIME_S, AccessTokenSigner
from exchange.oauth.client_proof import UsedJti, unverified_subject
from exchange.oauth.clients import PeerClient, RegisteredClient
from exchange.oauth.flow import TokenFlow, TokenRequest, UnprovenClientError
from exchange.oauth.scopes import Scope

Form = Sequence[tuple[str, str]]

_NO_STORE: Mapping[str, str] = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_UNPROVEN = (
    "The client could not be authenticated. Compare your clock with the Date of this answer; why stands in the log of "
    "the node (token.refused)."
)
_ANSWERS: Mapping[str, tuple[int, str]] = {
    "invalid_request": (400, "Send grant_type, scope, client_assertion_type and client_assertion, each once."),
    "invalid_client": (401, _UNPROVEN),
    "invalid_scope": (400, "Ask for scopes this client is registered for, each once, separated by one space."),
    "unsupported_grant_type": (400, "The only grant type here is client_credentials."),
}


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A token, not yet to be sent: store `used_jti` first."""

    body: Mapping[str, Any] = field(repr=False)
    used_jti: UsedJti
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: dict(_NO_STORE))


@dataclass(frozen=True, slots=True)
class OAuthError:
    """An error answer of RFC 6749. `reason` is for this node's counters and stays inside."""

    code: str
    reason: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _ANSWERS[self.code][0]

    @property
    def body(self) -> Mapping[str, str]:
        """The JSON body."""
        return {"error": self.code, "error_description": _ANSWERS[self.code][1]}

    @property
    def headers(self) -> Mapping[str, str]:
        """No answer of this endpoint may be cached; a 401 names a challenge, as HTTP asks."""
        return {**_NO_STORE, "WWW-Authenticate": "Bearer"} if self.code == "invalid_client" else dict(_NO_STORE)


def replayed() -> OAuthError:
    """The answer when `used_jti` had been stored before. From outside it is any other failed authentication."""
    return OAuthError("invalid_client", "replayed")


def unverified_client_id(form: Form) -> str | None:
    """Who the request says it is from, so that the caller can look the client up. Nothing is proven by it."""
    assertions = [value for name, value in form if name == "client_assertion"]
    return unverified_subject(assertions[0]) if len(assertions) == 1 else None


def asks_as_peer(form: Form) -> bool:
    """Whether the request is for the scope that no client can have. Nothing is proven by it."""
    return [value for name, value in form if name == "scope"] == [Scope.FEDERATION]


class TokenServer:
    """Issues the access tokens of this node."""

    def __init__(self, issuer: str, signing_seed: bytes, *, lifetime_s: int = TOKEN_LIFETIME_S) -> None:
        """Take the node's public URL, without a slash at its end, and the 32-byte seed of its token key.

        Raises:
            ValueError: the issuer is neither https nor http on this machine, or ends in a slash.
        """
        address = urlsplit(issuer)
        # Authlib asks the same, but an environment variable of its own could switch that off.
        loopback = address.scheme == "http" and address.hostname in {"localhost", "127.0.0.1", "::1"}
        if not (address.scheme == "https" and address.hostname) and not loopback:
            raise ValueError("The issuer must be an https URL; http is for loopback only.")
        if issuer.endswith("/") or address.query or address.fragment:
            raise ValueError("The issuer has no slash at its end, no query and no fragment.")
        self._issuer = issuer
        self._signer = AccessTokenSigner(issuer, signing_seed, lifetime_s=lifetime_s)
        self._flow = TokenFlow(self._signer)

    @property
    def token_key(self) -> bytes:
        """The 32 public bytes that verify this server's tokens."""
        return self._signer.public_key

    def issue(
        self, form: Form, client: RegisteredClient | PeerClient | None, *, now: int
    ) -> TokenResponse | OAuthError:
        """Answer one token request.

        Args:
            form: every pair of the form body, repetitions included.
            client: what the caller found under `unverified_client_id(form)`, or `None`.
            now: Unix milliseconds.
        """
        names = [name for name, _ in form]
        if len(set(names)) != len(names):
            return OAuthError("invalid_request", "repeated-parameter")
        # RFC 6749 3.2: a parameter without a value counts as left out.
        parameters = {name: value for name, value in form if value}
        if "grant_type" not in parameters:
            return OAuthError("invalid_request", "invalid_request")
        request = TokenRequest(self._issuer, parameters, client, now=now)
        answer = self._flow.create_token_response(request)  # type: ignore[no-untyped-call]
        if isinstance(answer, OAuth2Error) or request.used_jti is None:
            return _error_answer(answer)
        return TokenResponse(body=answer, used_jti=request.used_jti)


def _error_answer(error: OAuth2Error) -> OAuthError:
    code = error.error if isinstance(error.error, str) and error.error in _ANSWERS else "invalid_request"
    return OAuthError(code, error.reason if isinstance(error, UnprovenClientError) else code.replace("_", "-"))

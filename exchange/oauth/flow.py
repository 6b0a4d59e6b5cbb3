"""Authlib's client credentials grant, cut down to the one way this node allows.

Rules:

* Only `private_key_jwt` proves a client; Authlib's own methods (a secret, Basic, none) are not among those asked.
* All of the scopes asked for, or no token.
* Nothing that was submitted and no token is logged or repeated.

What Authlib would do differently is overridden: it logs tokens at debug level, repeats the grant type in its error,
answers 400 to an unproven client, narrows a scope silently, signs without naming the algorithm and reads the clock.
"""

from typing import Any

from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError, InvalidScopeError
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator

from exchange.oauth.access_token import AccessTokenSigner
from exchange.oauth.assertion import ASSERTION_TYPE, GRANT_TYPE
from exchange.oauth.client_proof import AssertionRefusedError, UsedJti, check_assertion
from exchange.oauth.clients import PeerClient, RegisteredClient
from exchange.oauth.scopes import UnknownScopeError, format_scopes, parse_scopes

AUTH_METHOD = "private_key_jwt"
_OTHER_CREDENTIALS = frozenset({"client_secret", "assertion", "username", "password"})


class UnprovenClientError(InvalidClientError):
    """`invalid_client` with the reason this node counts."""

    def __init__(self, reason: str) -> None:
        """Keep the reason, and let Authlib say nothing more than the code."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.reason = reason


class TokenRequest(OAuth2Request):
    """One request with everything that was fetched before: Authlib is synchronous and fetches nothing here."""

    def __init__(
        self,
        issuer: str,
        parameters: dict[str, str],
        party: RegisteredClient | PeerClient | None,
        *,
        now: int,
    ) -> None:
        """Take the parameters, each once, and the client the caller found."""
        # The configured address, not the one of the connection: a proxy stands in front.
        super().__init__("POST", f"{issuer}/oauth/token")
        self.payload: Any = BasicOAuth2Payload(parameters)  # type: ignore[no-untyped-call]
        self.issuer = issuer
        self.parameters = parameters
        self.party = party
        self.now = now
        self.used_jti: UsedJti | None = None


class ProvenClient(ClientMixin):
    """A client that has proven itself, as Authlib sees one, with the moment of the proof."""

    def __init__(self, proven: RegisteredClient | PeerClient, now: int) -> None:
        """Only `prove_client` makes one."""
        self.proven = proven
        self.now = now

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """One method at one endpoint."""
        return method == AUTH_METHOD and endpoint == "token"

    def check_grant_type(self, grant_type: str) -> bool:
        """One grant."""
        return grant_type == GRANT_TYPE

    def get_allowed_scope(self, scope: str | None) -> str:
        """All of what was asked for, in its one spelling.

        Raises:
            InvalidScopeError: nothing was asked for, or more than this client may have.
        """
        try:
            wanted = parse_scopes(scope or "")
        except UnknownScopeError:
            raise InvalidScopeError from None
        if not wanted <= self.proven.scopes:
            raise InvalidScopeError
        return format_scopes(wanted)


def prove_client(_query_client: object, request: TokenRequest) -> ProvenClient:
    """The only client authentication method: `exchange.oauth.client_proof` on what the request carries.

    Raises:
        UnprovenClientError: the proof fails.
        InvalidRequestError: no assertion, or a second credential beside it.
    """
    parameters = request.parameters
    if _OTHER_CREDENTIALS & set(parameters) or "client_assertion" not in parameters:
        raise InvalidRequestError
    if parameters.get("client_assertion_type") != ASSERTION_TYPE:
        raise InvalidRequestError
    try:
        used = check_assertion(parameters["client_assertion"], request.party, issuer=request.issuer, now=request.now)
    except AssertionRefusedError as refused:
        raise UnprovenClientError(refused.reason) from None
    # RFC 7521 4.2: a client_id beside the assertion must be the same client.
    if request.party is None or parameters.get("client_id", used.client_id) != used.client_id:
        raise UnprovenClientError("subject")
    request.used_jti = used
    return ProvenClient(request.party, request.now)


class PrivateKeyJwtGrant(ClientCredentialsGrant):
    """The grant, allowing one method and logging nothing."""

    TOKEN_ENDPOINT_AUTH_METHODS = [AUTH_METHOD]  # noqa: RUF012 - the parent's attribute is a plain list

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        """The parent's answer without its debug line, which would write the token down."""
        payload: Any = self.request.payload
        token = self.generate_token(scope=payload.scope, include_refresh_token=False)  # type: ignore[no-untyped-call]
        return 200, token, []


class TokenFlow(AuthorizationServer):
    """Authlib's server with one grant, one method and one kind of token."""

    def __init__(self, signer: AccessTokenSigner) -> None:
        """Register what is allowed."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._signer = signer
        generator = BearerTokenGenerator(self._sign, expires_generator=lambda _client, _grant: signer.lifetime_s)  # type: ignore[no-untyped-call]
        self.register_client_auth_method(AUTH_METHOD, prove_client)  # type: ignore[no-untyped-call]
        self.register_grant(PrivateKeyJwtGrant)  # type: ignore[no-untyped-call]
        self.register_token_generator("default", generator)  # type: ignore[no-untyped-call]

    def _sign(self, client: ProvenClient, grant_type: str, user: object, scope: str) -> str:
        del grant_type, user
        return self._signer.make(client.proven, parse_scopes(scope), now=client.now)

    def create_oauth2_request(self, request: TokenRequest) -> TokenRequest:
        """The request is one already."""
        return request

    def send_signal(self, name: str, *_args: object, **_kwargs: object) -> None:
        """Nobody listens."""

    def handle_response(self, status: int, body: Any, headers: Any) -> Any:
        """A good answer is its body."""
        del status, headers
        return body

    def handle_error_response(self, request: TokenRequest, error: OAuth2Error) -> OAuth2Error:
        """An error is itself; the text Authlib would write, which may repeat what came in, is not used."""
        del request
        return error

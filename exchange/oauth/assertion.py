"""Making client assertions: how the SDK and the courier prove who they are (RFC 7523, private_key_jwt).

Rules:

* The audience is one string: the issuer of the server that is asked, from the roster or the configuration, never from
  that server's own metadata. An assertion stolen by one node is then worthless at every other.
* An assertion lives at most five minutes, carries a fresh random `jti`, and is typed `client-authentication+jwt`.
* The private key stays with its owner: this module sees a function that signs bytes.
"""

import secrets

from nacl.signing import SigningKey

from exchange.limits import LIMITS, SECOND_MS
from exchange.oauth.compact import Sign, write_compact

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CLIENT_AUTHENTICATION_TYP = "client-authentication+jwt"
GRANT_TYPE = "client_credentials"
MAXIMUM_ASSERTION_LIFETIME_S = LIMITS.assertion_longest_s
USUAL_ASSERTION_LIFETIME_S = 60
JTI_BYTES = 16


def sign_with_seed(seed: bytes) -> Sign:
    """A function that signs with the Ed25519 key of this 32-byte seed."""
    key = SigningKey(seed)
    return lambda message: bytes(key.sign(message).signature)


def make_assertion(
    client_id: str,
    audience: str,
    sign: Sign,
    *,
    now: int,
    lifetime_s: int = USUAL_ASSERTION_LIFETIME_S,
    kid: str | None = None,
) -> str:
    """One signed assertion of `client_id` for the server whose issuer is `audience`.

    Args:
        client_id: issuer and subject: the client's id, or the agency's id between nodes.
        audience: the issuer of the server that is asked.
        sign: signs with the Ed25519 private key and answers the 64 bytes.
        now: Unix milliseconds.
        lifetime_s: from 1 to 300 seconds.
        kid: the key id the server knows the key by, where it knows several.
    """
    if not 0 < lifetime_s <= MAXIMUM_ASSERTION_LIFETIME_S:
        raise ValueError("A client assertion lives between 1 and 300 seconds.")
    issued = now // SECOND_MS
    header = {"alg": "Ed25519", "typ": CLIENT_AUTHENTICATION_TYP} | ({"kid": kid} if kid is not None else {})
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": issued,
        "exp": issued + lifetime_s,
        "jti": secrets.token_hex(JTI_BYTES),
    }
    return write_compact(header, claims, sign)


def token_request(assertion: str, scopes: str) -> dict[str, str]:
    """The form body of a token request."""
    return {
        "grant_type": GRANT_TYPE,
        "scope": scopes,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }

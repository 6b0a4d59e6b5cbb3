"""Who may ask for a token, and the public keys that prove it.

Rules:

* A client of the agency proves itself with Ed25519, with ES256, or with RS256 and a key of at least 3072 bits. It may
  call the first EdDSA, which is what RFC 8037 called it and many libraries still do (RFC 9864).
* A peer proves itself with the Ed25519 node key that stands in the roster, and with nothing else.
* Only public keys come in. A private or symmetric key, another curve, or a short RSA key is refused when the client is
  registered and again each time it is read back, so a weak key in a database cannot be used.
* A client of the agency can never hold the scope `federation`.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from exchange.oauth.scopes import CLIENT_SCOPES, Scope

MINIMUM_RSA_BITS = 3072
MAXIMUM_RSA_BITS = 8192  # a longer modulus only costs the verifier time
MINIMUM_RSA_EXPONENT = 65537
MAXIMUM_KEYS = 4  # the current key, the next one, and room for a slow change-over
SEED_BYTES = 32

CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,63}")
"""Every agency id is of this form too."""
_AGENCY_ID = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")
_KEY_ID = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_KEY_TYPES: Mapping[str, type[OKPKey] | type[ECKey] | type[RSAKey]] = {"OKP": OKPKey, "EC": ECKey, "RSA": RSAKey}
_PUBLIC_MEMBERS = {"OKP": {"crv", "x"}, "EC": {"crv", "x", "y"}, "RSA": {"n", "e"}}
_DESCRIPTIVE_MEMBERS = {"kty", "use", "key_ops", "alg", "kid"}
_OLD_NAMES: Mapping[str, str] = {"EdDSA": "Ed25519"}


class ClientKeyError(ValueError):
    """A key or a client cannot be registered. The text says what to change and never repeats key material."""


@dataclass(frozen=True, slots=True)
class ClientKey:
    """One public key with the only signature algorithm it is accepted for."""

    algorithm: str
    key: Key = field(repr=False)
    kid: str | None = None
    ed25519: bytes | None = field(default=None, repr=False)
    """The 32 bytes of an Ed25519 key."""

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> Self:
        """Read one public JWK.

        Raises:
            ClientKeyError: the key is private, symmetric, too short, or for an algorithm not accepted here.
        """
        kind = jwk.get("kty")
        if not isinstance(kind, str) or kind not in _KEY_TYPES:
            raise ClientKeyError("A client key is an Ed25519, a P-256 or an RSA public key.")
        # An unlisted member is refused too: `d` and its companions are private, `x5u` and `jku` point elsewhere.
        if set(jwk) - _PUBLIC_MEMBERS[kind] - _DESCRIPTIVE_MEMBERS:
            raise ClientKeyError("Register the public key only: remove every private or remote member of the JWK.")
        kid = jwk.get("kid")
        if kid is not None and not (isinstance(kid, str) and _KEY_ID.fullmatch(kid)):
            raise ClientKeyError("A key id is 1 to 64 letters, digits, dots, dashes, tildes or underscores.")
        bare = {name: value for name, value in jwk.items() if name == "kty" or name in _PUBLIC_MEMBERS[kind]}
        algorithm, key = _import_public_key(kind, bare)
        if named_today(jwk.get("alg", algorithm)) != algorithm or jwk.get("use", "sig") != "sig":
            raise ClientKeyError(f"This key can only be registered for signatures with {algorithm}.")
        ed25519 = _base64url(bare["x"]) if kind == "OKP" else None
        return cls(algorithm=algorithm, key=key, kid=kid, ed25519=ed25519)

    @classmethod
    def from_ed25519(cls, public_key: bytes) -> Self:
        """The Ed25519 key of a peer, from its 32 bytes in the roster."""
        coordinate = base64.urlsafe_b64encode(public_key).rstrip(b"=").decode("ascii")
        return cls.from_jwk({"kty": "OKP", "crv": "Ed25519", "x": coordinate})


def named_today(algorithm: object) -> object:
    """A signature algorithm by the one name it has here; what is none stays as it is."""
    return _OLD_NAMES.get(algorithm, algorithm) if isinstance(algorithm, str) else algorithm


def _import_public_key(kind: str, bare: dict[str, Any]) -> tuple[str, Key]:
    """The algorithm a bare public JWK is accepted for, and the key."""
    if kind != "RSA" and bare.get("crv") != {"OKP": "Ed25519", "EC": "P-256"}[kind]:
        raise ClientKeyError("The curve of a client key is Ed25519 or P-256.")
    if kind == "RSA" and not _acceptable_rsa(bare):
        # Decided on the numbers themselves: joserfc only warns about a short modulus.
        raise ClientKeyError("An RSA client key has between 3072 and 8192 bits and an odd exponent from 65537 up.")
    try:
        key = _KEY_TYPES[kind].import_key(bare)
        key.get_op_key("verify")  # the point or number is built now, not at the first login
    except (JoseError, ValueError, TypeError, KeyError):
        raise ClientKeyError("The public key cannot be read.") from None
    return {"OKP": "Ed25519", "EC": "ES256", "RSA": "RS256"}[kind], key


def _acceptable_rsa(bare: Mapping[str, Any]) -> bool:
    """Whether modulus and exponent are long enough, and short enough to be verified cheaply."""
    try:
        modulus, exponent = (_base64url_integer(bare[name]) for name in ("n", "e"))
    except (KeyError, ValueError, TypeError, AttributeError):
        return False
    bits_fit = MINIMUM_RSA_BITS <= modulus.bit_length() <= MAXIMUM_RSA_BITS
    return bits_fit and exponent % 2 == 1 and MINIMUM_RSA_EXPONENT <= exponent < 2**32


def _base64url_integer(text: str) -> int:
    return int.from_bytes(_base64url(text), "big")


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """A system of this agency: what it may ask for, and the keys it signs with."""

    client_id: str
    keys: tuple[ClientKey, ...]
    scopes: frozenset[Scope]
    unit: str | None = None
    active: bool = True

    def __post_init__(self) -> None:
        """Refuse a client that could do more than a client of the agency may."""
        if not CLIENT_ID.fullmatch(self.client_id):
            raise ClientKeyError("A client id is 1 to 64 letters, digits, dots, dashes, tildes or underscores.")
        if not 1 <= len(self.keys) <= MAXIMUM_KEYS:
            raise ClientKeyError(f"A client has between one and {MAXIMUM_KEYS} keys.")
        if not self.scopes <= CLIENT_SCOPES:
            raise ClientKeyError("The scope 'federation' is for peers of the roster, never for a client.")

    def has_key(self, ed25519: bytes) -> bool:
        """Whether this Ed25519 key is one of its own."""
        return any(key.ed25519 == ed25519 for key in self.keys)

    @classmethod
    def from_jwks(
        cls,
        client_id: str,
        jwks: Mapping[str, Any],
        scopes: frozenset[Scope],
        *,
        unit: str | None = None,
        active: bool = True,
    ) -> Self:
        """Register or read back a client from its JSON Web Key Set.

        Raises:
            ClientKeyError: the set or one of its keys is not acceptable.
        """
        listed = jwks.get("keys")
        if set(jwks) != {"keys"} or not isinstance(listed, list) or not all(isinstance(key, dict) for key in listed):
            raise ClientKeyError("A JSON Web Key Set has the one member 'keys', a list of public keys.")
        keys = tuple(ClientKey.from_jwk(key) for key in listed)
        return cls(client_id=client_id, keys=keys, scopes=scopes, unit=unit, active=active)


@dataclass(frozen=True, slots=True)
class PeerClient:
    """Another agency's node, as the roster describes it. Its client id is its agency id."""

    agency: str
    node_key: bytes
    active: bool = True

    def __post_init__(self) -> None:
        """Refuse an entry that no roster could hold."""
        if not _AGENCY_ID.fullmatch(self.agency) or len(self.node_key) != SEED_BYTES:
            raise ClientKeyError("A peer has an agency id and a node key of 32 bytes.")

    @property
    def client_id(self) -> str:
        """The name a peer's assertions carry as issuer and subject."""
        return self.agency

    @property
    def keys(self) -> tuple[ClientKey, ...]:
        """The node key, and no other."""
        return (ClientKey.from_ed25519(self.node_key),)

    @property
    def scopes(self) -> frozenset[Scope]:
        """What every peer may ask for."""
        return frozenset({Scope.FEDERATION})

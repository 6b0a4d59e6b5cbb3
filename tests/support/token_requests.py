"""Makes client assertions and token requests, right ones and every wrong kind. All names and keys are synthetic."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc import jws
from joserfc.jwk import Key

from exchange.oauth.assertion import ASSERTION_TYPE, CLIENT_AUTHENTICATION_TYP

ISSUER = "https://node.shelter.example"
NOW = 1_795_000_000_000
NOW_S = NOW // 1000
CLIENT = "case-system"
PEER = "helpline-one"

Form = list[tuple[str, str]]


def jwks_of(*keys: Key) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def form_with(assertion: str, scope: str = "inbox:read", **more: str) -> Form:
    pairs = {
        "grant_type": "client_credentials",
        "scope": scope,
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    return list((pairs | more).items())


@dataclass
class Signer:
    """Makes assertions, right ones unless told otherwise."""

    name: str
    key: Key
    algorithm: str = "Ed25519"
    typ: str | None = CLIENT_AUTHENTICATION_TYP
    header: Mapping[str, Any] = field(default_factory=dict)

    def claims(self, **changed: Any) -> dict[str, Any]:
        right = {"iss": self.name, "sub": self.name, "aud": ISSUER, "iat": NOW_S, "exp": NOW_S + 60, "jti": "a" * 32}
        return {name: value for name, value in (right | changed).items() if value is not ...}

    def sign(self, **changed: Any) -> str:
        header = {"alg": self.algorithm, **self.header} | ({"typ": self.typ} if self.typ is not None else {})
        payload = json.dumps(self.claims(**changed))
        return jws.serialize_compact(header, payload, self.key, algorithms=[self.algorithm])

"""How to get in: the token endpoint, its metadata, the node card. Public, and quiet about why it refuses."""

from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from exchange.api.bodies import read_body, require_plain
from exchange.api.callers import one_header, within_rate
from exchange.api.examples import TOKEN_ANSWER, TOKEN_FORM, TOKEN_METADATA
from exchange.api.operations import Operation, operation
from exchange.api.refused import about_header
from exchange.api.rendering import JSON, revalidated, to_json
from exchange.api.serving import serving
from exchange.oauth.clients import PeerClient
from exchange.oauth.metadata import METADATA_PATH, TOKEN_PATH, server_metadata
from exchange.oauth.server import Form, OAuthError, TokenResponse, asks_as_peer, replayed, unverified_client_id
from exchange.schemas.node import NodeCard
from exchange.telemetry.logs import get_logger
from exchange.use_cases.authenticate import load_client, remember_jti
from exchange.use_cases.describe_node import node_card
from exchange.use_cases.errors import ConflictError

router = APIRouter(tags=["access"])

FORM = "application/x-www-form-urlencoded"
LARGEST_FORM = 16 * 1024
_MOST_PARAMETERS = 16
Revocations = Annotated[bool, Query(description="Whether the card carries revocations of weekly keys.")]
_STRING: dict[str, Any] = {"type": "string"}


@router.post(TOKEN_PATH)
@operation(
    Operation(
        described="A token. It lives five minutes; there are no refresh tokens.",
        problems=(
            "body-too-slow",
            "unsupported-media-type",
            "body-too-large",
            "too-many-requests",
            "storage-unavailable",
            "starting",
        ),
        media={
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["access_token", "token_type", "expires_in", "scope"],
                    "properties": {
                        "access_token": {**_STRING, "description": "Send it as `Authorization: Bearer`."},
                        "token_type": {"const": "Bearer", "description": "How the token is used."},
                        "expires_in": {"type": "integer", "description": "Seconds for which the token is good."},
                        "scope": {**_STRING, "description": "What the token is good for."},
                    },
                },
                "example": TOKEN_ANSWER,
            }
        },
        request_media={
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type", "scope", "client_assertion_type", "client_assertion"],
                    "properties": {
                        "grant_type": {"const": "client_credentials", "description": "The only grant type here."},
                        "scope": {**_STRING, "description": "The scopes needed, each once, separated by one space."},
                        "client_assertion_type": {
                            "const": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                            "description": "How the client proves itself (RFC 7523).",
                        },
                        "client_assertion": {
                            **_STRING,
                            "description": "A JWT signed with the client's key: `iss` and `sub` are the client id, "
                            "`aud` is this server's issuer as one string, `exp` is at most five minutes ahead by its "
                            "clock, `jti` is good once.",
                        },
                    },
                },
                "example": TOKEN_FORM,
            }
        },
    )
)
async def issue_token(request: Request) -> Response:
    """Get an access token.

    OAuth 2.0 client credentials with `private_key_jwt` (RFC 7523). An unknown client, a revoked one, a bad signature
    and a repeated assertion are answered alike. Errors of this endpoint have the form of RFC 6749.
    """
    served = serving(request)
    form = await _form(request)
    client_id = unverified_client_id(form)
    client = None
    if client_id is not None:
        client = await load_client(served.node, client_id, as_peer=asks_as_peer(form))
    now = served.node.clock()
    answer = served.node.token_server.issue(form, client, now=now)
    if isinstance(answer, TokenResponse):
        buckets = served.peers if isinstance(client, PeerClient) else served.clients
        await within_rate(served, buckets, answer.used_jti.client_id, now)
        try:
            await remember_jti(served.node, answer.used_jti, peer=isinstance(client, PeerClient))
        except ConflictError:
            answer = replayed()
    if isinstance(answer, OAuthError):
        # The caller hears that it failed; why is for whoever runs the node.
        served.node.measurements.refused(place="token", code=answer.reason)
        get_logger().info("token.refused", reason=answer.reason)
    return JSONResponse(dict(answer.body), status_code=answer.status, headers=dict(answer.headers))


async def _form(request: Request) -> Form:
    """Every pair of the form, repetitions included; a form that cannot be read is an empty one."""
    media_type = (one_header(request, "content-type") or "").split(";")[0].strip().lower()
    require_plain(request)
    if media_type != FORM:
        raise about_header("unsupported-media-type", "Content-Type")
    raw = await read_body(request, LARGEST_FORM)
    try:
        return parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        return ()


@router.get(METADATA_PATH)
@operation(
    Operation(
        described="The metadata.",
        revalidated=True,
        problems=("starting",),
        media={
            JSON: {
                "schema": {
                    "type": "object",
                    "description": "Authorization server metadata (RFC 8414).",
                    "additionalProperties": True,
                },
                "example": TOKEN_METADATA,
            }
        },
    )
)
async def get_authorization_server_metadata(request: Request) -> Response:
    """Read the token endpoint's metadata.

    What this authorization server accepts (RFC 8414). It names no key: peers take keys and addresses from the roster.
    """
    return revalidated(request, to_json(server_metadata(serving(request).node.issuer)))


@router.get("/.well-known/referral-node")
@operation(Operation(NodeCard, "The node card.", revalidated=True, problems=("starting", "not-a-member")))
async def get_node_card(request: Request, revocations: Revocations = False) -> Response:
    """Read the node card.

    For whom this node speaks, and the keys of the coming weeks, signed. Trust comes from the roster, never from this
    card. Revocations of weekly keys are on it where they are asked for.
    """
    card = await node_card(serving(request).node, revocations=revocations)
    return revalidated(request, card.model_dump_json(exclude_none=True).encode())

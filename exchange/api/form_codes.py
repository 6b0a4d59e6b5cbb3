"""The codes of the HTTP layer itself. Each entry says what to do."""

from __future__ import annotations

from typing import Final

from exchange.api.catalogue import Entry
from exchange.schemas.problems import Who

_SENDER, _NODE = Who.SENDER, Who.NODE

FORM: Final = (
    Entry(
        "not-json",
        400,
        _SENDER,
        "The body is not a JSON object",
        "Send one JSON object, in UTF-8 without a byte order mark, not deeply nested.",
    ),
    Entry(
        "repeated-member",
        400,
        _SENDER,
        "A member stands twice",
        "Send every member of every object once: two readers would understand the repetition differently.",
    ),
    Entry(
        "null-member",
        400,
        _SENDER,
        "A member is null",
        "Leave a member without a value out: absence has one spelling here.",
    ),
    Entry(
        "header-missing",
        400,
        _SENDER,
        "A required header is missing",
        "Actor names the worker by a pseudonymous id, on every write and every open. Idempotency-Key is required "
        "wherever something is created.",
    ),
    Entry(
        "header-invalid",
        400,
        _SENDER,
        "A header is not written in the form expected",
        "Actor and Unit are 1 to 64 letters, digits, dots, dashes or underscores. Idempotency-Key is 1 to 128 visible "
        "characters.",
    ),
    Entry(
        "unreadable-request",
        400,
        _SENDER,
        "Where this request ends is not certain",
        "Send plain HTTP/1.1: no Upgrade and no CONNECT, one length, lines that end in CR and LF. An HTTP library that "
        "offers HTTP/2 over plain http has to be told to use HTTP/1.1. The connection is closed.",
    ),
    Entry("header-repeated", 400, _SENDER, "A header stands twice", "Send the header once."),
    Entry(
        "invalid-credentials",
        400,
        _SENDER,
        "The Authorization header cannot be read",
        "Send the word Bearer, one space and one access token.",
    ),
    Entry(
        "token-missing",
        401,
        _SENDER,
        "An access token is needed",
        "Ask /oauth/token for one and send it: Authorization: Bearer <token>.",
    ),
    Entry(
        "token-invalid",
        401,
        _SENDER,
        "The access token is not accepted",
        "It is expired, revoked or not of this node. Ask for a new one: it lives five minutes, in a sandbox an hour. "
        "If that is refused, ask whoever runs the node.",
    ),
    Entry(
        "insufficient-scope",
        403,
        _SENDER,
        "The access token is good for something else",
        "Ask for a token with the scope that is named here. Whoever runs the node registers a client for it.",
    ),
    Entry(
        "unit-not-yours",
        403,
        _SENDER,
        "This client belongs to another branch",
        "Leave the header Unit out, or send the branch that your client is registered for.",
    ),
    Entry(
        "not-found",
        404,
        _SENDER,
        "There is nothing here",
        "Check the address and the id. What you may not see looks the same as what does not exist.",
    ),
    Entry(
        "method-not-allowed",
        405,
        _SENDER,
        "This address does not take this method",
        "The header Allow lists the methods that it takes.",
    ),
    Entry(
        "body-too-slow",
        408,
        _SENDER,
        "The body took too long",
        "Send it again, in smaller parts where the request can be divided. Nothing of it was stored.",
    ),
    Entry("body-too-large", 413, _SENDER, "The body is too large", "Send less in one request."),
    Entry(
        "unsupported-media-type",
        415,
        _SENDER,
        "The body has another content type than the one expected",
        "Send Content-Type: application/json, in UTF-8. The token endpoint takes application/x-www-form-urlencoded.",
    ),
    Entry(
        "invalid-request",
        422,
        _SENDER,
        "The request cannot be understood",
        "Each entry of `fields` names a place and what is wrong there.",
    ),
    Entry(
        "too-many-requests",
        429,
        _SENDER,
        "Too many requests",
        "Wait as long as the header Retry-After says. Use one long poll instead of many short ones.",
    ),
    Entry(
        "internal-error",
        500,
        _NODE,
        "Something went wrong in this node",
        "Nothing about the request was at fault. Send it again with the same Idempotency-Key; if it fails again, ask "
        "whoever runs the node.",
    ),
    Entry("starting", 503, _NODE, "The node is starting or stopping", "Send the request again.", 2),
    # Another roster is made by people: who works with the node is told at once, and a peer asks by its own schedule.
    Entry(
        "not-a-member",
        503,
        _NODE,
        "The roster of this node does not list its agency",
        "It has left the federation, or somebody has installed a roster without it. Whoever runs the node has to have "
        "the agency listed, or to install the roster that lists it. Nothing was stored; send it again later.",
        120,
    ),
    Entry(
        "storage-unavailable",
        503,
        _NODE,
        "The database does not answer at the moment",
        "Nothing was lost. Send the request again with the same Idempotency-Key.",
        5,
    ),
    Entry(
        "storage-commit-failed",
        503,
        _NODE,
        "Whether the request was stored is not known",
        "Send it again with the same Idempotency-Key: if it was stored, you get the first answer.",
        5,
    ),
)
"""What the HTTP layer refuses by itself."""

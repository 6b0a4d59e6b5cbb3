"""RFC 9457 problem documents."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict

from exchange.schemas.shapes import Strict


class Who(StrEnum):
    """Who has to act before it can work.

    `sender`: whoever sent the request that is refused. `node`: whoever runs the node that was asked. `peer`: the other
    agency.
    """

    SENDER = "sender"
    NODE = "node"
    PEER = "peer"


class ProblemField(Strict):
    """One place in the request that was refused; never its value."""

    path: str
    """JSON path of the member, for example `content.needs`."""
    code: str
    """Stable code, for example `unknown-term`."""
    sentence: str
    """What is wrong, in plain English."""


class Problem(Strict):
    """A refusal that says who must do what. Nothing was changed and nothing was lost."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "https://referral-exchange.example/problems#never",
                    "title": "This field never goes to this kind of agency",
                    "status": 403,
                    "code": "never",
                    "who": "sender",
                    "detail": "The contract forbids this field to a labour-office. Send the referral without it.",
                    "fields": [
                        {
                            "path": "content.immigration_status",
                            "code": "never",
                            "sentence": "immigration_status never goes to a labour-office.",
                        }
                    ],
                }
            ]
        }
    )

    type: str
    """A stable URI with a page in the documentation."""
    title: str
    """What kind of refusal this is; the same for every problem of this type."""
    status: int
    """The HTTP status."""
    code: str
    """The last part of `type`, for programs."""
    who: Who
    detail: str
    """What to do, in plain English; never a submitted value."""
    fields: tuple[ProblemField, ...] = ()
    """The places in the request that were refused."""
    retry_after: int | None = None
    """Seconds after which the same request may succeed."""

"""The shapes that every request and response is made of: identifiers, timestamps, the strict base model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

ID_PATTERN: Final = r"^[0-9a-f]{32}$"
AGENCY_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{1,62}$"
DIGEST_PATTERN: Final = r"^[0-9a-f]{64}$"

HexId = Annotated[
    str,
    Field(pattern=ID_PATTERN, description="An id: 32 lower-case hexadecimal characters."),
]
AgencyId = Annotated[
    str,
    Field(pattern=AGENCY_PATTERN, description="The id of an agency in the federation's roster."),
]
Digest = Annotated[str, Field(pattern=DIGEST_PATTERN, description="A SHA-256 digest in lower-case hexadecimal.")]


def _rfc3339(at: datetime) -> str:
    # `isoformat` asks the time for its offset, which is known, and takes twice as long.
    utc = at.astimezone(UTC)
    seconds = utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second
    return "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ" % (*seconds, utc.microsecond // 1000)  # noqa: UP031 - f-string: slower


Timestamp = Annotated[
    AwareDatetime,
    PlainSerializer(_rfc3339, return_type=str, when_used="json"),
    Field(
        description="RFC 3339, always with an offset; answers are in UTC.", json_schema_extra={"format": "date-time"}
    ),
]


class Strict(BaseModel):
    """A request or response: unknown members are refused, values never change after reading.

    What has a default is written all the same, so that the documents require it of an answer. Only what may have no
    value is ever left out.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        json_schema_serialization_defaults_required=True,
    )


def from_millis(at: int) -> datetime:
    """The UTC time of an integer Unix millisecond."""
    return datetime.fromtimestamp(at / 1000, UTC)


def to_millis(at: datetime) -> int:
    """The integer Unix millisecond of an aware time."""
    return round(at.timestamp() * 1000)


def written(answer: BaseModel) -> bytes:
    """An answer as it is sent. Absent members are left out; nothing is ever null."""
    return answer.model_dump_json(exclude_none=True, by_alias=True).encode()

"""docs/problems.md, written from the table of problem codes: one anchor for each code."""

from __future__ import annotations

from typing import Final

from exchange.api.codes import ENTRIES
from exchange.schemas.problems import Who

_ACTS: Final = {
    Who.SENDER: "whoever sent the request",
    Who.NODE: "whoever runs this node",
    Who.PEER: "the other agency's node",
}
_HEAD: Final = """# Problems

Every refusal of the API is a problem document (RFC 9457, `application/problem+json`). The last part of its `type` is
one of the codes below; `status`, `title` and `who` are fixed for a code, unless the refusal says otherwise itself;
`detail` says what to do. `fields` names places in the request, and what is wrong there, by codes of their own.

A problem never repeats what was submitted: no value, no invented name, no part of an address. What a caller may not see
looks the same as what does not exist. Codes are stable: a program may decide by them.

The codes with which a node refuses one envelope of a batch stand in the protocol (section 15). The token endpoint
answers as OAuth 2.0 does (RFC 6749, section 5.2).

This page is generated from the code by `exchange openapi`.
"""


def problem_page() -> str:
    """The page."""
    parts = [_HEAD]
    for code in sorted(ENTRIES):
        entry = ENTRIES[code]
        parts.append(f"## {code}\n\n**{entry.title}.** Status {entry.status}; to act: {_ACTS[entry.who]}.\n")
        parts.append(f"{entry.advice}\n")
    return "\n".join(parts)

"""How much goes to a peer in one request, by what the line to it has carried. Pure: sizes and seconds are arguments.

Rules:

1. A line that nobody knows yet begins with `batch_first_bytes`.
2. After an answer it is trusted with as much as it would have carried, at the speed just seen, in `AIM_S`: a good line
   gets full batches after one answer, a bad one batches that end well before their time is up.
3. An answer within `AIM_S` never makes batches smaller: a small one says nothing about a large one.
4. What was not answered was too much: a quarter of it comes next. One envelope always goes, whatever its size.
5. Where answers come within `NEAR_S`, another request costs nothing, and a batch is a few envelopes: the peer stores
   and opens the first ones while the next are made. With full batches each side waits for the other one in turn.
   While batches come out as large as that, more is waiting, and full ones take less of everybody's time.
6. Whether a batch may go is looked at right before: on a line that takes longer than `LOOK_HOLDS_S` to be there, or
   when this process stood still meanwhile, again.
7. A request has `exchange_s` seconds. What cannot be made smaller than one envelope gets more of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exchange.limits import KIB, LIMITS, Limits
from exchange.use_cases.passed_over import Turns

AIM_S: Final = 15.0
NEAR_S: Final = 0.25
NEAR_ENVELOPES: Final = 24
EXCHANGE_S: Final = 45.0
"""For one request and its whole answer, also where a peer sends a byte at a time."""
LOOK_HOLDS_S: Final = 3.0
"""How long before a batch leaves it may have been looked at: she may have said no since. Token and connection are made
in less on most lines; a database that takes longer to answer than this cannot say anything that still holds."""
_SLOWEST_BYTES_A_S: Final = KIB
"""What is waited for with a large envelope: 32 kbit/s where every tenth packet is lost carry little more."""
_QUICKEST_S: Final = 0.001


class Line:
    """What the way to one peer is trusted with: `carries` bytes and `envelopes` in one batch."""

    def __init__(
        self, carries: int | None, limits: Limits = LIMITS, *, before: Mapping[str, str | None] | None = None
    ) -> None:
        """Go on from what is known; nothing for a line that was never used. `before` as in `Turns`."""
        self._limits = limits
        self.carries = limits.batch_first_bytes if carries is None else carries
        self.envelopes = limits.batch_envelopes
        self.used = False
        """Whether an answer has come over it since it was taken up."""
        self.turns = Turns(before)
        """What of the queue goes over it, and what was passed over, since then."""

    def answered(self, sent: int, took_s: float, envelopes: int) -> None:
        """A request of so many bytes, which held so many envelopes, was answered after so many seconds."""
        self.used = True
        would_carry = int(sent * AIM_S / max(took_s, _QUICKEST_S))
        trusted = would_carry if took_s > AIM_S else max(self.carries, would_carry)
        self.carries = min(trusted, self._limits.batch_bytes)
        most = self._limits.batch_envelopes
        few = took_s <= NEAR_S and envelopes < NEAR_ENVELOPES
        self.envelopes = min(NEAR_ENVELOPES, most) if few else most

    def failed(self, sent: int) -> None:
        """A request of so many bytes got no answer."""
        self.carries = min(self.carries, max(sent // 4, 1))


def exchange_s(sent: int) -> float:
    """How many seconds a request of so many bytes, and its answer, may take."""
    over = min(sent, LIMITS.envelope_bytes) - LIMITS.batch_first_bytes
    return EXCHANGE_S + max(0, over) / _SLOWEST_BYTES_A_S

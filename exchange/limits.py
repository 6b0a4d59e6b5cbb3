"""Every constant of the protocol in one place, each with its unit.

Rules:

* Names end in their unit: `_ms` milliseconds, `_s` seconds, `_bytes` bytes; the rest are counts or factors.
* What both ends of a wire must agree on (sizes, lifetimes, buckets) is part of the protocol: changing it makes another
  protocol. It is a field here so that code names it, not so that an operator tunes it.
* The rest are defaults that an operator may tighten. `settings.py` reads them; nothing else holds such a literal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
WEEK_MS: Final = 7 * DAY_MS
KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class RetryBand:
    """One band of the courier's schedule: until this long after the first failure, wait this long between tries."""

    until_ms: int | None
    """Age of the failure at which the next band starts; nothing in the last band."""
    every_ms: int
    """Wait between two tries, before jitter."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The constants of docs/protocol.md, section Constants."""

    # Sizes. Part of the protocol.
    padding_bytes: tuple[int, ...] = (4096, 16384, 65536)
    """Lengths to which content is padded: the smallest that is strictly greater than the content."""
    wire_bytes: tuple[int, ...] = (8704, 25088, 90624)
    """What an envelope of each of these lengths takes in a batch, filled with spaces: whatever its kind, as long as its
    header says what this version can say."""
    answer_bytes: int = KIB
    """What the answer to each envelope takes, filled with spaces."""
    consent_status_bytes: int = 640
    """What an answer about consents takes, filled with spaces, beside `receipt_status_bytes` for each receipt that was
    asked about."""
    receipt_status_bytes: int = 67
    """What the longest word about one receipt takes there."""
    header_bytes: int = 4 * KIB
    """The largest header, as signed bytes."""
    statement_bytes: int = 4 * KIB
    """The largest signed statement, release statement included."""
    envelope_bytes: int = 128 * KIB
    """The largest envelope, as JSON."""
    batch_envelopes: int = 50
    """The most envelopes in one batch."""
    batch_bytes: int = 4 * KIB * KIB
    """The largest batch; batches are filled by bytes."""
    batch_first_bytes: int = 32 * KIB
    """The first batch on a line that was never used; `use_cases.line` says what follows, up to `batch_bytes`."""
    events_own: int = 100
    """After so many events a side takes no more words that may alternate without end: fifty tries to reach her."""
    events_received: int = 256
    """The most events of the other side that are recorded; stops that were not said yet beside them."""
    groups: int = 16
    """The most field groups in a header or a receipt; the vocabulary has fewer."""

    # Time on the wire. Part of the protocol.
    skew_ms: int = 2 * MINUTE_MS
    """How far two clocks may differ."""
    offer_after_respond_by_ms: int = DAY_MS
    """An offer expires exactly this long after its respond_by, and so does the referral without a decision."""
    sealed_expires_ms: int = 14 * DAY_MS
    """The longest life of any forward or answer."""
    answer_expires_ms: int = 14 * DAY_MS
    """The life that an answer is given."""
    stop_expires_ms: int = 400 * DAY_MS
    """The life of a stop, exactly: longer than any receiver's retention."""
    released_within_ms: int = 14 * DAY_MS
    """A disclosure is accepted for this long after its release."""
    contact_plan_fresh_ms: int = 72 * HOUR_MS
    """A safe-contact plan older than this means: do not contact. Bounds a disclosure's expires."""

    # Keys. Part of the protocol.
    epoch_ms: int = WEEK_MS
    """An epoch key is used for one week, Monday 00:00 UTC to Monday 00:00 UTC."""
    epochs_ahead: int = 5
    """Weeks published before they begin."""
    epochs_ahead_read: int = 52
    """A week that begins later than this many weeks from now is neither published nor kept of a peer: nobody has reason
    to name it, and it would stay for ever. Far more than is published ahead: clocks may be wrong by months."""
    epoch_grace_ms: int = 21 * DAY_MS
    """The private half is destroyed this long after its week: 14 days to deliver and 7 days to release."""
    epoch_release_ms: int = 7 * DAY_MS
    """A held disclosure expires at the latest this long after the week of the key it is sealed to."""

    hand_in_within_ms: int = 10 * MINUTE_MS
    """An envelope that the agency seals itself is handed in this soon: its times and its consent are of this moment."""

    # The receiver's memory.
    dedupe_at_least_ms: int = 30 * DAY_MS
    """An answer is remembered until the envelope's expires + skew, and at least this long."""
    tombstone_ms: int = 730 * DAY_MS
    """How long a tombstone (ids, sector, states, times, contract digest) outlives what it stands for."""

    # Consent.
    consent_fresh_ms: int = HOUR_MS
    """The last word on a consent is asked for again at an open when it is older than this."""
    consent_shown_with_age_ms: int = 72 * HOUR_MS
    """Where the sender cannot be reached an item still opens until the last word is this old, with its age shown."""
    consent_ask_again_ms: int = MINUTE_MS
    """A peer that did not answer about consents is not asked again before."""
    consent_status_ids: int = 200
    """The most receipt ids in one consent-status question."""

    # Delivery.
    retry: tuple[RetryBand, ...] = (
        RetryBand(until_ms=1 * SECOND_MS, every_ms=1 * SECOND_MS),
        RetryBand(until_ms=3 * SECOND_MS, every_ms=2 * SECOND_MS),
        RetryBand(until_ms=10 * MINUTE_MS, every_ms=3 * SECOND_MS),
        RetryBand(until_ms=HOUR_MS, every_ms=MINUTE_MS),
        RetryBand(until_ms=DAY_MS, every_ms=10 * MINUTE_MS),
        RetryBand(until_ms=None, every_ms=HOUR_MS),
    )
    """Per peer; any inbound contact of that peer makes it due at once."""
    retry_jitter: tuple[float, float] = (0.8, 1.4)
    """Each wait is multiplied by a factor drawn from this range."""
    unserved_untold_ms: int = 30 * DAY_MS
    """A name whose receiver may not tell that it serves (`feedback: decision`) counts so long as unserved."""

    # The client API.
    lease_default_s: int = 60
    """How long a poller holds an inbox item unless it says otherwise."""
    lease_shortest_s: int = 10
    lease_longest_s: int = 600
    page_items: int = 100
    """The largest `limit` of a list."""
    open_items: int = 50
    """The most inbox items opened in one call."""
    wait_longest_s: int = 25
    """The longest long-poll."""
    idempotency_ms: int = DAY_MS
    """The keyed digest of a request body is kept this long for its Idempotency-Key; the body never."""
    token_s: int = 300
    """The life of an access token."""
    assertion_longest_s: int = 300
    """The longest life of a client assertion; its jti is accepted once."""
    client_requests_per_minute: int = 3000
    """Requests of one client before 429."""
    peer_requests_per_minute: int = 3000
    """Requests of one peer before 429."""
    peer_bytes_per_minute: int = 8 * 1024 * 1024
    """Bytes of envelopes of one peer before 429: a thousand small ones at once, twenty a second after that."""
    small_request_bytes: int = 32 * KIB
    """A request of a peer of at most this size is still taken when its bytes are used up, from a reserve: her no must
    not wait behind bulk."""
    peer_reserve_share: int = 32
    """That reserve is this part of a peer's bytes a minute: 256 KiB, thirty stops."""
    arriving_bytes: int = 8 * KIB * KIB
    """Bytes of one caller's bodies that are on their way at once before 429: room for a full batch whose line is dead
    and that is still waited for, and for what a courier tries after it."""

    # People.
    code_withdrawal_contest_ms: int = DAY_MS
    """A withdrawal by code or by another member destroys after this long unless the recording agency contests."""

    def retry_after_ms(self, failing_for_ms: int) -> int:
        """How long to wait, before jitter, when a peer has been failing for this long."""
        for band in self.retry:
            if band.until_ms is None or failing_for_ms < band.until_ms:
                return band.every_ms
        return self.retry[-1].every_ms


LIMITS: Final = Limits()
"""The protocol's own values."""

"""The table of lies: what a member with valid keys can send that is not so, by the step that must refuse it.

Numbers are those of docs/protocol.md, section 10. Each forged envelope holds at every other step, so that exactly the
named one refuses.

Not in the table, because no envelope can bring them about from outside:

* 4 is no refusal: a repeat gets the first answer again. 18 and 19 refuse nothing either: a lost answer is tested beside
  the table, a failed commit in tests/durability/test_failing_commit.py.
* 7 `unknown-sender`, `synthetic-mixed` and `not-in-good-standing`, and 10 `contract-not-in-force`: they depend on the
  roster, and are tested with other rosters beside the table. A sender that is in no roster gets no token either, so a
  node never says `unknown-sender`; the agency's own software does (test_a_node_that_lets_lies_through.py).
* 9 `not-released`: what has no release statement is refused at 2 already.
* 13 to 17 at a node without keys: its client does them, and refuses by an envelope (tests of the takeover).
* 17 codes of the contract other than `over-shared` and `basis-differs`: step 12 has asked the same contract before.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from support.forgeries import (
    LOW_ORDER,
    Forge,
    Scene,
    aged,
    ahead,
    another_routing_inside,
    another_time_inside,
    cared_for,
    changed_ciphertext,
    ended_consent,
    ended_on_its_way,
    field_of_nothing,
    forge_answer,
    forge_consent,
    forge_disclosure,
    forge_member,
    forge_padded,
    forge_raw,
    forge_update,
    forge_wrapped,
    header_bytes,
    held_since,
    more_than_s,
    of_age,
    others_content,
    release_about_another,
    release_by_the_agency_key,
    release_of_another_key,
    release_of_another_kind,
    reply,
    with_release,
    wrapped_wrongly,
)
from support.refusals import CANARY, Refusal
from support.replacing import replace

from contracts.canonical_json import canonical
from contracts.vocabulary import Basis
from exchange.demo.federation import SHELTER
from exchange.envelope.keys import Dek
from exchange.envelope.kinds import Kind
from exchange.envelope.seal import wrap_dek
from exchange.envelope.wire import to_base64url
from exchange.limits import DAY_MS, HOUR_MS


@dataclass(frozen=True, slots=True)
class Lie:
    """One line of the table."""

    name: str
    refusal: Refusal
    forge: Forge

    @property
    def id(self) -> str:
        """As pytest names it."""
        return f"{self.refusal.step}-{self.name}"


def _lie(step: int, name: str, code: str, forge: Forge) -> Lie:
    return Lie(name, Refusal(step, code), forge)


def _later(step: int, name: str, code: str, forge: Forge) -> Lie:
    return Lie(name, Refusal(step, code, later=True), forge)


NEWER: Final = 2**53 - 1
"""Of a roster: no member can be caught saying that it has this one, and what it says so for is put off, not taken."""

SPELLING = [
    _lie(1, "part-too-large", "too-large", lambda s: forge_member(s, "ciphertext", lambda _: "A" * 100_000)),
    _lie(1, "header-too-large", "too-large", lambda s: forge_raw(s, note="a" * 5000)),
    _lie(2, "unknown-member", "malformed", lambda s: s.liar.forward().to_json() | {CANARY: "x"}),
    _lie(2, "members-missing", "malformed", lambda _: {"header": CANARY}),
    _lie(2, "padded-base64", "malformed", lambda s: forge_member(s, "signature", lambda text: text[:-2] + "==")),
    _lie(2, "other-base64-alphabet", "malformed", lambda s: forge_member(s, "signature", lambda text: "+/" + text[2:])),
    _lie(
        2,
        "line-break-in-base64",
        "malformed",
        lambda s: forge_member(s, "header", lambda text: text[:4] + "\n" + text[4:]),
    ),
    _lie(2, "number-for-text", "malformed", lambda s: forge_member(s, "wrapped_key", lambda _: 7)),
    _lie(2, "list-for-text", "malformed", lambda s: forge_member(s, "header", lambda text: [text])),
    _lie(2, "cut-ciphertext", "malformed", lambda s: forge_member(s, "ciphertext", lambda text: text[:-4])),
    _lie(2, "cut-header", "malformed", lambda s: header_bytes(s, lambda raw: raw[: len(raw) // 2])),
    _lie(2, "doubled-header-member", "malformed", lambda s: header_bytes(s, lambda raw: b'{"a":1,"a":1,' + raw[1:])),
    _lie(2, "same-member-twice", "malformed", lambda s: header_bytes(s, lambda raw: raw[:-1] + b',"vocabulary":1}')),
    _lie(2, "header-in-utf-16", "malformed", lambda s: header_bytes(s, lambda raw: raw.decode().encode("utf-16"))),
    _lie(2, "header-with-byte-order-mark", "malformed", lambda s: header_bytes(s, lambda raw: b"\xef\xbb\xbf" + raw)),
    _lie(2, "header-not-utf-8", "malformed", lambda s: header_bytes(s, lambda raw: raw.replace(b"rx1", b"\xff\xfe1"))),
    _lie(2, "header-with-space", "malformed", lambda s: header_bytes(s, lambda raw: raw.replace(b":", b": ", 1))),
    _lie(2, "unknown-header-member", "malformed", lambda s: forge_raw(s, note=CANARY)),
    _lie(2, "null", "malformed", lambda s: forge_raw(s, in_reply_to=None)),
    _lie(2, "fraction", "malformed", lambda s: forge_raw(s, created=1.5)),
    _lie(2, "number-beyond-2-53", "malformed", lambda s: forge_raw(s, created=2**53)),
    _lie(2, "deep-header", "malformed", lambda s: header_bytes(s, lambda _: b'{"a":' + b"[" * 4000)),
    _lie(2, "disclosure-without-release", "malformed", lambda s: forge_disclosure(s, s.accepted)),
    _lie(2, "release-with-an-offer", "malformed", lambda s: replace(s.liar.forward(), release=b"{}")),
    _lie(5, "suite", "unknown-suite", lambda s: forge_raw(s, suite="rx0")),
    _lie(5, "vocabulary", "unknown-vocabulary", lambda s: forge_raw(s, vocabulary=99)),
]
SENDER = [
    _lie(3, "to-somebody-else", "wrong-recipient", lambda s: s.liar.forward(recipient="another-house")),
    _lie(3, "from-somebody-else", "wrong-recipient", lambda s: s.other.forward()),
    _lie(3, "anothers-envelope-replayed", "wrong-recipient", lambda s: s.others_offer),
    _lie(3, "anothers-envelope-signed-anew", "wrong-recipient", lambda s: s.liar.signed(s.others_offer)),
    _later(6, "from-the-future", "from-the-future", lambda s: aged(s, HOUR_MS, 2 * HOUR_MS)),
    _lie(6, "expired", "expired", lambda s: aged(s, -2 * DAY_MS, -26 * HOUR_MS)),
    _lie(6, "released-after-its-end", "release-too-late", lambda s: held_since(s, 2, 1)),
    _lie(
        6,
        "delivered-too-late",
        "expired",
        lambda s: held_since(s, 16, 14, released_at=s.liar.now() - 15 * DAY_MS),
    ),
    _later(6, "released-in-the-future", "from-the-future", lambda s: with_release(s, s.accepted, released_at=ahead(s))),
    _later(7, "unknown-key", "unknown-key", lambda s: s.liar.forward(signing_key="ab" * 16)),
    _later(
        7,
        "key-of-the-other-kind",
        "unknown-key",
        lambda s: s.liar.forward(signing_key=s.liar.liar.node.node_key.key_id),
    ),
    _later(7, "anothers-key", "unknown-key", lambda s: s.liar.forward(signing_key=s.other.agency_key.key_id)),
    _lie(8, "no-signature", "bad-signature", lambda s: replace(s.liar.forward(), signature=bytes(64))),
    _lie(8, "low-order-signature", "bad-signature", lambda s: replace(s.liar.forward(), signature=b"\x01" + bytes(63))),
    _lie(8, "signature-not-reduced", "bad-signature", more_than_s),
    _lie(8, "signed-by-another", "bad-signature", lambda s: replace(s.other.signed(s.liar.forward()), release=None)),
    _lie(8, "wrapped-key-exchanged", "bad-signature", lambda s: replace(s.liar.forward(), wrapped_key=bytes(80))),
    _lie(
        8,
        "ciphertext-exchanged",
        "bad-signature",
        lambda s: replace(s.liar.forward(), ciphertext=s.others_offer.ciphertext),
    ),
    _lie(8, "same-id-other-digest", "id-conflict", lambda s: s.liar.forward(id=reply(s))),
]
REFERRAL = [
    _lie(9, "second-offer", "not-legal", lambda s: s.liar.forward(referral=s.open)),
    _lie(9, "offer-after-her-no", "withdrawn", lambda s: s.liar.forward(referral=s.stopped)),
    _lie(9, "offer-behind-her-no", "withdrawn", lambda s: s.liar.forward(referral=s.never_offered["withdrawal"])),
    _lie(9, "offer-behind-its-recall", "not-legal", lambda s: s.liar.forward(referral=s.never_offered["recall"])),
    _lie(9, "offer-behind-error", "not-legal", lambda s: s.liar.forward(referral=s.never_offered["entered-in-error"])),
    _later(9, "disclosure-without-offer", "unknown-referral", lambda s: with_release(s, secrets.token_hex(16))),
    _later(9, "forward-about-anothers-referral", "unknown-referral", lambda s: with_release(s, s.foreign)),
    _lie(9, "disclosure-before-acceptance", "not-accepted", lambda s: with_release(s, s.open)),
    _lie(9, "disclosure-after-her-no", "not-legal", lambda s: with_release(s, s.stopped)),
    _lie(9, "release-of-no-acceptance", "not-accepted", lambda s: with_release(s, s.accepted, accepting="00" * 32)),
    _lie(9, "release-of-the-offer", "not-accepted", lambda s: with_release(s, s.accepted, accepting=s.offer.digest())),
    _lie(9, "release-of-another", "release-invalid", lambda s: with_release(s, s.accepted, disclosure="00" * 32)),
    _lie(9, "release-about-another-referral", "release-invalid", release_about_another),
    _lie(9, "release-by-another-node", "release-invalid", release_of_another_key),
    _lie(9, "release-by-the-agency-key", "release-invalid", release_by_the_agency_key),
    _lie(9, "release-that-is-a-receipt", "release-invalid", release_of_another_kind),
    _lie(
        9,
        "release-that-is-no-statement",
        "release-invalid",
        lambda s: replace(forge_disclosure(s, s.accepted), release=b"{}"),
    ),
    _lie(
        9,
        "update-that-discloses-before-acceptance",
        "not-accepted",
        lambda s: s.liar.forward(
            Kind.UPDATE, {"preferred_name": CANARY}, referral=s.open, stage="disclosure", groups=("name",)
        ),
    ),
    _lie(
        9,
        "reply-to-nothing",
        "reply-unknown",
        lambda s: s.liar.forward(Kind.INFORMATION, referral=s.open, in_reply_to="ab" * 16),
    ),
    _lie(9, "another-purpose", "not-legal", lambda s: forge_update(s, s.open, purpose="provide-legal-aid")),
    _lie(9, "kind-of-later", "kind-not-supported", lambda s: s.liar.forward(Kind.HOLD, referral=s.open)),
    _lie(9, "answer-by-the-referring-side", "not-legal", lambda s: forge_answer(s, s.open)),
    _lie(9, "answer-about-nothing", "unknown-referral", lambda s: forge_answer(s, secrets.token_hex(16))),
    _lie(9, "answer-about-anothers-referral", "unknown-referral", lambda s: forge_answer(s, s.foreign)),
    _lie(9, "offer-of-anothers-referral", "unknown-referral", lambda s: s.liar.forward(referral=s.foreign)),
]
CONTRACT = [
    _later(10, "unknown-contract", "unknown-contract", lambda s: s.liar.forward(contract="ab" * 32)),
    _lie(11, "groups-not-covered", "receipt-mismatch", forge_consent(groups=("safety",))),
    _lie(11, "another-issuer", "receipt-mismatch", forge_consent(issuer="labour-office")),
    _lie(11, "another-recipient", "receipt-mismatch", forge_consent(recipient="another-house")),
    _lie(11, "another-purpose", "receipt-mismatch", forge_consent(purpose="provide-legal-aid")),
    _lie(11, "consent-over", "receipt-expired", ended_consent),
    _lie(11, "consent-over-since-it-was-made", "receipt-expired", ended_on_its_way),
    _lie(11, "not-signed", "receipt-signature", forge_consent(signature=bytes(64))),
    _lie(12, "no-rule-for-this-service", "no-rule", lambda s: s.liar.forward(purpose="provide-livelihood")),
    _lie(12, "group-never-permitted", "over-shared", lambda s: s.liar.forward(groups=("need", "perpetrator"))),
    _lie(12, "name-in-an-offer", "over-shared", lambda s: s.liar.forward(groups=("name", "need"))),
    _later(
        12,
        "no-rule-by-a-roster-that-it-says-is-newer",
        "no-rule",
        lambda s: s.liar.forward(purpose="provide-livelihood", roster_version=NEWER),
    ),
    _later(
        12,
        "name-in-an-offer-by-a-roster-that-it-says-is-newer",
        "over-shared",
        lambda s: s.liar.forward(groups=("name", "need"), roster_version=NEWER),
    ),
    _lie(12, "more-time-to-answer", "respond-by-too-late", lambda s: aged(s, 0, DAY_MS + 1)),
    _lie(12, "an-emergency-that-may-wait", "respond-by-too-late", lambda s: aged(s, 0, 2 * HOUR_MS, "emergency")),
    _later(
        12,
        "more-time-to-answer-by-a-roster-that-it-says-is-newer",
        "respond-by-too-late",
        lambda s: aged(s, 0, 2 * DAY_MS, roster_version=NEWER),
    ),
]
CONTENT = [
    _lie(13, "unknown-epoch", "cannot-unwrap", lambda s: s.liar.forward(epoch_key=s.other.strange.key_id)),
    *(
        _lie(13, f"low-order-{name}", "cannot-unwrap", lambda s, p=point: forge_wrapped(s, p + secrets.token_bytes(48)))  # type: ignore[misc]
        for name, point in LOW_ORDER.items()
    ),
    _lie(
        13,
        "sealed-to-anothers-key",
        "cannot-unwrap",
        lambda s: forge_wrapped(s, wrap_dek(Dek(secrets.token_bytes(32)), s.liar.strange.public)),
    ),
    _lie(14, "another-data-key", "commitment-mismatch", wrapped_wrongly),
    _lie(
        14,
        "anothers-content-wrapped-anew",
        "commitment-mismatch",
        lambda s: s.liar.signed(
            replace(others_content(s), wrapped_key=wrap_dek(Dek(secrets.token_bytes(32)), s.liar.epoch.public))
        ),
    ),
    _lie(14, "anothers-content-signed-anew", "cannot-decrypt", others_content),
    _lie(14, "ciphertext-changed", "cannot-decrypt", changed_ciphertext),
    _lie(15, "no-padding-mark", "bad-padding", lambda s: forge_padded(s, bytes(4096))),
    _lie(15, "wider-than-needed", "bad-padding", lambda s: forge_padded(s, b"{}\x80" + bytes(16381))),
    _lie(15, "something-behind-the-mark", "bad-padding", lambda s: forge_padded(s, b"{}\x80" + bytes(4092) + b"\x01")),
    _lie(16, "not-a-content", "content-invalid", lambda s: s.liar.forward(body=CANARY.encode())),
    _lie(16, "unknown-field", "content-invalid", lambda s: s.liar.forward(body=field_of_nothing(s))),
    _lie(
        16,
        "doubled-member",
        "content-invalid",
        lambda s: s.liar.forward(body=b'{"basis":"consent","basis":"consent","content":{},"feedback":"decision"}'),
    ),
    _lie(16, "more-groups-than-inside", "groups-differ", lambda s: s.liar.forward(groups=("need", "safety"))),
    _lie(
        16,
        "fewer-groups-than-inside",
        "groups-differ",
        lambda s: s.liar.forward(content={"needs": ["tonight"], "safety_flags": ["confined"]}),
    ),
    _lie(16, "another-agency-inside", "content-invalid", another_routing_inside(referring_agency="labour-office")),
    _lie(
        16, "its-receiver-as-sender-inside", "content-invalid", another_routing_inside(referring_agency=SHELTER.agency)
    ),
    _lie(16, "another-vocabulary-inside", "content-invalid", another_routing_inside(vocabulary_version=99)),
    _lie(16, "another-service-inside", "content-invalid", another_routing_inside(service_type="legal-aid")),
    _lie(16, "another-priority-inside", "content-invalid", another_routing_inside(priority="emergency")),
    _lie(16, "less-time-inside", "content-invalid", another_time_inside(-1000)),
    _lie(16, "more-time-inside", "content-invalid", another_time_inside(1000)),
    _lie(16, "a-minors-yes-of-an-adult", "content-invalid", of_age(Basis.OWN_CONSENT_MINOR, age_band="25-49")),
    _lie(16, "a-caregivers-yes-for-an-adult", "content-invalid", of_age(Basis.CAREGIVER, age_band="18-24")),
    _lie(16, "a-minors-yes-of-no-minor", "content-invalid", of_age(Basis.OWN_CONSENT_MINOR, is_minor=False)),
    _lie(16, "somebodys-yes-for-no-minor", "content-invalid", of_age(Basis.CASEWORKER_BEST_INTEREST, is_minor=False)),
    _lie(16, "an-adults-yes-of-a-child", "content-invalid", of_age(Basis.CONSENT, age_band="12-14")),
    _lie(16, "an-adults-yes-of-a-minor", "content-invalid", of_age(Basis.SUPPORTED_DECISION, is_minor=True)),
    _lie(16, "an-adults-yes-where-somebody-cares-for-her", "content-invalid", cared_for),
    _lie(17, "another-basis", "basis-differs", of_age(Basis.CAREGIVER_AND_ASSENT)),
    _lie(
        17,
        "field-not-permitted",
        "over-shared",
        lambda s: s.liar.forward(content={"care_window": "under-72h"}, groups=("health",)),
    ),
    _later(
        17,
        "field-not-permitted-by-a-roster-that-it-says-is-newer",
        "over-shared",
        lambda s: s.liar.forward(content={"care_window": "under-72h"}, groups=("health",), roster_version=NEWER),
    ),
    _lie(
        16,
        "not-a-content-by-a-roster-that-it-says-is-newer",
        "content-invalid",
        lambda s: s.liar.forward(body=CANARY.encode(), roster_version=NEWER),
    ),
    _lie(
        17,
        "field-not-permitted-beside-one-that-is",
        "over-shared",
        lambda s: s.liar.forward(content={"needs": ["tonight"], "care_window": "under-72h"}, groups=("health", "need")),
    ),
]
TABLE = [*SPELLING, *SENDER, *REFERRAL, *CONTRACT, *CONTENT]


def bodies(scene: Scene) -> dict[str, tuple[bytes, str]]:
    """What is no batch at all, and the code it is refused with, by name."""
    envelope = scene.liar.forward().to_json()
    good = canonical({"envelopes": [envelope]})
    name = to_base64url(CANARY.encode())
    return {
        "huge": (b'{"envelopes":["' + b"A" * (4 * 1024 * 1024) + b'"]}', "body-too-large"),
        "truncated": (good[: len(good) // 2], "not-a-batch"),
        "doubled-key": (b'{"envelopes":[],' + good[1:], "not-a-batch"),
        "doubled-key-in-an-envelope": (
            good.replace(b'{"cipher', b'{"header":"' + name.encode() + b'","cipher'),
            "not-a-batch",
        ),
        "another-key": (canonical({"envelopes": [envelope], CANARY: 1}), "not-a-batch"),
        "empty": (b"", "not-a-batch"),
        "no-envelope": (canonical({"envelopes": []}), "not-a-batch"),
        "too-many": (canonical({"envelopes": [{"header": name}] * 51}), "not-a-batch"),
        "not-utf-8": (good.replace(b"envelopes", b"\xff\xfeenvel"), "not-a-batch"),
        "byte-order-mark": (b"\xef\xbb\xbf" + good, "not-a-batch"),
        "utf-16": (good.decode().encode("utf-16"), "not-a-batch"),
        "fraction": (b'{"envelopes":[1.5]}', "not-a-batch"),
        "endless-number": (b'{"envelopes":[' + b"9" * 5000 + b"]}", "not-a-batch"),
        "deep": (b'{"envelopes":' + b"[" * 100_000, "not-a-batch"),
        "list": (canonical([envelope]), "not-a-batch"),
        "number-for-list": (canonical({"envelopes": 7}), "not-a-batch"),
    }

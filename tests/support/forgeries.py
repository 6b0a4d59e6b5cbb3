"""How a member with valid keys makes what is not so: envelopes that hold at every step but one."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nacl.secret import Aead
from support.lying_peer import LyingPeer
from support.refusals import CANARY
from support.replacing import replace

from contracts.canonical_json import canonical
from contracts.vocabulary import Basis
from exchange.envelope.format import Envelope
from exchange.envelope.keys import Dek
from exchange.envelope.kinds import Kind
from exchange.envelope.seal import assemble, wrap_dek
from exchange.envelope.wire import read_again
from exchange.limits import DAY_MS, HOUR_MS, MINUTE_MS
from exchange.schemas.shapes import from_millis

ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
LOW_ORDER = {
    "zero": bytes(32),
    "one": b"\x01" + bytes(31),
    "order-8": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
}


@dataclass(slots=True)
class Scene:
    """A liar, an honest receiver, and what lies between them."""

    liar: LyingPeer
    other: LyingPeer
    """Another member, and a liar too."""
    open: str
    """A referral the receiver has not answered."""
    accepted: str
    """One it has accepted."""
    accepting: str
    """The digest of that acceptance."""
    stopped: str
    """One that was withdrawn."""
    foreign: str
    """One between the receiver and the other member."""
    never_offered: dict[str, str]
    """Referrals of which a stop came before the offer, by the stop."""
    offer: Envelope
    """The accepted referral's offer, as it was delivered."""
    others_offer: Envelope
    """The other member's offer, as it was delivered: somebody has seen it on its way."""


Forge = Callable[[Scene], Envelope | dict[str, Any]]


def forge_raw(scene: Scene, **changes: Any) -> Envelope:
    """An offer whose header has members that no honest writer writes; signed all the same."""
    envelope = scene.liar.forward()
    return scene.liar.signed(replace(envelope, header=canonical(read_again(envelope.header) | changes)))


def header_bytes(scene: Scene, change: Callable[[bytes], bytes]) -> Envelope:
    envelope = scene.liar.forward()
    return scene.liar.signed(replace(envelope, header=change(envelope.header)))


def forge_member(scene: Scene, member: str, change: Callable[[str], Any]) -> dict[str, Any]:
    envelope: dict[str, Any] = scene.liar.forward().to_json()
    return envelope | {member: change(envelope[member])}


def wrapped_wrongly(scene: Scene) -> Envelope:
    header = scene.liar.header(Kind.OFFER)
    wrapped = wrap_dek(Dek(secrets.token_bytes(32)), scene.liar.epoch.public)
    body = secrets.token_bytes(10)
    dek, nonce = Dek(secrets.token_bytes(32)), secrets.token_bytes(24)
    return assemble(header, body, wrapped_key=wrapped, sign=scene.liar.agency_key.sign, dek=dek, nonce=nonce).envelope


def forge_wrapped(scene: Scene, wrapped: bytes) -> Envelope:
    return scene.liar.signed(replace(scene.liar.forward(), wrapped_key=wrapped))


def changed_ciphertext(scene: Scene) -> Envelope:
    envelope = scene.liar.forward()
    last = bytes([envelope.ciphertext[-1] ^ 1])
    return scene.liar.signed(replace(envelope, ciphertext=envelope.ciphertext[:-1] + last))


def forge_padded(scene: Scene, padded: bytes) -> Envelope:
    dek = secrets.token_bytes(32)
    header = replace(scene.liar.header(Kind.OFFER), dek_commitment=Dek(dek).commitment())
    head = canonical(header.members())
    ciphertext = bytes(Aead(dek).encrypt(padded, head, secrets.token_bytes(24)))
    return scene.liar.signed(Envelope(head, wrap_dek(Dek(dek), scene.liar.epoch.public), ciphertext, b""))


def others_content(scene: Scene, **changes: Any) -> Envelope:
    """The other member's sealed content under a header of the liar's, signed by the liar."""
    theirs = read_again(scene.others_offer.header)
    mine = scene.liar.header(Kind.OFFER, dek_commitment=theirs["dek_commitment"], **changes)
    return scene.liar.signed(replace(scene.others_offer, header=canonical(mine.members())))


def more_than_s(scene: Scene) -> Envelope:
    """The same signature with the order of the group added to S."""
    envelope = scene.liar.forward()
    r, s = envelope.signature[:32], int.from_bytes(envelope.signature[32:], "little")
    return replace(envelope, signature=r + (s + ED25519_ORDER).to_bytes(32, "little"))


def forge_disclosure(scene: Scene, referral: str, *, content: dict[str, Any] | None = None, **changes: Any) -> Envelope:
    inside = {"preferred_name": CANARY} if content is None else content
    return scene.liar.forward(Kind.DISCLOSURE, inside, referral=referral, groups=("name",), **changes)


def with_release(scene: Scene, referral: str, **changes: Any) -> Envelope:
    accepting = changes.pop("accepting", scene.accepting)
    return scene.liar.released(forge_disclosure(scene, referral), accepting, **changes)


def release_about_another(scene: Scene) -> Envelope:
    return scene.liar.released(forge_disclosure(scene, scene.accepted), scene.accepting, referral=scene.open)


def release_of_another_key(scene: Scene) -> Envelope:
    envelope = forge_disclosure(scene, scene.accepted)
    return replace(envelope, release=scene.other.released(envelope, scene.accepting).release)


def release_by_the_agency_key(scene: Scene) -> Envelope:
    envelope = forge_disclosure(scene, scene.accepted)
    return scene.liar.released(envelope, scene.accepting, sign=scene.liar.agency_key.sign)


def release_of_another_kind(scene: Scene) -> Envelope:
    envelope = with_release(scene, scene.accepted)
    members = read_again(envelope.release or b"") | {"tag": "referral-exchange/v1/delivery-receipt"}
    return replace(envelope, release=canonical(members))


def reply(scene: Scene) -> str:
    return str(read_again(scene.offer.header)["id"])


def forge_answer(scene: Scene, referral: str, **changes: Any) -> Envelope:
    decline = {"decision": "declined", "reason": "no-capacity"}
    return scene.liar.answer(Kind.DECISION, "declined", decline, referral=referral, in_reply_to=reply(scene), **changes)


def aged(scene: Scene, created: int, respond_by: int, priority: str = "urgent", **changes: Any) -> Envelope:
    at, due = scene.liar.now(), scene.liar.now() + respond_by
    times = {"created": at + created, "respond_by": due, "expires": due + DAY_MS}
    return scene.liar.forward(priority=priority, **(times | changes))


def held_since(scene: Scene, days: int, expired_days: int, **changes: Any) -> Envelope:
    at = scene.liar.now()
    old = forge_disclosure(scene, scene.accepted, created=at - days * DAY_MS, expires=at - expired_days * DAY_MS)
    return scene.liar.released(old, scene.accepting, **changes)


def forge_consent(**changes: Any) -> Forge:
    return lambda scene: scene.liar.forward(receipt=changes)


def ended_consent(scene: Scene) -> Envelope:
    at = scene.liar.now()
    return scene.liar.forward(receipt={"issued": at - DAY_MS, "expires": at - 3 * MINUTE_MS})


def ended_on_its_way(scene: Scene) -> Envelope:
    """Made while her consent held, and delivered afterwards."""
    made, ended = scene.liar.now() - 3 * HOUR_MS, scene.liar.now() - HOUR_MS
    due = scene.liar.now() + 12 * HOUR_MS
    receipt = {"issued": made, "expires": ended}
    return scene.liar.forward(created=made, respond_by=due, expires=due + DAY_MS, receipt=receipt)


def forge_update(scene: Scene, referral: str, **changes: Any) -> Envelope:
    return scene.liar.forward(Kind.UPDATE, referral=referral, **changes)


def another_routing_inside(**members: str | int) -> Forge:
    """An offer whose content contradicts its signed header in these routing fields."""
    content: dict[str, Any] = {"language": "id", **members}
    return lambda scene: scene.liar.forward(content=content, groups=("need", "routing"))


def of_age(basis: Basis, **age: str | bool) -> Forge:
    """An offer on this basis about somebody of this age."""
    return lambda scene: scene.liar.forward(basis=basis, content={"needs": ["tonight"], **age}, groups=("need",))


def cared_for(scene: Scene) -> Envelope:
    """Who she is, on an adult's own yes, of somebody of unknown age who has a caregiver."""
    content = {"caregiver": {"relationship": "other", "informed": True}}
    made = scene.liar.forward(Kind.DISCLOSURE, content, referral=scene.accepted, groups=("contact",))
    return scene.liar.released(made, scene.accepting)


def another_time_inside(by_ms: int) -> Forge:
    """An offer whose content says another time to answer than its signed header."""

    def forge(scene: Scene) -> Envelope:
        due = (scene.liar.now() // HOUR_MS + 12) * HOUR_MS
        content = {"needs": ["tonight"], "respond_by": from_millis(due + by_ms).isoformat()}
        return scene.liar.forward(content=content, groups=("need", "routing"), respond_by=due, expires=due + DAY_MS)

    return forge


def field_of_nothing(_scene: Scene) -> bytes:
    return b'{"basis":"consent","content":{"' + CANARY.encode() + b'":1},"feedback":"decision"}'


def ahead(scene: Scene) -> int:
    return scene.liar.now() + 10 * MINUTE_MS

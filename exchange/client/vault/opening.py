"""Opening on the agency's own machine: the node is believed in nothing but when an item arrived, and the state.

Rules:

* The whole verification is done here (`exchange.verification`, steps 1 to 17), by the roster, the contracts and the
  cases that this software knows. What the node checked before is checked again; what it cannot, is checked first here.
* What certainly fails (spelling, signature, 13 to 17) is refused: the sender is told a code, the node destroys it.
  What another roster or an unopened offer may explain is not refused, and raises.
* A key that was replaced is none, be it the agency's or the node's that released: by the roster of today nobody can
  tell what its owner signed before from what a thief signs now. Where the sender sealed, or its node released, by an
  older roster it is refused, and is sealed anew there. A roster here that is the older one may explain it.
* A key store that lacks the key to which others seal now is not the agency's, or is an old copy of it: it refuses
  nothing for want of a key, since another machine has that key.
* A key is stored durably before the node is told to drop the sender's. If this program dies in between, the node still
  has it, and opening begins anew.
* Opened once, an item opens again from the key store, and only as exactly the envelope that was verified.
* From whom an item is, about which referral, of what kind and how urgent, says its header, which is signed and under
  the digest. An item that the node lists as anything else is not shown, at the first open or at a later one.
* Information answers a question that was sealed here. Anything else may answer a stop: these the node makes, and it
  alone knows their ids. That what is answered belongs to the referral is left to it there; nothing here goes by it.
* The numbers of the contact plans are kept here: which plan is the newest is no word of the node's.
* Nor is whether it is a drill: that says the offer, and what is shown of it and of all that follows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from contracts.vocabulary import Purpose, service_of
from exchange.client.agency_client import AgencyClient
from exchange.client.vault.agency_keys import Identity
from exchange.client.vault.cases import VaultCase
from exchange.client.vault.errors import DoubtfulItemError, RefusedItemError, VaultError
from exchange.client.vault.store import Taken
from exchange.client.vault.weekly_keys import has_newest_week
from exchange.disclosure import lesser
from exchange.envelope.errors import EnvelopeError
from exchange.envelope.format import Envelope, signed_input
from exchange.envelope.header import Header
from exchange.envelope.kinds import Kind, KindClass, class_of
from exchange.envelope.open import decrypt
from exchange.envelope.statements import ReleaseStatement, parse_statement
from exchange.envelope.wire import from_base64url, read_again
from exchange.limits import LIMITS
from exchange.messages import ForwardBody
from exchange.referral.lifecycle import Side
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.inbox import InboxItem, OpenedItem, OpeningRequest, RefusalRequest
from exchange.schemas.shapes import to_millis
from exchange.verification import (
    Circumstances,
    VerificationError,
    VerifiedMessage,
    check_addresses,
    check_item,
    open_item,
    parse_item,
)

_CERTAIN: Final = frozenset({1, 2, 8, 13, 14, 15, 16, 17})
"""Steps whose failure no newer roster and no other envelope explains."""
_UNKNOWN_KEY: Final = "unknown-key"
_OTHER_KEYS: Final = frozenset({_UNKNOWN_KEY, "release-invalid"})
_UNWRAP: Final = 13
_LISTED: Final = ("id", "referral", "kind", "event", "purpose", "priority")
_REPORTED: Final = {
    "cannot-unwrap": "cannot-unwrap",
    "commitment-mismatch": "commitment-mismatch",
    "cannot-decrypt": "cannot-decrypt",
    "bad-padding": "bad-padding",
    "content-invalid": "content-invalid",
    "groups-differ": "groups-mismatch",
}


async def open_sealed(identity: Identity, client: AgencyClient, item: InboxItem) -> OpenedItem:
    """Open one item.

    Raises:
        RefusedItemError, DoubtfulItemError: it does not verify.
        VaultError: `nothing-inside` for a stop; `key-not-here`; `destroyed`.
        ProblemError: the node refuses: no such item, or destroyed.
    """
    if class_of(item.kind) is KindClass.STOP:
        raise VaultError("nothing-inside", "A stop has nothing to open: `kind` and `event` say all of it.")
    wire = await client.inbox.sealed(item.id)
    taken = identity.store.taken(item.id)
    if taken is not None:
        opened = _marked(identity, _opened_again(item, wire, taken))
        if wire.wrapped_key:
            await _tell(identity, client, item, taken.digest)
        return opened
    if not wire.wrapped_key:
        raise VaultError("key-not-here", "The key of this item was taken over by another key store of your agency.")
    try:
        message = verify(identity, item, wire)
    except VerificationError as error:
        certain = error.final and error.step in _CERTAIN
        if not certain and not _was_replaced(identity, wire, error):
            raise DoubtfulItemError(error.step, error.code) from error
        if error.step == _UNWRAP and not await has_newest_week(identity, client):
            raise VaultError(
                "other-store", "The weekly keys of your agency are not here. Open it on the machine that has them."
            ) from error
        code = _REPORTED.get(error.code, "over-shared" if error.step == 17 else "cannot-open")  # noqa: PLR2004
        await client.inbox.refuse(item.id, RefusalRequest.model_validate({"code": code}))
        raise RefusedItemError(error.step, error.code) from error
    header, digest = message.checked.item.header, message.checked.item.digest
    wrapped = hashlib.sha256(message.checked.item.envelope.wrapped_key).digest()
    taken = Taken(message.dek, wrapped, digest)
    identity.store.take(item.id, header.referral, lambda known: _case(known, message, identity.clock()), taken)
    await _tell(identity, client, item, digest)
    return _marked(identity, _view(item, message.content, digest))


def verify(identity: Identity, item: InboxItem, wire: WireEnvelope) -> VerifiedMessage:
    """Steps 1 to 17, at the moment at which the item arrived.

    Raises:
        VerificationError: with the step that refuses.
    """
    parsed = parse_item(wire.model_dump(exclude_none=True))
    header, at = parsed.header, to_millis(item.received_at)
    if not _is_listed_as(header.members(), item):
        raise VerificationError(3, "wrong-recipient")
    roster = identity.roster
    around = Circumstances(
        me=identity.me,
        peer=item.sender,
        roster=roster,
        contract_of=identity.contracts.get,
        in_force=lambda digest, other: roster.in_force_nearby(
            digest, identity.me.agency, other, item.received_at, LIMITS.skew_ms
        ),
        limits=LIMITS,
        at=at,
    )
    check_addresses(parsed, around)
    known = identity.store.case(header.referral)
    # An offer whose opening was interrupted is known already, by itself.
    interrupted = known is not None and header.kind is Kind.OFFER and known.offer == header.id
    if known is not None and known.peer != header.sender:
        raise VerificationError(9, "unknown-referral")
    memory = known.memory() if known is not None and not interrupted else None
    if memory is not None and header.kind is not Kind.INFORMATION:
        memory = memory._replace(sent=None)
    checked = check_item(parsed, memory, around)
    epoch_key = identity.store.epoch_key(header.epoch_key or "")
    if epoch_key is None:
        raise VerificationError(13, "cannot-unwrap")
    return open_item(checked, epoch_key, around)


def _was_replaced(identity: Identity, wire: WireEnvelope, error: VerificationError) -> bool:
    """Whether the roster here is newer than the one by which it was signed, and does not list the key that signed."""
    if error.code not in _OTHER_KEYS:
        return False
    item = parse_item(wire.model_dump(exclude_none=True))
    if error.code == _UNKNOWN_KEY:
        return item.header.roster_version < identity.roster.version
    try:
        # It was released later than sealed, perhaps by a roster that is not here yet.
        said = parse_statement(ReleaseStatement, item.envelope.release or b"").unverified
    except EnvelopeError:
        return False
    return said.disclosure == item.digest and said.roster_version < identity.roster.version


def _is_listed_as(header: Mapping[str, Any], item: InboxItem) -> bool:
    """Whether the members of a header say what the node lists."""
    return header["from"] == item.sender and all(header.get(name) == getattr(item, name) for name in _LISTED)


def _case(known: VaultCase | None, message: VerifiedMessage, at: int) -> VaultCase:
    header = message.checked.item.header
    if known is not None:
        return known.with_opened(header.id, plan_number=_plan_number(message))
    return _case_of_offer(message, header, at)


def _case_of_offer(message: VerifiedMessage, header: Header, at: int) -> VaultCase:
    body, contract = message.body, message.checked.contract
    service = service_of(Purpose(header.purpose or ""))
    rule = None
    if contract is not None and service is not None:
        rule = contract.rule_for(message.checked.sender.kind, message.checked.receiver.kind, service)
    if body is None or rule is None:
        raise VaultError("unknown-referral", "Open the offer of this referral first.")
    members = {
        "side": Side.RECEIVING,
        "peer": header.sender,
        "contract": header.contract,
        "purpose": header.purpose,
        "offer": header.id,
        "feedback": lesser(rule.feedback, body.feedback),
        "opened": (header.id,),
        "client_code": body.content.client_code,
        "known_since": at,
        "exercise": body.content.exercise or None,
    }
    return VaultCase.model_validate(members)


def _plan_number(message: VerifiedMessage) -> int | None:
    """The sender's number of the contact plan inside, if there is one; a disclosure has it in its release statement."""
    header, release = message.checked.item.header, message.checked.release
    if header.kind is Kind.OFFER or message.body is None or message.body.content.safe_contact is None:
        return None
    return release.number if release is not None else header.number


async def _tell(identity: Identity, client: AgencyClient, item: InboxItem, digest: str) -> None:
    """The key is safe here: the node may drop the sender's."""
    case = identity.store.case(item.referral)
    feedback = case.feedback if case is not None and item.kind == Kind.OFFER else None
    await client.inbox.take_over(item.id, OpeningRequest(digest=digest, feedback=feedback))


def _opened_again(item: InboxItem, wire: WireEnvelope, taken: Taken) -> OpenedItem:
    try:
        header = from_base64url(wire.header, member="header", longest=LIMITS.header_bytes)
        ciphertext = from_base64url(wire.ciphertext, member="ciphertext", longest=LIMITS.envelope_bytes)
        signed = signed_input(header, taken.wrapped_digest, hashlib.sha256(ciphertext).digest())
        if hashlib.sha256(signed).hexdigest() != taken.digest:
            raise VaultError("changed-at-node", "The node gives out another envelope than the one you opened.")
        # Its bytes are those that were verified: neither header nor content is judged by today's rules again.
        if not _is_listed_as(read_again(header), item):
            raise VaultError("changed-at-node", "The node lists this item as another than the one you opened.")
        content = decrypt(Envelope(header, b"", ciphertext, b""), taken.dek)
    except EnvelopeError as error:
        raise VaultError("changed-at-node", "The node gives out another envelope than the one you opened.") from error
    return _view(item, content, taken.digest)


def _marked(identity: Identity, opened: OpenedItem) -> OpenedItem:
    """Called a drill where its offer was one, whatever the node lists."""
    case = identity.store.case(opened.item.referral)
    drill = case.exercise if case is not None else None
    return opened.model_copy(update={"item": opened.item.model_copy(update={"exercise": drill})})


def _view(item: InboxItem, content: bytes, digest: str) -> OpenedItem:
    if class_of(item.kind) is KindClass.ANSWER:
        return OpenedItem(item=item, answer=json.loads(content), digest=digest)
    body = ForwardBody.read_again(content)
    return OpenedItem(item=item, client_code=body.content.client_code, content=body.content, digest=digest)

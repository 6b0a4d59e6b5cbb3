"""Receive a batch from a peer: verify 1 to 12, open 13 to 17, commit, sign for it. One answer an envelope.

Rules:

* A repeat is answered with the first receipt's bytes, before any check that time could have changed. Where the node key
  was replaced since then, the same words are signed by the key of today: nobody believes the other one any more.
* Keys first, then the inbox with its receipt, then the answer: whatever was answered `accepted` survives anything that
  happens the next instant, and what was not answered can be sent again.
* Only `accepted` is remembered. `refused` is final, says which step and who must act, and never what was sent. `later`
  is for what this node does not know yet: it reads the roster again once first.
* A bad item never fails its batch. Nor does a row that cannot be read here: what is about that referral is `later`, and
  nothing of it is lost when the row is mended. Where the row is a key's, that is what needs the key: her no needs none.
* All items are checked, then all are opened, then all are signed for: one step's code stays in the processor's caches
  (`exchange.use_cases.turns`). Of two about one referral the second is judged by what the first has changed.
* A large batch gives way to small ones (`exchange.use_cases.precedence`).
* What a peer is told must not tell whether a person is known: an unknown referral and somebody else's look alike. That
  an id is another's is found last, by an envelope that is right in every other way. A stop about another's referral is
  what one about an unknown referral is, with the same statements and everything that follows from it later: a tombstone
  between the two, which lies beside the other member's referral and touches nothing of it (`arrivals`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, NamedTuple, TypeVar

from exchange.envelope.errors import MalformedError, StatementError, TooLargeError
from exchange.envelope.keys import EpochKey
from exchange.envelope.kinds import KindClass
from exchange.envelope.statements import DeliveryReceipt, leaf_of, parse_statement, sign_statement
from exchange.envelope.wire import parse_object, to_base64url
from exchange.referral.lifecycle import TransitionError
from exchange.schemas.federation import BatchAnswer, ItemAnswer
from exchange.schemas.problems import Problem, Who
from exchange.storage.database import Connection
from exchange.storage.errors import IntegrityError
from exchange.storage.key_store import KEPT_UNSWEPT_MS
from exchange.storage.peer_leases import sign_of_life
from exchange.storage.referrals import StaleReferralError, guard_versions
from exchange.storage.transaction import signal
from exchange.use_cases.arrivals import BatchMemory, read_memory
from exchange.use_cases.errors import InvalidError, UnavailableError
from exchange.use_cases.errors import TooLargeError as BatchTooLargeError
from exchange.use_cases.node import Node
from exchange.use_cases.precedence import LIGHT, Slices
from exchange.use_cases.readable import epoch_keys, unreadable_keys
from exchange.use_cases.store_arrival import Arrival, absorb, arrived_record, store_arrivals
from exchange.verification import (
    CheckedItem,
    Circumstances,
    ParsedItem,
    VerificationError,
    VerifiedMessage,
    check_addresses,
    check_item,
    later,
    open_item,
    parse_item,
)

SMALL: Final = 6
"""So many envelopes are a small delivery."""
ATTEMPTS: Final = 4
LATER_S: Final = 30
PROBLEM_BASE: Final = "https://referral-exchange.example/problems#"
_UNREADABLE: Final = "sealed-row"
_NO_ROSTER_HELPS: Final = frozenset({"from-the-future", "unknown-referral", _UNREADABLE})
"""What is taken later for another reason than a roster, or a contract, that is not here yet."""


Before = TypeVar("Before")
After = TypeVar("After")
_Keys = Mapping[str, EpochKey | None]


@dataclass(frozen=True, slots=True)
class _Repeat:
    item: ParsedItem
    answer: bytes


class _Opened(NamedTuple):
    """What was checked, and what is inside."""

    checked: CheckedItem
    message: VerifiedMessage | None


async def receive_envelopes(node: Node, peer: str, body: bytes) -> BatchAnswer:
    """Answer a batch that `peer` has authenticated for.

    Raises:
        TooLargeError, InvalidError: the body is not a batch; nothing of it was looked at.
        UnavailableError: the same referrals changed again and again, or `not-a-member`; send the batch again.
    """
    values = _envelopes(node, body)
    async with node.receiving[peer]:
        if len(values) > SMALL:
            return await _receive(node, peer, values, node.precedence.large())
        with node.precedence.small() as slices:
            return await _receive(node, peer, values, slices)


async def _receive(node: Node, peer: str, values: Sequence[Any], slices: Slices) -> BatchAnswer:
    parsed = [_parsed(value) async for value in slices.of(values, LIGHT)]
    keyless = frozenset[str]()
    for _ in range(ATTEMPTS):
        around = _circumstances(node, peer)
        memory = await read_memory(node, peer, [item for item in parsed if isinstance(item, ParsedItem)])
        memory.keyless = keyless
        outcomes = await _judge(node, parsed, memory, around, slices)
        if _would_know_more(outcomes) and await _know_more(node):
            continue
        try:
            unreadable = await _commit(node, peer, outcomes, memory.versions, slices)
        except (StaleReferralError, IntegrityError):
            # A referral changed, or the same envelope came twice at the same time: judge again with what is there now.
            continue
        if unreadable:
            # Others of the batch were judged by what waits now.
            keyless |= unreadable
            continue
        return BatchAnswer(answers=tuple(_answer(node, outcome) for outcome in outcomes))
    raise UnavailableError("changed-meanwhile", "The same referrals are changing. Send the batch again.", retry_after=1)


def _envelopes(node: Node, body: bytes) -> list[Any]:
    try:
        batch = parse_object(body, longest=node.limits.batch_bytes)
    except TooLargeError as error:
        raise BatchTooLargeError("batch-too-large", "A batch has at most 4 MiB. Send fewer envelopes.") from error
    except MalformedError as error:
        raise _not_a_batch() from error
    values = batch.get("envelopes")
    if batch.keys() != {"envelopes"} or not isinstance(values, list):
        raise _not_a_batch()
    if not 1 <= len(values) <= node.limits.batch_envelopes:
        raise _not_a_batch()
    return values


def _not_a_batch() -> InvalidError:
    return InvalidError("not-a-batch", "The body is not a batch of one to fifty envelopes in the documented form.")


def _parsed(value: Any) -> ParsedItem | VerificationError:
    try:
        return parse_item(value)
    except VerificationError as error:
        return error


def _circumstances(node: Node, peer: str) -> Circumstances:
    world, at = node.world(), node.clock()
    now = node.now()
    return Circumstances(
        me=node.member_in(world),
        peer=peer,
        roster=world.roster,
        contract_of=world.contracts.get,
        # Of all items of a batch the same is asked, about one moment.
        in_force=cache(
            lambda digest, other: world.roster.in_force_nearby(digest, node.agency, other, now, node.limits.skew_ms)
        ),
        limits=node.limits,
        at=at,
    )


_Outcome = Arrival | _Repeat | VerificationError


async def _judge(
    node: Node,
    parsed: Sequence[ParsedItem | VerificationError],
    memory: BatchMemory,
    around: Circumstances,
    slices: Slices,
) -> list[_Outcome]:
    found: dict[int, _Outcome] = {
        place: item for place, item in enumerate(parsed) if isinstance(item, VerificationError)
    }
    for group in _about_different_referrals(parsed):
        checked = await _each(slices, group, found, lambda item: _checked(item, memory, around))
        keys = await _epoch_keys(node, around.peer, checked.values())
        opened = await _each(slices, checked, found, partial(_opened, keys=keys, around=around))
        found |= await _each(slices, opened, found, lambda item: _absorbed(node, item, memory, around))
    return [found[place] for place in range(len(parsed))]


def _about_different_referrals(parsed: Sequence[ParsedItem | VerificationError]) -> Iterator[dict[int, ParsedItem]]:
    """The items by their places, in order, in groups of which none waits for what another one changes."""
    group: dict[int, ParsedItem] = {}
    named: set[str] = set()
    for place, item in enumerate(parsed):
        if isinstance(item, VerificationError):
            continue
        names = {item.header.id, item.header.referral}
        if not named.isdisjoint(names):
            yield group
            group, named = {}, set()
        group[place] = item
        named |= names
    yield group


async def _each(
    slices: Slices, items: Mapping[int, Before], found: dict[int, _Outcome], step: Callable[[Before], After | _Repeat]
) -> dict[int, After]:
    """One step for all of them; whom it refuses, or answers from memory, is found and goes no further."""
    left: dict[int, After] = {}
    async for place, item in slices.of(items.items()):
        try:
            done = step(item)
        except VerificationError as error:
            found[place] = error
        else:
            if isinstance(done, _Repeat):
                found[place] = done
            else:
                left[place] = done
    return left


def _checked(item: ParsedItem, memory: BatchMemory, around: Circumstances) -> CheckedItem | _Repeat:
    """Steps 3 to 12, or the answer that a repeat had."""
    check_addresses(item, around)
    seen = memory.answers.get(item.header.id)
    if seen is not None:
        digest, answer = seen
        if digest != item.digest:
            raise VerificationError(8, "id-conflict")
        return _Repeat(item, answer)
    if item.header.referral in memory.unreadable:
        raise later(9, _UNREADABLE)
    return check_item(item, memory.of(item.header.referral), around)


async def _epoch_keys(node: Node, peer: str, checked: Iterable[CheckedItem]) -> _Keys | None:
    """The keys to which these were sealed, as far as there are any; nothing where the agency's keys are elsewhere."""
    if node.keyring is None:
        return None
    named = {one.item.header.epoch_key for one in checked}
    return await epoch_keys(node, node.keyring, (name for name in named if name is not None), peer)


def _opened(checked: CheckedItem, keys: _Keys | None, around: Circumstances) -> _Opened:
    """Steps 13 to 17, where there is something to open."""
    header = checked.item.header
    if header.kind_class is KindClass.STOP or keys is None:
        # Without keys the agency's own software does 13 to 17 when it opens this, and refuses what fails there.
        return _Opened(checked, None)
    name = header.epoch_key or ""
    if name not in keys:
        raise VerificationError(13, "cannot-unwrap")
    if (epoch_key := keys[name]) is None:
        raise later(13, _UNREADABLE)
    return _Opened(checked, open_item(checked, epoch_key, around))


def _absorbed(node: Node, opened: _Opened, memory: BatchMemory, around: Circumstances) -> Arrival:
    """What it does, and the receipt for it."""
    item = opened.checked.item
    _refuse_anothers_id(item, memory)
    lies_under = memory.id_here(item.header.referral)
    if opened.message is not None and lies_under in memory.keyless:
        raise later(17, _UNREADABLE)
    signed = sign_statement(_receipt(item, around.at), node.node_key.sign)
    given = signed.to_bytes()
    arrival = Arrival(opened.checked, opened.message, given, leaf_of(signed.body), around.at, lies_under)
    try:
        absorb(node, arrival, memory)
    except TransitionError as error:
        raise VerificationError(9, "not-legal") from error
    memory.answers[item.header.id] = (item.digest, given)
    return arrival


def _refuse_anothers_id(item: ParsedItem, memory: BatchMemory) -> None:
    if item.header.id in memory.taken:
        raise VerificationError(8, "id-conflict")
    # A stop passes, whatever stands under that id with somebody else, and once it has the sender has one there too.
    known = item.header.referral in memory.known
    if item.header.referral in memory.foreign and not known and item.header.kind_class is not KindClass.STOP:
        raise VerificationError(9, "unknown-referral")


def _would_know_more(outcomes: Sequence[_Outcome]) -> bool:
    refused = [item for item in outcomes if isinstance(item, VerificationError)]
    return any(not item.final and item.code not in _NO_ROSTER_HELPS for item in refused)


async def _know_more(node: Node) -> bool:
    """Read roster and contracts again; returns whether they are others than before."""
    before = node.world()
    await node.refresh_world()
    return node.world() is not before


async def _commit(
    node: Node, peer: str, outcomes: Sequence[_Outcome], versions: Mapping[str, int], slices: Slices
) -> frozenset[str]:
    """Write it down. Nothing is, where keys of these referrals lie here and do not open: those are returned."""
    arrivals = [outcome for outcome in outcomes if isinstance(outcome, Arrival)]
    at = node.clock()
    if not arrivals:
        await node.database.write(lambda conn: sign_of_life(conn, peer, at))
        return frozenset()
    fresh = {arrival.referral: node.fresh_referral_key() for arrival in arrivals if arrival.message is not None}
    keys = await node.key_store.put_many(fresh, at=at) if fresh else {}
    if unreadable := unreadable_keys(node, keys, peer=peer):
        return unreadable

    stored = [
        (arrival, arrived_record(node, arrival, keys.get(arrival.referral)))
        async for arrival in slices.of(arrivals, LIGHT)
    ]

    def commit(conn: Connection) -> None:
        if node.clock() - at >= KEPT_UNSWEPT_MS:
            # This process stood still, and one that was started meanwhile may have swept the keys.
            raise StaleReferralError
        guard_versions(conn, versions)
        store_arrivals(node, conn, stored)
        sign_of_life(conn, peer, at)
        signal(conn, "inbox")
        if any(arrival.checked.item.header.kind_class is not KindClass.FORWARD for arrival in arrivals):
            # An answer may make a release due and a stop a destruction; a forward asks nothing of the courier.
            signal(conn, "outbox")

    await node.database.write(commit)
    return frozenset()


def _receipt(item: ParsedItem, received_at: int) -> DeliveryReceipt:
    header = item.header
    return DeliveryReceipt(
        envelope=header.id,
        digest=item.digest,
        sender=header.sender,
        recipient=header.recipient,
        referral=header.referral,
        received_at=received_at,
    )


def _signed_today(node: Node, repeat: _Repeat) -> bytes:
    """The first receipt. With one key the same words have one signature: as long as it is the same, the same bytes.

    What lies there and is no receipt for exactly this envelope was changed: it is given as it is, and not signed.
    """
    try:
        said = parse_statement(DeliveryReceipt, repeat.answer).unverified
    except StatementError:
        return repeat.answer
    if said != _receipt(repeat.item, said.received_at):
        return repeat.answer
    return sign_statement(said, node.node_key.sign).to_bytes()


def _answer(node: Node, outcome: _Outcome) -> ItemAnswer:
    if isinstance(outcome, Arrival):
        return ItemAnswer(result="accepted", receipt=to_base64url(outcome.receipt))
    if isinstance(outcome, _Repeat):
        return ItemAnswer(result="accepted", receipt=to_base64url(_signed_today(node, outcome)))
    node.measurements.refused(place="federation", code=outcome.code)
    if not outcome.final:
        return ItemAnswer(result="later", retry_after=LATER_S if outcome.code != "unknown-referral" else 1)
    return ItemAnswer(result="refused", problem=_problem(outcome))


def _problem(error: VerificationError) -> Problem:
    who = Who.SENDER if error.who is Who.SENDER else Who.NODE
    return Problem(
        type=PROBLEM_BASE + error.code,
        title="The envelope was refused",
        status=422,
        code=error.code,
        who=who,
        detail=f"Step {error.step} of the verification refused this envelope. It is final; make a new one.",
    )

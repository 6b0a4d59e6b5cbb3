"""The gate once more, on what is sealed already: at a release, and when something leaves under another roster.

Rules:

* A disclosure: every field inside may still go, by contract and consent as they are now, between the two agencies as
  the roster lists them now. Where the agency's own software has sealed it, by groups.
* She said yes after she was told of the receiver: to whom it must report, whether she can leave, whether it asks for
  papers. Where the roster says something else of it now, her name does not go before she has been told that too
  (`use_cases.not_told`), nor as information. A changed plan alone goes, which may protect her.
* Her wish to avoid her own authorities was held against the receiver as it was when the referral was made, and is not
  kept. To an authority that acts for another country now than then nothing goes, and nothing more is told.
* Any other forward: of each group inside something may still go. Which fields are inside is not known here: all that
  may have been, as sender and receiver were when it was sealed, has to be what may still go.
* Where referral or consent cannot be found the answer is no. Where one is there and cannot be read there is none: it
  does not go now, and is no reason to destroy anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from contracts.canonical_json import canonical
from contracts.model import Contract
from contracts.vocabulary import Group, Stage
from exchange.disclosure import Allowed, Refused, still_allowed
from exchange.disclosure_conditions import authority_of
from exchange.disclosure_groups import GroupsQuestion, groups_allowed, groups_still_allowed, may_be_inside
from exchange.envelope.header import Header
from exchange.envelope.kinds import Kind
from exchange.roster import Member, ToldFirst
from exchange.storage.consents import StoredConsent, load_consent
from exchange.storage.database import Connection
from exchange.storage.referrals import ReferralRecord, load_referrals
from exchange.use_cases.consent_records import hers
from exchange.use_cases.facts import Facts, Party, open_facts
from exchange.use_cases.node import Node, World
from exchange.use_cases.row_by_row import UNREADABLE, tell_unreadable
from exchange.use_cases.sealed_forwards import question_about

_TOLD_ANEW = Refused(
    "not-told-first",
    "The receiver is not what she was told: whom it reports to, whether she can leave, or its papers. Ask her again.",
    (),
)
_REFER_ANEW = Refused(
    "not-told-first",
    "The receiver is not what she was told: whom it reports to, whether she can leave, or its papers. "
    "Tell her, then refer her anew.",
    (),
)
_ANOTHER_AUTHORITY = Refused(
    "another-authority",
    "This office acts for another country now than when the referral was made. Ask her, then refer her anew.",
    (),
)


def told_of(receiver: Member) -> str:
    """What she is told of a receiver first, as the roster has it: a digest, to notice that it is something else now."""
    return _digest_of(receiver.told_first)


@lru_cache(maxsize=1024)
def _digest_of(told: ToldFirst) -> str:
    return hashlib.sha256(canonical(told.model_dump(mode="json"))).hexdigest()


def _party(member: Member) -> Party:
    return Party(kind=member.kind, country=member.country, represents=member.represents)


def sealed_between(facts: Facts, sender: Member, receiver: Member) -> Facts:
    """The facts after something more was sealed between these two, as the roster has them now."""
    pair = (_party(sender), _party(receiver))
    return facts if pair in facts.between else facts.model_copy(update={"between": (*facts.between, pair)})


def sealed_now(node: Node, facts: Facts, peer: str) -> Facts:
    """The same for what is sealed to this peer just now."""
    members = node.world().roster.members
    sender, receiver = members.get(node.agency), members.get(peer)
    return facts if sender is None or receiver is None else sealed_between(facts, sender, receiver)


def as_they_were(facts: Facts, now: GroupsQuestion) -> list[GroupsQuestion]:
    """The question between the two as they were, where they were something else, whenever something was sealed."""
    return [
        replace(now, sender=_as_it_was(now.sender, sender), receiver=_as_it_was(now.receiver, receiver))
        for sender, receiver in facts.between
        if (sender, receiver) != (_party(now.sender), _party(now.receiver))
    ]


def as_they_were_first(facts: Facts, sender: Member, receiver: Member) -> tuple[Member, Member] | None:
    """Sender and receiver as they were when the referral was made; nothing where that is not on record."""
    return next(((_as_it_was(sender, one), _as_it_was(receiver, other)) for one, other in facts.between[:1]), None)


def _as_it_was(member: Member, party: Party) -> Member:
    return member.model_copy(update=party.model_dump())


def authority_refuses(facts: Facts, receiver: Member) -> Refused | None:
    """Where the receiver has become the authority of a country against which her wish was not held."""
    now = authority_of(receiver)
    made = [authority_of(_as_it_was(receiver, then)) for _, then in facts.between[:1]]
    return _ANOTHER_AUTHORITY if now is not None and made and now not in made else None


def information_refuses(facts: Facts, receiver: Member, stage: Stage, groups: Iterable[Group]) -> Refused | None:
    """Where it says who she is, beyond how to reach her, and the receiver is not what she was told before."""
    says_who = stage is not Stage.OFFER and any(group is not Group.CONTACT for group in groups)
    return _REFER_ANEW if says_who and facts.told_first not in {None, told_of(receiver)} else None


def _forward_again(facts: Facts, kind: Kind, now: GroupsQuestion) -> bool:
    if kind is Kind.INFORMATION and information_refuses(facts, now.receiver, now.stage, now.groups):
        return False
    if authority_refuses(facts, now.receiver) or not isinstance(groups_allowed(now), Allowed):
        return False
    may_go = may_be_inside(now)
    return all(may_be_inside(question) <= may_go for question in as_they_were(facts, now))


def disclosure_again(
    node: Node, facts: Facts, row: StoredConsent | None, contract: Contract, sender: Member, receiver: Member
) -> Allowed | Refused:
    """May what is held, or was released, still go?"""
    if facts.told_first not in {None, told_of(receiver)}:
        return _TOLD_ANEW
    if (refused := authority_refuses(facts, receiver)) is not None:
        return refused
    consent, at = hers(node, row, facts), node.now()
    if not facts.held_groups:
        return still_allowed(sender, receiver, facts.service, facts.held_fields, contract, consent, at)
    groups = frozenset(facts.held_groups)
    question = GroupsQuestion(sender, receiver, facts.service, Stage.DISCLOSURE, groups, contract, consent, at)
    return groups_still_allowed(question, frozenset(facts.held_fields))


class AskedAgain(NamedTuple):
    """Ids of forwards of which the gate was asked again. What is in neither may not go any more."""

    allowed: frozenset[str]
    """These may still go as the world is now."""
    unreadable: frozenset[str]
    """Of these that cannot be said: their referral or consent cannot be read here."""


async def allowed_again(node: Node, world: World, headers: Mapping[str, Header]) -> AskedAgain:
    """Which of these envelopes, by id, may still go; the log says of which referral it cannot be said."""

    def read(conn: Connection) -> tuple[dict[str, ReferralRecord], dict[str, StoredConsent | None]]:
        records = load_referrals(conn, {header.referral for header in headers.values()})
        consents = {record.consent_id for record in records.values() if record.consent_id is not None}
        return records, {consent: load_consent(conn, consent) for consent in consents}

    records, consents = await node.database.read(read)

    def may_go(header: Header) -> bool:
        record, contract = records.get(header.referral), world.contracts.get(header.contract or "")
        if record is None or record.sealed_facts is None or contract is None:
            return False
        facts = open_facts(node, record.id, record.sealed_facts)
        row = consents.get(record.consent_id or "")
        sender, receiver = world.roster.member(header.sender), world.roster.member(header.recipient)
        if header.kind is Kind.DISCLOSURE:
            return isinstance(disclosure_again(node, facts, row, contract, sender, receiver), Allowed)
        consent = hers(node, row, facts)
        question = question_about(node, header, receiver, facts.service, contract, consent)
        return _forward_again(facts, header.kind, question)

    allowed, unreadable = set[str](), set[str]()
    for envelope, header in headers.items():
        try:
            if may_go(header):
                allowed.add(envelope)
        except UNREADABLE as error:
            tell_unreadable(node, "referral", header.referral, error, peer=header.recipient)
            unreadable.add(envelope)
    return AskedAgain(frozenset(allowed), frozenset(unreadable))

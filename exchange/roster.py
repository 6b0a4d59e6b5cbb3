"""Who is a member, with which keys, and which contracts are in force between whom.

Rules:

* A roster is read whole or not at all. Unknown or repeated members, an agency or a key listed twice, an embassy that
  does not say whom it represents: refused, with the place and a code.
* Synthetic and real members never stand in one roster. Plain HTTP is for a synthetic roster on this machine only.
* Keys and addresses of a peer come from here, never from the peer.
* A contract is in force between two agencies on a day when both are listed for it, both signed adherence to its exact
  bytes with their agency key, and the day lies within the dates. A signature that does not verify is no adherence.
* Standing: a forward needs two active members. An answer may still come from a suspended member, to an active one. A
  stop always passes, whatever became of its sender or receiver: her no does not depend on anybody's standing.
* The digest is SHA-256 over the exact bytes of the file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic import Field as Described
from pydantic_core import PydanticCustomError

from consent.terms import AgencyId, Country, Sha256
from contracts.canonical_json import canonical
from contracts.vocabulary import AgencyKind, ServiceType
from contracts.vocabulary.term import Term
from exchange.envelope.errors import MalformedError, StatementError, TooLargeError
from exchange.envelope.kinds import KindClass
from exchange.envelope.statements import Adherence, parse_statement
from exchange.envelope.wire import from_base64url, parse_object, to_base64url
from exchange.referral.canonical import problems_of
from exchange.referral.errors import ContentProblem
from exchange.referral.values import AS_WRITTEN, Codes, Day, LongName, ShortText, Yes, once_each

KEY_BYTES: Final = 32
MAX_ROSTER_BYTES: Final = 4 * 1024 * 1024
_URL: Final = re.compile(r"https?://[a-z0-9.-]{1,253}(:(?P<port>[0-9]{1,5}))?")
_LOOPBACK: Final = re.compile(r"http://(127\.0\.0\.1|localhost)(:[0-9]{1,5})?")


class RosterError(Exception):
    """Any refusal of the roster. Never raised directly."""


class RosterInvalidError(RosterError):
    """The file is not a roster, or not a member card. `.problems` says where, never what."""

    def __init__(self, *problems: ContentProblem) -> None:
        self.problems = problems
        listed = ", ".join(f"{problem.path}: {problem.code}" for problem in problems)
        super().__init__(f"The roster is not valid ({listed}).")


class UnknownMemberError(RosterError):
    """No agency of this id is in the roster."""

    def __init__(self) -> None:
        super().__init__("No agency of this id is in the roster.")


class Status(Term):
    """The standing of a member. Nobody disappears before its longest retention has passed."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    LEFT = "left"


def _key(value: Any) -> bytes:
    if isinstance(value, bytes) and len(value) == KEY_BYTES:
        return value
    try:
        key = from_base64url(value, member="key", longest=KEY_BYTES)
    except (MalformedError, TooLargeError):
        key = b""
    if len(key) != KEY_BYTES:
        raise PydanticCustomError("not_a_key", "must be 32 bytes in base64url without padding")
    return key


def _url(value: str) -> str:
    form = _URL.fullmatch(value)
    if form is None or (value.startswith("http:") and not _LOOPBACK.fullmatch(value)) or not _is_port(form["port"]):
        raise PydanticCustomError("not_a_node_url", "must be https:// and a host, without path or trailing slash")
    return value


def _is_port(digits: str | None) -> bool:
    return digits is None or 0 < int(digits) < 2**16


Key = Annotated[bytes, BeforeValidator(_key), PlainSerializer(to_base64url, return_type=str, when_used="json")]
NodeUrl = Annotated[str, StringConstraints(max_length=270), AfterValidator(_url)]


class _Listed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


ListedT = TypeVar("ListedT", bound=_Listed)


class ToldFirst(_Listed):
    """What she should hear about an agency before she agrees to be referred to it."""

    reports_to: Annotated[tuple[LongName, ...], Described(max_length=10)] = ()
    freedom_of_movement: ShortText
    requires_documents: Yes


class Member(_Listed):
    """One agency of the federation."""

    agency: AgencyId
    name: LongName
    kind: AgencyKind
    country: Country
    represents: Country | None = None
    """Whose authority it is; an embassy's only, and every embassy's."""
    service_types: Codes[ServiceType]
    node_url: NodeUrl
    agency_key: Key
    node_key: Key
    duty_contact: LongName
    breach_contact: LongName
    told_first: ToldFirst
    status: Status = Status.ACTIVE
    synthetic: Yes = False

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if (self.represents is not None) is not (self.kind is AgencyKind.EMBASSY):
            raise PydanticCustomError("represents_misplaced", "an embassy, and only an embassy, represents a country")
        if self.agency_key == self.node_key:
            raise PydanticCustomError("same_key", "the agency key and the node key are two keys")
        if self.node_url.startswith("http:") and not self.synthetic:
            raise PydanticCustomError("plain_http", "plain http is for synthetic members on this machine only")
        return self


class _AdoptionFile(_Listed):
    model_config = ConfigDict(validate_by_alias=True, validate_by_name=True, serialize_by_alias=True)

    digest: Sha256
    # As many as the roster itself may list: only its size has a limit.
    members: Annotated[tuple[AgencyId, ...], AfterValidator(once_each)]
    from_: Day = Described(alias="from")
    until: Day
    adherence: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until < self.from_:
            raise PydanticCustomError("dates_backwards", "a contract must end after it begins")
        return self


class _RosterFile(_Listed):
    version: Annotated[int, Described(strict=True, ge=1, le=2**53 - 1)]
    synthetic: Yes = False
    members: tuple[Member, ...]
    contracts: tuple[_AdoptionFile, ...] = ()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if any(member.synthetic is not self.synthetic for member in self.members):
            raise PydanticCustomError("synthetic_mixed", "synthetic and real members never stand in one roster")
        keys = [key for member in self.members for key in (member.agency_key, member.node_key)]
        names = [member.agency for member in self.members]
        digests = [adoption.digest for adoption in self.contracts]
        for listed, code in ((keys, "key_twice"), (names, "agency_twice"), (digests, "contract_twice")):
            if any(count > 1 for count in Counter(listed).values()):
                raise PydanticCustomError(code, "must not stand in the roster twice")
        if any(not set(names).issuperset(adoption.members) for adoption in self.contracts):
            raise PydanticCustomError("unknown_adopter", "only members adopt a contract")
        return self


@dataclass(frozen=True, slots=True)
class Adoption:
    """A contract and the agencies that adopted it."""

    digest: str
    members: frozenset[str]
    from_: date
    until: date
    adherence: Mapping[str, bytes]
    """Agency to its signed statement, for every signature that verified under the key in this roster."""

    def holds(self, one: str, other: str, on: date) -> bool:
        """Whether the contract is in force between these two on this day."""
        return {one, other} <= self.members & self.adherence.keys() and self.from_ <= on <= self.until


@dataclass(frozen=True, slots=True)
class RosterSnapshot:
    """One version of the roster, verified."""

    version: int
    digest: str
    members: Mapping[str, Member]
    contracts: tuple[Adoption, ...]
    synthetic: bool
    source: bytes = field(repr=False)
    """The exact bytes, for mirroring."""

    def member(self, agency: str) -> Member:
        """The member of this id.

        Raises:
            UnknownMemberError: if there is none.
        """
        found = self.members.get(agency)
        if found is None:
            raise UnknownMemberError
        return found

    def contract_in_force(self, one: str, other: str, at: datetime) -> tuple[str, ...]:
        """The digests of the contracts in force between two agencies, the latest to begin first."""
        on = at.astimezone(UTC).date()
        held = [adoption for adoption in self.contracts if adoption.holds(one, other, on)]
        held.sort(key=lambda adoption: (adoption.from_, adoption.until, adoption.digest), reverse=True)
        return tuple(adoption.digest for adoption in held)

    def in_force_nearby(self, digest: str, one: str, other: str, at: datetime, skew_ms: int) -> bool:
        """Whether a contract is in force between two agencies on the day that it is by a clock that differs so much."""
        skew = timedelta(milliseconds=skew_ms)
        return any(digest in self.contract_in_force(one, other, when) for when in (at, at - skew, at + skew))


def standing_allows(sender: Member, receiver: Member, kind_class: KindClass) -> bool:
    """Whether the standing of both members lets an envelope of this class pass."""
    if kind_class is KindClass.STOP:
        return True
    if receiver.status is not Status.ACTIVE:
        return False
    return sender.status is Status.ACTIVE or (kind_class is KindClass.ANSWER and sender.status is Status.SUSPENDED)


def parse_roster(data: bytes) -> RosterSnapshot:
    """The roster in these bytes, with every adherence signature checked.

    Raises:
        RosterInvalidError: for anything that is not a roster.
    """
    file = _validated(_RosterFile, data, context=AS_WRITTEN)
    members = {member.agency: member for member in file.members}
    return RosterSnapshot(
        version=file.version,
        digest=hashlib.sha256(data).hexdigest(),
        members=MappingProxyType(members),
        contracts=tuple(_adoption(entry, members) for entry in file.contracts),
        synthetic=file.synthetic,
        source=data,
    )


def roster_bytes(
    *, version: int, synthetic: bool, members: tuple[Member, ...], contracts: tuple[Adoption, ...] = ()
) -> bytes:
    """A roster file, written so that a person can read and compare it; `parse_roster` reads it."""
    file: dict[str, Any] = {
        "version": version,
        "synthetic": synthetic,
        "members": [member.model_dump(mode="json", exclude_none=True) for member in members],
        "contracts": [
            {
                "digest": adoption.digest,
                "members": sorted(adoption.members),
                "from": adoption.from_.isoformat(),
                "until": adoption.until.isoformat(),
                "adherence": [json.loads(adoption.adherence[agency]) for agency in sorted(adoption.adherence)],
            }
            for adoption in contracts
        ],
    }
    return (json.dumps(file, indent=2, sort_keys=True) + "\n").encode("ascii")


def member_card(member: Member) -> bytes:
    """The card with which an agency asks to be listed: canonical JSON."""
    return canonical(member.model_dump(mode="json", exclude_none=True))


def parse_member_card(data: bytes) -> Member:
    """The member on this card.

    Raises:
        RosterInvalidError: for anything that is not a card.
    """
    return _validated(Member, data)


def _validated(kind: type[ListedT], data: bytes, context: Mapping[str, str] | None = None) -> ListedT:
    problems: tuple[ContentProblem, ...] = (ContentProblem("$", "not-json"),)
    try:
        return kind.model_validate(parse_object(data, longest=MAX_ROSTER_BYTES), context=context)
    except ValidationError as error:
        problems = problems_of(error)
    except (MalformedError, TooLargeError):
        pass
    raise RosterInvalidError(*problems)


def _adoption(entry: _AdoptionFile, members: Mapping[str, Member]) -> Adoption:
    adherence = dict(_adherents(entry, members))
    return Adoption(entry.digest, frozenset(entry.members), entry.from_, entry.until, MappingProxyType(adherence))


def _adherents(entry: _AdoptionFile, members: Mapping[str, Member]) -> Iterator[tuple[str, bytes]]:
    for listed in entry.adherence:
        statement = canonical(listed)
        try:
            signed = parse_statement(Adherence, statement)
            claimed = signed.unverified
            if claimed.agency not in entry.members or claimed.contract != entry.digest:
                continue
            signed.verify(members[claimed.agency].agency_key)
        except StatementError:
            continue
        yield claimed.agency, statement

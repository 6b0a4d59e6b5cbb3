"""`POST /v1/envelopes`: what a node refuses of its own agency's software, by the header alone. Nothing is stored."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import update
from support.blind import BlindStory, Office, referred
from support.committed_openapi import document
from support.federation import Federation, federation
from support.lying_peer import row_counts
from support.people import consent_request, referral_request
from support.resealing import header_of, resealed
from support.rosters import with_member, without
from support.stories import now_of, safe_contact

from contracts.loader import load_contract, shipped_contract
from contracts.vocabulary import Field, Group, WithdrawalForm, fields_of
from exchange.client import AgencyClient, ProblemError, new_idempotency_key
from exchange.client.vault import AgencyVault, GateRefusedError, Identity, VaultError, telling_later
from exchange.client.vault.acts import Act, LaterRequest
from exchange.client.vault.referring import SealedReferral
from exchange.demo.federation import HELPLINE, LABOUR_OFFICE, SHELTER, AgencyPlan
from exchange.envelope.epochs import EpochStatement
from exchange.envelope.keys import AgencyKey
from exchange.envelope.kinds import Kind
from exchange.limits import HOUR_MS, LIMITS, MINUTE_MS
from exchange.referral.content import ContentInvalidError, ReferralContent
from exchange.roster import Member
from exchange.schemas.consents import ConsentView
from exchange.schemas.inbox import DecisionRequest
from exchange.schemas.node import PeerKeys
from exchange.schemas.referrals import ForwardAnswer, ReferralView
from exchange.schemas.sealing import EnvelopesAnswer, EnvelopesRequest
from exchange.schemas.shapes import from_millis, to_millis
from exchange.storage.tables import REFERRAL
from exchange.use_cases import hand_in_sealed, release_disclosure, sealed_checks
from exchange.use_cases.node import Node

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOBODY = "f" * 32
OTHER_PHONE = "+00 12 000 0002"


@dataclass
class Desk:
    """A blind helpline, its vault, and a shelter that holds its keys."""

    together: Federation
    office: Office
    shelter: Office

    @property
    def identity(self) -> Identity:
        return self.office.identity

    async def sealed(self) -> SealedReferral:
        assert self.office.vault is not None
        consent = await self.office.client.consents.record(consent_request(SHELTER.agency))
        return await self.office.vault.seal(referral_request(SHELTER.agency, consent.id))

    async def refuses(self, request: EnvelopesRequest) -> str:
        """The code of the refusal, after which everything is as before."""
        node = self.office.node.node
        before = await row_counts(node.database)
        with pytest.raises(ProblemError) as refused:
            await self.office.client.sealing.hand_in(request)
        assert await row_counts(node.database) == before
        return refused.value.problem.code

    async def story(self, **consent: Any) -> BlindStory:
        return await referred(self.together, self.office.node, self.shelter.node, **consent)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    folder, plans = tmp_path_factory.mktemp("desk"), (HELPLINE, SHELTER, LABOUR_OFFICE)
    async with federation(folder, plans, blind=(HELPLINE,)) as together:
        yield Desk(together, Office.of(together[HELPLINE]), Office.of(together[SHELTER]))


def _offer(**changes: Any) -> Callable[[Desk, EnvelopesRequest], EnvelopesRequest]:
    def change(desk: Desk, request: EnvelopesRequest) -> EnvelopesRequest:
        offer = resealed(request.envelopes[0], desk.identity, **changes)
        return request.model_copy(update={"envelopes": (offer,)})

    return change


def _held(**changes: Any) -> Callable[[Desk, EnvelopesRequest], EnvelopesRequest]:
    def change(desk: Desk, request: EnvelopesRequest) -> EnvelopesRequest:
        held = resealed(request.envelopes[1], desk.identity, **changes)
        return request.model_copy(update={"envelopes": (request.envelopes[0], held)})

    return change


def _shifted(**by: int) -> Callable[[Desk, EnvelopesRequest], EnvelopesRequest]:
    """The whole offer at another time, its members agreeing with each other."""

    def change(desk: Desk, request: EnvelopesRequest) -> EnvelopesRequest:
        header = header_of(request.envelopes[0])
        moved = {name: (getattr(header, name) or 0) + shift for name, shift in by.items()}
        return _offer(**moved)(desk, request)

    return change


def _request(**changes: Any) -> Callable[[Desk, EnvelopesRequest], EnvelopesRequest]:
    return lambda _desk, request: request.model_copy(update=changes)


def _wire(member: str, text: str) -> Callable[[Desk, EnvelopesRequest], EnvelopesRequest]:
    def change(_desk: Desk, request: EnvelopesRequest) -> EnvelopesRequest:
        offer = request.envelopes[0].model_copy(update={member: text})
        return request.model_copy(update={"envelopes": (offer,)})

    return change


def _stolen(desk: Desk, request: EnvelopesRequest) -> EnvelopesRequest:
    other = AgencyKey(b"\x05" * 32)
    return _offer(key=other, signing_key=other.key_id)(desk, request)


def _roster(desk: Desk, request: EnvelopesRequest) -> EnvelopesRequest:
    return _offer(roster_version=desk.identity.roster.version + 1)(desk, request)


def _receipt_ends_later(desk: Desk, request: EnvelopesRequest) -> EnvelopesRequest:
    """By a moment, and still before her consent: what two receivers hold would be alike by its very end."""
    receipt = header_of(request.envelopes[0]).receipt
    assert receipt is not None
    return _offer(receipt={"expires": receipt.expires + 1})(desk, request)


def _ended(desk: Desk, request: EnvelopesRequest) -> EnvelopesRequest:
    return _held(expires=header_of(request.envelopes[1]).created + 1)(desk, request)


def _twice(_desk: Desk, request: EnvelopesRequest) -> EnvelopesRequest:
    return request.model_copy(update={"envelopes": (request.envelopes[0], request.envelopes[0])})


def _held_alone(_desk: Desk, request: EnvelopesRequest) -> EnvelopesRequest:
    return request.model_copy(update={"envelopes": request.envelopes[1:]})


_ALL_TIMES = ("created", "expires", "respond_by", "number")
OFFERS = {
    "malformed": (_wire("header", "e30"), "malformed"),
    "released-by-itself": (_wire("release", "e30"), "release-misplaced"),
    "touched": (_wire("signature", "A" * 86), "bad-signature"),
    "of-another-agency": (_offer(sender="rose-house-shelter", recipient="lantern-helpline"), "sender-differs"),
    "signed-by-another-key": (_stolen, "signing-key-differs"),
    "signed-by-a-key-it-does-not-name": (_offer(key=AgencyKey(b"\x06" * 32)), "bad-signature"),
    "to-nobody": (_offer(recipient="nobody-at-all"), "unknown-agency"),
    "by-another-roster": (_roster, "roster-differs"),
    "by-another-roster-of-this-version": (_offer(roster_digest="a" * 64), "roster-differs"),
    "from-the-future": (_shifted(**dict.fromkeys(_ALL_TIMES, 3 * MINUTE_MS)), "from-the-future"),
    "numbered-from-the-future": (_shifted(number=3 * MINUTE_MS), "from-the-future"),
    "made-an-hour-ago": (_shifted(**dict.fromkeys(_ALL_TIMES, -HOUR_MS)), "too-old"),
    "to-another-week": (_offer(epoch_key=NOBODY), "epoch-key-differs"),
    "under-another-contract": (_offer(contract="a" * 64), "contract-not-in-force"),
    "without-consent": (_request(consent=None), "consent-missing"),
    "without-its-version": (_request(consent_version=None), "consent-missing"),
    "with-an-unknown-consent": (_request(consent=NOBODY), "no-consent"),
    "with-another-version": (_request(consent_version=9), "changed-meanwhile"),
    "sealed-to-one-and-addressed-to-another": (_offer(recipient="example-labour-office"), "epoch-key-differs"),
    "for-another-purpose": (_offer(purpose="provide-wage-claim"), "service-not-offered"),
    "for-what-she-did-not-allow": (_offer(purpose="provide-transit-accommodation"), "purpose-not-covered"),
    "with-her-name-in-the-offer": (_offer(groups=("name", "need", "routing")), "group-not-allowed"),
    "with-her-status": (_held(groups=("contact", "name", "status")), "group-not-allowed"),
    "receipt-not-signed": (_offer(receipt={"signature": bytes(64)}), "receipt-signature"),
    "receipt-for-less": (_offer(receipt={"groups": ("routing",)}), "receipt-mismatch"),
    "receipt-of-another-basis": (_offer(receipt={"basis": "exception"}), "receipt-differs"),
    "receipt-that-outlives-her-consent": (_offer(receipt={"expires": 2**52}), "receipt-differs"),
    "receipt-that-ends-later-than-one-cut-now": (_receipt_ends_later, "receipt-differs"),
    "more-time-to-answer": (_shifted(respond_by=HOUR_MS, expires=HOUR_MS), "respond-by-differs"),
    "less-urgent": (_offer(priority="routine"), "respond-by-differs"),
    "seen-what-cannot-be": (_offer(seen=1), "seen-too-high"),
    "two-offers": (_twice, "not-together"),
    "a-disclosure-of-another-referral": (_held(referral=NOBODY), "not-together"),
    "a-disclosure-that-has-ended": (_ended, "too-old"),
    "a-disclosure-without-an-offer": (_held_alone, "not-found"),
}


@pytest.mark.parametrize("name", OFFERS)
async def test_an_offer_is_refused_by_its_header(desk: Desk, name: str) -> None:
    change, code = OFFERS[name]
    sealed = await desk.sealed()
    assert await desk.refuses(change(desk, sealed.hand_in)) == code


async def test_a_disclosure_ends_with_the_offer_and_with_her_consent(desk: Desk) -> None:
    request = (await desk.sealed()).hand_in
    late = header_of(request.envelopes[0]).expires + 1
    assert await desk.refuses(_held(expires=late)(desk, request)) == "expires-too-late"


async def test_what_follows_an_offer_ends_with_the_receivers_key(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    request, known = (await desk.sealed()).hand_in, sealed_checks.current_peer_epoch
    late = header_of(request.envelopes[1]).expires - 1

    async def ends_sooner(node: Node, peer: Member) -> EpochStatement:
        return replace(await known(node, peer), not_after=late - LIMITS.epoch_release_ms)

    monkeypatch.setattr(sealed_checks, "current_peer_epoch", ends_sooner)
    assert await desk.refuses(request) == "expires-too-late"


async def test_the_same_bytes_are_answered_again_and_others_under_the_same_id_are_refused(desk: Desk) -> None:
    request, client = (await desk.sealed()).hand_in, desk.office.client
    first = await client.sealing.hand_in(request, idempotency_key="one")
    assert [one.status for one in first.envelopes] == ["queued", "held"]
    assert await client.sealing.hand_in(request, idempotency_key="one") == first
    again = await client.sealing.hand_in(request, idempotency_key="two")
    assert again.envelopes == first.envelopes
    assert await desk.refuses(_offer(priority="emergency")(desk, request)) == "id-conflict"
    taken = header_of(request.envelopes[0]).referral
    assert await desk.refuses(_offer(id=NOBODY, referral=taken)(desk, request)) == "id-conflict"


@pytest.mark.parametrize("hours", [1, 8 * 24], ids=["too-old", "another-week"])
async def test_what_is_here_is_answered_as_here_however_late_it_is_handed_in_again(tmp_path: Path, hours: int) -> None:
    """No answer came for so long. `too-old` and the like mean sealing it again, which would be another referral."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE,)) as together:
        desk = Desk(together, Office.of(together[HELPLINE]), Office.of(together[SHELTER]))
        sealed, client = await desk.sealed(), desk.office.client
        first = await client.sealing.hand_in(sealed.hand_in)
        together.clock.pass_by(hours=hours)
        again = await client.sealing.hand_in(sealed.hand_in)
        assert (again.envelopes, again.referral.id) == (first.envelopes, first.referral.id)
        assert (await desk.office.own_vault.hand_in(sealed)).id == first.referral.id


async def test_what_is_here_is_answered_as_here_after_the_roster_has_changed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, node = desk.office.client, desk.office.node.node
    sealed, never_came = await desk.sealed(), await desk.sealed()
    first = await client.sealing.hand_in(sealed.hand_in)
    world = node.world()
    newer = replace(world.roster, version=world.roster.version + 1)
    monkeypatch.setattr(node, "world", lambda: replace(world, roster=newer))
    assert (await client.sealing.hand_in(sealed.hand_in)).referral.id == first.referral.id
    assert await desk.refuses(never_came.hand_in) == "roster-differs"


async def test_three_refusals_do_not_mean_that_it_is_not_there(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/blind-node.md says of them: the referral is there to be read."""
    client, node = desk.office.client, desk.office.node.node
    sealed, world = await desk.sealed(), node.world()
    first = await client.sealing.hand_in(sealed.hand_in)
    own = world.roster.member(HELPLINE.agency)
    replaced = with_member(world.roster, HELPLINE.agency, agency_key=own.node_key)
    gone, unlisted = without(world.roster, SHELTER.agency), without(world.roster, HELPLINE.agency)
    for roster, code in ((replaced, "signing-key-differs"), (gone, "unknown-agency"), (unlisted, "sender-not-active")):
        monkeypatch.setattr(node, "world", lambda roster=roster: replace(world, roster=roster))
        assert await desk.refuses(sealed.hand_in) == code
        assert (await client.referrals.read(first.referral.id)).id == first.referral.id


async def test_an_emergency_that_is_handed_in_again_is_to_be_telephoned_still(desk: Desk) -> None:
    consent = await desk.office.client.consents.record(consent_request(SHELTER.agency))
    urgent = referral_request(SHELTER.agency, consent.id, priority="emergency")
    request = (await desk.office.own_vault.seal(urgent)).hand_in
    first = await desk.office.client.sealing.hand_in(request)
    assert first.call_now
    assert await desk.office.client.sealing.hand_in(request) == first


async def test_what_is_here_is_answered_as_here_also_after_its_disclosure_has_gone(desk: Desk) -> None:
    sealed, client = await desk.sealed(), desk.office.client
    first = await client.sealing.hand_in(sealed.hand_in)
    await desk.together.travel()
    await desk.shelter.decide(first.referral.id, DecisionRequest(decision="declined", reason="no-capacity"))
    await desk.together.travel()
    again = await client.sealing.hand_in(sealed.hand_in)
    assert (again.referral.id, again.referral.state) == (first.referral.id, "declined")
    assert [one.id for one in again.envelopes] == [first.envelopes[0].id]


async def test_a_branch_is_not_told_of_anothers_referral_by_handing_in_its_bytes(desk: Desk) -> None:
    north, south = [desk.office.client.acting_as("w-branch", unit) for unit in ("north", "south")]
    consent = await north.consents.record(consent_request(SHELTER.agency))
    request = (await AgencyVault(desk.identity, north).seal(referral_request(SHELTER.agency, consent.id))).hand_in
    first = await north.sealing.hand_in(request)
    others = _offer(priority="emergency")(desk, request)
    fresh_id = _offer(id=NOBODY, referral=first.referral.id)(desk, request)
    for again in (request, others, fresh_id):
        with pytest.raises(ProblemError) as refused:
            await south.sealing.hand_in(again)
        assert (refused.value.problem.status, refused.value.problem.code) == (404, "not-found")
        assert "404" in document("openapi")["paths"]["/v1/envelopes"]["post"]["responses"]
    for client in (north, desk.office.client):
        assert (await client.sealing.hand_in(request)).referral.id == first.referral.id


async def test_after_erasure_the_same_bytes_make_nothing_under_any_key(desk: Desk) -> None:
    request, client = (await desk.sealed()).hand_in, desk.office.client
    first = await client.sealing.hand_in(request, idempotency_key="before-erasure")
    await client.withdrawals.of_referral(first.referral.id, WithdrawalForm.ERASE)
    before = await row_counts(desk.office.node.node.database)
    with pytest.raises(ProblemError) as gone:
        await client.sealing.hand_in(request, idempotency_key="before-erasure")
    assert (gone.value.problem.status, gone.value.problem.code) == (410, "answer-destroyed")
    assert await row_counts(desk.office.node.node.database) == before
    assert await desk.refuses(request) == "id-conflict"


async def test_nothing_leaves_under_a_consent_that_has_ended(desk: Desk) -> None:
    request = (await desk.sealed()).hand_in
    assert request.consent is not None
    await desk.office.client.withdrawals.of_consent(request.consent, WithdrawalForm.STOP_SHARING)
    code = await desk.refuses(request)
    assert code in {"changed-meanwhile", "consent-withdrawn"}
    fresh = request.model_copy(update={"consent_version": 2})
    assert await desk.refuses(fresh) == "consent-withdrawn"


async def test_content_is_refused_where_the_keys_are_elsewhere(desk: Desk) -> None:
    story, client = await desk.story(), desk.office.client
    request = referral_request(SHELTER.agency, NOBODY)
    for ask, path in ((client.referrals.send, "/v1/referrals"), (client.referrals.preview, "/v1/referrals/preview")):
        with pytest.raises(ProblemError) as refused:
            await ask(request)  # type: ignore[operator]
        assert refused.value.problem.code == "keys-elsewhere"
        promised = document("openapi")["paths"][path]["post"]["responses"][str(refused.value.problem.status)]
        assert "keys-elsewhere" in promised["content"]["application/problem+json"]["examples"]
    with pytest.raises(ProblemError) as fresh:
        await client.referrals.replace_disclosure(story.id, request.content)
    assert fresh.value.problem.code == "keys-elsewhere"


@pytest.mark.parametrize(
    ("groups", "without", "discloses"),
    [
        pytest.param({"need", "safety", "health", "name", "contact"}, set(), True, id="nothing-less"),
        pytest.param({"need", "safety", "name", "contact"}, set(), True, id="what-cannot-be-inside"),
        pytest.param({"need", "safety"}, set(), False, id="groups"),
        pytest.param({"need", "safety", "health", "name", "contact"}, {Field.MEETING_POINT}, False, id="one-field"),
    ],
)
async def test_a_release_runs_the_gate_again_on_groups(
    desk: Desk, groups: set[str], without: set[Field], discloses: bool
) -> None:
    """What she has taken back may be inside: the node sees no more than that something else of its group may go."""
    places = fields_of(Group.PLACE)
    line = json.loads(consent_request(SHELTER.agency).model_dump_json())["provisions"][0]
    line |= {"groups": ["need", "safety", "health", "name", "contact"], "fields": sorted(places)}
    story = await desk.story(provisions=[line])
    record = await desk.office.client.consents.read(await _consent_of(desk, story))
    changes = {"groups": frozenset(groups), "fields": frozenset(places) - without}
    less = [one.model_copy(update=changes) for one in record.record.provisions]
    await desk.office.client.consents.narrow(record.id, tuple(less))
    await desk.shelter.decide(story.id, DecisionRequest(decision="accepted"))
    await desk.together.travel()
    view = await desk.office.client.referrals.read(story.id)
    if view.flags.awaiting_confirmation:
        await desk.office.client.referrals.release(story.id)
        view = await desk.office.client.referrals.read(story.id)
    assert (view.flags.disclosed, view.flags.awaiting_disclosure) == (discloses, not discloses)


async def _consent_of(desk: Desk, story: BlindStory) -> str:
    case = desk.identity.store.case(story.id)
    assert case is not None
    assert case.consent is not None
    return case.consent


async def test_a_fresh_disclosure_is_held_and_goes_at_once_after_the_acceptance(desk: Desk) -> None:
    assert desk.office.vault is not None
    story, content = await desk.story(), referral_request(SHELTER.agency, NOBODY).content
    await desk.office.vault.replace_disclosure(story.id, content)
    await desk.shelter.decide(story.id, DecisionRequest(decision="waitlisted"))
    await desk.together.travel()
    with pytest.raises(ProblemError) as waiting:
        await desk.office.vault.replace_disclosure(story.id, content)
    assert waiting.value.problem.code == "not-accepted"
    await desk.shelter.decide(story.id, DecisionRequest(decision="accepted"))
    await desk.together.travel()
    assert (await desk.office.client.referrals.read(story.id)).flags.awaiting_disclosure
    await desk.office.vault.replace_disclosure(story.id, content)
    await desk.together.travel()
    assert (await desk.office.client.referrals.read(story.id)).flags.disclosed
    opened = await desk.shelter.open(story.id, "disclosure")
    assert opened.content is not None
    assert opened.content.arrival_words == "paper lantern"
    with pytest.raises(ProblemError) as twice:
        await desk.office.vault.replace_disclosure(story.id, content)
    assert twice.value.problem.code == "already-disclosed"


@pytest.mark.parametrize("goes", [True, False], ids=["released", "the-gate-said-no"])
async def test_who_hands_in_after_the_acceptance_is_told_whether_it_went(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, goes: bool
) -> None:
    """Told to confirm it, she would be asked about what has gone, or is no longer there."""
    story, content = await desk.story(), referral_request(SHELTER.agency, NOBODY).content
    await desk.office.client.referrals.drop_disclosure(story.id)
    await desk.shelter.decide(story.id, DecisionRequest(decision="accepted"))
    await desk.together.travel()
    if not goes:
        monkeypatch.setattr(release_disclosure, "_refusal", lambda *_: ("disclosure-expired", "It is too old."))
    flags = (await desk.office.own_vault.replace_disclosure(story.id, content)).referral.flags
    assert (flags.disclosed, flags.awaiting_disclosure, flags.awaiting_confirmation) == (goes, not goes, False)


@pytest.mark.parametrize(("version", "code"), [(None, "consent-missing"), (1, None), (2, "changed-meanwhile")])
async def test_what_is_told_later_names_the_consent_that_was_looked_at(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, version: int | None, code: str | None
) -> None:
    """She may take a field back between the gate, which the software runs, and the node."""
    story, client, refused = await desk.story(), desk.office.client, []
    hand_in = client.sealing.hand_in

    async def another_version(request: EnvelopesRequest, **_: Any) -> EnvelopesAnswer:
        assert request.consent_version == 1
        changed = request.model_copy(update={"consent_version": version})
        try:
            return await hand_in(changed)
        except ProblemError as error:
            refused.append(error.problem.code)
            return await hand_in(request)

    monkeypatch.setattr(client.sealing, "hand_in", another_version)
    content = referral_request(SHELTER.agency, NOBODY).content
    await AgencyVault(desk.identity, client).replace_disclosure(story.id, content)
    assert refused == [one for one in [code] if one is not None]


class NotHandedInError(Exception):
    """What was sealed stays here."""


async def _telling(desk: Desk, referral: str, kind: Kind, content: ReferralContent) -> ForwardAnswer:
    """As the software tells it, whatever else it would do before."""
    request = LaterRequest(referral=referral, kind=kind, content=content)
    act = Act.of(request, new_idempotency_key(), desk.identity.keyed_digest)
    return await telling_later.tell_later(desk.identity, desk.office.client, request, act)


async def _sealed_later(desk: Desk, referral: str, kind: Kind, members: str) -> EnvelopesRequest:
    """What follows an offer, sealed and not handed in."""
    client, kept = desk.office.client, []

    async def keeps(request: EnvelopesRequest, **_: Any) -> None:
        kept.append(request)
        raise NotHandedInError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(client.sealing, "hand_in", keeps)
        with pytest.raises(NotHandedInError):
            await _telling(desk, referral, kind, ReferralContent.model_validate_json(members))
    return kept[0]


async def _asked(desk: Desk, story: BlindStory) -> None:
    question = DecisionRequest(decision="information-requested", fields=(Field.PARTY,))
    await desk.shelter.decide(story.id, question)
    await desk.together.travel()


async def _recalled(desk: Desk, story: BlindStory) -> None:
    await desk.office.client.referrals.recall(story.id)


async def _asked_and_recalled(desk: Desk, story: BlindStory) -> None:
    await _asked(desk, story)
    await _recalled(desk, story)


async def _disclosed_and_no_more(desk: Desk, story: BlindStory) -> None:
    await story.accepted()
    await desk.office.client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SHARING)


NAME, PARTY, ARRIVAL = '{"preferred_name": "Canary-Baru"}', '{"party": {"adults": 1}}', '{"transport_needed": true}'
LATER: dict[str, tuple[Callable[[Desk, BlindStory], Awaitable[None]], Kind, str, str]] = {
    "a-disclosure-of-what-has-ended": (_recalled, Kind.DISCLOSURE, NAME, "state-forbids"),
    "information-for-what-has-ended": (_asked_and_recalled, Kind.INFORMATION, PARTY, "state-forbids"),
    "an-update-after-her-no-to-sharing": (_disclosed_and_no_more, Kind.UPDATE, ARRIVAL, "sharing-stopped"),
    "an-update-before-the-disclosure": (_asked, Kind.UPDATE, ARRIVAL, "not-accepted"),
}


@pytest.mark.parametrize("name", LATER)
async def test_what_follows_an_offer_is_refused_by_what_became_of_it(desk: Desk, name: str) -> None:
    """The agency's own software does not look: it would seal this, and the node is who stops it."""
    happens, kind, members, code = LATER[name]
    story = await desk.story()
    await happens(desk, story)
    assert await desk.refuses(await _sealed_later(desk, story.id, kind, members)) == code


async def test_what_follows_an_offer_is_refused_by_its_header(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    story, node = await desk.story(), desk.office.node.node
    await _asked(desk, story)
    await story.accepted()
    request = await _sealed_later(desk, story.id, Kind.INFORMATION, PARTY)
    answer = await desk.office.item(story.id, "decision")
    with_routing = {"groups": tuple(sorted({*header_of(request.envelopes[0]).groups, "routing"}))}
    for changes, code in (
        ({"in_reply_to": answer.id}, "nothing-asked"),
        ({"kind": Kind.HOLD}, "kind-not-supported"),
        (with_routing, "group-not-allowed"),
    ):
        changed = resealed(request.envelopes[0], desk.identity, **changes)
        assert await desk.refuses(request.model_copy(update={"envelopes": (changed,)})) == code
    world = node.world()
    ended = replace(world, roster=replace(world.roster, contracts=()))
    with monkeypatch.context() as patched:
        patched.setattr(node, "world", lambda: ended)
        assert await desk.refuses(request) == "contract-not-in-force"
    assert (await desk.office.client.sealing.hand_in(request)).envelopes


async def test_information_answers_a_question_and_a_new_plan_follows_an_old_one(desk: Desk) -> None:
    assert desk.office.vault is not None
    story = await desk.story()
    party = ReferralContent.model_validate_json('{"party": {"adults": 1}}')
    with pytest.raises(VaultError) as unasked:
        await desk.office.vault.inform(story.id, party)
    assert unasked.value.code == "nothing-asked"
    await desk.shelter.decide(story.id, DecisionRequest(decision="information-requested", fields=(Field.PARTY,)))
    await desk.together.travel()
    await desk.office.vault.inform(story.id, party)
    plan = ReferralContent.model_validate_json('{"safe_contact": {"who_initiates": "survivor"}}').safe_contact
    assert plan is not None
    await desk.together.travel()
    told = await desk.shelter.open(story.id, "information")
    assert told.content is not None
    assert told.content.party is not None
    await desk.shelter.decide(story.id, DecisionRequest(decision="accepted"))
    await desk.together.travel()
    await desk.office.vault.update_safe_contact(story.id, plan)
    await desk.together.travel()
    assert (await desk.shelter.open(story.id, "update")).content is not None


@pytest.mark.parametrize("when", ["offered", "accepted-meanwhile", "nothing-held"])
async def test_a_plan_that_changed_before_the_release_takes_what_is_held_with_it(desk: Desk, when: str) -> None:
    """The old one names a telephone that is not safe any more."""
    vault, story, at = desk.office.own_vault, await desk.story(), now_of(desk.together)
    content = referral_request(SHELTER.agency, NOBODY).content
    unsafe = content.model_copy(update={"safe_contact": safe_contact(at)})
    await vault.replace_disclosure(story.id, unsafe)
    if when == "accepted-meanwhile":
        await desk.shelter.decide(story.id, DecisionRequest(decision="accepted"))
    with pytest.raises(ContentInvalidError, match="in-the-future"):
        await vault.update_safe_contact(story.id, safe_contact(at + timedelta(hours=8)))
    told = await vault.update_safe_contact(story.id, safe_contact(at, address=OTHER_PHONE))
    assert told.referral.flags.awaiting_disclosure
    if when == "nothing-held":
        told = await vault.update_safe_contact(story.id, safe_contact(at, address=OTHER_PHONE))
        assert told.referral.flags.awaiting_disclosure
    if when != "accepted-meanwhile":
        await desk.shelter.decide(story.id, DecisionRequest(decision="accepted"))
    await desk.together.travel()
    assert (await desk.office.client.referrals.read(story.id)).flags.awaiting_disclosure
    assert "disclosure" not in [item.kind async for item in desk.shelter.client.inbox.pages(referral=story.id)]
    fresh = content.model_copy(update={"safe_contact": safe_contact(at, address=OTHER_PHONE)})
    await vault.replace_disclosure(story.id, fresh)
    await desk.together.travel()
    opened = await desk.shelter.open(story.id, "disclosure")
    assert opened.content is not None
    assert opened.content.safe_contact == fresh.safe_contact


@pytest.mark.parametrize("dropped", ["first", "by-the-node"])
async def test_a_plan_that_is_told_takes_the_older_one_that_is_held_with_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, dropped: str
) -> None:
    """Released later it would have the higher number, and count: she would be called although she said no."""
    vault, client, story, at = desk.office.own_vault, desk.office.client, await desk.story(), now_of(desk.together)
    content = referral_request(SHELTER.agency, NOBODY).content
    older = content.model_copy(update={"safe_contact": safe_contact(at)})
    newest = safe_contact(at, who_initiates="neither", channels=[], safe_times=[])
    await story.accepted()
    # As what arrived and was refused by the receiver's software leaves it.
    asked = update(REFERRAL).where(REFERRAL.c.id == story.id).values(hold="awaiting-disclosure")
    await desk.office.node.node.database.write(lambda conn: conn.execute(asked).rowcount)

    async def jumped(_: object) -> bool:
        return True

    with monkeypatch.context() as patched:
        patched.setattr(release_disclosure, "clock_jumped", jumped)
        # The second takes the place of the first, which was not let go.
        for _ in range(2):
            await vault.replace_disclosure(story.id, older)
            assert (await client.referrals.read(story.id)).flags.awaiting_confirmation
    if dropped == "first":
        told = await vault.update_safe_contact(story.id, newest)
    else:
        told = await _telling(desk, story.id, Kind.UPDATE, ReferralContent(safe_contact=newest))
    assert (told.referral.flags.awaiting_disclosure, told.referral.flags.awaiting_confirmation) == (True, False)
    with pytest.raises(ProblemError) as nothing:
        await client.referrals.release(story.id)
    assert nothing.value.problem.code == "nothing-held"
    await desk.together.travel()
    offer = await desk.shelter.item(story.id, "offer")
    assert (await desk.shelter.client.inbox.contact_advice(offer.id)).code == "nobody-initiates"


async def test_who_she_is_is_no_information_before_the_release(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the agency's software seals it, nor does the node take it from one that does not ask."""
    assert desk.office.vault is not None
    story = await desk.story()
    await desk.shelter.decide(
        story.id, DecisionRequest(decision="information-requested", fields=(Field.PREFERRED_NAME,))
    )
    await desk.together.travel()
    monkeypatch.setattr(release_disclosure, "most_unserved", lambda *_: 0)
    await desk.shelter.decide(story.id, DecisionRequest(decision="accepted"))
    await desk.together.travel()
    assert (await desk.office.client.referrals.read(story.id)).flags.receiver_unserved
    name = ReferralContent.model_validate_json('{"preferred_name": "Canary-Baru"}')
    with pytest.raises(GateRefusedError):
        await desk.office.vault.inform(story.id, name)
    asked = telling_later.clear_later
    monkeypatch.setattr(telling_later, "clear_later", lambda request, kind, **_: asked(request, kind, accepted=True))
    with pytest.raises(ProblemError) as refused:
        await desk.office.vault.inform(story.id, name)
    assert refused.value.problem.code == "not-accepted"


async def test_what_only_the_sending_software_sets_is_not_told_later(desk: Desk) -> None:
    assert desk.office.vault is not None
    story = await desk.story()
    await _asked(desk, story)
    told = ReferralContent.model_validate_json('{"party": {"adults": 1}, "exercise": true}')
    with pytest.raises(ContentInvalidError) as refused:
        await desk.office.vault.inform(story.id, told)
    assert [(one.path, one.code) for one in refused.value.problems] == [("$.exercise", "set-by-node")]


@pytest.mark.parametrize(("members", "code"), [('{"meeting_point": "Canary Bridge"}', "group-not-allowed"),
                                               ('{"safe_contact": {"who_initiates": "neither"}}', None),
                                               ('{"transport_needed": true}', None)])  # fmt: skip
async def test_an_update_holds_no_more_than_a_plan_and_an_arrival(desk: Desk, members: str, code: str | None) -> None:
    """As where the node seals: what else she tells answers a question, and nobody has asked one here."""
    story = await desk.story()
    await story.accepted()
    tell = _telling(desk, story.id, Kind.UPDATE, ReferralContent.model_validate_json(members))
    if code is None:
        await tell
        return
    with pytest.raises(ProblemError) as refused:
        await tell
    assert refused.value.problem.code == code


@pytest.mark.parametrize("named", [LABOUR_OFFICE, SHELTER], ids=["as-itself", "as-the-receiver"])
async def test_nothing_is_sealed_to_the_key_of_another_member_than_the_receiver(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, named: AgencyPlan
) -> None:
    """Its statements are proven, by it: a node that answers about another member would let that one read hers."""
    consent = await desk.office.client.consents.record(consent_request(SHELTER.agency))
    others = await desk.office.client.federation.peer_keys(LABOUR_OFFICE.agency)
    view = others.model_copy(update={"agency": named.agency})
    assert view.epochs

    async def says(_agency: str) -> PeerKeys:
        return view

    monkeypatch.setattr(desk.office.client.federation, "peer_keys", says)
    with pytest.raises(VaultError) as refused:
        await desk.office.own_vault.seal(referral_request(SHELTER.agency, consent.id))
    assert refused.value.code == "peer-keys-refused"


@pytest.mark.parametrize("about", ["another-woman", "another-member"])
async def test_what_is_told_later_is_about_the_referral_that_was_meant(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, about: str
) -> None:
    """A node that answers about another referral would make one woman's plan another's, in her agency's own hand."""
    hers, others = await desk.story(), await desk.story()
    client = desk.office.client
    view = await client.referrals.read(others.id if about == "another-woman" else hers.id)
    if about == "another-member":
        view = view.model_copy(update={"peer": LABOUR_OFFICE.agency})
    sent: list[EnvelopesRequest] = []

    async def says(_referral: str) -> ReferralView:
        return view

    async def keeps(request: EnvelopesRequest, **_: Any) -> None:
        sent.append(request)
        raise ConnectionError

    monkeypatch.setattr(client.referrals, "read", says)
    monkeypatch.setattr(client.sealing, "hand_in", keeps)
    with pytest.raises(VaultError) as refused:
        await AgencyVault(desk.identity, client).replace_disclosure(
            hers.id, referral_request(SHELTER.agency, NOBODY).content
        )
    assert (refused.value.code, sent) == ("changed-at-node", [])


@pytest.mark.parametrize("confirmed", [80, 1, None], ids=["too-long-ago", "just-now", "nothing-identifies-her"])
async def test_a_disclosure_that_could_not_be_sealed_yet_is_asked_for(desk: Desk, confirmed: int | None) -> None:
    """As where the node seals: otherwise the shelter accepts, and nobody is told that it waits for her name."""
    client = desk.office.client
    consent = await client.consents.record(consent_request(SHELTER.agency))
    request = referral_request(SHELTER.agency, consent.id)
    if confirmed is None:
        content = ReferralContent(needs=request.content.needs, age_band=request.content.age_band)
    else:
        plan = safe_contact(desk.identity.now() - timedelta(hours=confirmed))
        content = request.content.model_copy(update={"safe_contact": plan})
    created = await desk.office.refer(request.model_copy(update={"content": content}))
    flags = (await client.referrals.read(created.id)).flags
    assert (created.disclosure_held, flags.awaiting_disclosure) == (confirmed == 1, confirmed == 80)


async def test_nothing_more_is_sealed_under_a_contract_that_another_has_replaced(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays on file, to open what came under it; the node would refuse it, and is believed in nothing."""
    story, client, sent = await desk.story(), desk.office.client, []
    (adopted,) = desk.identity.roster.contracts
    newer = load_contract(shipped_contract() + b"# newer\n", on=desk.identity.now().date())
    ended = replace(adopted, until=adopted.from_)
    follows = replace(adopted, digest=newer.digest)
    believed = replace(
        desk.identity,
        roster=replace(desk.identity.roster, contracts=(ended, follows)),
        contracts={**desk.identity.contracts, newer.digest: newer},
    )

    async def keeps(request: EnvelopesRequest, **_: Any) -> None:
        sent.append(request)
        raise ConnectionError

    monkeypatch.setattr(client.sealing, "hand_in", keeps)
    with pytest.raises(VaultError) as refused:
        await AgencyVault(believed, client).replace_disclosure(
            story.id, referral_request(SHELTER.agency, NOBODY).content
        )
    assert (refused.value.code, sent) == ("contract-not-in-force", [])


async def test_what_answers_are_verified_by_is_stored_before_anything_is_handed_in(desk: Desk) -> None:
    sealed = await desk.sealed()
    headers = [header_of(one) for one in sealed.hand_in.envelopes]
    consent = await desk.office.client.consents.read(sealed.hand_in.consent or "")
    case = desk.identity.store.case(sealed.created.id)
    assert case is not None
    assert (case.sent, case.offer) == (tuple(header.id for header in headers), headers[0].id)
    assert (case.peer, case.contract, case.purpose) == (SHELTER.agency, headers[0].contract, headers[0].purpose)
    assert (case.consent, case.subject, case.client_code) == (consent.id, consent.subject, sealed.created.client_code)
    assert (case.known_since, case.handed_in) == (headers[0].created, False)
    await desk.office.own_vault.hand_in(sealed)
    assert desk.identity.store.case(sealed.created.id) == case.with_handed_in()


async def test_what_she_takes_back_while_it_is_sealed_is_not_told_later(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    story, real, client = await desk.story(), telling_later.peer_epoch, desk.office.client
    consent = await client.consents.read(await _consent_of(desk, story))
    (line,) = consent.record.provisions

    async def she_is_faster(*asked: Any) -> EpochStatement:
        await client.consents.narrow(consent.id, (line.model_copy(update={"groups": line.groups - {Group.CONTACT}}),))
        return await real(*asked)

    monkeypatch.setattr(telling_later, "peer_epoch", she_is_faster)
    with pytest.raises(ProblemError) as refused:
        await desk.office.own_vault.replace_disclosure(story.id, referral_request(SHELTER.agency, NOBODY).content)
    assert refused.value.problem.code == "changed-meanwhile"


@pytest.mark.parametrize(("hours", "code"), [(2, None), (0, "plan-unconfirmed"), (-1, "plan-unconfirmed")])
async def test_a_fresh_disclosure_ends_with_the_plan_inside(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, hours: int, code: str | None
) -> None:
    story, client, ends = await desk.story(), desk.office.client, []
    content = referral_request(SHELTER.agency, NOBODY).content
    assert content.safe_contact is not None
    now = desk.identity.clock() // 1000 * 1000
    until = from_millis(now + hours * HOUR_MS)
    plan = content.safe_contact.model_copy(update={"valid_until": until})

    async def dies(request: EnvelopesRequest, **_: Any) -> None:
        ends.extend(header_of(one).expires for one in request.envelopes)
        raise ConnectionError

    monkeypatch.setattr(client.sealing, "hand_in", dies)
    still = AgencyVault(replace(desk.identity, clock=lambda: now), client)
    with pytest.raises(VaultError if code else ConnectionError) as refused:
        await still.replace_disclosure(story.id, content.model_copy(update={"safe_contact": plan}))
    assert (getattr(refused.value, "code", None), ends) == (code, [] if code else [now + 2 * HOUR_MS])


async def test_a_fresh_disclosure_ends_with_her_consent(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    story, client, handed = await desk.story(), desk.office.client, []
    consent, read = await _consent_of(desk, story), client.consents.read
    ends = desk.identity.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=3)

    async def ends_soon(asked: str) -> ConsentView:
        view = await read(asked)
        return view.model_copy(update={"record": view.record.model_copy(update={"expires_at": ends})})

    async def dies(request: EnvelopesRequest, **_: Any) -> None:
        handed.extend(header_of(one) for one in request.envelopes)
        raise ConnectionError

    monkeypatch.setattr(client.consents, "read", ends_soon)
    monkeypatch.setattr(client.sealing, "hand_in", dies)
    with pytest.raises(ConnectionError):
        await AgencyVault(desk.identity, client).replace_disclosure(
            story.id, referral_request(SHELTER.agency, consent).content
        )
    assert [header.expires <= to_millis(ends) for header in handed] == [True]


async def test_what_is_told_later_is_known_before_it_is_handed_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    story, client, handed = await desk.story(), desk.office.client, []

    async def dies(request: EnvelopesRequest, **_: Any) -> None:
        handed.extend(header_of(one).id for one in request.envelopes)
        raise ConnectionError

    monkeypatch.setattr(client.sealing, "hand_in", dies)
    before = desk.identity.store.case(story.id)
    with pytest.raises(ConnectionError):
        await AgencyVault(desk.identity, client).replace_disclosure(
            story.id, referral_request(SHELTER.agency, NOBODY).content
        )
    after = desk.identity.store.case(story.id)
    assert before is not None
    assert after is not None
    assert handed
    assert after.sent == (*before.sent, *handed)


async def test_a_clock_that_is_put_back_does_not_put_numbers_of_later_words_back(desk: Desk) -> None:
    story, vault = await desk.story(), desk.office.own_vault
    fields = (Field.PARTY,)
    await desk.shelter.decide(story.id, DecisionRequest(decision="information-requested", fields=fields))
    await desk.together.travel()
    party = ReferralContent.model_validate_json('{"party": {"adults": 1}}')
    before = (await vault.inform(story.id, party)).referral.number
    behind = AgencyVault(replace(desk.identity, clock=lambda: desk.identity.clock() - MINUTE_MS), desk.office.client)
    assert (await behind.inform(story.id, party)).referral.number == before + 1


@pytest.mark.parametrize("kind", ["information", "update"])
async def test_what_is_told_later_does_not_outlive_her_consent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    story = await desk.story(expires_at=(desk.identity.now() + timedelta(hours=6)).isoformat())
    client, refused = desk.office.client, []
    hand_in, vault = client.sealing.hand_in, AgencyVault(desk.identity, client)

    async def outlives(request: EnvelopesRequest, **_: Any) -> EnvelopesAnswer:
        receipt = header_of(request.envelopes[0]).receipt
        assert receipt is not None
        monkeypatch.setattr(client.sealing, "hand_in", hand_in)
        late = resealed(request.envelopes[0], desk.identity, expires=receipt.expires + 1)
        refused.append(await desk.refuses(request.model_copy(update={"envelopes": (late,)})))
        return await hand_in(request)

    if kind == "update":
        await story.accepted()
        plan = ReferralContent.model_validate_json('{"safe_contact": {"who_initiates": "survivor"}}').safe_contact
        assert plan is not None
        told = vault.update_safe_contact(story.id, plan)
    else:
        fields = (Field.PARTY,)
        await desk.shelter.decide(story.id, DecisionRequest(decision="information-requested", fields=fields))
        await desk.together.travel()
        told = vault.inform(story.id, ReferralContent.model_validate_json('{"party": {"adults": 1}}'))
    monkeypatch.setattr(client.sealing, "hand_in", outlives)
    await told
    assert refused == ["expires-too-late"]


async def test_a_number_of_what_is_told_later_is_used_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    story, client, refused = await desk.story(), desk.office.client, []
    hand_in, vault = client.sealing.hand_in, AgencyVault(desk.identity, client)
    fields, party = (Field.PARTY,), ReferralContent.model_validate_json('{"party": {"adults": 1}}')
    await desk.shelter.decide(story.id, DecisionRequest(decision="information-requested", fields=fields))
    await desk.together.travel()
    last = (await vault.inform(story.id, party)).referral.number

    async def twice(request: EnvelopesRequest, **_: Any) -> EnvelopesAnswer:
        monkeypatch.setattr(client.sealing, "hand_in", hand_in)
        again = resealed(request.envelopes[0], desk.identity, number=last)
        refused.append(await desk.refuses(request.model_copy(update={"envelopes": (again,)})))
        return await hand_in(request)

    monkeypatch.setattr(client.sealing, "hand_in", twice)
    await vault.inform(story.id, party)
    assert refused == ["number-not-higher"]


@pytest.mark.parametrize("kind", ["information", "update"])
async def test_what_is_told_later_is_sealed_again_where_its_number_was_used(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A colleague answers, or tells of another plan, at the same moment: each answer arrives, once.

    Of two plans the one that was sealed first is not told after the other: who called hears so, and says what is true.
    """
    story, client = await desk.story(), desk.office.client
    colleague = AgencyVault(replace(desk.identity, clock=lambda: desk.identity.clock() + 1000), client)
    hand_in, handed = client.sealing.hand_in, []
    if kind == "update":
        await story.accepted()
    else:
        fields = (Field.PARTY,)
        await desk.shelter.decide(story.id, DecisionRequest(decision="information-requested", fields=fields))
        await desk.together.travel()

    async def tells(vault: AgencyVault) -> ForwardAnswer:
        if kind == "information":
            return await vault.inform(story.id, ReferralContent.model_validate_json('{"party": {"adults": 1}}'))
        plan = ReferralContent.model_validate_json('{"safe_contact": {"who_initiates": "survivor"}}').safe_contact
        assert plan is not None
        return await vault.update_safe_contact(story.id, plan)

    async def another_first(request: EnvelopesRequest, **_: Any) -> EnvelopesAnswer:
        handed.append(header_of(request.envelopes[0]).number or 0)
        if len(handed) == 1:
            with monkeypatch.context() as patched:
                patched.setattr(client.sealing, "hand_in", hand_in)
                handed.append((await tells(colleague)).referral.number)
        return await hand_in(request)

    monkeypatch.setattr(client.sealing, "hand_in", another_first)
    vault = AgencyVault(desk.identity, client)
    if kind == "update":
        with pytest.raises(VaultError) as overtaken:
            await tells(vault)
        assert overtaken.value.code == "sealed-before"
        await desk.together.travel()
        assert (
            len([item async for item in desk.shelter.client.inbox.pages(referral=story.id) if item.kind == kind]) == 1
        )
    told = await tells(vault)
    first, colleagues, again = handed
    assert (first < colleagues, again, told.referral.number) == (True, colleagues + 1, again)
    await desk.together.travel()
    arrived = [item async for item in desk.shelter.client.inbox.pages(referral=story.id) if item.kind == kind]
    assert len(arrived) == 2


def _keyed(client: AgencyClient, monkeypatch: pytest.MonkeyPatch, key: str) -> list[EnvelopesRequest]:
    """What is handed in from here on, under this key."""
    hand_in, handed = client.sealing.hand_in, list[EnvelopesRequest]()

    async def under(request: EnvelopesRequest, **_: Any) -> EnvelopesAnswer:
        handed.append(request)
        return await hand_in(request, idempotency_key=key)

    monkeypatch.setattr(client.sealing, "hand_in", under)
    return handed


@pytest.mark.parametrize("key", ["fresh-same", "fresh-other"])
async def test_a_repeat_lets_go_what_was_sealed_after_the_acceptance_and_not_let_go(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """The process that stored it ended before. Nothing else takes it up: she would wait, and nobody would call her."""
    story, client = await desk.story(), desk.office.client
    await client.referrals.drop_disclosure(story.id)
    await desk.shelter.decide(story.id, DecisionRequest(decision="accepted"))
    await desk.together.travel()

    async def ends(*_: object) -> None:
        """Before it releases anything."""

    with monkeypatch.context() as dying:
        dying.setattr(hand_in_sealed, "release_disclosure", ends)
        handed = _keyed(client, dying, f"{story.id}-fresh-same")
        vault = AgencyVault(desk.identity, client)
        await vault.replace_disclosure(story.id, referral_request(SHELTER.agency, NOBODY).content)
    assert (await client.referrals.read(story.id)).flags.awaiting_confirmation
    for _ in range(2):
        await client.sealing.hand_in(handed[0], idempotency_key=f"{story.id}-{key}")
        assert (await client.referrals.read(story.id)).flags.disclosed
    await desk.together.travel()
    assert (await desk.shelter.open(story.id, "disclosure")).content is not None


@pytest.mark.parametrize("key", ["early-same", "early-other"])
async def test_a_repeat_does_not_let_go_what_was_sealed_before_the_acceptance(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """A worker has to confirm it with her by then, and this call is older than that."""
    story, client = await desk.story(), desk.office.client
    monkeypatch.setattr(release_disclosure, "goes_by_itself", lambda _facts: False)
    with monkeypatch.context() as patched:
        handed = _keyed(client, patched, f"{story.id}-early-same")
        vault = AgencyVault(desk.identity, client)
        await vault.replace_disclosure(story.id, referral_request(SHELTER.agency, NOBODY).content)
    await desk.shelter.decide(story.id, DecisionRequest(decision="accepted"))
    await desk.together.travel()
    assert (await client.referrals.read(story.id)).flags.awaiting_confirmation
    await client.sealing.hand_in(handed[0], idempotency_key=f"{story.id}-{key}")
    assert (await client.referrals.read(story.id)).flags.awaiting_confirmation


async def test_a_repeat_lets_go_nothing_but_what_it_has_handed_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another has taken its place, and waits for a worker of its own."""
    story, client = await desk.story(), desk.office.client
    content = referral_request(SHELTER.agency, NOBODY).content
    await client.referrals.drop_disclosure(story.id)
    await desk.shelter.decide(story.id, DecisionRequest(decision="accepted"))
    await desk.together.travel()

    async def ends(*_: object) -> None:
        """Before it releases anything."""

    vault, handed = AgencyVault(desk.identity, client), list[EnvelopesRequest]()
    with monkeypatch.context() as dying:
        dying.setattr(hand_in_sealed, "release_disclosure", ends)
        for place in ("first", "second"):
            with monkeypatch.context() as patched:
                under = _keyed(client, patched, f"{story.id}-{place}")
                await vault.replace_disclosure(story.id, content)
            handed += under
    await client.sealing.hand_in(handed[0], idempotency_key=f"{story.id}-first")
    assert (await client.referrals.read(story.id)).flags.awaiting_confirmation

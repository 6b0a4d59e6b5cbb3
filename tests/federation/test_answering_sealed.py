"""A receiving agency that seals its answers itself: what its node refuses by the header and the state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio
from support.blind import BlindStory, Office
from support.federation import Federation, federation
from support.lying_peer import row_counts
from support.other_contract import evaluate_with
from support.people import consent_request, referral_request
from support.resealing import header_of, resealed
from support.stories import content, rows

from contracts.vocabulary import Feedback, Field, Outcome, ServiceType, WithdrawalForm
from exchange.client import AgencyClient, NodeUnreachableError, ProblemError
from exchange.client.vault import AgencyVault, Identity, VaultError, opening
from exchange.client.vault import answering as elsewhere
from exchange.client.vault.answering import sealed_answer
from exchange.client.vault.overtaken import ATTEMPTS
from exchange.client.vault.referring import next_number, posting, signers, wire
from exchange.client.vault.weekly_keys import peer_epoch
from exchange.demo.federation import HELPLINE, LABOUR_OFFICE, SHELTER
from exchange.envelope.kinds import ERASED_BY_NODE, Kind, SignedBy
from exchange.envelope.wire import MAX_INTEGER
from exchange.feedback import Answer, answer
from exchange.limits import DAY_MS, LIMITS, MINUTE_MS, SECOND_MS
from exchange.messages import seal_stop_message
from exchange.referral.answers import Decision, DecisionContent, Progress, ProgressContent
from exchange.roster import Status
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.inbox import DecisionRequest, ProgressRequest, RecallAnswerRequest
from exchange.schemas.referrals import ReferralView
from exchange.schemas.sealing import EnvelopesAnswer, EnvelopesRequest
from exchange.schemas.shapes import to_millis
from exchange.stops import Erased, erasure_receipt
from exchange.storage.database import Connection
from exchange.storage.referrals import load_referral, save_referral
from exchange.storage.tables import EVENT, IDEMPOTENCY, OUTBOX
from exchange.use_cases import sealed_answer as answering

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOBODY = "f" * 32


@dataclass
class Bed:
    """A shelter whose node is blind, and a helpline that asks it."""

    together: Federation
    office: Office
    helpline: Office

    @property
    def vault(self) -> AgencyVault:
        return self.office.own_vault

    @property
    def identity(self) -> Identity:
        return self.office.identity

    async def story(self, *, feedback: str = "outcome") -> BlindStory:
        """An offer that the shelter has opened."""
        consent = consent_request(SHELTER.agency)
        lines = [line.model_copy(update={"feedback": Feedback(feedback)}) for line in consent.provisions]
        kept = await self.helpline.client.consents.record(consent.model_copy(update={"provisions": tuple(lines)}))
        created = await self.helpline.refer(referral_request(SHELTER.agency, kept.id))
        await self.together.travel()
        story = BlindStory(self.together, self.helpline, self.office, created)
        await self.office.open(story.id, "offer")
        return story

    async def answers(self, story: BlindStory, state: str) -> WireEnvelope:
        """This word, sealed and not handed in."""
        case = self.identity.store.case(story.id)
        assert case is not None
        content = (
            DecisionContent(decision=Decision(state)) if state == "accepted" else ProgressContent(state=Progress(state))
        )
        word = answer(content, level=case.feedback, sharing_stopped=False)
        assert isinstance(word, Answer)
        view = await self.office.client.referrals.read(story.id)
        return (await sealed_answer(self.identity, self.office.client, case, view, word)).wire

    async def attestation(self, story: BlindStory) -> WireEnvelope:
        """That the agency's own copies are destroyed, sealed and not handed in."""
        view, at = await self.office.client.referrals.read(story.id), self.identity.clock()
        header = posting(self.identity, view, at, expires=at + LIMITS.stop_expires_ms, number=next_number(view, at))
        receipt = erasure_receipt(Erased.BY_AGENCY)
        return wire(seal_stop_message(receipt, header, signers(self.identity), entropy=self.identity.entropy))

    async def refuses(self, wire: WireEnvelope) -> str:
        before = await row_counts(self.office.node.node.database)
        with pytest.raises(ProblemError) as refused:
            await self.office.client.sealing.hand_in(EnvelopesRequest(envelopes=(wire,)))
        assert await row_counts(self.office.node.node.database) == before
        return refused.value.problem.code


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bed]:
    folder, plans = tmp_path_factory.mktemp("bed"), (HELPLINE, SHELTER, LABOUR_OFFICE)
    async with federation(folder, plans, blind=(SHELTER,)) as together:
        yield Bed(together, Office.of(together[SHELTER]), Office.of(together[HELPLINE]))


ANSWERS = {
    "another-referral": ({"referral": NOBODY}, "not-found"),
    "another-contract": ({"contract": "a" * 64}, "contract-differs"),
    "another-purpose": ({"purpose": "provide-wage-claim"}, "contract-differs"),
    "seen-more-than-came": ({"seen": 2**52}, "seen-too-high"),
    "in-reply-to-nothing": ({"in_reply_to": NOBODY}, "reply-unknown"),
    "to-another-week": ({"epoch_key": NOBODY}, "epoch-key-differs"),
    "agreeing-to-what-nobody-asked": ({"kind": Kind.RECALL_ANSWER, "event": "recalled"}, "no-recall"),
    "of-a-kind-that-is-not-served": ({"kind": Kind.PROBE_ANSWER, "event": None}, "kind-not-supported"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_refused_by_its_header(bed: Bed, name: str) -> None:
    changes, code = ANSWERS[name]
    wire = await bed.answers(await bed.story(), "accepted")
    assert await bed.refuses(resealed(wire, bed.identity, **changes)) == code


async def test_an_answer_to_another_member_than_the_one_that_asked_is_refused(bed: Bed) -> None:
    """Sealed to that one's own key it could be read there."""
    wire = await bed.answers(await bed.story(), "accepted")
    others = await peer_epoch(bed.identity, bed.office.client, LABOUR_OFFICE.agency)
    changed = resealed(wire, bed.identity, recipient=LABOUR_OFFICE.agency, epoch_key=others.key_id)
    assert await bed.refuses(changed) == "not-found"


async def test_a_number_is_used_once(bed: Bed) -> None:
    story = await bed.story()
    wire = await bed.answers(story, "accepted")
    await bed.office.client.sealing.hand_in(EnvelopesRequest(envelopes=(wire,)))
    last = (await bed.office.client.referrals.read(story.id)).number
    for number in (1, last):
        again = resealed(await bed.answers(story, "in-service"), bed.identity, number=number)
        assert await bed.refuses(again) == "number-not-higher"


async def test_an_event_that_the_state_forbids_is_refused(bed: Bed) -> None:
    story = await bed.story()
    assert await bed.refuses(await bed.answers(story, "in-service")) == "state-forbids"
    accepted = await bed.answers(story, "accepted")
    await bed.office.client.sealing.hand_in(EnvelopesRequest(envelopes=(accepted,)))
    repeated = await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    assert repeated.state == "accepted"
    with pytest.raises(ProblemError) as other:
        await bed.vault.decide(story.id, DecisionRequest(decision="waitlisted"))
    assert other.value.problem.code == "state-forbids"


SAID_OTHERWISE: dict[str, list[DecisionRequest | ProgressRequest]] = {
    "decision": [
        DecisionRequest(decision="redirected", suggested_service=ServiceType(service))
        for service in ("legal-aid", "health-care")
    ],
    "progress": [
        ProgressRequest(state="completed", outcome=Outcome(outcome))
        for outcome in ("ended-by-survivor", "service-provided")
    ],
}


@pytest.mark.parametrize("kind", SAID_OTHERWISE)
async def test_a_word_that_is_said_otherwise_is_refused_and_one_that_is_repeated_is_not(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The node cannot read which it is. As at a node with keys; nobody is told that a correction is on its way."""
    _lets_outcomes_travel(bed, monkeypatch)
    story, vault = await bed.story(), bed.vault

    async def says(word: DecisionRequest | ProgressRequest) -> bool:
        if isinstance(word, DecisionRequest):
            await vault.decide(story.id, word)
            return False
        return (await vault.report_progress(story.id, word)).repeated

    if kind == "progress":
        await vault.decide(story.id, DecisionRequest(decision="accepted"))
        await vault.report_progress(story.id, ProgressRequest(state="in-service"))
    first, other = SAID_OTHERWISE[kind]
    assert not await says(first)
    for _ in range(2):
        with pytest.raises(VaultError) as refused:
            await says(other)
        assert refused.value.code == "state-forbids"
        assert await says(first) is (kind == "progress")
    await bed.together.travel()
    told = (await bed.helpline.open(story.id, kind)).answer
    assert told == first.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


async def test_another_question_is_asked(bed: Bed) -> None:
    """Whether it is another one stands inside the seal, which the node cannot read."""
    story = await bed.story()
    for field in ("party", "preferred_name"):
        await bed.vault.decide(story.id, DecisionRequest(decision="information-requested", fields=(Field(field),)))
    await bed.together.travel()
    items = [item async for item in bed.helpline.client.inbox.pages() if item.kind == Kind.INFORMATION_REQUEST]
    asked = [(await bed.helpline.client.inbox.open(item.id)).answer for item in items]
    assert asked == [{"fields": ["party"]}, {"fields": ["preferred_name"]}]


async def test_progress_below_her_level_stays_at_home_and_the_node_lets_no_other_pass(bed: Bed) -> None:
    story = await bed.story(feedback="decision")
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    for again in (False, True):
        act = await bed.vault.report_progress(story.id, ProgressRequest(state="not-arrived"))
        # Who reports it counts on an alarm that nobody hears.
        assert (act.referral.state, act.stays_here, act.repeated) == ("accepted", "feedback-level", again)
    act = await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    assert (act.referral.state, act.stays_here) == ("accepted", "feedback-level")
    case = bed.identity.store.case(story.id)
    assert case is not None
    loud = answer(ProgressContent(state=Progress.SCHEDULED), level=Feedback.OUTCOME, sharing_stopped=False)
    assert isinstance(loud, Answer)
    view = await bed.office.client.referrals.read(story.id)
    wire = (await sealed_answer(bed.identity, bed.office.client, case, view, loud)).wire
    assert await bed.refuses(wire) == "feedback-level"
    over = await bed.vault.report_progress(story.id, ProgressRequest(state="completed"))
    assert over.stays_here is None
    await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == "completed"


async def test_progress_goes_also_where_the_software_died_before_it_told_how_much_may(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object) -> None:
        """The key is stored, and nothing more happens."""

    with monkeypatch.context() as during:
        during.setattr(opening, "_tell", dies)
        story = await bed.story(feedback="status")
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    act = await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    assert (act.referral.state, act.stays_here) == ("in-service", None)
    await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == "in-service"


async def _stands(bed: Bed, agency: str, status: Status) -> None:
    at = {agency: status}
    await bed.together.new_roster(member=lambda one: one.model_copy(update={"status": at.get(one.agency, one.status)}))
    # The agency's own software has it too.
    bed.office = Office.of(bed.together[SHELTER])


async def _barred_acceptance(bed: Bed) -> BlindStory:
    """It was said while the referring agency was suspended, which it is no longer."""
    story = await bed.story()
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    assert (await bed.office.client.referrals.read(story.id)).flags.undeliverable
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    return story


async def _events(bed: Bed, story: BlindStory) -> list[dict[str, Any]]:
    found = await rows(bed.office.node, EVENT, (EVENT.c.referral == story.id) & (EVENT.c.name == "accepted"))
    return [{name: value for name, value in row.items() if name != "digest"} for row in found]


async def test_a_word_that_was_barred_goes_when_it_is_said_again(bed: Bed) -> None:
    """As at a node with keys: the same event, sealed anew, also where the time to answer is over."""
    story = await _barred_acceptance(bed)
    before = await _events(bed, story)
    bed.together.clock.pass_by(hours=2)
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    assert await _events(bed, story) == before
    await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == "accepted"
    assert (await bed.helpline.client.referrals.read(story.id)).flags.disclosed
    assert not (await bed.office.client.referrals.read(story.id)).flags.undeliverable
    posted = len(await rows(bed.office.node, OUTBOX, OUTBOX.c.referral == story.id))
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    assert len(await rows(bed.office.node, OUTBOX, OUTBOX.c.referral == story.id)) == posted


async def test_an_acceptance_that_was_barred_goes_along_with_what_is_said_next(bed: Bed) -> None:
    story = await _barred_acceptance(bed)
    await bed.vault.report_progress(story.id, ProgressRequest(state="scheduled"))
    await bed.together.travel()
    view = await bed.helpline.client.referrals.read(story.id)
    assert (view.state, view.flags.disclosed) == ("scheduled", True)


@pytest.mark.parametrize(("feedback", "steps"), [("status", ["in-service"]), ("decision", ["in-service", "completed"])])
@pytest.mark.parametrize("barred_again", [False, True], ids=["at once", "said again"])
async def test_that_a_service_had_begun_goes_along_with_the_answer_to_a_recall(
    bed: Bed, feedback: str, steps: list[str], barred_again: bool
) -> None:
    """The answer has seen the recall: it does not say that the service had begun before."""
    story = await bed.story(feedback=feedback)
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    for state in steps:
        await bed.vault.report_progress(story.id, ProgressRequest.model_validate({"state": state}))
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    await bed.helpline.client.referrals.recall(story.id)
    await bed.together.travel()
    for standing in [Status.SUSPENDED, Status.ACTIVE] if barred_again else [Status.ACTIVE]:
        await _stands(bed, HELPLINE.agency, standing)
        await bed.vault.answer_recall(story.id, RecallAnswerRequest(agreed=False))
        await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == steps[-1]
    view = await bed.office.client.referrals.read(story.id)
    assert (view.state, view.flags.undeliverable) == (steps[-1], False)
    case = bed.identity.store.case(story.id)
    assert case is not None
    assert case.served == steps[-1]


async def test_the_waiting_list_goes_along_with_a_late_yes(bed: Bed) -> None:
    story = await bed.story()
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    await bed.vault.decide(story.id, DecisionRequest(decision="waitlisted"))
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    due = (await bed.helpline.client.referrals.read(story.id)).respond_by
    bed.together.clock.pass_by(seconds=(to_millis(due) - bed.together.clock()) / SECOND_MS + 60)
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == "accepted"
    assert (await bed.office.client.referrals.read(story.id)).state == "accepted"


async def test_who_has_left_repeats_no_promise_along_with_a_new_one(bed: Bed) -> None:
    story = await bed.story()
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    await bed.vault.decide(story.id, DecisionRequest(decision="waitlisted"))
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    await _stands(bed, SHELTER.agency, Status.LEFT)
    try:
        with pytest.raises(ProblemError) as refused:
            await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    finally:
        await _stands(bed, SHELTER.agency, Status.ACTIVE)
    assert refused.value.problem.code == "sender-not-active"
    outgoing = await rows(bed.office.node, OUTBOX, OUTBOX.c.referral == story.id)
    assert [row["status"] for row in outgoing] == ["deleted"]


async def test_who_has_left_does_not_promise_again_what_nobody_heard(bed: Bed) -> None:
    story = await _barred_acceptance(bed)
    await _stands(bed, SHELTER.agency, Status.LEFT)
    try:
        with pytest.raises(VaultError) as refused:
            await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    finally:
        await _stands(bed, SHELTER.agency, Status.ACTIVE)
    assert refused.value.code == "sender-not-active"
    outgoing = await rows(bed.office.node, OUTBOX, OUTBOX.c.referral == story.id)
    assert [row["status"] for row in outgoing] == ["deleted"]


async def test_nor_does_one_keep_who_has_left_from_ending_what_it_does(bed: Bed) -> None:
    """It was promised while that counted; as at a node with keys only a new promise is refused."""
    story = await _barred_acceptance(bed)
    await _stands(bed, SHELTER.agency, Status.LEFT)
    for state in ("in-service", "completed"):
        await bed.vault.report_progress(story.id, ProgressRequest.model_validate({"state": state}))
    await _stands(bed, SHELTER.agency, Status.ACTIVE)
    names = [row["name"] for row in await rows(bed.office.node, EVENT, EVENT.c.referral == story.id)]
    assert "completed" in names


@pytest.mark.parametrize(("agreed", "state"), [(True, "recalled"), (False, "in-service")])
@pytest.mark.parametrize("stops", [False, True], ids=["she shares", "she stopped sharing"])
async def test_an_answer_to_a_recall_that_was_barred_goes_when_it_is_said_again(
    bed: Bed, agreed: bool, state: str, stops: bool
) -> None:
    story = await bed.story()
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    await bed.helpline.client.referrals.recall(story.id)
    await bed.together.travel()
    for standing in (Status.SUSPENDED, Status.ACTIVE):
        await _stands(bed, HELPLINE.agency, standing)
        if stops and standing is Status.ACTIVE:
            await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SHARING)
            await bed.together.travel()
        await bed.vault.answer_recall(story.id, RecallAnswerRequest(agreed=agreed))
        await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == state
    assert (await bed.office.client.referrals.read(story.id)).state == state
    assert not (await bed.office.client.referrals.read(story.id)).flags.undeliverable


async def test_what_was_barred_does_not_go_as_the_answer_to_a_recall_that_nobody_asked_for(bed: Bed) -> None:
    """That always travels: so what she has stopped since would."""
    story = await bed.story()
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    case, view = bed.identity.store.case(story.id), await bed.office.client.referrals.read(story.id)
    assert case is not None
    said = answer(ProgressContent(state=Progress.IN_SERVICE), level=case.feedback, sharing_stopped=False)
    assert isinstance(said, Answer)
    first = case.words[said.event]
    wire = (await sealed_answer(bed.identity, bed.office.client, case, view, said, first)).wire
    assert await bed.refuses(resealed(wire, bed.identity, kind=Kind.RECALL_ANSWER)) == "no-recall"
    await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == "in-service"


async def test_what_is_made_long_ago_is_taken_only_as_an_event_that_nobody_has_heard(bed: Bed) -> None:
    story = await bed.story()
    wire = await bed.answers(story, "accepted")
    bed.together.clock.pass_by(seconds=660)
    await bed.office.client.referrals.read(story.id)  # with a token of now
    assert await bed.refuses(wire) == "too-old"


async def test_a_recall_in_service_is_answered(bed: Bed) -> None:
    story = await bed.story()
    with pytest.raises(VaultError) as nothing:
        await bed.vault.answer_recall(story.id, RecallAnswerRequest(agreed=True))
    assert nothing.value.code == "no-recall"
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    await bed.helpline.client.referrals.recall(story.id)
    await bed.together.travel()
    await bed.vault.answer_recall(story.id, RecallAnswerRequest(agreed=True))
    await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == "recalled"


async def test_an_attestation_needs_somebody_who_asked_and_no_stop_is_taken_otherwise(bed: Bed) -> None:
    story = await bed.story()
    with pytest.raises(VaultError) as owed:
        await bed.vault.attest_erasure(story.id)
    assert owed.value.code == "nothing-owed"
    # What nobody asked to be erased is not destroyed by the word that it was.
    assert (await bed.vault.open(await bed.office.item(story.id, "offer"))).content is not None
    assert await bed.refuses(await bed.attestation(story)) == "nothing-owed"
    await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    await bed.together.travel()
    await bed.vault.attest_erasure(story.id)
    again = await bed.vault.attest_erasure(story.id)
    assert {one.party for one in again.attestations if one.done_at} >= {"own-agency", "own-node"}


async def test_an_attestation_is_refused_by_its_header(bed: Bed) -> None:
    story = await bed.story()
    await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    await bed.together.travel()
    sealed = await bed.attestation(story)
    record = await bed.office.node.node.database.read(lambda conn: load_referral(conn, story.id))
    assert record is not None
    cases: dict[str, list[dict[str, Any]]] = {
        "not-found": [{"recipient": LABOUR_OFFICE.agency}, {"referral": "f" * 32}],
        "number-not-higher": [{"number": record.number}, {"number": 1}],
        "from-the-future": [{"number": bed.together.clock() + 3 * MINUTE_MS}, {"number": MAX_INTEGER}],
        # Called the node's, signed by the agency's key. A receiver could not verify it.
        "sender-differs": [{"signed_by": SignedBy.NODE, "event": ERASED_BY_NODE}],
        "kind-not-supported": [{"kind": Kind.WITHDRAWAL, "event": "erase"}, {"kind": Kind.RECALL, "event": None}],
    }
    for code, changes in cases.items():
        for change in changes:
            assert await bed.refuses(resealed(sealed, bed.identity, **change)) == code


async def test_what_follows_a_word_that_was_said_by_a_clock_that_was_ahead_is_taken(bed: Bed) -> None:
    """Its number is higher than any of now. Nobody would be told that the copies are destroyed before that day."""
    story, node = await bed.story(), bed.office.node.node
    await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    await bed.together.travel()

    def ahead(conn: Connection) -> int:
        record = load_referral(conn, story.id)
        assert record is not None
        return save_referral(conn, record._replace(number=bed.together.clock() + 60 * DAY_MS)).number

    used = await node.database.write(ahead)
    sealed = await bed.attestation(story)
    assert await bed.refuses(resealed(sealed, bed.identity, number=used + 3 * MINUTE_MS)) == "from-the-future"
    attested = {one.party: one.done_at for one in (await bed.vault.attest_erasure(story.id)).attestations}
    assert attested["own-agency"] is not None
    await bed.together.travel()


async def test_an_attestation_is_answered_again_and_a_word_from_before_is_not(bed: Bed) -> None:
    story, sealing = await bed.story(), bed.office.client.sealing
    accepted = EnvelopesRequest(envelopes=(await bed.answers(story, "accepted"),))
    await sealing.hand_in(accepted, idempotency_key="accepted")
    await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    await bed.together.travel()
    with pytest.raises(ProblemError) as gone:
        await sealing.hand_in(accepted, idempotency_key="accepted")
    assert gone.value.problem.code == "answer-destroyed"
    attested = EnvelopesRequest(envelopes=(await bed.attestation(story),))
    first = await sealing.hand_in(attested, idempotency_key="attested")
    assert await sealing.hand_in(attested, idempotency_key="attested") == first


async def test_a_word_that_is_repeated_while_its_referral_is_destroyed_leaves_no_answer(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    story, real = await bed.story(), answering.read_case
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))

    async def destroyed_meanwhile(*asked: Any) -> Any:
        case = await real(*asked)
        monkeypatch.setattr(answering, "read_case", real)
        await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
        await bed.together.travel()
        return case

    wire = await bed.answers(story, "accepted")
    monkeypatch.setattr(answering, "read_case", destroyed_meanwhile)
    with pytest.raises(ProblemError) as gone:
        await bed.office.client.sealing.hand_in(EnvelopesRequest(envelopes=(wire,)))
    assert gone.value.problem.code == "destroyed"
    kept = await rows(bed.office.node, IDEMPOTENCY, IDEMPOTENCY.c.referral == story.id)
    assert [row["sealed_answer"] for row in kept] == [None]


WORDS: dict[str, Callable[[AgencyVault, str], Awaitable[ReferralView]]] = {
    "decision": lambda vault, referral: vault.decide(referral, DecisionRequest(decision="accepted")),
    "progress": lambda vault, referral: vault.report_progress(referral, ProgressRequest(state="completed")),
    "recall": lambda vault, referral: vault.answer_recall(referral, RecallAnswerRequest(agreed=True)),
    "erasure": lambda vault, referral: vault.attest_erasure(referral),
}


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("about", ["another-woman", "another-member"])
async def test_an_answer_is_about_the_referral_that_was_meant(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, word: str, about: str
) -> None:
    """Which it is and with whom is the agency's own to say: the node could make it accept, or end, another's."""
    hers, others = await bed.story(), await bed.story()
    for story in (hers, others):
        await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
        await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
        await bed.together.travel()
        await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
        if word == "erasure":
            await bed.together.travel()
    case = bed.identity.store.case(hers.id)
    view = await bed.office.client.referrals.read(others.id if about == "another-woman" else hers.id)
    if about == "another-member":
        view = view.model_copy(update={"peer": LABOUR_OFFICE.agency})

    async def says(_referral: str) -> ReferralView:
        return view

    monkeypatch.setattr(bed.office.client.referrals, "read", says)
    before = await row_counts(bed.office.node.node.database)
    with pytest.raises(VaultError) as refused:
        await WORDS[word](AgencyVault(bed.identity, bed.office.client), hers.id)
    assert refused.value.code == "changed-at-node"
    assert await row_counts(bed.office.node.node.database) == before
    assert bed.identity.store.case(hers.id) == case


async def test_an_acceptance_is_known_before_it_is_handed_in_and_no_other_word_is_one(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it releases has to name it, also where this program dies before it hears the answer."""
    story, client, handed = await bed.story(), bed.office.client, []
    hand_in = client.sealing.hand_in

    async def dies(request: EnvelopesRequest) -> None:
        handed.append(await hand_in(request))
        raise ConnectionError

    monkeypatch.setattr(client.sealing, "hand_in", dies)
    vault = AgencyVault(bed.identity, client)
    known = []
    for decision in ("waitlisted", "accepted"):
        with pytest.raises(ConnectionError):
            await vault.decide(story.id, DecisionRequest.model_validate({"decision": decision}))
        case = bed.identity.store.case(story.id)
        assert case is not None
        known.append((len(case.sent), len(case.acceptances)))
    assert known == [(1, 0), (2, 1)]


async def test_a_word_that_the_node_has_refused_is_not_what_a_recall_is_answered_by(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service would have ended on both nodes, while she is in it."""
    story, client = await bed.story(), bed.office.client
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    later = client.sealing.hand_in

    async def too_late(request: EnvelopesRequest, **_: Any) -> EnvelopesAnswer:
        bed.together.clock.pass_by(seconds=660)
        return await later(request)

    with monkeypatch.context() as patched:
        patched.setattr(client.sealing, "hand_in", too_late)
        with pytest.raises(ProblemError, match="too-old"):
            await bed.vault.report_progress(story.id, ProgressRequest(state="completed"))
    await bed.together.travel()
    await bed.helpline.client.referrals.recall(story.id)
    await bed.together.travel()
    await bed.vault.answer_recall(story.id, RecallAnswerRequest(agreed=False))
    await bed.together.travel()
    assert [(await one.client.referrals.read(story.id)).state for one in (bed.office, bed.helpline)] == [
        "in-service",
        "in-service",
    ]


async def test_after_her_no_to_sharing_the_software_seals_no_more_than_that_it_is_over(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    story, store, words = await bed.story(), bed.identity.store, []
    # As under a contract that lets it be told how a service ended.
    store.change_case(story.id, lambda case: case.model_copy(update={"feedback": Feedback.OUTCOME}))
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    await bed.office.client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SHARING)

    async def notes(*said: Any) -> ReferralView:
        words.append(said[-1].content)
        return await bed.office.client.referrals.read(story.id)

    monkeypatch.setattr(elsewhere, "_say", notes)
    with pytest.raises(VaultError) as kept:
        await bed.vault.decide(story.id, DecisionRequest(decision="waitlisted"))
    assert kept.value.code == "sharing-stopped"
    await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    case = store.case(story.id)
    assert case is not None
    # What it keeps at home counts here all the same: a recall is answered by it.
    assert (words, case.served) == ([], "in-service")
    told = ProgressRequest.model_validate({"state": "completed", "outcome": "ended-by-survivor"})
    await bed.vault.report_progress(story.id, told)
    assert words == [ProgressContent(state=Progress.COMPLETED)]


async def test_that_the_copies_are_gone_is_said_after_they_are(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    story, store, client = await bed.story(), bed.identity.store, bed.office.client
    offer = await bed.office.item(story.id, "offer")
    await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    await bed.together.travel()
    left, hand_in = [], client.sealing.hand_in

    async def looks(request: EnvelopesRequest) -> EnvelopesAnswer:
        left.append((store.case(story.id), store.taken(offer.id)))
        return await hand_in(request)

    assert store.taken(offer.id) is not None
    monkeypatch.setattr(client.sealing, "hand_in", looks)
    await AgencyVault(bed.identity, client).attest_erasure(story.id)
    assert left == [(None, None)]


async def test_a_clock_that_is_put_back_does_not_put_numbers_back(bed: Bed) -> None:
    story = await bed.story()
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    behind = replace(bed.identity, clock=lambda: bed.identity.clock() - MINUTE_MS)
    late = AgencyVault(behind, bed.office.client)
    said = await late.report_progress(story.id, ProgressRequest(state="in-service"))
    assert said.referral.state == "in-service"


async def test_an_answer_replies_to_nothing_that_arrived_for_another_referral(bed: Bed) -> None:
    hers, others = await bed.story(), await bed.story()
    wire = await bed.answers(hers, "accepted")
    anothers = (await bed.office.item(others.id, "offer")).id
    assert await bed.refuses(resealed(wire, bed.identity, in_reply_to=anothers)) == "reply-unknown"


async def test_an_answer_was_given_when_it_was_sealed(bed: Bed) -> None:
    """Its receiver reads that moment in the header, and both have to say the same of whether it was in time."""
    story = await bed.story()
    wire = await bed.answers(story, "accepted")
    bed.together.clock.pass_by(seconds=30)
    await bed.office.client.sealing.hand_in(EnvelopesRequest(envelopes=(wire,)))
    given = await rows(bed.office.node, EVENT, (EVENT.c.referral == story.id) & (EVENT.c.name == "accepted"))
    assert [event["at"] for event in given] == [header_of(wire).created]


async def test_an_attestation_that_is_sealed_again_is_not_sent_again(bed: Bed) -> None:
    story, sealing = await bed.story(), bed.office.client.sealing
    await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    await bed.together.travel()
    sent = []
    for _ in range(2):
        answer = await sealing.hand_in(EnvelopesRequest(envelopes=(await bed.attestation(story),)))
        sent.append((len(answer.envelopes), len(await rows(bed.office.node, OUTBOX, OUTBOX.c.referral == story.id))))
    (first, lie_here), again = sent
    assert (first, again) == (1, (0, lie_here))


@pytest.mark.parametrize("refused_stored_first", [True, False])
async def test_a_refused_word_takes_back_nothing_that_another_program_has_said(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, refused_stored_first: bool
) -> None:
    """Both say that the service has begun. One of them is heard, the other one comes too late by then."""
    story = await bed.story()
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    begun, client, hand_in = ProgressRequest(state="in-service"), bed.office.client, bed.office.client.sealing.hand_in
    late = AgencyVault(replace(bed.identity, clock=lambda: bed.identity.clock() + 1000), client)

    async def another_first(request: EnvelopesRequest) -> EnvelopesAnswer:
        monkeypatch.setattr(client.sealing, "hand_in", hand_in)
        await late.report_progress(story.id, begun)
        bed.together.clock.pass_by(seconds=660)
        return await hand_in(request)

    sealing = elsewhere.sealed_answer

    async def sealed_and_another_first(*said: Any) -> elsewhere.SealedAnswer:
        monkeypatch.setattr(elsewhere, "sealed_answer", sealing)
        sealed = await sealing(*said)
        await late.report_progress(story.id, begun)
        bed.together.clock.pass_by(seconds=660)
        return sealed

    if refused_stored_first:
        monkeypatch.setattr(client.sealing, "hand_in", another_first)
    else:
        monkeypatch.setattr(elsewhere, "sealed_answer", sealed_and_another_first)
    with pytest.raises(ProblemError, match="too-old"):
        await bed.vault.report_progress(story.id, begun)
    case = bed.identity.store.case(story.id)
    assert case is not None
    assert case.served == "in-service"


def _first(monkeypatch: pytest.MonkeyPatch, client: AgencyClient, another: Callable[[], Awaitable[Any]]) -> list[int]:
    """Whenever the software has sealed, another writes before it hands in; the numbers that were handed in."""
    hand_in, numbers = client.sealing.hand_in, []

    async def handed_in(request: EnvelopesRequest, **_: Any) -> EnvelopesAnswer:
        with monkeypatch.context() as patched:
            patched.setattr(client.sealing, "hand_in", hand_in)
            await another()
        numbers.append(header_of(request.envelopes[0]).number or 0)
        return await hand_in(request)

    monkeypatch.setattr(client.sealing, "hand_in", handed_in)
    return numbers


async def _once(work: Callable[[], Awaitable[Any]], done: list[None]) -> None:
    if not done:
        done.append(None)
        await work()


async def test_a_word_whose_number_another_machine_has_used_is_sealed_again(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colleague puts her on the waiting list at the moment at which she is accepted."""
    story, client = await bed.story(), bed.office.client
    colleague = AgencyVault(replace(bed.identity, clock=lambda: bed.identity.clock() + 1000), client)
    done: list[None] = []

    async def waits() -> None:
        await _once(lambda: colleague.decide(story.id, DecisionRequest(decision="waitlisted")), done)

    numbers = _first(monkeypatch, client, waits)
    assert (await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))).state == "accepted"
    said = await rows(bed.office.node, EVENT, (EVENT.c.referral == story.id) & (EVENT.c.side == "receiving"))
    assert [(event["name"], event["number"]) for event in said] == [
        ("waitlisted", numbers[1] - 1),
        ("accepted", numbers[1]),
    ]
    assert numbers[0] < numbers[1] - 1
    await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == "accepted"


async def test_the_same_word_of_two_machines_is_said_once(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    story, client = await bed.story(), bed.office.client
    colleague = AgencyVault(replace(bed.identity, clock=lambda: bed.identity.clock() + 1000), client)
    accepted, done = DecisionRequest(decision="accepted"), list[None]()
    _first(monkeypatch, client, lambda: _once(lambda: colleague.decide(story.id, accepted), done))
    assert (await bed.vault.decide(story.id, accepted)).state == "accepted"
    said = await rows(bed.office.node, EVENT, (EVENT.c.referral == story.id) & (EVENT.c.name == "accepted"))
    sent = await rows(bed.office.node, OUTBOX, OUTBOX.c.referral == story.id)
    assert (len(said), len([one for one in sent if one["kind"] == "decision"])) == (1, 1)


async def test_what_is_sealed_again_is_judged_again(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """She stops sharing at this very moment: the number moves, and nothing of the service goes to anybody."""
    story, client = await bed.story(), bed.office.client
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    done: list[None] = []

    async def no() -> None:
        await _once(lambda: client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SHARING), done)

    handed = _first(monkeypatch, client, no)
    said = await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    sent = [one["kind"] for one in await rows(bed.office.node, OUTBOX, OUTBOX.c.referral == story.id)]
    assert (said.stays_here, len(handed), sent.count("progress")) == ("sharing-stopped", 1, 0)


def _lets_outcomes_travel(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both nodes and the software evaluate rules that let it be told how a service ended."""
    for office in (bed.office, bed.helpline):
        monkeypatch.setattr(office.node.node, "world", office.node.node.world)
        evaluate_with(office.node.node, b"feedback: status", b"feedback: outcome")
    contracts = bed.office.node.node.world().contracts
    monkeypatch.setattr(bed.vault, "_identity", replace(bed.identity, contracts=contracts))


@pytest.mark.parametrize("state", ["in-service", "completed"])
async def test_what_is_sealed_is_judged_again_where_her_no_comes_from_the_other_agency(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """The number does not move by it. How it ended is not told, as by a node that seals itself."""
    _lets_outcomes_travel(bed, monkeypatch)
    story, client, done = await bed.story(), bed.office.client, list[None]()
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    if state == "completed":
        await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))

    async def no() -> None:
        await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SHARING)
        await bed.together[HELPLINE].courier.run_once()

    handed = _first(monkeypatch, client, lambda: _once(no, done))
    outcome = "service-provided" if state == "completed" else None
    said = await bed.vault.report_progress(
        story.id, ProgressRequest.model_validate({"state": state, "outcome": outcome})
    )
    assert said.referral.flags.sharing_stopped
    if state == "in-service":
        assert (said.stays_here, len(handed)) == ("sharing-stopped", 1)
        return
    assert (said.stays_here, len(handed)) == (None, 2)
    await bed.together.travel()
    assert (await bed.helpline.open(story.id, "progress")).answer == {"state": "completed"}


async def test_after_her_no_was_said_here_it_is_told_that_it_is_over_and_not_how(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lets_outcomes_travel(bed, monkeypatch)
    story, client = await bed.story(), bed.office.client
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    await client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SHARING)
    told = ProgressRequest.model_validate({"state": "completed", "outcome": "service-provided"})
    assert (await bed.vault.report_progress(story.id, told)).stays_here is None
    await bed.together.travel()
    assert (await bed.helpline.open(story.id, "progress")).answer == {"state": "completed"}


async def test_an_attestation_whose_number_was_used_is_sealed_again(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    story, client, done = await bed.story(), bed.office.client, list[None]()
    await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.ERASE)
    await bed.together.travel()
    database, used = bed.office.node.node.database, []

    async def number_moves() -> None:
        def moves(conn: Connection) -> None:
            record = load_referral(conn, story.id)
            assert record is not None
            used.append(save_referral(conn, record._replace(number=record.number + MINUTE_MS)).number)

        await _once(lambda: database.write(moves), done)

    numbers = _first(monkeypatch, client, number_moves)
    attested = {one.party: one.done_at for one in (await bed.vault.attest_erasure(story.id)).attestations}
    assert attested["own-agency"] is not None
    assert numbers[1:] == [used[0] + 1]


async def test_a_word_is_sealed_again_a_few_times_and_no_more(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    story, client, ahead = await bed.story(), bed.office.client, iter(range(1000, 100_000, 1000))

    async def asks() -> None:
        colleague = AgencyVault(replace(bed.identity, clock=lambda: bed.identity.clock() + next(ahead)), client)
        question = DecisionRequest(decision="information-requested", fields=(Field.PARTY,))
        await colleague.decide(story.id, question)

    numbers = _first(monkeypatch, client, asks)
    with pytest.raises(ProblemError, match="number-not-higher"):
        await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    assert len(numbers) == ATTEMPTS


async def test_a_word_that_was_said_twice_and_barred_goes_when_it_is_said_again(bed: Bed) -> None:
    story = await bed.story()
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    for _ in range(2):
        await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == "accepted"


async def test_a_word_that_was_barred_does_not_go_as_another(bed: Bed) -> None:
    """It may have arrived all the same: then the other one would change nothing there, and nobody would know."""
    story = await bed.story()
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    first = DecisionRequest(decision="redirected", suggested_service=ServiceType.LEGAL_AID)
    other = first.model_copy(update={"suggested_service": ServiceType.HEALTH_CARE})
    await bed.office.decide(story.id, first)
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    with pytest.raises(VaultError, match="state-forbids"):
        await bed.office.decide(story.id, other)
    await bed.office.decide(story.id, first)
    await bed.together.travel()
    assert (await bed.helpline.open(story.id, "decision")).answer == {
        "decision": "redirected",
        "suggested_service": "legal-aid",
    }


async def test_a_word_that_never_came_does_not_stand_where_another_one_came_to_nothing(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the software noted before a hand-in that nobody answered is not what the node has on record."""
    story = await bed.story()
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    await bed.vault.decide(story.id, DecisionRequest(decision="waitlisted"))
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    client = bed.office.client
    assert (await client.referrals.read(story.id)).flags.undeliverable

    async def dead(*_: object, **__: object) -> EnvelopesAnswer:
        raise NodeUnreachableError

    first, other = (
        DecisionRequest.model_validate({"decision": "declined", "reason": reason})
        for reason in ("conflict-of-interest", "no-capacity")
    )
    with monkeypatch.context() as patched:
        patched.setattr(client.sealing, "hand_in", dead)
        with pytest.raises(NodeUnreachableError):
            await bed.office.decide(story.id, first)
    assert (await bed.office.decide(story.id, other)).state == "declined"
    with pytest.raises(VaultError, match="state-forbids"):
        await bed.office.decide(story.id, first)
    await bed.together.travel()
    told = (await bed.helpline.open(story.id, "decision")).answer
    assert told == other.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


_COMPLETED = ProgressRequest(state="completed")


async def _accepted(bed: Bed) -> BlindStory:
    story = await bed.story()
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.together.travel()
    # By a worker: of what other stories here have accepted nobody is served.
    assert (await bed.helpline.client.referrals.release(story.id)).released
    return story


async def _in_service(bed: Bed) -> BlindStory:
    story = await _accepted(bed)
    await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    await bed.together.travel()
    return story


async def _over_the_line(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, how: str, says: Callable[[], Awaitable[Any]]
) -> None:
    """A word whose hand-in is `answered`; or is not: its answer is `lost`, or it `never` reaches the node."""
    client = bed.office.client
    hand_in = client.sealing.hand_in

    async def breaks(request: EnvelopesRequest, **_: Any) -> EnvelopesAnswer:
        if how == "lost":
            await hand_in(request)
        raise NodeUnreachableError

    # No two words of one moment.
    bed.together.clock.pass_by(seconds=60)
    if how == "answered":
        await says()
        return
    with monkeypatch.context() as patched:
        patched.setattr(client.sealing, "hand_in", breaks)
        with pytest.raises(NodeUnreachableError):
            await says()


_DECLINED, _DECLINED_OTHERWISE = (
    DecisionRequest.model_validate({"decision": "declined", "reason": reason})
    for reason in ("no-capacity", "not-eligible")
)


@pytest.mark.parametrize(
    "line",
    ["answered lost", "answered never", "lost lost", "lost never", "never lost lost", "never answered lost"],
)
async def test_a_word_that_was_barred_goes_whichever_of_its_answers_were_lost(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """The first that the node has heard is on record, and no other."""
    story = await bed.story()
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    for how in line.split():
        await _over_the_line(bed, monkeypatch, how, lambda: bed.vault.decide(story.id, _DECLINED))
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    await bed.vault.decide(story.id, _DECLINED)
    await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == "declined"
    assert not (await bed.office.client.referrals.read(story.id)).flags.undeliverable


@pytest.mark.parametrize("first", ["answered", "lost", "never"])
@pytest.mark.parametrize("barred", [False, True])
async def test_a_correction_whose_answer_was_lost_is_said_only_where_it_stands(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, first: str, barred: bool
) -> None:
    story = await bed.story()
    if barred:
        await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    await _over_the_line(bed, monkeypatch, first, lambda: bed.vault.decide(story.id, _DECLINED))
    await _over_the_line(bed, monkeypatch, "lost", lambda: bed.vault.decide(story.id, _DECLINED_OTHERWISE))
    await bed.together.travel()
    if barred:
        await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    stands, other = (_DECLINED_OTHERWISE, _DECLINED) if first == "never" else (_DECLINED, _DECLINED_OTHERWISE)
    for _ in range(2):
        with pytest.raises(VaultError, match="state-forbids"):
            await bed.vault.decide(story.id, other)
        assert (await bed.vault.decide(story.id, stands)).state == "declined"
    await bed.together.travel()
    told = (await bed.helpline.open(story.id, "decision")).answer
    assert told == stands.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


@pytest.mark.parametrize("line", ["never answered", "lost", "never lost lost"])
@pytest.mark.parametrize("answer_lost", [False, True])
async def test_that_a_service_had_begun_goes_along_whichever_of_its_answers_were_lost(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, line: str, answer_lost: bool
) -> None:
    story = await _accepted(bed)
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    begun, goes_on = ProgressRequest(state="in-service"), RecallAnswerRequest(agreed=False)
    for how in line.split():
        await _over_the_line(bed, monkeypatch, how, lambda: bed.vault.report_progress(story.id, begun))
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    await bed.helpline.client.referrals.recall(story.id)
    await bed.together.travel()
    if answer_lost:
        # Nobody has heard it either.
        await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
        await _over_the_line(bed, monkeypatch, "lost", lambda: bed.vault.answer_recall(story.id, goes_on))
        await bed.together.travel()
        await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    await bed.vault.answer_recall(story.id, goes_on)
    await bed.together.travel()
    assert [(await one.client.referrals.read(story.id)).state for one in (bed.office, bed.helpline)] == [
        "in-service"
    ] * 2
    assert not (await bed.office.client.referrals.read(story.id)).flags.undeliverable


async def test_a_second_recall_is_answered_by_an_answer_of_its_own(bed: Bed) -> None:
    """Also while something else came to nothing: the answer to the first is no answer to the second."""
    story, asks, goes_on = await bed.story(), bed.helpline.client, RecallAnswerRequest(agreed=False)
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    await bed.vault.decide(story.id, DecisionRequest(decision="information-requested", fields=(Field.LANGUAGE,)))
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    await asks.referrals.drop_disclosure(story.id)
    await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))
    await bed.vault.report_progress(story.id, ProgressRequest(state="in-service"))
    await bed.together.travel()
    for named in (False, True, False):
        if named:
            await asks.referrals.replace_disclosure(story.id, content(preferred_name="Canary-Baru"))
            await bed.together.travel()
        assert not (await asks.referrals.recall(story.id)).repeated
        await bed.together.travel()
        assert (await bed.office.client.referrals.read(story.id)).flags.undeliverable
        await bed.vault.answer_recall(story.id, goes_on)
        await bed.together.travel()
        states = [(await one.client.referrals.read(story.id)).state for one in (bed.office, bed.helpline)]
        assert states == ["in-service"] * 2


OVER: dict[str, list[ProgressRequest]] = {
    "completed": [
        ProgressRequest(state="completed", outcome=Outcome(outcome)) for outcome in ("service-provided", "moved-on")
    ],
    "failed": [
        ProgressRequest.model_validate({"state": "failed", "fail_reason": reason})
        for reason in ("service-closed", "other")
    ],
}


@pytest.mark.parametrize("state", OVER)
@pytest.mark.parametrize("barred", [False, True], ids=["heard", "barred"])
async def test_how_it_ended_stands_also_where_the_answer_to_a_recall_repeats_it(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, state: str, barred: bool
) -> None:
    """The answer says that it is over, and not how: it takes the place of no outcome."""
    first, other = OVER[state]
    with monkeypatch.context() as patched:
        _lets_outcomes_travel(bed, patched)
        story = await _in_service(bed)
        await bed.helpline.client.referrals.recall(story.id)
        await bed.vault.report_progress(story.id, first)
        # And it is no word that never came to the node.
        await _over_the_line(bed, patched, "never", lambda: bed.vault.report_progress(story.id, other))
        await bed.together.travel()
    if barred:
        await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    await bed.vault.answer_recall(story.id, RecallAnswerRequest(agreed=False))
    await bed.together.travel()
    if barred:
        await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    with monkeypatch.context() as patched:
        _lets_outcomes_travel(bed, patched)
        for _ in range(2):
            with pytest.raises(VaultError, match="state-forbids"):
                await bed.vault.report_progress(story.id, other)
            await bed.vault.report_progress(story.id, first)
        await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == state
    assert not (await bed.office.client.referrals.read(story.id)).flags.undeliverable


async def test_a_word_that_has_arrived_and_was_barred_is_the_same_event_when_it_is_said_again(bed: Bed) -> None:
    """Whatever has been seen since: with another `seen` it is refused for good, and nothing ends on either node."""
    story, network = await _in_service(bed), bed.together.network
    await bed.vault.report_progress(story.id, _COMPLETED)
    await bed.helpline.client.referrals.recall(story.id)
    network.answers_lost = True
    await bed.together[SHELTER].courier.run_once()
    network.answers_lost = False
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    await bed.helpline.client.withdrawals.of_referral(story.id, WithdrawalForm.STOP_SHARING)
    await bed.together.travel()
    views = [await one.client.referrals.read(story.id) for one in (bed.office, bed.helpline)]
    assert [(view.state, view.flags.sharing_stopped) for view in views] == [("recall-requested", True)] * 2
    assert views[0].flags.undeliverable
    await bed.vault.report_progress(story.id, _COMPLETED)
    await bed.together.travel()
    assert not (await bed.office.client.referrals.read(story.id)).flags.undeliverable
    await bed.vault.answer_recall(story.id, RecallAnswerRequest(agreed=True))
    await bed.together.travel()
    assert [(await one.client.referrals.read(story.id)).state for one in (bed.office, bed.helpline)] == ["recalled"] * 2


@pytest.mark.parametrize("here", [True, False])
async def test_how_it_ended_is_sealed_anew_only_by_who_knows_of_her_no(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    """It keeps number and `seen`, which do not tell whether her no, said here or there, came before."""
    story, client = await _in_service(bed), bed.office.client
    await _stands(bed, HELPLINE.agency, Status.SUSPENDED)
    await bed.vault.report_progress(story.id, _COMPLETED)
    await bed.together.travel()
    await _stands(bed, HELPLINE.agency, Status.ACTIVE)
    case, view = bed.identity.store.case(story.id), await client.referrals.read(story.id)
    word = answer(ProgressContent(state=Progress.COMPLETED), level=Feedback.OUTCOME, sharing_stopped=False)
    assert case is not None
    assert isinstance(word, Answer)
    first = case.words[word.event]
    wire = (await sealed_answer(bed.identity, bed.office.client, case, view, word, first)).wire
    await (client if here else bed.helpline.client).withdrawals.of_referral(story.id, WithdrawalForm.STOP_SHARING)
    await bed.together.travel()
    monkeypatch.setattr(answering, "tells_how", lambda _level: True)
    assert await bed.refuses(wire) == "feedback-level"
    await bed.vault.report_progress(story.id, _COMPLETED)
    await bed.together.travel()
    assert (await bed.helpline.client.referrals.read(story.id)).state == "completed"
    assert not (await client.referrals.read(story.id)).flags.undeliverable


async def test_a_decision_that_is_dated_after_the_time_to_answer_is_refused(bed: Bed) -> None:
    """By a clock that is ahead it would be taken in time here, and count on neither node: its date is what counts."""
    story = await bed.story()
    due = (await bed.office.client.referrals.read(story.id)).respond_by
    fast = replace(bed.identity, clock=lambda: bed.identity.clock() + 90 * SECOND_MS)
    bed.together.clock.offset += to_millis(due) - MINUTE_MS - bed.together.clock()
    with pytest.raises(ProblemError, match="respond-by-passed"):
        await AgencyVault(fast, bed.office.client).decide(story.id, DecisionRequest(decision="accepted"))
    assert (await bed.office.client.referrals.read(story.id)).state == "received"
    assert (await bed.vault.decide(story.id, DecisionRequest(decision="accepted"))).state == "accepted"

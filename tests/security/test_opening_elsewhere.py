"""What the agency's own software refuses when it opens: each lie of steps 13 to 17, and a node that is not honest.

The lies are those that a node with keys refuses itself (`support.lies`). Here the node has signed for them, and the
software refuses: the sender is told the step, the node destroys the item, and no key of it is kept.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.blind_room import Room, blind_room
from support.forgeries import of_age
from support.lies import TABLE, Lie
from support.lying_peer import OFFER_CONTENT

from contracts.canonical_json import canonical
from contracts.vocabulary import Basis, Priority
from exchange import verification
from exchange.client import NodeUnreachableError, ProblemError
from exchange.client.vault import AgencyVault, DoubtfulItemError, Identity, RefusedItemError, VaultError, opening
from exchange.client.vault.store import AgencyKeyStore, Taken
from exchange.demo.federation import LABOUR_OFFICE
from exchange.envelope import header
from exchange.envelope.keys import RowKey
from exchange.envelope.kinds import Kind
from exchange.envelope.statements import ReleaseStatement, parse_statement, sign_statement
from exchange.messages import ForwardBody
from exchange.referral.lifecycle import State
from exchange.schemas.federation import WireEnvelope
from exchange.schemas.inbox import InboxItem, OpeningRequest, RefusalRequest
from exchange.schemas.problems import Problem
from exchange.schemas.referrals import ReferralView
from exchange.verification import VerifiedMessage

pytestmark = pytest.mark.asyncio(loop_scope="module")
INSIDE = [lie for lie in TABLE if lie.refusal.step >= 13 and not lie.refusal.later]
BY_A_NEWER_ROSTER = [lie for lie in TABLE if lie.refusal.step >= 13 and lie.refusal.later]
REPORTED = {"groups-differ": "groups-mismatch", "basis-differs": "over-shared"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def room(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Room]:
    async with blind_room(tmp_path_factory.mktemp("room")) as made:
        yield made


async def test_a_refusal_that_is_said_again_is_sent_once(room: Room) -> None:
    """The answer to it was lost: the software does not know that it was heard. The sender would take two for two."""
    lie = INSIDE[0]
    item = await room.arrived(lie.forge(room.scene))
    with pytest.raises(RefusedItemError):
        await room.vault.open(item)
    for code in (lie.refusal.code, "cannot-open"):
        await room.office.client.inbox.refuse(item.id, RefusalRequest.model_validate({"code": code}))
    assert await room.told(item.id) == [lie.refusal.code]


@pytest.mark.parametrize("lie", INSIDE, ids=lambda lie: lie.id)
async def test_a_lie_that_only_the_content_shows_is_refused_by_the_software(room: Room, lie: Lie) -> None:
    item = await room.arrived(lie.forge(room.scene))
    with pytest.raises(RefusedItemError) as refused:
        await room.vault.open(item)
    assert (refused.value.step, refused.value.code) == (lie.refusal.step, lie.refusal.code)
    assert await room.told(item.id) == [REPORTED.get(lie.refusal.code, lie.refusal.code)]
    row = await room.row(item.id)
    assert (row.status, row.ciphertext, row.wrapped_key, row.sealed_header) == ("destroyed", None, None, None)
    assert room.identity.store.taken(item.id) is None


@pytest.mark.parametrize("lie", BY_A_NEWER_ROSTER, ids=lambda lie: lie.id)
async def test_what_a_newer_roster_may_explain_is_neither_refused_nor_shown(room: Room, lie: Lie) -> None:
    item = await room.arrived(lie.forge(room.scene))
    with pytest.raises(DoubtfulItemError) as doubtful:
        await room.vault.open(item)
    assert (doubtful.value.step, doubtful.value.code) == (lie.refusal.step, lie.refusal.code)
    assert await room.told(item.id) == []
    assert (await room.row(item.id)).wrapped_key is not None
    assert room.identity.store.taken(item.id) is None


def _flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize("member", ["ciphertext", "signature", "wrapped_key"])
async def test_what_somebody_changed_at_the_node_is_refused_by_its_signature(room: Room, member: str) -> None:
    item = await room.arrived(room.scene.liar.forward())
    await room.tampers(item.id, **{member: _flipped(getattr(await room.row(item.id), member))})
    with pytest.raises(RefusedItemError) as refused:
        await room.vault.open(item)
    assert (refused.value.step, refused.value.code) == (8, "bad-signature")
    assert await room.told(item.id) == ["cannot-open"]


async def test_another_envelope_under_the_same_item_is_not_opened(room: Room) -> None:
    item, other = [await room.arrived(room.scene.liar.forward()) for _ in range(2)]
    with pytest.raises(DoubtfulItemError) as doubtful:
        await room.vault.open(other.model_copy(update={"id": item.id, "referral": other.referral}))
    assert doubtful.value.step == 3
    assert await room.told(item.id) == await room.told(other.id) == []


async def test_what_was_opened_is_given_out_unchanged_or_not_at_all(room: Room) -> None:
    item = await room.arrived(room.scene.liar.forward())
    first = await room.vault.open(item)
    assert await room.vault.open(item) == first
    await room.tampers(item.id, ciphertext=_flipped((await room.row(item.id)).ciphertext))
    with pytest.raises(VaultError) as changed:
        await room.vault.open(item)
    assert changed.value.code == "changed-at-node"
    assert await room.told(item.id) == []


@pytest.mark.parametrize("member", ["header", "ciphertext"])
async def test_what_was_opened_is_not_replaced_by_what_is_no_envelope(
    room: Room, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    item = await room.arrived(room.scene.liar.forward())
    await room.vault.open(item)
    wire = await room.office.client.inbox.sealed(item.id)

    async def says(_item: str) -> WireEnvelope:
        return wire.model_copy(update={member: "+"})

    monkeypatch.setattr(room.office.client.inbox, "sealed", says)
    with pytest.raises(VaultError) as changed:
        await room.vault.open(item)
    assert changed.value.code == "changed-at-node"


ENDED = Problem.model_validate(
    {
        "type": "https://referral-exchange.example/problems#consent-ended",
        "title": "Her consent has ended",
        "status": 409,
        "code": "consent-ended",
        "who": "node",
        "detail": "Her consent has ended. Nothing is handed out.",
    }
)
LISTED: dict[str, dict[str, Any]] = {
    "another-referral": {"referral": "e" * 32},
    "another-sender": {"sender": LABOUR_OFFICE.agency},
    "another-kind": {"kind": "information"},
    "another-event": {"event": "accepted"},
    "another-priority": {"priority": Priority.ROUTINE},
    "another-purpose": {"purpose": None},
}


@pytest.mark.parametrize("name", LISTED)
async def test_an_item_is_shown_as_what_its_header_says_at_every_open(room: Room, name: str) -> None:
    item = await room.arrived(room.scene.liar.forward())
    assert item.priority not in {None, Priority.ROUTINE}
    lied = item.model_copy(update=LISTED[name])
    with pytest.raises(DoubtfulItemError) as doubtful:
        await room.vault.open(lied)
    assert doubtful.value.step == 3
    first = await room.vault.open(item)
    with pytest.raises(VaultError) as changed:
        await room.vault.open(lied)
    assert changed.value.code == "changed-at-node"
    assert await room.vault.open(item) == first


async def test_one_womans_plan_is_not_anothers(room: Room) -> None:
    one, other = await room.woman(), await room.woman()
    hers, others = await room.disclosed(one, "survivor"), await room.disclosed(other, "neither")
    codes = [(await room.vault.contact_advice(referral)).code for referral in (one, other)]
    assert codes == ["she-initiates", "nobody-initiates"]
    await room.tampers(hers.id, referral=other)
    await room.tampers(others.id, status="destroyed")
    with pytest.raises(VaultError) as changed:
        await room.vault.contact_advice(other)
    assert changed.value.code == "changed-at-node"


async def test_the_node_does_not_say_which_plan_is_the_newest(room: Room) -> None:
    referral, liar = await room.woman(), room.scene.liar
    old = await room.disclosed(referral, "survivor")
    plan, more = {"safe_contact": {"who_initiates": "neither"}}, {"stage": "disclosure", "groups": ("contact",)}
    new = await room.arrived(
        liar.forward(Kind.UPDATE, plan, referral=referral, number=liar.liar.node.clock() + 1000, **more)
    )
    assert (await room.vault.contact_advice(referral)).code == "nobody-initiates"
    release = parse_statement(ReleaseStatement, (await room.row(old.id)).release).unverified
    higher = sign_statement(replace(release, number=2**52), lambda _: bytes(64))
    await room.tampers(old.id, release=higher.to_bytes())
    assert (await room.vault.contact_advice(referral)).code == "nobody-initiates"
    await room.tampers(new.id, status="destroyed")
    with pytest.raises(VaultError) as missing:
        await room.vault.contact_advice(referral)
    assert missing.value.code == "plan-missing"


@pytest.mark.parametrize("state", [State.WITHDRAWN, State.RECALLED, State.ENTERED_IN_ERROR])
async def test_after_her_no_a_recall_or_an_error_nobody_is_advised_to_contact_her(
    room: Room, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    """Also where the node still hands her plan out."""
    referral, client = await room.woman(), room.office.client
    await room.disclosed(referral, "survivor")
    assert (await room.vault.contact_advice(referral)).code == "she-initiates"
    view = (await client.referrals.read(referral)).model_copy(update={"state": state})

    async def says(_referral: str) -> ReferralView:
        return view

    monkeypatch.setattr(client.referrals, "read", says)
    with pytest.raises(VaultError) as refused:
        await room.vault.contact_advice(referral)
    assert (refused.value.code, "Do not contact her" in refused.value.sentence) == ("no-plan", True)


@pytest.mark.parametrize(
    ("opened", "withheld", "code"),
    [
        pytest.param("second", "first", "nobody-initiates", id="an-unopened-one-that-came-before"),
        pytest.param("first", "second", "consent-ended", id="an-unopened-one-that-came-after"),
        pytest.param("both", "second", "she-initiates", id="an-opened-one-whose-number-is-lower"),
        pytest.param("both", "first", "consent-ended", id="the-newest-itself"),
        pytest.param("both", "second", "not-found", id="for-another-reason"),
    ],
)
async def test_which_withheld_plan_leaves_no_advice(
    room: Room, monkeypatch: pytest.MonkeyPatch, opened: str, withheld: str, code: str
) -> None:
    """The first has the higher number; what was never opened has none that is known here."""
    referral, liar, client = await room.woman(), room.scene.liar, room.office.client
    items, higher = {}, liar.liar.node.clock() + 1000
    for name, who, number in (("first", "survivor", higher), ("second", "neither", higher - 1)):
        plan = {"safe_contact": {"who_initiates": who}}
        update = liar.forward(
            Kind.UPDATE, plan, referral=referral, number=number, stage="disclosure", groups=("contact",)
        )
        items[name] = await room.arrived(update)
        if opened in {name, "both"}:
            await room.vault.open(items[name])
    sealed = client.inbox.sealed

    async def withholds(item: str) -> WireEnvelope:
        if item == items[withheld].id:
            raise ProblemError(ENDED.model_copy(update={"code": "not-found"} if code == "not-found" else {}))
        return await sealed(item)

    monkeypatch.setattr(client.inbox, "sealed", withholds)
    if code in {"consent-ended", "not-found"}:
        with pytest.raises(ProblemError, match=code):
            await room.vault.contact_advice(referral)
    else:
        assert (await room.vault.contact_advice(referral)).code == code


async def test_a_plan_that_could_not_be_opened_leaves_no_advice_by_the_one_before(room: Room) -> None:
    """It was refused, and the node destroyed it. That she has replaced the older plan nobody here can know better."""
    referral, liar = await room.woman(), room.scene.liar
    await room.disclosed(referral, "survivor")

    async def update(who: str, number: int, **changes: Any) -> InboxItem:
        plan, at = {"safe_contact": {"who_initiates": who}}, liar.liar.node.clock()
        more = {"stage": "disclosure", "groups": ("contact",), **changes}
        return await room.arrived(liar.forward(Kind.UPDATE, plan, referral=referral, number=at + number, **more))

    before = await update("survivor", 1)
    unopened = await update("neither", 2)
    await room.tampers(unopened.id, wrapped_key=_flipped((await room.row(unopened.id)).wrapped_key))
    with pytest.raises(RefusedItemError):
        await room.vault.contact_advice(referral)
    for _ in range(2):
        with pytest.raises(VaultError) as missing:
            await room.vault.contact_advice(referral)
        assert (missing.value.code, "Do not contact her" in missing.value.sentence) == ("plan-missing", True)
    assert (await room.vault.open(before)).content is not None
    await update("neither", 3)
    assert (await room.vault.contact_advice(referral)).code == "nobody-initiates"


async def test_advice_is_for_the_moment_that_was_asked_about(room: Room) -> None:
    referral = await room.woman()
    await room.disclosed(referral, "survivor")
    tomorrow = room.identity.now().replace(microsecond=0) + timedelta(days=1)
    assert (await room.vault.contact_advice(referral, at=tomorrow)).at == tomorrow


async def test_what_comes_later_without_a_plan_leaves_the_plan(room: Room) -> None:
    referral, liar = await room.woman(), room.scene.liar
    await room.disclosed(referral, "survivor")
    later = liar.forward(
        Kind.UPDATE,
        {"preferred_name": "Canary-Baru"},
        referral=referral,
        number=liar.liar.node.clock() + 1,
        stage="disclosure",
        groups=("name",),
    )
    await room.vault.open(await room.arrived(later))
    assert (await room.vault.contact_advice(referral)).code == "she-initiates"


async def test_an_older_plan_is_not_handed_out_as_a_newer_one(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are hers, from the same sender and of the same kind: only their ids differ."""
    referral, liar, client = await room.woman(), room.scene.liar, room.office.client
    await room.disclosed(referral, "survivor")
    more = {"stage": "disclosure", "groups": ("contact",)}
    old, new = [
        await room.arrived(
            liar.forward(
                Kind.UPDATE,
                {"safe_contact": {"who_initiates": who}},
                referral=referral,
                number=liar.liar.node.clock() + place,
                **more,
            )
        )
        for place, who in enumerate(("survivor", "neither"), 1)
    ]
    older = await client.inbox.sealed(old.id)

    async def swapped(_item: str) -> WireEnvelope:
        return older

    with monkeypatch.context() as patched:
        patched.setattr(client.inbox, "sealed", swapped)
        with pytest.raises(DoubtfulItemError) as doubtful:
            await room.vault.open(new)
    assert (doubtful.value.step, room.identity.store.taken(new.id)) == (3, None)
    assert (await room.vault.contact_advice(referral)).code == "nobody-initiates"
    with monkeypatch.context() as patched:
        patched.setattr(client.inbox, "sealed", swapped)
        with pytest.raises(VaultError) as changed:
            await room.vault.open(new)
    assert changed.value.code == "changed-at-node"


async def test_a_forward_is_not_refused_before_its_offer_was_opened(room: Room) -> None:
    liar, referral = room.scene.liar, secrets.token_hex(16)
    await room.arrived(liar.forward(referral=referral))
    item = await room.arrived(liar.forward(Kind.UPDATE, referral=referral))
    with pytest.raises(DoubtfulItemError) as doubtful:
        await room.vault.open(item)
    assert (doubtful.value.step, doubtful.value.code) == (9, "unknown-referral")
    await room.office.open(referral, "offer")
    assert (await room.vault.open(item)).content is not None


@pytest.mark.parametrize(("said", "known"), [("decision", "decision"), ("status", "status"), ("outcome", "status")])
async def test_no_more_is_told_back_than_offer_and_contract_allow(room: Room, said: str, known: str) -> None:
    body = {"basis": "consent", "content": OFFER_CONTENT, "feedback": said}
    item = await room.arrived(room.scene.liar.forward(body=canonical(body)))
    await room.vault.open(item)
    case = room.identity.store.case(item.referral)
    assert case is not None
    assert case.feedback == known


async def test_what_a_version_of_before_has_verified_opens_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took a spelling, and knew a vocabulary, that this one does not. Judged again it would be lost."""
    content = b'{"needs":["tonight"],"age_band":"25-49"}'
    body = b'{"basis":"consent","content":%b,"feedback":"decision"}' % content
    item = await room.arrived(room.scene.liar.forward(body=body))
    with monkeypatch.context() as before:
        before.setattr(ForwardBody, "from_bytes", ForwardBody.read_again)
        first = await room.vault.open(item)
    with monkeypatch.context() as after:
        after.setattr(header, "VOCABULARIES", frozenset({99}))
        assert await room.vault.open(item) == first
    assert await room.vault.open(item) == first


async def test_what_was_opened_on_a_basis_that_is_none_for_her_age_today_opens_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = await room.arrived(of_age(Basis.OWN_CONSENT_MINOR, is_minor=False)(room.scene))
    with monkeypatch.context() as before:
        before.setattr(verification, "_of_another_age", lambda _: False)
        first = await room.vault.open(item)
    assert await room.vault.open(item) == first


async def test_a_stop_has_nothing_to_open(room: Room) -> None:
    item = await room.arrived(room.scene.liar.stop(Kind.RECALL))
    with pytest.raises(VaultError) as nothing:
        await room.vault.open(item)
    assert nothing.value.code == "nothing-inside"


async def test_a_software_that_dies_before_the_node_drops_its_key_loses_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = await room.arrived(room.scene.liar.forward())

    async def dies(_item: str, _request: OpeningRequest) -> InboxItem:
        raise NodeUnreachableError

    with monkeypatch.context() as patched:
        patched.setattr(room.office.client.inbox, "take_over", dies)
        with pytest.raises(NodeUnreachableError):
            await room.vault.open(item)
    assert (await room.row(item.id)).wrapped_key is not None
    fresh = room.office.node.vault(room.office.client)
    opened = await fresh.open(item)
    assert opened.content is not None
    row = await room.row(item.id)
    assert (row.wrapped_key, row.opened_at is not None) == (None, True)
    assert await fresh.open(item) == opened


async def test_a_software_that_dies_before_its_key_is_durable_leaves_it_at_the_node(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = await room.arrived(room.scene.liar.forward())

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(room.identity.store, "take", dies)
        with pytest.raises(KeyboardInterrupt):
            await room.vault.open(item)
    assert (await room.row(item.id)).wrapped_key is not None
    assert (await room.vault.open(item)).content is not None


async def test_an_offer_that_another_program_opens_at_the_same_moment_is_opened_by_both(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has stored it after this one has looked: what it knows by now is this very offer."""
    item, real, store = await room.arrived(room.scene.liar.forward()), opening.verify, room.identity.store

    def other_is_faster(identity: Identity, item: InboxItem, wire: WireEnvelope) -> VerifiedMessage:
        message = real(identity, item, wire)
        wrapped = hashlib.sha256(message.checked.item.envelope.wrapped_key).digest()
        taken = Taken(message.dek, wrapped, message.checked.item.digest)
        store.take(item.id, item.referral, lambda known: opening._case(known, message, identity.clock()), taken)
        return real(identity, item, wire)

    with monkeypatch.context() as patched:
        patched.setattr(opening, "verify", other_is_faster)
        opened = await room.vault.open(item)
    assert await room.vault.open(item) == opened
    assert (await room.row(item.id)).wrapped_key is None


async def test_a_key_store_that_never_took_it_over_is_told_so(room: Room) -> None:
    item = await room.arrived(room.scene.liar.forward())
    await room.vault.open(item)
    room.identity.store.destroy([item.referral])
    with pytest.raises(VaultError) as gone:
        await room.vault.open(item)
    assert gone.value.code == "key-not-here"


async def test_a_machine_without_the_weekly_keys_refuses_nothing_for_want_of_them(room: Room, tmp_path: Path) -> None:
    """A copy of the folder without its key store, or with one of weeks ago. What it refused was destroyed."""
    item = await room.arrived(room.scene.liar.forward())
    with closing(AgencyKeyStore(tmp_path / "agency-keys.db", RowKey(b"\x01" * 32), secrets.token_bytes)) as store:
        second = AgencyVault(replace(room.identity, store=store), room.office.client)
        with pytest.raises(VaultError) as other:
            await second.open(item)
    assert (other.value.code, await room.told(item.id)) == ("other-store", [])
    assert (await room.vault.open(item)).content is not None


async def test_what_was_destroyed_here_is_not_opened_again_although_the_node_brings_it_back(room: Room) -> None:
    item = await room.arrived(room.scene.liar.forward())
    wrapped = (await room.row(item.id)).wrapped_key
    await room.vault.open(item)
    room.identity.store.destroy([item.referral])
    await room.tampers(item.id, wrapped_key=wrapped)
    with pytest.raises(VaultError) as destroyed:
        await room.vault.open(item)
    assert destroyed.value.code == "destroyed"


async def test_only_the_envelope_that_was_verified_is_taken_over(room: Room) -> None:
    item = await room.arrived(room.scene.liar.forward())
    with pytest.raises(ProblemError) as differs:
        await room.office.client.inbox.take_over(item.id, OpeningRequest(digest="0" * 64))
    assert differs.value.problem.code == "digest-differs"
    assert (await room.row(item.id)).wrapped_key is not None

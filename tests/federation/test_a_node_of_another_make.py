"""A node that has nothing of this project, and goes by docs/protocol.md, is a member like any other: both ways."""

from __future__ import annotations

import secrets
from pathlib import Path

from support.blind import Office
from support.federation import Federation, TestNode, federation
from support.other_make import DAY, OtherMake, canonical, sha, signed_input, stated
from support.people import CANARY_NAME, consent_request, referral_request

from contracts.vocabulary import WithdrawalForm
from exchange.demo.federation import HELPLINE, SHELTER, AgencyPlan
from exchange.envelope.keys import AgencyKey
from exchange.schemas.inbox import DecisionRequest
from exchange.use_cases.maintain import destroy_ended, maintain

PURPOSE = "provide-safe-accommodation"


async def joined(two: Federation, plan: AgencyPlan, peer: AgencyPlan) -> OtherMake:
    """One in the place of this member."""
    other = OtherMake(plan.agency, peer.agency, two.network, two.clock)
    keys = {"agency_key": bytes(other.agency.verify_key), "node_key": bytes(other.node.verify_key)}
    await two.new_roster(
        member=lambda one: one.model_copy(update=keys) if one.agency == plan.agency else one,
        signs=(plan.agency, AgencyKey(bytes(other.agency))),
        known_to=[peer],
    )
    other.use_roster((two[peer].home / "roster.json").read_bytes())
    two.network.apps[two[plan].port] = other  # type: ignore[assignment]
    return other


async def work(one: TestNode) -> None:
    for _ in range(2):
        await maintain(one.node)
        await destroy_ended(one.node)
        await one.courier.run_once()


async def test_it_is_referred_to(two: Federation) -> None:
    other, here = await joined(two, SHELTER, HELPLINE), two[HELPLINE]
    client = here.client()
    consent = await client.consents.record(consent_request(SHELTER.agency))
    referral = (await client.referrals.send(referral_request(SHELTER.agency, consent.id))).id
    await work(here)
    ((offer, content, _, _),) = other.arrived
    assert (offer["kind"], content["basis"], content["content"]["language"]) == ("offer", "consent", "id")
    assert CANARY_NAME not in str(content)

    about = {"contract": offer["contract"], "purpose": PURPOSE, "in_reply_to": offer["id"]}
    yes = await other.seal("decision", referral, {"decision": "accepted"}, event="accepted", number=1, **about)
    assert await other.deliver(yes) == await other.deliver(yes) == "accepted"
    await work(here)
    disclosure, content, release, _ = other.arrived[-1]
    assert (disclosure["kind"], content["content"]["preferred_name"]) == ("disclosure", CANARY_NAME)
    assert release["accepting"] == sha(signed_input(yes)).hex()

    asked = [disclosure["receipt"]["receipt_id"], secrets.token_hex(16)]
    said = await other.call("/federation/v1/consent-status", canonical({"receipts": asked}))
    word = stated(said["statement"], "consent-status", other.peer["node_key"])
    assert word["receipts"] == sha(canonical(said["receipts"])).hex()
    assert [one["status"] for one in said["receipts"]] == ["live", "not-live"]

    for name, expected in (("event", "content-invalid"), ("state", "accepted")):
        step = await other.seal("progress", referral, {name: "in-service"}, event="in-service", number=2, **about)
        assert await other.deliver(step) == expected
    assert (await client.referrals.read(referral)).state == "in-service"
    await client.withdrawals.of_referral(referral, WithdrawalForm.ERASE)
    await work(here)
    assert [one[0]["event"] for one in other.arrived[-2:]] == ["erase", "erased-by-node"]
    assert await other.deliver(other.stop("erasure-receipt", referral, 3, "erased-by-node")) == "accepted"
    attested = {one.party: one.done_at for one in (await client.referrals.read(referral)).attestations}
    assert attested["peer-node"] is not None


async def test_what_answers_a_stop_names_the_stop_and_is_opened_by_the_agencys_own_software(tmp_path: Path) -> None:
    """Stops the node makes: its software knows only the ids of what it has sealed itself."""
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(HELPLINE,)) as two:
        other, here = await joined(two, SHELTER, HELPLINE), two[HELPLINE]
        office = Office.of(here)
        consent = await office.client.consents.record(consent_request(SHELTER.agency))
        referral = (await office.refer(referral_request(SHELTER.agency, consent.id))).id
        await work(here)
        offer = other.arrived[0][0]
        about = {"contract": offer["contract"], "purpose": PURPOSE, "in_reply_to": offer["id"]}
        yes = await other.seal("decision", referral, {"decision": "accepted"}, event="accepted", number=1, **about)
        assert await other.deliver(yes) == "accepted"
        await work(here)
        await office.client.withdrawals.of_referral(referral, WithdrawalForm.STOP_SHARING)
        await office.client.referrals.recall(referral)
        await work(here)
        no, recall = (one[0] for one in other.arrived[-2:])
        assert (no["event"], recall["kind"]) == ("stop-sharing", "recall")

        served = await other.seal("progress", referral, {"state": "in-service"}, event="in-service", number=2, **about)
        assert await other.deliver(served) == "accepted"
        for number, kind, event, content, answers in (
            (3, "recall-answer", "in-service", {"agreed": False}, recall),
            (4, "progress", "completed", {"state": "completed"}, no),
        ):
            about |= {"in_reply_to": answers["id"], "number": number, "seen": recall["number"]}
            assert await other.deliver(await other.seal(kind, referral, content, event=event, **about)) == "accepted"
            assert (await office.open(referral, kind)).answer == content
        assert (await office.client.referrals.read(referral)).state == "completed"


async def test_it_refers(two: Federation) -> None:
    other, here = await joined(two, HELPLINE, SHELTER), two[SHELTER]
    client, referral, now = here.client(), secrets.token_hex(16), two.clock()
    (contract,) = here.node.world().contracts
    about = {"contract": contract, "purpose": PURPOSE, "stage": "offer", "number": 1, "priority": "urgent"}
    about |= {"created": now, "respond_by": now + DAY, "expires": now + 2 * DAY}
    about |= {"groups": ["need"], "receipt": other.receipt(PURPOSE, ["need"])}
    inside = {"language": "id", "party": {"adults": 1, "dependants": [], "infant_or_pregnant": False}}
    body = {"basis": "consent", "feedback": "decision"}
    assert await other.deliver(await other.seal("offer", referral, body | {"content": inside}, **about)) == "accepted"
    (offer,) = (await client.inbox.list()).items
    content = (await client.inbox.open(offer.id)).content
    assert content is not None
    assert content.language == "id"
    await client.inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    await work(here)
    answer, told, _, accepting = other.arrived[-1]
    assert (answer["event"], told) == ("accepted", {"decision": "accepted"})

    about = {"contract": contract, "purpose": PURPOSE, "stage": "disclosure", "groups": ["name"]}
    about |= {"receipt": other.receipt(PURPOSE, ["name"])}
    named = await other.seal("disclosure", referral, body | {"content": {"preferred_name": CANARY_NAME}}, **about)
    assert await other.deliver(other.released(named, 2, "00" * 32)) == "not-accepted"
    assert await other.deliver(other.released(named, 2, accepting)) == "accepted"
    item = (await client.inbox.list()).items[-1]
    content = (await client.inbox.open(item.id)).content
    assert content is not None
    assert content.preferred_name == CANARY_NAME

    assert await other.deliver(other.stop("withdrawal", referral, 3, "erase")) == "accepted"
    await work(here)
    await client.inbox.attest_erasure(offer.id)
    await work(here)
    assert [one[0]["event"] for one in other.arrived[-2:]] == ["erased-by-node", "erased-by-agency"]

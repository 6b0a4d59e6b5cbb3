"""Every operation of both documents with a request that works, made by the branch `north`; and what it is to `south`.

The requests run against real nodes, so each one first brings a referral to where the operation makes sense.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from support.http_world import Ask, HttpWorld
from support.people import consent_request, referral_request

from contracts.vocabulary import Field
from exchange.client.vault import Identity
from exchange.client.vault.referring import seal
from exchange.client.vault.store import AgencyKeyStore
from exchange.demo.federation import LABOUR_OFFICE, SHELTER
from exchange.envelope.keys import RowKey, StorageKey

Make = Callable[[HttpWorld], Awaitable[Ask]]


@dataclass(frozen=True)
class Row:
    """A request that works, and how another branch's object shows itself in it.

    `elsewhere`: `404`; `403` where a consent is named that may not be used; `422` for a subject nobody knows; `hidden`
    from a list; `missing` among many; `nothing` where the request names no object of anybody.
    """

    make: Make
    elsewhere: Literal["404", "403", "422", "hidden", "missing", "nothing"] = "404"


def _json(model: Any, **more: Any) -> dict[str, Any]:
    read: dict[str, Any] = model.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    return read | more


async def _with_subject(world: HttpWorld) -> Ask:
    known = await world.system(world.helpline).consents.record(consent_request(SHELTER.agency))
    return Ask(world.helpline, body=_json(consent_request(SHELTER.agency), subject=known.subject))


def _consent(body: Callable[[], Any] | None = None) -> Make:
    async def make(world: HttpWorld) -> Ask:
        return Ask(world.helpline, {"consent_id": await world.consent()}, body() if body is not None else None)

    return make


async def _withdrawal(world: HttpWorld) -> Ask:
    referral, _ = await world.sent()
    return Ask(world.helpline, body={"referral": referral, "form": "stop-service"})


async def _referral_request(world: HttpWorld) -> Ask:
    request = referral_request(SHELTER.agency, await world.consent())
    return Ask(world.helpline, body=_json(request, content=request.content.model_dump(mode="json", exclude_none=True)))


def _of_referral(make_it: Callable[[HttpWorld], Awaitable[tuple[str, Any]]], body: Any = None) -> Make:
    async def make(world: HttpWorld) -> Ask:
        referral, _ = await make_it(world)
        return Ask(world.helpline, {"referral_id": referral}, body)

    return make


def _of_item(make_it: Callable[[HttpWorld], Awaitable[tuple[str, Any]]], body: Any = None, kind: str = "") -> Make:
    async def make(world: HttpWorld) -> Ask:
        referral, item = await make_it(world)
        if kind:
            item = await world.newest(referral, kind)
        return Ask(world.shelter, {"item_id": item.id}, body)

    return make


async def _asked_for_information(world: HttpWorld) -> tuple[str, Any]:
    return await world.decided("information-requested", fields=[Field.PARTY])


async def _changes(world: HttpWorld) -> Ask:
    referral, _ = await world.sent()
    return Ask(world.helpline, hidden=referral)


async def _inbox(world: HttpWorld) -> Ask:
    referral, _ = await world.decided()
    return Ask(world.shelter, hidden=referral)


async def _open_many(world: HttpWorld) -> Ask:
    _, item = await world.decided()
    return Ask(world.shelter, body={"ids": [item.id]})


async def _opening(world: HttpWorld) -> Ask:
    _, item = await world.decided()
    opened = await world.system(world.shelter).inbox.open(item.id)
    return Ask(world.shelter, {"item_id": item.id}, {"digest": opened.digest})


async def _sealed(world: HttpWorld) -> Ask:
    """As an agency's own software seals; this one's node holds the keys as well, and takes it all the same."""
    node, system = world.helpline, world.system(world.helpline)
    roster, contracts = node.node.world().roster, node.node.world().contracts
    assert node.node.keyring is not None
    store = AgencyKeyStore(node.home / "table.db", RowKey(bytes(32)), secrets.token_bytes)
    digest = StorageKey(bytes(32)).keyed_digest
    identity = Identity(node.member, node.node.keyring.agency_key, store, roster, contracts, digest, node.node.clock)
    sealed = await seal(identity, system, referral_request(SHELTER.agency, await world.consent()))
    store.close()
    return Ask(node, body=_json(sealed.hand_in))


async def _epochs(world: HttpWorld) -> Ask:
    blind = world.together[LABOUR_OFFICE]
    published = await world.system(blind).sealing.published()
    return Ask(blind, body={"statements": [epoch.statement for epoch in published.epochs]})


async def _contract(world: HttpWorld) -> Ask:
    listed = await world.system(world.helpline).federation.contracts()
    return Ask(world.helpline, {"digest": listed.items[0].digest})


async def _peer(world: HttpWorld) -> Ask:
    return Ask(world.helpline, {"agency": SHELTER.agency})


async def _helpline(world: HttpWorld) -> Ask:
    return Ask(world.helpline)


async def _shelter(world: HttpWorld) -> Ask:
    return Ask(world.shelter)


async def _batch(world: HttpWorld) -> Ask:
    await world.sent()
    travelled = [
        body for port, path, body in world.together.network.posted if port == world.shelter.port and "env" in path
    ]
    return Ask(world.shelter, body=travelled[-1])


async def _resync(world: HttpWorld) -> Ask:
    return Ask(world.shelter, body={"since": (datetime.now(UTC) - timedelta(hours=1)).isoformat()})


async def _consent_status(world: HttpWorld) -> Ask:
    return Ask(world.shelter, body={"receipts": ["0" * 32]})


def _later() -> Any:
    return {"until": (datetime.now(UTC) + timedelta(days=120)).isoformat()}


def _less() -> Any:
    provision = _json(consent_request(SHELTER.agency))["provisions"][0]
    return {"provisions": [provision | {"groups": ["need", "name"]}]}


_CONTENT = {"content": {"preferred_name": "Example", "safe_contact": {"who_initiates": "survivor"}}}
_PARTY = {"content": {"party": {"adults": 1}}}
_PLAN = {"safe_contact": {"who_initiates": "survivor"}}
_W = HttpWorld

TABLE: dict[str, Row] = {
    "issue_token": Row(_shelter, "nothing"),
    "get_authorization_server_metadata": Row(_helpline, "nothing"),
    "get_node_card": Row(_helpline, "nothing"),
    "record_consent_of_survivor": Row(_with_subject, "422"),
    "get_consent": Row(_consent()),
    "get_consent_receipt": Row(_consent()),
    "list_open_referrals": Row(_consent()),
    "renew_consent_of_survivor": Row(_consent(_later)),
    "narrow_consent_of_survivor": Row(_consent(_less)),
    "withdraw_for_survivor": Row(_withdrawal),
    "preview_referral_request": Row(_referral_request, "hidden"),
    "create_referral": Row(_referral_request, "403"),
    "list_referral_changes": Row(_changes, "hidden"),
    "get_referral": Row(_of_referral(_W.sent)),
    "recall_referral_by_sender": Row(_of_referral(_W.sent)),
    "release_held_disclosure": Row(_of_referral(_W.decided)),
    "replace_held_disclosure": Row(_of_referral(_W.sent, _CONTENT)),
    "drop_held_disclosure": Row(_of_referral(_W.sent)),
    "send_requested_information": Row(_of_referral(_asked_for_information, _PARTY)),
    "update_safe_contact_plan": Row(_of_referral(_W.decided, _PLAN)),
    "declare_referral_error": Row(_of_referral(_W.sent)),
    "list_inbox_items": Row(_inbox, "hidden"),
    "open_inbox_items": Row(_open_many, "missing"),
    "open_inbox_item": Row(_of_item(_W.decided)),
    "get_contact_advice": Row(_of_item(_W.decided)),
    "lease_inbox_item": Row(_of_item(_W.decided, {"seconds": 30})),
    "acknowledge_inbox_item": Row(_of_item(_W.decided, {})),
    "decide_on_offer": Row(_of_item(_W.decided, {"decision": "accepted"})),
    "report_service_progress": Row(_of_item(_W.decided, {"state": "in-service"})),
    "answer_recall_request": Row(_of_item(_W.asked_back_in_service, {"agreed": True})),
    "refuse_inbox_item": Row(_of_item(_W.decided, {"code": "cannot-open"})),
    "attest_erasure_of_copies": Row(_of_item(_W.erased, {"copies_destroyed": True})),
    "declare_item_error": Row(_of_item(_W.decided)),
    "record_opening_of_item": Row(_opening),
    "hand_in_envelopes": Row(_sealed, "403"),
    "publish_epoch_statements": Row(_epochs, "nothing"),
    "list_published_epochs": Row(_helpline, "nothing"),
    "list_contracts_in_force": Row(_helpline, "nothing"),
    "get_contract": Row(_contract, "nothing"),
    "get_peer_keys": Row(_peer, "nothing"),
    "get_liveness": Row(_helpline, "nothing"),
    "get_readiness": Row(_helpline, "nothing"),
    "receive_envelope_batch": Row(_batch, "nothing"),
    "resync_after_loss": Row(_resync, "nothing"),
    "ask_consent_status": Row(_consent_status, "nothing"),
    "get_roster_mirror": Row(_shelter, "nothing"),
}

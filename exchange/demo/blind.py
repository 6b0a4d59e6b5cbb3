"""`exchange demo --blind`: the whole life of a referral with no agency key on either server.

Two agencies, each with a node and with a machine of its own. The nodes gate, hold, deliver and sign receipts; what is
inside only the agencies' own software seals and opens. At the end both servers' files are searched for what was said,
and for the keys.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from contracts.vocabulary import WithdrawalForm
from exchange.client import AgencyClient, ClientError, ProblemError
from exchange.client.vault import AgencyVault, Identity, RefusedItemError
from exchange.demo.cast import now
from exchange.demo.evidence import keys_of, sealed_rows, wrapped_rows
from exchange.demo.federation import HELPLINE, SHELTER, FederationError, RunningNode, running_federation
from exchange.demo.narration import ClaimFailedError, Narrator
from exchange.demo.people import Person, kenanga
from exchange.demo.search import find_key, search
from exchange.demo.waiting import TooLateError, item_of, referral_that
from exchange.envelope.keys import EpochKey
from exchange.referral.lifecycle import State
from exchange.schemas.inbox import DecisionRequest, OpenedItem, ProgressRequest
from exchange.schemas.referrals import ReferralView

PLANTED: Final = ("Kenanga Contoh", "silver river", "Example Clinic, side door", "+00 13 111 2222", "jasmine rice")
"""Everything about her that identifies, as the caseworker typed it."""
_FAILED: Final = 1
_WIDTH_WHEN_PIPED: Final = 140
_OPENING: Final = (
    "Two agencies, a helpline and a shelter. Each has a server that runs its node, and a machine of its own with the "
    "agency's keys. No server can read anything: what it holds is sealed, and the keys were never there.\n\n"
    "Everybody in these stories is invented. Each line with a ✓ was checked while it was told."
)


@dataclass(frozen=True, slots=True)
class Office:
    """One agency: its server, and its own machine."""

    node: RunningNode
    client: AgencyClient
    identity: Identity
    vault: AgencyVault


def perform_blind(folder: Path) -> int:
    """Tell everything; the exit code.

    Args:
        folder: a new or empty folder for the nodes' homes and the agencies' own folders.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH_WHEN_PIPED)
    narrator = Narrator(console)
    narrator.opening("Referral exchange: keys elsewhere", _OPENING)
    began = time.monotonic()
    try:
        with running_federation(folder, (HELPLINE, SHELTER), keys_elsewhere=True) as federation:
            console.print(f"Ready after {time.monotonic() - began:.0f} s: {', '.join(federation.nodes)}.")
            asyncio.run(tell_all(federation[HELPLINE], federation[SHELTER], narrator))
    except (ClaimFailedError, ClientError, FederationError, TooLateError) as failed:
        console.print(Text(f"The demo stops here: {failed}", style="bold red"))
        return _FAILED
    console.print(Text(f"\n{narrator.claims} claims told and checked in {time.monotonic() - began:.0f} s."))
    console.print("completed {completed} · refused {refused} · withdrawn {withdrawn}".format(**narrator.counts))
    return 0


async def tell_all(helpline_node: RunningNode, shelter_node: RunningNode, tell: Narrator) -> None:
    """Three stories and a search."""
    async with helpline_node.client("w-001") as asking, shelter_node.client("w-002") as helping:
        helpline, shelter = (
            _office(node, client) for node, client in ((helpline_node, asking), (shelter_node, helping))
        )
        for office in (helpline, shelter):
            published = await office.vault.publish_epochs()
            tell.step(office.node.plan.kind.value, "makes its weekly keys and hands its node the signed statements.")
            tell.holds("Six weeks are published; the private halves stay here.", fact=published.weeks_ahead >= 5)  # noqa: PLR2004
        await _completed(helpline, shelter, tell)
        await _tampered(helpline, shelter, tell)
        await _withdrawn(helpline, shelter, tell)
        _nothing_on_the_servers(helpline, shelter, tell)
        for office in (helpline, shelter):
            office.vault.close()


def _office(node: RunningNode, client: AgencyClient) -> Office:
    identity = node.identity()
    return Office(node, client, identity, AgencyVault(identity, client))


async def _refer(helpline: Office, person: Person, tell: Narrator) -> str:
    consent = await helpline.client.consents.record(person.consent(now()))
    created = await helpline.vault.refer(person.referral(consent.id))
    tell.step("helpline", "asks her, runs the gate on its own machine, seals, and hands two envelopes to its node.")
    tell.holds("The node checked their headers; name and contact are held.", fact=created.disclosure_held)
    try:
        await helpline.client.referrals.preview(person.referral(consent.id))
        code = "shown"
    except ProblemError as refused:
        code = refused.problem.code
    tell.holds("Asked for a preview in the clear, the node refuses: `keys-elsewhere`.", fact=code == "keys-elsewhere")
    return created.id


async def _open(office: Office, referral: str, kind: str) -> OpenedItem:
    return await office.vault.open(await item_of(office.client, referral, kind))


async def _completed(helpline: Office, shelter: Office, tell: Narrator) -> None:
    tell.story(1, "a bed, and two servers that cannot read", "Kenanga (invented) needs a place to sleep.")
    referral = await _refer(helpline, kenanga(now()), tell)
    item = await item_of(shelter.client, referral, "offer")
    tell.step("shelter's node", "has verified steps 1 to 12, signed for the offer, and kept it as it came.")
    tell.holds("It holds the wrapped key, and nothing that opens it.", fact=_holds_wrapped(shelter, referral) == 1)
    code = await _code_of_opening(shelter, item.id)
    tell.holds("Asked for the content it says 409 `keys-elsewhere`.", fact=code == "keys-elsewhere")
    offer = await shelter.vault.open(item)
    tell.step("shelter", "verifies and opens the offer on its own machine, and takes the key over.")
    content = offer.content
    tell.holds("It sees what is needed and not who she is.", fact=content is not None and not content.preferred_name)
    tell.holds("The node has dropped the wrapped key.", fact=_holds_wrapped(shelter, referral) == 0)
    await shelter.vault.decide(referral, DecisionRequest(decision="accepted"))
    tell.step("shelter", "says yes: sealed and signed on its own machine, queued by its node.")
    await _release(helpline, referral)
    disclosed = (await _open(shelter, referral, "disclosure")).content
    tell.step("helpline's node", "has run the gate again, on groups, and signed the release statement.")
    tell.holds("The shelter reads her name.", fact=disclosed is not None and disclosed.preferred_name == PLANTED[0])
    decision = await _open(helpline, referral, "decision")
    tell.holds("The helpline opened the answer itself.", fact=(decision.answer or {}).get("decision") == "accepted")
    await shelter.vault.report_progress(referral, ProgressRequest(state="in-service"))
    await shelter.vault.report_progress(referral, ProgressRequest(state="completed"))
    view = await referral_that(helpline.client, referral, lambda one: one.state is State.COMPLETED, "completed")
    tell.step("shelter", "takes her in, and later says that the service is over.")
    tell.holds("Both nodes agree: completed.", fact=view.state is State.COMPLETED)
    tell.ended("completed")


async def _tampered(helpline: Office, shelter: Office, tell: Narrator) -> None:
    tell.story(
        2, "somebody touches what lies on the server", "The same question once more, and a hand in the database."
    )
    referral = await _refer(helpline, kenanga(now()), tell)
    item = await item_of(shelter.client, referral, "offer")
    _change_one_byte(shelter.node.home / "node.db", item.id)
    tell.step("an operator", "changes one byte of the sealed offer in the shelter's database.")
    refused = None
    try:
        await shelter.vault.open(item)
    except RefusedItemError as error:
        refused = error
    tell.step("shelter", "tries to open it on its own machine.")
    tell.holds(
        "Step 8, the signature: it is not what the helpline signed. Refused.",
        fact=refused is not None and (refused.step, refused.code) == (8, "bad-signature"),
    )
    view = await referral_that(
        helpline.client, referral, lambda one: one.flags.undeliverable, "the refusal at the helpline"
    )
    tell.holds("The helpline was told, and can telephone or send again.", fact=view.flags.undeliverable)
    tell.holds("The shelter's node keeps nothing of it.", fact=sealed_rows(shelter.node.home, referral) == 0)
    tell.ended("refused")


async def _withdrawn(helpline: Office, shelter: Office, tell: Narrator) -> None:
    tell.story(3, "erase", "Kenanga (invented) was placed. Now she wants that nobody holds anything about her.")
    referral = await _refer(helpline, kenanga(now()), tell)
    await _open(shelter, referral, "offer")
    await shelter.vault.decide(referral, DecisionRequest(decision="accepted"))
    await _release(helpline, referral)
    disclosure = await item_of(shelter.client, referral, "disclosure")
    await shelter.vault.open(disclosure)
    again = await shelter.vault.open(disclosure)
    tell.step("shelter", "accepts, opens who she is, and opens it again from its own key store.")
    tell.holds("It is there.", fact=again.content is not None and again.content.preferred_name == PLANTED[0])
    await helpline.client.withdrawals.of_referral(referral, WithdrawalForm.ERASE)
    tell.step("helpline", "hands in her no. The node signs and sends it by itself: that needs no agency key.")
    await _attested(helpline, referral, "peer-node")
    tell.holds(
        "The shelter's node has destroyed, and signed for it.", fact=sealed_rows(shelter.node.home, referral) == 0
    )
    await shelter.vault.attest_erasure(referral)
    tell.step("shelter", "destroys the key in its own store, and attests it with the agency key.")
    view = await _attested(helpline, referral, "peer-agency")
    tell.holds("Both attestations have arrived; the referral is withdrawn.", fact=view.state is State.WITHDRAWN)
    tell.holds("No key of it is left at the shelter.", fact=shelter.identity.store.taken(disclosure.id) is None)
    ended = await helpline.vault.destroy_ended()
    tell.holds("Nor at the helpline.", fact=referral in ended and helpline.identity.store.case(referral) is None)
    tell.ended("withdrawn")


def _nothing_on_the_servers(helpline: Office, shelter: Office, tell: Narrator) -> None:
    tell.story(4, "a search", "Everything that both servers have written, while one referral is still kept there.")
    for office in (helpline, shelter):
        home, key = office.node.home, office.identity.key
        found = search(home, PLANTED)
        tell.step("search", f"looks through every file of {office.node.agency}'s server ({found.size // 1024} KiB).")
        public = find_key(home, office.node.member.node_key)
        tell.holds("It does find what is there: the node's own public key.", fact=bool(public.finds))
        tell.holds(f"None of {len(PLANTED)} planted words, in no spelling.", fact=not found.finds and found.size > 0)
        secrets = [key.secret_bytes(), *(one.secret_bytes() for one in _weekly(office.identity))]
        traces = [find_key(home, secret).finds for secret in secrets]
        tell.holds(f"None of {len(secrets)} private keys of the agency.", fact=not any(traces))
        tell.holds("No key of any referral.", fact=keys_of(home) == 0)


def _weekly(identity: Identity) -> list[EpochKey]:
    keys = (identity.store.epoch_key(key_id) for key_id, _, _, _ in identity.store.epochs())
    return [key for key in keys if key is not None]


async def _release(helpline: Office, referral: str) -> None:
    view = await referral_that(
        helpline.client,
        referral,
        lambda one: one.flags.disclosed or one.flags.awaiting_confirmation,
        "the acceptance",
    )
    if view.flags.awaiting_confirmation:
        await helpline.client.referrals.release(referral)


async def _attested(helpline: Office, referral: str, party: str) -> ReferralView:
    def said(view: ReferralView) -> bool:
        return any(one.party == party and one.done_at is not None for one in view.attestations)

    return await referral_that(helpline.client, referral, said, f"the attestation of {party}")


async def _code_of_opening(office: Office, item: str) -> str:
    try:
        await office.client.inbox.open(item)
    except ProblemError as refused:
        return refused.problem.code
    return "opened"


def _holds_wrapped(office: Office, referral: str) -> int:
    return wrapped_rows(office.node.home, referral)


def _change_one_byte(database: Path, item: str) -> None:
    with closing(sqlite3.connect(database, timeout=5)) as connection, connection:
        row = connection.execute("SELECT ciphertext FROM inbox WHERE id = ?", (item,)).fetchone()
        changed = bytes([row[0][0] ^ 1]) + row[0][1:]
        connection.execute("UPDATE inbox SET ciphertext = ? WHERE id = ?", (changed, item))

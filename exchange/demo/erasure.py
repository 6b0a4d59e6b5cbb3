"""Story 4 of the demo: her no, in its strongest form, and a search for anything that is left."""

from __future__ import annotations

from typing import Final

from contracts.vocabulary import WithdrawalForm
from exchange.client import ProblemError
from exchange.demo.cast import Case, Cast, now, receive, refer, show_sights
from exchange.demo.evidence import keys_of, sealed_rows
from exchange.demo.people import kenanga
from exchange.demo.search import search
from exchange.demo.waiting import item_of, referral_that
from exchange.referral.lifecycle import State
from exchange.schemas.inbox import DecisionRequest, InboxItem
from exchange.schemas.referrals import ReferralView

_DESTROYED: Final = frozenset({404, 410})

PLANTED: Final = (
    "Kenanga Contoh",
    "silver river",
    "Example Clinic, side door",
    "+00 13 111 2222",
    "jasmine rice",
)
"""Everything about her that identifies, as the caseworker typed it."""


async def withdrawn(cast: Cast) -> None:
    """Accepted, disclosed and read; then she says no, and what was held is destroyed."""
    tell = cast.narrator
    tell.story(4, "erase", "Kenanga (invented) was placed. Now she wants that nobody holds anything about her.")
    case = await refer(cast, kenanga(now()))
    shelter = cast.federation[case.person.receiver]
    offer, _ = await receive(cast, case, "offer")
    await cast.at(shelter.plan).inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    disclosure, _ = await receive(cast, case, "disclosure")
    tell.step("shelter", "accepts; her name and how to reach her arrive and are read.")
    show_sights(cast, case, "Before her no")
    tell.holds("The shelter's worker has seen her name.", fact=case.seen.get("preferred_name") == PLANTED[0])
    tell.holds("The shelter holds the key of this referral.", fact=keys_of(shelter.home, case.referral) == 1)
    tell.holds("The shelter holds it sealed.", fact=sealed_rows(shelter.home, case.referral) > 0)

    answer = await cast.helpline.withdrawals.of_referral(case.referral, WithdrawalForm.ERASE)
    tell.step("helpline", "hands in her no: erase. It needs no contract and no consent, and it always passes.")
    tell.holds("Her no is stored and on its way.", fact=answer.form is WithdrawalForm.ERASE)
    view = await _attested(cast, case, "peer-node")
    tell.step("shelter's node", "destroys what it held and signs that it did. Nobody has to press a button.")
    tell.holds("The referral is withdrawn.", fact=view.state is State.WITHDRAWN)
    tell.holds("The shelter's node has attested the destruction, signed.", fact=_is_done(view, "peer-node"))
    await _nothing_opens(cast, case, (offer, disclosure))

    notice = await item_of(cast.at(shelter.plan), case.referral, "withdrawal")
    await cast.at(shelter.plan).inbox.attest_erasure(notice.id)
    tell.step("shelter", "destroys its own copies, on paper too, and says so.")
    view = await _attested(cast, case, "peer-agency")
    tell.holds("The agency has attested the destruction of its copies.", fact=_is_done(view, "peer-agency"))
    _search(cast, case)
    tell.ended("withdrawn")


async def _nothing_opens(cast: Cast, case: Case, items: tuple[InboxItem, ...]) -> None:
    tell, shelter = cast.narrator, cast.federation[case.person.receiver]
    statuses = [await _status_of_opening(cast, case, item) for item in items]
    tell.holds("What was read a minute ago cannot be opened any more.", fact=all(one in _DESTROYED for one in statuses))
    tell.holds("The key of the referral is gone from the key store.", fact=keys_of(shelter.home, case.referral) == 0)
    tell.holds("The sealed contents are gone from the database.", fact=sealed_rows(shelter.home, case.referral) == 0)


async def _status_of_opening(cast: Cast, case: Case, item: InboxItem) -> int:
    try:
        await cast.at(case.person.receiver).inbox.open(item.id)
    except ProblemError as refused:
        return refused.problem.status
    return 200


def _search(cast: Cast, case: Case) -> None:
    tell, shelter = cast.narrator, cast.federation[case.person.receiver]
    found = search(shelter.home, PLANTED)
    names = ", ".join(sorted({path.name for path in found.files if path.suffix not in {".yaml", ".json"}}))
    tell.step("search", f"looks through every file of the shelter's node ({found.size // 1024} KiB): {names}")
    control = search(shelter.home, (shelter.plan.name,))
    tell.holds("The search does find what is there: the shelter's own name, which is public.", fact=bool(control.finds))
    tell.holds(
        f"None of {len(PLANTED)} planted words stands there, in no spelling (plain, UTF-16, JSON, hex, base64).",
        fact=not found.finds and found.size > 0,
    )


async def _attested(cast: Cast, case: Case, party: str) -> ReferralView:
    return await referral_that(
        cast.helpline, case.referral, lambda view: _is_done(view, party), f"the attestation of {party}"
    )


def _is_done(view: ReferralView, party: str) -> bool:
    return any(one.party == party and one.done_at is not None for one in view.attestations)

"""Four of the five referrals of the demo. The fourth, `erasure`, has a module of its own.

Each function tells one story, checks each sentence it tells, and says how the referral ended.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from contracts.vocabulary import Channel, DeclineReason, Outcome
from exchange.client import ProblemError
from exchange.demo.cast import Case, Cast, now, receive, refer, show_sights
from exchange.demo.evidence import held_rows, stored_referrals
from exchange.demo.federation import HELPLINE
from exchange.demo.narration import sights_of
from exchange.demo.people import anggrek, melati, nobody_known, seruni
from exchange.demo.waiting import items_of, referral_that
from exchange.referral.lifecycle import State
from exchange.schemas.inbox import DecisionRequest, InboxItem, ProgressRequest
from exchange.schemas.referrals import ReferralView

HELD: Final = "sealed, held"
IDENTIFYING: Final = frozenset(
    {"preferred_name", "arrival_words", "safe_contact", "meeting_point", "legal_name", "passport_number"}
)


async def accepted(cast: Cast) -> None:
    """Story 1: from her consent to the end of the service."""
    tell = cast.narrator
    tell.story(1, "a bed tonight", "Melati (invented) fled with her daughter.")
    case = await refer(cast, melati(now()))
    offer, _ = await receive(cast, case, "offer")
    tell.step("shelter", "polls its inbox and opens the offer.")
    show_sights(cast, case, "After the offer", held=HELD)
    tell.holds("The shelter knows what is needed, and not who she is.", fact=not IDENTIFYING & case.seen.keys())
    tell.holds(
        "What the shelter's rule does not list was withheld and named.",
        fact={decision.field.value for decision in case.created.withheld} >= {"relationship", "nationality"},
    )
    tell.step("shelter", "says yes. The helpline's node runs the gate again and lets the held disclosure go.")
    await _accept(cast, case, offer)
    disclosure, _ = await receive(cast, case, "disclosure")
    show_sights(cast, case, "After the acceptance")
    tell.holds(
        "Now, and only now, the shelter sees her name, her words for the door and how to reach her.",
        fact={"preferred_name", "arrival_words", "safe_contact", "meeting_point"} <= case.seen.keys(),
    )
    await _ask_for_advice(cast, case, disclosure)
    await _serve(cast, case, offer)
    tell.ended("completed")


async def _ask_for_advice(cast: Cast, case: Case, disclosure: InboxItem) -> None:
    tell, client = cast.narrator, cast.at(case.person.receiver)
    call = await client.inbox.contact_advice(disclosure.id, channel=Channel.PHONE_CALL)
    text = await client.inbox.contact_advice(disclosure.id, channel=Channel.SMS)
    tell.step("shelter", "asks how she may be contacted.")
    tell.holds(f"By telephone, in her safe time: yes. {call.sentence}", fact=call.may_contact)
    tell.holds(f"By text message: no. {text.sentence}", fact=not text.may_contact)


async def declined(cast: Cast) -> None:
    """Story 2: a no before anybody knew her name."""
    tell = cast.narrator
    tell.story(2, "a no", "Seruni (invented) needs papers. The helpline asks the embassy that she named.")
    case = await refer(cast, seruni(now()))
    offer, _ = await receive(cast, case, "offer")
    tell.step("embassy", "polls its inbox and opens the offer.")
    show_sights(cast, case, "After the offer", held=HELD)
    embassy = cast.federation[case.person.receiver]
    tell.holds(
        "One sealed disclosure is held at the helpline.", fact=held_rows(_helpline_home(cast), case.referral) == 1
    )
    await cast.at(embassy.plan).inbox.decide(
        offer.id, DecisionRequest(decision="declined", reason=DeclineReason.NOT_ELIGIBLE)
    )
    tell.step("embassy", "declines: not eligible.")
    view = await _reaches(cast, case, State.DECLINED)
    show_sights(cast, case, "After the decline", held="deleted")
    came = await items_of(cast.at(embassy.plan), case.referral)
    tell.holds("The helpline knows that the embassy declined.", fact=view.state is State.DECLINED)
    tell.holds("Nothing but the offer ever came to the embassy.", fact=[item.kind for item in came] == ["offer"])
    tell.holds("Her name was never sent.", fact=not IDENTIFYING & case.seen.keys() and not view.flags.disclosed)
    tell.holds("The held disclosure is gone.", fact=held_rows(_helpline_home(cast), case.referral) == 0)
    tell.ended("declined")


async def refused(cast: Cast) -> None:
    """Story 3: what a contract forbids is refused whatever else is right."""
    tell = cast.narrator
    tell.story(3, "a status that never travels", "Anggrek (invented) wants her wages.")
    person = anggrek(now())
    tell.step("helpline", "records her consent. She even agreed that the labour office may know her status.")
    consent = await cast.helpline.consents.record(person.consent(now()))
    before = stored_referrals(_helpline_home(cast))
    request = person.referral(consent.id)
    preview = await cast.helpline.referrals.preview(request)
    forbidden = [decision for decision in preview.fields if decision.outcome == "forbidden"]
    tell.step("helpline", "hands in a referral to the labour office that contains her immigration status.")
    tell.sights("What would go", person.receiver, sights_of(person.content, preview.fields, {}, held=""))
    problem = None
    try:
        await cast.helpline.referrals.send(request)
    except ProblemError as refusal:
        problem = refusal.problem
    tell.holds(
        f"Refused, {problem.status if problem else 0} `{problem.code if problem else ''}`.",
        fact=problem is not None and (problem.status, problem.code) == (403, "never"),
    )
    for decision in forbidden:
        tell.holds(f"{decision.field.value}: {decision.sentence}", fact=decision.field.value == "immigration_status")
    named = [field.path for field in problem.fields] if problem else []
    tell.holds("The refusal names the field.", fact=any("immigration_status" in path for path in named))
    after = stored_referrals(_helpline_home(cast))
    arrived = [item async for item in cast.at(person.receiver).inbox.pages()]
    tell.holds("Nothing was stored at the helpline.", fact=before == after)
    tell.holds("Nothing was sent: the labour office's inbox is empty.", fact=not arrived)
    tell.ended("refused")


async def nameless(cast: Cast) -> None:
    """Story 5: without a name and without a phone."""
    tell = cast.narrator
    tell.story(5, "two words at the door", "She gives no name and has no phone.")
    case = await refer(cast, nobody_known(now()))
    offer, _ = await receive(cast, case, "offer")
    tell.step("shelter", "accepts, and receives all there is.")
    await _accept(cast, case, offer)
    disclosure, _ = await receive(cast, case, "disclosure")
    show_sights(cast, case, "After the acceptance")
    identity = {"preferred_name", "legal_name", "meeting_point"} & case.seen.keys()
    tell.holds("No name and no number is known to anyone.", fact=not identity)
    tell.holds("The door knows her by two words.", fact=case.seen.get("arrival_words") == "quiet harbour")
    advice = await cast.at(case.person.receiver).inbox.contact_advice(disclosure.id)
    tell.holds(f"Nobody contacts her. {advice.sentence}", fact=not advice.may_contact)
    await _serve(cast, case, offer)
    tell.ended("completed")


async def _accept(cast: Cast, case: Case, offer: InboxItem) -> None:
    act = await cast.at(case.person.receiver).inbox.decide(offer.id, DecisionRequest(decision="accepted"))
    cast.narrator.holds("The acceptance is on record.", fact=act.referral.state is State.ACCEPTED)


async def _serve(cast: Cast, case: Case, offer: InboxItem) -> None:
    tell, client = cast.narrator, cast.at(case.person.receiver)
    await client.inbox.report_progress(offer.id, ProgressRequest(state="in-service"))
    await client.inbox.report_progress(offer.id, ProgressRequest(state="completed", outcome=Outcome.SERVICE_PROVIDED))
    tell.step("shelter", "takes her in, and later says that the service is over.")
    view = await _reaches(cast, case, State.COMPLETED)
    tell.holds("The helpline sees: completed.", fact=view.state is State.COMPLETED)
    answers = [item for item in await items_of(cast.helpline, case.referral) if item.kind == "progress"]
    opened = [await cast.helpline.inbox.open(item.id) for item in answers]
    told = [answer.answer or {} for answer in opened]
    tell.holds(
        "How it ended stays at the shelter: she did not allow that to be told.",
        fact=bool(told) and all("outcome" not in answer for answer in told),
    )


async def _reaches(cast: Cast, case: Case, state: State) -> ReferralView:
    return await referral_that(cast.helpline, case.referral, lambda view: view.state is state, f"state {state}")


def _helpline_home(cast: Cast) -> Path:
    return cast.federation[HELPLINE].home

"""`exchange inbox …`: the receiving side, over HTTP. A shelter with one laptop can work with this alone.

Where the agency's keys lie beside the profile (`exchange init --keys-elsewhere`), it opens and seals here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from contracts.vocabulary import Channel, DeclineReason, FailReason, Outcome
from contracts.vocabulary import Field as ReferralField
from exchange.cli.asking import ask, ask_office
from exchange.cli.came_later import tell_what_came_later
from exchange.cli.console import OUT, SET_UP_WRONG, advise, fail, say, show_json, table
from exchange.cli.contact import show_advice
from exchange.cli.following import LONG_POLL_S, Following
from exchange.cli.naming import item_named, listed_item
from exchange.cli.plain_page import DEFAULT_DAYS, LONGEST_DAYS, plain_page
from exchange.cli.profile import ActorOption, HomeOption
from exchange.cli.sheet import (
    drill,
    is_awaited,
    is_stop,
    line,
    shortened,
    show_opened,
    show_stop,
    tell_unreadable,
    what_it_is,
)
from exchange.client import AgencyClient
from exchange.client.vault import AgencyVault
from exchange.referral.lifecycle import TERMINAL, State
from exchange.schemas.inbox import (
    ContactAdvice,
    DecisionRequest,
    InboxItem,
    OpenedItem,
    ProgressRequest,
    RecallAnswerRequest,
    ReferralAct,
    StaysHere,
)
from exchange.schemas.referrals import ReferralView

app = typer.Typer(no_args_is_help=True, help="What arrived for this agency.")

_AT: Final = [f"%Y-%m-%d{between}%H:%M{rest}" for between in " T" for rest in ("", ":%S", "%z", ":%S%z")]
"""No day alone: its midnight is seldom meant."""
_NOBODY_KNOWS: Final = "Nobody there hears of it. If she may be in danger you have to act: nobody else knows."
_STAYS_HERE: Final[Mapping[StaysHere, str]] = {
    "feedback-level": f"Her consent and the rule let {{peer}} hear the decision only. {_NOBODY_KNOWS}",
    "sharing-stopped": f"She stopped sharing: {{peer}} is told only that the service is over. {_NOBODY_KNOWS}",
}
ItemArgument = Annotated[str, typer.Argument(help="Id of the item, or its last characters.")]


class RecallWord(StrEnum):
    """What an agency says that is asked for a referral back while it serves her."""

    ENDS = "ends"
    GOES_ON = "goes-on"


@app.command()
def watch(
    once: Annotated[bool, typer.Option("--once", help="Show what is new and end.")] = False,
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Show every new item as it arrives, without its content, until stopped. A node that goes away is waited for."""
    following = Following()

    async def follow(client: AgencyClient) -> None:
        cursor, wait_s = None, 0.0
        while True:
            page = await following.page(lambda: client.inbox.list(cursor, status="new", wait_s=wait_s))  # noqa: B023
            for item in page.items:
                urgent = item.priority == "emergency" and is_awaited(item)
                say(line(item), style="bold red" if urgent else "")
            for one in page.unreadable:
                tell_unreadable(one)
            if once and not (page.items or page.unreadable):
                return
            cursor, wait_s = page.next_cursor, 0.0 if once else LONG_POLL_S

    ask(home, actor, follow)


@app.command("list")
def list_(home: HomeOption = None, actor: ActorOption = None) -> None:
    """Everything that is not destroyed, the newest last."""

    async def collect(client: AgencyClient) -> list[InboxItem]:
        return [item async for item in client.inbox.pages(unreadable=tell_unreadable) if item.status != "destroyed"]

    # A space instead of the stroke: a narrow screen breaks the cell there and not within a word.
    rows = [
        (
            shortened(item),
            f"{item.received_at:%Y-%m-%d %H:%M}",
            item.sender,
            what_it_is(item).replace("/", " ") + drill(item),
            item.state,
            item.status,
        )
        for item in ask(home, actor, collect)
    ]
    OUT.print(table("Inbox (UTC)", ("item", "received", "from", "what", "referral is", "status"), rows))


@app.command()
def show(
    item: ItemArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Answer as JSON, for another program.")] = False,
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Open one item on the screen. That it was opened is on record under your id."""

    async def look(client: AgencyClient, vault: AgencyVault | None) -> OpenedItem | InboxItem:
        if vault is not None and is_stop(listed := await listed_item(client, item)):
            return listed
        return await _open(client, vault, item)

    found = ask_office(home, actor, look)
    if as_json:
        show_json(found)
    elif isinstance(found, OpenedItem):
        show_opened(found)
    else:
        show_stop(found)


@app.command()
def accept(item: ItemArgument, home: HomeOption = None, actor: ActorOption = None) -> None:
    """Say yes to an offer. Her name and how to reach her follow, if she still agrees."""
    act = _decide(item, DecisionRequest(decision="accepted"), home, actor)
    if not act.repeated:
        advise("Her name and how to reach her come as an item of their own: exchange inbox watch", style="")


@app.command()
def decline(
    item: ItemArgument,
    reason: Annotated[DeclineReason, typer.Option(help="Why. Two of the reasons stay here and travel as `other`.")],
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Say no to an offer. Her name never comes here."""
    _decide(item, DecisionRequest(decision="declined", reason=reason), home, actor)


@app.command()
def waitlist(item: ItemArgument, home: HomeOption = None, actor: ActorOption = None) -> None:
    """Not now, perhaps later."""
    _decide(item, DecisionRequest(decision="waitlisted"), home, actor)


@app.command("request-info")
def request_info(
    item: ItemArgument,
    field: Annotated[list[ReferralField], typer.Option(help="A field that is needed to decide; may be repeated.")],
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Ask for fields before deciding. The clock goes on."""
    _decide(item, DecisionRequest(decision="information-requested", fields=tuple(field)), home, actor)


@app.command()
def progress(
    item: ItemArgument,
    state: Annotated[str, typer.Argument(help="scheduled, not-reached, not-arrived, in-service, completed or failed.")],
    outcome: Annotated[Outcome | None, typer.Option(help="With completed.")] = None,
    fail_reason: Annotated[FailReason | None, typer.Option(help="With failed.")] = None,
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Say how the service goes. How much of it travels is for the rule and her consent to say."""
    try:
        request = ProgressRequest.model_validate({"state": state, "outcome": outcome, "fail_reason": fail_reason})
    except ValueError:
        fail("The state is scheduled, not-reached, not-arrived, in-service, completed or failed.", code=SET_UP_WRONG)

    _act(
        item,
        home,
        actor,
        f"`{request.state}`",
        node=lambda client, named: client.inbox.report_progress(named, request),
        office=lambda vault, referral: vault.report_progress(referral, request),
    )


@app.command("recall-answer")
def recall_answer(
    item: ItemArgument,
    word: Annotated[RecallWord, typer.Argument(help="Whether the service ends now, or goes on.")],
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Answer the agency that asks for the referral back while you serve her already. Ask her first."""
    request = RecallAnswerRequest(agreed=word is RecallWord.ENDS)
    _act(
        item,
        home,
        actor,
        f"that the service {word}",
        node=lambda client, named: client.inbox.answer_recall(named, request),
        office=lambda vault, referral: vault.answer_recall(referral, request),
    )


@app.command()
def destroyed(item: ItemArgument, home: HomeOption = None, actor: ActorOption = None) -> None:
    """Attest that your agency's own copies of the referral are destroyed, on paper too. Only after it is true."""
    _act(
        item,
        home,
        actor,
        "that your copies are destroyed",
        node=lambda client, named: client.inbox.attest_erasure(named),
        office=lambda vault, referral: vault.attest_erasure(referral),
    )


@app.command("print")
def print_(
    item: ItemArgument,
    days: Annotated[
        int, typer.Option(min=1, max=LONGEST_DAYS, help="Days until the page has to be destroyed.")
    ] = DEFAULT_DAYS,
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """A neutral page for the door or the driver: no agency, no danger, no address book; with a destroy-by date."""
    opened = ask_office(home, actor, lambda client, vault: _open(client, vault, item))
    if opened.item.state in TERMINAL:
        # Paper outlives what is on the screen: somebody would wait for her at a door, or drive there.
        fail(
            f"The referral is {opened.item.state}: nobody acts on it any more. Nothing was printed. "
            "Destroy older pages."
        )
    if opened.content is None:
        fail(f"There is nothing for paper in a {opened.item.kind}: print the offer or the disclosure.")
    if opened.item.state is State.RECALL_REQUESTED:
        advise("The other agency asks for the referral back: ask her, and answer, before anybody acts on this page.")
    typer.echo(plain_page(opened, datetime.now(UTC).date(), days))


@app.command()
def ack(item: ItemArgument, home: HomeOption = None, actor: ActorOption = None) -> None:
    """Taken over: the item is no longer new."""

    async def acknowledge(client: AgencyClient) -> InboxItem:
        return await client.inbox.acknowledge(await item_named(client, item))

    say(line(ask(home, actor, acknowledge)), style="green")


@app.command()
def advice(
    item: ItemArgument,
    channel: Annotated[Channel | None, typer.Option(help="The channel in question; any unless given.")] = None,
    at: Annotated[
        datetime | None,
        typer.Option(help="The moment in question (UTC, or with an offset); now unless given.", formats=_AT),
    ] = None,
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """May she be contacted now, how, when next, and what to say if another answers. When in doubt: no."""
    moment = at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at

    async def asked(client: AgencyClient, vault: AgencyVault | None) -> ContactAdvice:
        if vault is not None:
            listed = await listed_item(client, item)
            return await vault.contact_advice(listed.referral, channel=channel, at=moment)
        return await client.inbox.contact_advice(await item_named(client, item), channel=channel, at=moment)

    try:
        answer = ask_office(home, actor, asked)
    except typer.Exit:
        # What was refused says why, and some of it "try again": none of that is a reason to call.
        advise("There is no advice: do not contact her.", style="bold red")
        raise
    show_advice(answer, now=at is None)


def _decide(item: str, request: DecisionRequest, home: Path | None, actor: str | None) -> ReferralAct:
    return _act(
        item,
        home,
        actor,
        f"`{request.decision}`",
        node=lambda client, named: client.inbox.decide(named, request),
        office=lambda vault, referral: vault.decide(referral, request),
    )


def _act(
    item: str,
    home: Path | None,
    actor: str | None,
    what: str,
    *,
    node: Callable[[AgencyClient, str], Awaitable[ReferralAct]],
    office: Callable[[AgencyVault, str], Awaitable[ReferralAct | ReferralView]],
) -> ReferralAct:
    """Says something of an item's referral, sealed by the node, or here where the agency's keys are; and tells it."""

    async def act(client: AgencyClient, vault: AgencyVault | None) -> ReferralAct:
        if vault is not None:
            said = await office(vault, (await listed_item(client, item)).referral)
            return said if isinstance(said, ReferralAct) else ReferralAct(referral=said)
        return await node(client, await item_named(client, item))

    done = ask_office(home, actor, act)
    said = "was on record already" if done.repeated else "is on record and on its way"
    if done.stays_here is not None:
        said = f"{'was' if done.repeated else 'is'} on record here, and nowhere else"
    say(
        f"The referral{drill(done.referral)} is {done.referral.state}; {what} {said}.",
        style="" if done.stays_here else "green",
    )
    if done.stays_here is not None:
        advise(_STAYS_HERE[done.stays_here].format(peer=done.referral.peer), style="bold red")
    return done


async def _open(client: AgencyClient, vault: AgencyVault | None, item: str) -> OpenedItem:
    if vault is not None:
        opened = await vault.open(await listed_item(client, item))
    else:
        opened = await client.inbox.open(await item_named(client, item))
    await tell_what_came_later(client, opened.item)
    return opened

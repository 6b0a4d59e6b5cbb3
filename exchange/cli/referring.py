"""`exchange send`, `exchange referrals …` and `exchange withdraw`: the referring side, over HTTP."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from contracts.vocabulary import WithdrawalForm
from exchange.cli.asking import ask, ask_office
from exchange.cli.console import REFUSED, SET_UP_WRONG, advise, fail, say, show_json
from exchange.cli.following import LONG_POLL_S, Following
from exchange.cli.input import read_request
from exchange.cli.naming import consent_named, referral_named
from exchange.cli.profile import ActorOption, HomeOption
from exchange.cli.referral_sheet import (
    ask_for_disclosure,
    decisions_table,
    line,
    show_created,
    show_preview,
    show_view,
)
from exchange.cli.sent_before import refuse_what_is_open
from exchange.client import (
    AgencyClient,
    ClientError,
    NodeUnreachableError,
    ProblemError,
    UnexpectedAnswerError,
    new_idempotency_key,
)
from exchange.client.retries import may_be_stored
from exchange.client.vault import AgencyVault
from exchange.schemas.referrals import (
    DisclosureRequest,
    ForwardAnswer,
    InformationRequest,
    ReferralCreated,
    ReferralPreview,
    ReferralRequest,
    SafeContactRequest,
    WithdrawalAnswer,
)

_ONE_LOOK_S: Final = 5.0
_DRILL: Final = "EXERCISE: the other agency is told that nobody is real. If she is,"

app = typer.Typer(no_args_is_help=True, help="Referrals that this agency sent.")

ReferralArgument = Annotated[str, typer.Argument(help="Id of the referral.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer as JSON, for another program.")]


def send(
    file: Annotated[Path, typer.Argument(help="The referral as JSON; - for standard input.", allow_dash=True)],
    preview: Annotated[bool, typer.Option("--preview", help="Only say what would happen, field by field.")] = False,
    key: Annotated[
        str | None, typer.Option(help="Idempotency-Key, to repeat a send whose answer was lost, within 24 hours.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Send, although the same agency is asked under this consent already.")
    ] = False,
    as_json: JsonOption = False,
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Hand a referral in. The gate decides what goes with the offer, what is held, and what never goes."""
    request = read_request(file, ReferralRequest)
    if request.exercise:
        # Left in a file of last week's drill it would have nobody come for a woman who is real.
        advise(f"{_DRILL} take `exercise` out.", style="bold red")
    if preview:
        previewed = ask_office(
            home, actor, lambda client, vault: (client.referrals if vault is None else vault).preview(request)
        )
        _tell_of_drill(previewed, request)
        show_json(previewed) if as_json else show_preview(previewed, request.to)
        if not previewed.allowed:
            raise typer.Exit(REFUSED)
        return

    async def work(client: AgencyClient, vault: AgencyVault | None) -> None:
        if key is None and not again:
            await refuse_what_is_open(client, request)
        created = await _send(client, vault, request, key)
        # At once: whom to telephone waits for no second answer.
        _tell_of_drill(created, request)
        show_json(created) if as_json else show_created(created)
        if not created.disclosure_held:
            await _tell_what_is_awaited(client, created)

    ask_office(home, actor, work)


async def _tell_what_is_awaited(client: AgencyClient, created: ReferralCreated) -> None:
    """The answer to a hand-in does not tell what is no part of it from what was not sealed."""
    try:
        async with asyncio.timeout(_ONE_LOOK_S):
            view = await client.referrals.read(created.id)
    except (ClientError, TimeoutError):
        advise(f"Whether name and contact are awaited: exchange referrals show {created.id}")
    else:
        if view.flags.awaiting_disclosure:
            ask_for_disclosure(view)


def _tell_of_drill(answer: ReferralPreview | ReferralCreated, request: ReferralRequest) -> None:
    """A node that is left in a drill makes one of what is real, and nothing in the file says so."""
    if answer.exercise and not request.exercise:
        advise(f"{_DRILL} stop, and telephone whoever runs your node: it marks every referral so.", style="bold red")


async def _send(
    client: AgencyClient, vault: AgencyVault | None, request: ReferralRequest, key: str | None
) -> ReferralCreated:
    key = key if key is not None else new_idempotency_key()
    try:
        if vault is not None:
            return await vault.refer(request, idempotency_key=key)
        return await client.referrals.send(request, idempotency_key=key)
    except (ClientError, CancelledError) as ended:
        if _may_be_stored(ended):
            advise(
                "It may have been taken over all the same. Send it again within 24 hours with "
                f"--key {key}, and it stays one referral."
            )
        raise


def _may_be_stored(ended: ClientError | CancelledError) -> bool:
    """Of what Ctrl-C has ended, too, nobody knows."""
    if isinstance(ended, ProblemError):
        return may_be_stored(ended.problem.status)
    return isinstance(ended, NodeUnreachableError | UnexpectedAnswerError | CancelledError)


@app.command()
def watch(
    cursor: Annotated[str | None, typer.Option(help="Go on after this cursor.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Show what is there and end.")] = False,
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Follow every change of every referral, until stopped."""

    async def follow(client: AgencyClient) -> None:
        following, after, wait_s = Following(), cursor, 0.0
        while True:
            page = await following.page(lambda: client.referrals.changes(after, wait_s=wait_s))  # noqa: B023
            for change in page.items:
                say(line(change.what, change.referral))
            after, wait_s = page.next_cursor, 0.0 if once else LONG_POLL_S
            if once and not page.items:
                # Only now: the first page is the oldest, and what she waits for is the newest.
                advise(f"Go on with --cursor {after}", style="dim")
                return

    ask(home, actor, follow)


@app.command()
def show(
    referral: ReferralArgument, as_json: JsonOption = False, home: HomeOption = None, actor: ActorOption = None
) -> None:
    """State and flags of one referral."""
    view = ask(home, actor, lambda client: client.referrals.read(referral))
    show_json(view) if as_json else show_view(view)


@app.command()
def release(referral: ReferralArgument, home: HomeOption = None, actor: ActorOption = None) -> None:
    """Confirm that name and contact go to the agency that accepted. The gate runs once more."""
    answer = ask(home, actor, lambda client: client.referrals.release(referral))
    say(answer.sentence, style="green" if answer.released else "red")
    if not answer.released:
        raise typer.Exit(REFUSED)


@app.command()
def recall(referral: ReferralArgument, home: HomeOption = None, actor: ActorOption = None) -> None:
    """Take a referral back. Once she is served, the receiver is asked instead."""
    act = ask(home, actor, lambda client: client.referrals.recall(referral))
    show_view(act.referral)


@app.command()
def disclosure(
    referral: ReferralArgument,
    file: Annotated[
        Path, typer.Argument(help='{"content": {…}} as JSON, as in a referral; - for standard input.', allow_dash=True)
    ],
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Hand in a fresh disclosure in place of the one that is gone, after the plan was confirmed with her again."""
    request = read_request(file, DisclosureRequest)
    _tell(
        home,
        actor,
        node=lambda client: client.referrals.replace_disclosure(referral, request.content),
        office=lambda vault: vault.replace_disclosure(referral, request.content),
    )


@app.command()
def plan(
    referral: ReferralArgument,
    file: Annotated[
        Path,
        typer.Argument(help='{"safe_contact": {…}} as JSON, as in a referral; - for standard input.', allow_dash=True),
    ],
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Her safe-contact plan changed, or she confirmed it again: after 72 hours nobody may call her by the old one."""
    request = read_request(file, SafeContactRequest)
    _tell(
        home,
        actor,
        node=lambda client: client.referrals.update_safe_contact(referral, request.safe_contact),
        office=lambda vault: vault.update_safe_contact(referral, request.safe_contact),
    )


@app.command()
def inform(
    referral: ReferralArgument,
    file: Annotated[
        Path, typer.Argument(help='{"content": {…}} as JSON, as in a referral; - for standard input.', allow_dash=True)
    ],
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Tell what the receiver asked for, as far as she agrees."""
    request = read_request(file, InformationRequest)
    _tell(
        home,
        actor,
        node=lambda client: client.referrals.send_information(referral, request.content),
        office=lambda vault: vault.inform(referral, request.content),
    )


def _tell(
    home: Path | None,
    actor: str | None,
    *,
    node: Callable[[AgencyClient], Awaitable[ForwardAnswer]],
    office: Callable[[AgencyVault], Awaitable[ForwardAnswer]],
) -> None:
    """Tells the receiver more, sealed by the node, or here where the agency's keys are; and what the gate decided."""

    async def tell(client: AgencyClient, vault: AgencyVault | None) -> ForwardAnswer:
        return await (node(client) if vault is None else office(vault))

    answer = ask_office(home, actor, tell)
    if answer.fields:
        decisions_table("Field by field", answer.fields)
    show_view(answer.referral)


def withdraw(
    form: Annotated[WithdrawalForm, typer.Option(help="Which form her no takes; she chooses.")],
    referral: Annotated[
        str | None, typer.Option(help="Her no to this referral: its id, or the last characters of an item of it.")
    ] = None,
    consent: Annotated[str | None, typer.Option(help="Her no to everything under this consent.")] = None,
    home: HomeOption = None,
    actor: ActorOption = None,
) -> None:
    """Her no. It is stored at once and reaches every holder, however long the other node is away."""

    async def no(client: AgencyClient) -> WithdrawalAnswer:
        if referral is not None:
            return await client.withdrawals.of_referral(await referral_named(client, referral), form)
        return await client.withdrawals.of_consent(consent_named(consent or ""), form)

    if (referral is None) is (consent is None):
        fail("Give either --referral or --consent.", code=SET_UP_WRONG)
    answer = ask(home, actor, no)
    say(f"Her no ({answer.form}) is stored and on its way to {len(answer.referrals)} referral(s).", style="green")
    for view in answer.referrals:
        say(line("withdrawal", view))
        say(f"  Whether it has reached {view.peer}: exchange referrals show {view.id}", style="dim")
    if answer.destroyed_at is not None and answer.destroyed_at > datetime.now(UTC):
        advise(f"Nobody opens it any more. It is destroyed {answer.destroyed_at:%Y-%m-%d %H:%M} UTC.")
    for left in answer.unreadable or ():
        say(f"{left} cannot be read at this node and may not be stopped: telephone whoever has it.", style="red")

"""`exchange send`, `exchange referrals …` and `exchange withdraw`: the referring side, over HTTP."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from consent.record import WARNING_BEFORE
from contracts.vocabulary import WithdrawalForm
from exchange.cli.asking import ask, ask_office
from exchange.cli.console import OUT, REFUSED, SET_UP_WRONG, advise, fail, say, show_json, table
from exchange.cli.following import LONG_POLL_S, Following
from exchange.cli.input import read_request
from exchange.cli.naming import consent_named, referral_named
from exchange.cli.profile import ActorOption, HomeOption
from exchange.cli.sent_before import refuse_what_is_open
from exchange.cli.sheet import drill
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
from exchange.referral.lifecycle import State
from exchange.schemas.referrals import (
    DisclosureRequest,
    FieldDecision,
    ForwardAnswer,
    InformationRequest,
    ReferralCreated,
    ReferralPreview,
    ReferralRequest,
    ReferralView,
    SafeContactRequest,
    WithdrawalAnswer,
)

_TO_DO: Final[Mapping[str, str]] = {
    "undeliverable": "What was sent last has not reached {peer}, and may never: telephone its duty line now.",
    "overdue": "{peer} has not answered in time: telephone its duty line now.",
    "receiver_unserved": "{peer} has accepted many and served none of them yet, so name and contact wait: telephone it "
    "before you confirm.",
    "resend": "{peer} has lost its data: send this referral again as a new one.",
}
"""What a worker has to do where a flag is set; others have sentences of their own, or ask for nothing."""
_DRILL: Final = "EXERCISE: the other agency is told that nobody is real. If she is,"
_UNANSWERED: Final = frozenset({State.SENT, State.RECEIVED, State.INFORMATION_REQUESTED, State.EXPIRED})

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
        show_json(previewed) if as_json else _show_preview(previewed, request.to)
        if not previewed.allowed:
            raise typer.Exit(REFUSED)
        return

    async def work(client: AgencyClient, vault: AgencyVault | None) -> ReferralCreated:
        if key is None and not again:
            await refuse_what_is_open(client, request)
        return await _send(client, vault, request, key)

    created = ask_office(home, actor, work)
    _tell_of_drill(created, request)
    show_json(created) if as_json else _show_created(created)


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
                say(_line(change.what, change.referral))
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
    show_json(view) if as_json else _show_view(view)


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
    _show_view(act.referral)


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
    _show_view(answer.referral)


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
        say(_line("withdrawal", view))
        say(f"  Whether it has reached {view.peer}: exchange referrals show {view.id}", style="dim")
    for left in answer.unreadable or ():
        say(f"{left} cannot be read at this node and may not be stopped: telephone whoever has it.", style="red")


def decisions_table(title: str, fields: Sequence[FieldDecision]) -> None:
    """Every field with what was decided and why."""
    rows = [(field.field.value, _outcome(field), field.rule or "", field.sentence) for field in fields]
    OUT.print(table(title, ("field", "decided", "rule", "why"), rows))


def _outcome(field: FieldDecision) -> str:
    return f"{field.outcome}: {field.stage.value}" if field.stage else field.outcome


def _show_preview(preview: ReferralPreview, to: str) -> None:
    say(f"To {to}:", style="bold")
    say(preview.sentence, style="green" if preview.allowed else "bold red")
    decisions_table("Field by field", preview.fields)
    if preview.told_first is not None:
        say("Tell her first:", style="bold")
        reports = ", ".join(preview.told_first.reports_to) or "nobody"
        say(f"  It must report to: {reports}.")
        say(f"  {preview.told_first.freedom_of_movement or 'Whether she can leave is not known.'}")
        papers = "She is asked for papers." if preview.told_first.requires_documents else "No papers are asked for."
        say(f"  {papers}")
    say("Nothing was stored and nothing was sent.", style="dim")


def _show_created(created: ReferralCreated) -> None:
    say(f"Referral {created.id}", style="bold green")
    say(f"  to {created.to}")
    say(f"  code for the telephone: {created.client_code}    answer due: {created.respond_by:%Y-%m-%d %H:%M} UTC")
    if created.call_now:
        advise(f"EMERGENCY: telephone {created.duty_contact} now. Nothing waits for software.", style="bold red")
    else:
        say(f"  duty line: {created.duty_contact}")
    say(f"  name and contact are {'sealed and held' if created.disclosure_held else 'not part of it'}.")
    if created.withheld:
        decisions_table("Withheld", created.withheld)


def _show_view(view: ReferralView) -> None:
    say(_line(view.side, view))
    flags = [name for name, is_set in view.flags.model_dump().items() if is_set]
    if flags:
        say(f"  {', '.join(flags)}")
    for flag, words in _TO_DO.items():
        # That it was late stays on record after the answer has come.
        if getattr(view.flags, flag) and not (flag == "overdue" and view.state not in _UNANSWERED):
            advise(words.format(peer=view.peer), style="bold red")
    if view.flags.awaiting_confirmation:
        advise(f"Accepted. Confirm with her, then: exchange referrals release {view.id}")
    if view.flags.awaiting_disclosure:
        advise(
            "The held disclosure is gone. Confirm the plan with her, then hand in a fresh one: "
            f"exchange referrals disclosure {view.id} FILE"
        )
    if view.consent_until is not None:
        say(f"  her consent ends {view.consent_until:%Y-%m-%d %H:%M} UTC")
        if view.consent_until - datetime.now(UTC) <= WARNING_BEFORE:
            advise("That is within 14 days: ask her again if the help goes on.")
    for stop in view.stops or ():
        if stop.delivered_at is not None:
            made = f"said {stop.made_at:%Y-%m-%d %H:%M} UTC"
            say(f"  {stop.kind}: has reached {view.peer} {stop.delivered_at:%Y-%m-%d %H:%M} UTC ({made})")
        else:
            advise(
                f"{stop.kind}: {view.peer} does not know it yet. It goes by itself; where it matters now, telephone."
            )
    for attestation in view.attestations:
        done = f"attested {attestation.done_at:%Y-%m-%d %H:%M} UTC" if attestation.done_at else "owed"
        say(f"  destruction by {attestation.party}: {done}")


def _line(what: str, view: ReferralView) -> str:
    stands = f"{view.state}{drill(view)}"
    return f"{view.updated_at:%Y-%m-%d %H:%M} UTC  {view.id}  {view.peer}  {view.sector}  {stands}  ({what})"

"""A referral on the screen of who sent it: what would happen, what has, what it is now, and what has to be done.

Rules:

* A flag that asks for something is a sentence that says who telephones whom, or which command comes next.
* That nothing will go by itself (`awaiting_disclosure`) is said wherever the referral is shown, and when it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from consent.record import WARNING_BEFORE
from exchange.cli.console import OUT, advise, say, table
from exchange.cli.sheet import drill
from exchange.referral.lifecycle import State
from exchange.schemas.referrals import FieldDecision, ReferralCreated, ReferralPreview, ReferralView

_TO_DO: Final[Mapping[str, str]] = {
    "undeliverable": "What was sent last has not reached {peer}, and may never: telephone its duty line now.",
    "overdue": "{peer} has not answered in time: telephone its duty line now.",
    "receiver_unserved": "{peer} has accepted many and served none of them yet, so name and contact wait: telephone it "
    "before you confirm.",
    "resend": "{peer} has lost its data: send this referral again as a new one.",
}
"""What a worker has to do where a flag is set; others have sentences of their own, or ask for nothing."""
_UNANSWERED: Final = frozenset({State.SENT, State.RECEIVED, State.INFORMATION_REQUESTED, State.EXPIRED})


def decisions_table(title: str, fields: Sequence[FieldDecision]) -> None:
    """Every field with what was decided and why."""
    rows = [(field.field.value, _outcome(field), field.rule or "", field.sentence) for field in fields]
    OUT.print(table(title, ("field", "decided", "rule", "why"), rows))


def _outcome(field: FieldDecision) -> str:
    return f"{field.outcome}: {field.stage.value}" if field.stage else field.outcome


def show_preview(preview: ReferralPreview, to: str) -> None:
    """What would go, and what she has to be told first."""
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


def show_created(created: ReferralCreated) -> None:
    """What was stored, and whom to telephone."""
    say(f"Referral {created.id}", style="bold green")
    say(f"  to {created.to}")
    say(f"  code for the telephone: {created.client_code}    answer due: {created.respond_by:%Y-%m-%d %H:%M} UTC")
    if created.call_now:
        advise(f"EMERGENCY: telephone {created.duty_contact} now. Nothing waits for software.", style="bold red")
    else:
        say(f"  duty line: {created.duty_contact}")
    say(f"  name and contact are {'sealed and held' if created.disclosure_held else 'not held'}.")
    if created.withheld:
        decisions_table("Withheld", created.withheld)


def show_view(view: ReferralView) -> None:
    """Where it stands, and what has to be done."""
    say(line(view.side, view))
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
        ask_for_disclosure(view)
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


def ask_for_disclosure(view: ReferralView) -> None:
    """Nothing goes by itself then, and the receiver was told that name and contact come."""
    advise(
        "No name and contact are held, and they are awaited. Confirm the plan with her, then hand in a fresh "
        f"disclosure: exchange referrals disclosure {view.id} FILE",
        style="bold red",
    )


def line(what: str, view: ReferralView) -> str:
    """One change of it in a list."""
    stands = f"{view.state}{drill(view)}{', awaiting disclosure' if view.flags.awaiting_disclosure else ''}"
    return f"{view.updated_at:%Y-%m-%d %H:%M} UTC  {view.id}  {view.peer}  {view.sector}  {stands}  ({what})"

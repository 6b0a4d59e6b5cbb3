"""The advice about a contact on the screen.

Rules:

* A yes says until when it holds: she may be called a minute too late as well.
* An advice about another moment never says `now`, is not green, and names its moment on both clocks: a local time that
  was typed as UTC is seen.
* Where somebody she trusts passes a word on, it says who that is and how that person is reached: a call where she said
  `sms` may be heard by others.
* Of a drill it says before all else that it is one, also where it says no.
* Both ends of a safe time have their date.
"""

from __future__ import annotations

from typing import Final

from exchange.cli.console import advise, say
from exchange.cli.moments import moment
from exchange.schemas.inbox import ContactAdvice

_HOW: Final = {
    "who_may_answer": "Who may answer",
    "code_word_safe": "It is safe to talk if she says",
    "code_word_danger": "She is in danger if she says",
    "voicemail": "Voicemail",
    "caller_id": "Caller id",
    "dropped_call": "If the call breaks off",
}
"""What an advice says beside the channel, and how it is called."""
_THEN: Final = "She may be contacted then, in the way that is written here, unless something changes."


def show_advice(answer: ContactAdvice, *, now: bool) -> None:
    """Print it.

    Args:
        answer: what the plan says.
        now: whether it was asked about this moment.
    """
    if answer.exercise:
        say("EXERCISE: the plan is a drill's. Nobody in it is real.", style="bold")
    if not now:
        say(f"Not about now, but about {moment(answer.at)}:", style="bold")
    if not answer.may_contact:
        say(answer.sentence, style="bold red")
        if answer.next_window_from is not None and answer.next_window_to is not None:
            say(f"  Next: {moment(answer.next_window_from)} to {moment(answer.next_window_to)}")
        return
    say(answer.sentence if now else _THEN, style="green" if now else "")
    if answer.next_window_to is not None:
        say(f"  Only until {moment(answer.next_window_to)}.")
    if answer.trusted_channel is not None:
        say(f"  Through {answer.trusted_name}, by {answer.trusted_channel} and in no other way: {answer.address}.")
    else:
        say(f"  By {answer.channel}: {answer.address or 'no address in the plan'}. No other number of hers.")
    said = "may" if answer.agency_name_may_be_said else "must NOT"
    say(f"  The agency's name {said} be said.")
    if answer.say_if_other_answers:
        say(f"  If somebody else answers: {answer.say_if_other_answers}")
    for name, label in _HOW.items():
        if (told := getattr(answer, name)) is not None:
            say(f"  {label}: {told}")
    if answer.delete_after:
        say("  Delete the traces of the contact.")
    if not now:
        advise("Ask again before anybody calls.")

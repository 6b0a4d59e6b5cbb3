"""What `exchange init` is told, one answer at a time; `exchange client add` looks at the form of an actor and a unit.

Rules:

* Each answer is looked at, when it is given, by the rule of the roster that will hold it: a flag that will not do ends
  the program before anything is made, a typed answer is asked for again.
* A refusal names the flag and the form, and never repeats the answer.
* Where nobody is there to type, the flag that is missing is named.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import StringConstraints, TypeAdapter, ValidationError
from rich.prompt import Prompt

from consent.terms import AgencyId, Country
from contracts.vocabulary import ServiceType
from exchange.cli.console import ERR, SET_UP_WRONG, advise, fail
from exchange.cli.profile import ACTOR_FORM, ACTOR_PATTERN
from exchange.referral.values import LongName, ShortText
from exchange.roster import NodeUrl

_NAME: Final = "one line of at most 120 characters"
_COUNTRY: Final = "two capital letters of ISO 3166-1, such as MY"
NOBODY: Final = "nobody"
_FORMS: Final[Mapping[str, tuple[Any, str]]] = {
    "--agency": (AgencyId, "2 to 63 small letters, digits and hyphens, such as rose-house-shelter"),
    "--name": (LongName, _NAME),
    "--country": (Country, _COUNTRY),
    "--represents": (Country, _COUNTRY),
    "--public-url": (NodeUrl, "https:// and a host in small letters, without path or slash at the end"),
    "--duty-contact": (LongName, _NAME),
    "--breach-contact": (LongName, _NAME),
    "--reports-to": (LongName, _NAME),
    "--freedom-of-movement": (ShortText, "one line of at most 200 characters"),
    "--actor": (Annotated[str, StringConstraints(pattern=ACTOR_PATTERN)], ACTOR_FORM),
    "--unit": (
        Annotated[str, StringConstraints(pattern=ACTOR_PATTERN)],
        "up to 64 letters, digits, dots, hyphens and underscores, such as north",
    ),
}


def told(flag: str, given: str | None, question: str) -> str:
    """The answer that the flag gives, or that is typed now."""
    if given is not None:
        return accepted(flag, given)
    while not _takes(flag, answer := ask(question, flag)):
        advise(f"That is not acceptable: {_FORMS[flag][1]}.", style="red")
    return answer


def accepted(flag: str, answer: str) -> str:
    """The answer, which has the form it needs; otherwise the program ends here."""
    if not _takes(flag, answer):
        fail(f"{flag} is not acceptable: {_FORMS[flag][1]}. Nothing was made.", code=SET_UP_WRONG)
    return answer


def told_services(given: Sequence[ServiceType] | None) -> tuple[ServiceType, ...]:
    """What the agency offers, each once."""
    if given:
        return tuple(dict.fromkeys(given))
    known = ", ".join(service.value for service in ServiceType)
    while True:
        words = ask(f"Services it offers, separated by commas ({known})", "--service").split(",")
        try:
            if services := tuple(dict.fromkeys(ServiceType(word.strip()) for word in words if word.strip())):
                return services
        except ValueError:
            advise("One of these services is not in the vocabulary.", style="red")


def told_whom_it_reports_to(given: Sequence[str] | None) -> tuple[str, ...]:
    """To whom the agency must report; nobody only where that was said. Silence is no answer."""
    if given is not None:
        named = [accepted("--reports-to", one) for one in given]
        if any(map(_is_nobody, named)) and len(named) > 1:
            fail("--reports-to names somebody and `nobody`. Nothing was made.", code=SET_UP_WRONG)
        return tuple(one for one in named if not _is_nobody(one))
    while True:
        words = ask("To whom it must report about a woman, separated by semicolons; or: nobody", "--reports-to")
        named = [word.strip() for word in words.split(";") if word.strip()]
        if not all(_takes("--reports-to", one) for one in named):
            advise(f"That is not acceptable: {_FORMS['--reports-to'][1]} each.", style="red")
        elif any(map(_is_nobody, named)) and len(named) > 1:
            advise("That names somebody and `nobody`.", style="red")
        elif named:
            return tuple(one for one in named if not _is_nobody(one))


def told_whether(flag: str, given: bool | None, question: str) -> bool:
    """Yes or no, by the flag, its counterpart with `no`, or typed now."""
    return given if given is not None else ask(question, flag, choices=["yes", "no"]) == "yes"


def ask(question: str, flag: str, choices: list[str] | None = None) -> str:
    """What is typed; never nothing."""
    if not sys.stdin.isatty():
        fail(f"Nobody is here to answer: give {flag}.", code=SET_UP_WRONG)
    answer = Prompt.ask(question, choices=choices, console=ERR)
    return answer.strip() if answer and answer.strip() else ask(question, flag, choices)


def _is_nobody(named: str) -> bool:
    return named.strip().casefold() == NOBODY


def _takes(flag: str, answer: str) -> bool:
    try:
        TypeAdapter(_FORMS[flag][0]).validate_python(answer)
    except ValidationError:
        return False
    return True

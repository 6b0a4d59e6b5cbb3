"""Whether one provision lies within another: it allows nobody anything that the other does not allow.

Rules: fewer fields, recipients, purposes and feedback are within. Three things look smaller and are not:

* taking away the countries beside kinds makes the kinds reach further at home, and adding countries makes them reach
  across a border;
* taking away the agencies beside countries turns the countries from no meaning into any agency there;
* writing out a field of an allowed group names it, and a contract may ask for exactly that.
"""

from __future__ import annotations

from typing import Final

from consent.record import Provision
from contracts.vocabulary import Feedback

_FEEDBACK_ORDER: Final = tuple(Feedback)


def is_within(new: Provision, old: Provision) -> bool:
    """Whether everything that `new` allows, `old` allows too."""
    return (
        new.fields <= old.fields
        and new.groups <= old.groups
        and new.agencies <= old.agencies
        and _class_within(new, old)
        and new.purposes <= old.purposes
        and _FEEDBACK_ORDER.index(new.feedback) <= _FEEDBACK_ORDER.index(old.feedback)
    )


def _class_within(new: Provision, old: Provision) -> bool:
    """Whether the agencies that `new` means without naming them are meant by `old`, at home and abroad."""
    if not _means_a_class(new):
        return True
    if not _means_a_class(old):
        return False
    kinds_within = not old.kinds or (bool(new.kinds) and new.kinds <= old.kinds)
    countries_within = new.countries <= old.countries and bool(new.countries) is bool(old.countries)
    return kinds_within and countries_within


def _means_a_class(line: Provision) -> bool:
    """Kinds always mean a class; countries do only where they stand alone."""
    return bool(line.kinds) or (bool(line.countries) and not line.agencies)

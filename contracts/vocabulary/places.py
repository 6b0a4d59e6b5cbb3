"""Languages (BCP 47), countries (ISO 3166-1) and areas (ISO 3166-2).

Languages are closed by shape and by equivalence: two tags match when they are equal or listed as equivalent, never
because one is a prefix of another. Areas are checked by shape and country, since ISO adds subdivisions every year.
"""

from __future__ import annotations

import re
from typing import Final

_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?")
_AREA: Final = re.compile(r"([A-Z]{2})(-[A-Z0-9]{1,3})?")
_EQUIVALENT: Final = (
    frozenset({"tl", "fil"}),
    frozenset({"ms", "zsm"}),
    frozenset({"id", "ind"}),
    frozenset({"my", "mya"}),
    frozenset({"zh", "cmn"}),
)
COUNTRIES: Final = frozenset(
    """AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY
    BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK
    FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR
    IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK
    ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM
    PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF
    TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW""".split()
)


def is_language(tag: str) -> bool:
    """Whether the tag is a BCP 47 language tag in the one spelling used here (`language[-Script][-REGION]`)."""
    return _LANGUAGE.fullmatch(tag) is not None


def is_area(code: str) -> bool:
    """Whether the code is an ISO 3166-1 country or ISO 3166-2 subdivision of a listed country; never an address."""
    match = _AREA.fullmatch(code)
    return match is not None and match[1] in COUNTRIES


def languages_match(one: str, other: str) -> bool:
    """Whether two tags name the same language: equal, or listed as equivalent."""
    return one == other or any({one, other} <= pair for pair in _EQUIVALENT)

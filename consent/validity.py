"""What makes a consent valid. Every problem found is reported at once, each with a stable code and where it stands.

Rules:

1. Nobody consents for an adult: a caregiver or a best-interest basis on an adult is invalid, and so is a minor's basis.
   An adult decides herself (`consent`), or with a supporter and by her own yes (`supported-decision`).
2. A minor: `caregiver` up to 5 · `caregiver-and-assent` from 6 to 14, the child agreeing · `own-consent-minor` from 15
   to 17 · at every age, where the caregiver is unsafe or there is none, a best-interest basis with a determination
   made before.
3. An exception is not a consent. It needs two people and a reason, and is not available here.
4. What belongs to one basis only (supporter, assent, determination, trusted adult) must not stand beside another.
5. Every provision says what, to whom and why. Fields that never flow cannot be agreed to. An authority is named as an
   agency, never as a kind, and she was told first what it does.
6. The limits of confidentiality were explained before she said yes; the statement is a known, reviewed one in the
   language stated, written for this basis.
7. It ends: after her yes, not in the past, and at most 365 days after her yes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from consent.errors import ConsentProblem
from consent.record import LONGEST_LIFE, ConsentTerms, Provision
from consent.statements import Statement, StatementLibrary
from consent.terms import AUTHORITY_KINDS, BEST_INTEREST_BASES, MINOR_BANDS
from contracts.vocabulary import EXCEPTION_BASES, FIELD_SPECS, AgeBand, AgencyKind, Basis, Stage

_ADULTS: Final = frozenset(AgeBand) - MINOR_BANDS
BANDS_BY_BASIS: Final[dict[Basis, frozenset[AgeBand]]] = {
    Basis.CONSENT: _ADULTS,
    Basis.SUPPORTED_DECISION: _ADULTS,
    Basis.CAREGIVER: frozenset({AgeBand.FROM_0_5}),
    Basis.CAREGIVER_AND_ASSENT: frozenset({AgeBand.FROM_6_11, AgeBand.FROM_12_14}),
    Basis.OWN_CONSENT_MINOR: frozenset({AgeBand.FROM_15_17}),
    Basis.TRUSTED_ADULT_BEST_INTEREST: MINOR_BANDS,
    Basis.CASEWORKER_BEST_INTEREST: MINOR_BANDS,
}
"""For whom each basis is valid. The exception bases are missing on purpose."""

_WITH_ASSENT: Final = BEST_INTEREST_BASES | {Basis.CAREGIVER_AND_ASSENT}


def basis_problems(terms: ConsentTerms) -> Iterator[ConsentProblem]:
    """Rules 1 to 4: whether this basis can stand for a person of this age, with all that it needs."""
    if terms.basis in EXCEPTION_BASES:
        yield ConsentProblem(
            "exceptions-not-available",
            "An exception without consent needs two people and a written reason. This call cannot record one.",
            "basis",
        )
        return
    if terms.age_band not in BANDS_BY_BASIS[terms.basis]:
        yield _wrong_band(terms)
    yield from _companions(terms)


def _wrong_band(terms: ConsentTerms) -> ConsentProblem:
    if terms.age_band in MINOR_BANDS:
        sentence = "This basis is not for a child of this age."
        return ConsentProblem("basis-not-for-this-age", sentence, "basis")
    sentence = "She is an adult: nobody else can consent for her, not a guardian, a husband or a brother."
    return ConsentProblem("nobody-consents-for-an-adult", sentence, "basis")


def _companions(terms: ConsentTerms) -> Iterator[ConsentProblem]:
    """What has to stand beside this basis, and what must not."""
    supported = terms.basis is Basis.SUPPORTED_DECISION
    if supported and terms.supporter is None:
        yield ConsentProblem("supporter-missing", "Say in which role somebody supported her decision.", "supporter")
    if not supported and terms.supporter is not None:
        yield ConsentProblem("supporter-not-expected", "A supporter belongs to a supported decision only.", "supporter")
    if terms.basis is Basis.CAREGIVER_AND_ASSENT and terms.child_assents is not True:
        yield ConsentProblem("child-has-not-agreed", "At this age the child has to agree too.", "child_assents")
    if terms.basis not in _WITH_ASSENT and terms.child_assents is not None:
        sentence = "Assent belongs to a child's basis at which somebody else decides too."
        yield ConsentProblem("assent-not-expected", sentence, "child_assents")
    best_interest = terms.basis in BEST_INTEREST_BASES
    if best_interest and terms.determination is None:
        sentence = "Say why the caregiver does not decide, and who determined that, and when."
        yield ConsentProblem("determination-missing", sentence, "determination")
    if not best_interest and terms.determination is not None:
        sentence = "A determination belongs to a best-interest basis only."
        yield ConsentProblem("determination-not-expected", sentence, "determination")
    if best_interest and terms.determination is not None:
        trusted = terms.basis is Basis.TRUSTED_ADULT_BEST_INTEREST
        if trusted is (terms.determination.trusted_adult is None):
            sentence = "A trusted adult is named by role for `trusted-adult-best-interest`, and only there."
            yield ConsentProblem("trusted-adult-mismatch", sentence, "determination.trusted_adult")


def provision_problems(provisions: Sequence[Provision]) -> Iterator[ConsentProblem]:
    """Rule 5, as far as it can be seen without a roster."""
    if not provisions:
        yield ConsentProblem(
            "no-provisions", "A consent to nothing is not a consent. List what she allowed.", "provisions"
        )
    for index, line in enumerate(provisions):
        path = f"provisions[{index}]"
        if not line.fields and not line.groups:
            yield ConsentProblem("provision-without-fields", "Say which fields or groups she allowed.", path)
        if not line.agencies and not line.kinds and not line.countries:
            yield ConsentProblem("provision-without-recipient", "Say to whom she allowed it.", path)
        if not line.purposes:
            yield ConsentProblem("provision-without-purpose", "Say what she allowed it for.", path)
        if any(FIELD_SPECS[field].stage is Stage.NEVER for field in line.fields):
            sentence = "A field stands here that is never sent to anyone. Nobody can agree to that."
            yield ConsentProblem("field-never-flows", sentence, f"{path}.fields")
        if line.kinds & AUTHORITY_KINDS:
            sentence = "Name the embassy, police, labour or immigration office itself. Its kind is not enough."
            yield ConsentProblem("authority-not-named", sentence, f"{path}.kinds")


def authority_problems(terms: ConsentTerms, agency_kinds: Mapping[str, AgencyKind]) -> Iterator[ConsentProblem]:
    """Rule 5 for the authorities that a roster shows among the named agencies: was she told first?"""
    told = {entry.agency for entry in terms.told_first}
    for index, line in enumerate(terms.provisions):
        authorities = {agency for agency in line.agencies if agency_kinds.get(agency) in AUTHORITY_KINDS}
        if authorities - told:
            sentence = "Tell her first what this office must report, whether she can leave and what papers it asks for."
            yield ConsentProblem("not-told-first", sentence, f"provisions[{index}].agencies")


def asking_problems(
    terms: ConsentTerms, limits_explained_at: datetime | None, given_at: datetime
) -> Iterator[ConsentProblem]:
    """Rule 6, the order of events: she hears the limits first, and a determination comes before the decision."""
    if limits_explained_at is None or limits_explained_at > given_at:
        sentence = "The limits of confidentiality have to be explained before she agrees."
        yield ConsentProblem("limits-not-explained", sentence, "limits_explained_at")
    if terms.determination is not None and terms.determination.decided_at > given_at:
        sentence = "The determination has to be made before the decision that rests on it."
        yield ConsentProblem("determination-too-late", sentence, "determination.decided_at")
    if terms.interpreted_into is not None and terms.interpreter_role is None:
        sentence = "Say in which role a person interpreted. A machine never does."
        yield ConsentProblem("interpreter-missing", sentence, "interpreter_role")
    if len({entry.agency for entry in terms.told_first}) != len(terms.told_first):
        sentence = "What she was told about one agency stands here twice."
        yield ConsentProblem("told-twice", sentence, "told_first")


def statement_problems(
    terms: ConsentTerms, statement: Statement | None, statements: StatementLibrary
) -> Iterator[ConsentProblem]:
    """Rule 6, the words: known, in this language, and written for this basis."""
    if statement is None:
        known = statements.knows(terms.statement_id)
        yield ConsentProblem(
            "statement-not-in-language" if known else "statement-unknown",
            "There is no reviewed consent statement of this name in this language.",
            "language" if known else "statement_id",
        )
    elif terms.basis not in statement.bases and terms.basis not in EXCEPTION_BASES:
        sentence = "This statement was not written for this basis. Use the one that was."
        yield ConsentProblem("statement-not-for-basis", sentence, "statement_id")


def life_problems(given_at: datetime, expires_at: datetime, at: datetime) -> Iterator[ConsentProblem]:
    """Rule 7."""
    if given_at > at:
        yield ConsentProblem("given-in-the-future", "Her yes lies in the future.", "given_at")
    if expires_at <= max(given_at, at):
        yield ConsentProblem("ends-too-early", "The consent would have ended already.", "expires_at")
    elif expires_at - given_at > LONGEST_LIFE:
        yield ConsentProblem("ends-too-late", "A consent lasts at most 365 days. Ask her again then.", "expires_at")

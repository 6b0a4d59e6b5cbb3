"""Laws of consent that hold for every record and every question."""

import json
from collections.abc import Callable
from datetime import timedelta
from itertools import product

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.consents import NOW, POLICE_TOLD, question, recorded

from consent.client_code import new_client_code
from consent.decision import ConsentDeny, ConsentPermit, ConsentQuestion, decide
from consent.errors import ConsentInvalidError, ConsentTransitionError
from consent.lifecycle import expire, invalidate, narrow, renew, revoke, withdraw
from consent.narrowing import is_within
from consent.receipt import cut_receipt
from consent.record import ConsentRecord, Provision
from consent.terms import ConsentState
from contracts.vocabulary import (
    FIELD_SPECS,
    ROUTING_FIELDS,
    AgencyKind,
    Basis,
    Feedback,
    Field,
    Group,
    Purpose,
    Stage,
    WithdrawalForm,
    groups_of,
)

AGENCIES = ["harbour-shelter", "hill-shelter", "kl-police"]
KINDS = [AgencyKind.SHELTER, AgencyKind.HEALTH, AgencyKind.POLICE]
COUNTRIES = ["MY", "PH", "TH"]
PURPOSES = [Purpose.PROVIDE_SAFE_ACCOMMODATION, Purpose.PROVIDE_POLICE_PROTECTION]
FEEDBACK = list(Feedback)
FLOWING = [field for field in Field if FIELD_SPECS[field].stage is not Stage.NEVER]
EVERYTHING = frozenset(Field)
# The same agency is asked about as every kind in every country: more than a roster could ever contain.
EVERY_QUESTION = tuple(
    ConsentQuestion(agency, kind, country, sender, represents, purpose, EVERYTHING)
    for agency, kind, country, sender, represents, purpose in product(
        [*AGENCIES, "unheard-of"], KINDS, COUNTRIES[:2], COUNTRIES[:2], [None, "TH"], PURPOSES
    )
)


def some(terms: list[str]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(terms), max_size=3)


lines = st.builds(
    Provision.model_validate,
    st.fixed_dictionaries(
        {
            "fields": some(list(FLOWING)),
            "groups": some(list(Group)),
            "agencies": some(AGENCIES),
            "kinds": some([AgencyKind.SHELTER, AgencyKind.HEALTH]),
            "countries": some(COUNTRIES),
            "purposes": some(list(PURPOSES)),
            "feedback": st.sampled_from(FEEDBACK),
        }
    ),
)
provisions = st.lists(lines, max_size=3).map(tuple)
told = POLICE_TOLD.model_copy
BASE = recorded(told_first=[told(update={"agency": agency}) for agency in AGENCIES])


def holding(some_lines: tuple[Provision, ...]) -> ConsentRecord:
    """A live record with any provisions, also ones that recording would refuse."""
    return BASE.model_copy(update={"provisions": some_lines})


def allows(record: ConsentRecord, asked: ConsentQuestion) -> tuple[frozenset[Field], frozenset[Field], int]:
    answer = decide(record, asked, NOW)
    if isinstance(answer, ConsentDeny):
        return frozenset(), frozenset(), -1
    return answer.fields, answer.named, FEEDBACK.index(answer.feedback)


def never_adds(before: ConsentRecord, after: ConsentRecord) -> None:
    for asked in EVERY_QUESTION:
        fields, named, feedback = allows(before, asked)
        fields_after, named_after, feedback_after = allows(after, asked)
        assert fields_after <= fields
        assert named_after <= named
        assert feedback_after <= feedback


def smaller(line: Provision, data: st.DataObject) -> Provision:
    """A provision made from another by leaving things out: mostly narrower, sometimes only seemingly."""
    kept = {
        name: data.draw(st.frozensets(st.sampled_from(sorted(terms)))) if terms else frozenset[str]()
        for name, terms in line.model_dump(exclude={"feedback"}).items()
    }
    return Provision.model_validate(kept | {"feedback": data.draw(st.sampled_from(FEEDBACK))})


@settings(max_examples=60)
@given(old=lines, data=st.data())
def test_what_lies_within_another_provision_never_adds(old: Provision, data: st.DataObject) -> None:
    new = data.draw(st.one_of(lines, st.builds(smaller, st.just(old), st.just(data))))
    assume(is_within(new, old))
    never_adds(holding((old,)), holding((new,)))


@settings(max_examples=60)
@given(before=provisions, data=st.data())
def test_narrowing_never_adds_a_field(before: tuple[Provision, ...], data: st.DataObject) -> None:
    assume(before)
    after = tuple(smaller(line, data) for line in before)
    try:
        narrowed = narrow(holding(before), after, at=NOW)
    except (ConsentInvalidError, ConsentTransitionError):
        return
    never_adds(holding(before), narrowed)


@settings(max_examples=60)
@given(before=provisions, dropped=st.integers(0, 2))
def test_taking_a_provision_away_never_adds_a_field(before: tuple[Provision, ...], dropped: int) -> None:
    never_adds(holding(before), holding(before[:dropped] + before[dropped + 1 :]))


endings: list[Callable[[ConsentRecord], ConsentRecord]] = [
    *(lambda record, form=form: withdraw(record, at=NOW, form=form) for form in WithdrawalForm),
    lambda record: revoke(record, at=NOW),
    lambda record: invalidate(record, at=NOW),
    lambda record: expire(record, at=record.expires_at),
]


@settings(max_examples=60)
@given(some_lines=provisions, end=st.sampled_from(endings), days=st.integers(-400, 400))
def test_ending_a_consent_leaves_nothing(
    some_lines: tuple[Provision, ...], end: Callable[[ConsentRecord], ConsentRecord], days: int
) -> None:
    ended = end(holding(some_lines))
    for asked in EVERY_QUESTION[::7]:
        assert isinstance(decide(ended, asked, NOW + timedelta(days=days)), ConsentDeny)


@settings(max_examples=60)
@given(before=provisions, other=lines, asked=st.sampled_from(EVERY_QUESTION))
def test_a_provision_for_another_agency_changes_nothing_for_this_one(
    before: tuple[Provision, ...], other: Provision, asked: ConsentQuestion
) -> None:
    elsewhere = other.model_copy(
        update={"agencies": frozenset({"somewhere-else"}), "kinds": frozenset(), "countries": frozenset()}
    )
    assert decide(holding((*before, elsewhere)), asked, NOW) == decide(holding(before), asked, NOW)


@settings(max_examples=150)
@given(
    some_lines=provisions,
    state=st.sampled_from(list(ConsentState)),
    basis=st.sampled_from(list(Basis)),
    asked=st.builds(
        ConsentQuestion,
        agency=st.text(max_size=20) | st.sampled_from(AGENCIES),
        kind=st.sampled_from(list(AgencyKind)),
        country=st.text(max_size=3) | st.sampled_from(COUNTRIES),
        sender_country=st.text(max_size=3) | st.sampled_from(COUNTRIES),
        represents=st.none() | st.text(max_size=3) | st.sampled_from(COUNTRIES),
        purpose=st.sampled_from(list(Purpose)),
        fields=st.frozensets(st.sampled_from(list(Field))),
    ),
    days=st.integers(-1000, 1000),
)
def test_decide_is_total(
    some_lines: tuple[Provision, ...], state: ConsentState, basis: Basis, asked: ConsentQuestion, days: int
) -> None:
    record = holding(some_lines).model_copy(update={"state": state, "basis": basis})
    for held in (record, None):
        answer = decide(held, asked, NOW + timedelta(days=days))
        assert {verdict.field for verdict in answer.verdicts} == asked.fields
        assert all(verdict.code and verdict.sentence for verdict in answer.verdicts)
        if isinstance(answer, ConsentPermit):
            assert answer.named <= answer.fields <= asked.fields
            assert answer.fields == {verdict.field for verdict in answer.verdicts if verdict.allowed}
            assert not any(FIELD_SPECS[field].stage is Stage.NEVER for field in answer.fields)
            assert {field for field in answer.fields if FIELD_SPECS[field].stage is Stage.NAMED} <= answer.named
            assert not asked.foreign or answer.names_country or answer.fields <= ROUTING_FIELDS


reaching = st.builds(
    lambda line, agencies: line.model_copy(
        update={
            "agencies": agencies,
            "kinds": frozenset({AgencyKind.SHELTER}),
            "countries": frozenset(),
            "purposes": frozenset(PURPOSES),
        }
    ),
    lines,
    st.frozensets(st.sampled_from(AGENCIES[:2])),
)


@given(st.lists(reaching, min_size=1, max_size=4), st.sampled_from([AgencyKind.SHELTER, AgencyKind.POLICE]))
def test_each_field_rests_on_the_first_provision_that_allows_it_best(
    covering: list[Provision], kind: AgencyKind
) -> None:
    """Rules 5 to 8, asked of every provision: by name before by field or group, else the first that lists it."""
    agency = AGENCIES[0]
    if kind is AgencyKind.POLICE:
        covering = [line.model_copy(update={"agencies": line.agencies | {agency}}) for line in covering]
    asked = ConsentQuestion(agency, kind, "MY", "MY", None, PURPOSES[0], EVERYTHING)
    for verdict in decide(holding(tuple(covering)), asked, NOW).verdicts:
        field, spec = verdict.field, FIELD_SPECS[verdict.field]
        by_name = [at for at, line in enumerate(covering) if field in line.fields and agency in line.agencies]
        listed = [at for at, line in enumerate(covering) if field in line.fields or spec.group in line.groups]
        if verdict.code == "no-field-allowed":
            assert not verdict.allowed
        elif field in ROUTING_FIELDS:
            assert (verdict.allowed, verdict.named, verdict.provision) == (True, False, None)
        elif spec.stage is Stage.NEVER:
            assert (verdict.allowed, verdict.named, verdict.provision) == (False, False, None)
        elif by_name:
            assert (verdict.allowed, verdict.named, verdict.provision) == (True, True, by_name[0])
        elif not listed or spec.stage is Stage.NAMED or kind in spec.named_to:
            code = "not-named" if listed else "not-covered"
            assert (verdict.allowed, verdict.code, verdict.provision) == (False, code, None)
        else:
            by = "allowed-by-field" if field in covering[listed[0]].fields else "allowed-by-group"
            assert (verdict.allowed, verdict.code, verdict.provision) == (True, by, listed[0])


# Most questions are not covered by a few random lines: filtering is the point here, and its cost is small.
@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(some_lines=provisions, asked=st.sampled_from(EVERY_QUESTION))
def test_a_cut_receipt_reveals_only_the_receivers_own(
    some_lines: tuple[Provision, ...], asked: ConsentQuestion
) -> None:
    hidden = Provision.model_validate(
        {
            "fields": ["police_statement"],
            "agencies": ["hidden-agency"],
            "purposes": ["provide-post-rape-care"],
            "feedback": "outcome",
        }
    )
    record = holding((*some_lines, hidden))
    permit = decide(record, asked, NOW)
    assume(isinstance(permit, ConsentPermit))
    assert isinstance(permit, ConsentPermit)
    groups = groups_of(permit.fields)
    receipt = cut_receipt(
        permit,
        groups,
        receipt_id="7e" * 16,
        issuer="sunrise-helpline",
        recipient=asked.agency,
        purpose=asked.purpose,
        at=NOW,
    )
    body = json.loads(receipt.signing_body())
    assert body.keys() == {"basis", "expires", "groups", "issued", "issuer", "purpose", "receipt_id", "recipient"}
    assert set(body["groups"]) == {group.value for group in groups}
    assert (body["recipient"], body["purpose"]) == (asked.agency, asked.purpose)
    text = receipt.signing_body().decode()
    others = {agency for line in record.provisions for agency in line.agencies} - {asked.agency}
    values = others | {"post-rape", "outcome", record.id, record.subject}
    assert not any(value in text for value in values)
    without = decide(holding(some_lines), asked, NOW)
    assert isinstance(without, ConsentPermit)
    assert (without.fields, without.feedback) == (permit.fields, permit.feedback)


steps: list[Callable[[ConsentRecord, int], ConsentRecord]] = [
    lambda record, day: renew(record, until=NOW + timedelta(days=day + 200), at=NOW + timedelta(days=day)),
    lambda record, day: withdraw(record, at=NOW + timedelta(days=day)),
    lambda record, day: withdraw(record, at=NOW + timedelta(days=day), form=WithdrawalForm.ERASE),
    lambda record, day: revoke(record, at=NOW + timedelta(days=day)),
    lambda record, day: invalidate(record, at=NOW + timedelta(days=day)),
    lambda record, day: expire(record, at=NOW + timedelta(days=day)),
    lambda record, day: narrow(record, record.provisions, at=NOW + timedelta(days=day)),
]


@settings(max_examples=100)
@given(taken=st.lists(st.tuples(st.sampled_from(steps), st.integers(0, 400)), max_size=6), day=st.integers(0, 800))
def test_withdrawn_never_becomes_live_again(
    taken: list[tuple[Callable[[ConsentRecord, int], ConsentRecord], int]], day: int
) -> None:
    record = withdraw(BASE, at=NOW)
    for step, when in taken:
        try:
            record = step(record, when)
        except ConsentTransitionError:
            continue
    assert record.state is ConsentState.WITHDRAWN
    assert not record.is_live(NOW + timedelta(days=day))
    assert isinstance(decide(record, question(), NOW + timedelta(days=day)), ConsentDeny)


@given(some_lines=provisions)
def test_a_record_survives_storage(some_lines: tuple[Provision, ...]) -> None:
    record = holding(some_lines)
    assert ConsentRecord.from_sealed_bytes(record.to_json_bytes()) == record


@given(one=st.binary(min_size=5, max_size=5), other=st.binary(min_size=5, max_size=5))
def test_client_codes_are_equal_only_if_their_randomness_is(one: bytes, other: bytes) -> None:
    assert (new_client_code(one) == new_client_code(other)) is (one == other)

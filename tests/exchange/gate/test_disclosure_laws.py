"""The laws of the gate, over contracts, consents and contents that nobody thought of."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import cache
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.consents import for_basis
from support.contract_files import shipped
from support.referrals import (
    AT,
    EMBASSY,
    HELPLINE,
    IDENTIFYING,
    LABOUR,
    LAWYER,
    POLICE,
    SHELTER,
    VALUES,
    consent,
    content,
    line,
    member,
    request,
)

from consent.decision import ConsentPermit, ConsentQuestion
from consent.decision import decide as ask_consent
from consent.lifecycle import withdraw
from consent.terms import MINOR_BANDS
from consent.validity import BANDS_BY_BASIS
from contracts.decision import Permit, Question
from contracts.decision import decide as ask_contract
from contracts.model import Contract
from contracts.rule import Never
from contracts.vocabulary import (
    AgeBand,
    AgencyKind,
    Basis,
    Feedback,
    Field,
    Group,
    ServiceType,
    Stage,
    WithdrawalForm,
    ceiling,
    fields_of,
    groups_of,
    purpose_for,
)
from exchange.disclosure import Allowed, Cleared, DisclosureRequest, Refused, clear, clear_later, still_allowed
from exchange.disclosure_groups import GroupsQuestion, groups_allowed, groups_still_allowed, may_be_inside
from exchange.envelope.kinds import Kind
from exchange.messages import ForwardBody
from exchange.referral.content import ReferralContent
from exchange.verification import _of_another_age

CLINIC = member("open-clinic", kind=AgencyKind.HEALTH, service_types=[ServiceType.HEALTH_CARE])
ABROAD = member("bangkok-shelter", country="TH")
RECEIVERS = {one.agency: one for one in (SHELTER, EMBASSY, POLICE, LABOUR, LAWYER, CLINIC, ABROAD)}
FIELDS = sorted(VALUES)
ASKABLE = st.sets(st.sampled_from(FIELDS), max_size=12)
LINES = st.builds(
    lambda receivers, groups, fields, kinds, feedback: line(
        agencies=sorted(receivers), groups=sorted(groups), fields=sorted(fields), kinds=sorted(kinds), feedback=feedback
    ),
    st.sets(st.sampled_from(sorted(RECEIVERS)), min_size=1, max_size=3),
    st.sets(st.sampled_from(sorted(Group)), min_size=1),
    st.sets(st.sampled_from(FIELDS), max_size=12),
    st.sets(st.sampled_from(["shelter", "health", "legal-aid"]), max_size=2),
    st.sampled_from(["decision", "status", "outcome"]),
)


@st.composite
def requests(draw: st.DrawFn) -> DisclosureRequest:
    """A request to some receiver, with some fields, under some consent that may or may not cover it."""
    receiver = RECEIVERS[draw(st.sampled_from(sorted(RECEIVERS)))]
    service = receiver.service_types[0]
    fields = draw(ASKABLE) - {Field.NEEDS}
    if draw(st.integers(0, 3)):
        fields -= set(shipped().prohibited(receiver.kind))
    if service is ServiceType.REPATRIATION:
        fields |= {Field.RETURN_VOLUNTARY, Field.SAFE_RETURN_ASSESSED}
    lines = draw(st.lists(LINES, min_size=1, max_size=3))
    if draw(st.integers(0, 3)):
        lines[0] = lines[0] | {"agencies": sorted({*lines[0]["agencies"], receiver.agency})}
    return request(receiver=receiver, service=service, content=content(*fields), consent=consent(*lines))


def sent(result: Cleared | Refused) -> frozenset[Field]:
    if isinstance(result, Refused):
        return frozenset()
    disclosed = result.disclosure.content.fields_present() if result.disclosure else frozenset()
    return result.offer.content.fields_present() | disclosed


def changed(asked: DisclosureRequest, **changes: Any) -> DisclosureRequest:
    return asked._replace(**changes)


@cache
def with_never(field: Field, kind: AgencyKind) -> Contract:
    values = {name: getattr(shipped(), name) for name in Contract.model_fields}
    more = Never.model_validate({"fields": [field], "to": [kind]})
    built = Contract.model_construct(**(values | {"never": (*shipped().never, more)}))
    built.model_post_init(None)
    return built


@settings(max_examples=150, deadline=None)
@given(requests())
def test_nothing_goes_that_contract_and_consent_do_not_both_allow(asked: DisclosureRequest) -> None:
    result = clear(asked)
    fields = asked.content.fields_present()
    assert asked.consent is not None
    policy = ask_contract(
        asked.contract,
        Question(HELPLINE.kind, asked.receiver.kind, asked.service, asked.consent.basis, fields),
        asked.at,
    )
    hers = ask_consent(
        asked.consent,
        ConsentQuestion(
            asked.receiver.agency, asked.receiver.kind, asked.receiver.country, HELPLINE.country,
            asked.receiver.represents, purpose_for(asked.service), fields,
        ),
        asked.at,
    )  # fmt: skip
    listed = policy.offer | policy.disclosure | policy.named if isinstance(policy, Permit) else frozenset()
    allowed = hers.fields if isinstance(hers, ConsentPermit) else frozenset()
    assert sent(result) <= fields & listed & allowed


@settings(max_examples=150, deadline=None)
@given(requests())
def test_no_identifying_field_in_an_offer_and_every_field_at_its_stage(asked: DisclosureRequest) -> None:
    result = clear(asked)
    if isinstance(result, Cleared):
        offered = result.offer.content.fields_present()
        assert not offered & IDENTIFYING
        assert all(ceiling(field, asked.receiver.kind, asked.service) is Stage.OFFER for field in offered)
        if result.disclosure is not None:
            assert result.disclosure.content.fields_present()
            assert not result.disclosure.content.fields_present() & offered


@settings(max_examples=100, deadline=None)
@given(requests(), st.sampled_from(FIELDS))
def test_a_prohibition_never_adds_a_field(asked: DisclosureRequest, field: Field) -> None:
    stricter = changed(asked, contract=with_never(field, asked.receiver.kind))
    after = clear(stricter)
    assert sent(after) <= sent(clear(asked))
    assert field not in sent(after)


def _narrowed(asked: DisclosureRequest, data: st.DataObject) -> DisclosureRequest:
    """The same, after she has taken something back."""
    assert asked.consent is not None
    kept = []
    for one in asked.consent.provisions:
        groups = data.draw(st.sets(st.sampled_from(sorted(one.groups)))) if one.groups else set()
        fields = data.draw(st.sets(st.sampled_from(sorted(one.fields)))) if one.fields else set()
        if groups or fields:
            narrower = one.model_copy(update={"groups": frozenset(groups), "fields": frozenset(fields)})
            kept.append(narrower)
    return changed(asked, consent=asked.consent.model_copy(update={"provisions": tuple(kept)}))


@settings(max_examples=100, deadline=None)
@given(requests(), st.data())
def test_narrowing_consent_never_adds_a_field(asked: DisclosureRequest, data: st.DataObject) -> None:
    assert sent(clear(_narrowed(asked, data))) <= sent(clear(asked))


@settings(max_examples=60, deadline=None)
@given(requests(), st.sampled_from(list(WithdrawalForm)), st.integers(0, 100))
def test_an_ended_consent_lets_nothing_go(asked: DisclosureRequest, form: WithdrawalForm, days: int) -> None:
    assert asked.consent is not None
    gone = withdraw(asked.consent, form=form, at=AT)
    assert isinstance(clear(changed(asked, consent=gone)), Refused)
    assert isinstance(clear(changed(asked, at=AT + timedelta(days=90 + days))), Refused)
    assert isinstance(clear(changed(asked, consent=None)), Refused)


@settings(max_examples=100, deadline=None)
@given(requests())
def test_every_requested_field_gets_its_reason(asked: DisclosureRequest) -> None:
    result = clear(asked)
    fields = asked.content.fields_present()
    assert sorted(reason.field for reason in result.reasons) == sorted(fields)
    allowed = {reason.field for reason in result.reasons if reason.outcome == "allowed"}
    assert isinstance(result, Refused) or allowed == sent(result)
    assert all(reason.sentence for reason in result.reasons)


@settings(max_examples=100, deadline=None)
@given(requests())
def test_what_was_cleared_is_still_allowed_and_nothing_else_is(asked: DisclosureRequest) -> None:
    result = clear(asked)
    for field in asked.content.fields_present():
        again = still_allowed(
            asked.sender, asked.receiver, asked.service, [field], asked.contract, asked.consent, asked.at
        )
        if field in sent(result):
            assert not isinstance(again, Refused)
        elif isinstance(result, Cleared):
            assert isinstance(again, Refused)


@settings(max_examples=100, deadline=None)
@given(requests(), st.booleans())
def test_a_later_word_never_says_more_than_the_referral_could(asked: DisclosureRequest, accepted: bool) -> None:
    first = clear(asked)
    later = clear_later(asked, Kind.INFORMATION, accepted=accepted)
    if not isinstance(later, Refused):
        assert all(forward.fields == forward.content.fields_present() for forward in later.forwards)
        told = frozenset().union(*(forward.fields for forward in later.forwards))
        assert told <= sent(first)
        assert accepted or not told & IDENTIFYING


def _groups_of(asked: DisclosureRequest, stage: Stage, groups: Iterable[Group]) -> GroupsQuestion:
    return GroupsQuestion(
        asked.sender,
        asked.receiver,
        asked.service,
        stage,
        frozenset(groups),
        asked.contract,
        asked.consent,
        asked.at,
    )


@settings(max_examples=100, deadline=None)
@given(requests(), st.sampled_from(sorted(Group)))
def test_the_gate_on_groups_lets_through_what_was_cleared_and_no_group_of_which_nothing_may_go(
    asked: DisclosureRequest, group: Group
) -> None:
    def question(stage: Stage, groups: Iterable[Group]) -> GroupsQuestion:
        return _groups_of(asked, stage, groups)

    def ask(stage: Stage, groups: Iterable[Group]) -> object:
        return groups_allowed(question(stage, groups))

    result = clear(asked)
    if isinstance(result, Cleared):
        for forward in filter(None, (result.offer, result.disclosure)):
            assert isinstance(ask(forward.stage, forward.groups), Allowed)
            inside = forward.content.fields_present()
            assert (forward.fields, forward.groups) == (inside, groups_of(inside))
            assert inside <= may_be_inside(question(forward.stage, forward.groups))
    stage = Stage.DISCLOSURE
    may_go = any(
        isinstance(one, Allowed) and one.reasons[0].stage in {Stage.DISCLOSURE, Stage.NAMED}
        for field in fields_of(group)
        for one in [
            still_allowed(asked.sender, asked.receiver, asked.service, [field], asked.contract, asked.consent, asked.at)
        ]
    )
    if group is not Group.ROUTING:
        assert isinstance(ask(stage, [group]), Allowed) is may_go


@settings(max_examples=100, deadline=None)
@given(requests(), st.data())
def test_of_what_is_held_sealed_nothing_goes_that_she_has_taken_back(
    asked: DisclosureRequest, data: st.DataObject
) -> None:
    """Groups are all that the node sees; another field of the group may still go."""
    result = clear(asked)
    if not isinstance(result, Cleared) or result.disclosure is None:
        return
    held, later = result.disclosure, _narrowed(asked, data)
    could = may_be_inside(_groups_of(asked, held.stage, held.groups))
    assert isinstance(groups_still_allowed(_groups_of(asked, held.stage, held.groups), could), Allowed)
    assert isinstance(groups_still_allowed(_groups_of(asked, held.stage, held.groups), frozenset()), Refused)
    if isinstance(groups_still_allowed(_groups_of(later, held.stage, held.groups), could), Allowed):
        for field in held.content.fields_present():
            assert isinstance(
                still_allowed(
                    later.sender, later.receiver, later.service, [field], later.contract, later.consent, later.at
                ),
                Allowed,
            )


def test_what_is_held_sealed_goes_whole_or_not_at_all() -> None:
    """Of what may be inside one field may still go: whether the other one is there nobody here knows."""
    names = fields_of(Group.NAME)
    before, after = (
        _groups_of(
            request(consent=consent(line(groups=["need"], fields=sorted(fields)))), Stage.DISCLOSURE, {Group.NAME}
        )
        for fields in (names, names - {Field.PREFERRED_NAME})
    )
    could = may_be_inside(before)
    assert could >= {Field.PREFERRED_NAME, Field.ARRIVAL_WORDS}
    assert isinstance(groups_still_allowed(before, could), Allowed)
    assert isinstance(groups_allowed(after), Allowed)
    assert isinstance(groups_still_allowed(after, could), Refused)


def _all_that_can_be_said_of_her_age() -> Iterator[ReferralContent]:
    caregiver = {"relationship": "mother", "informed": True}
    for values in product((None, *AgeBand), (None, True, False), (None, caregiver)):
        said = zip(("age_band", "is_minor", "caregiver"), values, strict=True)
        with suppress(ValidationError):  # what contradicts itself is no content
            yield content(
                Field.NEEDS, Field.PREFERRED_NAME, **{name: value for name, value in said if value is not None}
            )


@pytest.mark.parametrize(
    ("basis", "band"), [(basis, band) for basis in BANDS_BY_BASIS for band in AgeBand if band in BANDS_BY_BASIS[basis]]
)
def test_no_receiver_refuses_for_her_age_what_the_gate_lets_go(basis: Basis, band: AgeBand) -> None:
    hers = consent(**for_basis(basis, age_band=band))
    went = []
    for said in _all_that_can_be_said_of_her_age():
        result = clear(request(content=said, consent=hers))
        if isinstance(result, Cleared):
            went += [one.content for one in (result.offer, result.disclosure) if one is not None]
    assert any(one.age_band is not None for one in went)
    assert any(one.caregiver is not None for one in went) is (band in MINOR_BANDS)
    assert not any(_of_another_age(ForwardBody(basis, Feedback.OUTCOME, one)) for one in went)

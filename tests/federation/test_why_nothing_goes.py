"""A refused referral says where to look: at the consent, at the receiver, at the service, or at a field."""

from __future__ import annotations

from support.federation import Federation
from support.people import consent_request, referral_request
from support.stories import refusal

from contracts.vocabulary import WithdrawalForm
from exchange.api.codes import ENTRIES
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.problems import Problem
from exchange.use_cases import refusals

UNKNOWN = "5d2f0c1ab94e4c7f8a6e1b3d9c7f0a21"


async def refused(two: Federation, consent: str, *, to: str = SHELTER.agency, code: str, path: str) -> Problem:
    """The problem, whose first entry is this one, and which keeps an entry for each field."""
    helpline = two[HELPLINE].client()
    problem = await refusal(helpline.referrals.send(referral_request(to, consent)))
    assert (problem.status, problem.code) == (403, code)
    assert (problem.fields[0].path, problem.fields[0].code) == (path, code)
    assert {"content.needs", "content.preferred_name"} <= {field.path for field in problem.fields[1:]}
    assert all(field.path.startswith("content.") for field in problem.fields[1:])
    return problem


async def consent_to(two: Federation, agency: str) -> str:
    return (await two[HELPLINE].client().consents.record(consent_request(agency))).id


async def test_an_unknown_consent_points_at_the_consent(two: Federation) -> None:
    problem = await refused(two, UNKNOWN, code="no-consent", path="consent")
    assert UNKNOWN not in problem.model_dump_json()


async def test_a_misspelt_agency_in_the_consent_is_not_taken_for_her_no(two: Federation) -> None:
    consent = await consent_to(two, SHELTER.agency + "s")
    problem = await refused(two, consent, code="recipient-not-covered", path="consent")
    assert "Compare the agency's id in her consent" in problem.detail
    assert SHELTER.agency not in problem.detail


async def test_a_consent_that_she_took_back_points_at_the_consent(two: Federation) -> None:
    consent = await consent_to(two, SHELTER.agency)
    await two[HELPLINE].client().withdrawals.of_consent(consent, WithdrawalForm.STOP_SHARING)
    await refused(two, consent, code="consent-withdrawn", path="consent")


async def test_the_agency_itself_points_at_the_receiver(two: Federation) -> None:
    consent = await consent_to(two, HELPLINE.agency)
    await refused(two, consent, to=HELPLINE.agency, code="same-agency", path="to")


async def test_what_never_goes_stands_before_what_is_only_refused_with_it(two: Federation) -> None:
    consent = await consent_to(two, SHELTER.agency)
    content = {"age_band": "25-49", "needs": ["tonight"], "immigration_status": "expired", "narrative": "Synthetic."}
    helpline = two[HELPLINE].client()
    for named in ({"narrative"}, {"immigration_status"}):
        sent = {name: value for name, value in content.items() if name in named | {"age_band", "needs"}}
        problem = await refusal(helpline.referrals.send(referral_request(SHELTER.agency, consent, content=sent)))
        assert problem.code == "never"
        assert [field.path for field in problem.fields[:1]] == [f"content.{name}" for name in named]
        assert {field.path for field in problem.fields} == {f"content.{name}" for name in sent}
        assert "refused-with-request" in {field.code for field in problem.fields[1:]}


def test_every_code_that_has_a_place_is_a_code() -> None:
    assert set(refusals._PLACES) <= set(ENTRIES)
    assert set(refusals._PLACES.values()) == {"consent", "to", "service_type"}

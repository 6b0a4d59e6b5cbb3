"""The answers in the OpenAPI document are those of real nodes to the requests in it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from support.federation import Federation
from support.stories import now_of

from exchange.api.examples import EXAMPLES
from exchange.demo.federation import HELPLINE
from exchange.schemas.consents import ConsentRequest
from exchange.schemas.referrals import ReferralCreated, ReferralPreview, ReferralRequest
from exchange.schemas.shapes import written

OF_ITS_OWN = {"id", "client_code", "respond_by", "expires_at"}


def sent(answer: BaseModel) -> Any:
    return json.loads(written(answer))


async def test_preview_and_referral_are_answered_as_documented(two: Federation) -> None:
    helpline, now = two[HELPLINE].client(), now_of(two)
    moments = {
        "limits_explained_at": (now - timedelta(minutes=10)).isoformat(),
        "given_at": (now - timedelta(minutes=5)).isoformat(),
    }
    consent = await helpline.consents.record(ConsentRequest.model_validate(EXAMPLES[ConsentRequest] | moments))
    example = EXAMPLES[ReferralRequest]
    members = {"consent": consent.id, "content": example["content"] | {"nationality": "ID"}}
    request = ReferralRequest.model_validate_json(json.dumps(example | members))

    assert sent(await helpline.referrals.preview(request)) == EXAMPLES[ReferralPreview]
    created, documented = sent(await helpline.referrals.send(request)), EXAMPLES[ReferralCreated]
    assert created.keys() == documented.keys()
    for name in created.keys() - OF_ITS_OWN:
        assert created[name] == documented[name], name

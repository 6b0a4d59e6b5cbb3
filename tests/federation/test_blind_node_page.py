"""`docs/blind-node.md`: the poller of an agency that holds its keys itself loses nothing, pasted as it stands."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import re
from pathlib import Path

import pytest
from support.blind import Office
from support.federation import federation
from support.people import consent_request, referral_request

from contracts.vocabulary import WithdrawalForm
from exchange.client.vault import AgencyVault
from exchange.demo.federation import HELPLINE, SHELTER
from exchange.schemas.inbox import InboxItem, OpenedItem
from exchange.schemas.referrals import ReferralRequest

PAGE = (Path(__file__).parents[2] / "docs" / "blind-node.md").read_text("utf-8")
LATEST_S = 20


def polling() -> str:
    """The program from its loop on, as it stands there but for the indentation."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    imports = re.findall(r"^from .*$", block, re.MULTILINE)
    constants = re.findall(r"^[A-Z]+ = .*$", block, re.MULTILINE)
    loop = block[block.index("    async for ") :]
    return "\n".join([*imports, *constants, *(line[4:] for line in loop.splitlines())])


async def test_the_poller_opens_what_it_takes_over_and_goes_on_after_her_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with federation(tmp_path, (HELPLINE, SHELTER), blind=(SHELTER,)) as together:
        asks, helps = Office.of(together[HELPLINE]), Office.of(together[SHELTER])
        opened: list[str] = []
        open_item = AgencyVault.open

        async def noted(vault: AgencyVault, item: InboxItem) -> OpenedItem:
            found = await open_item(vault, item)
            opened.append(item.id)
            return found

        monkeypatch.setattr(AgencyVault, "open", noted)
        names = {"client": helps.client, "vault": helps.own_vault}
        poller = asyncio.ensure_future(
            eval(compile(polling(), "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307
        )
        try:
            consent = await asks.client.consents.record(consent_request(SHELTER.agency))
            created = await asks.refer(ReferralRequest.model_validate(referral_request(SHELTER.agency, consent.id)))
            async with asyncio.timeout(LATEST_S):
                while not await taken_over(helps, created.id, "disclosure"):
                    assert not poller.done(), poller.exception()
                    await together.travel()
                    await asyncio.sleep(0.05)
            disclosure = await helps.item(created.id, "disclosure")
            assert disclosure.id in opened
            await asks.client.withdrawals.of_referral(created.id, WithdrawalForm.STOP_SERVICE)
            async with asyncio.timeout(LATEST_S):
                while not await taken_over(helps, created.id, "withdrawal"):
                    assert not poller.done(), poller.exception()
                    await together.travel()
                    await asyncio.sleep(0.05)
        finally:
            poller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await poller


async def taken_over(office: Office, referral: str, kind: str) -> bool:
    """Whether the agency's own software has acknowledged an item of this kind."""
    pages = office.client.inbox.pages(referral=referral)
    return any([item.kind == kind and item.status != "new" async for item in pages])

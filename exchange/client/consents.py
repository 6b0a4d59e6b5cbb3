"""Her consent, and her no."""

from __future__ import annotations

from consent.record import Provision
from contracts.vocabulary import WithdrawalForm
from exchange.client.session import Call, Session, checked_id, keyed
from exchange.schemas.consents import ConsentRequest, ConsentView, ProvisionsRequest, ReceiptView, RenewalRequest
from exchange.schemas.referrals import WithdrawalAnswer, WithdrawalRequest
from exchange.schemas.shapes import Timestamp

CONSENTS = "/v1/consents"
WITHDRAWALS = "/v1/withdrawals"


class Consents:
    """What she allowed. Needs the scope `consents:write`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def record(self, request: ConsentRequest, *, idempotency_key: str | None = None) -> ConsentView:
        """Record what she allowed, to whom, why and until when."""
        return await self._session.ask(keyed(Call("POST", CONSENTS, request), idempotency_key), ConsentView)

    async def read(self, consent: str) -> ConsentView:
        """The consent as it is now."""
        return await self._session.ask(Call("GET", _path(consent)), ConsentView)

    async def receipt(self, consent: str) -> ReceiptView:
        """A receipt for her, in neutral words: her phone may be searched."""
        return await self._session.ask(Call("GET", f"{_path(consent)}/receipt"), ReceiptView)

    async def renew(self, consent: str, until: Timestamp) -> ConsentView:
        """She agrees to more time; what she allowed stays as it is."""
        call = Call("POST", f"{_path(consent)}/renewal", RenewalRequest(until=until))
        return await self._session.ask(call, ConsentView)

    async def narrow(self, consent: str, provisions: tuple[Provision, ...]) -> ConsentView:
        """She takes something back: the narrower list replaces the present one."""
        request = ProvisionsRequest(provisions=provisions)
        return await self._session.ask(Call("PATCH", f"{_path(consent)}/provisions", request), ConsentView)


class Withdrawals:
    """Her no, in one of its three forms. Needs the scope `consents:write`; never fails on a rule made for her yes."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def of_referral(
        self, referral: str, form: WithdrawalForm, *, idempotency_key: str | None = None
    ) -> WithdrawalAnswer:
        """Her no to one referral."""
        return await self._withdraw(WithdrawalRequest(referral=referral, form=form), idempotency_key)

    async def of_consent(
        self, consent: str, form: WithdrawalForm, *, idempotency_key: str | None = None
    ) -> WithdrawalAnswer:
        """Her no to every referral under this consent, and to every later use of it."""
        return await self._withdraw(WithdrawalRequest(consent=consent, form=form), idempotency_key)

    async def _withdraw(self, request: WithdrawalRequest, idempotency_key: str | None) -> WithdrawalAnswer:
        return await self._session.ask(keyed(Call("POST", WITHDRAWALS, request), idempotency_key), WithdrawalAnswer)


def _path(consent: str) -> str:
    return f"{CONSENTS}/{checked_id(consent)}"

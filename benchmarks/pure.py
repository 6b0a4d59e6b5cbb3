"""What the rooms without I/O cost: sealing, opening, one decision of the contract, one clearance of the gate."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from benchmarks.people import CONTENT, consent_request
from benchmarks.telling import tell
from consent.lifecycle import record_consent
from consent.record import ConsentDraft
from consent.statements import StatementLibrary
from contracts.canonical_json import canonical
from contracts.decision import Question, decide
from contracts.loader import load_contract, shipped_contract
from contracts.vocabulary import AgencyKind, Basis, Priority, ServiceType
from exchange.disclosure import Cleared, DisclosureRequest, clear
from exchange.envelope.format import Header, HeaderReceipt, Kind, SignedBy, check_on_the_wire, parse_envelope
from exchange.envelope.header import parse_header
from exchange.envelope.keys import AgencyKey, EpochKey
from exchange.envelope.open import check_signature, decrypt, unwrap
from exchange.envelope.seal import seal
from exchange.limits import LIMITS
from exchange.referral.content import ReferralContent, Routing
from exchange.roster import Member, ToldFirst

ROUNDS: Final = 5
_DAY_MS: Final = 86_400_000


def microseconds(work: Callable[[], object], times: int) -> float:
    """Microseconds of one call: the median of a few rounds."""
    work()
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(times):
            work()
        rounds.append((time.perf_counter() - started) / times * 1e6)
    return statistics.median(rounds)


def measure_pure() -> dict[str, float]:
    """Everything of this module."""
    found = {name: round(value, 1) for name, value in (_envelope() | _gate()).items()}
    tell(
        f"seal {found['seal_us']:.0f} us, open {found['open_us']:.0f} us (2 KiB); "
        f"{found['decisions_per_s']:.0f} decisions/s; gate {found['gate_us']:.0f} us"
    )
    return found


def _envelope() -> dict[str, float]:
    agency, epoch, content = AgencyKey(os.urandom(32)), EpochKey(os.urandom(32)), os.urandom(2048)
    header = _header(agency, epoch)

    def sealing() -> Any:
        return seal(
            header,
            content,
            epoch_public=epoch.public,
            sign=agency.sign,
            dek=os.urandom(32),
            nonce=os.urandom(24),
        ).envelope

    wire = sealing().to_json()

    def opening() -> bytes:
        envelope = parse_envelope(wire)
        check_on_the_wire(envelope, parse_header(envelope.header))
        check_signature(envelope, agency.public)
        return decrypt(envelope, unwrap(envelope, epoch))

    assert opening() == content
    return {"seal_us": microseconds(sealing, 1000), "open_us": microseconds(opening, 1000)}


def envelope_bytes() -> dict[str, int]:
    """How large an envelope is as JSON, by the size to which its content is padded."""
    agency, epoch = AgencyKey(os.urandom(32)), EpochKey(os.urandom(32))
    return {
        str(bucket): len(
            canonical(
                seal(
                    _header(agency, epoch),
                    os.urandom(bucket // 2),
                    epoch_public=epoch.public,
                    sign=agency.sign,
                    dek=os.urandom(32),
                    nonce=os.urandom(24),
                ).envelope.to_json()
            )
        )
        for bucket in LIMITS.padding_bytes
    }


def _header(agency: AgencyKey, epoch: EpochKey) -> Header:
    now = int(time.time() * 1000)
    receipt = HeaderReceipt(
        receipt_id="5b" * 16,
        issuer="synthetic-helpline",
        recipient="synthetic-shelter",
        purpose="provide-safe-accommodation",
        groups=("need", "routing", "safety"),
        basis="consent",
        issued=now,
        expires=now + _DAY_MS,
        signature=bytes(64),
    )
    return Header(
        id="1a" * 16,
        kind=Kind.OFFER,
        referral="2b" * 16,
        sender="synthetic-helpline",
        recipient="synthetic-shelter",
        signed_by=SignedBy.AGENCY,
        signing_key=agency.key_id,
        vocabulary=1,
        roster_version=1,
        roster_digest="3c" * 32,
        seen=0,
        created=now,
        expires=now + 2 * _DAY_MS,
        epoch_key=epoch.key_id,
        contract="4d" * 32,
        purpose="provide-safe-accommodation",
        stage="offer",
        groups=("need", "routing", "safety"),
        number=now,
        priority="urgent",
        respond_by=now + _DAY_MS,
        receipt=receipt,
    )


def _gate() -> dict[str, float]:
    now = datetime.now(UTC)
    contract = load_contract(shipped_contract(), on=now.date())
    draft = ConsentDraft.model_validate(consent_request("synthetic-shelter").model_dump(exclude={"subject"}))
    consent = record_consent(draft, consent_id="c0" * 16, subject="5b" * 16, at=now, statements=StatementLibrary.load())
    sender, receiver = _member("synthetic-helpline", AgencyKind.HELPLINE), _member("synthetic-shelter")
    routing = Routing(
        client_code="K7QF-3M2P",
        priority=Priority.URGENT,
        service_type=ServiceType.SAFE_ACCOMMODATION,
        referred_at=now,
        respond_by=now + timedelta(hours=4),
        referring_agency="synthetic-helpline",
        duty_contact=sender.duty_contact,
    )
    content = ReferralContent.model_validate(CONTENT).with_routing(routing)
    request = DisclosureRequest(
        sender, receiver, ServiceType.SAFE_ACCOMMODATION, content, contract, consent, datetime.now(UTC)
    )
    question = Question(
        sender.kind, receiver.kind, ServiceType.SAFE_ACCOMMODATION, Basis.CONSENT, content.fields_present()
    )
    assert isinstance(clear(request), Cleared)
    decision = microseconds(lambda: decide(contract, question, now), 2000)
    return {"decisions_per_s": 1e6 / decision, "gate_us": microseconds(lambda: clear(request), 300)}


def _member(agency: str, kind: AgencyKind = AgencyKind.SHELTER) -> Member:
    return Member(
        agency=agency,
        name=f"{agency} (synthetic)",
        kind=kind,
        country="MY",
        service_types=(ServiceType.SAFE_ACCOMMODATION,),
        node_url=f"https://{agency}.example",
        agency_key=os.urandom(32),
        node_key=os.urandom(32),
        duty_contact="+00 000 0000 (synthetic)",
        breach_contact="breach@example.org (synthetic)",
        told_first=ToldFirst(freedom_of_movement="She comes and goes.", requires_documents=False),
        synthetic=True,
    )

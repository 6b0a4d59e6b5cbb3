"""`exchange contract adopt`: the agency signs that it adheres to a contract, byte for byte.

Rules:

* The file must be valid today, and every promise of `exchange contract prove` must hold; otherwise nothing is signed.
* A draft is signed for a sandbox or a demo only.
* What is signed is the digest over the exact bytes. The file is kept under its digest: no other takes its place.
"""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from exchange.cli.console import SET_UP_WRONG, advise, fail, refusals_told, say
from exchange.cli.passphrase import agency_passphrase, opened_agency_keys, opened_keys
from exchange.cli.profile import HomeOption
from exchange.cli.roster import write_whole
from exchange.oauth.compact import Sign
from exchange.settings import CARD_NAME, Environment, load_settings

ADHERENCE_FOLDER: Final = "adherence"


def adopt(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The contract that was read and agreed.")],
    agency_home: Annotated[
        Path | None, typer.Option("--agency-home", help="Keys elsewhere: the folder of the agency's own machine.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Sign with the agency key that this agency adheres to a contract; print the statement for the roster."""
    data = file.read_bytes()
    if agency_home is not None:
        _adopt_elsewhere(agency_home, data)
        return
    with refusals_told():
        settings = load_settings(home=home)
    refuse_unless_adoptable(data, settings.environment)
    keys = opened_keys(settings)
    if keys.agency is None:
        write_whole(settings.contracts_dir / f"{hashlib.sha256(data).hexdigest()}.yaml", data)
        say("The contract is on file here.", style="green")
        advise(
            "The agency key is not on this node. Now sign it on the agency's machine: "
            f"exchange contract adopt {file} --agency-home FOLDER"
        )
        return
    path = sign_adherence(settings.home, settings.contracts_dir, data, keys.agency.sign, now=int(time.time() * 1000))
    _tell(path)


def _adopt_elsewhere(folder: Path, data: bytes) -> None:
    from exchange.client.vault.agency_keys import AGENCY_KEYS_NAME
    from exchange.roster import RosterInvalidError, parse_member_card

    try:
        synthetic = parse_member_card((folder / CARD_NAME).read_bytes().strip()).synthetic
    except (OSError, RosterInvalidError):
        fail(f"{folder / CARD_NAME} is missing or damaged.", code=SET_UP_WRONG)
    refuse_unless_adoptable(data, Environment.DEMO if synthetic else Environment.PRODUCTION)
    keys = opened_agency_keys(folder / AGENCY_KEYS_NAME, agency_passphrase())
    if keys.agency is None:
        fail("The key file lacks the agency key.", code=SET_UP_WRONG)
    _tell(sign_adherence(folder, folder / "contracts", data, keys.agency.sign, now=int(time.time() * 1000)))


def _tell(path: Path) -> None:
    advise(f"Signed. The statement for the roster is {path}:", style="green")
    typer.echo(path.read_text(encoding="ascii"))
    advise(f"Hand it over as you did with your card, or add it yourself: exchange roster add {path}", style="")


def refuse_unless_adoptable(data: bytes, environment: Environment) -> None:
    """End here, with every reason, unless an agency may adopt this contract."""
    from contracts.analysis import prove
    from contracts.loader import ContractInvalidError, load_contract
    from contracts.model import ContractStatus

    try:
        contract = load_contract(data, on=datetime.now(UTC).date())
    except ContractInvalidError as invalid:
        for problem in invalid.problems:
            advise(f"line {problem.line}: [{problem.code}] {problem.sentence}", style="red")
        fail("The contract is not valid. Nothing was signed.")
    broken = [claim for claim in prove(contract) if not claim.holds]
    for claim in broken:
        advise(f"[{claim.code}] {claim.sentence} {claim.counterexample}", style="red")
    if broken:
        fail("The contract does not keep its promises. Nothing was signed.")
    if contract.status is ContractStatus.DRAFT and environment is Environment.PRODUCTION:
        fail("This draft needs local legal review, which then changes its status. Nothing was signed.")


def sign_adherence(home: Path, contracts_dir: Path, data: bytes, sign: Sign, *, now: int) -> Path:
    """Keep the contract under its digest and the signed statement beside the card; the statement's path."""
    from exchange.envelope.statements import Adherence, sign_statement
    from exchange.roster import parse_member_card

    digest = hashlib.sha256(data).hexdigest()
    agency = parse_member_card((home / CARD_NAME).read_bytes().strip()).agency
    statement = sign_statement(Adherence(agency=agency, contract=digest, adopted_at=now), sign)
    contracts_dir.mkdir(mode=0o700, exist_ok=True)
    write_whole(contracts_dir / f"{digest}.yaml", data)
    folder = home / ADHERENCE_FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{agency}-{digest[:16]}.json"
    write_whole(path, statement.to_bytes() + b"\n")
    return path

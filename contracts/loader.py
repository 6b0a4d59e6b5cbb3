"""From the bytes of a contract file to a contract, or to every reason why not.

Rules:

* All problems are collected and told together, in the order of the file, each with line, code and sentence.
* A file with any problem is refused as a whole: there is no half-valid contract.
* The digest covers the exact bytes. Nothing is normalised first.
"""

from __future__ import annotations

import hashlib
from datetime import date
from importlib import resources

from contracts.checks import check_meaning
from contracts.located_yaml import read_located
from contracts.model import Contract
from contracts.problems import ContractInvalidError, ContractProblem
from contracts.structure import check_structure

__all__ = ["ContractInvalidError", "ContractProblem", "load_contract", "shipped_contract"]


def load_contract(data: bytes, *, on: date) -> Contract:
    """The contract that the bytes hold, valid on the given day.

    Raises:
        ContractInvalidError: with every problem found.
    """
    document = read_located(data)
    if document.data is not None:
        check_structure(document)
        check_meaning(document, on)
    if document.problems:
        raise ContractInvalidError(tuple(sorted(set(document.problems))))
    return Contract.model_validate({**document.data, "digest": hashlib.sha256(data).hexdigest()})


def shipped_contract() -> bytes:
    """The bytes of the contract that comes with this program: a draft that needs local legal review."""
    return resources.files("contracts").joinpath("shipped/asean-women-migrant-workers.yaml").read_bytes()

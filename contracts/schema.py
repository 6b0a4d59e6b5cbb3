"""The published JSON Schema of a contract file, derived from the model so that the two cannot differ.

The schema describes the shape, for editors and for other implementations. What a schema cannot say (the field table,
one rule per question, dates) is checked by the loader only.
"""

from __future__ import annotations

import json
from typing import Any

from contracts.model import ContractFile


def contract_schema() -> dict[str, Any]:
    """The schema as data."""
    schema = ContractFile.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:referral-exchange:contract:1",
        **schema,
        "title": "Information-sharing contract, language version 1",
    }


def contract_schema_text() -> str:
    """The exact text of `contracts/contract.schema.json`."""
    return json.dumps(contract_schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

"""Every problem code, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exchange.api.catalogue import Entry
from exchange.api.envelope_codes import ENVELOPE
from exchange.api.form_codes import FORM
from exchange.api.gate_codes import GATE
from exchange.api.state_codes import STATE

ENTRIES: Final[Mapping[str, Entry]] = {entry.code: entry for entry in (*FORM, *GATE, *STATE, *ENVELOPE)}

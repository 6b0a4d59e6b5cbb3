"""For an agency whose keys live with its own software: seal, open, and keep the keys, on its own machine."""

from exchange.client.vault.agency_keys import Identity, open_agency_folder, open_agency_keys
from exchange.client.vault.agency_vault import AgencyVault
from exchange.client.vault.errors import DoubtfulItemError, GateRefusedError, RefusedItemError, VaultError

__all__ = [
    "AgencyVault",
    "DoubtfulItemError",
    "GateRefusedError",
    "Identity",
    "RefusedItemError",
    "VaultError",
    "open_agency_folder",
    "open_agency_keys",
]

"""Opening an agency's folder: without its own keys, or without a roster that lists them, nothing is opened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.referrals import HELPLINE, SHELTER

from exchange.client.vault.agency_keys import (
    AGENCY_KEYS_NAME,
    ROSTER_NAME,
    open_agency_folder,
    open_agency_keys,
)
from exchange.client.vault.errors import VaultError
from exchange.envelope.key_file import FLOOR, KeySet, seal_keys
from exchange.envelope.keys import AgencyKey, NodeKey, StorageKey
from exchange.roster import Member, roster_bytes

PASSPHRASE = "synthetic passphrase"
AGENCY, STORAGE = AgencyKey(b"a" * 32), StorageKey(b"s" * 32)
OFFICE = KeySet(agency=AGENCY, storage=STORAGE)
OWN = HELPLINE.model_copy(update={"agency_key": AGENCY.public})


def listing(*members: Member) -> bytes:
    return roster_bytes(version=7, synthetic=True, members=members)


LISTED = listing(OWN, SHELTER)


@dataclass(frozen=True)
class Folder:
    """What lies in it, right unless told otherwise."""

    keys: KeySet | None = OFFICE
    roster: bytes | None = LISTED
    mode: int = 0o600
    sealed_with: str = PASSPHRASE

    def laid_out(self, path: Path) -> Path:
        if self.keys is not None:
            data = seal_keys(self.keys, self.sealed_with.encode(), salt=bytes(16), nonce=bytes(24), cost=FLOOR)
            (path / AGENCY_KEYS_NAME).write_bytes(data)
            (path / AGENCY_KEYS_NAME).chmod(self.mode)
        if self.roster is not None:
            (path / ROSTER_NAME).write_bytes(self.roster)
        return path


RIGHT = Folder()
REFUSED = {
    "no-key-file": (replace(RIGHT, keys=None), "no-agency-key"),
    "the-keys-of-a-node": (replace(RIGHT, keys=KeySet(node=NodeKey(b"n" * 32), storage=STORAGE)), "no-agency-key"),
    "no-key-of-the-store": (replace(RIGHT, keys=KeySet(agency=AGENCY)), "no-agency-key"),
    "keys-that-others-can-read": (replace(RIGHT, mode=0o640), "key-file-exposed"),
    "another-passphrase": (replace(RIGHT, sealed_with="another passphrase"), "passphrase-wrong"),
    "no-roster": (replace(RIGHT, roster=None), "no-roster"),
    "half-a-roster": (replace(RIGHT, roster=LISTED[:100]), "no-roster"),
    "a-roster-with-another-key": (replace(RIGHT, roster=listing(HELPLINE, SHELTER)), "not-a-member"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_that_is_not_opened(tmp_path: Path, name: str) -> None:
    folder, code = REFUSED[name]
    with pytest.raises(VaultError) as refused:
        open_agency_folder(folder.laid_out(tmp_path), PASSPHRASE)
    assert refused.value.code == code


def test_keys_and_store_open_without_a_roster_that_can_be_used(tmp_path: Path) -> None:
    opened = open_agency_keys(replace(RIGHT, roster=None).laid_out(tmp_path), PASSPHRASE)
    assert list(opened.store.living()) == []
    with pytest.raises(VaultError) as refused:
        opened.as_of_now()
    assert refused.value.code == "no-roster"
    (tmp_path / ROSTER_NAME).write_bytes(LISTED)
    assert opened.as_of_now().me == OWN
    opened.store.close()


def test_an_agency_is_whom_the_roster_lists_with_its_key(tmp_path: Path) -> None:
    opened = open_agency_folder(RIGHT.laid_out(tmp_path), PASSPHRASE)
    assert (opened.me, opened.roster.version) == (OWN, 7)
    opened.store.close()

"""Key files on disk: whole or not there, for their owner only, never overwritten by accident."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from vectors.samples import AGENCY, EPOCH, NODE, NONCE, STORAGE, fixed_bytes
from vectors.statement_cases import CHEAP

from contracts.canonical_json import canonical
from exchange.envelope import key_file
from exchange.envelope.errors import KeyFileError
from exchange.envelope.key_file import (
    CEILING,
    FLOOR,
    MODERATE,
    KdfCost,
    KeySet,
    create_key_file,
    open_keys,
    read_key_file,
    replace_key_file,
    seal_keys,
)
from exchange.envelope.wire import to_base64url

PASSPHRASE = b"a passphrase for tests"
SALT = fixed_bytes("salt", 16)
KEYS = KeySet(agency=AGENCY, node=NODE, storage=STORAGE, epochs=(EPOCH,))


def sealed(keys: KeySet = KEYS, cost: KdfCost = CHEAP) -> bytes:
    return seal_keys(keys, PASSPHRASE, salt=SALT, nonce=NONCE, cost=cost)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(KEYS, id="a-node-with-keys"),
        pytest.param(KeySet(node=NODE, storage=STORAGE), id="a-node-without"),
        pytest.param(KeySet(agency=AGENCY, epochs=(EPOCH,)), id="a-client-that-seals-itself"),
        pytest.param(KeySet(), id="empty"),
    ],
)
def test_what_is_written_is_read(tmp_path: Path, keys: KeySet) -> None:
    path = tmp_path / "keys.json"
    create_key_file(path, sealed(keys))
    assert open_keys(read_key_file(path), PASSPHRASE, floor=CHEAP) == keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_nothing_secret_is_readable_in_the_file() -> None:
    data = sealed()
    for key in (AGENCY, NODE, STORAGE, EPOCH):
        assert key.secret_bytes() not in data
        assert key.secret_bytes().hex().encode() not in data


def test_the_default_cost_is_above_the_floor() -> None:
    assert FLOOR.opslimit <= MODERATE.opslimit <= CEILING.opslimit
    assert 2**26 <= FLOOR.memlimit <= MODERATE.memlimit <= CEILING.memlimit


@pytest.mark.parametrize("passphrase", [b"", b"short", b"eleven char"], ids=len)
def test_a_short_passphrase_is_refused(passphrase: bytes) -> None:
    with pytest.raises(KeyFileError) as refused:
        seal_keys(KEYS, passphrase, salt=SALT, nonce=NONCE, cost=CHEAP)
    assert refused.value.code == "passphrase-too-short"


@pytest.mark.parametrize(("salt", "nonce"), [(b"", NONCE), (SALT, b"")], ids=["salt", "nonce"])
def test_salt_and_nonce_have_their_lengths(salt: bytes, nonce: bytes) -> None:
    with pytest.raises(KeyFileError):
        seal_keys(KEYS, PASSPHRASE, salt=salt, nonce=nonce, cost=CHEAP)


def test_a_weak_file_is_refused_by_default() -> None:
    with pytest.raises(KeyFileError) as refused:
        open_keys(sealed(), PASSPHRASE)
    assert refused.value.code == "key-file-weak"


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        pytest.param({"opslimit": FLOOR.opslimit - 1}, "weak", id="fewer-passes"),
        pytest.param({"memlimit": FLOOR.memlimit - 1}, "weak", id="less-memory"),
        pytest.param({"opslimit": CEILING.opslimit + 1}, "weak", id="passes-without-end"),
        pytest.param({"memlimit": CEILING.memlimit + 1}, "weak", id="more-memory-than-there-is"),
        pytest.param({"opslimit": True}, "malformed", id="passes-that-are-no-number"),
        pytest.param({"memlimit": str(FLOOR.memlimit)}, "malformed", id="memory-that-is-no-number"),
        pytest.param({"salt": to_base64url(SALT[1:])}, "malformed", id="shorter-salt"),
        pytest.param({"sealed": to_base64url(NONCE)}, "malformed", id="nothing-sealed"),
    ],
)
def test_what_is_wrong_with_the_derivation_is_refused_before_it(
    changed: dict[str, object], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"format": key_file.FORMAT, "kdf": "argon2id", "opslimit": FLOOR.opslimit, "memlimit": FLOOR.memlimit}
    right = plain | {"salt": to_base64url(SALT), "sealed": to_base64url(bytes(100))}
    monkeypatch.setattr(key_file, "_aead", lambda *_: pytest.fail("derived a key"))
    with pytest.raises(KeyFileError) as refused:
        open_keys(canonical(right | changed), PASSPHRASE)
    assert refused.value.code == f"key-file-{fault}"


@pytest.mark.parametrize("passphrase", [b"", b"a passphrase for test", b"A passphrase for tests"])
def test_a_wrong_passphrase_is_one_clear_error(passphrase: bytes) -> None:
    with pytest.raises(KeyFileError, match="passphrase is wrong, or the key file was damaged") as refused:
        open_keys(sealed(), passphrase, floor=CHEAP)
    assert refused.value.code == "passphrase-wrong"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o777], ids=oct)
def test_an_exposed_file_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.json"
    create_key_file(path, sealed())
    path.chmod(mode)
    with pytest.raises(KeyFileError) as refused:
        read_key_file(path)
    assert refused.value.code == "key-file-exposed"


def test_a_read_only_file_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    create_key_file(path, sealed())
    path.chmod(0o400)
    assert read_key_file(path) == sealed()


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    create_key_file(path, sealed())
    with pytest.raises(KeyFileError) as refused:
        create_key_file(path, sealed(KeySet(node=NODE)))
    assert refused.value.code == "key-file-exists"
    assert path.read_bytes() == sealed()
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_replacing_is_a_call_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    create_key_file(path, sealed())
    replace_key_file(path, sealed(KeySet(node=NODE)))
    assert path.read_bytes() == sealed(KeySet(node=NODE))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="Giving a folder to another user needs root.")
@pytest.mark.parametrize("write", [create_key_file, replace_key_file])
def test_what_root_writes_belongs_to_the_owner_of_the_folder(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    """Root closes the file with a new passphrase, and the node runs as another user, who has to read it."""
    os.chown(tmp_path, 65534, 65533)
    path = tmp_path / "node.keys"
    write(path, sealed())
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 65533, 0o600)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    create_key_file(path, sealed())

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key_file.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        replace_key_file(path, sealed(KeySet(node=NODE)))
    assert path.read_bytes() == sealed()
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_file_and_folder_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[bool] = []
    monkeypatch.setattr(
        key_file.os, "fsync", lambda descriptor: flushed.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
    )
    create_key_file(tmp_path / "keys.json", sealed())
    assert flushed == [False, True]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_key_file(tmp_path / "none.json")
    (tmp_path / "large.json").write_bytes(bytes(70_000))
    with pytest.raises(KeyFileError) as refused:
        read_key_file(tmp_path / "large.json")
    assert refused.value.code == "key-file-malformed"


def test_the_default_cost_works() -> None:
    """Once at full cost: what an operator gets without asking."""
    data = seal_keys(KeySet(node=NODE), PASSPHRASE, salt=SALT, nonce=NONCE)
    assert open_keys(data, PASSPHRASE) == KeySet(node=NODE)

"""The implementation in JavaScript agrees: on every vector, on what is sealed now, on what is nearly right.

It needs node (20.19 or newer) and npm, which nobody else here does: without them these tests are skipped, and fail
where CI says so. The first run installs three packages into tests/javascript/node_modules.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from javascript.mutants import mutants, outcome
from vectors.samples import CONTENT, sample_header

from exchange.envelope.keys import AgencyKey, EpochKey, NodeKey
from exchange.envelope.kinds import Kind
from exchange.envelope.seal import seal

HERE: Final = Path(__file__).parent
VECTORS: Final = HERE.parent / "vectors"
LONGEST_S: Final = 110
MUTANTS: Final = 800
EITHER: Final = frozenset({"too-large", "malformed", "unknown-suite", "unknown-vocabulary"})
"""Sections 6 and 7: which of several faults of steps 1, 2 and 5 is named is the reader's choice."""


def _missing() -> str | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return "node and npm are not on this machine"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=LONGEST_S).stdout
    if tuple(int(part) for part in version.strip().lstrip("v").split(".")[:2]) < (20, 19):
        return f"node is {version.strip()}, and 20.19 or newer is needed"
    return None


@pytest.fixture(scope="module")
def packages() -> None:
    """What package-lock.json names is installed, once for all workers."""
    if (reason := _missing()) is not None:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    stamp = HERE / "node_modules" / ".installed"
    with (HERE / "package.json").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == lock:
            return
        sys.stderr.write("npm ci in tests/javascript (once) ...\n")
        done = subprocess.run(["npm", "ci"], cwd=HERE, capture_output=True, text=True, check=False, timeout=LONGEST_S)
        if done.returncode != 0:
            if os.environ.get("CI"):
                pytest.fail(done.stderr[-2000:])
            pytest.skip("npm could not install the packages of tests/javascript/package-lock.json")
        stamp.write_text(lock)


def node(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = ["node", *arguments]
    return subprocess.run(
        command, cwd=HERE, input=stdin, capture_output=True, text=True, check=False, timeout=LONGEST_S
    )


@pytest.mark.usefixtures("packages")
def test_every_vector_comes_out_as_it_says() -> None:
    done = node("--test", "--test-reporter=tap", "checks/")
    refused = [line for line in done.stdout.splitlines() if line.startswith("not ok")]
    assert not refused, done.stdout[-3000:]
    assert done.returncode == 0
    listed = sum(len(json.loads(path.read_bytes())["cases"]) for path in VECTORS.glob("*.json"))
    assert f"# pass {listed + 1}\n" in done.stdout, "one test for each case, and the round trip"


def flipped(text: str) -> str:
    """Another base64url text of the same length, in its one spelling."""
    at = len(text) // 2
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


@pytest.mark.usefixtures("packages")
def test_what_is_sealed_here_and_now_opens_there(tmp_path: Path) -> None:
    """Fresh keys, fresh nonce, libsodium's own sealed box: nothing of it is in a vector."""
    agency, own, epoch = (kind(secrets.token_bytes(32)) for kind in (AgencyKey, NodeKey, EpochKey))
    header = sample_header(Kind.OFFER, epoch_key=epoch.key_id, signing_key=agency.key_id)
    envelope = seal(
        header,
        CONTENT,
        epoch_public=epoch.public,
        sign=agency.sign,
        dek=secrets.token_bytes(32),
        nonce=secrets.token_bytes(24),
    ).envelope.to_json()
    keys = {
        "agency_public": agency.public.hex(),
        "node_public": own.public.hex(),
        "epoch_private": epoch.secret_bytes().hex(),
    }

    def opened(members: dict[str, str], with_keys: dict[str, str]) -> subprocess.CompletedProcess[str]:
        (tmp_path / "envelope.json").write_text(json.dumps(members))
        (tmp_path / "keys.json").write_text(json.dumps(with_keys))
        return node("open.mjs", str(tmp_path / "envelope.json"), str(tmp_path / "keys.json"))

    done = opened(envelope, keys)
    assert (done.returncode, done.stdout, done.stderr) == (0, CONTENT.decode(), "")
    for wrong, with_keys, code in (
        (envelope | {"ciphertext": flipped(envelope["ciphertext"])}, keys, "bad-signature"),
        (envelope, keys | {"agency_public": own.public.hex()}, "bad-signature"),
        (envelope, keys | {"epoch_private": secrets.token_hex(32)}, "cannot-unwrap"),
    ):
        done = opened(wrong, with_keys)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{code}\n")


@pytest.mark.usefixtures("packages")
def test_what_is_nearly_right_is_judged_alike() -> None:
    """Cases that no file lists. Both implementations must call each one by the same code."""
    given = list(mutants(seed=11, count=MUTANTS))
    done = node("checks/outcomes.mjs", stdin="".join(f"{json.dumps(mutant)}\n" for mutant in given))
    assert done.returncode == 0, done.stderr[-2000:]
    there = done.stdout.split()
    here = [outcome(mutant["file"], mutant["case"]) for mutant in given]
    differing = [
        (ours, theirs, mutant)
        for ours, theirs, mutant in zip(here, there, given, strict=True)
        if ours != theirs and not ("malformed" in {ours, theirs} <= EITHER)
    ]
    assert not differing, differing[:3]
    assert len(set(here)) > 8, "the mutants reach deep"

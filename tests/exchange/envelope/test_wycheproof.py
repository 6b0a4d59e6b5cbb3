"""Project Wycheproof on the primitives beneath the envelope; skipped, with the reason, without its files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from nacl import bindings
from nacl.secret import Aead

from exchange.envelope.errors import BadSignatureError, KeyUnusableError
from exchange.envelope.keys import NACL_REFUSALS, Dek, verify
from exchange.envelope.seal import wrap_dek


def _groups(name: str) -> list[dict[str, Any]]:
    folder = os.environ.get("WYCHEPROOF_DIR")
    if not folder:
        pytest.skip("WYCHEPROOF_DIR is not set to a folder with Wycheproof's JSON vectors")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"{name} is not in WYCHEPROOF_DIR")
    groups: list[dict[str, Any]] = json.loads(path.read_bytes())["testGroups"]
    return groups


def test_x25519() -> None:
    tests = [test for group in _groups("x25519_test.json") for test in group["tests"]]
    assert len(tests) > 500
    for test in tests:
        private, public = bytes.fromhex(test["private"]), bytes.fromhex(test["public"])
        if "ZeroSharedSecret" in test["flags"]:
            with pytest.raises(NACL_REFUSALS):
                bindings.crypto_scalarmult(private, public)
            with pytest.raises(KeyUnusableError):
                wrap_dek(Dek(bytes(32)), public)
        else:
            assert test["result"] in {"valid", "acceptable"}, test["tcId"]
            assert bindings.crypto_scalarmult(private, public).hex() == test["shared"], test["tcId"]


def test_xchacha20_poly1305() -> None:
    groups = _groups("xchacha20_poly1305_test.json")
    assert any((group["ivSize"], group["keySize"], group["tagSize"]) == (192, 256, 128) for group in groups)
    for test in (test for group in groups for test in group["tests"]):
        key, nonce, aad, message = (bytes.fromhex(test[name]) for name in ("key", "iv", "aad", "msg"))
        sealed = bytes.fromhex(test["ct"] + test["tag"])
        if test["result"] == "valid":
            assert Aead(key).decrypt(sealed, aad, nonce) == message, test["tcId"]
            assert Aead(key).encrypt(message, aad, nonce).ciphertext == sealed, test["tcId"]
        else:
            with pytest.raises(NACL_REFUSALS):
                Aead(key).decrypt(sealed, aad, nonce)


def test_ed25519() -> None:
    groups = _groups("ed25519_test.json")
    assert all(group["publicKey"]["curve"] == "edwards25519" for group in groups)
    for group in groups:
        public = bytes.fromhex(group["publicKey"]["pk"])
        for test in group["tests"]:
            message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])
            if test["result"] == "valid":
                verify(public, message, signature)
            else:
                with pytest.raises(BadSignatureError):
                    verify(public, message, signature)

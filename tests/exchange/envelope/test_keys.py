"""Secrets stay secret, and one key cannot stand for another."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
from vectors.samples import AGENCY, DEK, EPOCH, NODE, OTHER_AGENCY, REFERRAL_KEY, STORAGE, fixed_bytes

from exchange.envelope.errors import BadSignatureError, KeyUnusableError, SealedRowError, UnwrapError
from exchange.envelope.key_file import KeySet
from exchange.envelope.keys import AgencyKey, Dek, EpochKey, NodeKey, ReferralKey, Secret, StorageKey, TokenKey, verify
from exchange.envelope.rewrap import rewrap
from exchange.envelope.sealed_rows import SealedRows
from exchange.envelope.tags import Tag, framed

SECRETS = [AGENCY, NODE, EPOCH, STORAGE, DEK, REFERRAL_KEY, STORAGE.token_key(), STORAGE.row_key()]
EACH = pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: type(secret).__name__)


@EACH
@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format, lambda secret: f"{[secret]} {KeySet}"])
def test_a_secret_does_not_show(secret: Secret, show: Callable[[object], str]) -> None:
    shown = show(secret)
    raw = secret.secret_bytes()
    assert raw.hex() not in shown
    assert repr(raw)[2:-1] not in shown


def test_a_set_of_keys_does_not_show_them() -> None:
    assert repr(KeySet(agency=AGENCY, epochs=(EPOCH,))) == (
        "KeySet(agency=<AgencyKey>, node=None, storage=None, epochs=(<EpochKey>,))"
    )


@EACH
@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy, hash])
def test_a_secret_is_not_carried_off(secret: Secret, carry: Callable[[object], object]) -> None:
    with pytest.raises(TypeError):
        carry(secret)


@EACH
def test_a_secret_has_no_dictionary_to_look_into(secret: Secret) -> None:
    with pytest.raises(TypeError):
        vars(secret)


def test_equality_is_by_role_and_value() -> None:
    seed = fixed_bytes("seed")
    assert AgencyKey(seed) == AgencyKey(seed)
    assert AgencyKey(seed) != NodeKey(seed)
    assert AgencyKey(seed) != OTHER_AGENCY
    assert AgencyKey(seed) != seed


@pytest.mark.parametrize("kind", [AgencyKey, NodeKey, EpochKey, StorageKey, Dek, ReferralKey, TokenKey])
@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33), bytearray(32), "0" * 32, None], ids=repr)
def test_only_32_bytes_are_a_key(kind: type[Secret], wrong: bytes) -> None:
    with pytest.raises(KeyUnusableError):
        kind(wrong)


@pytest.mark.parametrize(
    ("public", "message", "signature"),
    [
        pytest.param(AGENCY.public, b"other", AGENCY.sign(b"message"), id="other-message"),
        pytest.param(NODE.public, b"message", AGENCY.sign(b"message"), id="other-key"),
        pytest.param(AGENCY.public, b"message", b"", id="no-signature"),
        pytest.param(AGENCY.public, b"message", bytes(64), id="zeros"),
        pytest.param(AGENCY.public[:-1], b"message", AGENCY.sign(b"message"), id="short-key"),
        pytest.param(bytes(32), b"message", bytes(64), id="key-of-zeros"),
        pytest.param(b"\x01" + bytes(31), b"message", b"\x01" + bytes(63), id="small-order-key-signs-everything"),
        pytest.param(AGENCY.public, b"message", AGENCY.sign(b"message") + b"\x00", id="trailing-byte"),
    ],
)
def test_a_signature_that_is_none(public: bytes, message: bytes, signature: bytes) -> None:
    with pytest.raises(BadSignatureError):
        verify(public, message, signature)


@pytest.mark.parametrize("wrapped", [b"", bytes(79), bytes(80), bytes(81), EPOCH.public + bytes(48)], ids=len)
def test_what_does_not_unwrap(wrapped: bytes) -> None:
    with pytest.raises(UnwrapError):
        EPOCH.unwrap(wrapped)


@pytest.mark.parametrize("place", [63, 65])
def test_a_signature_and_what_it_covers_have_one_place_where_they_meet(place: int) -> None:
    """The bytes of both in a row are those that were signed; the cut between them is another."""
    whole = AGENCY.sign(b"a message") + b"a message"
    verify(AGENCY.public, whole[64:], whole[:64])
    with pytest.raises(BadSignatureError):
        verify(AGENCY.public, whole[place:], whole[:place])


def test_framing_is_injective() -> None:
    seen = {
        framed(Tag.ENVELOPE),
        framed(Tag.ENVELOPE, b""),
        framed(Tag.ENVELOPE, b"", b""),
        framed(Tag.ENVELOPE, b"ab", b""),
        framed(Tag.ENVELOPE, b"a", b"b"),
        framed(Tag.ENVELOPE, b"", b"ab"),
        framed(Tag.RELEASE, b"a", b"b"),
    }
    assert len(seen) == 7


def test_framed_input_is_never_a_compact_token() -> None:
    """A node key signs framed input and compact JWS. The first byte keeps them apart."""
    assert all(framed(tag)[0] == 0 for tag in Tag)


def test_tags_are_distinct_and_none_begins_another() -> None:
    values = [tag.value for tag in Tag]
    assert len(set(values)) == len(values)
    assert not any(one != other and other.startswith(one) for one in values for other in values)


def test_derived_keys_differ_from_each_other_and_from_their_root() -> None:
    derived = {key.secret_bytes() for key in (STORAGE, STORAGE.row_key(), STORAGE.token_key())}
    assert len(derived) == 3


def test_a_keyed_digest_depends_on_key_use_and_value() -> None:
    other = StorageKey(fixed_bytes("other storage key"))
    digests = {
        STORAGE.keyed_digest("a", b"v"),
        STORAGE.keyed_digest("b", b"v"),
        STORAGE.keyed_digest("a", b"w"),
        STORAGE.keyed_digest("av", b""),
        other.keyed_digest("a", b"v"),
    }
    assert len(digests) == 5


@pytest.mark.parametrize("nonce", [b"", bytes(23), bytes(25)], ids=len)
def test_a_nonce_has_24_bytes(nonce: bytes) -> None:
    with pytest.raises(SealedRowError):
        rewrap(DEK, referral_key=REFERRAL_KEY, referral="r", envelope="e", nonce=nonce)
    with pytest.raises(SealedRowError):
        SealedRows(STORAGE.row_key()).seal(b"v", table="t", column="c", row="r", nonce=nonce)


def test_the_row_sealer_neither_shows_nor_hands_over_its_key() -> None:
    rows = SealedRows(STORAGE.row_key())
    assert repr(rows) == "<SealedRows>"
    with pytest.raises(TypeError):
        pickle.dumps(rows)
    with pytest.raises(TypeError):
        copy.deepcopy(rows)

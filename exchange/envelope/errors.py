"""Why an envelope, a key or a statement is refused.

    EnvelopeError
    ├── TooLargeError           step 1    too-large
    ├── ContentTooLargeError    hand-in   content-too-large
    ├── MalformedError          step 2    malformed
    ├── UnknownSuiteError       step 5    unknown-suite
    ├── UnknownVocabularyError  step 5    unknown-vocabulary
    ├── BadSignatureError       step 8    bad-signature
    ├── ReceiptError            step 11   receipt-signature, receipt-expired, receipt-mismatch
    ├── UnwrapError             step 13   cannot-unwrap
    ├── CommitmentError         step 14   commitment-mismatch
    ├── DecryptError            step 14   cannot-decrypt
    ├── PaddingError            step 15   bad-padding
    ├── KeyUnusableError        keys      key-unusable
    ├── EpochError              keys      no-epoch-key, epoch-went-back, epoch-repeated,
    │                                     epoch-not-a-week
    ├── StatementError          -         statement-malformed, statement-signature
    ├── SealedRowError          at rest   sealed-row
    └── KeyFileError            at rest   key-file-exposed, key-file-malformed, key-file-weak, passphrase-wrong,
                                          passphrase-too-short, key-file-exists

Rules:

* `code` is stable: vectors, problem documents and other implementations name it.
* `step` is the number in the order of verification of docs/protocol.md; nothing where no step applies.
* `who` has to act: the `sender` of the envelope, this `node`, or a `peer` whose published material is unusable.
* The text is a fixed sentence. The most it adds is the name of a member that the protocol itself defines; a submitted
  value, an unknown name or a secret is never part of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Who(StrEnum):
    """Who has to act before a repeat can succeed."""

    SENDER = "sender"
    NODE = "node"
    PEER = "peer"


class EnvelopeError(Exception):
    """Base of the family; never raised itself."""

    code: str = "envelope"
    step: int | None = None
    who: Who = Who.SENDER
    sentence: str = "The envelope cannot be used."

    def __init__(self) -> None:
        super().__init__(self.sentence)


class TooLargeError(EnvelopeError):
    """The envelope, or one part of it, exceeds its cap."""

    code = "too-large"
    step = 1
    sentence = "The envelope or a part of it is larger than the protocol allows."


class ContentTooLargeError(EnvelopeError):
    """The content fits into no padding size; refused before anything is sealed."""

    code = "content-too-large"
    sentence = "The content is larger than one envelope can carry. Shorten it and send it again."


class MalformedError(EnvelopeError):
    """The bytes are not the one spelling that the protocol defines.

    Attributes:
        member: the protocol's own name of the member that is wrong, or what is wrong with the whole.
    """

    code = "malformed"
    step = 2
    sentence = "The envelope is not written as the protocol demands"

    def __init__(self, member: str) -> None:
        super().__init__()
        self.member = member

    def __str__(self) -> str:
        return f"{self.sentence}: {self.member}."


class UnknownSuiteError(EnvelopeError):
    """The envelope uses a suite that this implementation does not speak."""

    code = "unknown-suite"
    step = 5
    sentence = "The envelope uses a cryptographic suite that this node does not know."


class UnknownVocabularyError(EnvelopeError):
    """The header speaks a version of the vocabulary that this implementation does not know."""

    code = "unknown-vocabulary"
    step = 5
    sentence = "The envelope speaks a version of the vocabulary that this node does not know."


class BadSignatureError(EnvelopeError):
    """The signature was not made by this key over these bytes."""

    code = "bad-signature"
    step = 8
    sentence = "The signature does not belong to this envelope and this key."


class ReceiptFault(StrEnum):
    """What is wrong with a cut-down consent receipt."""

    SIGNATURE = "receipt-signature"
    EXPIRED = "receipt-expired"
    MISMATCH = "receipt-mismatch"


class ReceiptError(EnvelopeError):
    """The consent receipt in the header does not cover this envelope."""

    code = "receipt"
    step = 11

    _SENTENCES: ClassVar[dict[ReceiptFault, str]] = {
        ReceiptFault.SIGNATURE: "The consent receipt is not signed by the sending agency.",
        ReceiptFault.EXPIRED: "The consent receipt is not valid at this time.",
        ReceiptFault.MISMATCH: "The consent receipt does not cover this receiver, purpose or these groups.",
    }

    def __init__(self, fault: ReceiptFault) -> None:
        self.code = fault.value
        self.sentence = self._SENTENCES[fault]
        super().__init__()


class UnwrapError(EnvelopeError):
    """The wrapped key was not sealed to this epoch key, or was changed."""

    code = "cannot-unwrap"
    step = 13
    sentence = "The envelope was not sealed to this key, or its wrapped key was changed."


class CommitmentError(EnvelopeError):
    """The key inside is not the key to which the signed header commits."""

    code = "commitment-mismatch"
    step = 14
    sentence = "The key inside the envelope is not the one its header names."


class DecryptError(EnvelopeError):
    """The ciphertext does not open under this key and header."""

    code = "cannot-decrypt"
    step = 14
    sentence = "The sealed content does not open: it was changed, or belongs to another header."


class PaddingError(EnvelopeError):
    """The padding inside is not the one spelling that the protocol defines."""

    code = "bad-padding"
    step = 15
    sentence = "The padding of the content is wrong."


class KeyUnusableError(EnvelopeError):
    """A public key is no key: wrong length, or a point that gives every sender the same secret."""

    code = "key-unusable"
    who = Who.PEER
    sentence = "This public key cannot be used. Ask the agency to publish a new one."


class EpochFault(StrEnum):
    """What is wrong with a set of epoch statements."""

    NONE = "no-epoch-key"
    WENT_BACK = "epoch-went-back"
    REPEATED = "epoch-repeated"
    NOT_A_WEEK = "epoch-not-a-week"


class EpochError(EnvelopeError):
    """The published epoch keys of an agency cannot be used."""

    code = "epoch"
    who = Who.PEER

    _SENTENCES: ClassVar[dict[EpochFault, str]] = {
        EpochFault.NONE: "The agency has published no key for this week, or has revoked it.",
        EpochFault.WENT_BACK: "The agency's list of keys is older than the one already known. It is not used.",
        EpochFault.REPEATED: "The agency has given one number to two keys or revocations. Its list is not used.",
        EpochFault.NOT_A_WEEK: "A published key does not run from Monday to Monday, 00:00 UTC.",
    }

    def __init__(self, fault: EpochFault) -> None:
        self.code = fault.value
        self.sentence = self._SENTENCES[fault]
        super().__init__()


class StatementFault(StrEnum):
    """What is wrong with a signed statement."""

    MALFORMED = "statement-malformed"
    SIGNATURE = "statement-signature"


class StatementError(EnvelopeError):
    """A signed statement is not in the protocol's form, or not signed by this key."""

    code = "statement"
    who = Who.PEER

    _SENTENCES: ClassVar[dict[StatementFault, str]] = {
        StatementFault.MALFORMED: "The signed statement is not written as the protocol demands.",
        StatementFault.SIGNATURE: "The signature does not belong to this statement and this key.",
    }

    def __init__(self, fault: StatementFault) -> None:
        self.code = fault.value
        self.sentence = self._SENTENCES[fault]
        super().__init__()


class SealedRowError(EnvelopeError):
    """A sealed database value does not belong to this table, column and row, or was changed."""

    code = "sealed-row"
    who = Who.NODE
    sentence = "A sealed database value does not open: wrong storage key, wrong row, or changed."


class KeyFileFault(StrEnum):
    """Why a key file is refused."""

    EXPOSED = "key-file-exposed"
    MALFORMED = "key-file-malformed"
    WEAK = "key-file-weak"
    PASSPHRASE = "passphrase-wrong"  # noqa: S105  # a code
    SHORT = "passphrase-too-short"
    EXISTS = "key-file-exists"


class KeyFileError(EnvelopeError):
    """A key file cannot be written or opened."""

    code = "key-file"
    who = Who.NODE

    _SENTENCES: ClassVar[dict[KeyFileFault, str]] = {
        KeyFileFault.EXPOSED: "The key file can be read by other users. Give it mode 600 and change its passphrase.",
        KeyFileFault.MALFORMED: "This is not a key file that this version can read.",
        KeyFileFault.WEAK: "The key file asks for a passphrase derivation outside the allowed strength.",
        KeyFileFault.PASSPHRASE: "The passphrase is wrong, or the key file was damaged.",
        KeyFileFault.SHORT: "The passphrase is too short. Use at least 12 characters.",
        KeyFileFault.EXISTS: "A key file already exists here. It is never overwritten by a new one.",
    }

    def __init__(self, fault: KeyFileFault) -> None:
        self.code = fault.value
        self.sentence = self._SENTENCES[fault]
        super().__init__()

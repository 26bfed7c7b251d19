"""Checkpoint: a signed statement of how long a chain is and what it ends in, to be kept elsewhere. Pure.

Who holds one can tell later whether the chain was cut short, or written anew, below it. The form is a
C2SP ``signed-note`` whose text is a ``tlog-checkpoint``::

    capsule-chain/4f5b…c09a                       the origin: which chain
    1000                                          the size: how many capsules
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=  the head: hash of the capsule at sequence 999
    time 2026-11-26T10:40:00Z                     an extension line: when this was signed

    — capsule-chain/4f5b…c09a Az3grlgtzPIC…       the origin as key name; key id and signature

- The head is the SHA3-256 of one capsule, which holds the hash of the one before, and so on. It is NOT a
  Merkle root: there are no proofs to be had from it, and who checks it walks the chain.
- A note is signed with the key that seals capsules, and neither signature can be taken for the other. A
  capsule's covers the 64 characters of a hash in hexadecimal and no newline; that of a note covers a text
  of at least four lines, each with its newline.
- Signatures of others (another key, a witness) may stand in the same note and are left alone.

Not handled here: which keys are to be trusted, where a checkpoint lies, and whether the chain agrees.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from capsule_sdk.errors import EvidenceError

__all__ = ["Checkpoint", "NoteSignature", "SignedCheckpoint", "default_origin", "parse", "sign"]

#: Bytes that a note may have: room for far more than the 16 signatures that a reader must accept.
NOTE_SIZE: Final = 1 << 20

_HASH = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"[1-9][0-9]{0,17}")
_TIME = re.compile(r"time ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z)")
_DASH: Final = "\N{EM DASH} "
_ED25519: Final = b"\x01"  # the type of a signature, in its key id
_KEY_ID_BYTES, _HEAD_BYTES = 4, 32


def default_origin(first_hash: str | None) -> str:
    """Return the origin that tells a chain from every other: it holds the hash of its first capsule.

    Raises:
        EvidenceError: that is no hash.

    """
    if not (isinstance(first_hash, str) and _HASH.fullmatch(first_hash)):
        raise EvidenceError("the chain has no first capsule whose hash could name it")
    return f"capsule-chain/{first_hash}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says.

    Attributes:
        origin: names the chain.
        size: how many capsules it has, at least 1.
        head: hash of the last of them, in hexadecimal.
        time: when this was said.

    Raises:
        EvidenceError: that cannot be said in a note.

    """

    origin: str
    size: int
    head: str
    time: datetime

    def __post_init__(self) -> None:
        if not self.origin or any(character < " " for character in self.origin):
            raise EvidenceError("the origin of a checkpoint is one line of text, and not empty")
        if not _SIZE.fullmatch(str(self.size)):
            raise EvidenceError("the size of a checkpoint is a number of capsules, at least 1")
        if not _HASH.fullmatch(self.head):
            raise EvidenceError("the head of a checkpoint is a hash of 64 hexadecimal digits")
        if self.time.tzinfo is None:
            raise EvidenceError("the time of a checkpoint needs a time zone")

    def text(self) -> str:
        """Return the text that is signed, with its final newline."""
        moment = self.time.astimezone(UTC).replace(tzinfo=None).isoformat()
        head = base64.b64encode(bytes.fromhex(self.head)).decode()
        return f"{self.origin}\n{self.size}\n{head}\ntime {moment}Z\n"

    def contradicts(self, later: Checkpoint) -> bool:
        """Tell whether the chain cannot have had this once, where it is at ``later`` now."""
        if self.origin != later.origin:
            return False
        return self.size > later.size or (self.size == later.size and self.head != later.head)


class NoteSignature(NamedTuple):
    """One line under a note: whose signature it says it is, and the signature."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A note as it was read. What it says MUST NOT be believed before `verified_by` has named a key.

    Attributes:
        checkpoint: what it says.
        body: the text that is signed, as it was read.
        signatures: all that stand under it, whoever made them.

    """

    checkpoint: Checkpoint
    body: str
    signatures: tuple[NoteSignature, ...]

    def verified_by(self, keys: Iterable[str]) -> str | None:
        """Return the first of these keys that signed it; ``None`` where none of them did.

        A signature that names one of the keys and does not verify spoils the note, as the specification
        wants it. Signatures of other keys are passed over.

        Args:
            keys: Ed25519 public keys in hexadecimal; what is no such key has signed nothing.

        """
        signers = []
        for key in keys:
            for one in self._signatures_of(key):
                if not _verifies(key, self.body, one.signature):
                    return None
                signers.append(key)
        return signers[0] if signers else None

    def _signatures_of(self, key: str) -> list[NoteSignature]:
        """Return those that say they are of this key, under the name of this chain."""
        name = self.checkpoint.origin
        try:
            wanted = (name, _key_id(name, bytes.fromhex(key)))
        except ValueError:
            return []
        return [one for one in self.signatures if (one.name, one.key_id) == wanted]


def sign(checkpoint: Checkpoint, key: SigningKey) -> str:
    """Return the whole note, signed with an Ed25519 key under the origin as its name.

    Raises:
        EvidenceError: the origin cannot be the name of a key.

    """
    name, body = checkpoint.origin, checkpoint.text()
    if not _is_key_name(name):
        raise EvidenceError(
            f"{name!r} cannot be the origin of a checkpoint: it signs under that name, which has no"
            " spaces and no plus sign"
        )
    try:
        signature = key.sign(body.encode()).signature
        line = base64.b64encode(_key_id(name, bytes(key.verify_key)) + signature).decode()
    except UnicodeEncodeError as error:
        raise EvidenceError(f"{name!r} cannot be the origin of a checkpoint: {error}") from error
    return f"{body}\n{_DASH}{name} {line}\n"


def parse(note: str | bytes) -> SignedCheckpoint:
    """Read a checkpoint. Its signatures are not verified by that.

    Args:
        note: the whole note; bytes have to be UTF-8.

    Raises:
        EvidenceError: it is not a checkpoint; the message says what is wrong with it.

    """
    body, gap, lines = _decoded(note).rpartition("\n\n")
    if not gap:
        raise _malformed("there is no blank line between its text and its signatures")
    if not lines:
        raise _malformed("there is no signature under it")
    if not lines.endswith("\n"):
        raise _malformed("it does not end in a newline")
    body += "\n"
    signatures = tuple(_signature(line) for line in lines[:-1].split("\n"))
    return SignedCheckpoint(_checkpoint(body), body, signatures)


def _decoded(note: str | bytes) -> str:
    try:
        content = note.encode() if isinstance(note, str) else note
        if len(content) > NOTE_SIZE:
            raise _malformed(f"it has more than {NOTE_SIZE} bytes")
        text = content.decode()
    except UnicodeError:
        raise _malformed("it is not UTF-8") from None
    if "\r" in text:
        raise _malformed("its lines end in CR LF, and those of a note in LF alone")
    if any(character < " " and character != "\n" for character in text):
        raise _malformed("there is a control character in it")
    return text


def _checkpoint(body: str) -> Checkpoint:
    lines = body[:-1].split("\n")
    if len(lines) < 3 or not all(lines):
        raise _malformed("its text is not an origin, a size, a hash, and lines that are not empty")
    origin, size, head, *extensions = lines
    if not _SIZE.fullmatch(size):
        raise _malformed(
            "its size is not a decimal number from 1 to 18 digits, or begins with a zero"
        )
    raw = _from_base64(head, "its hash")
    if len(raw) != _HEAD_BYTES:
        raise _malformed(f"its hash has {len(raw)} bytes, and not {_HEAD_BYTES}")
    return Checkpoint(origin, int(size), raw.hex(), _time(extensions))


def _time(extensions: Iterable[str]) -> datetime:
    found = [line for line in extensions if line.startswith("time ")]
    match = _TIME.fullmatch(found[0]) if len(found) == 1 else None
    try:
        if match is not None:
            return datetime.fromisoformat(match[1])
    except ValueError:
        pass
    raise _malformed("it has not one line 'time', of the form 'time 2026-11-26T10:40:00Z'")


def _signature(line: str) -> NoteSignature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not (line.startswith(_DASH) and space and _is_key_name(name)):
        raise _malformed(
            "a line under it is not a signature: a dash, the name of a key, and base64"
        )
    raw = _from_base64(encoded, "a signature")
    if len(raw) <= _KEY_ID_BYTES:
        raise _malformed(f"a signature has {len(raw)} bytes, and no more than a key id has")
    return NoteSignature(name, raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:])


def _from_base64(text: str, what: str) -> bytes:
    """Decode what is written in the one way that an encoder writes it (RFC 4648, 3.5 and 4)."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not raw or base64.b64encode(raw).decode() != text:
        raise _malformed(f"{what} is not base64")
    return raw


def _is_key_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(map(str.isspace, name))


def _key_id(name: str, public_key: bytes) -> bytes:
    content = name.encode() + b"\n" + _ED25519 + public_key
    return hashlib.sha256(content).digest()[:_KEY_ID_BYTES]


def _verifies(key: str, body: str, signature: bytes) -> bool:
    try:
        VerifyKey(bytes.fromhex(key)).verify(body.encode(), signature)
    except (CryptoError, ValueError, TypeError):
        return False
    return True


def _malformed(reason: str) -> EvidenceError:
    return EvidenceError(f"this is not a checkpoint that can be read: {reason}")

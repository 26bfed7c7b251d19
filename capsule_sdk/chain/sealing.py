"""What every way of writing shares: a seal that is ready, and capsules that can be read back.

Whatever does not need a capsule's place in the chain is done by `draft`, before the chain is locked.

One capsule that no reader can load, or that hashes differently when it is read, makes the whole
chain fail to verify. Such a capsule MUST be refused before it is in the chain.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from nacl.signing import SigningKey
from qp_capsule import Capsule, CapsuleType, Seal, SealError, compute_hash

from capsule_sdk.errors import CapsuleRejected, ChainUnavailable
from capsule_sdk.logs import tell

from .keys import FileState, ensure_key, is_known, keep_key, read_key, state_of
from .privacy import remedy

__all__ = ["Draft", "SealGuard", "draft", "unseal"]


class SealGuard:
    """A seal that tells its own failures from those of the capsule it is given.

    What it seals can be checked: its key lies in its file, or a keyring knows it, or the log has named it.
    """

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._prepared_in: int | None = None
        self._key: SigningKey | None = None
        self._file: FileState | None = None

    def prepare(self) -> None:
        """Make and load the key, once per process, and see to it that its file is there.

        Raises:
            ChainUnavailable: the key cannot be read or created just now.
            ConfigurationError: the file is no key.

        """
        path = self._seal.key_path
        try:
            if self._prepared_in != os.getpid():
                self._load(path)
            elif state_of(path) != self._file:
                self._look_again(path)
        except OSError as error:
            raise ChainUnavailable(
                f"the signing key {path} cannot be used: {error}; {remedy(path, 'QUANTUMPIPES_DATA_DIR')}"
            ) from error

    def _load(self, path: Path) -> None:
        ensure_key(path)
        state = state_of(path)
        public = self._seal.get_public_key()
        key = read_key(path)
        # A key that the seal was given, or had read before a rotation, is not that of the file.
        self._key = key if key.verify_key.encode().hex() == public else None
        self._prepared_in, self._file = os.getpid(), state

    def _look_again(self, path: Path) -> None:
        """Put the key back where its directory was moved away or removed; say if there is another."""
        if self._key is not None and keep_key(path, self._key):
            tell(
                "error", "the signing key was removed while in use, and is put back", path=str(path)
            )
        elif not is_known(path, public := self._seal.get_public_key()):
            tell(
                "error",
                "the signing key was replaced while in use; this process goes on with the one that it has read:"
                " keep its public key, to check what it seals",
                path=str(path),
                public_key=public,
            )
        self._file = state_of(path)

    def signing_key(self) -> SigningKey:
        """Return the key as it lies in its file; after a rotation that is the new one.

        Raises:
            ConfigurationError: the file is no key.
            OSError: there is none, or it cannot be read.

        """
        return read_key(self._seal.key_path)

    def seal(self, capsule: Capsule) -> None:
        """Seal a capsule that is linked.

        Raises:
            CapsuleRejected: no seal can be put on this capsule.
            ChainUnavailable: the seal itself fails, whatever it is given.

        """
        try:
            self._seal.seal(capsule)
        except SealError as error:
            raise self.blame(capsule, error) from error

    def blame(self, capsule: Capsule, error: SealError) -> CapsuleRejected | ChainUnavailable:
        """Find out whether the capsule or the seal is at fault, by sealing an empty capsule."""
        cause = error.__cause__ or error
        reason = f"{type(cause).__name__}: {cause}"
        try:
            self._seal.seal(Capsule())
        except SealError:
            return ChainUnavailable(f"nothing can be sealed just now: {reason}")
        return CapsuleRejected(str(capsule.id), reason)


class Draft(NamedTuple):
    """A capsule that can be stored and read back, but for its place in the chain."""

    capsule: Capsule
    text: str  #: its content as JSON, without sequence and previous hash

    def linked_text(self) -> str:
        """Return the content as the JSON text to store, with the place that the capsule has now."""
        link = {"sequence": self.capsule.sequence, "previous_hash": self.capsule.previous_hash}
        return f"{self.text[:-1]}, {json.dumps(link)[1:]}"


def draft(capsule: Capsule) -> Draft:
    """Check a capsule, which MUST NOT change any more, before the chain is locked.

    Raises:
        CapsuleRejected: it is not JSON, changes on the way through JSON, or could not be loaded.

    """
    if reason := _misfit(capsule):
        raise CapsuleRejected(str(capsule.id), reason)
    try:
        content = capsule.to_dict()
        del content["sequence"], content["previous_hash"]
        text = json.dumps(content)
        stored = json.loads(text)
        # equality settles nearly all; tuples and NaN differ from themselves and yet hash alike
        faithful = stored == content or compute_hash(stored) == compute_hash(content)
        if "\\ud" in text:  # half of a character outside the BMP; alone, it is no Unicode
            json.dumps(content, ensure_ascii=False).encode()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise CapsuleRejected(str(capsule.id), reason) from error
    if not faithful:
        raise CapsuleRejected(str(capsule.id), "its content is not the same after JSON")
    return Draft(capsule, text)


def unseal(capsule: Capsule) -> None:
    """Take link and seal off again, so that the next attempt starts clean."""
    capsule.sequence, capsule.previous_hash = 0, None
    capsule.hash = capsule.signature = capsule.signature_pq = capsule.signed_by = ""
    capsule.signed_at = None


def _misfit(capsule: Capsule) -> str | None:
    """Say what would keep every reader from loading this capsule, and with it the whole chain."""
    fields: tuple[tuple[str, object, Any], ...] = (
        ("id", capsule.id, UUID),
        ("parent_id", capsule.parent_id, UUID | None),
        ("type", capsule.type, CapsuleType),
        ("domain", capsule.domain, str | None),
        ("session_id", getattr(capsule.context, "session_id", None), str | None),
    )
    for name, value, expected in fields:
        if not isinstance(value, expected):
            return f"its {name} is of type {type(value).__name__}, not {expected}"
    return None

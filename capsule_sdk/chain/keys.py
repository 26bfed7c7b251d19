"""The signing key: made once, whole, for its owner only, however many processes start together.

qp-capsule looks whether the key file is there and writes it if not. Two processes that start
together both write, and the one that lost goes on signing with a key that nobody can look up. So
the key is made here, before ``Seal`` looks, and these hold:

- An existing key MUST NOT be overwritten, whatever is in it.
- A key file MUST appear whole and synced, or not at all, and one process alone can put it in its
  place: `capsule_sdk.chain.placing` says how.
- A key MUST be safe on disk before anything is signed with it.
- A key that signs MUST stay in its place, or be put back: a chain whose key is nowhere cannot be checked.
- Where a keyring lies beside the key, it MUST know the key: a rotation keeps the public half of
  those keys only, and everything signed with another could not be verified again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey
from qp_capsule import Keyring, KeyringError

from capsule_sdk.clocks import monotonic
from capsule_sdk.errors import ConfigurationError
from capsule_sdk.logs import tell_once
from capsule_sdk.owners import open_to_others, refuse_planted, resolved

from .placing import make_private_directory, put_new, sync_directory

__all__ = ["FileState", "ensure_key", "is_known", "keep_key", "read_key", "state_of"]

FileState = tuple[int, int, int, int]

KEY_BYTES: Final = 32  # an Ed25519 seed, RFC 8032
_ROTATION_GRACE = (
    0.25  # seconds: `capsule keys rotate` truncates the file, writes it, then the keyring
)


def ensure_key(path: str | os.PathLike[str]) -> None:
    """See to it that a usable Ed25519 key lies at ``path``, and that a keyring beside it knows it.

    Raises:
        ConfigurationError: the file is no key, or the keyring cannot be read.
        OSError: the key cannot be read or created, or somebody else may have laid it there.

    """
    path = Path(path)
    make_private_directory(path.parent)
    resolved(path)  # over no link of somebody else's
    refuse_planted(path)
    if not path.exists():
        put_new(path, secrets.token_bytes(KEY_BYTES))
    sync_directory(path.parent)  # also after another process, which may not have come so far
    _register(read_key(path), path)
    if how := open_to_others(path):
        problem = f"{path} {how}, who can seal with it: chmod go= {shlex.quote(str(path))}"
        tell_once("warning", "the signing key is open to others", problem=problem)


def read_key(path: str | os.PathLike[str]) -> SigningKey:
    """Return the key that lies at ``path``; none is made.

    Raises:
        ConfigurationError: the file is no key.
        OSError: there is none, or it cannot be read.

    """
    path = Path(path)
    deadline = monotonic() + _ROTATION_GRACE
    while len(content := path.read_bytes()) != KEY_BYTES:
        if monotonic() > deadline:
            raise ConfigurationError(
                f"{path} holds {len(content)} bytes, and an Ed25519 key has {KEY_BYTES}: put it"
                " back from your backup; or, if there is none, move the file aside and a new key"
                " is made (to verify what the old one signed, its public key is needed then)"
            )
        time.sleep(0.01)
    return SigningKey(content)


def keep_key(path: Path, key: SigningKey) -> bool:
    """Put a key that is in use back if there is none at ``path``; return whether it had to be.

    Raises:
        OSError: it cannot be written.

    """
    if path.exists():
        return False
    make_private_directory(path.parent)
    put_new(path, bytes(key))
    sync_directory(path.parent)
    return read_key(path) == key


def is_known(path: Path, public_key: str) -> bool:
    """Tell whether the key at ``path``, or the keyring beside it, is the one of a public key in hexadecimal.

    Raises:
        OSError: one of them cannot be read.

    """
    deadline = monotonic() + _ROTATION_GRACE
    while public_key not in _public_keys(path):
        if monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _public_keys(path: Path) -> set[str]:
    known = set()
    with contextlib.suppress(ConfigurationError):
        known.add(read_key(path).verify_key.encode().hex())
    ring = path.with_name("keyring.json")
    if ring.exists():
        with contextlib.suppress(KeyringError, LookupError, TypeError, AttributeError):
            epochs = Keyring(keyring_path=ring, key_path=path).epochs
            known.update(epoch.public_key_hex for epoch in epochs)
    return known


def state_of(path: Path) -> FileState | None:
    """Return what changes with a file that is replaced or written to; ``None`` where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _register(key: SigningKey, path: Path) -> None:
    ring = path.with_name("keyring.json")
    if not ring.exists():
        return
    keyring = Keyring(keyring_path=ring, key_path=path)
    public = key.verify_key.encode().hex()
    try:
        if any(epoch.public_key_hex == public for epoch in keyring.epochs):
            return
        for epoch in keyring.epochs:  # register_key leaves a second active epoch behind
            if epoch.status == "active":
                epoch.status, epoch.rotated_at = "retired", datetime.now(UTC).isoformat()
        keyring.register_key(key)
    except (KeyringError, LookupError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{ring} cannot be read as a keyring ({error}): put it back from your backup, or move"
            " it aside; the key itself is not affected"
        ) from error

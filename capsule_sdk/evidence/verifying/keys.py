"""Public keys to check signatures with: given, or those of the keyring on this machine. Read, never made.

A record names its signer by four or sixteen hexadecimal digits, outside its hash. That is a hint where to
begin; what counts is which key the signature fits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from nacl.signing import SigningKey
from qp_capsule.paths import default_key_path, default_keyring_path

from capsule_sdk.chain.location import default_path
from capsule_sdk.errors import ConfigurationError, EvidenceError

from .brought import IN_THE_FILE, Brought
from .record import PublicKey

__all__ = ["TrustedKey", "embedded_key", "given_keys", "keys_here"]

_BYTES = 32  # RFC 8032
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
_LONGEST = 1 << 20  # bytes of a file that holds keys


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """An Ed25519 public key, and who brought it.

    Attributes:
        public_key: in hexadecimal.
        origin: where it is from, in words.
        brought: by whom; one that the file brought is trusted by nobody but the file.
        retired: whether a keyring says that it is no longer in use.

    """

    public_key: str
    origin: str
    brought: Brought
    retired: bool = False

    @property
    def name(self) -> str:
        """What records call it: the name that qp-capsule's keyring gives it."""
        return f"qp_key_{self.public_key[:4]}"

    def for_checking(self) -> PublicKey:
        """Return it as the check of one record takes it."""
        names = (self.name, self.public_key[:16])
        return PublicKey(bytes.fromhex(self.public_key), names, unnamed=not self.retired)


def given_keys(texts: Iterable[str], files: Iterable[Path] = ()) -> list[TrustedKey]:
    """Return the keys that somebody gave.

    Args:
        texts: in hexadecimal.
        files: each holds one, in hexadecimal, or all those of a keyring (`capsuled keys export`).

    Raises:
        EvidenceError: one of them is no key, or a file cannot be read.

    """
    keys = [_key(text, "given") for text in texts]
    for path in files:
        keys += _keys_in(path)
    # Where two machines differ on one key, it counts as in use.
    keys.sort(key=lambda key: not key.retired)
    return list({key.public_key: key for key in keys}.values())


def keys_here() -> list[TrustedKey]:
    """Return the keys that qp-capsule keeps on this machine: those of the keyring, and the one in use.

    Raises:
        EvidenceError: keyring or key cannot be read.

    """
    try:
        ring, key = default_path(default_keyring_path), default_path(default_key_path)
    except ConfigurationError as error:
        raise EvidenceError(str(error)) from error
    in_use = _in_use(key)
    current = {one.public_key for one in in_use}
    ring_keys = _in_keyring(ring)
    if in_use:
        ring_keys = [replace(one, retired=one.public_key not in current) for one in ring_keys]
    return list({one.public_key: one for one in [*in_use, *ring_keys]}.values())


def embedded_key(text: str) -> TrustedKey:
    """Return a key that lies in the file that is judged.

    Raises:
        EvidenceError: it is no key.

    """
    return replace(_key(text, IN_THE_FILE), brought=Brought.EMBEDDED)


def _key(text: str, origin: str) -> TrustedKey:
    try:
        raw = bytes.fromhex(text.strip())
    except ValueError:
        raw = b""
    if len(raw) != _BYTES:
        raise EvidenceError(
            f"{text.strip()[:80]!r} is not an Ed25519 public key: give its 32 bytes as 64 hexadecimal digits"
            " (`capsuled keys export` writes a file of them, for --pubkey-file)"
        )
    return TrustedKey(raw.hex(), origin, Brought.KEPT)


def _keys_in(path: Path) -> list[TrustedKey]:
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST).decode("utf-8", "replace").removeprefix("\ufeff").strip()
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        if text.startswith("{"):
            return _epochs(text, f"given in {path}")
        return [_key(text, f"given in {path}")]
    except _MALFORMED:  # what it holds may be the private key, and is not repeated
        raise EvidenceError(
            f"{path} holds neither a public key in 64 hexadecimal digits nor what `capsuled keys export` writes"
        ) from None


def _epochs(text: str, origin: str) -> list[TrustedKey]:
    """Return the keys of a keyring, and whether it says that they are in use."""
    epochs = json.loads(text)["epochs"]
    return [
        replace(
            _key(one["public_key_hex"], f"{origin}, epoch {one['epoch']}"),
            retired=one.get("status") == "retired",
        )
        for one in epochs
    ]


def _in_keyring(path: Path) -> list[TrustedKey]:
    try:
        return _epochs(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        return []
    except (OSError, *_MALFORMED) as error:
        raise EvidenceError(f"{path} cannot be read as a keyring: {error}") from error


def _in_use(path: Path) -> list[TrustedKey]:
    try:
        key = SigningKey(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:  # ValueError: nacl's own is one
        raise EvidenceError(f"{path} cannot be read as a key: {error}") from error
    return [TrustedKey(key.verify_key.encode().hex(), str(path), Brought.KEPT)]

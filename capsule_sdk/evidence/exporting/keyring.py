"""The public keys of this machine in the form of qp-capsule's keyring, which holds no private key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from qp_capsule.paths import default_keyring_path

from ..verifying.keys import TrustedKey, keys_here

__all__ = ["keyring_here"]

_VERSION: Final = 1
#: What goes along of an epoch, whatever else stands in the keyring.
_FIELDS = (
    "epoch",
    "algorithm",
    "public_key_hex",
    "fingerprint",
    "created_at",
    "rotated_at",
    "status",
)


def keyring_here() -> dict[str, Any]:
    """Return the keys of all epochs, and the one in use also where no keyring knows it.

    Raises:
        EvidenceError: keyring or key cannot be read.

    """
    keys = {key.public_key: key for key in keys_here()}
    epochs = []
    for known in _epochs():
        key = keys.pop(str(known["public_key_hex"]).lower(), None)
        if key is not None:  # else it stands there twice
            status = "retired" if key.retired else "active"
            epochs.append({**{field: known.get(field) for field in _FIELDS}, "status": status})
    for key in keys.values():
        numbers = [one["epoch"] for one in epochs if isinstance(one["epoch"], int)]
        epochs.append(_unknown(key, max(numbers, default=-1) + 1))
    active = [one["epoch"] for one in epochs if one["status"] == "active"]
    return {"version": _VERSION, "active_epoch": active[-1] if active else 0, "epochs": epochs}


def _epochs() -> list[dict[str, Any]]:
    """Return what the keyring has; `keys_here` has looked whether it is one."""
    ring = Path(default_keyring_path())
    epochs: list[dict[str, Any]] = (
        json.loads(ring.read_text("utf-8"))["epochs"] if ring.exists() else []
    )
    return epochs


def _unknown(key: TrustedKey, number: int) -> dict[str, Any]:
    """Return the epoch of a key that no keyring knows; nobody knows since when there is one."""
    return {
        "epoch": number,
        "algorithm": "ed25519",
        "public_key_hex": key.public_key,
        "fingerprint": key.name,
        "created_at": "",
        "rotated_at": None,
        "status": "retired" if key.retired else "active",
    }

"""What a file brings with it to check it by: keys and checkpoints in the manifest of a bundle or a report.

A reader checks what it can: that the records are sealed, that a task is whole, that a checkpoint fits. The keys
are a convenience: a reader who trusts them trusts whoever made the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from capsule_sdk.chain.checkpoint import parse
from capsule_sdk.errors import EvidenceError

from .checkpoints import KnownCheckpoint
from .keys import IN_THE_FILE, TrustedKey, given_keys

__all__ = ["checkpoints_in", "keys_in"]

_MOST: Final = 1_000  # keys or checkpoints


def keys_in(manifest: Mapping[str, Any]) -> list[TrustedKey]:
    """Return the keys that lie in a file beside its records.

    Raises:
        EvidenceError: one of them is no key.

    """
    found = [one.get("public_key") for one in _list(manifest, "keys") if isinstance(one, Mapping)]
    return given_keys((key for key in found if isinstance(key, str)), origin=IN_THE_FILE)


def checkpoints_in(manifest: Mapping[str, Any]) -> list[KnownCheckpoint]:
    """Return the checkpoints that lie in a file beside its records.

    Raises:
        EvidenceError: one of them is not a checkpoint.

    """
    texts = [text for text in _list(manifest, "checkpoints") if isinstance(text, str)]
    return [KnownCheckpoint(parse(text), IN_THE_FILE, text) for text in texts]


def _list(manifest: Mapping[str, Any], name: str) -> list[Any]:
    value = manifest.get(name)
    found = value if isinstance(value, list) else []
    if len(found) > _MOST:
        raise EvidenceError(f"its manifest names more than {_MOST} {name}: nobody has so many")
    return found

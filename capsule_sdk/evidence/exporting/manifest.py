"""The manifest: what a bundle or a report says of itself. Nothing in it is proven by its standing there.

A reader checks what it can: that the records are sealed, that a task is whole, that a checkpoint fits. The keys
in it are a convenience: a reader who trusts them trusts whoever made the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any, Final

from capsule_sdk import __version__
from capsule_sdk.chain.checkpoint import parse
from capsule_sdk.chain.location import is_postgresql
from capsule_sdk.errors import EvidenceError

from ..selection import Selection
from ..verifying.checkpoints import KnownCheckpoint
from ..verifying.keys import IN_THE_FILE, TrustedKey, given_keys

__all__ = ["BUNDLE", "REPORT", "checkpoints_in", "keys_in", "manifest_of"]

BUNDLE: Final = "capsuled bundle 1"
REPORT: Final = "capsuled report 1"
_MOST: Final = 1_000  # keys or checkpoints


def manifest_of(
    kind: str,
    *,
    source: str,
    made_at: datetime,
    selection: Selection,
    keys: Sequence[TrustedKey],
    checkpoints: Sequence[KnownCheckpoint],
) -> dict[str, Any]:
    """Return a manifest.

    Args:
        kind: `BUNDLE` or `REPORT`.
        source: the source, as messages show it; only the last part of a path goes in.
        made_at: when the file was made.
        selection: which records of the chain are in it.
        keys: public keys that its records are said to be sealed with.
        checkpoints: what the chain is known to have been.

    """
    return {
        "format": kind,
        "made_at": made_at.isoformat(),
        "made_by": f"capsuled {__version__}",
        "source": source if is_postgresql(source) else PurePath(source).name,
        "selection": selection.claim(),
        "keys": [{"public_key": key.public_key, "name": key.name} for key in keys],
        "checkpoints": [known.text for known in checkpoints],
    }


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
        EvidenceError: one of them is no checkpoint.

    """
    texts = [text for text in _list(manifest, "checkpoints") if isinstance(text, str)]
    return [KnownCheckpoint(parse(text), IN_THE_FILE, text) for text in texts]


def _list(manifest: Mapping[str, Any], name: str) -> list[Any]:
    value = manifest.get(name)
    found = value if isinstance(value, list) else []
    if len(found) > _MOST:
        raise EvidenceError(f"its manifest names more than {_MOST} {name}: nobody has so many")
    return found

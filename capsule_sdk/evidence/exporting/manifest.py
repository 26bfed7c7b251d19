"""The manifest: what a bundle or a report says of itself. Nothing in it is proven by its standing there.

How it is read again is in `capsule_sdk.evidence.verifying.grounds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any, Final

from capsule_sdk import __version__
from capsule_sdk.chain.location import is_postgresql

from ..selection import Selection
from ..verifying.checkpoints import KnownCheckpoint
from ..verifying.keys import TrustedKey

__all__ = ["BUNDLE", "REPORT", "manifest_of"]

BUNDLE: Final = "capsuled bundle 1"
REPORT: Final = "capsuled report 1"


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

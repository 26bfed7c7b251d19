"""Where the journals of a chain are: where they belong, and where else what cannot lie there may be.

It imports qp-capsule, whose data directory counts.
"""

from __future__ import annotations

import os
from pathlib import Path

from qp_capsule.paths import default_db_path

from ..chain.location import default_path
from ..journal.location import elsewhere, instead, journal_root

__all__ = ["elsewhere_of", "instead_of", "journals_of"]


def journals_of(identity: str, chosen: str | os.PathLike[str] | None = None) -> Path:
    """Return the directory of the journals of one chain; ``chosen`` is where the user wants those of all."""
    default = default_path(default_db_path).parent
    return journal_root(identity, default, None if chosen is None else Path(chosen))


def elsewhere_of(root: Path) -> list[Path]:
    """Return where it is left what could not be written to the journals in ``root``."""
    return elsewhere(root, _data_directory())


def instead_of(root: Path) -> list[Path]:
    """Return where journals are kept that others could change in ``root``."""
    return instead(root, _data_directory())


def _data_directory() -> Path | None:
    try:
        return default_db_path().parent
    except Exception:  # noqa: BLE001 - nobody knows whose home this is
        return None

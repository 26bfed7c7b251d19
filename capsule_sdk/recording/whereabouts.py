"""Where the journals of a chain are: where they belong, and where else what cannot lie there may be.

It imports qp-capsule, whose data directory counts. That may be in a home which nobody knows (a container that
runs under a number without a name), or in one that cannot be written. What such processes leave is found by
whoever records for the same store later with a data directory that can be used, wherever that one is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from qp_capsule.paths import default_db_path

from ..chain.location import default_path
from ..errors import ConfigurationError
from ..journal import temporary
from ..journal.location import (
    elsewhere,
    homeless,
    homeless_name,
    instead,
    is_homeless,
    journal_root,
    name_of_root,
    plain_name,
)

__all__ = ["elsewhere_of", "instead_of", "journals_of", "labels_of", "why_homeless"]

#: The name of qp-capsule's own database.
_DEFAULT = "sqlite:///capsules.db"


def journals_of(identity: Callable[[], str], chosen: str | os.PathLike[str] | None = None) -> Path:
    """Return the directory of the journals of one chain.

    Args:
        identity: names the store; raises `ConfigurationError` where that has no place.
        chosen: where the user wants the journals of all chains.

    """
    directory = None if chosen is None else Path(chosen)
    try:
        named = identity()
        return journal_root(named, default_path(default_db_path).parent, directory)
    except ConfigurationError:
        named = _named(identity)
        if directory is not None or named.startswith("sqlite:////"):
            return journal_root(named, Path(), directory)
        name = homeless_name(name_of_root(named))
        return temporary.own_places(name, make=True)[0]


def _named(identity: Callable[[], str]) -> str:
    try:
        return identity()
    except ConfigurationError:
        return _DEFAULT


def why_homeless(root: Path) -> str | None:
    """Return why journals are in ``root`` that belong elsewhere; ``None`` where they belong there."""
    if is_homeless(root):
        try:
            default_path(default_db_path)
        except ConfigurationError as error:
            return str(error)
    return None


def labels_of(root: Path) -> list[Path]:
    """Return what the journals of ``root`` go by elsewhere: those of this process first."""
    if is_homeless(root):
        return [homeless(plain_name(root))]
    data = _data_directory()
    if data is None or os.path.realpath(root.parent) != os.path.realpath(data / "journal"):
        return [root]
    labels = [root, homeless(root.name)]
    return labels if os.environ.get("QUANTUMPIPES_DATA_DIR") else labels[::-1]


def elsewhere_of(root: Path) -> list[Path]:
    """Return where it is left what could not be written to the journals in ``root``."""
    return elsewhere(root, _data_directory())


def instead_of(root: Path, *, make: bool = False) -> list[Path]:
    """Return where journals are kept that cannot lie in ``root``, or that others could change there.

    With ``make``, where this process can keep its own.
    """
    labels = labels_of(root)
    return instead(root, labels[:1] if make else labels, _data_directory(), make=make)


def _data_directory() -> Path | None:
    try:
        return default_db_path().parent
    except Exception:  # noqa: BLE001 - nobody knows whose home this is
        return None

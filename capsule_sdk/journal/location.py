"""Where the journals of a chain lie, and where those go that cannot lie there.

The journals of a SQLite file lie beside it, so that they move with it; those of every other store in
qp-capsule's data directory. A directory for each chain keeps apart what must not be mixed; of a storage
that is not qp-capsule's own, only the class has a name that lasts, so all its instances share one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import sha3_256
from pathlib import Path

from . import temporary

__all__ = [
    "elsewhere",
    "homeless",
    "homeless_name",
    "instead",
    "is_homeless",
    "journal_root",
    "mark_of",
    "name_of_root",
    "plain_name",
]

_SQLITE, _STORAGE = "sqlite:///", "storage:"
#: How the name of a directory begins that journals are in which could not lie where they belong.
_MARKED = re.compile(r"^[0-9a-f]{16}-(?=.+\.records$)")


def journal_root(identity: str, data_directory: Path, chosen: Path | None = None) -> Path:
    """Return the directory of the journals of one chain.

    Args:
        identity: names the store of the chain.
        data_directory: qp-capsule's.
        chosen: where the user wants the journals of all chains instead.

    """
    name = name_of_root(identity)
    if chosen is not None and _MARKED.match(chosen.name):
        return chosen  # where journals were left: bring these in
    if identity.startswith(_SQLITE) and chosen is None:
        return Path(identity.removeprefix(_SQLITE)).parent / "journal" / name
    return (chosen or data_directory / "journal") / name


def name_of_root(identity: str) -> str:
    """Return the name of that directory."""
    if identity.startswith(_SQLITE):
        return f"{Path(identity.removeprefix(_SQLITE)).name}.records"
    if identity.startswith(_STORAGE):  # the number of the object is another one in the next process
        identity = identity.rpartition(":")[0]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", identity).strip("-")
    return f"{name}.records"


def elsewhere(root: Path, data_directory: Path | None) -> list[Path]:
    """Return where it is left what could not be written to the journals in ``root``, first choice first.

    Beside the store, in the directory of all journals, in qp-capsule's own, and at last in those for what is
    temporary: only ids lie there, nothing that was asked or answered.
    """
    beside = [root.parent.parent] if root.parent.name == "journal" else []
    places = [*beside, root.parent, *([data_directory] if data_directory is not None else [])]
    return list(dict.fromkeys([*places, *temporary.directories()]))


def instead(
    root: Path, labels: Sequence[Path], data_directory: Path | None, *, make: bool = False
) -> list[Path]:
    """Return where journals go that cannot lie in ``root``, or that others could change there.

    In qp-capsule's data directory, and at last in this user's own among what is temporary.

    Args:
        root: the directory of the journals of one chain.
        labels: what they go by elsewhere; see `mark_of`.
        data_directory: qp-capsule's.
        make: whether to name also places that can be made.

    """
    places: list[Path] = []
    names = [f"{mark_of(label)}-{plain_name(root)}" for label in labels]
    for name in names:
        places += [] if data_directory is None else [data_directory / "journal" / name]
    for name in names:
        places += temporary.own_places(name, make=make)
    return [place for place in dict.fromkeys(places) if place != root]


def homeless(name: str) -> Path:
    """Return what journals go by that belong into a home directory which cannot be used, or is not known.

    It leads nowhere: whoever records for the same store with a home that can be used looks for it as well.
    """
    return Path("~", name)


def is_homeless(root: Path) -> bool:
    """Tell whether a directory is such a one's, among what is temporary."""
    return root.name == homeless_name(plain_name(root))


def homeless_name(name: str) -> str:
    """Return the name of the directory of such journals."""
    return f"{mark_of(homeless(name))}-{name}"


def plain_name(root: Path) -> str:
    """Return the name of the directory where the journals belong, of one that may be elsewhere."""
    return _MARKED.sub("", root.name)


def mark_of(root: Path) -> str:
    """Return what stands for the journals of ``root`` in a name elsewhere."""
    return sha3_256(os.fsencode(root)).hexdigest()[:16]

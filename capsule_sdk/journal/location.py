"""Where the journals of a chain lie, and where those go that cannot lie there. Pure.

The journals of a SQLite file lie beside it, so that they move with it; those of every other store in
qp-capsule's data directory. A directory for each chain keeps apart what must not be mixed; of a storage
that is not qp-capsule's own, only the class has a name that lasts, so all its instances share one.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from hashlib import sha3_256
from pathlib import Path

__all__ = ["elsewhere", "instead", "journal_root", "mark_of"]

_SQLITE, _STORAGE = "sqlite:///", "storage:"


def journal_root(identity: str, data_directory: Path, chosen: Path | None = None) -> Path:
    """Return the directory of the journals of one chain.

    Args:
        identity: names the store of the chain.
        data_directory: qp-capsule's.
        chosen: where the user wants the journals of all chains instead.

    """
    if identity.startswith(_SQLITE):
        path = Path(identity.removeprefix(_SQLITE))
        return (chosen or path.parent / "journal") / f"{path.name}.records"
    if identity.startswith(_STORAGE):  # the number of the object is another one in the next process
        identity = identity.rpartition(":")[0]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", identity).strip("-")
    return (chosen or data_directory / "journal") / f"{name}.records"


def elsewhere(root: Path, data_directory: Path | None) -> list[Path]:
    """Return where it is left what could not be written to the journals in ``root``, first choice first.

    Beside the store, in the directory of all journals, in qp-capsule's own, and at last in that for what is
    temporary: only ids lie there, nothing that was asked or answered.
    """
    beside = [root.parent.parent] if root.parent.name == "journal" else []
    places = [*beside, root.parent, *([data_directory] if data_directory is not None else [])]
    with suppress(OSError):  # nothing at all can be written
        places.append(Path(tempfile.gettempdir()))
    return list(dict.fromkeys(places))


def instead(root: Path, data_directory: Path | None) -> list[Path]:
    """Return where journals go that others could change in ``root``, first choice first.

    In qp-capsule's data directory, and at last in that for what is temporary.
    """
    name = f"{mark_of(root)}-{root.name}"
    places = [] if data_directory is None else [data_directory / "journal" / name]
    with suppress(OSError):
        places.append(Path(tempfile.gettempdir()) / f"capsule_sdk-{os.geteuid()}" / name)
    return places


def mark_of(root: Path) -> str:
    """Return what stands for the journals of ``root`` in a name elsewhere."""
    return sha3_256(os.fsencode(root)).hexdigest()[:16]

"""What lies in a directory of journals: names of files, and looks at them. It holds and removes nothing.

All goes by the descriptors of `capsule_sdk.directories`. Paths are for messages.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..directories import Held, open_directory, open_if_any

__all__ = [
    "BACKLOG",
    "DAMAGED",
    "GAPS",
    "RECORDS",
    "UNWRITTEN",
    "backlog_in",
    "gaps_in",
    "homes",
    "is_same",
    "leads_to",
    "reading",
    "records_in",
    "set_aside_in",
    "size_of",
]

RECORDS, BACKLOG = "records-", "backlog-"
DAMAGED, GAPS = "damaged", "gaps"
#: The file of what could not be written.
UNWRITTEN = "unwritten"


def is_same(one: os.stat_result, other: os.stat_result) -> bool:
    """Tell whether both are of one file."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def leads_to(path: Path, held: os.stat_result) -> bool | None:
    """Tell whether a path leads to what is held; ``None`` where nobody can look."""
    try:
        return is_same(path.lstat(), held)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        return False if error.errno == errno.ELOOP or not held.st_nlink else None


def gaps_in(directory: Held) -> list[str]:
    """Return what the process of a directory said that it cannot record as it should."""
    try:
        with os.fdopen(directory.open(GAPS), encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def reading(directory: Held, name: str) -> BinaryIO:
    """Open a file of a journal to read it.

    Raises:
        UnsafeError: it is a link, no file, or not this user's alone.
        OSError: it cannot be read.

    """
    return os.fdopen(directory.open(name), "rb")


def records_in(directory: Held) -> list[str]:
    """Return the files of records, oldest first."""
    return directory.names(RECORDS)


def backlog_in(directory: Held) -> list[str]:
    """Return the files of capsules that wait for the store, oldest first."""
    return directory.names(BACKLOG)


def set_aside_in(root: Path) -> list[Path]:
    """Return the directories that are kept because they are damaged."""
    with contextlib.suppress(OSError):
        held = open_directory(root / DAMAGED)
        try:
            return [held.path / name for name in held.names()]
        finally:
            held.close()
    return []


def homes(root: Path | Held) -> Iterator[Path]:
    """Yield the directories of all processes that have a journal here, oldest first; and links in their place.

    Raises:
        UnsafeError: ``root`` is not this user's alone.
        OSError: it cannot be read.

    """
    if isinstance(root, Held):
        yield from _homes(root)
        return
    held = open_if_any(root)
    if held is None:
        return
    try:
        found = list(_homes(held))
    finally:
        held.close()
    yield from found


def _homes(root: Held) -> Iterator[Path]:
    for name in root.names():
        if name != DAMAGED and not name.startswith("."):
            with contextlib.suppress(FileNotFoundError):
                mode = root.look(name).st_mode
                if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
                    yield root.path / name


def size_of(directory: Held) -> int:
    """Return how many bytes lie in a directory, as far as that can be told; room that was taken is none."""
    total = 0
    with contextlib.suppress(OSError):
        for name in directory.names():
            with contextlib.suppress(OSError):
                total += directory.look(name).st_size if name != UNWRITTEN else 0
    return total

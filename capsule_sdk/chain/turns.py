"""Turns: of all processes that wait to write one SQLite file, one tries its lock, the others wait behind it.

SQLite has no queue. A hundred processes that each try the lock every millisecond leave no processor time to
the one that holds it, and none of them comes to write. So whoever wants to write takes the turn first, a
`flock` on the directory of the file, and gives it back as soon as SQLite's own lock is his.

It orders, and excludes nobody: SQLite's lock alone does. Where a directory cannot be locked (some network
shares), or somebody keeps it locked, all goes on without.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from capsule_sdk.clocks import monotonic
from capsule_sdk.directories import ours

__all__ = ["turn"]

#: Seconds between two looks whether it is one's turn: as long for all, so that nobody has a better chance. The
#: turn passes on while its last owner writes, so this delays no commit.
_LOOK: Final = 0.004


@contextlib.contextmanager
def turn(directory: Path, patience: float) -> Iterator[None]:
    """Wait for the turn, ``patience`` seconds at most, and have it meanwhile; go on without it after that."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    ours.add(descriptor)  # or a forked child would keep the turn
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            _take(descriptor, monotonic() + patience)
        yield
    finally:
        if descriptor in ours:
            ours.discard(descriptor)
            os.close(descriptor)  # gives it back, too


def _take(descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() >= deadline:
                return
        else:
            return
        time.sleep(_LOOK * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

"""Privacy: who else can read or write the files of a chain, which hold prompts and answers, and its key.

What is made here is its owner's alone. What a user has made, or has opened to others, keeps its mode: that may
be meant so; it is said once. SQLite gives the files beside a database the mode that this one has.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import Final

from capsule_sdk.errors import ChainUnavailable
from capsule_sdk.logs import tell_once
from capsule_sdk.owners import open_to_others, refuse_planted

from .placing import put_new

__all__ = ["make_private_file", "openness", "tell_openness"]

_BESIDE: Final = ("-wal", "-shm", "-journal")


def make_private_file(path: Path) -> None:
    """See to it that a database is its owner's alone where there was none, and that nobody has laid it here.

    SQLite creates what the umask gives. The file MUST NOT be opened other than through SQLite, so an empty
    one is put in its place that was closed before.

    Raises:
        ChainUnavailable: it, or a file beside it that SQLite would write to, may be another user's trap.

    """
    for one in (path, *(_beside(path, ending) for ending in _BESIDE)):
        try:
            refuse_planted(one)
        except OSError as error:
            raise ChainUnavailable(str(error)) from error
        if one.is_symlink():
            raise ChainUnavailable(
                f"{one} is a symbolic link, and SQLite would write through it: remove it"
            )
    with suppress(OSError):  # SQLite says better why it cannot be made
        if not path.exists():
            put_new(path, b"")


def openness(path: Path) -> tuple[str, ...]:
    """Return a sentence on who else can read or write a database, and what to type; none where nobody can."""
    for one in (path, *(_beside(path, ending) for ending in _BESIDE)):
        with suppress(OSError):
            if how := open_to_others(one):
                todo = f"chmod go= {shlex.quote(str(path))}*"
                return (f"{one} {how}, and prompts and answers are in it: {todo}",)
    return ()


def tell_openness(path: Path) -> None:
    """Log that a database is open to others, once in a process."""
    for sentence in openness(path):
        tell_once("warning", "the database is open to others", problem=sentence)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)

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
from capsule_sdk.owners import open_to_others, owner_if_another, refuse_planted

from .placing import make_private_directory, put_new

__all__ = ["make_directory_of", "make_private_file", "openness", "remedy", "tell_openness"]

_BESIDE: Final = ("-wal", "-shm", "-journal")
#: For who comes second; decision 24.
_TEAM: Final = (
    "a SQLite file, its key and its journals are one user's. A team records to PostgreSQL"
    " (CAPSULE_SDK_URL=postgresql://...), each user to a file of their own (CAPSULE_SDK_URL=/a/path.db), or"
    " all of them through one service user; see 'Teams' in docs/operations.md"
)


#: Which variables say where a database is.
_VARIABLES: Final = "CAPSULE_SDK_URL, or QUANTUMPIPES_DATA_DIR for chain, key and journals"


def make_directory_of(path: Path, variables: str = _VARIABLES) -> None:
    """See to it that the directory of a database or a key is there.

    Raises:
        ChainUnavailable: it cannot be made; the text says which variable names another.

    """
    try:
        make_private_directory(path.parent)
    except OSError as error:
        raise ChainUnavailable(
            f"{path.parent} cannot be made: {error.strerror or error}; {remedy(path, variables)}"
        ) from error


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
            raise ChainUnavailable(f"{error}; {remedy(one)}") from error
        if one.is_symlink():
            raise ChainUnavailable(
                f"{one} is a symbolic link, and SQLite would write through it: remove it"
            )
    with suppress(OSError):  # SQLite says better why it cannot be made
        if not path.exists():
            put_new(path, b"")


def remedy(path: Path, variables: str = _VARIABLES) -> str:
    """Say what to do where this user cannot use a database or a key.

    Args:
        path: the file.
        variables: which name another place for it.

    """
    if owner := owner_if_another(path):
        return f"it belongs to {owner}, and {_TEAM}"
    return (
        "this user needs the right to write it and its directory; give it, or name a place that this process"
        f" can write with {variables}"
    )


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

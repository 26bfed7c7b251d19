"""Temporary: this user's own directories among what is temporary, for records that nothing else takes.

Anybody may make a name there first, also the one that this user would take. So:

- What is another user's MUST be passed over: it is neither believed nor complained of, or anybody could have
  ``capsuled status`` fail.
- What lies there MUST be found again: the name begins with the user's number, and whose it is gets looked at.
- There MUST NOT be more and more of them: one that is there is used again.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..owners import acting_uid

__all__ = ["COMMON", "directories", "own_places"]

#: Where others look who have another ``TMPDIR``.
COMMON: Final = [Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - only what is this user's is used there
#: How many directories of this user there may be in one of them before no other is made.
_MOST: Final = 8


def directories() -> list[Path]:
    """Return the directories for what is temporary, first choice first."""
    found: list[Path] = []
    with suppress(OSError):  # nothing at all can be written
        found.append(Path(tempfile.gettempdir()))
    return list(dict.fromkeys([*found, *COMMON]))


def own_places(name: str, *, make: bool = False) -> list[Path]:
    """Return the places of this name in this user's own directories, first choice first.

    Args:
        name: of the place.
        make: whether to name also those that can be made, the last of them under a name that nobody can guess.

    """
    places: list[Path] = []
    for directory in directories():
        first, own = directory / f"capsule_sdk-{acting_uid()}", _own_in(directory)
        if make and not own:
            own.append(first)
        if make and len(own) < _MOST:
            own.append(directory / f"{first.name}-{secrets.token_hex(8)}")
        places += [one / name for one in own]
    return places


def _own_in(directory: Path) -> list[Path]:
    me = acting_uid()
    name, found = f"capsule_sdk-{me}", []
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name == name or entry.name.startswith(f"{name}-"):
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode) and status.st_uid == me:
                        found.append(directory / entry.name)
    return sorted(found)

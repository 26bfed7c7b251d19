"""Checkpoints as files: each appears whole and synced, or not at all.

- A checkpoint MUST NOT be written over one that it contradicts, nor over one of another chain: what was
  signed first is the evidence.
- One that says the same is left as it is: the earlier it was signed, the more it proves.
- A file that is not a checkpoint MUST NOT be written over where the user chose its name.

They are moved to their place, not linked: a checkpoint belongs on another machine's disk, and the file
systems that lead there often have no links.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from capsule_sdk.errors import EvidenceError
from capsule_sdk.owners import give_back

from .checkpoint import NOTE_SIZE, Checkpoint, SignedCheckpoint, parse
from .placing import sync_directory

__all__ = ["SUFFIX", "add_to", "path_in", "put", "read", "sizes_in"]

SUFFIX: Final = ".checkpoint"
_DIGITS: Final = 12  # of a size in a name, so that names are in the order of sizes


def path_in(directory: Path, size: int) -> Path:
    """Return the name of the checkpoint of this size in a directory."""
    return directory / f"{size:0{_DIGITS}}{SUFFIX}"


def sizes_in(directory: Path) -> list[int]:
    """Return the sizes that the names of the checkpoints in a directory say."""
    names = (path.stem for path in directory.glob(f"*{SUFFIX}"))
    return [
        int(name) for name in names if name.isascii() and name.isdigit() and len(name) == _DIGITS
    ]


def add_to(directory: Path, checkpoint: Checkpoint, note: str) -> Path:
    """Keep a checkpoint in a directory under the name of its size, and return the file.

    Raises:
        EvidenceError: one that contradicts it is there, or one of another chain.
        OSError: it cannot be written.

    """
    path = path_in(directory, checkpoint.size)
    try:
        there = read(path)
    except EvidenceError:  # the name is ours: what a file system has torn is written anew
        there = None
    put(path, checkpoint, note, there)
    return path


def put(path: Path, checkpoint: Checkpoint, note: str, there: SignedCheckpoint | None) -> None:
    """Keep a checkpoint in a file, in place of the one that is ``there``.

    Raises:
        EvidenceError: that one contradicts it, or is one of another chain.
        OSError: it cannot be written.

    """
    if there is not None:
        earlier = there.checkpoint
        if earlier.origin != checkpoint.origin:
            raise EvidenceError(
                f"{path} is a checkpoint of another chain and is not overwritten: give each chain a"
                " place of its own"
            )
        if earlier.contradicts(checkpoint):
            raise EvidenceError(
                f"{path} says that the chain had {earlier.size} capsules and ended in {earlier.head},"
                f" and now it has {checkpoint.size} and ends in {checkpoint.head}: it was cut short or"
                " written anew; keep both as evidence"
            )
        if (earlier.size, earlier.head) == (checkpoint.size, checkpoint.head):
            return
    _write(path, note)


def read(path: Path) -> SignedCheckpoint | None:
    """Return the checkpoint in a file, which is not verified by that; ``None`` if there is no file.

    Raises:
        EvidenceError: it is not a checkpoint.
        OSError: it cannot be read.

    """
    if not path.is_file():  # nor a pipe, which somebody put there to be waited for
        return None
    with path.open("rb") as file:
        return parse(file.read(NOTE_SIZE + 1))


def _write(path: Path, note: str) -> None:
    """Put a note at this path, in one step.

    Raises:
        OSError: it cannot be written; what was there is as it was.

    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            give_back(descriptor, 0o600)
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    sync_directory(path.parent)

"""Writing files: one gets the whole of what is written, or keeps what it had; texts go out as they came in."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO

from capsule_sdk.chain.sqlite_reading import is_database
from capsule_sdk.errors import EvidenceError
from capsule_sdk.outward import escaped_json

__all__ = ["as_text", "replacing"]


@contextmanager
def replacing(out: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a path for writing; it changes only when the block ends without an exception.

    A file that is there keeps its mode; a new one is readable by its owner only. What is no regular file, a
    pipe or a device, is written to as it is.

    Raises:
        EvidenceError: it cannot be written, or is a database, which no export may replace.

    """
    path = Path(os.path.realpath(out))
    if path.is_file() and is_database(path):
        raise EvidenceError(
            f"{out} is a database and is not overwritten; to read it, name it as the source (--db)"
        )
    try:
        if path.exists() and not path.is_file():  # a directory fails by itself
            with path.open("wb") as file:
                yield file
        else:
            yield from _beside(path)
    except OSError as error:
        raise EvidenceError(f"{out} cannot be written: {error.strerror or error}") from error


class _Terminal(io.TextIOWrapper):
    """What is shown on a terminal: the same JSON, and nothing in it that steers one."""

    def write(self, text: str, /) -> int:
        return super().write(escaped_json(text))


@contextmanager
def as_text(file: IO[bytes], *, terminal: bool = False) -> Iterator[TextIO]:
    """Write UTF-8 to a file of bytes, which stays open; what was read as no UTF-8 goes out as it was.

    Args:
        file: to write to.
        terminal: somebody looks at it: what could steer a terminal is escaped as JSON has it.

    """
    made = _Terminal if terminal else io.TextIOWrapper
    text = made(file, encoding="utf-8", errors="surrogateescape", newline="\n")
    try:
        yield text
    finally:
        text.detach()


def _beside(path: Path) -> Iterator[IO[bytes]]:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise

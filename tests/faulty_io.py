"""Faulty input and output: the library of `faulty_io.c`, and how a process arms it in itself."""

from __future__ import annotations

import ctypes
import errno
import shutil
import subprocess
from pathlib import Path

__all__ = ["KINDS", "arm", "build", "counts", "heal"]

#: The kinds of calls that are counted, as the library numbers them.
KINDS = ("write", "pwrite", "fsync", "rename", "unlink", "truncate", "create", "mkdir")
_ACTIONS = ("nothing", "kill before", "kill after", "kill halfway", "fail once", "fail on", "half")


def build(directory: Path) -> Path | None:
    """Compile the library for LD_PRELOAD; ``None`` where there is no compiler, or not this kind of system."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/proc/self/fd").is_dir():
        return None
    library = directory / "faulty_io.so"
    source = Path(__file__).with_suffix(".c")
    options = ["-shared", "-fPIC", "-O1", "-U_FORTIFY_SOURCE", "-o", library, source, "-ldl"]
    subprocess.run([compiler, *options], check=True, timeout=60)
    return library


def arm(
    directory: str,
    *,
    kinds: tuple[str, ...] | list[str] = KINDS,
    nth: int = 0,
    action: str = "nothing",
    code: str = "EIO",
) -> None:
    """From now on, count; and at the ``nth`` call of these ``kinds`` below ``directory`` have ``action``
    happen.

    ``fail on`` has that call and all later ones fail with the errno that ``code`` names, until `heal`.
    """
    _library().faulty_arm(
        directory.encode(),
        sum(1 << KINDS.index(kind) for kind in kinds),
        nth,
        _ACTIONS.index(action),
        getattr(errno, code),
    )


def heal() -> None:
    """Let everything work again."""
    _library().faulty_heal()


def counts() -> dict[str, int]:
    """Return how many calls of each kind there were since `arm`."""
    return {kind: _library().faulty_count(number) for number, kind in enumerate(KINDS)}


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.faulty_arm.argtypes = [
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_long,
        *[ctypes.c_int] * 2,
    ]
    library.faulty_count.restype = ctypes.c_long
    return library

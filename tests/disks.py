"""Disks that fill: a small file system of its own where the tests may mount one."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["fill", "free", "full_after", "grow", "small_disk"]

_FILLER = "filler"


@contextlib.contextmanager
def small_disk(place: Path, kibibytes: int) -> Iterator[Path]:
    """Mount a file system of that size; skip where that is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "none", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    """Write until nothing goes any more."""
    descriptor = os.open(disk / _FILLER, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (65_536, 4_096, 512, 1):
            with contextlib.suppress(OSError):
                while os.write(descriptor, b"x" * size):
                    pass
    finally:
        os.close(descriptor)


def free(disk: Path) -> None:
    """Make room again."""
    (disk / _FILLER).unlink(missing_ok=True)


@contextlib.contextmanager
def full_after(path: Path, more: int) -> Iterator[None]:
    """Have this process's files end so many bytes after the end of one, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def grow(disk: Path) -> None:
    """Make more room than there ever was: what is to be recovered needs some, and the chain too."""
    free(disk)
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)

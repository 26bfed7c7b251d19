"""How figures are taken: both sides in turn, several rounds, medians with minimum and maximum."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 7


def alternate(*sides: Callable[[], float], rounds: int = ROUNDS) -> list[list[float]]:
    """Run each side once to warm up, then all in turn; return the figures of each."""
    for side in sides:
        side()
    figures: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, taken in zip(sides, figures, strict=True):
            taken.append(side())
    return figures


def spread(figures: list[float], digits: int = 1) -> str:
    """Return median and range as text."""
    low, middle, high = min(figures), statistics.median(figures), max(figures)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def each(call: Callable[[], object], times: int) -> float:
    """Return the microseconds of one call, over ``times`` calls."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times * 1e6


def fsync_ms(folder: Path) -> float:
    """Return the median milliseconds of 50 times ``write`` + ``fsync`` of 4 kB."""
    path, block, taken = folder / "fsync", os.urandom(4096), []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            start = time.perf_counter()
            file.write(block)
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - start) * 1e3)
    path.unlink()
    return statistics.median(taken)

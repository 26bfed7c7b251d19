"""Interrupts: a signal handler raises at a moment drawn by chance, in each of the ways in which our code runs.

Afterwards: every call whose body began has exactly one capsule, no scope is current, no lock is held, nothing
is open, and the writer delivers what comes next.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import capsule_sdk
from campaigns.modes import work_of
from capsule_sdk import capsule_scope, configure, flush, get_recorder
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.scopes.node import innermost

OURS = f"{os.sep}capsule_sdk{os.sep}"
MODES = ("function", "coroutine", "scope", "call", "flush")
#: Seconds within which a signal that came in code of LiteLLM's comes again.
SOON = 200e-6


class Interrupt(BaseException):
    """What the signal handler raises: no `Exception`, like `KeyboardInterrupt`."""


def run(chances: random.Random, deadline: float, rounds: int = 1_000_000) -> tuple[list[str], str]:
    """Interrupt until the deadline; return what was broken, and the figures."""
    logging.getLogger("capsule_sdk").setLevel(logging.CRITICAL + 1)
    problems: list[str] = []
    done: Counter[str] = Counter()
    share = max(1.0, (deadline - time.monotonic()) / len(MODES))
    for mode in MODES:
        with tempfile.TemporaryDirectory() as directory:
            hits, problem = interrupted(mode, chances, Path(directory), share, rounds)
        done[mode] = hits
        problems += [f"{mode}: {one}" for one in problem]
    capsule_sdk.shutdown()
    logging.getLogger("capsule_sdk").setLevel(logging.NOTSET)
    return problems, ", ".join(f"{hits} in mode {mode}" for mode, hits in done.items())


def interrupted(
    mode: str, chances: random.Random, directory: Path, seconds: float, rounds: int
) -> tuple[int, list[str]]:
    """Interrupt one mode so many times or so long; return how often that hit, and what was broken."""
    configure(directory / "capsules.db")
    begun: list[str] = []

    def note(number: str) -> None:
        if number != "warm":
            begun.append(number)

    work = work_of(mode, note, directory / "capsules.db")
    took = _time_of(work)
    until, hits, problems = time.monotonic() + seconds, 0, []

    def handler(_: int, frame: FrameType | None) -> None:
        # LiteLLM's own pool of threads does not survive one: it is left alone, and the next look is soon.
        if mode != "call" or (frame is not None and OURS in frame.f_code.co_filename):
            raise Interrupt
        signal.setitimer(signal.ITIMER_REAL, chances.uniform(1e-6, SOON))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        number = 0
        while hits < rounds and time.monotonic() < until and not problems:
            number += 1
            hits += _one(work, chances.uniform(1e-6, took * 1.5), str(number))
            if innermost() is not None:
                problems.append(f"a scope is current after interrupt {hits}")
            if number % 50 == 0 and flush(20):
                problems.append(f"not durable 20 s after interrupt {hits}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with capsule_scope("last"):
        pass
    if flush(30):
        problems.append(f"not durable in the end: {get_recorder().stats()}")
    if get_recorder().stats().open:
        problems.append(f"{get_recorder().stats().open} records are open")
    sealed = Counter(one["trigger"]["request"] for one in read_chain(directory / "capsules.db"))
    wrong = {number: sealed[number] for number in begun if sealed[number] != 1}
    if wrong:
        problems.append(f"capsules of what had begun: {dict(list(wrong.items())[:5])}")
    return hits, problems


def _one(work: Callable[[str], None], after: float, number: str) -> int:
    try:
        signal.setitimer(signal.ITIMER_REAL, after)
        try:
            work(number)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupt:
        return 1
    return 0


def _time_of(work: Callable[[str], None]) -> float:
    work("warm")
    started = time.monotonic()
    for _ in range(20):
        work("warm")
    return (time.monotonic() - started) / 20

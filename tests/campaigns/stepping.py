"""Stepping: Ctrl-C at each step of our code, one after the other, in each of the ways in which it runs.

A step is an instruction after or in which Python may look for signals. The signal comes before the k-th of
them; Python handles it where it looks next, as it does with any other. A trace function counts, and is gone by
then; what trips the signal in it is an attribute in C, since a call would be a place to look, too.

Afterwards: Ctrl-C has arrived, no lock of ours is held, nothing is open or current, and what has begun has one
capsule in the end.
"""

from __future__ import annotations

import _thread
import dis
import functools
import gc
import itertools
import logging
import operator
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, ClassVar, Final

import capsule_sdk
from campaigns.locks import left_held, locks
from campaigns.modes import EVERY, Work, work_of
from capsule_sdk import capsule_scope, configure, flush, get_recorder
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.recording.forking import live_recorders
from capsule_sdk.scopes.node import innermost

__all__ = ["run", "stepped"]

OURS: Final = str(Path(capsule_sdk.__file__).parent)
#: The code of a user's, whose steps are not counted.
THEIRS: Final = (str(Path(__file__).parent), "/litellm/", "<frozen ")

#: Instructions that call nothing, let go of nothing, and look for no signal.
PURE: Final = frozenset(
    {
        "CACHE", "RESUME", "NOP", "PRECALL", "PUSH_NULL", "KW_NAMES", "SWAP", "COPY", "LOAD_CONST",
        "LOAD_FAST", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLOSURE", "LOAD_BUILD_CLASS", "MAKE_CELL",
        "COPY_FREE_VARS", "JUMP_FORWARD", "IS_OP", "BUILD_TUPLE", "BUILD_LIST", "MAKE_FUNCTION",
        "LOAD_ASSERTION_ERROR", "PUSH_EXC_INFO", "POP_JUMP_FORWARD_IF_NONE", "EXTENDED_ARG",
        "POP_JUMP_FORWARD_IF_NOT_NONE", "RETURN_GENERATOR", "GET_AWAITABLE", "CHECK_EXC_MATCH",
    }
)  # fmt: skip


@functools.cache
def _steps(code: CodeType) -> frozenset[int]:
    return frozenset(one.offset for one in dis.get_instructions(code) if one.opname not in PURE)


class _Trip(functools.partial[None]):
    """To ask for ``now`` makes the call: no instruction of Python's is between it and what comes next."""

    now: ClassVar[property] = property(operator.methodcaller("__call__"))


class _Steps:
    """Counts the steps of our code, and sends the signal before one of them."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.count = 0
        self.place = ""
        self._trip = _Trip(_thread.interrupt_main, signal.SIGINT)

    @property
    def tripped(self) -> bool:
        return self.count >= self._at > 0

    def call(self, frame: FrameType, event: str, arg: Any) -> Any:
        """Watch a function that begins, if it is ours or is called by ours."""
        del event, arg
        file = frame.f_code.co_filename
        if not file.startswith(OURS):
            back = frame.f_back
            if back is None or back.f_trace is None or any(part in file for part in THEIRS):
                return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.step

    def step(self, frame: FrameType, event: str, arg: Any) -> Any:
        """Count one step."""
        del arg
        if event == "opcode" and frame.f_lasti in _steps(frame.f_code):
            self.count += 1
            if self.count == self._at:
                code = frame.f_code
                self.place = f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}"
                trip = self._trip
                sys.settrace(None)
                return trip.now
        return self.step


def _interrupted(work: Work, number: str, at: int) -> tuple[_Steps, bool]:
    """Do the work, with the signal before its so-many-th step; return the steps, and whether it arrived."""
    steps, arrived = _Steps(at), False
    try:
        sys.settrace(steps.call)
        try:
            work(number)
        finally:
            sys.settrace(None)
    except KeyboardInterrupt:
        arrived = True
    if not arrived and _dropped:  # by a finalizer: nobody's fault but of who has written it
        arrived = not any(_is_ours(one) for one in _dropped)
    _dropped.clear()
    return steps, arrived


#: Where Python has reported an exception, and dropped it.
_dropped: list[Any] = []


def _is_ours(finalizer: Any) -> bool:
    return not str(getattr(finalizer, "__module__", "")).startswith("litellm")


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("capsule_sdk", "LiteLLM")]
    levels, before = [logger.level for logger in loggers], signal.getsignal(signal.SIGINT)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hook, sys.unraisablehook = sys.unraisablehook, lambda found: _dropped.append(found.object)
    was_on = gc.isenabled()
    gc.disable()  # or the steps would not be the same ones each time
    try:
        yield
    finally:
        if was_on:
            gc.enable()
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, before)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def run(chances: random.Random, deadline: float, rounds: int = 1_000_000) -> tuple[list[str], str]:
    """Step through all modes until the deadline; return what was broken, and the figures."""
    problems: list[str] = []
    figures: list[str] = []
    for left, mode in zip(itertools.count(len(EVERY), -1), EVERY):
        share = max(1.0, (deadline - time.monotonic()) / left)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            done, steps, problem = copy_context().run(
                stepped, mode, chances, Path(directory), share, rounds
            )
        figures.append(f"{done} in {steps} steps of mode {mode}")
        problems += [f"{mode}: {one}" for one in problem]
    capsule_sdk.shutdown()
    return problems, ", ".join(figures)


def stepped(
    mode: str, chances: random.Random, directory: Path, seconds: float, rounds: int
) -> tuple[int, int, list[str]]:
    """Interrupt one mode at each of its steps, in an order drawn by chance, again and again.

    Returns:
        How often it was interrupted, how many steps it has, and what was broken.

    """
    store = directory / "capsules.db"
    configure(store)
    begun: list[str] = []
    work = work_of(mode, begun.append, store)
    problems: list[str] = []
    done, tries, until = 0, 0, time.monotonic() + seconds
    with _quiet():
        for _ in range(3):
            work("warm")
        begun.clear()
        count = _interrupted(work, "counted", 0)[0].count
        ours = locks()
        while done < rounds and time.monotonic() < until and len(problems) < 5:
            for at in chances.sample(range(1, count + 1), count):
                if done >= rounds or time.monotonic() >= until or len(problems) >= 5:
                    break
                tries += 1
                number = f"{tries}"
                steps, arrived = _interrupted(work, number, at)
                done += steps.tripped
                if mode in ("configure", "shutdown"):
                    configure(store)
                    ours = locks() if done % 50 == 0 else ours
                wrong = _wrong(ours, arrived or not steps.tripped)
                problems += [f"{one}, {number} at step {at}: {steps.place}" for one in wrong]
                if done % 100 == 0 and flush(20):
                    problems.append(f"not durable 20 s after interrupt {done}")
                    break
        gc.collect()
        problems += _after(begun, store)
    return done, count, problems


def _wrong(ours: list[Any], arrived: bool) -> list[str]:
    found: list[str] = []
    if not arrived:
        found.append("Ctrl-C is lost")
    if innermost() is not None:
        found.append("a scope is current")
    if (open_now := sum(one.stats().open for one in live_recorders())) > 0:
        found.append(f"{open_now} records are open")
    held = left_held(ours)
    return found + [f"{len(held)} locks are held"] * bool(held)


def _after(begun: list[str], store: Path) -> list[str]:
    problems = []
    with capsule_scope("last"):
        pass
    if flush(30):
        problems.append(f"not durable in the end: {get_recorder().stats()}")
    problems += [
        f"not durable in the end: {one.stats()}" for one in live_recorders() if one.flush(30)
    ]
    sealed = Counter(one["trigger"]["request"] for one in read_chain(store))
    wrong = {number: sealed[number] for number in begun if sealed[number] != 1}
    if wrong:
        problems.append(f"capsules of what had begun: {dict(list(wrong.items())[:5])}")
    return problems

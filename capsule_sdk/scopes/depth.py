"""Room on the stack: near Python's recursion limit a task is opened and closed in a thread of its own.

Whatever is called has to be recorded, also where the user's recursion leaves too few frames to do it in. The
limit holds for each thread, and a new one has all of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

from ..threads import SimpleQueue, start_new_thread

__all__ = ["elsewhere", "has_room"]

T = TypeVar("T")

#: Frames that opening a task may take, and closing it again from a few frames further in.
ROOM = 32
#: Frames that it takes to do so in another thread. Where these are not there either, the call does not fit.
LEAST = 10
#: The part of the limit below which there is room in any case: what runs in C between Python's own frames may
#: count as well, but not seven times as much.
SHALLOW = 8


def has_room() -> bool:
    """Tell whether a task can be opened and closed in this thread.

    Raises:
        RecursionError: not even `elsewhere` can be called: the user's call goes too deep, as it would
            undecorated a little later.

    """
    # To find out how deep the stack is takes a fourth of the time of trying.
    try:
        sys._getframe(sys.getrecursionlimit() // SHALLOW)
    except ValueError:
        return True
    try:
        _reach(ROOM)
    except RecursionError:
        _reach(LEAST)
        return False
    return True


def _reach(frames: int) -> None:
    if frames:
        _reach(frames - 1)


def elsewhere(work: Callable[[], T]) -> T:
    """Do ``work`` in a thread of its own, in a copy of this context, and return what it returns."""
    context = copy_context()
    found: list[T] = []
    problems: list[BaseException] = []
    done: SimpleQueue[None] = SimpleQueue()

    def run() -> None:
        try:
            found.append(context.run(work))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            problems.append(error)
        finally:
            done.put(None)

    start_new_thread(run, ())
    done.get()  # not `threading.Thread`, which needs more frames than there may be
    if problems:
        raise problems.pop()
    return found.pop()

"""Collecting: whether Python's garbage collector is at work in this thread, and what it came upon there.

Leaf: standard library only. A signal that comes during a collection is handled by the first line of Python
after it. Were that a line of a callback of the collector's, Python would swallow what the handler raises: a
Ctrl-C would be lost. So the callbacks are C: `getattr`, of properties whose getters are methods of a list, and
methods that set an entry and an attribute.
"""

from __future__ import annotations

import functools
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["anew", "came_upon", "is_collecting"]


def _local_of_threads() -> Any:
    """Return Python's own `threading.local`: gevent puts another in its place, which breaks at the end."""
    monkey = sys.modules.get("gevent.monkey")
    return threading.local if monkey is None else monkey.get_original("threading", "local")


_running: list[Any] = []


class _Phases:
    """To ask for ``start`` puts it on the list, to ask for ``stop`` takes it off."""

    start = property(_running.append)
    stop = property(_running.remove)


#: What the collector said when it last began, in whatever thread, and in this one: another dict each time.
_last: dict[str, Any] = {}
_here = _local_of_threads()()
gc.callbacks += [_last.__setitem__, _here.__setattr__, functools.partial(getattr, _Phases())]

#: The collection that was asked about last, and what was current when it was.
_seen: list[Any] = [None, None]


def is_collecting() -> bool:
    """Tell whether the collector is at work in this thread: something that it finalizes is asking."""
    return bool(_running) and getattr(_here, "start", None) is _last.get("start")


def came_upon(current: object) -> bool:
    """Tell whether what is current is what the collector has interrupted, and nothing entered since.

    Args:
        current: what is. What a collection is first asked about is what it interrupted: whoever enters
            something asks before.

    """
    if not is_collecting():
        return False
    now = _last["start"]
    if _seen[0] is not now:
        _seen[:] = now, current
    return current is not None and current is _seen[1]


@contextmanager
def anew(current: object) -> Iterator[None]:
    """Let whatever is current in the block have been entered since; ``current`` is what is before it."""
    came_upon(current)
    now, interrupted = _seen
    _seen[1] = None
    try:
        yield
    finally:
        if _seen[0] is now:
            _seen[1] = interrupted

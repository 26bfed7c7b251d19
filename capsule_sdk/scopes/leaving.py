"""Leaving: how a scope and its task end, also where a signal handler has raised in the middle of that.

A ``with`` block that is interrupted on its way out is left all the same. A signal handler may raise at the
first line of a method in Python, also of ``__exit__``: then nothing of it has run, and nobody calls it again.
So ``with`` is given a callable in C that calls the method. Python drops it once the block is left, however that
went; and if the method has not run, the scope that is open still is put right as it dies.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Final

from ..logs import report

if TYPE_CHECKING:
    from .node import Scope

__all__ = ["WayOut", "close_task", "put_right"]


def close_task(node: Scope, error: BaseException | None = None, result: Any = None) -> None:
    """Close a scope and settle its task, if nobody has yet."""
    node.close()
    task, recorder = node.task, node.recorder
    if task is None or recorder is None or not recorder.claim(task):
        return
    try:
        if error is None:
            if result is not None:  # of a response, it has been taken already
                task.result = task.policy.value(result)
            task.settle("success")
        else:
            task.settle_with(error)
    finally:
        task.closed = True  # also where it could not be settled: it stays "pending", and says so
        recorder.finish(task)


def put_right(node: Scope, error: BaseException) -> None:
    """Leave and end what ``error`` has interrupted in the middle of being entered, left or ended.

    What is done already is not done again. A signal handler may raise between any two lines of ours.
    """
    try:
        node.suspend()
        close_task(node, error)
        task, recorder = node.task, node.recorder
        if task is not None and recorder is not None and recorder.owes(task):
            if not task.closed:
                task.settle_with(error)
            recorder.finish(task)
    except Exception as trouble:  # noqa: BLE001 - the interrupt itself goes on
        report("scope.interrupted", trouble)


class WayOut:
    """In the place of a class's ``__exit__``: what ``with`` takes before it enters is the block's way out.

    The block lets go of ``way_out`` when it is left. So as a rule no line of Python runs as the way dies: there
    an exception of a signal handler would be swallowed, a Ctrl-C lost.
    """

    def __init__(self, leave: Callable[..., Any]) -> None:
        self._leave: Final = leave

    def __get__(self, block: Any, owner: type) -> Any:
        if block is None:
            return self._leave
        # Asked for once more, by somebody who only looks:
        if block.way_out is not None or block.is_open:
            return MethodType(self._leave, block)
        way = functools.partial(self._leave, block)
        block.way_out = weakref.ref(way, block.abandon)
        return way

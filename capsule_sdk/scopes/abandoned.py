"""Abandoned code: what nobody runs to its end, and Python closes wherever its garbage collector comes by.

The collector runs within whatever code happens to allocate, another request's as often as not, and what it
finalizes must not be taken for a part of that. So while it runs, nothing of the scope that it interrupts is
current: records made by what it finalizes (a ``__del__``, the ``finally`` of a generator) are nobody's, and say
so in ``environment.made_in``. Async generators are closed by their event loop, in a task with a copy of the
context that was interrupted: they get the scope back that they began in. What a decorated call has left is
closed in its own (`ScopeRun`).

Invariant: nothing sets a context variable in the interrupted context. Before 3.12 the collector may run in the
middle of a `ContextVar.set`, which then goes on with a mapping that is freed.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import AsyncGenerator, Callable
from contextvars import copy_context
from typing import Any, Final

from . import node
from .collecting import anew, is_collecting
from .node import Scope, innermost

__all__ = ["run_in", "watch"]

_Hook = Callable[[AsyncGenerator[Any, Any]], Any]

#: So many generators that may have ended are kept in mind before they are looked through.
LEAST: Final = 64


def run_in(scope: Scope | None, work: Callable[..., Any], *args: Any) -> None:
    """Do something in this scope, and in a context of its own: the garbage collector may be at work."""
    context = copy_context()
    interrupted = node._current.get()
    context.run(node._current.set, scope)
    if not is_collecting():
        context.run(work, *args)
        return
    with anew(interrupted):
        context.run(work, *args)


def watch() -> None:
    """See to the async generators that begin in this thread from now on, if an event loop closes them."""
    first, last = sys.get_asyncgen_hooks()
    if last is not None and type(getattr(last, "__self__", None)) is not _Watch:
        seen = _Watch(first, last)
        sys.set_asyncgen_hooks(seen.begun, seen.left)


class _Watch:
    """Stands before the hooks of a running event loop, which takes both away when it stops."""

    __slots__ = ("_began", "_first", "_last", "_limit")

    def __init__(self, first: _Hook | None, last: _Hook) -> None:
        self._first = first
        self._last = last
        self._limit = LEAST
        # Python clears a weak reference before it calls the finalizer, so the key is the id. An old one is
        # never taken for another's: every generator that is finalized here has begun here.
        self._began: dict[int, tuple[weakref.ref[AsyncGenerator[Any, Any]], Scope]] = {}

    def begun(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Keep in mind the scope that it begins in."""
        scope = innermost()
        if scope is None:
            self._began.pop(id(generator), None)
        else:
            if len(self._began) >= self._limit and not is_collecting():
                self._began = {key: held for key, held in self._began.items() if held[0]()}
                self._limit = max(LEAST, 2 * len(self._began))
            self._began[id(generator)] = weakref.ref(generator), scope
        if self._first is not None:
            self._first(generator)

    def left(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Have it closed in that scope."""
        _, scope = self._began.pop(id(generator), (None, None))
        run_in(scope, self._last, generator)

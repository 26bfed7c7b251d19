"""Steps: run an iterator that is no generator within a run, as `driving` does with generators.

It is stood in for by a proxy of its own kind: what was sync stays sync, what was async stays async, and all
else that the iterator has (attributes, ``isinstance``) is the iterator's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from .driving import Run

    _ObjectProxy = wrapt.ObjectProxy[Any]
else:
    _ObjectProxy = wrapt.ObjectProxy

__all__ = ["stepped"]


def stepped(iterable: Any, run: Run) -> Any:
    """Return what stands in for an iterable, sync or async, and ends ``run`` when it ends."""
    run.hold(iterable)
    kind = _AsyncSteps if _is_async(iterable) else _Steps
    return kind(iterable, run)


def _is_async(iterable: Any) -> bool:
    return any("__aiter__" in base.__dict__ for base in type(iterable).__mro__)


class _Proxy(_ObjectProxy):
    """Stands in for an iterable; its steps, and its end by closing, belong to a run."""

    def __init__(self, iterable: Any, run: Run) -> None:
        super().__init__(iterable)
        self._self_run = run

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if name == "close":
            return functools.partial(self._self_close, found)
        if name == "aclose":
            return functools.partial(self._self_aclose, found)
        return found

    def _self_close(self, close: Callable[[], Any]) -> Any:
        return self._self_taken(close, closing=True)

    async def _self_aclose(self, aclose: Callable[[], Any]) -> Any:
        return await self._self_awaited(aclose, closing=True)

    def _self_begun(self, begin: Callable[[Any], Any]) -> Any:
        """Return the iterator of this iterable: itself, or another one within the same run."""
        run, iterable = self._self_run, self.__wrapped__
        run.start()
        iterator = self._self_taken(lambda: begin(iterable))
        if iterator is iterable:
            return self
        return type(self)(iterator, run)

    def _self_taken(self, step: Callable[[], Any], *, closing: bool = False) -> Any:
        """Take a step."""
        run = self._self_run
        before = run.resume()  # another step may be under way
        try:
            item = step()
        except BaseException as error:
            run.suspend(before)
            if not isinstance(error, StopIteration):
                run.fail(error)
                raise
            run.succeed(None)
            if (waits_for := run.confirmation()) is not None:
                waits_for.confirm()
            raise
        run.suspend(before)
        if closing:
            run.fail(GeneratorExit())
        return item

    async def _self_awaited(self, step: Callable[[], Any], *, closing: bool = False) -> Any:
        """Take a step that is awaited."""
        run = self._self_run
        before = run.resume()  # another step may be under way
        try:
            item = await step()
        except BaseException as error:
            run.suspend(before)
            if not isinstance(error, StopAsyncIteration):
                run.fail(error)
                raise
            run.succeed(None)
            if (waits_for := run.confirmation()) is not None:
                await waits_for.aconfirm()
            raise
        run.suspend(before)
        if closing:
            run.fail(GeneratorExit())
        return item


class _Steps(_Proxy):
    def __iter__(self) -> Any:
        return self._self_begun(iter)

    def __next__(self) -> Any:
        return self._self_taken(self.__wrapped__.__next__)


class _AsyncSteps(_Proxy):
    def __aiter__(self) -> Any:
        return self._self_begun(aiter)

    async def __anext__(self) -> Any:
        return await self._self_awaited(self.__wrapped__.__anext__)

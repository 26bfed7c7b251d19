"""Driving: run whatever a call returned under a scope that is current only while its own code runs.

Coroutines, generators (PEP 380) and async generators (PEP 525) keep their type and their whole protocol:
``send``, ``throw``, ``close``, ``return`` and their async twins arrive where they were sent. Nothing is
awaited that the user's code does not await, and no task is created.
"""

from __future__ import annotations

import inspect
import sys
import types
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Protocol, TypeVar

__all__ = ["Run", "drive", "is_driven", "run_driven"]

T = TypeVar("T")


class Run(Protocol):
    """One run of the user's code: opened before its first line, active while it runs, ended once."""

    def start(self) -> None:
        """Begin, if it has not begun yet. Called at the first step."""

    def resume(self) -> None:
        """Make its scope current."""

    def suspend(self) -> None:
        """Put back what was current before."""

    def pass_on(self, item: Any) -> None:
        """See an item that a generator yields, on its way to the consumer."""

    def succeed(self, result: Any) -> None:
        """End well."""

    def fail(self, error: BaseException) -> None:
        """End with the exception that is on its way to the caller."""

    async def confirm(self) -> None:
        """Wait for what strict mode waits for; does nothing otherwise."""

    def confirm_now(self) -> None:
        """Do as `confirm`, in code that cannot await."""


def is_driven(value: object) -> bool:
    """Tell whether what a call returned still has its code to run."""
    return isinstance(
        value, types.CoroutineType | types.GeneratorType | types.AsyncGeneratorType
    )


def drive(value: Any, run: Run) -> Any:
    """Return an object of the same kind as ``value`` that runs it within ``run``."""
    driver: Any
    if isinstance(value, types.CoroutineType):
        driver = _coroutine(value, run)
    elif isinstance(value, types.AsyncGeneratorType):
        driver = _async_generator(value, run)
    elif value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        driver = types.coroutine(_generator)(value, run)
    else:
        driver = _generator(value, run)
    driver.__name__, driver.__qualname__ = value.__name__, value.__qualname__
    if isinstance(value, types.CoroutineType):
        # Whoever forgets to await gets Python's warning once, about the name he knows; and whoever closes
        # the coroutine unawaited gets none.
        weakref.finalize(driver, value.close).atexit = False
    return driver


def run_driven(call: Callable[[], Any], run: Run, *, lazy: bool) -> Any:
    """Make a call within ``run``; what it returns decides what kind of call it was.

    Args:
        call: makes the call.
        run: begins, follows and ends it.
        lazy: whether the call is known to run no code of the user's yet (it makes a coroutine or a
            generator), so that ``run`` begins with the first step, and never where there is none.

    """
    if lazy:
        return drive(call(), run)
    run.start()
    run.resume()
    try:
        result = call()
    except BaseException as error:
        run.suspend()
        run.fail(error)
        raise
    run.suspend()
    if is_driven(result):
        return drive(result, run)
    run.succeed(result)
    run.confirm_now()
    return result


async def _coroutine(inner: Coroutine[Any, Any, T], run: Run) -> T:
    run.start()
    run.resume()
    try:
        result = await inner
    except BaseException as error:
        run.suspend()
        run.fail(error)
        raise
    run.suspend()
    run.succeed(result)
    await run.confirm()
    return result


def _generator(inner: Generator[Any, Any, T], run: Run) -> Generator[Any, Any, T]:
    run.start()
    step: Any = inner.send
    given: Any = None
    while True:
        run.resume()
        try:
            item = step(given)
        except StopIteration as stop:
            run.suspend()
            run.succeed(stop.value)
            run.confirm_now()
            return stop.value  # type: ignore[no-any-return]
        except BaseException as error:
            run.suspend()
            run.fail(error)
            raise
        run.suspend()
        run.pass_on(item)
        try:
            given = yield item
            step = inner.send
        except GeneratorExit as closing:
            run.resume()
            try:
                inner.close()
            except BaseException as error:
                run.suspend()
                run.fail(error)
                raise
            run.suspend()
            run.fail(closing)
            raise
        except BaseException as error:  # noqa: BLE001 - whatever is thrown in is thrown on
            given, step = error, inner.throw


async def _async_generator(
    inner: AsyncGenerator[Any, Any], run: Run
) -> AsyncGenerator[Any, Any]:
    run.start()
    step: Any = inner.asend
    given: Any = None
    first = True
    while True:
        run.resume()
        try:
            if first:
                first = False
                item = await _unhooked(inner)
            else:
                item = await step(given)
        except StopAsyncIteration:
            run.suspend()
            run.succeed(None)
            await run.confirm()
            return
        except BaseException as error:
            run.suspend()
            run.fail(error)
            raise
        run.suspend()
        run.pass_on(item)
        try:
            given = yield item
            step = inner.asend
        except GeneratorExit as closing:
            run.resume()
            try:
                await inner.aclose()
            except BaseException as error:
                run.suspend()
                run.fail(error)
                raise
            run.suspend()
            run.fail(closing)
            raise
        except BaseException as error:  # noqa: BLE001 - whatever is thrown in is thrown on
            given, step = error, inner.athrow


def _unhooked(inner: AsyncGenerator[Any, Any]) -> Any:
    """Return the first step, unseen by the event loop: it closes the driver, and the driver closes this one.

    Both in the loop's care would be closed at once when it shuts down, and the second would raise.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return inner.asend(None)
    finally:
        sys.set_asyncgen_hooks(*hooks)

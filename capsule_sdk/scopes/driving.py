"""Driving: run whatever a call returned under a scope that is current only while its own code runs.

Coroutines, generators (PEP 380) and async generators (PEP 525) keep their type and their whole
protocol: ``send``, ``throw``, ``close``, ``return`` and their async twins arrive where they were
sent. Nothing is awaited that the user's code does not await, and no task is created. What a call or
coroutine leaves to be run when it returns (a stream, the body of a response) is run within it too.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..logs import report
from .bodies import body_of, is_response
from .steps import stepped

if TYPE_CHECKING:
    from types import EllipsisType

    from .confirming import Confirmation
    from .node import Scope

__all__ = ["Run", "drive", "is_suspended", "is_unawaited", "raised", "returned", "run_driven"]

T = TypeVar("T")


class Run(Protocol):
    """One run of the user's code: opened before its first line, active while it runs, ended once.

    What drives it may be destroyed at any point, so a run that has begun ends itself when it dies.
    """

    def start(self) -> None:
        """Begin, if it has not begun yet. Called at the first step."""

    def hold(self, inner: Any) -> None:
        """Keep what is driven within it, to close it should both be destroyed."""

    def resume(self) -> Scope | None:
        """Make its scope current. Also called before `start`, while the object that is driven is made.

        Returns:
            What was current before, for `suspend`, where several steps may be under way at once.

        """

    def suspend(self, outside: Scope | EllipsisType | None = ...) -> None:
        """Put back what was current before: this, or what the last `resume` found."""

    def pass_on(self, item: Any) -> None:
        """See an item that a generator yields, on its way to the consumer."""

    def hand_on(self, response: Any, *, followed: bool) -> None:
        """See a web framework's response on its way out; if its body is ``followed``, the run ends with it."""

    def succeed(self, result: Any) -> None:
        """End well."""

    def fail(self, error: BaseException) -> None:
        """End with the exception that is on its way to the caller."""

    def confirmation(self) -> Confirmation | None:
        """Return what the caller waits for, after it has ended well; mostly nothing."""

    def put_right(self, error: BaseException) -> None:
        """End what ``error``, out of a signal handler, has interrupted in lines of ours."""


_STREAMS = (types.GeneratorType, types.AsyncGeneratorType)
_DRIVEN = (types.CoroutineType, *_STREAMS)


def drive(value: Any, run: Run) -> Any:
    """Return an object of the same kind as ``value`` that runs it within ``run``."""
    driver: Any
    run.hold(value)
    if isinstance(value, types.CoroutineType):
        driver = _coroutine(value, run)
    elif isinstance(value, types.AsyncGeneratorType):
        driver = _async_generator(value, run)
    elif value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        driver = _awaitable_generator(value, run)
    else:
        driver = _generator(value, run)
    driver.__name__, driver.__qualname__ = value.__name__, value.__qualname__
    return driver


def run_driven(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], run: Run, *, lazy: bool
) -> Any:
    """Call ``fn`` within ``run``; what it returns decides what kind of call it was.

    Args:
        fn: what is called.
        args: its arguments by position.
        kwargs: its arguments by name.
        run: begins, follows and ends the call.
        lazy: whether the call is known to run no code of the user's yet (it makes a coroutine or a
            generator), so that ``run`` begins with the first step, and never where there is none.
            A call that Python refuses, for its arguments, has begun and failed all the same.

    """
    try:
        if not lazy:
            run.start()
        run.resume()  # a lazy one too: what is made keeps the scope that it is made in
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            raised(error, run, lazy=lazy)
            raise
        return returned(result, run, lazy=lazy)
    except BaseException as error:
        run.put_right(error)
        raise


def raised(error: BaseException, run: Run, *, lazy: bool) -> None:
    """End ``run`` with the exception that a call, of `run_driven`'s kind, is about to raise."""
    run.suspend()
    if lazy:
        run.start()
    run.fail(error)


def returned(result: Any, run: Run, *, lazy: bool) -> Any:
    """Return what a call, of `run_driven`'s kind, is to return, and end ``run`` or let it be driven."""
    run.suspend()
    if (left := _left_to_run(result, run)) is not None:
        return left
    if lazy:  # only declared to be lazy
        run.start()
    run.succeed(result)
    if (waits_for := run.confirmation()) is not None:
        waits_for.confirm()
    return result


def _left_to_run(result: Any, run: Run) -> Any:
    """Return a result whose code is still to run, so that it does within ``run``; ``None`` for any other."""
    kind = type(result)  # not its `__class__`: a lazy object would be evaluated for that
    if issubclass(kind, _DRIVEN):  # `in` would ask a metaclass
        return drive(result, run)
    response = result
    if kind is tuple and len(result) in (2, 3):  # Flask's way of saying status and headers
        response = result[0]
        if issubclass(type(response), _STREAMS):
            return (drive(response, run), *result[1:])
    if not is_response(response):
        return None
    run.start()
    followed = False
    try:
        body = body_of(response)
        if body is not None:
            body.replace(_within(run, body.iterator))
            followed = True
        run.hand_on(response, followed=followed)
    except Exception as error:  # noqa: BLE001 - the response goes its way all the same
        report("driving.body", error)
    return result if followed else None


def _within(run: Run, iterator: Any) -> Any:
    return drive(iterator, run) if issubclass(type(iterator), _STREAMS) else stepped(iterator, run)


def is_unawaited(inner: Any) -> bool:
    """Tell whether it is a coroutine that was never begun."""
    if not issubclass(type(inner), types.CoroutineType):
        return False
    return inner.cr_frame is not None and not (inner.cr_suspended or inner.cr_running)


def is_suspended(inner: Any) -> bool:
    """Tell whether it is a coroutine or generator in the middle; async ones are left to their event loop."""
    if issubclass(type(inner), types.CoroutineType):
        return bool(inner.cr_suspended)
    return issubclass(type(inner), types.GeneratorType) and bool(inner.gi_suspended)


async def _coroutine(inner: Coroutine[Any, Any, T], run: Run) -> T:
    try:
        run.start()
        run.resume()
        try:
            result = await inner
        except BaseException as error:
            run.suspend()
            run.fail(error)
            raise
        run.suspend()
        if (left := _left_to_run(result, run)) is not None:
            return left  # type: ignore[no-any-return]
        run.succeed(result)
    except BaseException as error:
        run.put_right(error)
        raise
    if (waits_for := run.confirmation()) is not None:
        await waits_for.aconfirm()
    return result


def _generator(inner: Generator[Any, Any, T], run: Run) -> Generator[Any, Any, T]:
    # No `yield from`: it would answer a thrown GeneratorExit by closing, whatever the generator
    # makes of it, and leave the scope current between two steps.
    try:
        run.start()
        step: Any = inner.send
        given: Any = None
        closing: GeneratorExit | None = None
        while True:
            run.resume()
            try:
                item = step(given)
            except StopIteration as stop:
                result: T = stop.value
                break
            except BaseException as error:
                run.suspend()
                run.fail(error)
                # Or the exception and this frame would keep each other alive.
                given = closing = None
                raise
            run.suspend()
            run.pass_on(item)
            closing = None
            try:
                given, step = (yield item), inner.send
            except GeneratorExit as error:
                given, step, closing = _untraced(error), inner.throw, error
            except BaseException as error:  # noqa: BLE001 - whatever is thrown in is thrown on
                given, step = _untraced(error), inner.throw
        run.suspend()
        given = None
        if closing is not None:
            run.fail(closing)
            closing = None
        else:
            run.succeed(result)
            if (waits_for := run.confirmation()) is not None:
                waits_for.confirm()
        return result  # noqa: TRY300 - every line of ours is inside
    except BaseException as error:  # a signal handler may have raised in any line of ours
        run.put_right(error)
        raise


def _untraced(error: BaseException) -> BaseException:
    """Take the driver's own frame off a traceback, which has to end in the user's."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    return error


@types.coroutine
def _awaitable_generator(inner: Generator[Any, Any, T], run: Run) -> Generator[Any, Any, T]:
    return (yield from _generator(inner, run))


async def _async_generator(inner: AsyncGenerator[Any, Any], run: Run) -> AsyncGenerator[Any, Any]:
    try:
        run.start()
        step: Any = _first_step(inner)
        given: Any = None
        closing: GeneratorExit | None = None
        while True:
            run.resume()
            try:
                item = await step(given)
            except StopAsyncIteration:
                break
            except BaseException as error:
                run.suspend()
                run.fail(error)
                given = closing = None  # as above
                raise
            run.suspend()
            run.pass_on(item)
            closing = None
            try:
                given, step = (yield item), inner.asend
            except GeneratorExit as error:
                given, step, closing = _untraced(error), inner.athrow, error
            except BaseException as error:  # noqa: BLE001 - whatever is thrown in is thrown on
                given, step = _untraced(error), inner.athrow
        run.suspend()
        given = None
        if closing is not None:
            run.fail(closing)
            closing = None
        else:
            run.succeed(None)
            if (waits_for := run.confirmation()) is not None:
                await waits_for.aconfirm()
    except BaseException as error:  # a signal handler may have raised in any line of ours
        run.put_right(error)
        raise


def _first_step(inner: AsyncGenerator[Any, Any]) -> Callable[[Any], Any]:
    """Return ``asend``, unseen by the event loop: it closes the driver, and the driver closes this one.

    Both in the loop's care would be closed at once when it shuts down, and the second would raise. And without
    a hook of its own Python would close this one by itself, where the garbage collector finds both, in
    whatever scope is current there, and break what is awaited in it.
    """

    def asend(given: Any) -> Any:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, _left_to_its_driver)
        try:
            return inner.asend(given)
        finally:
            sys.set_asyncgen_hooks(*hooks)

    return asend


def _left_to_its_driver(inner: AsyncGenerator[Any, Any]) -> None:
    """Do not close it."""

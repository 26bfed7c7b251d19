"""Coroutines, generators and async generators behave, decorated, as Python says they behave."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import sys
import threading
import types
import warnings
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextvars import copy_context
from typing import Any

import anyio
import pytest
import trio
from conftest import Chain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capsule_sdk import bind_scope, capsule_scope, capsuled, current_scope, current_task, flush
from capsule_sdk.scopes.node import innermost

PROPERTY = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# -- a family of generators, and sequences of steps ------------------------------------------------


class ThrownError(Exception):
    """What the tests throw in."""


class Cancelled(BaseException):
    """As frameworks cancel: no `Exception`."""


def counts() -> Generator[Any, Any, Any]:
    got = yield 0
    got = yield ("got", got)
    return ("end", got)


def catches() -> Generator[Any, Any, Any]:
    seen: list[Any] = []
    for number in range(4):
        try:
            seen.append((yield number))
        except ThrownError as error:
            seen.append(error.args)
            yield ("caught", error.args)
    return seen


def returns_in_handler() -> Generator[Any, Any, Any]:
    try:
        yield 1
        yield 2
    except BaseException as error:
        return ("returned on", type(error).__name__)


def raises_in_handler() -> Generator[Any, Any, Any]:
    try:
        yield 1
    except ThrownError as error:
        raise ValueError("other") from error
    yield 2


def yields_in_finally() -> Generator[Any, Any, Any]:
    try:
        yield 1
    finally:
        yield "in finally"


def ignores_closing() -> Generator[Any, Any, Any]:
    for _ in range(2):
        try:
            yield 1
        except GeneratorExit:
            yield "not now"


def raises_stop() -> Generator[Any, Any, Any]:
    yield 1
    raise StopIteration("inside")


def fails() -> Generator[Any, Any, Any]:
    yield 1
    raise KeyError("failed")


def delegates() -> Generator[Any, Any, Any]:
    first = yield from counts()
    second = yield from catches()
    return (first, second)


def empty() -> Generator[Any, Any, Any]:
    return "nothing"
    yield


FAMILY = [
    counts, catches, returns_in_handler, raises_in_handler, yields_in_finally, ignores_closing,
    raises_stop, fails, delegates, empty,
]  # fmt: skip

STEPS = st.lists(
    st.one_of(
        st.just(("next",)),
        st.tuples(st.just("send"), st.sampled_from([None, 1, "x"])),
        st.tuples(
            st.just("throw"),
            st.sampled_from(
                [ThrownError, Cancelled, GeneratorExit, StopIteration, StopAsyncIteration]
            ),
            st.booleans(),
        ),
        st.just(("close",)),
    ),
    max_size=8,
)


def thrown_of(step: tuple[Any, ...]) -> Any:
    return step[1]("thrown") if step[2] else step[1]


def outcome_of(error: BaseException) -> tuple[Any, ...]:
    cause = error.__cause__
    return (
        "raised",
        type(error),
        error.args,
        type(cause),
        getattr(error, "value", None),
    )


def observe(generator: Generator[Any, Any, Any], steps: list[tuple[Any, ...]]) -> list[Any]:
    seen: list[Any] = []
    for step in steps:
        try:
            match step[0]:
                case "next":
                    seen.append(("value", next(generator)))
                case "send":
                    seen.append(("value", generator.send(step[1])))
                case "throw":
                    seen.append(("value", generator.throw(thrown_of(step))))
                case _:
                    seen.append(("closed", generator.close()))
        except BaseException as error:
            seen.append(outcome_of(error))
    for _ in range(4):  # nothing is left to the garbage collector, whose errors nobody sees
        with contextlib.suppress(RuntimeError):
            generator.close()
    return seen


async def aobserve(agen: AsyncGenerator[Any, Any], steps: list[tuple[Any, ...]]) -> list[Any]:
    seen: list[Any] = []
    for step in steps:
        try:
            match step[0]:
                case "next":
                    seen.append(("value", await anext(agen)))
                case "send":
                    seen.append(("value", await agen.asend(step[1])))
                case "throw":
                    seen.append(("value", await agen.athrow(thrown_of(step))))
                case _:
                    seen.append(("closed", await agen.aclose()))
        except BaseException as error:
            seen.append(outcome_of(error))
    for _ in range(4):
        with contextlib.suppress(RuntimeError, StopAsyncIteration):
            await agen.aclose()
    return seen


@PROPERTY
@given(family=st.sampled_from(FAMILY), steps=STEPS)
def test_a_decorated_generator_answers_every_sequence_of_steps_like_the_undecorated_one(
    chain: Chain, family: Callable[[], Generator[Any, Any, Any]], steps: list[tuple[Any, ...]]
) -> None:
    before = innermost()
    assert observe(capsuled(family)(), steps) == observe(family(), steps)
    assert innermost() is before


def asynchronous(family: Callable[[], Generator[Any, Any, Any]]) -> Callable[[], Any]:
    """Return the same steps as an async generator, which sleeps before each."""

    async def steps() -> AsyncGenerator[Any, Any]:
        inner = family()
        step: Callable[[Any], Any] = inner.send
        given: Any = None
        while True:
            await asyncio.sleep(0)
            try:
                item = step(given)
            except StopIteration:
                return
            try:
                given, step = (yield item), inner.send
            except BaseException as error:
                given, step = error, inner.throw

    return steps


@PROPERTY
@given(family=st.sampled_from(FAMILY), steps=STEPS)
def test_a_decorated_async_generator_answers_every_sequence_of_steps_like_the_undecorated_one(
    chain: Chain,
    monkeypatch: pytest.MonkeyPatch,
    family: Callable[[], Generator[Any, Any, Any]],
    steps: list[tuple[Any, ...]],
) -> None:
    # One that ignored its closing complains once more when it dies, decorated or not.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    async def both() -> None:
        plain = asynchronous(family)
        assert await aobserve(capsuled(plain)(), steps) == await aobserve(plain(), steps)
        assert innermost() is None

    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: None)
        runner.run(both())


# -- generators ------------------------------------------------------------------------------------


def statuses(chain: Chain) -> list[tuple[str, Any]]:
    return [
        (capsule["outcome"]["status"], capsule["outcome"]["metrics"].get("ended"))
        for capsule in chain.capsules()
    ]


def test_a_finished_generator_is_one_capsule_with_its_return_value(chain: Chain) -> None:
    @capsuled
    def numbers(limit: int) -> Iterator[int]:
        yield from range(limit)
        return "all"

    def consumer() -> Generator[int, None, Any]:
        return (yield from numbers(3))

    consuming = consumer()
    assert list(iter(consuming.__next__, 2)) == [0, 1]
    with pytest.raises(StopIteration) as stop:
        next(consuming)
    assert stop.value.value == "all"
    assert chain.one("numbers")["outcome"]["result"] == "all"
    assert statuses(chain) == [("success", None)]


@pytest.mark.parametrize("end", ["close", "break", "abandon"])
def test_a_generator_that_is_not_read_to_its_end_is_one_partial_capsule(
    chain: Chain, end: str
) -> None:
    @capsuled
    def numbers() -> Iterator[int]:
        yield from range(10)

    generator: Any = numbers()
    if end == "break":
        for _ in generator:
            break
    else:
        next(generator)
    if end == "close":
        generator.close()
    del generator
    gc.collect()
    assert statuses(chain) == [("partial", "closed")]


def test_a_generator_that_returns_when_it_is_closed_was_cut_short_all_the_same(
    chain: Chain,
) -> None:
    generator = capsuled(returns_in_handler)()
    next(generator)
    generator.close()
    assert statuses(chain) == [("partial", "closed")]


def test_a_generator_that_refuses_to_close_and_then_ends_well_has_succeeded(chain: Chain) -> None:
    @capsuled
    def stubborn() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    generator: Any = stubborn()
    next(generator)
    assert generator.throw(GeneratorExit) == 2
    assert list(generator) == []
    assert statuses(chain) == [("success", None)]


def test_a_generator_that_is_never_iterated_leaves_no_capsule(chain: Chain) -> None:
    @capsuled
    def numbers() -> Iterator[int]:
        yield 1

    numbers()
    numbers().close()  # type: ignore[attr-defined]
    assert chain.capsules() == []


def test_a_generator_that_ignores_its_closing_gives_pythons_own_error(chain: Chain) -> None:
    generator = capsuled(ignores_closing)()
    next(generator)
    with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
        generator.close()
    with pytest.raises(ThrownError):
        generator.throw(ThrownError())
    assert statuses(chain) == [("failure", None)]


def test_a_generator_that_calls_itself_gives_pythons_own_error(chain: Chain) -> None:
    @capsuled
    def reentrant() -> Iterator[int]:
        yield next(itself)

    itself: Iterator[int] = reentrant()
    with pytest.raises(ValueError, match="generator already executing"):
        next(itself)
    assert statuses(chain) == [("failure", None)]


def test_a_thrown_exception_is_the_same_object_inside_and_outside(chain: Chain) -> None:
    inside: list[BaseException] = []

    @capsuled
    def watching() -> Iterator[int]:
        try:
            yield 1
        except ThrownError as error:
            inside.append(error)
            raise

    generator: Any = watching()
    next(generator)
    error = ThrownError("x")
    with pytest.raises(ThrownError) as caught:
        generator.throw(error)
    assert inside == [error]
    assert caught.value is error
    assert error.__context__ is None
    assert [entry.name for entry in caught.traceback][-1] == "watching"


def test_what_is_thrown_in_is_freed_without_the_garbage_collector(chain: Chain) -> None:
    generator: Any = capsuled(counts)()
    next(generator)
    error = ThrownError()
    gone = weakref.ref(error)
    gc.disable()
    try:
        with contextlib.suppress(ThrownError):
            generator.throw(error)
        del error, generator
        assert gone() is None
    finally:
        gc.enable()


def test_a_call_leaves_nothing_for_the_garbage_collector(chain: Chain) -> None:
    @capsuled
    def step(value: object) -> None:
        with capsule_scope("inner"):
            pass

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(20):
            step(None)
            list(capsuled(counts)())
        flush()
        gc.collect()
        left = {type(item).__name__ for item in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not left & {"Scope", "Task", "_TaskRun", "generator", "frame", "traceback"}


def test_decorated_calls_return_pythons_own_types_under_their_own_names(chain: Chain) -> None:
    @capsuled
    async def coroutine() -> None: ...

    @capsuled
    async def agen() -> AsyncIterator[int]:
        yield 1

    for made, kind in (
        (coroutine(), types.CoroutineType),
        (capsuled(counts)(), types.GeneratorType),
        (agen(), types.AsyncGeneratorType),
    ):
        assert type(made) is kind
        assert made.__name__ in {"coroutine", "counts", "agen"}
        assert made.__qualname__.endswith(made.__name__)
        if isinstance(made, types.CoroutineType):
            made.close()


def test_a_generator_based_coroutine_stays_awaitable_and_a_generator_stays_none(
    chain: Chain,
) -> None:
    @capsuled
    @types.coroutine
    def nap() -> Generator[Any, Any, str]:
        yield from asyncio.sleep(0).__await__()
        assert current_task().name.endswith("nap")
        return "woken"

    async def main() -> str:
        return await nap()

    assert asyncio.run(main()) == "woken"
    made: Any = nap()
    assert inspect.isawaitable(made)
    assert not inspect.isawaitable(capsuled(counts)())
    assert statuses(chain) == [("success", None)]


# -- what is current while a generator runs --------------------------------------------------------


def test_a_generator_is_current_only_while_its_own_code_runs(chain: Chain) -> None:
    @capsuled
    def numbers() -> Iterator[int]:
        for number in range(3):
            with capsule_scope(f"inside {number}"):
                yield number
                assert current_task().name == f"inside {number}"

    with capsule_scope("consumer") as consumer:
        for number in numbers():
            assert current_task() is consumer
            with capsule_scope(f"outside {number}"):
                pass
        assert current_task() is consumer
    assert chain.tree() == {
        "consumer": {
            "outside 0": {},
            "outside 1": {},
            "outside 2": {},
            "numbers": {"inside 0": {}, "inside 1": {}, "inside 2": {}},
        }
    }


def test_interleaved_generators_never_see_each_other(chain: Chain) -> None:
    @capsuled(capture_args=False)
    def numbers(name: str) -> Iterator[str]:
        for number in range(3):
            with capsule_scope(f"{name}{number}"):
                yield name
        yield "last"

    with capsule_scope("consumer") as consumer:
        for _ in zip(numbers("a"), numbers("b"), strict=True):
            assert current_task() is consumer
    a, b = chain.named("numbers")
    assert {capsule["trigger"]["source"] for capsule in chain.children(a)} == {"a0", "a1", "a2"}
    assert {capsule["trigger"]["source"] for capsule in chain.children(b)} == {"b0", "b1", "b2"}


def test_interleaved_async_generators_never_see_each_other(chain: Chain) -> None:
    @capsuled
    async def numbers(name: str) -> AsyncIterator[str]:
        for number in range(3):
            async with capsule_scope(f"{name}{number}"):
                await asyncio.sleep(0)
                yield name
                await asyncio.sleep(0)

    async def main() -> None:
        with capsule_scope("consumer") as consumer:
            a, b = numbers("a"), numbers("b")
            async for _ in a:
                assert current_task() is consumer
                await anext(b)
                assert current_task() is consumer
            assert [item async for item in b] == []

    asyncio.run(main())
    for capsule in chain.named("numbers"):
        names = {child["trigger"]["source"] for child in chain.children(capsule)}
        request = capsule["trigger"]["request"]
        assert names == {f"{request}0", f"{request}1", f"{request}2"}


@pytest.mark.parametrize("where", ["thread", "context", "after the scope"])
def test_a_generator_hangs_under_the_scope_it_was_called_in_wherever_it_is_read(
    chain: Chain, where: str
) -> None:
    @capsuled
    def numbers() -> Iterator[int]:
        yield 1
        with capsule_scope("inside"):
            yield 2

    with capsule_scope("caller"):
        generator = numbers()
        next(generator)
        if where == "thread":
            thread = threading.Thread(target=lambda: list(generator))
            thread.start()
            thread.join()
        elif where == "context":
            assert copy_context().run(list, generator) == [2]
    rest = list(generator)
    assert rest == ([2] if where == "after the scope" else [])
    assert chain.tree() == {"caller": {"numbers": {"inside": {}}}}


def test_every_step_of_a_generator_may_run_in_another_context(chain: Chain) -> None:
    @capsuled
    def numbers() -> Iterator[int]:
        for number in range(4):
            with capsule_scope("pair"):
                yield number
                yield number

    generator = numbers()
    contexts = [copy_context() for _ in range(3)]
    for index in range(8):
        assert contexts[index % 3].run(next, generator) == index // 2
    assert list(generator) == []
    assert all(context.run(innermost) is None for context in contexts)
    assert chain.tree() == {"numbers": {"pair": {}, "pair#2": {}, "pair#3": {}, "pair#4": {}}}


def test_each_step_of_an_async_generator_may_run_in_another_task(chain: Chain) -> None:
    @capsuled
    async def numbers() -> AsyncIterator[int]:
        with capsule_scope("inside"):
            for number in range(4):
                await asyncio.sleep(0)
                yield number

    async def main() -> None:
        generator: Any = numbers()
        for number in range(4):
            step = asyncio.create_task(generator.__anext__())
            assert await step == number
        with pytest.raises(StopAsyncIteration):
            await asyncio.create_task(generator.__anext__())

    asyncio.run(main())
    assert chain.tree() == {"numbers": {"inside": {}}}
    assert {status for status, _ in statuses(chain)} == {"success"}


# -- coroutines ------------------------------------------------------------------------------------


def test_a_coroutine_never_awaited_warns_once_as_python_does_and_leaves_no_capsule(
    chain: Chain,
) -> None:
    @capsuled
    async def forgotten() -> None: ...

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        forgotten()
        gc.collect()
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 1, messages
    assert messages[0].endswith("forgotten' was never awaited")
    assert caught[0].category is RuntimeWarning
    assert chain.capsules() == []


def test_a_coroutine_closed_before_it_was_awaited_leaves_neither_warning_nor_capsule(
    chain: Chain,
) -> None:
    @capsuled
    async def closed() -> None: ...

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        closed().close()
        gc.collect()
    assert caught == []
    assert chain.capsules() == []


def test_a_coroutine_closed_in_the_middle_cleans_up_and_is_partial(chain: Chain) -> None:
    cleaned: list[str] = []

    @capsuled
    async def waiting() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            cleaned.append(current_task().name)

    coroutine = waiting()
    coroutine.send(None)
    coroutine.close()
    assert [name.rpartition(".")[2] for name in cleaned] == ["waiting"]
    assert statuses(chain) == [("partial", "closed")]


def test_a_coroutine_can_be_driven_by_hand(chain: Chain) -> None:
    @types.coroutine
    def ask() -> Generator[str, Any, Any]:
        return (yield "question")

    @capsuled
    async def conversation() -> Any:
        try:
            first = await ask()
        except ThrownError:
            first = "caught"
        return (first, await ask())

    coroutine = conversation()
    assert coroutine.send(None) == "question"
    assert coroutine.throw(ThrownError()) == "question"
    with pytest.raises(StopIteration) as stop:
        coroutine.send(7)
    assert stop.value.value == ("caught", 7)
    assert chain.one("conversation")["outcome"]["result"] == ["caught", 7]


def test_a_plain_function_that_returns_a_coroutine_never_awaited_has_begun_and_is_cut_short(
    chain: Chain,
) -> None:
    async def work() -> None: ...

    hidden = capsuled(lambda *_: work(), name="hidden")
    hidden().close()
    gc.collect()
    assert statuses(chain) == [("partial", "closed")]


def test_a_plain_function_that_returns_a_coroutine_or_generator_is_one_task_until_that_ends(
    chain: Chain,
) -> None:
    async def work() -> str:
        with capsule_scope("inside work"):
            return "done"

    assert asyncio.run(capsuled(lambda *_: work(), name="makes a coroutine")()) == "done"
    assert list(capsuled(lambda *_: counts(), name="makes a generator")()) == [0, ("got", None)]
    assert chain.tree() == {"makes a coroutine": {"inside work": {}}, "makes a generator": {}}
    assert chain.one("makes a coroutine")["outcome"]["result"] == "done"


# -- async generators under event loops ------------------------------------------------------------


def test_an_unfinished_async_generator_is_closed_by_asyncio_without_a_complaint(
    chain: Chain,
) -> None:
    complaints: list[Any] = []

    @capsuled
    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            await asyncio.sleep(0)
            with capsule_scope("clean up"):
                pass

    kept: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context)
        )
        for _ in range(3):
            generator = numbers()
            await anext(generator)
            kept.append(generator)

    asyncio.run(main())
    assert complaints == []
    cut = [capsule for capsule in chain.capsules() if capsule["parent_id"] is None]
    assert [capsule["outcome"]["metrics"]["ended"] for capsule in cut] == ["closed"] * 3
    assert chain.sources().count("clean up") == 3


def test_an_abandoned_async_generator_is_finalized_by_the_running_loop(chain: Chain) -> None:
    @capsuled
    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)

    async def main() -> None:
        async for _ in numbers():
            break
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert statuses(chain) == [("partial", "closed")]


def test_async_generators_work_under_trio_finished_and_unfinished(chain: Chain) -> None:
    @capsuled
    async def numbers(name: str) -> AsyncIterator[int]:
        for number in range(3):
            await trio.sleep(0)
            yield number

    kept: list[Any] = []

    async def main() -> None:
        assert [item async for item in numbers("finished")] == [0, 1, 2]
        unfinished = numbers("unfinished")
        await anext(unfinished)
        kept.append(unfinished)

    trio.run(main)
    found = {
        capsule["trigger"]["request"]: capsule["outcome"]["status"] for capsule in chain.capsules()
    }
    assert found == {"finished": "success", "unfinished": "partial"}


def test_a_cancel_scope_may_stand_around_a_yield_of_an_async_generator(chain: Chain) -> None:
    """anyio and trio break when the steps of a generator run in different tasks."""

    @capsuled
    async def guarded_numbers() -> AsyncIterator[int]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
            yield 1
            yield 2

    async def main() -> list[int]:
        return [item async for item in guarded_numbers()]

    assert anyio.run(main, backend="asyncio") == [1, 2]
    assert anyio.run(main, backend="trio") == [1, 2]
    assert statuses(chain) == [("success", None)] * 2


def test_asend_while_a_step_is_running_gives_pythons_own_error(chain: Chain) -> None:
    @capsuled
    async def slow() -> AsyncIterator[int]:
        await asyncio.sleep(0.01)
        yield 1

    async def main() -> None:
        generator: Any = slow()
        first = asyncio.create_task(anext(generator))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="asynchronous generator is already running"):
            await anext(generator)
        assert await first == 1
        await generator.aclose()

    asyncio.run(main())
    assert statuses(chain) == [("partial", "closed")]


# -- cancellation ----------------------------------------------------------------------------------


async def _task_cancel(call: Callable[[], Awaitable[Any]]) -> None:
    task = asyncio.ensure_future(call())
    await asyncio.sleep(0.01)
    task.cancel("why")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("why",)


async def _wait_for(call: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(), 0.01)


async def _timeout(call: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await call()


async def _move_on_after(call: Callable[[], Awaitable[Any]]) -> None:
    with anyio.move_on_after(0.01) as scope:
        await call()
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("cancel", "backend"),
    [
        (_task_cancel, "asyncio"),
        (_wait_for, "asyncio"),
        (_timeout, "asyncio"),
        (_move_on_after, "asyncio"),
        (_move_on_after, "trio"),
    ],
)
@pytest.mark.parametrize("kind", ["coroutine", "async generator", "scope"])
def test_what_is_cancelled_is_partial_and_nothing_is_awaited_on_the_way_out(
    chain: Chain, cancel: Any, backend: str, kind: str
) -> None:
    @capsuled(name="work")
    async def coroutine() -> None:
        await anyio.sleep(30)

    @capsuled(name="work")
    async def generator() -> AsyncIterator[int]:
        yield 1
        await anyio.sleep(30)

    async def call() -> None:
        if kind == "coroutine":
            await coroutine()
        elif kind == "scope":
            async with capsule_scope("work"):
                await anyio.sleep(30)
        else:
            async for _ in generator():
                pass

    anyio.run(cancel, call, backend=backend)
    outcome = chain.one("work")["outcome"]
    assert (outcome["status"], outcome["metrics"]["ended"]) == ("partial", "cancelled")
    assert outcome["error"]


def test_a_caught_cancellation_is_no_end(chain: Chain) -> None:
    @capsuled
    async def stubborn() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        return "done"

    async def main() -> str:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "done"
    assert statuses(chain) == [("success", None)]


def test_no_task_is_created_for_the_users_code(chain: Chain) -> None:
    @capsuled
    async def who() -> Any:
        await asyncio.sleep(0)
        return asyncio.current_task()

    @capsuled
    async def gen() -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        yield asyncio.current_task()

    async def main() -> None:
        here = asyncio.current_task()
        assert await who() is here
        assert [task async for task in gen()] == [here]
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


# -- bind_scope ------------------------------------------------------------------------------------


def test_bound_functions_run_under_the_scope_they_were_bound_in(chain: Chain) -> None:
    @capsuled
    def leaf(name: str) -> str:
        return name

    async def coroutine(name: str) -> str:
        await asyncio.sleep(0)
        return leaf(name)

    def generator(name: str) -> Iterator[str]:
        yield leaf(name)

    async def agen(name: str) -> AsyncIterator[str]:
        yield leaf(name)

    async def drain(bound: Any) -> list[str]:
        return [item async for item in bound("async generator")]

    def in_thread(target: Callable[[], Any]) -> None:
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()

    async def main() -> None:
        with capsule_scope("caller"):
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, bind_scope(leaf), "executor")
            function, routine = bind_scope(leaf), bind_scope(coroutine)
            gen, async_gen = bind_scope(generator), bind_scope(agen)
            assert inspect.iscoroutinefunction(routine)
            assert inspect.isgeneratorfunction(gen)
            assert inspect.isasyncgenfunction(async_gen)
            in_thread(lambda: function("thread"))
            in_thread(lambda: asyncio.run(routine("coroutine")))
            in_thread(lambda: list(gen("generator")))
            in_thread(lambda: asyncio.run(drain(async_gen)))
            in_thread(lambda: leaf("not bound"))

    asyncio.run(main())
    under = {capsule["trigger"]["request"]: capsule["parent_id"] for capsule in chain.named("leaf")}
    caller = chain.one("caller")["id"]
    assert under == {
        "executor": caller,
        "thread": caller,
        "coroutine": caller,
        "generator": caller,
        "async generator": caller,
        "not bound": None,
    }


@capsuled(name="lazy")
async def decorated_coroutine() -> None:
    await asyncio.sleep(0)


@capsuled(name="lazy")
def decorated_generator() -> Iterator[int]:
    yield 1


@capsuled(name="lazy")
async def decorated_async_generator() -> AsyncIterator[int]:
    yield 1


@capsuled(name="lazy")
@types.coroutine
def decorated_awaitable() -> Generator[None, None, None]:
    yield


class Decorated:
    @capsuled(name="lazy")
    async def method(self) -> None:
        await asyncio.sleep(0)


LAZY = [
    decorated_coroutine, decorated_generator, decorated_async_generator, decorated_awaitable,
    Decorated().method, functools.partial(decorated_coroutine),
    capsuled(functools.partial(decorated_generator), name="partial"),
    capsuled(decorated_async_generator, name="twice")
]  # fmt: skip


async def run_through(made: Any) -> None:
    if inspect.isawaitable(made):
        await made
    elif inspect.isasyncgen(made):
        async for _ in made:
            pass
    else:
        for _ in made:
            pass


@pytest.mark.parametrize("lazy", LAZY)
@pytest.mark.parametrize("closed", [False, True])
def test_decorated_coroutine_functions_and_generators_can_be_bound(
    chain: Chain, lazy: Callable[[], Any], closed: bool
) -> None:
    async def main() -> None:
        with capsule_scope("caller", user_id="u"):
            bound = bind_scope(lazy)
            if not closed:
                await asyncio.create_task(run_through(outside.run(bound)))
        if closed:
            with capsule_scope("elsewhere", user_id="other"):
                await run_through(bound())
                assert current_scope().user_id == "other"

    outside = copy_context()
    asyncio.run(main())
    caller, found = chain.one("caller")["id"], chain.one("lazy")
    assert found["trigger"]["user_id"] == "u"
    around = [c for c in chain.capsules() if c["trigger"]["source"] in ("partial", "twice")]
    top = around[0] if around else found
    assert top["parent_id"] == (None if closed else caller)
    assert top["context"]["environment"].get("closed_parent") == (caller if closed else None)
    assert found["parent_id"] == (top["id"] if around else top["parent_id"])
    assert innermost() is None


@pytest.mark.parametrize("lazy", LAZY)
def test_a_lazy_call_that_makes_another_is_the_task_around_it(
    chain: Chain, lazy: Callable[[], Any]
) -> None:
    async def main() -> None:
        with capsule_scope("caller"):
            made = capsuled(lazy, name="outer", user_id="u")()
            with capsule_scope("another"):
                await run_through(made)
            beside = decorated_coroutine()
        await beside

    asyncio.run(main())
    assert innermost() is None
    first = chain.named("lazy")[0]
    above = {c["id"]: c for c in chain.capsules()}
    parents = []
    while first["parent_id"] is not None:
        first = above[first["parent_id"]]
        parents.append(first["trigger"]["source"])
    assert [name for name in parents if name not in ("partial", "twice")] == ["outer", "caller"]
    assert chain.named("lazy")[0]["trigger"]["user_id"] == "u"


def test_a_bound_function_keeps_the_scopes_attribution_and_passes_errors_on(chain: Chain) -> None:
    error = ThrownError("x")

    def work() -> None:
        assert current_scope().session_id == "s-1"
        raise error

    outside = copy_context()
    with capsule_scope("caller", session_id="s-1"):
        bound = bind_scope(work)
        with pytest.raises(ThrownError) as caught:
            outside.run(bound)
    assert caught.value is error
    assert outside.run(innermost) is None
    assert chain.sources() == ["caller"]


def test_an_async_generator_destroyed_in_its_clean_up_leaves_no_scope_behind(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    @capsuled
    async def awaits_in_finally() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)

    generator: Any = awaits_in_finally()
    with pytest.raises(StopIteration):
        generator.asend(None).send(None)
    with capsule_scope("consumer") as consumer:
        del generator
        gc.collect()
        assert current_task() is consumer
    assert chain.tree() == {"consumer": {}, "awaits_in_finally": {}}
    outcome = chain.one("awaits_in_finally")["outcome"]
    assert (outcome["status"], outcome["metrics"]["ended"]) == ("partial", "closed")

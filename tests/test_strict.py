"""Strict mode: leaving the outermost task waits for the commit, or says in time that it cannot be had.

The store is locked by another connection, as another program would lock it: what waits is held up, and what
does not comes through. What was committed is read from the file by a connection of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import litellm
import pytest
import trio
from conftest import Chain
from litellm_support import LITELLM_NOISE, pairs, run

from capsule_sdk import CapsuleLogger, bind_scope, capsule_scope, capsuled
from capsule_sdk.errors import RecordingError

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE


#: Seconds that settle_timeout and exit_timeout add up to: who waits in vain does so for this long.
PATIENCE = 15.0


Work = Callable[[], Coroutine[Any, Any, Any]]


class Store:
    """A strict chain with a file that the test can lock."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.configure()
        with capsule_scope("first"):  # makes the file
            pass

    def configure(self, **settings: Any) -> None:
        self.chain.configure(swallow_errors=False, **settings)

    def __enter__(self) -> None:
        self.locking = sqlite3.connect(
            self.chain.url, isolation_level=None, check_same_thread=False
        )
        self.locking.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self.locking.execute("ROLLBACK")
        self.locking.close()

    def lock_for(self, seconds: float) -> threading.Thread:
        """Lock the file now, and let go in another thread."""
        self.__enter__()
        timer = threading.Timer(seconds, self.__exit__)
        timer.start()
        return timer

    def names(self) -> list[str]:
        """Return what is in the file at this moment, in chain order."""
        sources = [capsule["trigger"]["source"] for capsule in self.chain.stored()]
        return [source.rpartition(".")[2] for source in sources][1:]


@pytest.fixture
def store(chain: Chain) -> Store:
    return Store(chain)


# -- who waits -------------------------------------------------------------------------------------


@capsuled(name="inner")
def function() -> None: ...


@capsuled(name="inner")
async def coroutine() -> None: ...


@capsuled(name="inner")
def generator() -> Generator[int, None, None]:
    yield 1


@capsuled(name="inner")
async def async_generator() -> AsyncGenerator[int, None]:
    yield 1


async def one_of_each(left: Callable[[], None]) -> None:
    function()
    await coroutine()
    list(generator())
    assert [item async for item in async_generator()] == [1]
    with capsule_scope("inner"):
        pass
    async with capsule_scope("inner"):
        pass
    left()


def outermost(kind: str, left: Callable[[], None]) -> Any:
    """Run `one_of_each` inside a task of this kind, and return how many capsules the file holds then."""

    def inside() -> None:
        anyio.run(one_of_each, left)

    outer = capsuled(inside, name="outer")

    @capsuled(name="outer")
    async def aouter() -> None:
        await one_of_each(left)

    @capsuled(name="outer")
    def gouter() -> Iterator[int]:
        inside()
        yield 1

    @capsuled(name="outer")
    async def agouter() -> AsyncIterator[int]:
        await one_of_each(left)
        yield 1

    async def block() -> None:
        async with capsule_scope("outer"):
            await one_of_each(left)

    async def consume() -> None:
        assert [item async for item in agouter()] == [1]

    match kind:
        case "function":
            outer()
        case "generator":
            assert list(gouter()) == [1]
        case "with":
            with capsule_scope("outer"):
                inside()
        case "coroutine":
            anyio.run(aouter)
        case "coroutine in trio":
            anyio.run(aouter, backend="trio")
        case "async with":
            anyio.run(block)
        case "async with in trio":
            anyio.run(block, backend="trio")
        case "async generator":
            anyio.run(consume)
        case _:
            anyio.run(consume, backend="trio")


@pytest.mark.parametrize(
    "kind",
    [
        "function",
        "generator",
        "with",
        "coroutine",
        "coroutine in trio",
        "async with",
        "async with in trio",
        "async generator",
        "async generator in trio",
    ],
)
def test_leaving_the_outermost_task_waits_for_the_commit_and_leaving_inner_ones_does_not(
    store: Store, kind: str
) -> None:
    inner, found = threading.Event(), list[str]()

    def work() -> None:
        outermost(kind, inner.set)
        found.extend(store.names())

    thread = threading.Thread(target=work)
    with store:
        thread.start()
        assert inner.wait(5.0), "an inner task waits"
        thread.join(0.3)
        assert thread.is_alive(), "the outermost task does not wait"
    thread.join(20.0)
    assert found == ["inner"] * 6 + ["outer"]


def test_the_children_of_a_gather_do_not_wait_while_their_task_is_open(store: Store) -> None:
    @capsuled
    async def outer() -> None:
        await asyncio.gather(*(coroutine() for _ in range(50)))
        assert store.names() == []
        timer.join()

    timer = store.lock_for(1.0)
    asyncio.run(outer())
    assert store.names() == ["inner"] * 50 + ["outer"]


def test_bound_work_in_a_thread_pool_does_not_wait_and_unbound_work_waits_itself(
    store: Store,
) -> None:
    with ThreadPoolExecutor(4) as pool:
        with capsule_scope("outer"):
            with store:
                assert len([pool.submit(bind_scope(function)).result(5.0) for _ in range(9)]) == 9
                unbound = pool.submit(function)
                with pytest.raises(TimeoutError):
                    unbound.result(0.3)
            unbound.result(20.0)
            # Into the line in the order they ended, and committed together at the latest now.
            assert store.names() == ["inner"] * 10
        assert store.names() == ["inner"] * 10 + ["outer"]


def test_what_its_task_did_not_wait_for_waits_itself(store: Store) -> None:
    store.configure(settle_timeout=0)

    async def main() -> list[str]:
        gate = asyncio.Event()

        @capsuled
        async def late() -> None:
            await gate.wait()

        @capsuled
        async def outer() -> asyncio.Task[None]:
            task = asyncio.create_task(late())
            await asyncio.sleep(0)
            return task

        task = await outer()
        assert store.names() == ["outer"]
        store.lock_for(0.5)
        gate.set()
        await task
        return store.names()

    assert asyncio.run(main()) == ["outer", "late"]


def test_a_task_under_an_open_task_of_its_closed_task_does_not_wait(store: Store) -> None:
    def work() -> None:
        with capsule_scope("late"):
            closed.wait()

    closed = threading.Event()
    with ThreadPoolExecutor(1) as pool, capsule_scope("outer"):
        with capsule_scope("middle"):
            begun = pool.submit(bind_scope(work))
        with store:
            closed.set()
            begun.result(5.0)
    assert store.names() == ["late", "middle", "outer"]


def test_a_task_of_another_recorder_is_outermost_there(store: Store, chain: Chain) -> None:
    file = chain.url
    with capsule_scope("outer"):
        chain.url = file.with_name("other.db")
        store.configure()
        with capsule_scope("other"):
            pass
        assert [capsule["trigger"]["source"] for capsule in chain.stored()] == ["other"]
        chain.url = file
        assert store.names() == []
    assert store.names() == ["outer"]


def test_a_scope_that_records_nothing_waits_for_nothing(store: Store) -> None:
    with store:
        with capsule_scope(record=False, agent_id="x"):
            pass
        assert bind_scope(lambda: 1)() == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_generator_that_is_closed_waits_for_nothing(store: Store, backend: str) -> None:
    @capsuled
    def returning() -> Generator[int, None, None]:
        with contextlib.suppress(GeneratorExit):
            yield 1

    @capsuled
    async def areturning() -> AsyncGenerator[int, None]:
        with contextlib.suppress(GeneratorExit):
            yield 1

    async def main() -> None:
        for asteps in (async_generator(), areturning()):
            assert await anext(asteps) == 1
            await asteps.aclose()

    with store:  # who waited would get a RecordingError
        for steps in (generator(), returning()):
            assert next(steps) == 1
            steps.close()
        anyio.run(main, backend=backend)


# -- what cannot be had in time --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["function", "with", "coroutine", "async with in trio"])
def test_a_commit_that_cannot_be_had_in_time_is_an_error_of_the_outermost_task(
    store: Store, kind: str
) -> None:
    store.configure(settle_timeout=0, exit_timeout=0.3)
    inner = threading.Event()
    with store:
        start = time.monotonic()
        with pytest.raises(RecordingError, match=r"not in the chain after 0\.3 s"):
            outermost(kind, inner.set)
        assert 0.3 <= time.monotonic() - start < 5.0
        assert inner.is_set()
    assert store.chain.capsules()[-1]["trigger"]["source"] == "outer"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_crowd_learns_in_time_that_the_store_is_away(store: Store, backend: str) -> None:
    """400 tasks, and fewer threads that wait: what each waits for its turn is part of its time."""
    store.configure(settle_timeout=0, exit_timeout=1.0)
    raised: list[BaseException] = []

    async def work() -> None:
        try:
            await coroutine()
        except RecordingError as error:
            raised.append(error)

    async def main() -> float:
        start = time.monotonic()
        async with anyio.create_task_group() as group:
            for _ in range(400):
                group.start_soon(work)
        return time.monotonic() - start

    with store:
        assert anyio.run(main, backend=backend) < 6.0  # and not ten times one second
    assert len(raised) == 400
    assert len(store.chain.capsules()) == 401


def test_the_users_own_exception_wins_and_nothing_is_waited_for(store: Store) -> None:
    error = KeyError("mine")

    @capsuled
    def raising() -> None:
        raise error

    async def ablock() -> None:
        async with capsule_scope("block"):
            raise error

    @capsuled
    def graising() -> Iterator[int]:
        yield 1
        raise error

    def block() -> None:
        with capsule_scope("block"):
            raise error

    calls: list[Callable[[], Any]] = [
        raising,
        block,
        lambda: asyncio.run(ablock()),
        lambda: asyncio.run(capsuled(ablock)()),
        lambda: trio.run(ablock),
        lambda: trio.run(capsuled(ablock)),
        lambda: list(graising()),
    ]
    with store:
        start = time.monotonic()
        for call in calls:
            with pytest.raises(KeyError) as caught:
                call()
            assert caught.value is error
        assert time.monotonic() - start < PATIENCE, "somebody waited"


# -- cancellation ----------------------------------------------------------------------------------


async def by_task_cancel(work: Work) -> None:
    task = asyncio.create_task(work())
    await asyncio.sleep(0.1)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert task.cancelled()


async def by_wait_for(work: Work) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work(), 0.1)


async def by_timeout(work: Work) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await work()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def by_task_group(work: Work) -> None:
    async def failing() -> None:
        await asyncio.sleep(0.1)
        raise KeyError("sibling")

    tasks: list[asyncio.Task[Any]] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing())
            tasks.append(group.create_task(work()))
    assert [type(error) for error in caught.value.exceptions] == [KeyError]
    assert tasks[0].cancelled()


async def by_move_on_after(work: Work) -> None:
    with anyio.move_on_after(0.1) as scope:
        await work()
    assert scope.cancelled_caught


async def by_trio_itself(work: Work) -> None:
    with trio.move_on_after(0.1) as scope:
        await work()
    assert scope.cancelled_caught


async def by_the_task_itself(work: Work) -> None:
    """The cancellation is on its way already when the wait begins."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await work()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(main())


async def by_a_scope_from_the_start(work: Work) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await work()
    assert scope.cancelled_caught


CANCELLERS: list[tuple[str, Callable[..., Awaitable[None]]]] = [
    ("asyncio", by_task_cancel),
    ("asyncio", by_wait_for),
    ("asyncio", by_timeout),
    ("asyncio", by_task_group),
    ("asyncio", by_the_task_itself),
    ("asyncio", by_a_scope_from_the_start),
    ("trio", by_a_scope_from_the_start),
    ("asyncio", by_move_on_after),
    ("trio", by_move_on_after),
    ("trio", by_trio_itself),
]


@pytest.mark.parametrize(("backend", "cancel"), CANCELLERS)
@pytest.mark.parametrize("kind", ["coroutine", "async with", "async generator"])
def test_a_wait_that_is_cancelled_goes_on_to_its_end_and_raises_the_cancellation_then(
    store: Store, backend: str, cancel: Callable[..., Awaitable[None]], kind: str
) -> None:
    after: list[str] = []

    async def work() -> None:
        match kind:
            case "coroutine":
                await coroutine()
            case "async with":
                async with capsule_scope("inner"):
                    pass
            case _:
                async for _ in async_generator():
                    pass
        after.append("not cancelled")

    async def main() -> list[str]:
        timer = store.lock_for(0.5)
        await cancel(work)
        assert not timer.is_alive(), "the wait was given up"
        return store.names()

    assert anyio.run(main, backend=backend) == ["inner"]
    assert after == []


@pytest.mark.parametrize(("backend", "cancel"), CANCELLERS)
def test_a_body_that_is_cancelled_waits_for_nothing(
    store: Store, backend: str, cancel: Callable[..., Awaitable[None]]
) -> None:

    async def sleeping() -> None:
        async with capsule_scope("block"):
            await anyio.sleep(60)

    with store:
        start = time.monotonic()
        anyio.run(cancel, sleeping, backend=backend)
        anyio.run(cancel, capsuled(sleeping), backend=backend)
        assert time.monotonic() - start < PATIENCE, "somebody waited"


@pytest.mark.parametrize(("backend", "cancel"), CANCELLERS)
def test_a_cancellation_comes_before_the_error_of_a_wait_in_vain(
    store: Store, backend: str, cancel: Callable[..., Awaitable[None]]
) -> None:
    store.configure(settle_timeout=0, exit_timeout=0.5)
    with store:
        anyio.run(cancel, coroutine, backend=backend)
    assert len(store.chain.capsules()) == 2


def test_a_wait_in_vain_is_not_longer_for_being_cancelled(store: Store) -> None:
    store.configure(settle_timeout=0, exit_timeout=2.0)

    async def main() -> float:
        task = asyncio.create_task(coroutine())
        start = time.monotonic()
        for _ in range(3):
            await asyncio.sleep(0.6)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - start

    with store:
        assert 2.0 <= asyncio.run(main()) < 3.4  # and not 3.8


# -- many, and in odd places -----------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_two_hundred_strict_tasks_leave_the_threads_to_the_users_code(
    store: Store, backend: str
) -> None:
    async def work(number: int) -> None:
        async with capsule_scope(f"task-{number}"):
            await anyio.to_thread.run_sync(time.sleep, 0)
        assert f"task-{number}" in store.names()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            with store:
                for number in range(200):
                    group.start_soon(work, number)
                await anyio.sleep(0.3)
                with anyio.fail_after(5.0):
                    await anyio.to_thread.run_sync(time.sleep, 0)
                assert store.names() == []

    anyio.run(main, backend=backend)
    assert sorted(store.names()) == sorted(f"task-{number}" for number in range(200))


def test_the_wait_needs_no_default_executor_and_no_particular_loop(store: Store) -> None:
    async def main() -> None:
        await asyncio.get_running_loop().shutdown_default_executor()
        await coroutine()
        assert len(store.names()) == 1
        for backend in ("asyncio", "trio"):
            await anyio.to_thread.run_sync(lambda: anyio.run(coroutine))
            await anyio.to_thread.run_sync(
                lambda backend=backend: anyio.run(coroutine, backend=backend)
            )
        assert len(store.names()) == 5

    asyncio.run(main())
    with pytest.raises(StopIteration):  # stepped by hand, in nobody's loop
        coroutine().send(None)
    assert len(store.names()) == 6


def test_where_no_thread_can_be_started_the_wait_blocks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> list[str]:
        with monkeypatch.context() as patched:
            patched.setattr("anyio._backends._asyncio.WorkerThread.start", refuse)
            await coroutine()
        return store.names()

    assert asyncio.run(main()) == ["inner"]


def test_whatever_goes_wrong_in_the_wait_is_raised(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr("capsule_sdk.recording.recorder.Recorder.confirm", broken)
    with pytest.raises(RuntimeError, match="injected"):
        asyncio.run(coroutine())
    with pytest.raises(RuntimeError, match="injected"):
        function()


# -- calls to a model ------------------------------------------------------------------------------


@pytest.fixture
def llm(llm: Any, store: Store) -> Any:
    litellm.callbacks = [CapsuleLogger()]
    return llm


def test_a_call_inside_a_task_does_not_wait_and_its_task_does(llm: Any, store: Store) -> None:
    async def ahalf() -> None:
        await llm.aask()
        async for _ in await llm.aask(stream=True):
            pass

    with capsule_scope("outer"), store:  # who waited would get a RecordingError
        llm.ask()
        list(llm.ask(stream=True))
        run(ahalf)
    assert pairs(store.chain.stored())[-4:] == [("outer", "success")] * 4


def test_a_call_outside_every_task_waits_itself(llm: Any, store: Store) -> None:
    def stored() -> int:
        return len(pairs(store.chain.stored()))

    llm.ask()
    store.lock_for(0.5)
    llm.ask()
    assert stored() == 2
    store.lock_for(0.5)
    list(llm.ask(stream=True))
    assert stored() == 3

    async def ahalf() -> None:
        store.lock_for(0.5)
        await llm.aask()
        assert stored() == 4
        store.lock_for(0.5)
        async for _ in await llm.aask(stream=True):
            pass
        assert stored() == 5

    run(ahalf)


def test_a_call_waits_itself_where_only_its_logger_is_strict(llm: Any, chain: Chain) -> None:
    chain.configure()
    litellm.callbacks = [CapsuleLogger(swallow_errors=False)]
    with capsule_scope("outer"):
        llm.ask()
        assert len(pairs(chain.stored())) == 1

"""What was started in a scope belongs to it after its end: its identity holds, its authority does not."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any

import anyio
import pytest
import structlog
from conftest import Chain
from litellm_support import LITELLM_NOISE, run

from capsule_sdk import (
    add_capsule_ids,
    bind_scope,
    capsule_scope,
    capsuled,
    configure,
    current_scope,
    current_task,
)
from capsule_sdk.scopes.node import INHERITED_FACTS, innermost

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

WHO = {
    "agent_id": "agent-2", "domain": "domain-2", "session_id": "session-2", "user_id": "user-2",
    "correlation_id": "correlation-2", "tenant_id": "tenant-2", "environment": {"route": "/chat"},
}  # fmt: skip


# -- ways to outlive a scope -----------------------------------------------------------------------


async def create_task(call: Callable[[], Any], gate: asyncio.Event) -> Any:
    async def later() -> None:
        await gate.wait()
        await asyncio.to_thread(call)

    return asyncio.create_task(later())


async def call_later(call: Callable[[], Any], gate: asyncio.Event) -> Any:
    done = asyncio.get_running_loop().create_future()

    def poll() -> None:
        if gate.is_set():
            call()
            done.set_result(None)
        else:
            asyncio.get_running_loop().call_later(0.01, poll)

    poll()
    return done


async def thread(call: Callable[[], Any], gate: asyncio.Event) -> Any:
    go, context = threading.Event(), copy_context()
    work = threading.Thread(target=context.run, args=(lambda: (go.wait(10), call()),))
    work.start()

    async def join() -> None:
        go.set()
        await asyncio.to_thread(work.join)

    return join()


async def timer(call: Callable[[], Any], gate: asyncio.Event) -> Any:
    context, done = copy_context(), asyncio.get_running_loop().create_future()

    def fire() -> None:
        context.run(call)
        done.get_loop().call_soon_threadsafe(done.set_result, None)

    async def start() -> None:
        threading.Timer(0.01, fire).start()
        await done

    return start()


async def executor(call: Callable[[], Any], gate: asyncio.Event) -> Any:
    pool, context = ThreadPoolExecutor(1), copy_context()

    async def submit() -> None:
        await asyncio.wrap_future(pool.submit(context.run, call))
        pool.shutdown()

    return submit()


async def bound(call: Callable[[], Any], gate: asyncio.Event) -> Any:
    return asyncio.to_thread(copy_context().copy().run, bind_scope(call))


WAYS = [create_task, call_later, thread, timer, executor, bound]


@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_outlives_its_scope_keeps_its_identity_and_not_its_authority(
    chain: Chain, llm: Any, way: Any
) -> None:
    """A (open, under a human's authority) around B (closed, under a policy's): B's identity, A's authority."""

    async def main() -> None:
        gate = asyncio.Event()
        with capsule_scope(
            "A", session_id="session-1", environment={"host": "h"}, authority="human-approved"
        ):
            with capsule_scope("B", **WHO, authority="policy"):
                running = await way(llm.ask, gate)
            gate.set()
            assert current_scope().session_id == "session-1"
            await running
        gate = asyncio.Event()
        with capsule_scope("C", user_id="user-3", authority="policy"):
            running = await way(llm.ask, gate)
        gate.set()
        assert innermost() is None
        await running

    run(main)
    under_a, under_none = chain.named("litellm")
    assert under_a["parent_id"] == chain.one("A")["id"]
    assert under_a["context"]["agent_id"] == "agent-2"
    assert under_a["domain"] == "domain-2"
    assert under_a["context"]["session_id"] == "session-2"
    assert under_a["trigger"]["user_id"] == "user-2"
    assert under_a["trigger"]["correlation_id"] == "correlation-2"
    environment = under_a["context"]["environment"]
    assert environment["tenant_id"] == "tenant-2"
    assert (environment["host"], environment["route"]) == ("h", "/chat")
    assert environment["closed_parent"] == chain.one("B")["id"]
    assert (under_a["authority"]["type"], under_a["authority"]["chain"]) == ("human_approved", [])
    assert under_none["parent_id"] is None
    assert under_none["trigger"]["user_id"] == "user-3"
    assert under_none["context"]["environment"]["closed_parent"] == chain.one("C")["id"]
    assert under_none["authority"]["type"] == "autonomous"


def test_a_task_group_that_a_scope_is_left_inside_of(chain: Chain, llm: Any) -> None:
    async def main() -> None:
        gate = anyio.Event()

        async def later() -> None:
            await gate.wait()
            await llm.aask()

        async with anyio.create_task_group() as group:
            with capsule_scope("left", session_id="s"):
                group.start_soon(later)
            gate.set()

    run(main)
    call = chain.one("litellm")
    assert (call["parent_id"], call["context"]["session_id"]) == (None, "s")


def test_authority_ends_for_a_task_that_was_begun_under_it_too(chain: Chain) -> None:
    async def work(inside: asyncio.Event, outside: asyncio.Event) -> None:
        with capsule_scope("work", user_id="u"):
            with capsule_scope("approved"):
                inside.set()
            await outside.wait()
            with capsule_scope("not any more"):
                assert current_scope().authority is None
            with capsule_scope("by itself", authority="policy"):
                pass

    async def main() -> None:
        inside, outside = asyncio.Event(), asyncio.Event()
        with capsule_scope("approval", authority="human-approved"):
            job = asyncio.create_task(work(inside, outside))
            await inside.wait()
        outside.set()
        await job

    asyncio.run(main())
    assert chain.one("work")["authority"]["type"] == "human_approved"
    assert chain.one("approved")["authority"]["type"] == "human_approved"
    assert chain.one("not any more")["authority"]["type"] == "autonomous"
    authority = chain.one("by itself")["authority"]
    assert (authority["type"], authority["chain"]) == ("policy", [])


def test_a_scope_that_records_nothing_is_outlived_as_well(chain: Chain) -> None:
    with capsule_scope("A"):
        with capsule_scope(record=False, user_id="u", authority="policy"):
            context = copy_context()
        context.run(capsuled(lambda: None, name="late"))
    late = chain.one("late")
    assert late["parent_id"] == chain.one("A")["id"]
    assert (late["trigger"]["user_id"], late["authority"]["type"]) == ("u", "autonomous")
    assert late["context"]["environment"] == {}


def identity() -> tuple[str | None, str | None, str | None]:
    scope = current_scope()
    return scope.user_id, scope.session_id, scope.tenant_id


@pytest.mark.parametrize("names", ["user_id", "session_id", "tenant_id"])
def test_a_scope_that_says_who_it_is_for_takes_nobodys_leftovers(chain: Chain, names: str) -> None:
    bob: Any = {names: "bob"}
    bobs = tuple(
        "bob" if name == names else None for name in ("user_id", "session_id", "tenant_id")
    )
    with capsule_scope("alice's", user_id="alice", session_id="sa", tenant_id="ta", agent_id="a"):
        left = copy_context()

    def request() -> None:
        assert identity() == ("alice", "sa", "ta")  # nothing says anything else
        with capsule_scope("direct", **bob):
            assert identity() == bobs
            assert current_scope().agent_id == "a"
        with capsule_scope("nameless", agent_id="b"):
            assert identity() == ("alice", "sa", "ta")
            with capsule_scope("below", **bob):
                assert identity() == bobs
                with capsule_scope("and below", domain="d"):
                    assert identity() == bobs
            inside = copy_context()
        inside.run(capsuled(lambda: seen.append(identity()), name="late", **bob))

    seen: list[Any] = []
    left.run(request)
    assert seen == [bobs]
    below = chain.one("below")
    assert below["trigger"]["user_id"] == bobs[0]
    assert below["context"]["session_id"] == bobs[1]


def test_a_scope_inherits_as_ever_from_those_that_are_open_and_from_what_was_bound() -> None:
    @capsuled(session_id="mine")
    async def work() -> Any:
        return identity()

    with capsule_scope(record=False, tenant_id="t"):
        with capsule_scope(record=False, user_id="u"):
            context = copy_context()
            with capsule_scope(record=False, domain="d"):
                bound = bind_scope(work)

        def in_what_is_left() -> Any:
            with capsule_scope(record=False, session_id="s"):
                return identity()

        assert context.run(in_what_is_left) == (None, "s", "t")
    assert asyncio.run(bound()) == ("u", "mine", "t")


def test_a_job_begun_in_time_keeps_its_identity_for_the_scopes_in_it() -> None:
    async def job(go: asyncio.Event) -> Any:
        with capsule_scope(record=False, domain="job"):
            await go.wait()
            with capsule_scope(record=False, session_id="sub"):
                return identity()

    async def main() -> Any:
        go = asyncio.Event()
        with capsule_scope(record=False, user_id="u"):
            running = asyncio.create_task(job(go))
            await asyncio.sleep(0)
        go.set()
        return await running

    assert asyncio.run(main()) == ("u", "sub", None)


# -- what is said about it -------------------------------------------------------------------------


def test_all_that_tells_what_is_current_says_the_same(chain: Chain) -> None:
    lines: list[Any] = []

    def keep(_: Any, __: str, event: Any) -> str:
        lines.append(dict(event))
        return ""

    log = structlog.wrap_logger(structlog.PrintLogger(), processors=[add_capsule_ids, keep])

    def look() -> Any:
        log.info("late")
        return current_task(), current_scope()

    with capsule_scope("A", agent_id="a", session_id="1") as task:
        with capsule_scope("B", session_id="2", authority="policy"):
            context = copy_context()
        current, scope = context.run(look)
        assert current is task is scope.nearest_task()
        assert (scope.agent_id, scope.session_id, scope.authority) == ("a", "2", None)
        assert repr(scope).endswith("closed>")
    current, scope = context.run(look)
    assert not current.recording
    assert (scope.nearest_task(), scope.session_id) == (None, "2")
    with capsule_scope("C", record=False, session_id="3"):
        look()
    assert lines == [
        {"event": "late", "capsule_id": str(task.id), "agent_id": "a", "session_id": "2"},
        {"event": "late", "agent_id": "a", "session_id": "2"},
        {"event": "late", "session_id": "3"},
    ]


# -- what is not left over -------------------------------------------------------------------------


def test_what_comes_after_a_scope_in_its_own_context_has_nothing_of_it(chain: Chain) -> None:
    def holding() -> Iterator[int]:
        with capsule_scope("undecorated", user_id="u"):
            yield 1

    @capsuled(user_id="u")
    def decorated() -> Iterator[int]:
        with capsule_scope("inside", user_id="u2"):
            yield 1

    async def aholding() -> AsyncIterator[int]:
        with capsule_scope("async", user_id="u"):
            yield 1

    async def main() -> None:
        with capsule_scope("job", user_id="mine") as job:
            async for _ in aholding():
                break  # the event loop closes it, in a context of its own
            gc.collect()
            await asyncio.sleep(0.01)
            assert current_scope().user_id == "mine"
            assert current_task() is job
            with capsule_scope("sibling"):
                pass

    for generator in (holding, decorated):
        steps = generator()
        next(steps)
        elsewhere = threading.Thread(target=steps.close)
        elsewhere.start()
        elsewhere.join()
        assert innermost() is None
    asyncio.run(main())
    assert chain.one("sibling")["trigger"]["user_id"] == "mine"
    assert "closed_parent" not in chain.one("sibling")["context"]["environment"]
    assert innermost() is None


# -- for ever --------------------------------------------------------------------------------------


@pytest.mark.load
@pytest.mark.parametrize("overlapping", [False, True], ids=["one after the other", "overlapping"])
def test_a_hundred_thousand_jobs_that_each_start_the_next_keep_no_scopes(overlapping: bool) -> None:
    from capsule_sdk.records.attribution import Attribution
    from capsule_sdk.scopes.node import Scope

    def links(node: Scope | None) -> int:
        count = 0
        while node is not None:
            count, node = count + 1, node.parent
        return count

    node: Scope | None = None
    tracemalloc.start()
    sizes = []
    for number in range(100_000):
        facts = {f"fact {number}": number}
        began = Scope(node, Attribution(session_id=str(number), environment=facts))
        if node is not None:
            node.close()
        if not overlapping:
            began.close()
        node = began
        if number in (1_000, 99_999):
            sizes.append(tracemalloc.get_traced_memory()[0])
            assert links(node) <= 2
    tracemalloc.stop()
    assert node is not None
    assert node.session_id == "99999"
    assert sizes[1] < sizes[0] + 50_000
    assert len(node.environment) == INHERITED_FACTS + 1


def test_the_tasks_of_jobs_that_each_start_the_next_are_let_go(chain: Chain) -> None:
    from capsule_sdk.records.task import Task

    configure(url=chain.url, settle_timeout=0.05)

    async def job(number: int, done: asyncio.Event) -> None:
        with capsule_scope(f"job {number}", session_id="s"):
            await asyncio.sleep(0)
        if number:
            kept.add(asyncio.create_task(job(number - 1, done)))
        else:
            done.set()

    kept: set[Any] = set()

    def tasks() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Task) for thing in gc.get_objects())

    async def main() -> None:
        done = asyncio.Event()
        with capsule_scope("first", session_id="s"):
            kept.add(asyncio.create_task(job(2_000, done)))
        await done.wait()

    before = tasks()
    asyncio.run(main())
    kept.clear()
    assert all(c["context"]["session_id"] == "s" for c in chain.capsules())
    assert tasks() < before + 50


def test_machinery_that_is_started_outside_of_every_scope_has_no_authority_of_its_first_user(
    chain: Chain,
) -> None:
    @capsuled
    async def handle(item: str) -> str:
        return item

    async def work(queue: asyncio.Queue[str]) -> None:
        while True:
            await handle(await queue.get())
            queue.task_done()

    async def main() -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        with capsule_scope("approved", user_id="ana", authority="human-approved", approver="boss"):
            worker = asyncio.create_task(work(queue), context=Context())
            await queue.put("another's")
            await queue.join()
        worker.cancel()

    asyncio.run(main())
    handled = chain.one("handle")
    assert (handled["parent_id"], handled["trigger"]["user_id"]) == (None, None)
    assert handled["authority"]["type"] == "autonomous"

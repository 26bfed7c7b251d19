"""What Python closes of abandoned code belongs to whoever began it, never to what the collector interrupts."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from conftest import Capsule, Chain
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from capsule_sdk import capsule_scope, capsuled, current_scope, current_task
from capsule_sdk.scopes import abandoned, collecting


@capsuled(name="cleaned up")
def clean_up() -> None:
    pass


def generator() -> Iterator[int]:
    try:
        yield 1
    finally:
        clean_up()


async def async_generator() -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        clean_up()


async def awaits() -> AsyncIterator[int]:
    try:
        yield 1
    finally:
        await asyncio.sleep(0.001)
        clean_up()


async def starts_a_task() -> AsyncIterator[int]:
    async def later() -> None:
        clean_up()

    try:
        yield 1
    finally:
        kept.add(asyncio.create_task(later()))


async def coroutine() -> None:
    try:
        await asyncio.Future()
    finally:
        clean_up()


kept: set[Any] = set()
ASYNC = (async_generator, awaits, starts_a_task)


class Garbage:
    """Something that only the collector can find."""

    def __init__(self) -> None:
        self.me = self
        self.held: Any = None


async def begin(made: Any) -> None:
    garbage = Garbage()
    garbage.held = made
    if hasattr(made, "__anext__"):
        await anext(made)
    elif hasattr(made, "send") and hasattr(made, "cr_frame"):
        made.send(None)
    else:
        next(made)


def collect_here() -> None:
    gc.collect()


def collect_in_another_scope() -> None:
    with capsule_scope("other", session_id="other", authority="human-approved", approver="ceo"):
        gc.collect()


def collect_in_a_thread() -> None:
    thread = threading.Thread(target=collect_in_another_scope)
    thread.start()
    thread.join()


async def abandon(made: Callable[[], Any], collect: Callable[[], None]) -> None:
    """Begin something in the scope of a user who leaves, and have it collected elsewhere."""

    async def user() -> None:
        with capsule_scope("user", session_id="user", authority="policy", policy_reference="p"):
            await begin(made())

    gc.collect()
    gc.disable()
    try:
        await asyncio.create_task(user())
        collect()
    finally:
        gc.enable()
    await asyncio.sleep(0.02)
    await asyncio.gather(*kept)
    kept.clear()


def told(capsule: Capsule) -> tuple[str | None, str, str | None]:
    facts = capsule["context"]["environment"]
    return capsule["context"]["session_id"], capsule["authority"]["type"], facts.get("made_in")


COLLECTS = pytest.mark.parametrize(
    "collect", [collect_here, collect_in_another_scope, collect_in_a_thread]
)


@COLLECTS
@pytest.mark.parametrize("made", [*ASYNC, generator, coroutine])
def test_what_a_decorated_call_has_left_is_closed_in_its_own_scope(
    chain: Chain, made: Callable[[], Any], collect: Callable[[], None]
) -> None:
    complaints: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        await abandon(capsuled(made, name="left"), collect)

    asyncio.run(main())
    assert complaints == []
    left, cleaned = chain.one("left"), chain.one("cleaned up")
    assert (left["outcome"]["status"], left["outcome"]["metrics"]["ended"]) == ("partial", "closed")
    assert told(cleaned) == ("user", "autonomous", None)
    assert left["id"] in (
        cleaned["parent_id"],
        cleaned["context"]["environment"].get("closed_parent"),
    )


@COLLECTS
@pytest.mark.parametrize("made", ASYNC)
def test_an_undecorated_async_generator_is_closed_in_the_scope_that_it_began_in(
    chain: Chain, made: Callable[[], Any], collect: Callable[[], None]
) -> None:
    asyncio.run(abandon(made, collect))
    cleaned = chain.one("cleaned up")
    assert told(cleaned) == ("user", "autonomous", None)
    assert cleaned["context"]["environment"]["closed_parent"] == chain.one("user")["id"]


@COLLECTS
@pytest.mark.parametrize("made", [generator, coroutine])
def test_what_else_is_collected_is_nobodys_and_says_so(
    chain: Chain, made: Callable[[], Any], collect: Callable[[], None]
) -> None:
    asyncio.run(abandon(made, collect))
    cleaned = chain.one("cleaned up")
    interrupts = collect is not collect_here
    expected = (None, "autonomous", "garbage collection" if interrupts else None)
    assert told(cleaned) == expected
    assert cleaned["parent_id"] is None
    assert "closed_parent" not in cleaned["context"]["environment"]


def test_the_code_that_is_interrupted_keeps_its_scope(chain: Chain) -> None:
    seen: list[Any] = []

    class Finalized:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            seen.append((current_scope().session_id, current_task().recording))
            with capsule_scope("finalizer", session_id="its own"):
                seen.append(current_scope().session_id)

    with capsule_scope("interrupted", session_id="s") as task:
        Finalized()
        gc.collect()
        assert seen == [(None, False), "its own"]
        assert current_scope().session_id == "s"
        assert current_task() is task
        made = contextvars.copy_context().run(lambda: current_scope().session_id)
        assert made == "s"
    finalizer = chain.one("finalizer")
    assert (finalizer["parent_id"], told(finalizer)[2]) == (None, "garbage collection")


def test_a_generator_begun_outside_every_scope_is_nobodys_wherever_it_is_dropped(
    chain: Chain,
) -> None:
    async def main() -> None:
        with capsule_scope("first"):
            pass  # from here on the loop is watched
        began = async_generator()
        await anext(began)
        with capsule_scope("other", session_id="other"):
            del began
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert told(chain.one("cleaned up")) == (None, "autonomous", None)


def test_ten_thousand_generators_that_were_read_to_their_end_are_not_kept_in_mind(
    chain: Chain,
) -> None:
    async def one() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        import sys

        with capsule_scope("reader"):
            for _ in range(10_000):
                assert [item async for item in one()] == [1]
            watch: Any = sys.get_asyncgen_hooks().finalizer.__self__  # type: ignore[union-attr]
            assert len(watch._began) <= abandoned.LEAST
            alive = [one() for _ in range(500)]
            for generator in alive:
                await anext(generator)
            assert len(watch._began) >= 500
            del alive, generator

    asyncio.run(main())


def test_collections_in_every_step_of_a_hundred_tasks_never_mix_their_scopes(chain: Chain) -> None:
    """Before Python 3.12 the collector may run in the middle of setting a context variable."""
    before = gc.get_threshold()

    async def user(name: str) -> None:
        for _ in range(20):
            with capsule_scope("step", session_id=name):
                await begin(capsuled(generator)())
                await begin(async_generator())
                assert current_scope().session_id == name
                await asyncio.sleep(0)
                assert current_scope().session_id == name

    async def main() -> None:
        await asyncio.gather(*(user(str(number)) for number in range(20)))
        gc.collect()
        await asyncio.sleep(0.05)

    gc.set_threshold(5, 2, 2)
    try:
        asyncio.run(main())
    finally:
        gc.set_threshold(*before)
    assert not collecting.is_collecting()
    cleaned = chain.named("cleaned up")
    assert len(cleaned) == 2 * 20 * 20
    assert {told(capsule)[0] for capsule in cleaned} == {str(number) for number in range(20)}


class Attributing(BaseHTTPMiddleware):
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        with capsule_scope("request", session_id="user"):
            return await call_next(request)


@pytest.mark.parametrize("decorated", [True, False])
def test_a_body_whose_client_has_left_is_cleaned_up_in_its_request(
    chain: Chain, decorated: bool
) -> None:
    async def body() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            await asyncio.sleep(0)
            clean_up()

    async def view(request: Request) -> StreamingResponse:
        response = StreamingResponse(body())
        request.state.response = response  # in a circle with its request
        response.request = request  # type: ignore[attr-defined]
        return response

    async def leave(path: str) -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            if len(sent) > 3:
                return {"type": "http.disconnect"}
            await asyncio.sleep(0.001)
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) > 3:
                raise OSError

        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": b"/", "query_string": b"",
            "headers": [], "http_version": "1.1", "asgi": {"version": "3.0", "spec_version": "2.4"},
        }  # fmt: skip
        with contextlib.suppress(Exception):
            await app(scope, receive, send)

    endpoint = capsuled(view, name="view") if decorated else view
    app = Starlette(routes=[Route("/", endpoint)], middleware=[Middleware(Attributing)])

    async def main() -> None:
        gc.disable()
        try:
            await asyncio.create_task(leave("/"))
            collect_in_another_scope()
        finally:
            gc.enable()
        await asyncio.sleep(0.02)

    asyncio.run(main())
    assert told(chain.one("cleaned up"))[0] == "user"

"""What a call leaves to be run after it has returned belongs to it: streams, bodies, background tasks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import AsyncGeneratorType, GeneratorType, ModuleType
from typing import Any

import fastapi
import httpx
import pytest
from conftest import Capsule, Chain
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from capsule_sdk import capsule_scope, capsuled, current_scope, current_task
from capsule_sdk.scopes.node import innermost


@capsuled
def step(name: str) -> str:
    return name


def parts(count: int = 3) -> Iterator[str]:
    """A body made in steps, each of which records something; and something more when it is closed."""
    try:
        for number in range(count):
            yield step(f"p{number}")
    finally:
        step("last")


async def aparts(count: int = 3) -> AsyncIterator[str]:
    try:
        for number in range(count):
            await asyncio.sleep(0)
            yield step(f"p{number}")
    finally:
        step("last")


class Parts:
    """An iterator that is no generator."""

    tint = "red"

    def __init__(self) -> None:
        self.inner = parts()

    def __iter__(self) -> Parts:
        return self

    def __next__(self) -> str:
        return next(self.inner)

    def close(self) -> None:
        step("closed")
        self.inner.close()


class AParts:
    """An async iterator that is no generator."""

    def __init__(self) -> None:
        self.inner = aparts()

    def __aiter__(self) -> AParts:
        return self

    async def __anext__(self) -> str:
        return await anext(self.inner)


class AIterable:
    """Neither generator nor iterator: its iterator is one."""

    def __aiter__(self) -> AsyncIterator[str]:
        return aparts()


WHOLE = ["p0", "p1", "p2", "last"]


def view_and_steps(chain: Chain, name: str = "view") -> tuple[tuple[str, Any], list[str]]:
    """Return how the view ended, and the steps that hang under it; there are no others."""
    view, steps = chain.one(name), []
    for capsule in chain.named("step"):
        steps.append(capsule["trigger"]["request"])
        closed_parent = capsule["context"]["environment"].get("closed_parent")
        expected = (view["id"], None) if steps[-1] != "closed" else (None, view["id"])
        assert (capsule["parent_id"], closed_parent) == expected, steps
    assert innermost() is None
    return (view["outcome"]["status"], view["outcome"]["metrics"].get("ended")), steps


def whole(chain: Chain, name: str = "view") -> Capsule:
    assert view_and_steps(chain, name) == (("success", None), WHOLE)
    return chain.one(name)


# -- streams that are returned ---------------------------------------------------------------------


class Callee:
    async def __call__(self) -> Any:
        return aparts()


async def agen_from_coroutine() -> Any:
    return aparts()


async def gen_from_coroutine() -> Any:
    return parts()


async def coroutine_from_coroutine() -> Any:
    return agen_from_coroutine()


def gen_from_function() -> Any:
    return parts()


def coroutine_from_lambda() -> Any:
    return agen_from_coroutine()


@pytest.mark.parametrize(
    "made",
    [
        Callee(), agen_from_coroutine, gen_from_coroutine, coroutine_from_coroutine,
        gen_from_function, coroutine_from_lambda, aparts,
    ],
)  # fmt: skip
def test_a_stream_that_a_call_returns_is_run_under_it_whatever_kind_of_call_it_was(
    chain: Chain, made: Callable[[], Any]
) -> None:
    async def main() -> None:
        found = capsuled(made, name="view")()
        while inspect.iscoroutine(found):
            found = await found
        assert type(found) in (GeneratorType, AsyncGeneratorType)
        assert innermost() is None
        if type(found) is GeneratorType:
            assert list(found) == WHOLE[:3]
        else:
            assert [part async for part in found] == WHOLE[:3]

    asyncio.run(main())
    whole(chain)


@pytest.mark.parametrize("reads", [0, 1])
def test_a_returned_stream_that_is_dropped_ends_its_task_as_partial(
    chain: Chain, reads: int
) -> None:
    async def main() -> None:
        stream = await capsuled(gen_from_coroutine, name="view")()
        for _ in range(reads):
            next(stream)
        del stream

    asyncio.run(main())
    expected = ["p0", "last"] if reads else []
    assert view_and_steps(chain) == (("partial", "closed"), expected)


def test_objects_that_hold_iterators_and_collections_are_not_followed(chain: Chain) -> None:
    class Mine:
        def __init__(self) -> None:
            self.body_iterator = self.response = self._iterator = parts()

    class StreamingResponse:  # a name is not enough
        def __init__(self) -> None:
            self.body_iterator = parts()

    for made in (
        Mine,
        StreamingResponse,
        lambda: [parts()],
        lambda: {"a": parts()},
        lambda: (1, parts()),
    ):
        found = capsuled(lambda made=made: made(), name="view")()
        assert chain.named("view")[-1]["outcome"]["status"] == "success"
        for field in vars(found).values() if hasattr(found, "__dict__") else ():
            assert field.__name__ == "parts"
            assert field.gi_frame is not None


@pytest.mark.parametrize("metaclass", ["unhashable", "lying"])
def test_no_code_of_a_result_or_its_class_is_run(chain: Chain, metaclass: str) -> None:
    ran: list[str] = []

    class Meta(type):
        def __eq__(cls, other: object) -> bool:
            ran.append("eq")
            return True

        if metaclass == "lying":

            def __hash__(cls) -> int:
                ran.append("hash")
                return hash(StreamingResponse)

    def noted(name: str) -> Any:
        return property(lambda self: ran.append(name))

    class Response(metaclass=Meta):
        __module__ = "starlette.responses"
        body_iterator = noted("body_iterator")
        background = noted("background")
        __class__ = noted("__class__")  # type: ignore[assignment]

        def __bool__(self) -> bool:
            ran.append("bool")
            return True

        def __len__(self) -> int:
            ran.append("len")
            return 1

    response = Response()
    assert capsuled(lambda: response, capture_result=False)() is response
    assert ran == []


# -- Starlette -------------------------------------------------------------------------------------


async def get(app: Any, path: str = "/", method: str = "GET") -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await client.request(method, path)


def serve(view: Callable[..., Any], *middleware: Any, **options: Any) -> httpx.Response:
    methods = {"methods": ["GET", "HEAD"]}
    app = Starlette(routes=[Route("/", view, **methods)], middleware=list(middleware))
    return asyncio.run(get(app, **options))


BODIES: dict[str, Callable[[], Any]] = {
    "generator": parts,
    "async generator": aparts,
    "map": lambda: map(str, parts()),
    "chain": lambda: itertools.chain(parts(2), [], map(step, ["p2"])),
    "iterator": Parts,
    "async iterator": AParts,
    "async iterable": AIterable,
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("view_is", ["sync", "async"])
def test_the_body_of_a_starlette_response_is_run_under_its_view(
    chain: Chain, kind: str, view_is: str
) -> None:
    def view(request: Request) -> StreamingResponse:
        return StreamingResponse(BODIES[kind](), 201, {"x-mine": "1"})

    async def aview(request: Request) -> StreamingResponse:
        return view(request)

    answer = serve(capsuled(view if view_is == "sync" else aview, name="view"))
    assert (answer.text, answer.status_code, answer.headers["x-mine"]) == ("p0p1p2", 201, "1")
    (status, ended), steps = view_and_steps(chain)
    assert (status, ended) == ("success", None)
    assert sorted(steps) == sorted(WHOLE)


def test_a_followed_response_is_the_same_object_with_a_body_of_the_same_kind(chain: Chain) -> None:
    kept: list[Any] = []

    @capsuled
    def view() -> Any:
        background = BackgroundTask(step, "later")
        kept.append(StreamingResponse(kept[0](), headers={"a": "b"}, background=background))
        return kept[-1]

    for made in (aparts, AParts):
        kept[:] = [made]
        response = view()
        assert response is kept[1]
        assert type(response) is StreamingResponse
        assert isinstance(response.body_iterator, AsyncGeneratorType if made is aparts else AParts)
        assert hasattr(response.body_iterator, "aclose") is (made is aparts)
        assert not hasattr(response.body_iterator, "close")
        assert response.background.func == step
        assert response.background.args == ("later",)


class Passing(BaseHTTPMiddleware):
    @capsuled(name="middleware")
    async def dispatch(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)


def test_a_decorated_middleware_is_a_task_around_the_whole_answer(chain: Chain) -> None:
    @capsuled(name="view")
    async def view(request: Request) -> StreamingResponse:
        return StreamingResponse(aparts())

    assert serve(view, Middleware(Passing)).text == "p0p1p2"
    assert list(chain.tree()) == ["middleware"]
    assert list(chain.tree()["middleware"]) == ["view"]
    whole(chain)


def test_an_sse_starlette_response(chain: Chain) -> None:
    sse = pytest.importorskip("sse_starlette.sse")

    @capsuled(name="view")
    async def view(request: Request) -> Any:
        return sse.EventSourceResponse(aparts())

    assert serve(view).text.count("data: p") == 3
    whole(chain)


def test_a_body_that_raises_is_a_failure_of_its_view(chain: Chain) -> None:
    async def broken() -> AsyncIterator[str]:
        yield step("p0")
        raise KeyError("mine")

    @capsuled(name="view")
    async def view(request: Request) -> StreamingResponse:
        return StreamingResponse(broken())

    with pytest.raises(KeyError, match="mine"):
        serve(view)
    assert view_and_steps(chain) == (("failure", None), ["p0"])
    assert chain.one("view")["outcome"]["error"] == "KeyError: 'mine'"


class Ends(AParts):
    """Has nothing to clean up."""

    def __init__(self) -> None:
        self.inner = (step(f"p{number}") async for number in numbers())


async def numbers() -> AsyncIterator[int]:
    for number in range(10**6):
        yield number


@pytest.mark.parametrize("kind", ["generator", "async generator", "async iterator"])
def test_a_client_that_leaves_ends_the_view_as_partial(chain: Chain, kind: str) -> None:
    endless = {
        "generator": lambda: (step(f"p{number}") for number in range(10**6)),
        "async generator": lambda: aparts(10**6),
        "async iterator": Ends,
    }[kind]

    @capsuled(name="view")
    async def view(request: Request) -> StreamingResponse:
        return StreamingResponse(endless())

    async def main() -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            await asyncio.sleep(60)

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) > 2:
                raise OSError

        scope = {
            "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"",
            "headers": [], "http_version": "1.1", "asgi": {"version": "3.0", "spec_version": "2.4"},
        }  # fmt: skip
        app = Starlette(routes=[Route("/", view)])
        with contextlib.suppress(Exception):
            await app(scope, receive, send)
        gc.collect()
        await asyncio.sleep(0.01)

    asyncio.run(main())
    gc.collect()
    (status, ended), steps = view_and_steps(chain)
    assert status == "partial"
    assert ended in ("closed", "cancelled")
    assert steps[:2] == ["p0", "p1"]


def test_a_response_that_is_never_sent_ends_its_view_as_partial(chain: Chain) -> None:
    @capsuled(name="view")
    async def view() -> StreamingResponse:
        return StreamingResponse(aparts())

    async def main() -> None:
        await view()

    asyncio.run(main())
    assert view_and_steps(chain) == (("partial", "closed"), [])


@pytest.mark.parametrize("reads", [0, 1])
def test_a_body_that_is_no_generator_ends_its_view_too_where_it_is_dropped(
    chain: Chain, reads: int
) -> None:
    class Body:
        def __aiter__(self) -> Body:
            return self

        async def __anext__(self) -> str:
            return step("p0")

    @capsuled(name="view")
    def view() -> StreamingResponse:
        return StreamingResponse(Body())

    async def main() -> None:
        response = view()
        for _ in range(reads):
            await anext(aiter(response.body_iterator))

    asyncio.run(main())
    assert view_and_steps(chain) == (("partial", "closed"), ["p0"] * reads)


def test_responses_whose_body_is_there_are_over_when_they_are_returned(
    chain: Chain, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for made in (PlainTextResponse("x"), JSONResponse([1]), FileResponse(file)):
        response = capsuled(lambda made=made: made, name="view")()
        assert response is made
        assert chain.named("view")[-1]["outcome"]["status"] == "success"


# -- background tasks ------------------------------------------------------------------------------


@capsuled
def after(name: str) -> str | None:
    return current_scope().session_id


async def aafter(name: str) -> None:
    after(name)


@pytest.mark.parametrize("response", ["json", "stream"])
def test_the_background_tasks_of_a_response_keep_its_views_identity(
    chain: Chain, response: str
) -> None:
    def later(name: str) -> None:
        assert current_scope().authority is None
        after(name)

    @capsuled(name="view", session_id="s-1", authority="human-approved", approver="ana")
    async def view(request: Request) -> Any:
        tasks = BackgroundTasks([BackgroundTask(later, "one"), BackgroundTasks()])
        tasks.add_task(aafter, "two")
        if response == "json":
            return JSONResponse({}, background=tasks)

        async def body() -> AsyncIterator[str]:
            yield "x"
            tasks.add_task(later, "three")  # once it is known what was said

        return StreamingResponse(body(), background=tasks)

    serve(view)
    made = chain.one("view")
    assert made["authority"]["type"] == "human_approved"
    found = chain.named("after")
    names = ["one", "two"] if response == "json" else ["one", "two", "three"]
    assert [capsule["trigger"]["request"] for capsule in found] == names
    for capsule in found:
        assert capsule["parent_id"] is None
        assert capsule["context"]["session_id"] == capsule["outcome"]["result"] == "s-1"
        assert capsule["context"]["environment"]["closed_parent"] == made["id"]
        assert capsule["authority"] == {**capsule["authority"], "type": "autonomous", "chain": []}


def test_background_tasks_that_fastapi_hands_out_belong_to_whoever_added_them(chain: Chain) -> None:
    app = fastapi.FastAPI()

    @capsuled(user_id="u-dependency")
    async def dependency(tasks: fastapi.BackgroundTasks) -> int:
        tasks.add_task(after, "of the dependency")
        return 1

    @app.get("/")
    @capsuled(name="view", user_id="u-view")
    def view(tasks: fastapi.BackgroundTasks, one: int = fastapi.Depends(dependency)) -> int:
        def helper() -> None:
            tasks.add_task(after, "of a helper")

        helper()
        tasks.add_task(lambda: after("of the view"))
        return one

    assert asyncio.run(get(app)).json() == 1
    assert {c["trigger"]["request"]: c["trigger"]["user_id"] for c in chain.named("after")} == {
        "of the dependency": "u-dependency",
        "of a helper": "u-view",
        "of the view": "u-view",
    }


def test_a_helper_binds_only_the_background_tasks_that_it_adds(chain: Chain) -> None:
    @capsuled(user_id="helper")
    def helper(tasks: BackgroundTasks) -> None:
        tasks.add_task(after, "helper")

    @capsuled(user_id="view")
    async def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(after, "view, before")
        helper(tasks)
        tasks.add_task(after, "view, after")

    async def main() -> None:
        tasks = BackgroundTasks([BackgroundTask(after, "others")])
        await view(tasks)
        await tasks()

    asyncio.run(main())
    assert [(c["trigger"]["request"], c["trigger"]["user_id"]) for c in chain.named("after")] == [
        ("others", None), ("view, before", "view"), ("helper", "helper"), ("view, after", "view"),
    ]  # fmt: skip


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_background_task_in_many_responses_is_run_for_each_and_never_changed(
    chain: Chain, listed: bool, streamed: bool
) -> None:
    class Mine(BackgroundTask):
        note = "mine"

    shared = Mine(after, "shared")

    @capsuled(user_id=lambda bound: bound["user"])
    async def view(user: str) -> Any:
        background = BackgroundTasks([shared]) if listed else shared
        if streamed:
            return StreamingResponse(aparts(), background=background)
        return JSONResponse({}, background=background)

    async def main() -> None:
        responses = [await view(user) for user in ("alice", "bob")]
        for response in responses:
            if not listed:
                assert type(response.background) is Mine
            await response.background()

    asyncio.run(main())
    assert [c["trigger"]["user_id"] for c in chain.named("after")] == ["alice", "bob"]
    assert shared.func is after


@pytest.mark.parametrize("kind", ["list", "list in a list", "with slots"])
@pytest.mark.parametrize("streamed", [False, True])
def test_background_tasks_that_a_module_shares_belong_to_each_call_that_runs_them(
    chain: Chain, kind: str, streamed: bool
) -> None:
    class Slotted(BackgroundTask):
        __slots__ = ("note",)

    task = (Slotted if kind == "with slots" else BackgroundTask)(after, "shared")
    lists = {"list": [task], "list in a list": [BackgroundTasks([task])], "with slots": [task]}
    shared = task if kind == "with slots" else BackgroundTasks(lists[kind])

    @capsuled(user_id=lambda bound: bound["user"])
    async def view(user: str) -> Any:
        if streamed:
            return StreamingResponse(aparts(), background=shared)
        return JSONResponse({}, background=shared)

    async def main() -> None:
        for user in ("alice", "bob"):
            response = await view(user)
            assert isinstance(response.background, type(shared))
            await response.background()
        await shared()

    asyncio.run(main())
    users = [capsule["trigger"]["user_id"] for capsule in chain.named("after")]
    assert users == ["alice", "bob", None]
    assert task.func is after


def test_decorated_functions_are_background_tasks_of_the_call_that_adds_them(chain: Chain) -> None:
    app = fastapi.FastAPI()

    @capsuled(name="later")
    async def later() -> None:
        await asyncio.sleep(0)

    @capsuled(name="later")
    def later_sync() -> None:
        pass

    class Job:
        @capsuled(name="later")
        async def run(self, *, number: int) -> None:
            await asyncio.sleep(0)

    @app.get("/")
    @capsuled(name="view", user_id="u")
    async def view(tasks: fastapi.BackgroundTasks) -> int:
        for task in (later, later_sync, functools.partial(later)):
            tasks.add_task(task)
        tasks.add_task(Job().run, number=1)
        return 1

    assert asyncio.run(get(app)).json() == 1
    found = chain.named("later")
    assert [c["trigger"]["user_id"] for c in found] == ["u"] * 4
    view_id = chain.one("view")["id"]
    assert [c["context"]["environment"]["closed_parent"] for c in found] == [view_id] * 4


# -- Flask, Django, aiohttp, Quart -----------------------------------------------------------------


def flask_answers(chain: Chain, view: Callable[[], Any], method: str = "GET") -> Any:
    flask = pytest.importorskip("flask")
    app = flask.Flask("app")
    app.add_url_rule("/", view_func=capsuled(view, name="view"), endpoint="view")
    return app.test_client().open("/?q=1", method=method)


@pytest.mark.parametrize("kind", ["generator", "map", "chain", "iterator"])
def test_the_body_of_a_flask_response(chain: Chain, kind: str) -> None:
    flask = pytest.importorskip("flask")
    answer = flask_answers(chain, lambda: flask.Response(BODIES[kind](), 201, {"x-mine": "1"}))
    assert (answer.text, answer.status_code, answer.headers["x-mine"]) == ("p0p1p2", 201, "1")
    (status, _), steps = view_and_steps(chain)
    assert status == "success"
    assert set(steps) == set(WHOLE)
    answer.close()
    assert ("closed" in view_and_steps(chain)[1]) is (kind == "iterator")


@pytest.mark.parametrize("shape", ["generator", "with headers", "response with status", "context"])
def test_what_else_a_flask_view_may_return(chain: Chain, shape: str) -> None:
    flask = pytest.importorskip("flask")

    def in_context() -> Iterator[str]:
        assert flask.request.args["q"] == "1"
        yield from parts()

    shapes: dict[str, Callable[[], Any]] = {
        "generator": parts,
        "with headers": lambda: (parts(), {"Content-Type": "text/csv"}),
        "response with status": lambda: (flask.Response(parts()), 201),
        "context": lambda: flask.Response(flask.stream_with_context(in_context())),
    }
    assert flask_answers(chain, shapes[shape]).text == "p0p1p2"
    whole(chain)


def test_flask_head_requests_and_files(chain: Chain, tmp_path: Path) -> None:
    flask = pytest.importorskip("flask")
    assert flask_answers(chain, lambda: flask.Response(parts()), "HEAD").text == ""
    assert view_and_steps(chain) == (("partial", "closed"), [])
    file = tmp_path / "file"
    file.write_text("x")
    answer = flask_answers(chain, lambda: flask.send_file(file))
    assert answer.text == "x"
    answer.close()
    assert chain.named("view")[-1]["outcome"]["status"] == "success"


@pytest.fixture(scope="module")
def django() -> Any:
    django = pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="x", ROOT_URLCONF="none", MIDDLEWARE=[])
        django.setup()
    import django.http
    import django.test

    return django


def django_urls(view: Callable[..., Any]) -> Any:
    from django.urls import path

    urls = ModuleType("urls")
    urls.urlpatterns = [path("", capsuled(view, name="view"))]
    return urls


@pytest.mark.parametrize("kind", ["generator", "map", "iterator"])
def test_the_body_of_a_sync_django_response(chain: Chain, django: Any, kind: str) -> None:
    def view(request: Any) -> Any:
        return django.http.StreamingHttpResponse(BODIES[kind]())

    with django.test.override_settings(ROOT_URLCONF=django_urls(view)):
        answer = django.test.Client().get("/")
        assert b"".join(answer.streaming_content) == b"p0p1p2"
        answer.close()
    (status, _), steps = view_and_steps(chain)
    assert status == "success"
    assert set(steps) >= set(WHOLE)


@pytest.mark.parametrize("kind", ["async generator", "async iterator", "async iterable"])
def test_the_body_of_an_async_django_response(chain: Chain, django: Any, kind: str) -> None:
    async def view(request: Any) -> Any:
        return django.http.StreamingHttpResponse(BODIES[kind]())

    async def main() -> None:
        answer = await django.test.AsyncClient().get("/")
        assert [part async for part in answer] == [b"p0", b"p1", b"p2"]

    with django.test.override_settings(ROOT_URLCONF=django_urls(view)):
        asyncio.run(main())
    whole(chain)


def test_a_django_response_that_is_closed_closes_its_body_within_the_view(
    chain: Chain, django: Any
) -> None:
    response = capsuled(lambda: django.http.StreamingHttpResponse(parts()), name="view")()
    next(iter(response))
    response.close()
    assert view_and_steps(chain) == (("partial", "closed"), ["p0", "last"])


def test_django_files_and_whole_responses_are_over_when_they_are_returned(
    chain: Chain, django: Any, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for made in (django.http.FileResponse(file.open("rb")), django.http.HttpResponse("x")):
        assert capsuled(lambda made=made: made, name="view")() is made
        assert chain.named("view")[-1]["outcome"]["status"] == "success"
        made.close()


@pytest.mark.parametrize("kind", ["async generator", "async iterator", "async iterable"])
def test_the_body_of_an_aiohttp_response(chain: Chain, kind: str) -> None:
    web = pytest.importorskip("aiohttp.web")
    from aiohttp.test_utils import TestClient, TestServer

    class Encoded:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return (part.encode() async for part in BODIES[kind]())

    @capsuled(name="view")
    async def view(request: Any) -> Any:
        body = Encoded() if kind != "async generator" else aiter(Encoded())
        return web.Response(body=body)

    async def main() -> str:
        app = web.Application()
        app.router.add_get("/", view)
        async with TestClient(TestServer(app)) as client:
            return str(await (await client.get("/")).text())

    assert asyncio.run(main()) == "p0p1p2"
    whole(chain)


@pytest.mark.parametrize("kind", ["generator", "async generator"])
def test_the_body_of_a_quart_response(chain: Chain, kind: str) -> None:
    quart = pytest.importorskip("quart")
    app = quart.Quart("app")

    @app.get("/")
    @capsuled(name="view")
    async def view() -> Any:
        return quart.Response(BODIES[kind]())

    async def main() -> bytes:
        return bytes(await (await app.test_client().get("/")).get_data(as_text=False))

    assert asyncio.run(main()) == b"p0p1p2"
    whole(chain)


@pytest.mark.parametrize("second", ["anext", "aclose"])
def test_steps_of_one_body_that_overlap_leave_each_reader_its_own_scope(
    chain: Chain, second: str
) -> None:
    class Slow:
        """An async iterator that takes several steps at once."""

        def __aiter__(self) -> Slow:
            return self

        async def __anext__(self) -> str:
            await gates["anext"].wait()
            return step("p")

        async def aclose(self) -> None:
            await gates["aclose"].wait()

    gates: dict[str, asyncio.Event] = {}

    @capsuled(name="view", user_id="of the view")
    async def view() -> StreamingResponse:
        return StreamingResponse(Slow())

    async def read(stream: Any, reader: str, name: str) -> None:
        with capsule_scope(reader, user_id=reader):
            await (anext(stream) if name == "anext" else stream.aclose())
            assert current_scope().user_id == reader
        assert current_scope().user_id is None

    async def main() -> None:
        gates.update(anext=asyncio.Event(), aclose=asyncio.Event())
        stream = (await view()).body_iterator
        readers = [asyncio.create_task(read(stream, "one", "anext"))]
        await asyncio.sleep(0)
        readers.append(asyncio.create_task(read(stream, "two", second)))
        await asyncio.sleep(0)
        gates["anext"].set()
        await readers[0]
        gates["aclose"].set()
        await readers[1]

    asyncio.run(main())
    assert {c["trigger"]["user_id"] for c in chain.named("step")} == {"of the view"}


# -- what is current meanwhile ---------------------------------------------------------------------


def test_between_the_steps_of_a_body_its_reader_runs_under_its_own_scope(chain: Chain) -> None:
    @capsuled(name="view", user_id="of the view")
    async def view() -> StreamingResponse:
        return StreamingResponse(aparts())

    async def main() -> None:
        with capsule_scope("server", user_id="of the server") as server:
            response = await view()
            async for _ in response.body_iterator:
                assert current_task() is server
                assert current_scope().user_id == "of the server"
            assert current_scope().user_id == "of the server"

    asyncio.run(main())
    assert [c["trigger"]["user_id"] for c in chain.named("step")] == ["of the view"] * 4
    whole(chain)


def test_a_view_within_a_view_is_run_within_it(chain: Chain) -> None:
    @capsuled(name="inner")
    def inner() -> StreamingResponse:
        return StreamingResponse(aparts())

    async def view(request: Request) -> StreamingResponse:
        return inner()

    serve(capsuled(view, name="view"))
    assert list(chain.tree()["view"]) == ["inner"]
    whole(chain, "inner")

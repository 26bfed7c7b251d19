"""FastAPI over decorated endpoints, dependencies and streamed bodies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
from conftest import Chain
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from capsule_sdk import capsule_scope, capsuled, current_scope, current_task, from_arg


class Order(BaseModel):
    amount: int
    note: str = "none"


async def ask(app: FastAPI, *requests: tuple[Any, ...], **options: Any) -> list[httpx.Response]:
    """Send all requests at once, within the app's own event loop."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=options.pop("raise_errors", True))
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        return await asyncio.gather(*(client.request(*request, **options) for request in requests))


def one(app: FastAPI, method: str, url: str, **options: Any) -> httpx.Response:
    (response,) = asyncio.run(ask(app, (method, url), **options))
    return response


def outcome(chain: Chain, name: str) -> tuple[str, Any]:
    found = chain.one(name)["outcome"]
    return found["status"], found["metrics"].get("ended")


def site_of(x_site: Annotated[str, Header()] = "nowhere") -> str:
    return x_site


Site = Annotated[str, Depends(site_of)]

app = FastAPI()


@app.post("/sync/{desk}")
@capsuled(session_id=from_arg("site"))
def sync_endpoint(desk: str, order: Order, site: Site, limit: int = 3) -> dict[str, Any]:
    return {"desk": desk, "amount": order.amount, "limit": limit, "site": site}


@app.post("/async/{desk}")
@capsuled(session_id=from_arg("site"))
async def async_endpoint(
    desk: str, order: Order, site: Site, request: Request, limit: int = 3
) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"desk": desk, "amount": order.amount, "limit": limit, "site": site}


@app.get("/fails/{kind}")
@capsuled
async def failing(kind: str) -> None:
    raise HTTPException(409, "taken") if kind == "http" else KeyError("bug")


@pytest.mark.parametrize("path", ["sync", "async"])
def test_a_decorated_endpoint_keeps_its_parameters_and_dependencies(
    chain: Chain, path: str
) -> None:
    answer = one(app, "POST", f"/{path}/fx?limit=5", json={"amount": 7}, headers={"x-site": "s-1"})
    assert answer.json() == {"desk": "fx", "amount": 7, "limit": 5, "site": "s-1"}
    assert one(app, "POST", f"/{path}/fx?limit=x", json={}).status_code == 422
    capsule = chain.one(f"{path}_endpoint")
    assert capsule["trigger"]["request"] == "fx"
    assert capsule["context"]["session_id"] == "s-1"
    assert capsule["outcome"]["result"]["amount"] == 7


def test_the_schema_of_a_decorated_app_is_that_of_the_undecorated_one(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def schema() -> Any:
        made = FastAPI()

        @made.post("/{desk}")
        @capsuled
        async def endpoint(desk: str, order: Order, site: Site, limit: int = 3) -> Order:
            """Book an order."""
            return order

        return made.openapi()

    decorated = schema()
    monkeypatch.setenv("CAPSULE_SDK_DISABLED", "1")
    assert decorated == schema()


def test_an_http_error_is_a_failure_of_the_task_and_answered_as_ever(chain: Chain) -> None:
    assert one(app, "GET", "/fails/http").json() == {"detail": "taken"}
    assert one(app, "GET", "/fails/bug", raise_errors=False).status_code == 500
    http, bug = chain.capsules()
    assert http["outcome"]["status"] == bug["outcome"]["status"] == "failure"
    assert http["outcome"]["error"] == "HTTPException: taken, status_code: 409"
    assert bug["outcome"]["error"] == "KeyError: 'bug'"


def test_a_scope_in_a_middleware_is_around_sync_and_async_endpoints(chain: Chain) -> None:
    made = FastAPI()

    @made.middleware("http")
    async def attribute(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        async with capsule_scope("request", session_id=request.headers["x-session"]):
            return await call_next(request)

    @made.get("/async")
    @capsuled
    async def async_route() -> str | None:
        return current_scope().session_id

    @made.get("/sync")
    @capsuled
    def sync_route() -> str | None:
        return current_scope().session_id

    for path in ("/async", "/sync"):
        answer = one(made, "GET", path, headers={"x-session": f"session {path}"})
        assert answer.json() == f"session {path}"
    assert chain.tree() == {"request": {"async_route": {}}, "request#2": {"sync_route": {}}}


@pytest.mark.parametrize("raises", [False, True])
def test_yield_dependencies_may_hold_a_scope_and_be_decorated_themselves(
    chain: Chain, raises: bool
) -> None:
    made = FastAPI()

    async def async_scope() -> AsyncIterator[str]:
        async with capsule_scope("async dependency", user_id="u"):
            yield "async"

    def sync_scope() -> Iterator[str]:
        # Its two halves run in worker threads, in copies of the context.
        with capsule_scope("sync dependency"):
            yield "sync"

    @capsuled
    async def async_decorated() -> AsyncIterator[str]:
        with capsule_scope("inside async_decorated"):
            yield "async"

    @capsuled
    def sync_decorated() -> Iterator[str]:
        with capsule_scope("inside sync_decorated"):
            yield "sync"

    @made.get("/")
    @capsuled
    async def endpoint(
        a: str = Depends(async_scope),
        b: str = Depends(sync_scope),
        c: str = Depends(async_decorated),
        d: str = Depends(sync_decorated),
    ) -> list[str | None]:
        assert current_task().name.endswith("endpoint")
        if raises:
            raise HTTPException(400)
        return [a, b, c, d, current_scope().user_id]

    answer = one(made, "GET", "/")
    if raises:
        assert answer.status_code == 400
    else:
        assert answer.json() == ["async", "sync", "async", "sync", "u"]
    assert {capsule["outcome"]["status"] for capsule in chain.capsules()} == {
        "failure" if raises else "success"
    }
    assert chain.tree() == {
        "async dependency": {
            "endpoint": {},
            "sync dependency": {},
            "async_decorated": {"inside async_decorated": {}},
            "sync_decorated": {"inside sync_decorated": {}},
        }
    }


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_task_of_a_streamed_body_ends_when_the_body_ends(chain: Chain, kind: str) -> None:
    made = FastAPI()

    @capsuled
    def sync_body() -> Iterator[str]:
        for number in range(3):
            with capsule_scope(f"part {number}"):
                yield str(number)

    @capsuled
    async def async_body() -> AsyncIterator[str]:
        for number in range(3):
            with capsule_scope(f"part {number}"):
                await asyncio.sleep(0)
                yield str(number)

    @made.get("/")
    @capsuled
    async def endpoint() -> StreamingResponse:
        return StreamingResponse(sync_body() if kind == "sync" else async_body())

    assert one(made, "GET", "/").text == "012"
    endpoint_capsule, body = chain.one("endpoint"), chain.one(f"{kind}_body")
    assert body["outcome"]["status"] == endpoint_capsule["outcome"]["status"] == "success"
    assert body["parent_id"] == endpoint_capsule["id"]
    assert body["context"]["environment"] == {}
    assert [c["trigger"]["source"] for c in chain.children(body)] == ["part 0", "part 1", "part 2"]


def test_a_decorated_endpoint_that_streams_is_one_task_until_its_body_ends(chain: Chain) -> None:
    made = FastAPI()

    @capsuled
    async def body() -> AsyncIterator[str]:
        for _ in range(1000):
            yield "x"
            await asyncio.sleep(0)

    @made.get("/")
    async def endpoint() -> StreamingResponse:
        return StreamingResponse(body())

    async def hang_up_after_the_first_part() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            await asyncio.sleep(0.001)

        scope = {
            "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"",
            "headers": [], "http_version": "1.1", "asgi": {"version": "3.0", "spec_version": "2.3"},
        }  # fmt: skip
        with contextlib.suppress(Exception):
            await made(scope, receive, send)

    asyncio.run(hang_up_after_the_first_part())
    status, ended = outcome(chain, "body")
    assert status == "partial"
    assert ended in {"cancelled", "closed"}


def test_fifty_concurrent_requests_each_have_their_own_task(chain: Chain) -> None:
    made = FastAPI()

    @capsuled
    def look_up(name: str) -> str:
        return name

    @made.get("/{kind}/{name}")
    @capsuled(session_id=from_arg("name"), request_from="name")
    async def endpoint(kind: str, name: str) -> str:
        await asyncio.sleep(0.001)
        if kind == "thread":
            return await asyncio.to_thread(look_up, name)
        return look_up(name)

    kinds = ("thread", "loop")
    requests = [("GET", f"/{kinds[number % 2]}/n{number}") for number in range(50)]
    answers = asyncio.run(ask(made, *requests))
    assert [answer.json() for answer in answers] == [f"n{number}" for number in range(50)]
    capsules = chain.capsules()
    tasks = {c["id"]: c for c in capsules if c["parent_id"] is None}
    assert len(tasks) == 50
    for capsule in capsules:
        if capsule["parent_id"] is not None:
            parent = tasks[capsule["parent_id"]]
            assert parent["trigger"]["request"] == capsule["trigger"]["request"]
            assert capsule["context"]["session_id"] == capsule["trigger"]["request"]
    assert len(capsules) == 100
    chain.verify()

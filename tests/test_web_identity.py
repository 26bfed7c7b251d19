"""A real server, fifty users at once: what each has set going is in the export of his session, all of it."""

import asyncio
import contextlib
import contextvars
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
import uvicorn
from click.testing import CliRunner
from conftest import Chain
from fastapi import BackgroundTasks, Depends, FastAPI, Header, Request, WebSocket
from fastapi.responses import StreamingResponse
from litellm_support import LITELLM_NOISE
from websockets.asyncio.client import connect

from capsule_sdk import capsule_scope, capsuled, from_arg
from capsule_sdk.cli.export import export

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

USERS = 50
Session = Annotated[str, Header(alias="x-session")]


def app_of(llm: Any, *, decorated: bool) -> FastAPI:
    """Return an app whose endpoints name the session themselves, or stand under a middleware's scope."""
    app = FastAPI()
    kept: set[Any] = set()

    def task(fn: Any) -> Any:
        return capsuled(fn, session_id=from_arg("session")) if decorated else fn

    async def ask(session: str, what: str) -> str:
        answer = await llm.aask(f"say:{session}/{what}")
        return str(answer.choices[0].message.content)

    def ask_sync(session: str, what: str) -> str:
        return str(llm.ask(f"say:{session}/{what}").choices[0].message.content)

    if not decorated:

        @app.middleware("http")
        async def attribute(request: Request, call_next: Callable[[Request], Any]) -> Any:
            with capsule_scope("request", session_id=request.headers["x-session"]):
                return await call_next(request)

    async def dependency(session: Session) -> AsyncIterator[str]:
        yield await ask(session, "before")
        await ask(session, "after")

    @app.get("/chat")
    @task
    async def chat(
        session: Session,
        background: BackgroundTasks,
        before: Annotated[str, Depends(task(dependency))],
    ) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            stream = await llm.aask(f"say:{session}/streamed", stream=True)
            async for chunk in stream:
                yield chunk.choices[0].delta.content or ""
            yield await ask(session, "in-the-body")

        async def late() -> None:
            await asyncio.sleep(0.2)
            await ask(session, "task")

        background.add_task(ask, session, "background")
        background.add_task(ask_sync, session, "sync-background")
        kept.add(asyncio.create_task(late()))
        return StreamingResponse(body())

    @app.get("/sync")
    @task
    def sync(session: Session) -> StreamingResponse:
        def body() -> Iterator[str]:
            yield ask_sync(session, "first")
            yield ask_sync(session, "second")

        run = contextvars.copy_context().run
        threading.Timer(0.2, run, (ask_sync, session, "timer")).start()
        return StreamingResponse(body())

    @app.get("/gone")
    @task
    async def gone(session: Session) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            try:
                yield await ask(session, "begun")
                while True:
                    yield "x" * 65536
                    await asyncio.sleep(0.01)
            finally:
                kept.add(asyncio.create_task(ask(session, "cleaned-up")))

        return StreamingResponse(body())

    @app.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        session = socket.headers["x-session"]

        @capsuled(session_id=from_arg("session"))
        async def answer(session: str, text: str) -> str:
            return await ask(session, text)

        async for text in socket.iter_text():
            await socket.send_text(await answer(session, text))

    return app


CALLS = (
    "before", "after", "streamed", "in-the-body", "background", "sync-background", "task", "first",
    "second", "timer", "begun", "cleaned-up", "one", "two",
)  # fmt: skip


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=0,
            log_level="error",
            lifespan="off",
            timeout_keep_alive=60,  # on a busy machine one was closed under its next request
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)


async def use(client: httpx.AsyncClient, port: int, session: str) -> None:
    """Do all that a user does."""
    headers = {"x-session": session}
    answer = await client.get("/chat", headers=headers)
    assert answer.text == f"{session}/streamed{session}/in-the-body"
    assert (await client.get("/sync", headers=headers)).text == f"{session}/first{session}/second"
    async with client.stream("GET", "/gone", headers=headers) as stream:
        async for _ in stream.aiter_bytes():
            break
    async with connect(f"ws://127.0.0.1:{port}/talk", additional_headers=headers) as socket:
        for text in ("one", "two"):
            await socket.send(text)
            assert await socket.recv() == f"{session}/{text}"


def exported(chain: Chain, session: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(
        export, ["-", "--db", str(chain.url), "--session", session, "--format", "jsonl"]
    )
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.load
@pytest.mark.parametrize(
    "decorated",
    [
        pytest.param(True, id="decorated"),
        pytest.param(False, id="middleware"),
    ],
)
def test_the_export_of_each_of_fifty_users_is_complete(
    chain: Chain, llm: Any, decorated: bool
) -> None:
    sessions = [f"session-{number}" for number in range(USERS)]

    async def all_at_once(port: int) -> None:
        limits = httpx.Limits(max_connections=None)
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
            await asyncio.gather(*(use(client, port, session) for session in sessions))

    with serving(app_of(llm, decorated=decorated)) as port:
        asyncio.run(all_at_once(port))
        until = time.monotonic() + 30
        while len(chain.named("litellm")) < USERS * len(CALLS) and time.monotonic() < until:
            time.sleep(1)

    exports = {session: exported(chain, session) for session in sessions}
    found = Counter(record["id"] for records in exports.values() for record in records)
    everything = chain.capsules()
    assert [capsule for capsule in everything if capsule["id"] not in found] == []
    assert found == Counter(capsule["id"] for capsule in everything)
    for session, records in exports.items():
        calls = Counter(
            record["trigger"]["request"]
            for record in records
            if record["trigger"]["source"] == "litellm"
        )
        assert calls == Counter(f"say:{session}/{what}" for what in CALLS)
    chain.verify()

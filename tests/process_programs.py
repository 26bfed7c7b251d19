"""Programs for other processes: what `test_processes` runs many of at once, and what `test_servers` serves.

    python process_programs.py tasks 3 500

is process 3, which makes 500 calls. It says when it is ready, and begins when its standard input ends; many
begin at the same moment because they share that. At its end it prints, as JSON, what the SDK says of itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import capsule_sdk
import capsule_sdk.chain
from capsule_sdk import capsule_scope, capsuled, flush, get_recorder


@capsuled(name="call")
def call(name: str) -> str:
    """A call; its name is the request of its capsule."""
    return name


@capsuled(name="call")
async def acall(name: str) -> str:
    """The same in an event loop."""
    await asyncio.sleep(0)
    return name


# -- many at once ----------------------------------------------------------------------------------


def tasks(process: str, calls: int) -> None:
    """A fifth of the calls in each of: the main thread, three threads, an event loop in a thread."""

    def in_thread(names: list[str]) -> None:
        for name in names:
            call(name)

    def in_loop(names: list[str]) -> None:
        async def all_at_once() -> None:
            await asyncio.gather(*map(acall, names))

        asyncio.run(all_at_once())

    names = [f"{process}-{number}" for number in range(calls)]
    work: list[Callable[[list[str]], None]] = [in_thread, in_thread, in_thread, in_loop]
    threads = [
        threading.Thread(target=one, args=(names[number::5],)) for number, one in enumerate(work)
    ]
    for thread in threads:
        thread.start()
    with capsule_scope("main", request=f"{process}-main"):
        in_thread(names[4::5])
    for thread in threads:
        thread.join()


def llm(process: str, calls: int) -> None:
    """Calls to a model that LiteLLM answers itself."""
    import litellm

    litellm.callbacks = [capsule_sdk.CapsuleLogger()]
    for number in range(calls):
        text = f"{process}-{number}"
        litellm.completion(
            "gpt-4o", messages=[{"role": "user", "content": text}], mock_response=text
        )


def groups(process: str, calls: int) -> None:
    """Groups of 64 through the chain alone, with a log that is to be emptied every 2 MB."""
    from chain_support import capsules

    from capsule_sdk.chain import sqlite

    sqlite._LOG_BOUND, sqlite._CHECKPOINT_PAGES = 2_000_000, 200  # type: ignore[misc]
    chain = capsule_sdk.chain.open_chain()
    for _ in range(calls):
        chain.append(capsules(64, process))
    chain.close()


def main(program: str, process: str, calls: str) -> None:
    programs = {"tasks": tasks, "llm": llm, "groups": groups}
    if program == "llm":
        import litellm  # noqa: F401 - before the start, which is to be the same for all
    print("ready", flush=True)
    sys.stdin.read()
    programs[program](process, int(calls))
    left, stats = flush(), get_recorder().stats()
    print(json.dumps({"left": left, "errors": stats.errors, "failed": stats.failed}))


# -- served ----------------------------------------------------------------------------------------


def _answer(path: str) -> str:
    """``/call/<name>`` is a call; the answer to everything is the process that gave it."""
    if path.startswith("/call/"):
        call(path.removeprefix("/call/"))
    elif path.startswith("/slow/"):
        with capsule_scope("slow", request=path.removeprefix("/slow/")):
            time.sleep(30)
    return str(os.getpid())


def wsgi() -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """Make a WSGI application; a call is recorded before there is one, as at import."""
    call("import")

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        body = _answer(environ["PATH_INFO"]).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    return application


def asgi() -> Any:
    """Make an ASGI application, which waits for its records when it is shut down."""
    from fastapi import FastAPI

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await capsule_sdk.aflush()

    call("import")
    app = FastAPI(lifespan=lifespan if "FLUSH" in os.environ else None)

    @app.get("/call/{name}")
    async def called(name: str) -> str:
        await acall(name)
        return str(os.getpid())

    @app.get("/in-thread/{name}")
    def called_in_a_thread(name: str) -> str:
        call(name)
        return str(os.getpid())

    @app.get("/")
    async def ready() -> str:
        return str(os.getpid())

    return app


if __name__ == "__main__":
    main(*sys.argv[1:])

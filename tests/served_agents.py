"""An agent behind WSGI and ASGI: each request is a task, with one call to a model under it.

``/ask/r-1`` asks; ``/slow20/r-2`` steers the provider by that word; ``/spin20/r-3`` keeps the thread busy for
that many seconds after the call. The answer is the process that gave it. A record is made where the module is
imported: in gunicorn's master with ``--preload``, else in each worker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import litellm

from capsule_sdk import CapsuleLogger, capsule_scope, capsuled

litellm.callbacks = [CapsuleLogger()]
MODEL: dict[str, Any] = {"model": "openai/gpt-4o", "api_key": "k", "max_retries": 0}


def asked(name: str, word: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"{name} {word}"}]
    return {**MODEL, "api_base": os.environ["PROVIDER"], "messages": messages}


def spin(word: str) -> None:
    until = time.monotonic() + float(word.removeprefix("spin") if "spin" in word else 0)
    while time.monotonic() < until:
        pass


@capsuled(name="request", request_from="name")
def ask(name: str, word: str) -> None:
    litellm.completion(**asked(name, word))
    spin(word)


@capsuled(name="request", request_from="name")
async def aask(name: str, word: str) -> None:
    await litellm.acompletion(**asked(name, word))
    spin(word)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    _, word, name = f"{environ['PATH_INFO']}/".split("/")[:3]
    if name:
        ask(name, word)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], _: Any, send: Callable[..., Any]) -> None:
    if scope["type"] != "http":
        raise NotImplementedError  # no lifespan
    _, word, name = f"{scope['path']}/".split("/")[:3]
    if name:
        await aask(name, word)
    body = str(os.getpid()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


with capsule_scope("import"):
    # Not over HTTP: the processes would share the connection that LiteLLM keeps open.
    litellm.completion(**asked("import", ""), mock_response="hi")
# LiteLLM's threads import while they log: a fork in the middle of that would leave the import's lock to the
# children, which would wait for it forever.
time.sleep(2)

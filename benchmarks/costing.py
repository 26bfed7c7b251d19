"""One side of `benchmarks.costs`: the processor time of calls, with the SDK on the path or without one.

    python benchmarks/costing.py FOLDER URL recorded|bare

Each line on standard input is answered by one round of all figures, as JSON: ``{name: [µs, ...]}``. A figure is
one batch: first the time of the calling thread, as ``… , all threads`` that of the whole process until every
record is in the chain. It uses public names only, so that it measures older checkouts as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

FOLDER, URL, SIDE = sys.argv[1:]
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["QUANTUMPIPES_DATA_DIR"] = FOLDER

import litellm  # noqa: E402 - after its environment is set
from litellm.integrations.custom_logger import CustomLogger  # noqa: E402

BATCHES = 5  # in one round, of each figure
MESSAGES = [{"role": "system", "content": "s" * 80}, {"role": "user", "content": "x" * 150}]
LONG = [{"role": "user", "content": "say long100 now"}]
MOCKED: dict[str, Any] = {"model": "gpt-4o", "messages": MESSAGES, "mock_response": "y" * 300}
PROVIDED: dict[str, Any] = {
    "model": "openai/gpt-4o",
    "api_base": URL,
    "api_key": "k",
    "temperature": 0.2,
}

if SIDE == "recorded":
    from capsule_sdk import CapsuleLogger, capsule_scope, capsuled, configure, flush

    configure(url=f"{FOLDER}/capsules.db")
    litellm.callbacks = [CapsuleLogger()]
else:
    litellm.callbacks = [CustomLogger()]

    def capsuled(fn: Any) -> Any:
        """Leave it as it is."""
        return fn

    def capsule_scope(name: str) -> Any:
        """Do nothing."""
        return nullcontext(name)

    def flush() -> int:
        """Do nothing."""
        return 0


@capsuled
def nothing() -> None:
    """Do nothing."""


@capsuled
async def anothing() -> None:
    """Do nothing."""


def scope() -> None:
    """Enter a scope, and leave it."""
    with capsule_scope("nothing"):
        pass


async def astream() -> None:
    """Read a streamed answer of 100 chunks in a coroutine."""
    async for _ in await litellm.acompletion(**MOCKED, stream=True):
        pass


SYNC: dict[str, tuple[int, Callable[[], Any]]] = {
    "@capsuled, sync": (50, nothing),
    "capsule_scope": (50, scope),
    "completion, mocked": (5, lambda: litellm.completion(**MOCKED)),
    "completion, mocked, stream of 100 chunks": (
        1, lambda: list(litellm.completion(**MOCKED, stream=True)),
    ),
    "completion over HTTP": (5, lambda: litellm.completion(messages=MESSAGES, **PROVIDED)),
    "completion over HTTP, stream of 100 chunks": (
        1, lambda: list(litellm.completion(messages=LONG, stream=True, **PROVIDED)),
    ),
}  # fmt: skip
ASYNC: dict[str, tuple[int, Callable[[], Awaitable[Any]]]] = {
    "@capsuled, async": (50, anothing),
    "acompletion, mocked": (5, lambda: litellm.acompletion(**MOCKED)),
    "acompletion, mocked, stream of 100 chunks": (1, astream),
}


def batch(times: int, call: Callable[[], Any]) -> tuple[float, float]:
    """Return the µs of one call: of this thread, and of all until the chain has it."""
    everywhere, here = time.process_time(), time.thread_time()
    for _ in range(times):
        call()
    here = time.thread_time() - here
    flush()
    return here / times * 1e6, (time.process_time() - everywhere) / times * 1e6


async def abatch(times: int, call: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    """Do the same with a coroutine function."""
    everywhere, here = time.process_time(), time.thread_time()
    for _ in range(times):
        await call()
    here = time.thread_time() - here
    await asyncio.sleep(0.01)  # LiteLLM's own loggers, too
    flush()
    return here / times * 1e6, (time.process_time() - everywhere) / times * 1e6


async def asynchronous(figures: dict[str, list[float]]) -> None:
    """Measure the coroutine functions."""
    for name, (times, call) in ASYNC.items():
        add(figures, name, [await abatch(times, call) for _ in range(BATCHES)])


def add(figures: dict[str, list[float]], name: str, taken: list[tuple[float, float]]) -> None:
    """Note what was measured."""
    figures[name] = [here for here, _ in taken]
    figures[f"{name}, all threads"] = [everywhere for _, everywhere in taken]


def main() -> None:
    """Warm up, and measure once for each line."""
    for warm in (True, False):
        for _ in [None] if warm else sys.stdin:
            figures: dict[str, list[float]] = {}
            for name, (times, call) in SYNC.items():
                add(figures, name, [batch(times, call) for _ in range(BATCHES)])
            asyncio.run(asynchronous(figures))
            print("ready" if warm else json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()

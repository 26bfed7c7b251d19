"""Wherever a call is made (task, thread, loop, callback, Router), it hangs under the scope it was made in."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import litellm
import pytest
from litellm import Router
from litellm.integrations.custom_logger import CustomLogger
from litellm_support import LITELLM_NOISE, expect, expect_one, run

from capsule_sdk import CapsuleLogger, bind_scope, capsule_scope, capsuled

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

MODELS = "gpt", "bad"


def router(llm: Any, **options: Any) -> Router:
    """Return a Router for the models ``gpt``, which answers, and ``bad``, which does not."""
    return Router(
        model_list=[
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{model}", **llm.at, "max_retries": 0},
            }
            for name, model in (("gpt", "gpt-4o"), ("bad", "bad"))
        ],
        **{"retry_after": 0, "num_retries": 0, **options},
    )


def hi(text: str = "hi") -> list[Any]:
    return [{"role": "user", "content": text}]


async def in_scope(llm: Any, name: str, **options: Any) -> None:
    with capsule_scope(name):
        await asyncio.sleep(0)
        await llm.aask(**options)


# -- tasks, threads, loops -------------------------------------------------------------------------


def test_gathered_tasks_each_in_its_own_scope(chain: Any, llm: Any) -> None:
    async def main() -> None:
        await asyncio.gather(*(in_scope(llm, name) for name in "abc"))

    run(main)
    expect(chain, [(name, "success") for name in "abc"])


def test_an_anyio_task_group(chain: Any, llm: Any) -> None:
    async def main() -> None:
        with capsule_scope("around"):
            async with anyio.create_task_group() as group:
                group.start_soon(in_scope, llm, "inside")
                group.start_soon(llm.aask)

    run(main)
    expect(chain, [("around", "success"), ("inside", "success")])


def test_to_thread_takes_the_scope_along(chain: Any, llm: Any) -> None:
    async def main() -> None:
        with capsule_scope("here"):
            await asyncio.to_thread(llm.ask)
            await anyio.to_thread.run_sync(llm.ask)

    run(main)
    expect(chain, [("here", "success")] * 2)


def test_a_sync_call_in_a_running_loop(chain: Any, llm: Any) -> None:
    async def main() -> None:
        with capsule_scope("here"):
            llm.ask()
            await asyncio.sleep(0)

    run(main)
    expect_one(chain, "here", "success")


def test_an_executor_takes_the_scope_along_only_if_it_is_bound(chain: Any, llm: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with capsule_scope("here"):
            await loop.run_in_executor(None, llm.ask)
            await loop.run_in_executor(None, bind_scope(llm.ask))
            with ThreadPoolExecutor(1) as pool:
                pool.submit(bind_scope(llm.ask)).result()
                pool.submit(contextvars.copy_context().run, llm.ask).result()

    run(main)
    expect(chain, [(None, "success"), *[("here", "success")] * 3])


def test_a_stream_belongs_to_the_scope_that_created_it(chain: Any, llm: Any) -> None:
    with capsule_scope("creator"):
        stream = llm.ask(stream=True)
    with capsule_scope("reader"):
        list(stream)
    with capsule_scope("creator 2"):
        stream = llm.ask(stream=True)
    thread = threading.Thread(target=list, args=(stream,))
    thread.start()
    thread.join()

    expect(chain, [("creator", "success"), ("creator 2", "success")])


def test_an_async_stream_belongs_to_the_scope_that_created_it(chain: Any, llm: Any) -> None:
    async def read(stream: Any) -> None:
        with capsule_scope("reader"):
            async for _ in stream:
                pass

    async def main() -> None:
        with capsule_scope("creator"):
            stream = await llm.aask(stream=True)
        await asyncio.create_task(read(stream))

    run(main)
    expect_one(chain, "creator", "success")


def test_eight_threads_with_a_loop_each(chain: Any, llm: Any) -> None:
    def work(number: int) -> None:
        async def main() -> None:
            with capsule_scope(f"thread {number}"):
                await asyncio.gather(*(llm.aask() for _ in range(50)))

        asyncio.run(main())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expect(chain, [(f"thread {number}", "success") for number in range(8)] * 50)


def test_requests_of_a_server_each_in_their_own_task(chain: Any, llm: Any) -> None:
    @capsuled(session_id=lambda given: given["request"])
    async def handler(request: str) -> str:
        answer = await llm.aask(f"say:{request}")
        return str(answer.choices[0].message.content)

    async def main() -> None:
        answers = await asyncio.gather(*(handler(f"r{number}") for number in range(20)))
        assert answers == [f"r{number}" for number in range(20)]

    run(main)
    for capsule in expect(chain, [("handler", "success")] * 20):
        assert capsule["outcome"]["result"] == capsule["context"]["session_id"]


def test_a_scope_that_is_left_in_another_task_keeps_its_calls(chain: Any, llm: Any) -> None:
    async def main() -> None:
        with capsule_scope("parent"):
            late = asyncio.create_task(in_scope_later())
        await late

    async def in_scope_later() -> None:
        await asyncio.sleep(0.01)
        await llm.aask()

    run(main)
    capsule = expect_one(chain, None, "success")
    assert capsule["context"]["environment"]["closed_parent"] == chain.one("parent")["id"]


# -- calls within calls ----------------------------------------------------------------------------


class Judge(CustomLogger):
    """A callback that has a model judge each answer."""

    def __init__(self, llm: Any) -> None:
        super().__init__()
        self.llm = llm
        self.judged = threading.Event()

    def log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        if "verdict" not in str(kwargs["messages"]):
            self.llm.ask("say:verdict")
            self.judged.set()

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        if "verdict" not in str(kwargs["messages"]):
            await self.llm.aask("say:verdict")
            self.judged.set()


@pytest.mark.parametrize("order", ["judge first", "capsules first"])
def test_a_call_in_a_callback_is_a_call_of_its_own(chain: Any, llm: Any, order: str) -> None:
    judge = Judge(llm)
    litellm.callbacks = [judge, llm.logger] if order == "judge first" else [llm.logger, judge]
    with capsule_scope("task"):
        llm.ask()
        assert judge.judged.wait(10)

    first, second = expect(chain, [("task", "success")] * 2)
    results = {first["outcome"]["result"], second["outcome"]["result"]}
    assert results == {"hello world!", "verdict"}


def test_an_async_call_in_a_callback_is_a_call_of_its_own(chain: Any, llm: Any) -> None:
    judge = Judge(llm)
    litellm.callbacks = [llm.logger, judge]

    async def main() -> None:
        with capsule_scope("task"):
            await llm.aask()
            while not judge.judged.is_set():
                await asyncio.sleep(0.01)

    run(main)
    expect(chain, [("task", "success")] * 2)


# -- Router ----------------------------------------------------------------------------------------


def trace(capsule: Any) -> str:
    found = capsule["context"]["environment"]["litellm_trace_id"]
    assert found
    return str(found)


def test_router_retry_is_a_failure_and_a_success_of_one_trace(chain: Any, llm: Any) -> None:
    with capsule_scope("task"):
        router(llm, num_retries=1).completion(model="gpt", messages=hi("flaky1-router"))
    failed, done = expect(chain, [("task", "failure"), ("task", "success")])
    assert trace(failed) == trace(done)
    assert failed["id"] != done["id"]


def test_router_fallback_is_a_failure_and_a_success_of_one_trace(chain: Any, llm: Any) -> None:
    async def main() -> None:
        with capsule_scope("task"):
            await router(llm, fallbacks=[{"bad": ["gpt"]}]).acompletion(model="bad", messages=hi())

    run(main)
    failed, done = expect(chain, [("task", "failure"), ("task", "success")])
    assert trace(failed) == trace(done)
    assert [c["reasoning"]["model"] for c in (failed, done)] == ["openai/bad", "openai/gpt-4o"]
    assert done["context"]["environment"]["model_group"] == "gpt"


def test_router_calls_nobody_for_a_model_it_does_not_know(chain: Any, llm: Any) -> None:
    async def main() -> None:
        with capsule_scope("task"), pytest.raises(litellm.BadRequestError):
            await router(llm).acompletion(model="unheard-of", messages=hi())

    with capsule_scope("task"), pytest.raises(litellm.BadRequestError):
        router(llm).completion(model="unheard-of", messages=hi())
    run(main)
    expect(chain, [])


def test_router_calls_nobody_while_a_deployment_cools_down(chain: Any, llm: Any) -> None:
    params = {"model": "openai/gpt-4o", **llm.at, "max_retries": 0}
    two = [  # one alone is never cooled down
        {"model_name": "gpt", "litellm_params": {**params, "seed": seed}} for seed in range(2)
    ]
    asked = Router(
        two,
        allowed_fails=0,
        cooldown_time=60,
        retry_after=0,
        num_retries=0,
        disable_cooldowns=False,
    )
    with capsule_scope("task"):
        for _ in range(3):
            with pytest.raises((litellm.RateLimitError, ValueError)):
                asked.completion(model="gpt", messages=hi("fail429 cooling"))
    made = llm.provider.count("fail429 cooling")
    assert made < 3
    expect(chain, [("task", "failure")] * made)


def test_router_streams(chain: Any, llm: Any) -> None:
    async def main() -> None:
        with capsule_scope("async"):
            stream = await router(llm).acompletion(model="gpt", messages=hi(), stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(pieces) == "hello world!"

    run(main)
    with capsule_scope("sync"):
        stream = router(llm).completion(model="gpt", messages=hi(), stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream) == "hello world!"
    for capsule in expect(chain, [("async", "success"), ("sync", "success")]):
        assert capsule["outcome"]["result"] == "hello world!"


def test_router_stream_that_is_abandoned_ends_with_the_collection_of_its_cycle(
    chain: Any, llm: Any
) -> None:
    with capsule_scope("task"):
        next(iter(router(llm).completion(model="gpt", messages=hi(), stream=True)))
    until = time.monotonic() + 5
    while llm.logger.recorder().stats().open and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    capsule = expect_one(chain, "task", "partial")
    assert capsule["outcome"]["result"] == "hello"


def test_router_that_was_built_before_the_logger(chain: Any, provider: Any, llm: Any) -> None:
    litellm.callbacks = []
    asked = router(llm)
    litellm.callbacks = [CapsuleLogger()]

    async def main() -> None:
        with capsule_scope("chat"):
            await asked.acompletion(model="gpt", messages=hi())
        with capsule_scope("responses"):
            await asked.aresponses(model="gpt", input="hi")

    run(main)
    time.sleep(0.2)
    expect(chain, [("chat", "success"), ("responses", "success")])

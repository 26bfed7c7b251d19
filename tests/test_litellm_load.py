"""Thousands of calls over HTTP: all of them are in the chain, none twice, each under the task that made it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from litellm_support import LITELLM_NOISE, LLM, calls, pairs, run

from capsule_sdk import capsule_scope
from capsule_sdk.evidence.exporting.export import read_chain

if TYPE_CHECKING:
    from litellm_programs import Programs

pytest_plugins = ["litellm_support", "litellm_programs"]
pytestmark = [*LITELLM_NOISE, pytest.mark.load]

CALLS, THREADS, WIDE, STREAMS, LOOPS = 1000, 8, 50, 300, 300


@pytest.fixture
def busy(llm: LLM, far_provider: Any) -> Iterator[LLM]:
    """LiteLLM, calling a provider in a process of its own."""
    yield LLM(far_provider, llm.logger)
    assert llm.logger.recorder().stats().open == 0


def assert_all(chain: Any, expected: dict[str, int]) -> None:
    """Assert that these calls, and no others, are in the chain as successes, and that it verifies."""
    capsules = chain.capsules()
    assert Counter(pairs(capsules)) == {
        (name, "success"): count for name, count in expected.items()
    }
    for task in capsules:
        if (name := task["trigger"]["source"]) in expected:
            metrics = task["outcome"]["metrics"]
            assert metrics["llm_calls"] == expected[name]
            assert metrics["children"]["started"] == metrics["children"]["ended"] == expected[name]
    assert {call["outcome"]["result"] for call in calls(capsules)} == {"hello world!"}
    chain.verify()


def test_one_after_the_other(chain: Any, busy: LLM) -> None:
    for number in range(10):
        with capsule_scope(f"task {number}"):
            for _ in range(CALLS // 10):
                busy.ask()
    assert_all(chain, {f"task {number}": CALLS // 10 for number in range(10)})


def test_on_many_threads(chain: Any, busy: LLM) -> None:
    def work(number: int) -> None:
        with capsule_scope(f"thread {number}"):
            for _ in range(CALLS // THREADS):
                busy.ask()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_all(chain, {f"thread {number}": CALLS // THREADS for number in range(THREADS)})


def test_many_at_once(chain: Any, busy: LLM) -> None:
    async def work(number: int) -> None:
        with capsule_scope(f"worker {number}"):
            for _ in range(CALLS // WIDE):
                await busy.aask()

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(WIDE)))

    run(main)
    assert_all(chain, {f"worker {number}": CALLS // WIDE for number in range(WIDE)})


def test_streams(chain: Any, busy: LLM) -> None:
    with capsule_scope("sync"):
        for _ in range(STREAMS):
            assert len(list(busy.ask(stream=True))) == 4

    async def read() -> None:
        for _ in range(STREAMS // 10):
            async for _ in await busy.aask(stream=True):
                pass

    async def main() -> None:
        with capsule_scope("async"):
            await asyncio.gather(*(read() for _ in range(10)))

    run(main)
    assert_all(chain, {"sync": STREAMS, "async": STREAMS})


def test_a_loop_for_each_call(programs: Programs, far_provider: Any, tmp_path: Path) -> None:
    programs.run(
        tmp_path,
        far_provider.base_url,
        f"""
with capsule_scope("task"):
    for _ in range({LOOPS}):
        asyncio.run(aask())
""",
    )
    assert Counter(pairs(list(read_chain(tmp_path / "capsules.db")))) == {
        ("task", "success"): LOOPS
    }


def test_a_gather_and_then_the_end_of_the_process(
    programs: Programs, far_provider: Any, tmp_path: Path
) -> None:
    programs.run(
        tmp_path,
        far_provider.base_url,
        f"""
async def main():
    with capsule_scope("task"):
        await asyncio.gather(*(aask() for _ in range({CALLS})))

asyncio.run(main())
""",
    )
    capsules = list(read_chain(tmp_path / "capsules.db"))
    assert Counter(pairs(capsules)) == {("task", "success"): CALLS}
    task = next(c for c in capsules if c["trigger"]["source"] == "task")
    assert task["outcome"]["metrics"]["llm_calls"] == CALLS

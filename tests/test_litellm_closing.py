"""A stream that closes itself is not closed by its reader: how the step ends decides, whoever else is at it.

LiteLLM closes its streams from inside their steps from 1.108 on. These streams are its own, over HTTP; only
what happens in a step is added to.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm_support import LITELLM_NOISE, LLM, expect_one, run, usage

from capsule_sdk import capsule_scope

if TYPE_CHECKING:
    from conftest import Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

Step = Callable[[Any], Any]
#: Seconds that a closed stream's own cleaning up may take.
SOON = 2.0


def ended(call: dict[str, Any]) -> Any:
    return call["outcome"]["metrics"].get("ended")


def closes_itself(monkeypatch: pytest.MonkeyPatch, *, then: BaseException | None = None) -> None:
    """Have LiteLLM's streams close themselves in the step with the second chunk, and go on as told."""
    step, astep = CustomStreamWrapper.__next__, CustomStreamWrapper.__anext__

    def __next__(self: Any) -> Any:  # noqa: N807
        chunk = step(self)
        if chunk.choices[0].delta.content == " wor":
            self.close() if hasattr(self, "close") else None
            if then is not None:
                raise then
        return chunk

    async def __anext__(self: Any) -> Any:  # noqa: N807
        chunk = await astep(self)
        if chunk.choices[0].delta.content == " wor":
            await self.aclose()
            if then is not None:
                raise then
        return chunk

    monkeypatch.setattr(CustomStreamWrapper, "__next__", __next__)
    monkeypatch.setattr(CustomStreamWrapper, "__anext__", __anext__)


def read_on(llm: LLM, mode: str, prompt: str = "hi") -> None:
    if mode == "sync":
        for _ in llm.ask(prompt, stream=True):
            pass
        return

    async def main() -> None:
        async for _ in await llm.aask(prompt, stream=True):
            pass

    run(main)


@pytest.mark.parametrize(
    ("error", "status", "how"),
    [
        (ValueError("what the provider said"), "failure", None),
        (asyncio.CancelledError(), "partial", "cancelled"),
        (GeneratorExit(), "partial", "closed"),
        (KeyboardInterrupt(), "partial", "interrupted"),
        (SystemExit(3), "partial", "system exit"),
    ],
    ids=["error", "cancelled", "generator exit", "interrupt", "exit"],
)
def test_a_step_that_closes_and_raises(
    chain: Chain,
    llm: LLM,
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: str,
    how: str | None,
) -> None:
    closes_itself(monkeypatch, then=error)
    with capsule_scope("plan"), pytest.raises(type(error)):
        if mode == "sync":
            read_on(llm, mode)
        else:  # as a coroutine of its own: an event loop has its own ways with an interrupt

            async def main() -> None:
                stream = await llm.aask(stream=True)
                caught = None
                try:
                    async for _ in stream:
                        pass
                except BaseException as raised:
                    caught = raised
                assert caught is error

            run(main)
            raise error
    call = expect_one(chain, "plan", status)
    assert ended(call) == how
    assert call["outcome"]["result"] == "hello"
    if how is None:
        assert call["outcome"]["error"] == "ValueError: what the provider said"


def test_a_step_that_closes_and_hands_on_its_chunk(
    chain: Chain, llm: LLM, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next step says how it ended: here, that there is nothing more, or that it broke off."""
    closes_itself(monkeypatch)
    with capsule_scope("plan"), contextlib.suppress(Exception):
        read_on(llm, mode)
    (call,) = [c for c in chain.capsules() if c["trigger"]["source"] == "litellm"]
    assert call["outcome"]["result"].startswith("hello wor")
    assert ended(call) in (
        None,
        "unfinished",
    )  # the provider's reason to stop may have come by then


def test_a_step_closes_in_a_task_or_a_thread_that_it_starts(
    chain: Chain, llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    astep = CustomStreamWrapper.__anext__

    async def __anext__(self: Any) -> Any:  # noqa: N807
        chunk = await astep(self)
        if chunk.choices[0].delta.content == " wor":
            await asyncio.shield(asyncio.create_task(self.aclose()))
            if close := getattr(self, "close", None):
                await asyncio.to_thread(close)
            raise ValueError("what the provider said")
        return chunk

    monkeypatch.setattr(CustomStreamWrapper, "__anext__", __anext__)
    with capsule_scope("plan"), pytest.raises(ValueError, match="what the provider said"):
        read_on(llm, "async")
    assert expect_one(chain, "plan", "failure")["outcome"]["result"] == "hello"


def test_closed_by_another_task_while_a_step_runs(chain: Chain, llm: LLM) -> None:
    async def main() -> None:
        with capsule_scope("plan"):
            stream = await llm.aask("midslow1", stream=True)
        await anext(stream), await anext(stream)
        step = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.1)
        await asyncio.create_task(stream.aclose())
        with contextlib.suppress(BaseException):
            await asyncio.wait_for(step, 3)

    run(main)
    call = expect_one(chain, "plan", "partial", within=SOON)
    assert (ended(call), call["outcome"]["result"]) == ("closed", "hello wor")


@pytest.mark.skipif(
    not hasattr(CustomStreamWrapper, "close"), reason="LiteLLM's sync streams cannot be closed"
)
@pytest.mark.parametrize(
    "copied", [False, True], ids=["thread", "thread with the reader's context"]
)
def test_closed_by_another_thread_while_a_step_runs(chain: Chain, llm: LLM, copied: bool) -> None:
    with capsule_scope("plan"):
        stream = llm.ask("midslow1", stream=True)
    next(stream), next(stream)
    close = stream.close
    if copied:
        context = contextvars.copy_context()
        close = lambda: context.run(stream.close)  # noqa: E731
    closer = threading.Timer(0.1, close)
    closer.start()
    with contextlib.suppress(Exception):
        list(stream)
    closer.join()
    call = expect_one(chain, "plan", "partial", within=SOON)
    assert (ended(call), call["outcome"]["result"]) == ("closed", "hello wor")


def test_a_reader_that_closes_after_its_last_step(chain: Chain, llm: LLM) -> None:
    """A step leaves nothing behind: what its reader does next is its reader's doing."""

    async def main() -> None:
        with capsule_scope("plan"):
            stream = await llm.aask(stream=True)
        await anext(stream)
        await stream.aclose()

    run(main)
    assert ended(expect_one(chain, "plan", "partial")) == "closed"


def test_a_step_that_takes_another_of_its_own_steps(
    chain: Chain, llm: LLM, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk that is passed from step to step is one chunk."""
    step, astep = CustomStreamWrapper.__next__, CustomStreamWrapper.__anext__
    deep: list[object] = []

    def __next__(self: Any) -> Any:  # noqa: N807
        deep.append(None)
        try:
            return next(self) if len(deep) < 3 else step(self)
        finally:
            deep.pop()

    async def __anext__(self: Any) -> Any:  # noqa: N807
        deep.append(None)
        try:
            return await (anext(self) if len(deep) < 3 else astep(self))
        finally:
            deep.pop()

    monkeypatch.setattr(CustomStreamWrapper, "__next__", __next__)
    monkeypatch.setattr(CustomStreamWrapper, "__anext__", __anext__)
    with capsule_scope("plan"):
        read_on(llm, mode, "usagechunk")
    call = expect_one(chain, "plan", "success")
    assert call["outcome"]["result"] == "hello world!"
    assert usage(call)[:2] == (10, 2)

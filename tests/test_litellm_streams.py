"""A streamed call is one capsule that says how far its reader got, whoever reads it, or nobody."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import litellm
import pytest
from litellm.exceptions import MidStreamFallbackError
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
from litellm.types.utils import Delta, ModelResponseStream, StreamingChoices
from litellm_support import (
    CANCELLERS,
    LITELLM_NOISE,
    LLM,
    expect,
    expect_one,
    reference_hash,
    run,
    usage,
    user,
)

from capsule_sdk import capsule_scope, capsuled
from capsule_sdk.adapters.litellm.pieces import Pieces
from capsule_sdk.content import ContentPolicy

if TYPE_CHECKING:
    from conftest import Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

Ask = Callable[..., Any]
Read = Callable[..., list[Any]]

#: Seconds in which an abandoned stream must have been noticed.
SOON = 0.1

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def ended(call: dict[str, Any]) -> Any:
    return call["outcome"]["metrics"].get("ended")


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Nothing may depend on the garbage collector coming along."""
    gc.disable()
    yield
    gc.enable()


# -- read to the end -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "options", "expected"),
    [
        ("hi", {}, (None, None, None)),
        ("hi", {"stream_options": {"include_usage": True}}, (10, 2, "0.000045")),
        ("usagechunk", {}, (10, 2, "0.000045")),
    ],
)
def test_read_to_its_end(
    chain: Chain, read: Read, prompt: str, options: Any, expected: Any
) -> None:
    with capsule_scope("plan", authority="policy"):
        assert text(read(prompt, **options)) == "hello world!"
    call = expect_one(chain, "plan", "success")
    assert call["outcome"]["result"] == "hello world!"
    assert usage(call) == expected
    facts = {"stream": True, "provider": "openai", "response_model": "gpt-4o", "attempts": 1}
    assert call["context"]["environment"].items() >= facts.items()
    assert call["context"]["environment"]["finish_reason"] == "stop"
    assert call["reasoning"]["prompt_hash"] == reference_hash(user(prompt))
    assert call["authority"]["type"] == "policy"


def test_several_answers(chain: Chain, read: Read) -> None:
    read(n=3)
    assert expect_one(chain, None, "success")["outcome"]["result"] == ["hello world!"] * 3


def test_what_the_model_asks_of_tools(chain: Chain, read: Read) -> None:
    read("calltool", tools=[WEATHER])
    assert expect_one(chain, None, "success")["outcome"]["result"] == {
        "text": "",
        "tool_calls": [{"name": "weather", "arguments": '{"city": "Paris"}'}],
        "finish_reason": "tool_calls",
    }


def test_legacy_function_call() -> None:
    """No model of today answers so, but a stream may still look so."""
    pieces = Pieces(lambda model, usage: None)
    for part in ({"name": "weather", "arguments": ""}, {"arguments": '{"city": '}):
        delta = Delta(function_call=part)
        pieces.feed(ModelResponseStream(choices=[StreamingChoices(delta=delta)]))
    delta = Delta(function_call={"arguments": '"Rom"}'})
    pieces.feed(
        ModelResponseStream(choices=[StreamingChoices(delta=delta, finish_reason="function_call")])
    )
    assert pieces.answer(ContentPolicy()).result == {
        "text": "",
        "tool_calls": [{"name": "weather", "arguments": '{"city": "Rom"}'}],
        "finish_reason": "function_call",
    }


def test_one_step_at_a_time(chain: Chain, llm: LLM) -> None:
    stream = llm.ask(stream=True)
    chunks = [next(stream)]
    expect(chain, [])
    with contextlib.suppress(StopIteration):
        while True:
            chunks.append(next(stream))

    async def main() -> list[Any]:
        stream = await llm.aask(stream=True)
        return [await anext(stream), *[chunk async for chunk in stream]]

    assert text(chunks) == text(run(main)) == "hello world!"
    expect(chain, [(None, "success")] * 2)


def test_over_its_end_again(chain: Chain, llm: LLM) -> None:
    stream = llm.ask(stream=True)
    assert text(list(stream)) == "hello world!"
    assert list(stream) == []

    async def main() -> None:
        stream = await llm.aask(stream=True)
        assert text([chunk async for chunk in stream]) == "hello world!"
        assert [chunk async for chunk in stream] == []
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await stream.aclose()

    run(main)
    found = expect(chain, [(None, "success")] * 2)
    assert {call["outcome"]["result"] for call in found} == {"hello world!"}


def test_two_streams_in_step(chain: Chain, llm: LLM) -> None:
    with capsule_scope("one"):
        one = llm.ask("say:aaabbbccc", stream=True)
    with capsule_scope("two"):
        two = llm.ask("say:dddeeefff", stream=True)
    assert len(list(zip(one, two, strict=True))) == 4
    found = expect(chain, [("one", "success"), ("two", "success")])
    assert [call["outcome"]["result"] for call in found] == ["aaabbbccc", "dddeeefff"]


# -- the stream stays what it is -------------------------------------------------------------------


def test_a_stream_is_still_litellms(chain: Chain, ask: Ask) -> None:
    plain = CustomStreamWrapper
    stream = ask(stream=True)
    assert isinstance(stream, CustomStreamWrapper)
    kind = type(stream)
    assert (kind.__name__, kind.__module__) == (plain.__name__, plain.__module__)
    assert (kind.__qualname__, kind.__doc__) == (plain.__qualname__, plain.__doc__)
    assert {name for name in dir(kind) if not name.startswith("__")} == {
        name for name in dir(plain) if not name.startswith("__")
    }
    assert iter(stream) is stream
    assert stream.__aiter__() is stream
    assert stream == stream
    assert len({stream, stream}) == 1
    with pytest.raises(TypeError, match="is not an iterator"):
        next([stream])
    del stream
    expect_one(chain, None, "partial", within=SOON)


# -- whose it is -----------------------------------------------------------------------------------


def test_a_copy_of_a_stream_is_a_stream_of_its_own(chain: Chain, llm: LLM) -> None:
    """Nothing in an object of LiteLLM's refers to the one stream that was followed."""
    stream = llm.ask("say:one two three", stream=True)
    assert not [value for value in vars(stream).values() if callable(value)]
    other = copy.copy(stream)
    assert other.chunk_creator.__self__ is other
    creator = stream.chunk_creator
    assert list(other)
    del stream, other
    gc.collect()
    assert creator.__self__.chunk_creator == creator
    expect(chain, [(None, "success")])


def test_made_in_one_scope_and_read_in_another(chain: Chain, llm: LLM) -> None:
    with capsule_scope("maker", agent_id="maker"):
        stream = llm.ask(stream=True)
    with capsule_scope("reader", agent_id="reader"):
        assert text(list(stream)) == "hello world!"
    call = expect_one(chain, "maker", "success")
    assert call["context"]["agent_id"] == "maker"


def test_made_in_one_task_and_read_in_another(chain: Chain, llm: LLM) -> None:
    @capsuled
    async def maker() -> Any:
        return await llm.aask(stream=True)

    @capsuled
    async def reader(stream: Any) -> str:
        return text([chunk async for chunk in stream])

    async def main() -> str:
        stream = await asyncio.create_task(maker())
        return await asyncio.create_task(reader(stream))

    assert run(main) == "hello world!"
    expect_one(chain, "maker", "success")


def test_read_in_another_thread(chain: Chain, llm: LLM) -> None:
    chunks: list[Any] = []
    with capsule_scope("maker"):
        stream = llm.ask(stream=True)
        thread = threading.Thread(target=lambda: chunks.extend(stream))
        thread.start()
        thread.join()
    assert text(chunks) == "hello world!"
    expect_one(chain, "maker", "success")


def test_read_while_its_task_is_still_open(chain: Chain, llm: LLM) -> None:
    """The task waits for nothing, and yet counts the whole of it."""
    with capsule_scope("maker"):
        list(llm.ask(stream=True, stream_options={"include_usage": True}))
    expect_one(chain, "maker", "success")
    metrics = chain.one("maker")["outcome"]["metrics"]
    assert (metrics["llm_calls"], metrics["tokens_in"], metrics["tokens_out"]) == (1, 10, 2)
    assert (metrics["children"]["started"], metrics["children"]["ended"]) == (1, 1)


# -- broken off ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize(("steps", "result"), [(0, ""), (1, "hello"), (2, "hello wor")])
def test_abandoned(chain: Chain, llm: LLM, mode: str, steps: int, result: str) -> None:
    def start() -> None:
        stream = llm.ask(stream=True)
        for _ in range(steps):
            next(stream)

    async def astart() -> None:
        stream = await llm.aask(stream=True)
        for _ in range(steps):
            await anext(stream)

    with capsule_scope("plan"):
        if mode == "sync":
            start()
        else:
            run(astart)
    call = expect_one(chain, "plan", "partial", within=SOON)
    assert ended(call) == "abandoned"
    assert call["outcome"]["result"] == result
    assert usage(call) == (None, None, None)


@pytest.mark.usefixtures("no_gc")
def test_abandoned_in_a_loop_that_goes_on(chain: Chain, llm: LLM) -> None:
    async def start() -> None:
        async for _ in await llm.aask(stream=True):
            break

    async def main() -> None:
        await start()
        expect_one(chain, None, "partial", within=SOON)

    run(main)
    call = expect_one(chain, None, "partial")
    assert (ended(call), call["outcome"]["result"]) == ("abandoned", "hello")


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("stumbles", [True, False])
def test_abandoned_while_litellms_threads_still_log_its_chunk(
    chain: Chain, llm: LLM, stumbles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, over = threading.Event(), threading.Event()

    async def log(*args: Any, **kwargs: Any) -> None:
        reached.set()
        if stumbles:  # in a task, whose exception is in a cycle with the frames that it passed
            raise IndexError
        over.wait(20)

    monkeypatch.setattr(Logging, "async_success_handler", log)
    try:
        next(llm.ask(stream=True))
        assert reached.wait(20)
        expect_one(chain, None, "partial", within=SOON)
    finally:
        over.set()


@pytest.mark.usefixtures("no_gc")
def test_an_exception_in_the_body_of_the_loop(chain: Chain, llm: LLM, mode: str) -> None:
    error = KeyError("the user's own")

    def start() -> None:
        for _ in llm.ask(stream=True):
            raise error

    async def astart() -> None:
        async for _ in await llm.aask(stream=True):
            raise error

    with capsule_scope("plan"), pytest.raises(KeyError) as caught:
        start() if mode == "sync" else run(astart)
    assert caught.value is error
    del caught
    error.__traceback__ = None  # it holds the frame that holds the stream
    call = expect_one(chain, "plan", "partial", within=SOON)
    assert (ended(call), call["outcome"]["result"]) == ("abandoned", "hello")


@pytest.mark.usefixtures("no_gc")
def test_passed_on_by_a_generator_that_is_closed(chain: Chain, llm: LLM) -> None:
    def passed_on() -> Iterator[Any]:
        yield from llm.ask(stream=True)

    async def apassed_on() -> AsyncIterator[Any]:
        async for chunk in await llm.aask(stream=True):
            yield chunk

    async def main() -> None:
        chunks = apassed_on()
        await anext(chunks)
        await chunks.aclose()

    chunks = passed_on()
    next(chunks)
    chunks.close()
    run(main)
    for call in expect(chain, [(None, "partial")] * 2, within=SOON):
        assert call["outcome"]["result"] == "hello"


def test_closed(chain: Chain, llm: LLM) -> None:
    async def main() -> None:
        stream = await llm.aask(stream=True)
        await anext(stream)
        await stream.aclose()
        call = expect_one(chain, None, "partial")  # at once, though the stream lives on
        assert (ended(call), call["outcome"]["result"]) == ("closed", "hello")
        await stream.aclose()
        with contextlib.suppress(Exception):
            await anext(stream)

    run(main)
    assert expect_one(chain, None, "partial")["outcome"]["result"] == "hello"


@pytest.mark.usefixtures("no_gc")
def test_broken_off_after_the_model_had_finished(chain: Chain, llm: LLM, mode: str) -> None:
    """Whoever has read ``finish_reason`` has the whole answer."""

    def start() -> None:
        for chunk in llm.ask(stream=True):
            if chunk.choices[0].finish_reason:
                break

    async def astart() -> None:
        async for chunk in await llm.aask(stream=True):
            if chunk.choices[0].finish_reason:
                break

    start() if mode == "sync" else run(astart)
    call = expect_one(chain, None, "success", within=SOON)
    assert (ended(call), call["outcome"]["result"]) == (None, "hello world!")


# -- errors in the middle --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("miderr", "as told: 500"), ("middrop", "peer closed|not completed|Connection error")],
)
def test_an_error_in_the_middle(chain: Chain, read: Read, prompt: str, message: str) -> None:
    with capsule_scope("plan"), pytest.raises(MidStreamFallbackError, match=message) as caught:
        read(prompt)
    call = expect_one(chain, "plan", "failure")
    assert call["outcome"]["result"] == "hello wor"
    assert call["outcome"]["error"] == f"{caught.type.__name__}: {caught.value}"
    assert usage(call) == (None, None, None)
    assert call["execution"]["tool_calls"][0]["success"] is False


def test_an_error_before_the_first_chunk(chain: Chain, read: Read) -> None:
    with pytest.raises(litellm.InternalServerError, match="as told: 500"):
        read("fail500")
    call = expect_one(chain, None, "failure")
    assert "as told: 500" in call["outcome"]["error"]
    assert call["outcome"]["result"] is None


def test_the_error_of_a_step_is_the_very_object(
    chain: Chain, llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("in a step")
    stream = llm.ask(stream=True)
    next(stream)
    monkeypatch.setattr(CustomStreamWrapper, "__next__", lambda self: _raise(error))
    with pytest.raises(RuntimeError) as caught:
        next(stream)
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert expect_one(chain, None, "failure")["outcome"]["error"] == "RuntimeError: in a step"


@pytest.mark.parametrize(
    ("kind", "how"), [(KeyboardInterrupt, "interrupted"), (SystemExit, "system exit")]
)
def test_an_interrupt_in_a_step(
    chain: Chain,
    llm: LLM,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[BaseException],
    how: str,
) -> None:
    stream = llm.ask(stream=True)
    next(stream)
    monkeypatch.setattr(CustomStreamWrapper, "chunk_creator", lambda *_, **__: _raise(kind()))
    with pytest.raises(kind):
        list(stream)
    call = expect_one(chain, None, "partial")
    assert (ended(call), call["outcome"]["result"]) == (how, "hello")


def _raise(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize("cancel", CANCELLERS)
def test_cancelled_in_the_middle(chain: Chain, llm: LLM, cancel: Callable[..., Any]) -> None:
    async def main() -> None:
        with capsule_scope("plan"):
            stream = await llm.aask("midslow2", stream=True)
        assert text([await anext(stream), await anext(stream)]) == "hello wor"

        async def read_on() -> None:
            async for _ in stream:
                pass

        await cancel(read_on)

    run(main)
    call = expect_one(chain, "plan", "partial")
    assert (ended(call), call["outcome"]["result"]) == ("cancelled", "hello wor")


def test_read_on_after_a_cancelled_step(chain: Chain, llm: LLM) -> None:
    """LiteLLM then invents an end, or from 1.108 on an error; the capsule says what the model did."""

    async def main() -> list[Any]:
        stream = await llm.aask("midslow1", stream=True)
        chunks = [await anext(stream), await anext(stream)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.1)
        with contextlib.suppress(MidStreamFallbackError):
            chunks.extend([chunk async for chunk in stream])
        return chunks

    chunks = run(main)
    assert text(chunks) == "hello wor"
    call = expect_one(chain, None, "partial")
    assert (ended(call), call["outcome"]["result"]) == ("cancelled", "hello wor")
    assert "finish_reason" not in call["context"]["environment"]


def test_mocked_streams(chain: Chain, read: Read) -> None:
    assert text(read(mock_response="mocked answer")) == "mocked answer"
    assert expect_one(chain, None, "success")["outcome"]["result"] == "mocked answer"


def test_a_mocked_error_in_a_stream(chain: Chain, read: Read) -> None:
    with pytest.raises(litellm.InternalServerError):
        read(mock_response="litellm.InternalServerError")
    expect_one(chain, None, "failure")


def test_complete_response(chain: Chain, llm: LLM) -> None:
    """LiteLLM reads the stream itself and returns the whole."""
    response = llm.ask(stream=True, complete_response=True)
    assert response.choices[0].message.content == "hello world!"
    call = expect_one(chain, None, "success")
    assert call["outcome"]["result"] == "hello world!"
    assert call["context"]["environment"]["stream"] is True

"""An error inside the SDK changes nothing for the caller, is counted and logged, and costs no capsule.

In strict mode the caller learns of it, after his call: never instead of his own exception.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import litellm
import pytest
from litellm_support import LITELLM_NOISE, expect_one, pairs, run

from capsule_sdk import CapsuleLogger, capsule_scope, logs
from capsule_sdk.adapters.litellm import early, entries, flight, hooks
from capsule_sdk.adapters.litellm.flight import Flight
from capsule_sdk.adapters.litellm.pieces import Pieces
from capsule_sdk.errors import RecordingError
from capsule_sdk.recording.recorder import Recorder
from capsule_sdk.records.call import LLMCall

pytest_plugins = ["litellm_support"]
pytestmark = [*LITELLM_NOISE, pytest.mark.internal_errors]

#: Where the error is injected, and how many capsules of five calls, one of which fails, there are all the same.
#: Where our wrappers fail, LiteLLM's events stand in; what nobody could settle comes with the process's end.
PLACES: dict[str, tuple[Any, str, int]] = {
    "active_loggers": (entries, "active_loggers", 5),
    "Flight()": (entries, "Flight", 5),
    "request_of": (flight, "request_of", 5),
    "attribution_of": (flight, "attribution_of", 5),
    "is_private": (flight, "is_private", 0),
    "logger.attribution": (CapsuleLogger, "attribution", 0),
    "LLMCall()": (flight, "LLMCall", 0),
    "recorder.begin": (Recorder, "begin", 0),
    "answer_of": (flight, "answer_of", 5),
    "Flight.streams": (Flight, "streams", 5),
    "follow": (flight, "follow", 5),
    "Pieces()": (flight, "Pieces", 5),
    "Pieces.begin": (Pieces, "begin", 5),
    "Pieces.feed": (Pieces, "feed", 5),
    "Pieces.finish": (Pieces, "finish", 5),
    "Pieces.answer": (Pieces, "answer", 5),
    "Flight.answered": (Flight, "answered", 5),
    "Flight.failed": (Flight, "failed", 5),
    "recorder.claim": (Recorder, "claim", 1),
    "recorder.finish": (Recorder, "finish", 0),
    "call.settle": (LLMCall, "settle", 0),
    "mark": (early, "mark", 5),
    "sending": (hooks, "sending", 5),
    "succeeded": (hooks, "succeeded", 5),
    "failed": (hooks, "failed", 5),
    "returning": (hooks, "returning", 5),
}


def broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("injected")


def the_five(llm: Any) -> list[Any]:
    """Call sync, async, streaming both, and failing; return what a caller gets to see of it."""
    seen: list[Any] = [llm.ask().choices[0].message.content]
    seen.append("".join(c.choices[0].delta.content or "" for c in llm.ask(stream=True)))
    try:
        llm.ask("fail500")
    except Exception as error:
        seen.append((type(error), error.__context__ is not None))

    async def main() -> None:
        seen.append((await llm.aask()).choices[0].message.content)
        stream = await llm.aask(stream=True)
        seen.append("".join([c.choices[0].delta.content or "" async for c in stream]))

    run(main)
    return seen


@pytest.fixture(scope="module")
def undisturbed() -> list[Any]:
    """What the caller gets from LiteLLM without us."""
    hello = "hello world!"
    return [hello, hello, (litellm.InternalServerError, True), hello, hello]


@pytest.mark.parametrize("place", PLACES)
def test_an_error_at(
    chain: Any,
    llm: Any,
    undisturbed: list[Any],
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner, name, capsules = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        assert the_five(llm) == undisturbed
        llm.logger.recorder().flush(5.0)  # what has streamed is read by the writer
        if owner is hooks:
            wait_for_events()
    assert logs.errors.total() > 0
    assert "injected" in caplog.text

    until = time.monotonic() + 3
    while llm.logger.recorder().stats().submitted < capsules and time.monotonic() < until:
        gc.collect()
        time.sleep(0.01)
    stored = Counter(pairs(chain.capsules()))
    assert stored.total() == capsules
    if capsules == 5:
        assert stored == Counter({(None, "success"): 4, (None, "failure"): 1})


def wait_for_events() -> None:
    """LiteLLM reports in threads of its own."""
    until = time.monotonic() + 5
    while not logs.errors.total() and time.monotonic() < until:
        time.sleep(0.01)


def test_an_answer_that_cannot_be_read_is_a_success_without_result(
    chain: Any, llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight, "answer_of", broken)
    with capsule_scope("task"):
        llm.ask()
    assert expect_one(chain, "task", "success")["outcome"]["result"] is None


def test_a_request_that_cannot_be_read_is_a_call_without_request(
    chain: Any, llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight, "request_of", broken)
    with capsule_scope("task"):
        llm.ask()
    capsule = expect_one(chain, "task", "success")
    assert capsule["reasoning"]["model"] == "unknown"
    assert capsule["outcome"]["result"] == "hello world!"


def test_a_stream_with_an_unreadable_chunk_is_still_whole_for_its_reader(
    chain: Any, llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Pieces.feed

    def sometimes(self: Pieces, chunk: Any) -> None:
        feed(self, chunk)
        if "wor" in str(chunk):
            raise ZeroDivisionError("injected")

    monkeypatch.setattr(Pieces, "feed", sometimes)
    pieces = [c.choices[0].delta.content or "" for c in llm.ask(stream=True)]
    assert "".join(pieces) == "hello world!"
    assert logs.errors["litellm.stream"] == 1
    assert expect_one(chain, None, "success")["outcome"]["result"] == "hello world!"


# -- strict mode -----------------------------------------------------------------------------------


@pytest.fixture(params=["logger", "configured"])
def strict(request: pytest.FixtureRequest, chain: Any, llm: Any) -> Any:
    if request.param == "configured":
        chain.configure(swallow_errors=False)
    litellm.callbacks = [CapsuleLogger(swallow_errors=request.param == "configured")]
    return llm


def stored(chain: Any) -> list[Any]:
    """Return the calls that are in the file at this moment, without waiting."""
    return pairs(chain.stored())


def test_strict_a_call_that_has_returned_is_in_the_chain(chain: Any, strict: Any) -> None:
    strict.ask()
    assert stored(chain) == [(None, "success")]

    async def main() -> None:
        await strict.aask()
        assert stored(chain) == [(None, "success")] * 2

    run(main)


def test_strict_a_stream_that_has_ended_is_in_the_chain(chain: Any, strict: Any) -> None:
    stream = strict.ask(stream=True)
    next(stream)
    assert stored(chain) == []
    list(stream)
    assert stored(chain) == [(None, "success")]

    async def main() -> None:
        async for _ in await strict.aask(stream=True):
            assert len(stored(chain)) == 1
        assert stored(chain) == [(None, "success")] * 2

    run(main)


def both(strict: Any, text: str = "hi", **options: Any) -> list[type[BaseException]]:
    """Return what a sync and an async call raise."""
    raised: list[type[BaseException]] = []
    calls: list[Callable[[], Any]] = [
        lambda: strict.ask(text, **options),
        lambda: run(lambda: strict.aask(text, **options)),
    ]
    for call in calls:
        try:
            call()
        except Exception as error:
            raised.append(type(error))
    return raised


@pytest.mark.parametrize(
    "place",
    ["request_of", "is_private", "answer_of", "Flight.answered", "recorder.begin", "call.settle"],
)
def test_strict_an_error_is_raised_after_the_call(
    strict: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, _ = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        before = len(strict.provider.requests)
        assert both(strict) == [RecordingError] * 2
        assert len(strict.provider.requests) == before + 2


@pytest.mark.parametrize("place", ["request_of", "Flight.failed", "call.settle", "recorder.begin"])
def test_strict_the_callers_own_exception_stays(
    strict: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, _ = PLACES[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        assert both(strict, "fail500") == [litellm.InternalServerError] * 2


@pytest.mark.parametrize("place", ["Pieces.feed", "Pieces.finish"])
def test_strict_an_error_in_a_stream_is_raised_at_its_end(
    strict: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, _ = PLACES[place]
    got: list[str] = []

    def take(chunk: Any) -> None:
        got.append(chunk.choices[0].delta.content or "")

    async def main() -> None:
        async for chunk in await strict.aask(stream=True):
            take(chunk)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        with pytest.raises(RecordingError, match="was not recorded as it should be"):
            for chunk in strict.ask(stream=True):
                take(chunk)
        with pytest.raises(RecordingError, match="was not recorded as it should be"):
            run(main)
    assert "".join(got) == "hello world!" * 2


def test_strict_is_not_strict_about_what_went_well(chain: Any, strict: Any) -> None:
    assert both(strict) == []
    assert both(strict, "fail500") == [litellm.InternalServerError] * 2
    assert sorted(stored(chain) and pairs(chain.capsules()), key=str) == [
        *[(None, "failure")] * 2,
        *[(None, "success")] * 2,
    ]

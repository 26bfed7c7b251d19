"""Functions that were taken from LiteLLM before the logger existed, and are kept where nobody exchanges them.

``KEPT`` are LiteLLM's own functions, as ``from litellm import completion`` gave them before; ``DIRECT`` what is
behind them, as older versions offer it and ``from litellm.main import completion`` does today: those have
nothing but LiteLLM's events. What cannot be right for the latter is said in the tests' names.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import litellm
import litellm.main
import openai
import pytest
import wrapt
from litellm_support import LITELLM_NOISE, calls, expect, expect_one, pairs, run, usage, user

from capsule_sdk import CapsuleLogger, capsule_scope
from capsule_sdk.evidence.exporting.export import read_chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

Functions = dict[str, Callable[..., Any]]

DIRECT: Functions = {
    "completion": litellm.main.completion,
    "acompletion": litellm.main.acompletion,
    "embedding": litellm.main.embedding,
    "aembedding": litellm.main.aembedding,
    "responses": importlib.import_module("litellm.responses.main").responses,
    "aresponses": importlib.import_module("litellm.responses.main").aresponses,
}


def original(name: str) -> Callable[..., Any]:
    """Return LiteLLM's own function, which our wrapper has replaced by now."""
    found = getattr(litellm, name)
    assert isinstance(found, wrapt.FunctionWrapper)
    function: Callable[..., Any] = found.__wrapped__
    return function


class Early:
    """Calls by kept functions; ``direct`` says that they have nothing but LiteLLM's events."""

    def __init__(self, llm: Any, *, direct: bool) -> None:
        self.llm = llm
        self.direct = direct

    def function(self, name: str) -> Callable[..., Any]:
        return DIRECT[name] if self.direct else original(name)

    def ask(self, text: str = "hi", model: str = "openai/gpt-4o", **options: Any) -> Any:
        return self.function("completion")(
            model=model, messages=user(text), **{**self.llm.at, **options}
        )

    async def aask(self, text: str = "hi", model: str = "openai/gpt-4o", **options: Any) -> Any:
        return await self.function("acompletion")(
            model=model, messages=user(text), **{**self.llm.at, **options}
        )


@pytest.fixture(params=["kept", "direct"])
def early(request: pytest.FixtureRequest, llm: Any) -> Early:
    return Early(llm, direct=request.param == "direct")


#: LiteLLM reports a sync success in a thread of its own, an abandoned stream by its death: seconds for both.
SOON = 3.0


# -- whole answers ---------------------------------------------------------------------------------


def test_a_success(chain: Any, early: Early) -> None:
    async def main() -> None:
        with capsule_scope("async"):
            await early.aask()

    with capsule_scope("sync"):
        early.ask()
        time.sleep(0.3 if early.direct else 0)
    run(main)
    for capsule in expect(chain, [("sync", "success"), ("async", "success")], within=SOON):
        assert usage(capsule) == (10, 2, "0.000045")
        assert capsule["outcome"]["result"] == "hello world!"
        assert capsule["trigger"]["request"] == "hi"


@pytest.mark.parametrize("what", ["fail500", "no such provider"])
def test_a_failure(chain: Any, early: Early, what: str) -> None:
    model = "openai/gpt-4o" if what == "fail500" else "nosuch/x"

    async def main() -> None:
        with capsule_scope("async"), pytest.raises(openai.APIError):
            await early.aask(what, model)

    with capsule_scope("sync"), pytest.raises(openai.APIError):
        early.ask(what, model)
    run(main)
    for capsule in expect(chain, [("sync", "failure"), ("async", "failure")], within=SOON):
        assert "Error: litellm." in capsule["outcome"]["error"]


def test_retries_that_help(chain: Any, early: Early, request: pytest.FixtureRequest) -> None:
    key = request.node.callspec.id

    async def main() -> None:
        with capsule_scope("async"):
            await early.aask(f"flaky4-a{key}", num_retries=2)

    with capsule_scope("sync"):
        early.ask(f"flaky4-s{key}", num_retries=2)
    run(main)
    for capsule in expect(chain, [("sync", "success"), ("async", "success")], within=SOON):
        assert capsule["context"]["environment"]["attempts"] > 1
        assert capsule["outcome"]["error"] is None


def test_retries_that_do_not_help(chain: Any, early: Early) -> None:
    async def main() -> None:
        with capsule_scope("async"), pytest.raises(litellm.InternalServerError):
            await early.aask("fail500", num_retries=2)

    with capsule_scope("sync"), pytest.raises(litellm.InternalServerError):
        early.ask("fail500", num_retries=2)
    run(main)
    expect(chain, [("sync", "failure"), ("async", "failure")], within=SOON)


# a sync call with fallbacks runs a loop of its own, which LiteLLM closes with its worker in it
@pytest.mark.filterwarnings("ignore:coroutine 'LoggingWorker:RuntimeWarning")
def test_fallbacks(chain: Any, early: Early) -> None:
    async def main() -> None:
        with capsule_scope("async"):
            await early.aask(model="openai/bad", fallbacks=["openai/gpt-4o"])
        with (
            capsule_scope("in vain"),
            pytest.raises(Exception, match="All fallback attempts failed"),
        ):
            await early.aask(model="openai/bad", fallbacks=["openai/bad"])

    with capsule_scope("sync"):
        early.ask(model="openai/bad", fallbacks=["openai/gpt-4o"])
    run(main)
    expected = [("sync", "success"), ("async", "success"), ("in vain", "failure")]
    for capsule in expect(chain, expected, within=SOON):
        assert capsule["context"]["environment"]["attempts"] == 2


@pytest.mark.parametrize("reported", [True, False], ids=["told", "untold"])
def test_cache_hits_also_where_litellm_does_not_report_them(
    chain: Any, early: Early, reported: bool
) -> None:
    litellm.cache = litellm.Cache(type="local")
    if not reported:
        for name in ("input_callback", "success_callback", "_async_success_callback"):
            setattr(litellm, name, [c for c in getattr(litellm, name) if c != "cache"])

    async def main() -> None:
        await early.aask("async")
        await asyncio.sleep(0.3)
        with capsule_scope("async hit"):
            await early.aask("async")

    early.ask("sync")
    with capsule_scope("hit"):
        early.ask("sync")
    run(main)
    expected = [("hit", "success"), ("async hit", "success"), *[(None, "success")] * 2]
    for capsule in expect(chain, expected, within=SOON)[:2]:
        assert capsule["context"]["environment"]["cache_hit"] is True
        assert usage(capsule)[2] == "0"


def test_a_cancelled_call(chain: Any, early: Early) -> None:
    async def main() -> None:
        with capsule_scope("task"), pytest.raises(TimeoutError):
            await asyncio.wait_for(early.aask("slow1"), 0.2)

    run(main)
    capsule = expect_one(chain, "task", "partial", within=SOON)
    ended = "abandoned" if early.direct else "cancelled"
    assert capsule["outcome"]["metrics"]["ended"] == ended


def test_what_is_no_chat(chain: Any, early: Early) -> None:
    vectors = {"model": "openai/text-embedding-3-small", "input": ["a"], **early.llm.at}
    plain = {"model": "openai/gpt-4o", "input": "hi", **early.llm.at}

    async def main() -> None:
        with capsule_scope("task"):
            await early.function("aembedding")(**vectors)
            await early.function("aresponses")(**plain)

    with capsule_scope("task"):
        early.function("embedding")(**vectors)
        early.function("responses")(**plain)
        time.sleep(0.3 if early.direct else 0)
    run(main)
    expect(chain, [("task", "success")] * 4, within=SOON)


# -- streams ---------------------------------------------------------------------------------------


def test_a_stream_that_is_read(chain: Any, early: Early) -> None:
    async def main() -> None:
        with capsule_scope("async"):
            async for _ in await early.aask(stream=True):
                pass

    with capsule_scope("sync"):
        list(early.ask(stream=True))
    run(main)
    for capsule in expect(chain, [("sync", "success"), ("async", "success")], within=SOON):
        assert capsule["outcome"]["result"] == "hello world!"


def test_a_stream_that_is_abandoned_has_its_text_unless_there_are_only_events(
    chain: Any, early: Early
) -> None:
    async def main() -> None:
        with capsule_scope("async"):
            async for _ in await early.aask(stream=True):
                break

    with capsule_scope("sync"):
        next(early.ask(stream=True))
    run(main)
    until = time.monotonic() + SOON
    while early.llm.logger.recorder().stats().open and time.monotonic() < until:
        gc.collect()  # LiteLLM keeps a stream that nobody unbinds in a cycle
        time.sleep(0.01)
    for capsule in expect(chain, [("sync", "partial"), ("async", "partial")], within=SOON):
        assert capsule["outcome"]["metrics"]["ended"] == "abandoned"
        assert capsule["outcome"]["result"] == (None if early.direct else "hello")


def test_a_stream_that_fails(chain: Any, early: Early) -> None:
    async def main() -> None:
        with capsule_scope("async"), pytest.raises(openai.APIError):
            async for _ in await early.aask("miderr", stream=True):
                pass

    with capsule_scope("sync"), pytest.raises(openai.APIError):
        list(early.ask("miderr", stream=True))
    run(main)
    expect(chain, [("sync", "failure"), ("async", "failure")], within=SOON)


# -- where functions are kept ----------------------------------------------------------------------


class Agent:
    """Keeps functions in all the places where nobody finds them."""

    table: Functions

    def __init__(self, complete: Callable[..., Any]) -> None:
        self.attribute = complete
        self.table = {"ask": complete}
        self.partial = functools.partial(complete, model="openai/gpt-4o")

        def closure(**options: Any) -> Any:
            return complete(**options)

        def default(ask: Callable[..., Any] = complete, **options: Any) -> Any:
            return ask(**options)

        self.closure, self.default = closure, default

    def all(self) -> list[Callable[..., Any]]:
        return [self.attribute, self.table["ask"], self.partial, self.closure, self.default]


def test_an_attribute_a_table_a_partial_a_closure_and_a_default(chain: Any, early: Early) -> None:
    ways = Agent(early.function("completion")).all()
    with capsule_scope("task"):
        for way in ways:
            way(**({"model": "openai/gpt-4o", "messages": user("hi")} | early.llm.at))
        time.sleep(0.3 if early.direct else 0)
    expect(chain, [("task", "success")] * 5, within=SOON)


def test_nothing_is_recorded_without_a_logger(chain: Any, early: Early) -> None:
    litellm.callbacks = []
    early.ask()
    assert chain.stored() == []


def test_two_chains_get_a_capsule_each(chain: Any, early: Early, tmp_path: Any) -> None:
    from qp_capsule import Capsules, CapsuleStorage

    other = CapsuleLogger(Capsules(storage=CapsuleStorage(tmp_path / "other.db")))
    litellm.callbacks = [early.llm.logger, other]
    run(early.aask)
    expect_one(chain, None, "success")
    assert other.recorder().flush(10) == 0
    assert pairs(list(read_chain(tmp_path / "other.db"))) == [(None, "success")]


PROGRAM = """
import functools, json, os, sys, time
import litellm
from litellm import acompletion, completion, embedding, moderation
from provider import Provider

class Agent:
    ask = staticmethod(completion)
kept = {"completion": completion}
partial = functools.partial(completion, model="openai/gpt-4o")
def default(ask=completion, **options):
    return ask(**options)
def closure(complete):
    return lambda **options: complete(**options)
closed = closure(completion)

import capsule_sdk
from capsule_sdk import CapsuleLogger, capsule_scope

before = [completion]
litellm.callbacks = [CapsuleLogger()]
assert completion is litellm.completion is not before[0], "a global is exchanged"
import asyncio
with Provider() as provider:
    at = {"api_base": provider.base_url, "api_key": "sk-test"}
    chat = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "hi"}], **at}
    with capsule_scope("globals"):
        completion(**chat)
        asyncio.run(acompletion(**chat))
        embedding(model="openai/text-embedding-3-small", input=["a"], **at)
        moderation(model="omni-moderation-latest", input="a", **at)
    with capsule_scope("kept"):
        for ask in (Agent.ask, kept["completion"], partial, default, closed):
            ask(**chat)
assert capsule_sdk.flush(10) == 0
"""


def test_a_program_that_imports_first(tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            "PATH": "",
            "PYTHONPATH": ":".join(path for path in sys.path if path),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "QUANTUMPIPES_DATA_DIR": str(tmp_path),
            "CAPSULE_SDK_URL": str(tmp_path / "capsules.db"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    capsules = list(read_chain(tmp_path / "capsules.db"))
    assert (
        sorted(pairs(capsules), key=str) == [("globals", "success")] * 4 + [("kept", "success")] * 5
    )
    kinds = json.dumps([c["context"]["environment"]["call_type"] for c in calls(capsules)])
    assert kinds.startswith('["completion", "acompletion", "embedding", "moderation", "completion"')


def test_moderation_kept_elsewhere_tells_litellm_nothing_and_is_not_recorded(
    chain: Any, llm: Any
) -> None:
    original("moderation")(model="omni-moderation-latest", input="a", **llm.at)
    expect(chain, [])

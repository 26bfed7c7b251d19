"""What the tests of the LiteLLM adapter share: a provider, calls to it, and an exact count of the capsules.

A module takes the fixtures with ``pytest_plugins = ["litellm_support"]`` and its filters with
``pytestmark = LITELLM_NOISE``. ``expect`` compares the calls in a chain with the expected (scope, status)
pairs, at once; and when the module's last test is over, its chains are compared once more, half a second
and a garbage collection later, in case LiteLLM's threads or a finalizer had something to add.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import logging
import os
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import anyio
import litellm
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients
from provider import Provider

from capsule_sdk.adapters.litellm import CapsuleLogger
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.recording.forking import live_recorders

if TYPE_CHECKING:
    from conftest import Capsule, Chain

T = TypeVar("T")

#: A call as a test expects it: the name of the task it hangs under (``None``: none), and how it ended.
Pair = tuple[str | None, str]

#: For ``pytestmark``. LiteLLM keeps its HTTP clients for the life of the process, and those of an event loop
#: that has ended cannot be closed any more; its logging callbacks die unawaited with the loop; and pydantic
#: has something to say about its types.
LITELLM_NOISE = [
    pytest.mark.filterwarnings("ignore:.*using the `ReadOnly` qualifier:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed c:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:coroutine 'Logging:RuntimeWarning"),
]

LISTS = (
    "callbacks", "input_callback", "success_callback", "failure_callback", "service_callback",
    "_async_input_callback", "_async_success_callback", "_async_failure_callback",
)  # fmt: skip
LOGGERS = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router")
SETTINGS = (
    "cache", "context_window_fallbacks", "disable_streaming_logging", "drop_params", "fallbacks",
    "num_retries", "request_timeout", "suppress_debug_info", "turn_off_message_logging",
)  # fmt: skip


# -- calling ---------------------------------------------------------------------------------------


def user(text: str) -> list[Any]:
    """A prompt of one message."""
    return [{"role": "user", "content": text}]


class LLM:
    """LiteLLM with a logger in its callbacks, and the provider that it calls."""

    def __init__(self, provider: Provider, logger: CapsuleLogger) -> None:
        self.provider = provider
        self.logger = logger
        #: Where a call goes to, without retries of the HTTP client's own.
        self.at: dict[str, Any] = {
            "api_base": provider.base_url,
            "api_key": "sk-test",
            "max_retries": 0,
        }

    def ask(self, text: str = "hi", model: str = "openai/gpt-4o", **options: Any) -> Any:
        """Call ``litellm.completion``."""
        options.setdefault("messages", user(text))
        return litellm.completion(model=model, **{**self.at, **options})

    async def aask(self, text: str = "hi", model: str = "openai/gpt-4o", **options: Any) -> Any:
        """Call ``litellm.acompletion``."""
        options.setdefault("messages", user(text))
        return await litellm.acompletion(model=model, **{**self.at, **options})


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function in an event loop of its own, and LiteLLM's late callbacks after it."""

    async def then_callbacks() -> T:
        try:
            return await main()
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await GLOBAL_LOGGING_WORKER.flush()
            await close_litellm_async_clients()
            litellm.in_memory_llm_clients_cache.flush_cache()

    return asyncio.run(then_callbacks())


# -- cancelling: each makes a call and cancels it after a tenth of a second --------------------------


async def task_cancel(call: Callable[[], Any]) -> None:
    task = asyncio.create_task(call())
    await asyncio.sleep(0.1)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert task.cancelled()


async def wait_for(call: Callable[[], Any]) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call(), 0.1)


async def asyncio_timeout(call: Callable[[], Any]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await call()


async def anyio_move_on(call: Callable[[], Any]) -> None:
    with anyio.move_on_after(0.1) as scope:
        await call()
    assert scope.cancelled_caught


async def anyio_task_group(call: Callable[[], Any]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.sleep(0.1)
        group.cancel_scope.cancel()


CANCELLERS = [task_cancel, wait_for, asyncio_timeout, anyio_move_on, anyio_task_group]


# -- counting --------------------------------------------------------------------------------------


class _Watched(NamedTuple):
    test: str
    url: Path
    expected: Counter[Pair]


_watched: dict[Path, _Watched] = {}


def calls(capsules: list[Capsule]) -> list[Capsule]:
    """Those of the capsules that are calls to a model."""
    return [capsule for capsule in capsules if capsule["trigger"]["source"] == "litellm"]


def pairs(capsules: list[Capsule]) -> list[Pair]:
    """The (scope, status) of each call in a chain; a scope goes by the last part of its name."""
    names = {c["id"]: c["trigger"]["source"].rpartition(".")[2] for c in capsules}
    return [
        (
            None if c["parent_id"] is None else names.get(c["parent_id"], "not in the chain"),
            c["outcome"]["status"],
        )
        for c in calls(capsules)
    ]


def expect(chain: Chain, expected: list[Pair], *, within: float = 0.0) -> list[Capsule]:
    """Assert that the calls in the chain are exactly these; return their capsules in the order given.

    Args:
        chain: the chain of the test. All scopes have ended, so that their names are in it.
        expected: (scope, status) of every call, in any order; equal ones are returned in chain order.
        within: seconds that a finalizer may take; else the calls are to be there at once.

    """
    wanted = Counter(expected)
    until = time.monotonic() + within
    capsules = chain.capsules()
    while Counter(pairs(capsules)) != wanted and time.monotonic() < until:
        time.sleep(0.002)
        capsules = chain.capsules()
    found = pairs(capsules)
    assert Counter(found) == wanted
    test = os.environ.get("PYTEST_CURRENT_TEST", "")
    _watched[chain.url] = _Watched(test, chain.url, wanted)
    left = list(zip(found, calls(capsules), strict=True))
    return [left.pop([pair for pair, _ in left].index(pair))[1] for pair in expected]


def expect_one(chain: Chain, scope: str | None, status: str, *, within: float = 0.0) -> Capsule:
    """Assert that there is exactly one call in the chain, and return its capsule."""
    return expect(chain, [(scope, status)], within=within)[0]


def usage(capsule: Capsule) -> tuple[int | None, int | None, str | None]:
    """Tokens in, tokens out and cost; the two places where they stand must agree."""
    used, metrics = capsule["execution"]["resources_used"], capsule["outcome"]["metrics"]
    one = used["tokens_in"], used["tokens_out"], used["cost"]
    assert one == (metrics["tokens_in"], metrics["tokens_out"], metrics["cost_usd"])
    return one


def reference_hash(messages: Any) -> str:
    """``reasoning.prompt_hash`` as the reference package computes it."""
    text = json.dumps(messages, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha3_256(text.encode()).hexdigest()


# -- fixtures --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def llm(chain: Chain, provider: Provider, _nothing_comes_late: None) -> Iterator[LLM]:
    """LiteLLM as a user has it who wrote ``litellm.callbacks = [CapsuleLogger()]``; undone afterwards."""
    before = {name: getattr(litellm, name) for name in SETTINGS}
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # or each error with its traceback
    litellm.suppress_debug_info = True
    _empty_lists()
    logger = CapsuleLogger()
    litellm.callbacks = [logger]
    yield LLM(provider, logger)
    _empty_lists()
    for name, value in before.items():
        setattr(litellm, name, value)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    """Run the test with LiteLLM's sync functions, and with the async ones."""
    return str(request.param)


@pytest.fixture
def ask(mode: str, llm: LLM) -> Callable[..., Any]:
    """``LLM.ask``, or ``LLM.aask`` in an event loop."""
    if mode == "sync":
        return llm.ask
    return lambda *args, **options: run(lambda: llm.aask(*args, **options))


@pytest.fixture
def read(mode: str, llm: LLM) -> Callable[..., list[Any]]:
    """Make a streamed call like ``ask`` does, and read it to its end, in one loop; returns the chunks."""
    if mode == "sync":
        return lambda *args, **options: list(llm.ask(*args, stream=True, **options))

    async def read(*args: Any, **options: Any) -> list[Any]:
        return [chunk async for chunk in await llm.aask(*args, stream=True, **options)]

    return lambda *args, **options: run(lambda: read(*args, **options))


def _stored(url: Path) -> list[Capsule]:
    return list(read_chain(url)) if url.exists() else []


def _empty_lists() -> None:
    for name in LISTS:
        setattr(litellm, name, [])


@pytest.fixture(scope="module")
def _nothing_comes_late() -> Iterator[None]:
    _watched.clear()
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # here, not in other modules' tests
        asyncio.run(close_litellm_async_clients())
        litellm.in_memory_llm_clients_cache.flush_cache()
        gc.collect()
        time.sleep(0.5)
        gc.collect()
    for recorder in live_recorders():
        assert recorder.flush(10.0) == 0
    late = [
        f"{watched.test}: {found} instead of {watched.expected}"
        for watched in _watched.values()
        if (found := Counter(pairs(_stored(watched.url)))) != watched.expected
    ]
    assert not late, "\n".join(late)

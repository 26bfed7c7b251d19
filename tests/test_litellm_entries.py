"""Every public entry point makes one capsule a call, and only those that ask a model are counted as such.

The calls go over HTTP to a provider that answers each route with an object of the kind that belongs there. The
async functions run in an event loop of their own each, as ``asyncio.run`` per call does it.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import multiprocessing
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MethodType
from typing import TYPE_CHECKING, Any

import litellm
import pytest
from litellm_support import LITELLM_NOISE, LLM, calls, expect, expect_one, user

from capsule_sdk import capsule_scope
from capsule_sdk.adapters.litellm.discovery import asks_model

if TYPE_CHECKING:
    from conftest import Capsule, Chain

pytest_plugins = ["litellm_support"]
pytestmark = [
    *LITELLM_NOISE,
    pytest.mark.filterwarnings(
        "ignore:(deprecated|The Assistants API is|The `dict` method):DeprecationWarning"
    ),
]

USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
PAGE = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
BATCH = {
    "id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "errors": None,
    "input_file_id": "f", "completion_window": "24h", "status": "completed", "created_at": 1,
}  # fmt: skip
#: What the provider answers, by the first of these that the path of a request holds.
ANSWERS: dict[str, Any] = {
    "/interactions": {
        "id": "i1", "object": "interaction", "model": "gemini-2.5-flash", "status": "completed",
        "created": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z", "role": "model",
        "outputs": [{"type": "text", "text": "Paris"}],
        "usage": {"total_input_tokens": 5, "total_output_tokens": 7, "total_tokens": 12},
    },
    "/vector_stores/vs_1/search": {
        "object": "vector_store.search_results.page", "search_query": "q", "has_more": False,
        "data": [{"file_id": "f", "filename": "n", "score": 0.9, "content": [{"type": "text", "text": "t"}]}],
    },
    "/vector_stores/vs_1/files": {
        "id": "f", "object": "vector_store.file", "usage_bytes": 1, "created_at": 1,
        "vector_store_id": "vs_1", "status": "completed", "last_error": None,
    },
    "/vector_stores": {
        "id": "vs_1", "object": "vector_store", "created_at": 1, "name": "n", "usage_bytes": 0,
        "file_counts": {"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0},
        "status": "completed", "expires_after": None, "expires_at": None, "last_active_at": 1,
        "metadata": {},
    },
    "/search": {"results": [{"title": "t", "url": "http://x", "content": "Paris"}]},
    "/batches": BATCH,
    "/files": {
        "id": "f", "object": "file", "bytes": 1, "created_at": 1, "filename": "n.jsonl",
        "purpose": "batch", "status": "processed",
    },
    "/fine_tuning/jobs": {
        "id": "ft_1", "object": "fine_tuning.job", "created_at": 1, "model": "gpt-4o", "status": "succeeded",
        "training_file": "f", "organization_id": "o", "result_files": [], "seed": 1,
        "hyperparameters": {"n_epochs": 1}, "fine_tuned_model": None, "finished_at": None,
        "trained_tokens": None, "validation_file": None, "error": None,
    },
    "/runs": {
        "id": "run_1", "object": "thread.run", "created_at": 1, "assistant_id": "a", "thread_id": "t",
        "status": "completed", "model": "gpt-4o", "instructions": "", "tools": [], "metadata": {},
        "parallel_tool_calls": True,
    },
    "/messages": {
        "id": "msg_1", "object": "thread.message", "created_at": 1, "thread_id": "t", "role": "user",
        "content": [], "status": "completed", "metadata": {}, "attachments": [],
    },
    "/threads": {"id": "t", "object": "thread", "created_at": 1, "metadata": {}},
    "/assistants": {
        "id": "a", "object": "assistant", "created_at": 1, "model": "gpt-4o", "name": None,
        "description": None, "instructions": None, "tools": [], "metadata": {},
    },
    "/containers": {
        "id": "c", "object": "container", "created_at": 1, "status": "running", "name": "n",
        "last_active_at": 1, "expires_after": {"anchor": "last_active_at", "minutes": 20},
    },
    "/videos": {
        "id": "video_1", "object": "video", "created_at": 1, "status": "completed", "model": "sora-2",
        "progress": 100, "seconds": "4", "size": "720x1280",
    },
    "/responses/resp_1": {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-4o",
        "output": [], "parallel_tool_calls": True, "tools": [], "tool_choice": "auto", "metadata": {},
        "temperature": 1.0, "top_p": 1.0, "error": None, "incomplete_details": None, "instructions": None,
    },
    "/chat/completions": {
        "id": "x", "object": "chat.completion", "created": 1, "model": "gpt-4o", "usage": USAGE,
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris"}}
        ],
    },
    "/embeddings": {
        "object": "list", "model": "text-embedding-3-small", "usage": USAGE,
        "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}],
    },
}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Tell nobody."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        found = next((value for key, value in ANSWERS.items() if key in self.path), {})
        if self.command == "DELETE":
            kind = "container.deleted" if "/containers" in self.path else "deleted"
            found = {"id": "d", "object": kind, "deleted": True}
        data = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_DELETE = do_POST  # noqa: N815 - their names there


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """Where a provider of everything listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


OPENAI = {"custom_llm_provider": "openai"}
GEMINI = {"model": "gemini/gemini-2.5-flash", "input": "hi"}
#: Sync functions by name, with their arguments; each has an async twin.
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("interactions.create", GEMINI),
    ("interactions.get", {"interaction_id": "i1", "custom_llm_provider": "gemini"}),
    ("search", {"query": "capital", "search_provider": "tavily"}),
    ("vector_stores.create", {"name": "n", **OPENAI}),
    ("vector_stores.search", {"vector_store_id": "vs_1", "query": "q", **OPENAI}),
    ("vector_store_file_create", {"vector_store_id": "vs_1", "file_id": "f", **OPENAI}),
    (
        "create_batch",
        {"completion_window": "24h", "endpoint": "/v1/chat/completions", "input_file_id": "f", **OPENAI},
    ),
    ("retrieve_batch", {"batch_id": "batch_1", **OPENAI}),
    ("cancel_batch", {"batch_id": "batch_1", **OPENAI}),
    ("create_file", {"file": ("n.jsonl", b"{}"), "purpose": "batch", **OPENAI}),
    ("file_delete", {"file_id": "f", **OPENAI}),
    ("create_fine_tuning_job", {"model": "gpt-4o", "training_file": "f", **OPENAI}),
    ("create_assistants", {"model": "gpt-4o", **OPENAI}),
    ("create_thread", OPENAI),
    ("add_message", {"thread_id": "t", "role": "user", "content": "hi", **OPENAI}),
    ("run_thread", {"thread_id": "t", "assistant_id": "a", **OPENAI}),
    ("create_container", {"name": "n", **OPENAI}),
    ("delete_container", {"container_id": "c", **OPENAI}),
    ("video_generation", {"model": "openai/sora-2", "prompt": "a cat"}),
    ("video_remix", {"video_id": "video_1", "prompt": "a dog", **OPENAI}),
    ("video_status", {"video_id": "video_1", **OPENAI}),
    ("get_responses", {"response_id": "resp_1", **OPENAI}),
    ("delete_responses", {"response_id": "resp_1", **OPENAI}),
]  # fmt: skip
NAMES = [name for name, _ in CALLS]


def function_of(name: str, mode: str) -> Callable[..., Any]:
    """Return the entry point, wherever LiteLLM offers it."""
    *modules, last = name.split(".")
    place: Any = litellm
    for module in modules:
        place = getattr(place, module)
    twin = {"add_message": "a_add_message"}.get(last, f"a{last}")
    function: Callable[..., Any] = getattr(place, last if mode == "sync" else twin)
    return function


def call(name: str, mode: str, base: str, given: dict[str, Any]) -> Any:
    at = base if name == "search" or name.startswith("interactions") else f"{base}/v1"
    given = {**given, "api_base": at, "api_key": "sk-test"}
    function = function_of(name, mode)
    if mode == "sync":
        return function(**given)

    async def main() -> Any:
        return await function(**given)

    return asyncio.run(main())


@pytest.mark.parametrize(("name", "given"), CALLS, ids=NAMES)
def test_one_call_is_one_capsule(
    chain: Chain, llm: LLM, base: str, mode: str, name: str, given: dict[str, Any]
) -> None:
    with capsule_scope("plan"):
        call(name, mode, base, given)
    capsule = expect_one(chain, "plan", "success")
    task = chain.one("plan")
    called = capsule["context"]["environment"]["call_type"]
    counted = asks_model(name)
    assert capsule["execution"]["tool_calls"][0]["tool"] == f"litellm.{called}"
    assert capsule["type"] == ("chat" if counted else "tool")
    assert ("asks_model" in capsule["context"]["environment"]) is not counted
    assert task["outcome"]["metrics"]["llm_calls"] == int(counted)
    assert task["outcome"]["metrics"].get("usage_unknown", 0) <= int(counted)
    assert task["outcome"]["metrics"]["children"]["started"] == 1


@pytest.mark.parametrize("mode_", ["sync", "async"])
def test_a_failure_is_one_capsule(chain: Chain, llm: LLM, mode_: str) -> None:
    with capsule_scope("plan"):
        for name, given in (
            ("cancel_batch", {"batch_id": "b"}),
            ("run_thread", {"thread_id": "t", "assistant_id": "a"}),
        ):
            with pytest.raises(Exception, match=r".") as caught:
                call(name, mode_, "http://127.0.0.1:9", {**given, **OPENAI, "max_retries": 0})
            assert not isinstance(caught.value, AssertionError)
    expect(chain, [("plan", "failure")] * 2)


# -- what consists of other calls --------------------------------------------------------------------


def test_a_query_is_one_call_with_the_search_in_it(chain: Chain, llm: LLM, base: str) -> None:
    """LiteLLM carries it out as one call; its tokens are those of the answer."""

    async def main() -> Any:
        return await litellm.aquery(
            model="openai/gpt-4o",
            messages=user("capital?"),
            retrieval_config={
                "vector_store_id": "vs_1", "custom_llm_provider": "openai",
                "api_base": f"{base}/v1", "api_key": "sk-test",
            },
            api_base=f"{base}/v1",
            api_key="sk-test",
        )  # fmt: skip

    with capsule_scope("plan"):
        asyncio.run(main())
    found = by_call(chain)
    assert set(found) == {"aquery"}
    assert found["aquery"]["outcome"]["result"]["text"] == "Paris"
    metrics = chain.one("plan")["outcome"]["metrics"]
    assert (metrics["llm_calls"], metrics["tokens_in"], metrics["tokens_out"]) == (1, 10, 2)


def test_ingesting_is_a_tool_and_so_is_each_step_of_it(chain: Chain, llm: LLM, base: str) -> None:
    async def main() -> Any:
        return await litellm.aingest(
            ingest_options={
                "vector_store": {
                    "custom_llm_provider": "openai", "api_base": f"{base}/v1", "api_key": "sk-test",
                },
            },
            file_data=("n.txt", b"text", "text/plain"),
        )  # fmt: skip

    with capsule_scope("plan"):
        asyncio.run(main())
    found = by_call(chain)
    assert "aingest" in found
    assert {capsule["type"] for capsule in found.values()} == {"tool"}
    assert chain.one("plan")["outcome"]["metrics"]["llm_calls"] == 0


def by_call(chain: Chain) -> dict[str, Capsule]:
    """Return the calls by the names of their entry points; each was called once, under ``plan``."""
    plan = chain.one("plan")["id"]
    found = calls(chain.capsules())
    assert {one["parent_id"] for one in found} == {plan}
    named = {one["context"]["environment"]["call_type"]: one for one in found}
    assert len(named) == len(found)
    return named


# -- however it is kept and wherever it runs -----------------------------------------------------------


def test_kept_as_a_partial_after_the_logger(chain: Chain, llm: LLM, base: str) -> None:
    find = functools.partial(litellm.search, search_provider="tavily", api_key="k", api_base=base)
    with capsule_scope("plan"):
        find(query="capital")
    expect_one(chain, "plan", "success")


def test_by_the_modules_that_carry_calls_out(chain: Chain, llm: LLM) -> None:
    """`from litellm.main import completion` is followed, and LiteLLM's own use of it is no other call."""
    from litellm.main import acompletion, completion

    with capsule_scope("plan"):
        completion(model="openai/gpt-4o", messages=user("hi"), **llm.at)

        async def main() -> None:
            await acompletion(model="openai/gpt-4o", messages=user("hi"), **llm.at)
            await llm.aask()

        asyncio.run(main())
        llm.ask()
    expect(chain, [("plan", "success")] * 4)


def test_in_threads_with_loops_of_their_own(chain: Chain, llm: LLM, base: str) -> None:
    def work(number: int) -> None:
        with capsule_scope(f"thread{number}"):
            for _ in range(3):
                call(
                    "vector_stores.search",
                    "async",
                    base,
                    {"vector_store_id": "vs_1", "query": "q", **OPENAI},
                )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect(chain, [(f"thread{number}", "success") for number in range(4)] * 3)


def _words_of(function: Callable[..., Any]) -> str:
    """Call a function of LiteLLM's in another process, for the words of its answer."""
    answer = function(model="gpt-4o", messages=user("hi"), mock_response="there")
    return str(answer.choices[0].message.content)


class Holder:
    """An object that keeps functions of LiteLLM's."""

    def __init__(self) -> None:
        self.llm = litellm.acompletion


def test_a_function_is_copied_and_pickled_as_without_the_logger(chain: Chain, llm: LLM) -> None:
    for name in ("completion", "aembedding", "batch_completion", "completion_with_retries"):
        function = getattr(litellm, name)
        assert copy.copy(function) is copy.deepcopy(function) is function
        assert copy.deepcopy({"llm": function})["llm"] is function
        again = pickle.loads(pickle.dumps(function))
        assert again.__qualname__ == function.__qualname__
        assert again.__module__ == function.__module__
    held = copy.deepcopy(functools.partial(litellm.completion, temperature=0))
    assert held.func is litellm.completion
    assert copy.deepcopy(Holder()).llm is litellm.acompletion
    assert b"capsule_sdk" not in pickle.dumps(litellm.completion)
    expect(chain, [])


def test_a_function_is_bound_to_an_instance_as_any_function(chain: Chain, llm: LLM) -> None:
    class Agent:
        ask = litellm.completion

    agent = Agent()
    assert Agent.ask is litellm.completion
    assert isinstance(agent.ask, MethodType)
    assert agent.ask.__self__ is agent
    assert agent.ask == agent.ask
    expect(chain, [])


def test_a_pool_of_processes_takes_a_function(chain: Chain, llm: LLM) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        direct = pool.submit(
            litellm.completion, model="gpt-4o", messages=user("hi"), mock_response="there"
        )
        passed = pool.submit(_words_of, litellm.completion)
        assert direct.result(90).choices[0].message.content == "there"
        assert passed.result(90) == "there"
    expect(chain, [])

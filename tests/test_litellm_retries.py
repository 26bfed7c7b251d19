"""One call is one capsule however often LiteLLM tries; attempts that a Router makes are calls of their own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import litellm
import pytest
from litellm_support import LITELLM_NOISE, LLM, expect, expect_one, run, usage, user

from capsule_sdk import capsule_scope

if TYPE_CHECKING:
    from conftest import Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

Ask = Callable[..., Any]
Read = Callable[..., list[Any]]


def retire(router: litellm.Router) -> None:
    """Let go of a Router: 1.109 has another name for it."""
    (getattr(router, "retire", None) or router.discard)()


def environment(call: dict[str, Any]) -> dict[str, Any]:
    return call["context"]["environment"]


# -- retries ---------------------------------------------------------------------------------------


def test_a_retry_that_succeeds(chain: Chain, llm: LLM, ask: Ask, mode: str) -> None:
    """The HTTP client tries twice more, then LiteLLM does it all again: four failures and an answer."""
    with capsule_scope("plan"):
        answer = ask(f"flaky4-{mode}", num_retries=2, max_retries=None)
    assert answer.choices[0].message.content == "hello world!"
    call = expect_one(chain, "plan", "success")
    assert call["outcome"]["error"] is None
    assert call["outcome"]["result"] == "hello world!"
    assert usage(call) == (10, 2, "0.000045")
    assert environment(call)["attempts"] > 1
    assert llm.provider.count(f"flaky4-{mode}") == 5


def test_retries_of_the_http_client_are_invisible(chain: Chain, ask: Ask, mode: str) -> None:
    ask(f"flaky1-http-{mode}", max_retries=2)
    assert environment(expect_one(chain, None, "success"))["attempts"] == 1


def test_retries_for_all_calls(chain: Chain, ask: Ask, mode: str) -> None:
    litellm.num_retries = 2
    ask(f"flaky4-all-{mode}", max_retries=None)
    assert environment(expect_one(chain, None, "success"))["attempts"] > 1


def test_retries_that_are_used_up(chain: Chain, ask: Ask) -> None:
    with capsule_scope("plan"), pytest.raises(litellm.InternalServerError) as caught:
        ask("fail500", num_retries=2)
    call = expect_one(chain, "plan", "failure")
    assert call["outcome"]["error"] == f"InternalServerError: {caught.value}"
    assert environment(call)["attempts"] > 1


def test_without_the_package_that_retries(
    chain: Chain, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tenacity", None)
    with pytest.raises(Exception, match="tenacity import failed|as told: 500") as caught:
        ask("fail500", num_retries=1)
    call = expect_one(chain, None, "failure")
    assert call["outcome"]["error"].startswith(f"{caught.type.__name__}: ")


def test_the_functions_with_retries(chain: Chain, llm: LLM, mode: str) -> None:
    given = {"model": "openai/gpt-4o", "messages": user(f"flaky1-with-{mode}"), "num_retries": 2}
    with capsule_scope("plan"):
        if mode == "sync":
            litellm.completion_with_retries(**given, **llm.at)
        else:
            run(lambda: litellm.acompletion_with_retries(**given, **llm.at))
    call = expect_one(chain, "plan", "success")
    assert environment(call)["attempts"] == 2
    assert usage(call) == (10, 2, "0.000045")


def test_the_functions_with_retries_fail(chain: Chain, llm: LLM, mode: str) -> None:
    given = {"model": "openai/gpt-4o", "messages": user("fail500"), "num_retries": 2, **llm.at}
    with pytest.raises(litellm.InternalServerError):
        if mode == "sync":
            litellm.completion_with_retries(**given)
        else:
            run(lambda: litellm.acompletion_with_retries(**given))
    expect_one(chain, None, "failure")


def test_responses_are_tried_again(chain: Chain, llm: LLM, mode: str) -> None:
    given = {"model": "openai/gpt-4o", "input": f"flaky1-resp-{mode}", "num_retries": 2}
    at = {name: llm.at[name] for name in ("api_base", "api_key")}
    if mode == "sync":
        litellm.responses(**given, **at)
    else:
        run(lambda: litellm.aresponses(**given, **at))
    assert environment(expect_one(chain, None, "success"))["attempts"] == 2


def test_a_stream_is_tried_again(chain: Chain, read: Read, mode: str) -> None:
    read(f"flaky4-stream-{mode}", num_retries=2, max_retries=None)
    call = expect_one(chain, None, "success")
    assert call["outcome"]["result"] == "hello world!"


# -- fallbacks -------------------------------------------------------------------------------------


def test_a_fallback_that_answers(chain: Chain, ask: Ask) -> None:
    with capsule_scope("plan"):
        ask(model="openai/bad", fallbacks=["openai/gpt-4o"])
    call = expect_one(chain, "plan", "success")
    assert call["reasoning"]["model"] == "openai/bad"
    assert call["reasoning"]["reasoning"] == "Routed to bad, then to gpt-4o"
    assert call["outcome"]["summary"] == "Completed: gpt-4o"
    assert call["outcome"]["error"] is None
    assert usage(call) == (10, 2, "0.000045")  # at the price of the model that answered
    facts = {"attempts": 2, "models_tried": ["bad", "gpt-4o"], "response_model": "gpt-4o"}
    assert environment(call).items() >= facts.items()


def test_fallbacks_that_all_fail(chain: Chain, ask: Ask) -> None:
    with capsule_scope("plan"), pytest.raises(Exception, match="as told: 500") as caught:
        ask(model="openai/bad", fallbacks=["openai/bad"])
    call = expect_one(chain, "plan", "failure")
    assert call["outcome"]["error"] == f"{caught.type.__name__}: {caught.value}"
    assert environment(call)["attempts"] == 2


def test_a_fallback_that_streams(chain: Chain, llm: LLM) -> None:
    async def main() -> None:
        stream = await llm.aask(model="openai/bad", fallbacks=["openai/gpt-4o"], stream=True)
        assert [chunk async for chunk in stream]

    with capsule_scope("plan"):
        run(main)
    call = expect_one(chain, "plan", "success")
    assert call["outcome"]["result"] == "hello world!"
    assert environment(call)["models_tried"] == ["bad", "gpt-4o"]


def test_a_sync_fallback_that_streams(chain: Chain, llm: LLM) -> None:
    """LiteLLM hands out a stream that only async code can read, and so its reader fails."""
    stream = llm.ask(model="openai/bad", fallbacks=["openai/gpt-4o"], stream=True)
    with pytest.raises(Exception, match="not an iterator"):
        list(stream)
    expect_one(chain, None, "failure")


def test_a_fallback_for_long_prompts_that_fails_too(chain: Chain, ask: Ask) -> None:
    """LiteLLM's hooks hear nothing of this one. The provider here has no such error; LiteLLM mocks it."""
    with capsule_scope("plan"), pytest.raises(litellm.ContextWindowExceededError):
        ask(
            mock_response="litellm.ContextWindowExceededError",
            context_window_fallback_dict={"openai/gpt-4o": "openai/gpt-4o-mini"},
        )
    call = expect_one(chain, "plan", "failure")
    assert call["outcome"]["error"].startswith("ContextWindowExceededError: ")


# -- Router ----------------------------------------------------------------------------------------


@pytest.fixture
def router(llm: LLM) -> Iterator[litellm.Router]:
    """Made after the logger; one that is older is the affair of the tests of early bound names."""

    def deployment(name: str, model: str) -> dict[str, Any]:
        return {"model_name": name, "litellm_params": {"model": model, **llm.at}}

    router = litellm.Router(
        model_list=[deployment("good", "openai/gpt-4o"), deployment("bad", "openai/bad")],
        fallbacks=[{"bad": ["good"]}],
        num_retries=0,
        retry_after=0,
    )
    yield router
    retire(router)


@pytest.fixture
def routed(mode: str, router: litellm.Router) -> Ask:
    """``Router.completion``, or ``Router.acompletion`` in an event loop."""

    def ask(text: str = "hi", model: str = "good", **options: Any) -> Any:
        if mode == "sync":
            return router.completion(model, user(text), **options)
        return run(lambda: router.acompletion(model, user(text), **options))

    return ask


def test_a_router_answers(chain: Chain, routed: Ask) -> None:
    with capsule_scope("plan", correlation_id="c-1", session_id="s-1"):
        routed()
    call = expect_one(chain, "plan", "success")
    assert usage(call) == (10, 2, "0.000045")
    assert environment(call)["model_group"] == "good"
    assert call["reasoning"]["model"] == "openai/gpt-4o"
    # the trace id that the Router has made up stands beside the correlation of the scope
    assert call["trigger"]["correlation_id"] == "c-1"
    assert environment(call)["litellm_trace_id"]
    assert call["context"]["session_id"] == "s-1"


def test_each_attempt_of_a_router_is_a_call(chain: Chain, routed: Ask, mode: str) -> None:
    with capsule_scope("plan"):
        routed(f"flaky1-router-{mode}", num_retries=2)
    failed, answered = expect(chain, [("plan", "failure"), ("plan", "success")])
    assert "as told: 500" in failed["outcome"]["error"]
    assert failed["id"] != answered["id"]
    traces = {environment(call)["litellm_trace_id"] for call in (failed, answered)}
    assert len(traces) == 1
    assert {call["trigger"]["correlation_id"] for call in (failed, answered)} == traces


def test_a_fallback_of_a_router(chain: Chain, routed: Ask) -> None:
    with capsule_scope("plan"):
        routed(model="bad")
    failed, answered = expect(chain, [("plan", "failure"), ("plan", "success")])
    assert failed["reasoning"]["model"] == "openai/bad"
    assert answered["reasoning"]["model"] == "openai/gpt-4o"
    assert (
        environment(failed)["litellm_trace_id"] == environment(answered)["litellm_trace_id"] != ""
    )


def test_a_router_without_a_deployment_calls_nobody(chain: Chain, llm: LLM, routed: Ask) -> None:
    before = len(llm.provider.requests)
    with pytest.raises(litellm.BadRequestError, match="no healthy deployments"):
        routed(model="zzz")
    expect(chain, [])
    assert len(llm.provider.requests) == before


def test_a_deployment_that_cools_down_is_not_called(chain: Chain, llm: LLM, mode: str) -> None:
    params = {"model": "openai/gpt-4o", **llm.at}
    router = litellm.Router(
        model_list=[{"model_name": "only", "litellm_params": params} for _ in range(2)],
        num_retries=0,
        allowed_fails=0,
        cooldown_time=60,
        disable_cooldowns=False,
    )

    async def ask() -> None:
        for _ in range(4):
            with pytest.raises(Exception, match="as told: 429|No deployments available"):
                await router.acompletion("only", user("fail429 cooling"))

    before = llm.provider.count("cooling")
    run(ask)
    sent = llm.provider.count("cooling") - before
    assert sent < 4
    expect(chain, [(None, "failure")] * sent)
    retire(router)


@pytest.mark.parametrize(
    ("model", "expected"),
    [("good", [(None, "success")]), ("bad", [(None, "failure"), (None, "success")])],
)
def test_a_router_streams(
    chain: Chain, router: litellm.Router, mode: str, model: str, expected: list[Any]
) -> None:
    async def main() -> list[Any]:
        stream = await router.acompletion(model, user("hi"), stream=True)
        return [chunk async for chunk in stream]

    if mode == "sync":
        assert list(router.completion(model, user("hi"), stream=True))
    else:
        assert run(main)
    assert expect(chain, expected)[-1]["outcome"]["result"] == "hello world!"


def test_a_routers_stream_is_abandoned(chain: Chain, router: litellm.Router) -> None:
    async def main() -> None:
        stream = await router.acompletion("good", user("hi"), stream=True)
        await anext(stream)

    run(main)
    assert expect_one(chain, None, "partial", within=0.1)["outcome"]["result"] == "hello"


def test_a_routers_stream_breaks(chain: Chain, router: litellm.Router) -> None:
    async def main() -> None:
        stream = await router.acompletion("good", user("miderr"), stream=True)
        with pytest.raises(litellm.APIConnectionError, match="as told: 500"):
            [chunk async for chunk in stream]

    run(main)
    call = expect_one(chain, None, "failure")
    assert call["outcome"]["result"] == "hello wor"
    assert "as told: 500" in call["outcome"]["error"]


def test_a_routers_other_functions(chain: Chain, router: litellm.Router) -> None:
    async def main() -> None:
        await router.aembedding("good", input=["hi"])
        await router.aresponses(model="good", input="hi")

    with capsule_scope("plan"):
        run(main)
    found = expect(chain, [("plan", "success")] * 2)
    assert {environment(call)["call_type"] for call in found} == {"aembedding", "aresponses"}


def test_a_connection_that_is_kept_carries_no_scope_to_the_next_call(
    chain: Chain, llm: LLM
) -> None:
    """What a client starts for a connection runs in the context of the call that opened it."""

    async def main() -> None:
        with capsule_scope("first"):
            await llm.aask("one")
            await llm.aask("flaky1-kept", max_retries=2)
        with capsule_scope("second"):
            await asyncio.gather(*(llm.aask(f"say:{n}") for n in range(3)))
            with contextlib.suppress(litellm.exceptions.InternalServerError):
                await llm.aask("fail500", max_retries=2)
        await llm.aask("nobody")

    run(main)
    found = expect(
        chain,
        [("first", "success")] * 2
        + [("second", "success")] * 3
        + [("second", "failure"), (None, "success")],
    )
    told = [call["context"]["environment"]["litellm_call_id"] for call in found]
    assert len(set(told)) == len(told)
    assert all(environment(call)["attempts"] == 1 for call in found)

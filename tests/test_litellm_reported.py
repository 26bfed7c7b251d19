"""Reasons to stop and tokens are those that the provider has reported, and final only where they are."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import litellm
import pytest
from litellm_support import LITELLM_NOISE, LLM, expect_one, run, user
from test_litellm_told import ask, chunk, message, message_events, only

from capsule_sdk.adapters.litellm.flight import Flight

if TYPE_CHECKING:
    from conftest import Capsule, Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

CLAUDE = "anthropic/claude-sonnet-4-5"
GEMINI = "gemini/gemini-2.5-flash"
BEDROCK = "bedrock/converse/anthropic.claude-3-7-sonnet-20250219-v1:0"
AT_AWS = {
    "aws_access_key_id": "AKIATEST",
    "aws_secret_access_key": "test",
    "aws_region_name": "us-east-1",
}
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def bedrock(llm: LLM, answer: Any, *, streamed: bool) -> None:
    """Do as `ask`, with Bedrock's Converse API."""
    base = llm.provider.base_url.removesuffix("/v1")
    ask(llm, BEDROCK, answer, streamed=streamed, api_base=base, **AT_AWS)


def claude(reason: str, text: str = "hello", **rest: Any) -> dict[str, Any]:
    usage = {"input_tokens": 4, "output_tokens": 9}
    blocks = [{"type": "text", "text": text}]
    return {**message(usage), "content": blocks, "stop_reason": reason, **rest}


def claude_events(reason: str) -> list[dict[str, Any]]:
    events = message_events({"input_tokens": 4, "output_tokens": 9})
    events[-2]["delta"]["stop_reason"] = reason
    return events


def gemini(reason: str | None, count: int = 9, text: str = "hello") -> dict[str, Any]:
    candidate: dict[str, Any] = {
        "content": {"role": "model", "parts": [{"text": text}]},
        "index": 0,
    }
    if reason:
        candidate["finishReason"] = reason
    usage = {"promptTokenCount": 4, "candidatesTokenCount": count, "totalTokenCount": 4 + count}
    return {"candidates": [candidate], "usageMetadata": usage, "responseId": "gem-1"}


def converse(reason: str, **rest: Any) -> dict[str, Any]:
    usage = {"inputTokens": 4, "outputTokens": 9, "totalTokens": 13}
    content = [
        {"reasoningContent": {"reasoningText": {"text": "one-two-three", "signature": "s"}}},
        {"text": "hello"},
    ]
    output = {"message": {"role": "assistant", "content": content}}
    return {
        "output": output,
        "stopReason": reason,
        "usage": usage,
        "metrics": {"latencyMs": 1},
        **rest,
    }


def converse_events(reason: str, **rest: Any) -> list[dict[str, Any]]:
    deltas = [{"reasoningContent": {"text": "one-two-three"}}, {"text": "hello"}]
    events: list[dict[str, Any]] = [{"messageStart": {"role": "assistant"}}]
    for index, delta in enumerate(deltas):
        events += [
            {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}},
            {"contentBlockStop": {"contentBlockIndex": index}},
        ]
    usage = {"inputTokens": 4, "outputTokens": 9, "totalTokens": 13}
    return [
        *events,
        {"messageStop": {"stopReason": reason, **rest}},
        {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}},
    ]


# -- tokens of reasoning --------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [False, True], ids=["", "gone"])
@pytest.mark.parametrize(
    "text", ['{"reasoning_tokens":7,"thinking_tokens":7}', "<think>hm-hm</think>hello"]
)
def test_tokens_of_reasoning_in_the_answers_own_text_are_no_report(
    chain: Chain, llm: LLM, monkeypatch: pytest.MonkeyPatch, text: str, gone: bool
) -> None:
    """LiteLLM counts the thinking by itself, and its object that has the body may be gone by then.

    It is in 1.105, for the first call of a process.
    """
    if gone:
        monkeypatch.setattr(Flight, "logging_obj", lambda flight: None)
    usage = {"input_tokens": 4, "output_tokens": 9}
    blocks = [
        {"type": "thinking", "thinking": "one-two-three", "signature": "s"},
        {"type": "text", "text": text},
    ]
    ask(llm, CLAUDE, {**message(usage), "content": blocks})
    call = expect_one(chain, None, "success")
    metrics = call["outcome"]["metrics"]
    assert "tokens_reasoning" not in metrics
    assert metrics["tokens_out"] == 9
    assert call["context"]["environment"]["response_id"] == "msg_1"


@STREAMED
def test_responses_that_litellm_makes_of_messages_have_no_tokens_and_ids_of_its_own(
    chain: Chain, llm: LLM, streamed: bool
) -> None:
    usage = {"input_tokens": 4, "output_tokens": 9}
    answer: Any = message_events(usage) if streamed else message(usage)
    text = f"shape:{json.dumps(answer, separators=(',', ':'))}"
    base = llm.provider.base_url.removesuffix("/v1")
    found: Any = litellm.responses(
        model=CLAUDE, input=text, stream=streamed, api_base=base, api_key="sk-test"
    )
    if streamed:
        list(found)
    call = expect_one(chain, None, "success")
    assert "tokens_reasoning" not in call["outcome"]["metrics"]
    assert call["context"]["environment"].get("response_id") in (None, "msg_1")


@STREAMED
def test_a_long_id_of_the_providers_is_unwrapped(chain: Chain, llm: LLM, streamed: bool) -> None:
    own = "resp_" + "0a" * 50
    response = {
        "id": own, "object": "response", "created_at": 1, "status": "completed", "model": "gpt-4o",
        "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    answer = [{"type": "response.completed", "response": response}] if streamed else response
    ask(llm, "responses", answer, streamed=streamed)
    assert only(chain)["context"]["environment"]["response_id"] == own


@pytest.mark.parametrize("way", ["argument", "setting", "neither"])
def test_a_capsule_says_that_litellm_may_leave_out_parameters(
    chain: Chain, llm: LLM, way: str
) -> None:
    litellm.drop_params = way == "setting"
    options: dict[str, Any] = {"drop_params": True} if way == "argument" else {}
    llm.ask(**options)
    told = expect_one(chain, None, "success")["context"]["environment"].get("drop_params")
    assert told is (None if way == "neither" else True)


@STREAMED
@pytest.mark.parametrize("told", [None, 3])
def test_tokens_of_reasoning_at_bedrock_are_those_that_it_reports(
    chain: Chain, llm: LLM, told: int | None, streamed: bool
) -> None:
    rest: dict[str, Any] = {}
    if told:
        usage = {"usage": {"output_tokens_details": {"thinking_tokens": told}}}
        rest = {"additionalModelResponseFields": usage}
    answer = (converse_events if streamed else converse)("end_turn", **rest)
    bedrock(llm, answer, streamed=streamed)
    metrics = expect_one(chain, None, "success")["outcome"]["metrics"]
    assert metrics.get("tokens_reasoning") == told
    assert (metrics["tokens_in"], metrics["tokens_out"]) == (4, 9)


# -- the provider's own reason to stop --------------------------------------------------------------------

REASONS = [
    (CLAUDE, "pause_turn", "success", "pause_turn"),
    (CLAUDE, "model_context_window_exceeded", "success", "model_context_window_exceeded"),
    (CLAUDE, "refusal", "blocked", "refusal"),
    (CLAUDE, "a_reason_of_tomorrow", "success", "a_reason_of_tomorrow"),
    (CLAUDE, "end_turn", "success", "stop"),
    (CLAUDE, "max_tokens", "success", "length"),
    (GEMINI, "SAFETY", "blocked", "SAFETY"),
    (GEMINI, "MALFORMED_FUNCTION_CALL", "failure", "MALFORMED_FUNCTION_CALL"),
    (GEMINI, "TOO_MANY_TOOL_CALLS", "failure", "TOO_MANY_TOOL_CALLS"),
    (GEMINI, "MAX_TOKENS", "success", "length"),
    (GEMINI, "STOP", "success", "stop"),
    (BEDROCK, "guardrail_intervened", "blocked", "guardrail_intervened"),
    (BEDROCK, "model_context_window_exceeded", "success", "model_context_window_exceeded"),
    (BEDROCK, "malformed_model_output", "failure", "malformed_model_output"),
    (BEDROCK, "end_turn", "success", "stop"),
]


def ended(llm: LLM, model: str, reason: str, *, streamed: bool) -> None:
    """Have a model of a provider stop for this reason."""
    if model == BEDROCK:
        bedrock(llm, (converse_events if streamed else converse)(reason), streamed=streamed)
    elif model == GEMINI:
        answer = gemini(reason)
        ask(llm, model, [gemini(None), answer] if streamed else answer, streamed=streamed)
    else:
        said: Any = claude_events(reason) if streamed else claude(reason)
        ask(llm, model, said, streamed=streamed)


@STREAMED
@pytest.mark.parametrize(("model", "reason", "status", "named"), REASONS)
def test_the_reason_to_stop_is_the_providers_own(
    chain: Chain, llm: LLM, model: str, reason: str, status: str, named: str, streamed: bool
) -> None:
    """LiteLLM hands on one of five reasons, whatever a provider says."""
    with contextlib.suppress(litellm.exceptions.APIError):
        ended(llm, model, reason, streamed=streamed)
    call = only(chain)
    assert call["context"]["environment"]["finish_reason"] == named
    assert call["outcome"]["status"] == status


# -- tokens of an answer that broke off --------------------------------------------------------------------


def metrics_of(call: Capsule) -> tuple[Any, Any, Any]:
    metrics = call["outcome"]["metrics"]
    return metrics["tokens_in"], metrics["tokens_out"], metrics["cost_usd"]


RUNNING = chunk((0, "hello", None)) | {
    "usage": {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}
}


@pytest.mark.parametrize(
    ("route", "events"),
    [
        ("messages", message_events({"output_tokens": 9})[:3]),
        ("gemini", [gemini(None, 1), gemini(None, 2)]),
        (CLAUDE, message_events({"output_tokens": 9})[:3]),
        (GEMINI, [gemini(None, 1), gemini(None, 2)]),
        ("openai/gpt-4o", [RUNNING, RUNNING]),
        ("deepseek/deepseek-chat", [RUNNING, RUNNING]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("end", ["drop", "quiet"])
def test_tokens_so_far_are_not_those_of_a_broken_answer(
    chain: Chain, llm: LLM, route: str, events: Any, end: str
) -> None:
    with contextlib.suppress(Exception):
        ask(llm, route, [*events, "drop"] if end == "drop" else events, streamed=True)
    call = only(chain)
    assert call["outcome"]["status"] in ("failure", "partial")
    tokens_in, tokens_out, cost = metrics_of(call)
    assert tokens_in in (None, 4)
    assert (tokens_out, cost) == (None, None)
    if route in ("messages", "gemini") and end == "quiet":
        assert tokens_in == 4


@pytest.mark.parametrize("route", ["messages", "gemini"])
def test_tokens_so_far_are_not_those_of_an_answer_that_its_reader_left(
    chain: Chain, llm: LLM, route: str
) -> None:
    leave(llm, route, 1)
    call = expect_one(chain, None, "partial", within=1.0)
    assert metrics_of(call) == (4, None, None)


@pytest.mark.parametrize("route", ["messages", "gemini"])
def test_tokens_of_an_answer_that_had_ended_are_final(chain: Chain, llm: LLM, route: str) -> None:
    leave(llm, route, None)
    assert metrics_of(expect_one(chain, None, "success"))[:2] == (4, 9)


def leave(llm: LLM, route: str, after: int | None) -> None:
    """Read so many events, or all of them, and close."""
    base = llm.provider.base_url
    events = message_events({"input_tokens": 4, "output_tokens": 9})
    if route == "gemini":
        events = [gemini(None, 1), gemini(None, 2), gemini(None, 3), gemini("STOP")]
    text = f"shape:{json.dumps(events, separators=(',', ':'))}"
    if route == "messages" and after is not None:
        text = "midslow0.2 tokens4/9"  # or all comes as one

    async def read() -> None:
        stream: Any
        if route == "gemini":
            contents: Any = [{"role": "user", "parts": [{"text": text}]}]
            stream = await litellm.google_genai.agenerate_content_stream(
                model=GEMINI, contents=contents, api_base=base, api_key="sk-test"
            )
        else:
            stream = await litellm.anthropic_messages(
                model=CLAUDE, messages=user(text), max_tokens=50, stream=True,
                api_base=base.removesuffix("/v1"), api_key="sk-test",
            )  # fmt: skip
        number = 0
        async for _ in stream:
            number += 1
            if number == after:
                break

    run(read)


def test_a_task_does_not_take_tokens_that_nobody_told_for_none(chain: Chain, llm: LLM) -> None:
    from capsule_sdk import capsule_scope

    with capsule_scope("task"):
        leave(llm, "messages", 1)
    [task] = [c for c in chain.capsules() if c["parent_id"] is None]
    metrics = task["outcome"]["metrics"]
    assert (metrics["tokens_in"], metrics["tokens_out"]) == (4, None)
    assert metrics["usage_unknown"] == 1


# -- an answer that is no stream --------------------------------------------------------------------------

WORDS = "no-milk-left"


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": WORDS, "type": "server_error"}},
        {"object": "error", "message": WORDS, "code": 40303},
        {"detail": [{"msg": WORDS}]},
        f"<html>{WORDS}</html>",
    ],
    ids=["error", "object", "detail", "page"],
)
@pytest.mark.parametrize("route", ["openai/gpt-4o", "responses", "messages", "gemini"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_streamed_request_that_is_answered_by_an_error_has_failed(
    chain: Chain, llm: LLM, route: str, answer: Any, mode: str
) -> None:
    """The clients find no event in what is none, and end as if the answer were empty."""
    if route in ("messages", "gemini") and isinstance(answer, str):
        pytest.skip("the caller gets the page itself, as the bytes of a stream")
    with contextlib.suppress(Exception):
        if mode == "sync":
            ask(llm, route, answer, streamed=True)
        else:
            run(lambda: aread(llm, route, answer))
    call = only(chain)
    assert call["outcome"]["status"] == "failure"
    assert WORDS in call["outcome"]["error"]
    assert call["outcome"]["metrics"]["tokens_out"] is None


async def aread(llm: LLM, route: str, answer: Any) -> None:
    text = (
        f"shape:{answer if isinstance(answer, str) else json.dumps(answer, separators=(',', ':'))}"
    )
    at: dict[str, Any] = {"api_base": llm.provider.base_url, "api_key": "sk-test", "stream": True}
    stream: Any
    if route == "responses":
        stream = await litellm.aresponses(model="openai/gpt-4o", input=text, **at)
    elif route == "messages":
        at["api_base"] = llm.provider.base_url.removesuffix("/v1")
        stream = await litellm.anthropic_messages(
            model=CLAUDE, messages=user(text), max_tokens=50, **at
        )
    elif route == "gemini":
        contents: Any = [{"role": "user", "parts": [{"text": text}]}]
        at.pop("stream")
        stream = await litellm.google_genai.agenerate_content_stream(
            model=GEMINI, contents=contents, **at
        )
    else:
        stream = await litellm.acompletion(model=route, messages=user(text), max_retries=0, **at)
    async for _ in stream:
        pass


def test_a_stream_under_a_wrong_name_is_a_stream(chain: Chain, llm: LLM) -> None:
    """Its reader gets what he would have got, and the capsule what he got."""
    events = [chunk((0, "hello", None)), chunk((0, None, "stop"))]
    body = "".join(f"data:{json.dumps(event, separators=(',', ':'))}|" for event in events)
    ask(llm, "openai/gpt-4o", body, streamed=True)
    call = expect_one(chain, None, "success")
    assert call["outcome"]["result"] == "hello"

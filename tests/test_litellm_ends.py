"""A stream is complete where its provider has said so; LiteLLM ends any stream as if it had."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
from typing import TYPE_CHECKING, Any

import litellm
import pytest
from litellm_support import LITELLM_NOISE, LLM, user
from test_litellm_reported import AT_AWS, metrics_of
from test_litellm_told import only

if TYPE_CHECKING:
    from conftest import Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE


def _chat(text: str, reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return {
        "id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice],
    }  # fmt: skip


def _gemini(text: str, **end: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **end}
    usage = {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6}
    return {"candidates": [candidate], "usageMetadata": usage, "responseId": "g-1"}


def _ollama(done: bool, **rest: Any) -> dict[str, Any]:
    end = {"done_reason": "stop", "prompt_eval_count": 4, "eval_count": 2} if done else {}
    return {
        "model": "l",
        "created_at": "2026-01-01T00:00:00Z",
        "done": done,
        **rest,
        **end,
    }


CHAT = [_chat("hello", None), _chat("", "stop")]
CONVERSE = [
    {"messageStart": {"role": "assistant"}},
    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "hel"}}},
    {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "lo"}}},
    {"messageStop": {"stopReason": "end_turn"}},
]
MESSAGE = [
    {"type": "message_start", "message": {
        "id": "m", "type": "message", "role": "assistant", "model": "c", "content": [],
        "usage": {"input_tokens": 4, "output_tokens": 1}}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
]  # fmt: skip
OLLAMA = [_ollama(False, response="hello"), _ollama(True, response="")]
OLLAMA_CHAT = [
    _ollama(False, message={"role": "assistant", "content": "hello"}),
    _ollama(True, message={"role": "assistant", "content": ""}),
]
LINES = ("ollama/", "ollama_chat/")

#: Whole streams; each is cut before its last piece.
STREAMS: dict[str, list[Any]] = {
    **dict.fromkeys(
        (
            "openai/gpt-4o", "azure/gpt-4o", "mistral/mistral-small", "groq/llama3-8b-8192", "databricks/dbrx",
            "deepseek/deepseek-chat", "hosted_vllm/m", "openrouter/m", "together_ai/m", "fireworks_ai/m",
            "xai/grok-3", "perplexity/sonar", "huggingface/m",
        ),
        CHAT,
    ),
    "anthropic/claude-sonnet-4-5": MESSAGE,
    "gemini/gemini-2.5-flash": [_gemini("hello"), _gemini("", finishReason="STOP")],
    "bedrock/converse/anthropic.claude-3-7-sonnet-20250219-v1:0": CONVERSE,
    "ollama/l": OLLAMA,
    "ollama_chat/l": OLLAMA_CHAT,
}  # fmt: skip


def _options(llm: LLM, model: str) -> dict[str, Any]:
    base = llm.provider.base_url
    options: dict[str, Any] = {"api_base": base, "api_key": "sk-test"}
    if model.startswith(("anthropic/", "bedrock/", "ollama")):
        options["api_base"] = base.removesuffix("/v1")
    if model.startswith("bedrock/"):
        options |= AT_AWS
    if model.startswith("azure/"):
        options["api_version"] = "2024-06-01"
    if model.startswith(("openai/", "azure/")):
        options["max_retries"] = 0
    return options


def _read(llm: LLM, model: str, events: list[Any]) -> None:
    kind = "lines" if model.startswith(LINES) else "shape"
    asked = user(f"{kind}:{json.dumps(events, separators=(',', ':'))}")
    options = _options(llm, model)
    for _ in litellm.completion(model=model, messages=asked, stream=True, num_retries=0, **options):
        pass


@pytest.mark.parametrize("model", STREAMS)
def test_a_stream_whose_provider_says_that_it_is_finished_is_a_success(
    chain: Chain, llm: LLM, model: str
) -> None:
    _read(llm, model, STREAMS[model])
    outcome = only(chain)["outcome"]
    assert (outcome["status"], outcome["result"]) == ("success", "hello")


@pytest.mark.parametrize("model", STREAMS)
def test_a_stream_that_breaks_off_without_an_error_is_no_success(
    chain: Chain, llm: LLM, model: str
) -> None:
    """Later LiteLLM raises at most of them; where it does not, it hands on a `stop` of its own."""
    raised = False
    try:
        _read(llm, model, STREAMS[model][:-1])
    except Exception:
        raised = True
    call = only(chain)
    assert call["outcome"]["result"] == "hello"
    assert metrics_of(call)[1:] == (None, None)
    assert "finish_reason" not in call["context"]["environment"]
    if raised:
        assert call["outcome"]["status"] == "failure"
    else:
        assert call["outcome"]["status"] == "partial"
        assert call["outcome"]["metrics"]["ended"] == "unfinished"


#: Entry points whose streams LiteLLM makes of one of chat, for a provider that has none of their own.
BRIDGES = {
    "text_completion": lambda **asked: litellm.text_completion(prompt=asked.pop("text"), **asked),
    "responses": lambda **asked: litellm.responses(input=asked.pop("text"), **asked),
    "anthropic_messages": lambda **asked: litellm.anthropic_messages(
        messages=user(asked.pop("text")), max_tokens=9, **asked
    ),
    "generate_content": lambda **asked: litellm.google_genai.agenerate_content_stream(
        contents=[{"role": "user", "parts": [{"text": asked.pop("text")}]}], **asked
    ),
}
BRIDGED = ("gemini/gemini-2.5-flash", "ollama_chat/l")


def _read_bridged(llm: LLM, bridge: str, model: str, events: list[Any]) -> None:
    kind = "lines" if model.startswith(LINES) else "shape"
    text = f"{kind}:{json.dumps(events, separators=(',', ':'))}"
    asked = {"model": model, "text": text, "stream": True, **_options(llm, model)}
    if bridge == "generate_content":
        del asked["stream"]

    async def main() -> None:
        answer = BRIDGES[bridge](**asked)
        stream = await answer if inspect.isawaitable(answer) else answer
        if hasattr(stream, "__aiter__") and not hasattr(stream, "__next__"):
            async for _ in stream:
                pass
        else:
            for _ in stream:
                pass

    asyncio.run(main())


@pytest.mark.parametrize("breaks_off", [False, True])
@pytest.mark.parametrize("model", BRIDGED)
@pytest.mark.parametrize("bridge", BRIDGES)
def test_a_stream_made_of_another_is_as_complete_as_that(
    chain: Chain, llm: LLM, bridge: str, model: str, breaks_off: bool
) -> None:
    if bridge == "generate_content" and model.startswith("gemini/"):
        pytest.skip("Gemini's own stream")
    events = STREAMS[model][:-1] if breaks_off else STREAMS[model]
    with contextlib.suppress(Exception) if breaks_off else contextlib.nullcontext():
        _read_bridged(llm, bridge, model, events)  # later LiteLLM raises at some that break off
    call = only(chain)
    if breaks_off:
        assert call["outcome"]["status"] in ("failure", "partial")
        assert metrics_of(call)[1:] == (None, None)
    else:
        assert call["outcome"]["status"] == "success"


def _text(text: str, reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": reason}
    return {
        "id": "t-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice],
    }  # fmt: skip


USAGE = {
    **_text("", None),
    "choices": [],
    "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6},
}


@pytest.mark.parametrize(
    "model", ["text-completion-openai/gpt-3.5-turbo-instruct", "hosted_vllm/m"]
)
@pytest.mark.parametrize(
    ("events", "status"),
    [
        ([_text("hello", None), _text("", "stop")], "success"),
        ([_text("hello", "stop")], "success"),
        ([_text("hello", "stop"), USAGE], "success"),
        ([_text("hel", None), _text("lo", "stop"), USAGE], "success"),
        ([_text("hello", None)], "partial"),
        ([_text("hel", None), _text("lo", None)], "partial"),
    ],
)
def test_a_text_completion_is_as_complete_as_its_provider_says(
    chain: Chain, llm: LLM, model: str, events: list[Any], status: str
) -> None:
    """LiteLLM makes the stream that it reads from only when the first chunk is read."""
    _read_bridged(llm, "text_completion", model, events)
    outcome = only(chain)["outcome"]
    assert (outcome["status"], outcome["result"]) == (status, "hello")
    if status == "partial":
        assert outcome["metrics"]["ended"] == "unfinished"

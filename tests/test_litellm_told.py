"""What a provider has told is sealed, not what LiteLLM has made of it; over HTTP, through the real LiteLLM."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import litellm
import pytest
from litellm_support import LITELLM_NOISE, LLM, calls, expect_one, run, user

if TYPE_CHECKING:
    from conftest import Capsule, Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

WORDS = "no-milk-left"


def ask(llm: LLM, route: str, answer: Any, *, streamed: bool = False, **options: Any) -> None:
    """Have the provider give this answer (JSON, a list of events, a page), and read it to its end."""
    text = (
        f"shape:{answer if isinstance(answer, str) else json.dumps(answer, separators=(',', ':'))}"
    )
    base = llm.provider.base_url
    at: dict[str, Any] = {"api_base": base, "api_key": "sk-test", **options}
    found: Any
    if route == "responses":
        found = litellm.responses(model="openai/gpt-4o", input=text, stream=streamed, **at)
    elif route == "messages":
        at["api_base"] = base.removesuffix("/v1")

        async def read() -> None:
            answer: Any = await litellm.anthropic_messages(
                model="anthropic/claude-sonnet-4-5",
                messages=user(text),
                max_tokens=50,
                stream=streamed,
                **at,
            )
            if streamed:
                async for _ in answer:
                    pass

        run(read)
        return
    elif route == "gemini":
        contents = [{"role": "user", "parts": [{"text": text}]}]
        name = "generate_content_stream" if streamed else "generate_content"
        found = getattr(litellm.google_genai, name)(
            model="gemini/gemini-2.5-flash", contents=contents, **at
        )
    else:  # a model, by completion
        if route.startswith("anthropic/"):
            at["api_base"] = base.removesuffix("/v1")
        if route.startswith("openai/"):
            at["max_retries"] = 0
        found = litellm.completion(
            model=route, messages=user(text), stream=streamed, num_retries=0, **at
        )
    if streamed:
        for _ in found:
            pass


def only(chain: Chain) -> Capsule:
    [call] = calls(chain.capsules())
    return call


# -- errors with HTTP status 200 ------------------------------------------------------------------------

ERRORS: list[Any] = [
    {"error": {"message": WORDS, "type": "server_error", "code": "503"}},
    {"error": WORDS},
    {"error": {"code": 7, "details": WORDS}},
    {"errors": [{"message": WORDS}]},
    {"detail": [{"msg": WORDS}]},
    {"object": "error", "message": WORDS, "code": 40303},
    {"id": "x", "object": "chat.completion", "choices": [], "error": {"message": WORDS}},
    f"<html>{WORDS}</html>",
]


@pytest.mark.parametrize("answer", ERRORS, ids=str)
@pytest.mark.parametrize(
    "model", ["openai/gpt-4o", "anthropic/claude-sonnet-4-5", "deepseek/deepseek-chat"]
)
def test_an_error_with_status_200_is_sealed_with_the_words_of_the_provider(
    chain: Chain, llm: LLM, model: str, answer: Any
) -> None:
    with contextlib.suppress(Exception):
        ask(llm, model, answer)
    call = only(chain)
    assert call["outcome"]["status"] == "failure"
    assert WORDS in call["outcome"]["error"]


@pytest.mark.parametrize("error", [{"message": WORDS, "code": 3}, WORDS], ids=str)
def test_an_error_that_comes_first_in_a_stream_is_sealed_with_its_words(
    chain: Chain, llm: LLM, error: Any
) -> None:
    with contextlib.suppress(Exception):
        ask(llm, "openai/gpt-4o", [{"error": error}], streamed=True)
    call = only(chain)
    assert call["outcome"]["status"] == "failure"
    assert WORDS in call["outcome"]["error"]


def test_a_refusal_with_status_200_is_blocked(chain: Chain, llm: LLM) -> None:
    with contextlib.suppress(Exception):
        ask(llm, "openai/gpt-4o", {"error": {"message": WORDS, "type": "content_filter"}})
    call = only(chain)
    assert call["outcome"]["status"] == "blocked"
    assert WORDS in call["outcome"]["error"]


def test_the_words_of_an_earlier_error_are_not_those_of_a_later_call(
    chain: Chain, llm: LLM
) -> None:
    """A call that is made while an error is handled has that error behind its own."""
    try:
        ask(llm, "openai/gpt-4o", {"error": WORDS})
    except Exception:
        with contextlib.suppress(Exception):
            llm.ask("fail500", max_retries=0)
    first, second = calls(chain.capsules())
    assert WORDS in first["outcome"]["error"]
    assert WORDS not in second["outcome"]["error"]


def test_the_words_of_an_error_are_content(chain: Chain, llm: LLM) -> None:
    chain.configure(content="digest")
    with contextlib.suppress(Exception):
        ask(llm, "openai/gpt-4o", {"error": WORDS})
    assert WORDS not in json.dumps(only(chain))


def test_an_answer_of_words_about_errors_is_none(chain: Chain, llm: LLM) -> None:
    llm.ask("say hello")
    assert expect_one(chain, None, "success")["outcome"]["error"] is None


# -- streams of several choices -------------------------------------------------------------------------


def chunk(*choices: tuple[int, str | None, str | None]) -> dict[str, Any]:
    """One chunk of Chat Completions: (index, content, reason to stop)."""
    told = [
        {"index": index, "delta": {"content": content} if content else {}, "finish_reason": reason}
        for index, content, reason in choices
    ]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    return {**head, "choices": told}


TWO = [chunk((0, "A", None)), chunk((1, "B", None))]
BOTH = chunk((0, "A", None), (1, "B", None))


def ended(text: str, reason: str) -> dict[str, Any]:
    return {"text": text, "finish_reason": reason}


@pytest.mark.parametrize(
    ("chunks", "expected", "status"),
    [
        (
            [*TWO, chunk((0, None, "stop")), chunk((1, None, "length"))],
            ["A", ended("B", "length")],
            "success",
        ),
        (
            [*TWO, chunk((1, None, "length")), chunk((0, None, "stop"))],
            ["A", ended("B", "length")],
            "success",
        ),
        (
            [
                *TWO,
                chunk((1, None, "content_filter")),
                chunk((0, "a", None)),
                chunk((0, None, "stop")),
            ],
            ["Aa", ended("B", "content_filter")],
            "success",
        ),
        (
            [BOTH, chunk((0, None, "stop"), (1, "b", "length"))],
            ["A", ended("Bb", "length")],
            "success",
        ),
        (
            [BOTH, BOTH, chunk((1, None, "length"), (0, None, "stop"))],
            ["AA", ended("BB", "length")],
            "success",
        ),
        (
            [BOTH, chunk((0, None, "content_filter")), chunk((1, None, "content_filter"))],
            [ended("A", "content_filter"), ended("B", "content_filter")],
            "blocked",
        ),
    ],
)
def test_each_choice_of_a_stream_has_its_own_reason_to_stop(
    chain: Chain, llm: LLM, chunks: Any, expected: Any, status: str
) -> None:
    """LiteLLM hands on the first that comes, as that of the first choice."""
    ask(llm, "openai/gpt-4o", chunks, streamed=True)
    assert expect_one(chain, None, status)["outcome"]["result"] == expected


# -- tokens of reasoning --------------------------------------------------------------------------------


def message(usage: dict[str, Any]) -> dict[str, Any]:
    blocks = [
        {"type": "thinking", "thinking": "one-two-three", "signature": "s"},
        {"type": "text", "text": "hello"},
    ]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": blocks,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }


def message_events(usage: dict[str, Any]) -> list[dict[str, Any]]:
    whole = message({"input_tokens": 4, "output_tokens": 1})
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}
    ]
    for index, (kind, name) in enumerate((("thinking", "thinking"), ("text", "text"))):
        block = {"type": kind, name: ""}
        delta = {"type": f"{kind}_delta", name: whole["content"][index][name]}
        events += [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        *events,
        {"type": "message_delta", "delta": end, "usage": usage},
        {"type": "message_stop"},
    ]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("told", [None, 3])
@pytest.mark.parametrize("route", ["anthropic/claude-sonnet-4-5", "messages"])
def test_tokens_of_reasoning_are_those_that_the_provider_reports(
    chain: Chain, llm: LLM, route: str, told: int | None, streamed: bool
) -> None:
    usage: dict[str, Any] = {"input_tokens": 4, "output_tokens": 9}
    if told:
        usage["output_tokens_details"] = {"thinking_tokens": told}
    ask(llm, route, message_events(usage) if streamed else message(usage), streamed=streamed)
    metrics = expect_one(chain, None, "success")["outcome"]["metrics"]
    found = metrics.get("tokens_reasoning")
    if told is None or litellm_reads_thinking_tokens() or route == "messages":
        assert found == told
    else:  # 1.105 does not know them
        assert found in (None, told)
    assert (metrics["tokens_in"], metrics["tokens_out"]) == (4, 9)


def litellm_reads_thinking_tokens() -> bool:
    from litellm.llms.anthropic.chat.transformation import AnthropicConfig

    return hasattr(AnthropicConfig, "thinking_tokens_from_usage")


# -- answers that hold no choice ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "answer", "result"),
    [
        ("openai/gpt-4o", {"choices": []}, {"choices": []}),
        ("deepseek/deepseek-chat", {"choices": [], "service_tier": "x"}, {"choices": []}),
        ("messages", {"content": [], "stop_reason": None, "role": "assistant"}, {"content": []}),
        ("gemini", {"candidates": []}, {"candidates": []}),
    ],
)
def test_an_answer_without_a_choice_is_no_empty_text(
    chain: Chain, llm: LLM, route: str, answer: Any, result: Any
) -> None:
    head: dict[str, Any] = {"id": "x1", "model": "m"}
    if route == "messages":
        head["type"] = "message"
    elif route != "gemini":
        head |= {"object": "chat.completion", "created": 1}
    ask(llm, route, {**head, **answer} if route != "gemini" else answer)
    call = expect_one(chain, None, "partial")
    assert call["outcome"]["result"] == result
    assert call["outcome"]["metrics"]["ended"] == f"no {next(iter(result))}"


@pytest.mark.parametrize("answer", [{"error": {"message": WORDS}}, []], ids=["json", "no event"])
def test_a_stream_in_which_nothing_came_is_no_success(chain: Chain, llm: LLM, answer: Any) -> None:
    """1.105 makes up a reason to stop."""
    with contextlib.suppress(Exception):
        ask(llm, "openai/gpt-4o", answer, streamed=True)
    call = only(chain)
    assert call["outcome"]["status"] in ("partial", "failure")
    assert "finish_reason" not in call["context"]["environment"]

"""What a model answered is in the capsule whatever shape it has, over HTTP and through the real LiteLLM."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import litellm
import pytest
from litellm.exceptions import MidStreamFallbackError
from litellm_support import LITELLM_NOISE, LLM, calls, expect_one, run, user
from provider_shapes import CANARY, CHAT, GEMINI, MESSAGES, PNG, RESPONSES, WAV

from capsule_sdk import capsule_scope
from capsule_sdk.records.call import Answer

if TYPE_CHECKING:
    from conftest import Capsule, Chain

pytest_plugins = ["litellm_support"]
pytestmark = LITELLM_NOISE

STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
OF_PNG = {"bytes": len(PNG), "sha3_256": hashlib.sha3_256(PNG).hexdigest()}
OF_WAV = {"bytes": len(WAV), "sha3_256": hashlib.sha3_256(WAV).hexdigest()}


def ask(llm: LLM, route: str, shape: str, *, streamed: bool) -> None:
    """Call the entry point of a wire format; what it raises is in the capsule too."""
    text, base = f"shape:{shape}", llm.provider.base_url
    at: dict[str, Any] = {"api_base": base, "api_key": "sk-test"}
    if route == "chat":
        found: Any = litellm.completion(
            model="openai/gpt-4o", messages=user(text), stream=streamed, max_retries=0, **at
        )
    elif route == "responses":
        found = litellm.responses(model="openai/gpt-4o", input=text, stream=streamed, **at)
    elif route == "messages":
        at["api_base"] = base.removesuffix("/v1")
        model = "anthropic/claude-sonnet-4-5"
        given = {"model": model, "messages": user(text), "max_tokens": 50, "stream": streamed}

        async def read() -> None:
            answer = await litellm.anthropic_messages(**given, **at)
            if streamed:
                async for _ in answer:
                    pass

        run(read)
        return
    else:
        contents = [{"role": "user", "parts": [{"text": text}]}]
        name = "generate_content_stream" if streamed else "generate_content"
        found = getattr(litellm.google_genai, name)(
            model="gemini/gemini-2.5-flash", contents=contents, **at
        )
    if streamed:
        for _ in found:
            pass


def outcome(call: Capsule) -> Any:
    return call["outcome"]


EXPECTED: list[tuple[str, str, Any]] = [
    ("chat", "refusal", {"refusal": f"I must not, {CANARY}.", "finish_reason": "stop"}),
    (
        "chat",
        "custom",
        {
            "text": "",
            "tool_calls": [
                {"name": "sql", "arguments": f"select '{CANARY}'", "type": "custom"},
                {"name": "mail", "arguments": f'{{"to": "{CANARY}"}}'},
            ],
            "finish_reason": "tool_calls",
        },
    ),
    (
        "chat",
        "audio",
        {"audio": {"transcript": f"spoken {CANARY}", **OF_WAV}, "finish_reason": "stop"},
    ),
    (
        "chat",
        "image",
        {
            "text": f"see {CANARY}",
            "images": [{"media_type": "image/png", **OF_PNG}],
            "finish_reason": "stop",
        },
    ),
    (
        "chat",
        "reasoning",
        {
            "text": f"42 {CANARY}",
            "reasoning": f"six by seven, {CANARY}",
            "finish_reason": "stop",
        },
    ),
    (
        "chat",
        "unknown",
        {
            "other": [{"type": "hologram", "value": {"beam": f"blue {CANARY}"}}],
            "finish_reason": "stop",
        },
    ),
    (
        "chat",
        "beside",
        {
            "text": f"text {CANARY}",
            "other": [{"type": "mood", "value": f"cheerful {CANARY}"}],
            "finish_reason": "stop",
        },
    ),
    ("chat", "passed", f"all of {CANARY}"),
    ("responses", "refusal", {"refusal": f"No, {CANARY}.", "finish_reason": "completed"}),
    (
        "responses",
        "reasoning",
        {
            "text": f"so {CANARY}",
            "reasoning": f"I think {CANARY}",
            "finish_reason": "completed",
        },
    ),
    (
        "responses",
        "image",
        {
            "images": [OF_PNG],
            "provider_tools": [{"type": "image_generation_call", "status": "completed"}],
            "finish_reason": "completed",
        },
    ),
    (
        "responses",
        "unknown",
        {
            "other": [
                {"type": "hologram", "value": {"beam": f"blue {CANARY}", "status": "completed"}}
            ],
            "finish_reason": "completed",
        },
    ),
    (
        "messages",
        "unknown",
        {
            "other": [{"type": "hologram", "value": {"beam": f"blue {CANARY}"}}],
            "finish_reason": "end_turn",
        },
    ),
    (
        "messages",
        "thinking",
        {
            "text": f"so {CANARY}",
            "reasoning": f"hmm {CANARY}",
            "other": [{"type": "redacted_thinking", "value": {"characters": 12}}],
            "finish_reason": "end_turn",
        },
    ),
    (
        "gemini",
        "thought",
        {"text": f"so {CANARY}", "reasoning": f"hmm {CANARY}", "finish_reason": "STOP"},
    ),
    (
        "gemini",
        "unknown",
        {
            "other": [{"type": "part.hologram", "value": {"beam": f"blue {CANARY}"}}],
            "finish_reason": "STOP",
        },
    ),
]


@STREAMED
@pytest.mark.parametrize(("route", "shape", "expected"), EXPECTED)
def test_what_was_answered(
    chain: Chain, llm: LLM, route: str, shape: str, expected: Any, streamed: bool
) -> None:
    with capsule_scope("plan"):
        ask(llm, route, shape, streamed=streamed)
    call = expect_one(chain, "plan", "success")
    assert outcome(call)["result"] == expected
    assert call["execution"]["tool_calls"][0]["result"] == expected


@STREAMED
@pytest.mark.parametrize(
    ("route", "shape", "kinds"),
    [
        ("responses", "search", ["web_search_call"]),
        ("responses", "code", ["code_interpreter_call"]),
        ("responses", "mcp", ["mcp_call"]),
        ("messages", "search", ["server_tool_use", "web_search_tool_result"]),
        ("gemini", "code", ["executable_code", "code_execution_result"]),
    ],
)
def test_tools_that_the_provider_ran(
    chain: Chain, llm: LLM, route: str, shape: str, kinds: list[str], streamed: bool
) -> None:
    ask(llm, route, shape, streamed=streamed)
    result = outcome(expect_one(chain, None, "success"))["result"]
    assert [tool["type"] for tool in result["provider_tools"]] == kinds
    assert "tool_calls" not in result
    if shape == "search":
        assert result["citations"][0]["url"] == f"https://{CANARY}.org"


STATUSES = [
    ("chat", "length", "success", None, None, "length"),
    ("chat", "filtered", "blocked", "content_filter: violence", None, "content_filter"),
    ("responses", "failed", "failure", f"server_error: broken {CANARY}", None, "failed"),
    ("responses", "failed_late", "failure", f"server_error: broken {CANARY}", None, "failed"),
    ("responses", "incomplete", "success", None, None, "max_output_tokens"),
    ("responses", "filtered", "blocked", "content_filter", None, "content_filter"),
    ("responses", "cancelled", "partial", None, "cancelled", "cancelled"),
    ("responses", "queued", "partial", None, "queued", "queued"),
    ("responses", "working", "partial", None, "in progress", "in_progress"),
    ("messages", "refusal", "blocked", f"refusal: no {CANARY}", None, "refusal"),
    ("gemini", "safety", "blocked", f"SAFETY: not {CANARY}", None, "SAFETY"),
    ("gemini", "prompt", "blocked", f"PROHIBITED_CONTENT: not {CANARY}", None, None),
]  # fmt: skip
RAISES = {
    ("responses", "failed"),
    ("responses", "failed_late"),
    ("responses", "cancelled"),
}  # streamed, LiteLLM makes errors of them


@STREAMED
@pytest.mark.parametrize(("route", "shape", "status", "error", "ended", "finish"), STATUSES)
def test_the_status_comes_from_the_answer(
    chain: Chain, llm: LLM, route: str, shape: str, status: str, error: str | None,
    ended: str | None, finish: str | None, streamed: bool,
) -> None:  # fmt: skip
    if streamed and (route, shape) in RAISES:
        with pytest.raises(Exception, match=r"broken|closed"):
            ask(llm, route, shape, streamed=streamed)
        call = expect_one(chain, None, "failure")
        if shape != "cancelled":  # whether it came before the last event or with it
            assert outcome(call)["result"] == f"half {CANARY}"
        return
    ask(llm, route, shape, streamed=streamed)
    call = expect_one(chain, None, status)
    assert outcome(call)["error"] == error
    assert outcome(call)["metrics"].get("ended") == ended
    assert call["context"]["environment"].get("finish_reason") == finish
    assert call["execution"]["tool_calls"][0]["success"] is (status == "success")


@STREAMED
@pytest.mark.parametrize(
    ("route", "shape", "tokens"),
    [
        ("chat", "passed", (10, 20, 4, 6)),
        ("responses", "refusal", (10, 20, 4, 6)),
        ("messages", "tools", (10, 20, 4, None)),
        ("gemini", "thought", (10, 20, None, 6)),
    ],
)
def test_tokens_and_ids_of_the_provider(
    chain: Chain, llm: LLM, route: str, shape: str, tokens: Any, streamed: bool
) -> None:
    ask(llm, route, shape, streamed=streamed)
    call = expect_one(chain, None, "success")
    metrics, environment = outcome(call)["metrics"], call["context"]["environment"]
    names = ("tokens_in", "tokens_out", "tokens_cached", "tokens_reasoning")
    assert tuple(metrics.get(name) for name in names) == tokens
    assert "tokens_estimated" not in metrics
    assert environment["provider_request_id"] == f"req-{shape}"
    assert environment["response_id"]


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_tokens_that_litellm_has_guessed_are_no_tokens_of_the_provider(
    chain: Chain, llm: LLM, options: dict[str, Any]
) -> None:
    """1.105 guesses only when its caller has had the end."""
    list(llm.ask("nousage", stream=True, **options))
    metrics = outcome(expect_one(chain, None, "success"))["metrics"]
    assert (metrics["tokens_in"], metrics["tokens_out"], metrics["cost_usd"]) == (None, None, None)
    guessed = metrics.get("tokens_estimated", {"tokens_in": 1, "tokens_out": 1})
    assert guessed["tokens_in"] > 0
    assert guessed["tokens_out"] > 0


def test_an_error_inside_an_answer_with_status_200(chain: Chain, llm: LLM) -> None:
    answer = (
        '{"id":"g","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"error",'
        '"message":{"role":"assistant","content":""},"error":{"code":502,"message":"gone"}}]}'
    )
    llm.ask(f"shape:{answer}")
    assert outcome(expect_one(chain, None, "failure"))["error"] == "502: gone"


@pytest.mark.parametrize("content", ["digest", "omit"])
def test_no_text_of_any_answer_where_texts_are_not_to_be_sealed(
    chain: Chain, llm: LLM, content: str
) -> None:
    chain.configure(content=content)
    shapes = (("chat", CHAT), ("responses", RESPONSES), ("messages", MESSAGES), ("gemini", GEMINI))
    asked = 0
    for route, known in shapes:
        for shape in known:
            if (route, shape) not in RAISES:
                with contextlib.suppress(MidStreamFallbackError):
                    ask(llm, route, shape, streamed=asked % 2 == 0)
                asked += 1
    assert len(calls(chain.capsules())) == asked
    files = chain.data_dir.rglob("*")
    data = b"".join(path.read_bytes() for path in files if path.is_file())
    assert CANARY.encode() not in data


@pytest.mark.parametrize("stop_after", [1, 3])
def test_what_litellm_drops_is_no_life_for_the_stream(
    chain: Chain, llm: LLM, stop_after: int
) -> None:
    """The watched stream dies with its last reader, as before."""
    stream = llm.ask("midslow0.1 long9", stream=True)
    for _ in range(stop_after):
        next(stream)
    del stream
    call = expect_one(chain, None, "partial", within=0.3)
    assert outcome(call)["metrics"]["ended"] == "abandoned"


def test_what_is_known_of_the_tokens_survives_the_process(
    recorder_state: Callable[..., Any],
) -> None:
    answer = Answer(
        result={"refusal": "no"},
        tokens_in=5,
        tokens_out=4,
        tokens_estimated=(7, 8),
        tokens_cached=3,
        tokens_reasoning=2,
    )
    made = recorder_state(answer)
    assert made["outcome"]["result"] == {"refusal": "no"}
    metrics = made["outcome"]["metrics"]
    assert metrics["tokens_estimated"] == {"tokens_in": 7, "tokens_out": 8}
    assert (metrics["tokens_cached"], metrics["tokens_reasoning"]) == (3, 2)


@pytest.fixture
def recorder_state() -> Callable[..., Any]:
    """Make a call's capsule of what a journal says of it, through JSON."""
    import json

    from capsule_sdk.content import ContentPolicy
    from capsule_sdk.records.attribution import NOBODY
    from capsule_sdk.records.call import LLMCall, Request
    from capsule_sdk.records.capsules import capsule_of
    from capsule_sdk.records.state import beginning, ending, restored

    def through(answer: Answer) -> Any:
        call = LLMCall(
            Request("completion", "m", "", None, 0),
            parent=None,
            attribution=NOBODY,
            capsule_type="chat",
            policy=ContentPolicy(),
        )
        call.answer = answer
        call.settle("success")
        begun, ended = (json.loads(json.dumps(part(call))) for part in (beginning, ending))
        return capsule_of(restored(begun, [], ended)).to_dict()

    return through


@STREAMED
@pytest.mark.parametrize("model", ["openai/gpt-4o", "openrouter/some", "deepseek/deepseek-chat"])
@pytest.mark.parametrize(
    ("shape", "reason", "status"),
    [
        ("broken", "model_error", "failure"),
        ("overloaded", "insufficient_system_resource", "success"),
    ],
)
def test_a_reason_to_stop_that_litellm_does_not_hand_on_is_sealed(
    chain: Chain, llm: LLM, shape: str, reason: str, status: str, model: str, streamed: bool
) -> None:
    """LiteLLM tells its caller `stop` for both."""
    found = llm.ask(f"shape:{shape}", model, stream=streamed)
    if streamed:
        assert [chunk.choices[0].finish_reason for chunk in found][-1] == "stop"
    call = expect_one(chain, None, status)
    assert call["context"]["environment"]["finish_reason"] == reason
    assert call["outcome"]["result"] == f"half {CANARY}"


@pytest.mark.parametrize("closes", [False, True])
def test_a_stream_that_nobody_has_said_to_be_finished_is_no_success(
    chain: Chain, llm: LLM, closes: bool
) -> None:
    """LiteLLM makes up a reason to stop, or raises, by its version."""
    with contextlib.suppress(litellm.exceptions.APIError, MidStreamFallbackError):
        stream = llm.ask("shape:unfinished", stream=True)
        for chunk in stream:
            if closes and chunk.choices and chunk.choices[0].finish_reason:
                break
        del stream
    [call] = calls(chain.capsules())
    assert outcome(call)["status"] in ("partial", "failure")
    assert outcome(call)["result"] == f"half {CANARY}"
    assert "finish_reason" not in call["context"]["environment"]


TRANSLATED = [
    ("anthropic/claude-sonnet-4-5", "unknown", "msg_1", "hologram"),
    ("anthropic/claude-sonnet-4-5", "tools", "msg_1", None),
    ("gemini/gemini-2.5-flash", "unknown", "gem-1", "part.hologram"),
    ("gemini/gemini-2.5-flash", "rated", "gem-1", "safety_ratings"),
]


@pytest.mark.parametrize(("model", "shape", "name", "kept"), TRANSLATED)
def test_what_litellm_drops_when_it_translates_a_whole_answer_is_sealed(
    chain: Chain, llm: LLM, model: str, shape: str, name: str, kept: str | None
) -> None:
    base = llm.provider.base_url
    base = base.removesuffix("/v1") if "claude" in model else base
    litellm.completion(
        model=model, messages=user(f"shape:{shape}"), api_base=base, api_key="sk-test"
    )
    call = expect_one(chain, None, "success")
    assert call["context"]["environment"]["response_id"] == name
    result = outcome(call)["result"]
    if kept is None:
        assert [tool["name"] for tool in result["tool_calls"]] == ["mail"]
        assert "other" not in result
    else:
        assert [entry["type"] for entry in result["other"]] == [kept]


@STREAMED
@pytest.mark.parametrize(
    ("route", "shape", "name"),
    [("chat", "passed", "chatcmpl-1"), ("responses", "refusal", "resp_1")],
)
def test_the_id_of_an_answer_is_the_providers(
    chain: Chain, llm: LLM, route: str, shape: str, name: str, streamed: bool
) -> None:
    ask(llm, route, shape, streamed=streamed)
    assert expect_one(chain, None, "success")["context"]["environment"]["response_id"] == name


def test_an_id_that_litellm_has_made_up_is_not_called_the_providers(chain: Chain, llm: LLM) -> None:
    llm.ask(mock_response="Paris")
    assert "response_id" not in expect_one(chain, None, "success")["context"]["environment"]

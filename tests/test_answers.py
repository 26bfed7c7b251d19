"""An answer of any wire format is sealed with all that it says, whole or streamed, understood or not."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from provider_shapes import (
    CANARY,
    CHAT,
    GEMINI,
    MESSAGES,
    PNG,
    RESPONSES,
    sse,
    streamed,
    whole,
)

from capsule_sdk.calls.answers.stream import Stream
from capsule_sdk.calls.answers.usage import Tokens, tells_reasoning, tokens_of
from capsule_sdk.calls.answers.whole import Whole, read
from capsule_sdk.calls.media import decoded
from capsule_sdk.content import ContentPolicy, canonical

FULL, DIGEST, OMIT = ContentPolicy(), ContentPolicy("digest"), ContentPolicy("omit")
SHAPES = [
    (route, shape)
    for route, shapes in (
        ("chat/completions", CHAT),
        ("responses", RESPONSES),
        ("messages", MESSAGES),
        ("gemini", GEMINI),
    )
    for shape in shapes
]
SECRET = st.just(f"a {CANARY}")


def sealed(value: Any, policy: ContentPolicy = FULL) -> Any:
    return read(value).result(policy)


def status(value: Any) -> tuple[str, str | None, str | None]:
    verdict = read(value).verdict
    return verdict.status, verdict.error(FULL), verdict.ended


def fed(*pieces: Any) -> Stream:
    stream = Stream()
    for piece in pieces:
        stream.feed(piece)
    stream.finish()
    return stream


def chat(message: Any, finish: str | None = "stop", **rest: Any) -> Any:
    choice = {"index": 0, "message": message, "finish_reason": finish, **rest}
    return {"id": "c", "object": "chat.completion", "choices": [choice]}


def block(value: Any, stop: str = "end_turn") -> Any:
    return {"type": "message", "role": "assistant", "content": [value], "stop_reason": stop}


def item(value: Any, **rest: Any) -> Any:
    return {"object": "response", "status": "completed", "output": [value], **rest}


def part(value: Any, **rest: Any) -> Any:
    return {"candidates": [{"content": {"parts": [value]}, "finishReason": "STOP", **rest}]}


# -- what the shapes of the loopback provider say --------------------------------------------------


@pytest.mark.parametrize(("route", "shape"), SHAPES)
def test_a_stream_is_sealed_like_the_same_answer_whole(route: str, shape: str) -> None:
    stream, once = fed(*streamed(route, shape)), read(whole(route, shape))
    raw = fed(sse(route, shape))
    for found in (stream.whole(), raw.whole()):
        assert comparable(found) == comparable(once)
        assert found.finish == once.finish
        assert found.verdict == once.verdict
    assert stream.complete is (shape != "unfinished")


def comparable(found: Whole) -> Any:
    """Arguments come as a text in a stream, and as an object in a whole message."""
    text = canonical(found.result(FULL))
    return json.loads(text.replace('\\": \\"', '\\":\\"'), object_hook=_arguments)


def _arguments(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("type") == "server_tool_use" and isinstance(value["input"], str):
        value["input"] = json.loads(value["input"])
    return value


@pytest.mark.parametrize("policy", [DIGEST, OMIT])
@pytest.mark.parametrize(("route", "shape"), SHAPES)
def test_no_text_of_an_answer_is_sealed_where_texts_are_not(
    route: str, shape: str, policy: ContentPolicy
) -> None:
    for found in (read(whole(route, shape)), fed(*streamed(route, shape)).whole()):
        assert CANARY not in canonical(found.result(policy))
        assert CANARY not in str(found.verdict.error(policy))
    told = canonical(sealed(whole(route, shape))) + str(status(whole(route, shape)))
    if shape not in ("image", "filtered", "cancelled", "queued", "working"):
        assert CANARY in told


@given(st.data())
def test_raw_events_may_be_cut_anywhere(data: st.DataObject) -> None:
    route, shape = data.draw(st.sampled_from(SHAPES))
    raw = sse(route, shape)
    if data.draw(st.booleans()):
        raw = raw.replace(b"\n", b"\r\n")
    places = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    pieces = [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]
    assert fed(*pieces).whole().result(FULL) == fed(*streamed(route, shape)).whole().result(FULL)


# -- shapes that stand in no report ----------------------------------------------------------------

PIC = base64.b64encode(PNG).decode()
OF_PNG = {"bytes": len(PNG), "sha3_256": FULL.value(PNG)["sha3_256"]}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (chat({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}), "ab"),
        (
            chat({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}]}),
            {"reasoning": "h", "finish_reason": "stop"},
        ),
        (
            chat({"content": "x", "reasoning": "r", "reasoning_content": "r"}),
            {"text": "x", "reasoning": "r", "finish_reason": "stop"},
        ),
        (
            chat({"content": "x", "reasoning_details": [{"type": "reasoning.text", "text": "r"}]}),
            {"text": "x", "reasoning": "r", "finish_reason": "stop"},
        ),
        (chat({"content": "x", "refusal": None, "audio": None, "tool_calls": []}), "x"),
        ({**chat({"content": "x"}, logprobs=None), "service_tier": "default"}, "x"),
        (chat({"content": ""}), {"finish_reason": "stop"}),
        (chat(None, "stop"), {"finish_reason": "stop"}),
        (
            chat({"content": 7}),
            {"other": [{"type": "block", "value": 7}], "finish_reason": "stop"},
        ),
        (
            chat("just a text"),
            {"other": [{"type": "message", "value": "just a text"}], "finish_reason": "stop"},
        ),
        ({"choices": [{"text": "legacy", "index": 0, "finish_reason": "stop"}]}, "legacy"),
        (
            chat({"tool_calls": [{"type": "teleport", "id": "1", "to": "Mars"}]}),
            {
                "text": "",
                "tool_calls": [{"name": "", "arguments": '{"to":"Mars"}', "type": "teleport"}],
                "finish_reason": "stop",
            },
        ),
        (
            item({"type": "message", "content": [{"type": "smell", "odour": "rose"}]}),
            {
                "other": [{"type": "smell", "value": {"odour": "rose"}}],
                "finish_reason": "completed",
            },
        ),
        (
            item(
                {
                    "type": "computer_call",
                    "action": {"type": "click", "x": 1},
                    "status": "completed",
                }
            ),
            {
                "provider_tools": [
                    {
                        "type": "computer_call",
                        "action": {"type": "click", "x": 1},
                        "status": "completed",
                    }
                ],
                "finish_reason": "completed",
            },
        ),
        (
            item({"type": "file_search_call", "queries": ["q"], "results": [{"text": "t"}]}),
            {
                "provider_tools": [
                    {"type": "file_search_call", "queries": ["q"], "results": [{"text": "t"}]}
                ],
                "finish_reason": "completed",
            },
        ),
        (
            item({"type": "message", "content": []}, weather="mild"),
            {"other": [{"type": "weather", "value": "mild"}], "finish_reason": "completed"},
        ),
        (
            block({"type": "bash_code_execution_tool_result", "content": {"stdout": "2"}}),
            {
                "provider_tools": [
                    {"type": "bash_code_execution_tool_result", "content": {"stdout": "2"}}
                ],
                "finish_reason": "end_turn",
            },
        ),
        (
            block(
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PIC},
                }
            ),
            {"images": [{"media_type": "image/png", **OF_PNG}], "finish_reason": "end_turn"},
        ),
        (
            block({"type": "image", "source": {"type": "url", "url": "https://x.org/a.png"}}),
            {"images": [{"url": "https://x.org/a.png"}], "finish_reason": "end_turn"},
        ),
        (
            part({"functionCall": {"name": "f", "args": {"a": 1}}}),
            {
                "text": "",
                "tool_calls": [{"name": "f", "arguments": '{"a":1}'}],
                "finish_reason": "STOP",
            },
        ),
        (
            part({"function_call": {"name": "f", "args": {"a": 1}}}),
            {
                "text": "",
                "tool_calls": [{"name": "f", "arguments": '{"a":1}'}],
                "finish_reason": "STOP",
            },
        ),
        (
            part({"fileData": {"mimeType": "video/mp4", "fileUri": "gs://b/v"}}),
            {
                "other": [
                    {
                        "type": "video/mp4",
                        "value": {"file_uri": "gs://b/v", "media_type": "video/mp4"},
                    }
                ],
                "finish_reason": "STOP",
            },
        ),
        (
            {
                "object": "interaction",
                "status": "completed",
                "outputs": [{"type": "text", "text": "P"}],
            },
            "P",
        ),
        ({"hologram": {"beam": "blue"}}, {"hologram": {"beam": "blue"}}),
        (["a", 1], ["a", 1]),
        ("text", "text"),
        (None, None),
        ({"data": [{"b64_json": PIC, "url": None}]}, [{"b64_json": OF_PNG, "url": None}]),
        (
            {"text": "hi", "segments": [{"start": 0, "text": "hi"}], "language": "en"},
            {"text": "hi", "other": [{"type": "segments", "value": [{"start": 0, "text": "hi"}]}]},
        ),
    ],
)
def test_what_an_answer_says(answer: Any, expected: Any) -> None:
    assert sealed(answer) == expected
    if isinstance(answer, dict):
        assert sealed(SimpleNamespace(**answer)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (chat({"content": "x"}, "length"), ("success", None, None)),
        (chat({"content": "x"}, "content_filter"), ("blocked", "content_filter", None)),
        (chat({"content": "x"}, "guardrail_intervened"), ("blocked", "guardrail_intervened", None)),
        (
            chat({"content": ""}, "error", error={"code": 502, "message": "gone"}),
            ("failure", "502: gone", None),
        ),
        (chat({"content": "x"}, "abort"), ("partial", None, "cancelled")),
        (chat({"content": "x"}, "some_new_reason"), ("success", None, None)),
        (
            {"error": {"message": "down", "type": "overloaded"}},
            ("failure", "overloaded: down", None),
        ),
        ({"error": "down"}, ("failure", "down", None)),
        (
            {"type": "error", "error": {"type": "api_error", "message": "m"}},
            ("failure", "api_error: m", None),
        ),
        ({"detail": "x", "error": None}, ("success", None, None)),
        (
            {"choices": [{"finish_reason": "content_filter"}, {"finish_reason": "stop"}]},
            ("success", None, None),
        ),
        (
            {"choices": [{"finish_reason": "content_filter"}, {"finish_reason": "error"}]},
            ("blocked", "content_filter", None),
        ),
        (item({}, status="failed", error={"code": "c", "message": "m"}), ("failure", "c: m", None)),
        (item({}, status="failed"), ("failure", "failed", None)),
        (item({}, status="expired"), ("failure", "expired", None)),
        (item({}, status="dreaming"), ("partial", None, "dreaming")),
        (
            item({}, status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
            ("success", None, None),
        ),
        (item({}, status="incomplete"), ("partial", None, "incomplete")),
        (block({"type": "text", "text": "x"}, "max_tokens"), ("success", None, None)),
        (block({"type": "text", "text": "x"}, "refusal"), ("blocked", "refusal", None)),
        (part({"text": "x"}, finishReason="RECITATION"), ("blocked", "RECITATION", None)),
        (part({"text": "x"}, finishReason="IMAGE_SAFETY"), ("blocked", "IMAGE_SAFETY", None)),
        (part({"text": "x"}, finishReason="SPII"), ("blocked", "SPII", None)),
        (
            part({"text": "x"}, finishReason="MALFORMED_FUNCTION_CALL", finishMessage="f(("),
            ("failure", "MALFORMED_FUNCTION_CALL: f((", None),
        ),
        ({"promptFeedback": {"blockReason": "BLOCKLIST"}}, ("blocked", "BLOCKLIST", None)),
        ({"prompt_feedback": {"block_reason": "OTHER"}}, ("blocked", "OTHER", None)),
        ({"object": "batch", "status": "validating"}, ("partial", None, "validating")),
        ({"object": "video", "status": "completed"}, ("success", None, None)),
        (
            {
                "object": "fine_tuning.job",
                "status": "failed",
                "error": {"code": "c", "message": "m"},
            },
            ("failure", "c: m", None),
        ),
        (
            {
                "object": "thread.run",
                "status": "failed",
                "last_error": {"code": "c", "message": "m"},
            },
            ("failure", "c: m", None),
        ),
    ],
)
def test_how_an_answer_says_that_it_ended(answer: Any, expected: Any) -> None:
    assert status(answer) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 0}, Tokens(5, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Tokens()),
        ({"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 3}, Tokens(5, 2, 3)),
        (
            {
                "input_tokens": 5,
                "output_tokens": 2,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 1},
            },
            Tokens(5, 2, 4, 1),
        ),
        (
            {
                "promptTokenCount": 5,
                "candidatesTokenCount": 2,
                "cachedContentTokenCount": 1,
                "thoughtsTokenCount": 9,
            },
            Tokens(5, 2, 1, 9),
        ),
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_cache_hit_tokens": 2},
            Tokens(5, 1, 2),
        ),
        (
            {"total_input_tokens": 5, "total_output_tokens": 1, "total_thought_tokens": 4},
            Tokens(5, 1, None, 4),
        ),
        ({"prompt_tokens": True, "completion_tokens": "2"}, Tokens()),
        ({"prompt_tokens": -1, "completion_tokens": 2}, Tokens(None, 2)),
        (None, Tokens()),
    ],
)
def test_tokens_in_every_dialect(usage: Any, expected: Tokens) -> None:
    assert tokens_of(usage) == expected
    assert tokens_of({"usage": usage}) == expected


@pytest.mark.parametrize("said", ["think", "reason", "thoughttoken", "Reason_"])
def test_no_answer_of_a_model_makes_its_caller_wait_for_how_many_tokens_it_took(said: str) -> None:
    answer = {"content": said * 20_000, "usage": {"reasoning_tokens": 0}}
    started = time.perf_counter()
    assert not tells_reasoning(json.dumps(answer))
    assert time.perf_counter() - started < 2
    answer["usage"] = {"completion_tokens_details": {"reasoning_tokens": 7}}
    assert tells_reasoning(json.dumps(answer))


def test_two_tool_calls_that_share_an_index_are_two() -> None:
    """Some providers number each of their calls with 0."""
    pieces = [
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {
                        "tool_calls": [
                            {"index": 0, "id": i, "function": {"name": i, "arguments": "{"}}
                        ]
                    },
                }
            ]
        }
        for i in ("a", "b")
    ]
    pieces.append(
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
                }
            ]
        }
    )
    calls = fed(*pieces).whole().result(FULL)["tool_calls"]
    assert calls == [{"name": "a", "arguments": "{"}, {"name": "b", "arguments": "{}"}]


def test_a_response_abandoned_in_the_middle_has_what_had_come() -> None:
    events = streamed("responses", "search")
    cut = fed(*events[:7])
    assert not cut.complete
    found = cut.whole().result(FULL)
    assert isinstance(found, dict)
    assert found["provider_tools"][0]["type"] == "web_search_call"
    assert found["text"].startswith("it i")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "response.telepathy.delta", "delta": CANARY},
        {"type": "response.telepathy.delta", "item_id": "i", "delta": CANARY},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "smell_delta", "odour": CANARY},
        },
        {"type": "message_aside", "aside": CANARY},
        {"type": "never.heard.of", "what": {"deep": [CANARY]}},
        {"event_type": "content.delta", "delta": {"text": CANARY}},
        {"wholly": CANARY},
        {"choices": [{"index": 3, "delta": {"hologram": [CANARY]}}]},
        {"choices": [{"index": 0, "delta": {}, "aura": CANARY}]},
        {"choices": [], "aura": CANARY},
        {"candidates": [{"content": {"parts": [{"hologram": CANARY}]}}]},
        {"candidates": [{"aura": CANARY}]},
        SimpleNamespace(type="thing.delta", words=CANARY),
        CANARY,
        [CANARY],
        f'data: {{"wholly": "{CANARY}"}}'.encode(),
        f"data: not JSON, {CANARY}\n\n".encode(),
        json.dumps([{"choices": [{"index": 0, "delta": {"content": CANARY}}]}]),
    ],
)
def test_a_piece_that_does_not_exist_today_is_kept(event: Any) -> None:
    stream = fed(event)
    assert CANARY in canonical(stream.whole().result(FULL))
    for policy in (DIGEST, OMIT):
        assert CANARY not in canonical(stream.whole().result(policy))


# -- anything at all -------------------------------------------------------------------------------

TYPES = [
    "text", "output_text", "refusal", "thinking", "reasoning", "message", "function_call",
    "custom_tool_call", "tool_use", "image", "image_url", "audio", "web_search_call", "mcp_call",
    "x_tool_result", "summary_text", "thought", "error", "response.completed",
    "response.output_text.delta", "response.output_item.done", "response.failed",
    "response.x.delta", "content_block_start", "content_block_delta", "message_start",
    "message_delta", "redacted_thinking", "hologram",
]  # fmt: skip
KEYS = [
    "content", "text", "refusal", "reasoning_content", "tool_calls", "function", "custom",
    "arguments", "input", "audio", "data", "transcript", "images", "image_url", "url",
    "annotations", "citations", "parts", "thinking", "summary", "output", "choices", "message",
    "delta", "item", "response", "candidates", "functionCall", "args", "inlineData",
    "content_block", "provider_specific_fields", "content_filter_results", "promptFeedback",
    "safetyRatings", "error", "usage", "logprobs", "stop_details", "incomplete_details",
    "partial_json", "citation", "hologram", "results", "steps", "outputs", "part",
    "thinking_blocks", "reasoning_details", "groundingMetadata", "executableCode", "embedding",
    "b64_json", "segments",
]  # fmt: skip
FINISHES = ["stop", "length", "content_filter", "SAFETY", "error", "tool_calls", "refusal", "x"]
LABELS = {
    "type": st.sampled_from(TYPES),
    "index": st.integers(-1, 3) | st.none(),
    "output_index": st.integers(0, 3),
    "content_index": st.integers(-2, 3),
    "finish_reason": st.sampled_from(FINISHES),
    "finishReason": st.sampled_from(FINISHES),
    "status": st.sampled_from(["completed", "failed", "incomplete", "queued", "dreaming"]),
}
LEAVES = (
    SECRET
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.just("")
    | st.binary(max_size=4)
)


def objects(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    entries = st.dictionaries(st.sampled_from(KEYS), children, max_size=4)
    labels = st.fixed_dictionaries({}, optional=LABELS)
    made = st.builds(lambda a, b: {**a, **b}, entries, labels)
    return made | st.lists(children, max_size=3) | made.map(lambda held: SimpleNamespace(**held))


ANYTHING = st.recursive(LEAVES, objects, max_leaves=12)


@given(ANYTHING)
def test_any_response_is_read_and_never_leaks(value: Any) -> None:
    found = read(value)
    for policy in (DIGEST, OMIT):
        assert CANARY not in canonical(found.result(policy))
        assert CANARY not in str(found.verdict.error(policy))
    assert found.verdict.status in ("success", "failure", "blocked", "partial")
    canonical(found.result(FULL))


@given(st.lists(ANYTHING, max_size=6))
def test_any_stream_is_read_and_never_leaks(pieces: list[Any]) -> None:
    found = fed(*pieces).whole()
    for policy in (DIGEST, OMIT):
        assert CANARY not in canonical(found.result(policy))
        assert CANARY not in str(found.verdict.error(policy))
    canonical(found.result(FULL))


@pytest.mark.parametrize("first", [[], "a text", {"aura": "blue"}])
def test_a_stream_whose_candidates_say_nothing_is_sealed_with_what_else_came(first: Any) -> None:
    found = fed(first, {"candidates": ["no candidate"]}).whole()
    sealed = canonical(found.result(FULL))
    assert ("a text" in sealed) == (first == "a text")
    assert ("blue" in sealed) == (first == {"aura": "blue"})


PLACES: list[Callable[[Any], Any]] = [
    lambda value: chat({"content": None, "hologram": value}),
    lambda value: chat({"content": "x", "provider_specific_fields": {"hologram": value}}),
    lambda value: chat({"content": [{"type": "hologram", "beam": value}]}),
    lambda value: chat({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}, "hologram": value}]}),
    lambda value: chat({"content": "x"}, hologram=value),
    lambda value: {**chat({"content": "x"}), "hologram": value},
    lambda value: item({"type": "hologram", "beam": value}),
    lambda value: item({"type": "message", "content": [{"type": "output_text", "hologram": value}]}),
    lambda value: item({"type": "reasoning", "summary": [], "hologram": value}),
    lambda value: item({}, hologram=value),
    lambda value: block({"type": "text", "text": "x", "hologram": value}),
    lambda value: block({"type": "x_tool_result", "content": value}),
    lambda value: {**block({"type": "text", "text": "x"}), "hologram": value},
    lambda value: part({"text": "x", "hologram": value}),
    lambda value: part({"text": "x"}, hologram=value),
    lambda value: {**part({"text": "x"}), "hologram": value},
    lambda value: {"hologram": value},
    lambda value: {"results": [{"hologram": value}]},
]  # fmt: skip


@given(
    st.sampled_from(PLACES),
    st.recursive(
        SECRET,
        lambda c: st.lists(c, min_size=1, max_size=3) | st.fixed_dictionaries({"x": c}),
        max_leaves=4,
    ),
)
def test_nothing_is_lost_whatever_it_is_and_wherever_it_stands(
    place: Callable[[Any], Any], value: Any
) -> None:
    assert CANARY in canonical(sealed(place(value)))


# -- bounds ----------------------------------------------------------------------------------------


def test_a_large_image_is_its_digest() -> None:
    raw = bytes(15_000_000)
    text = base64.b64encode(raw).decode()
    answer = chat(
        {"content": None, "images": [{"image_url": {"url": f"data:image/png;base64,{text}"}}]}
    )
    found = sealed(answer)
    assert found["images"][0]["bytes"] == len(raw)
    assert len(canonical(found)) < 500
    frame = f"data: {json.dumps(answer)}\n\n".encode()
    begun = time.perf_counter()
    stream = fed(*(frame[start : start + 16_384] for start in range(0, len(frame), 16_384)))
    assert stream.whole().result(FULL) == found
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize("name", ["content", "hologram", "reasoning_content"])
def test_ten_thousand_chunks(name: str) -> None:
    begun = time.perf_counter()
    stream = fed(
        *({"choices": [{"index": 0, "delta": {name: "0123456789"}}]} for _ in range(10_000))
    )
    found = canonical(stream.whole().result(FULL))
    assert time.perf_counter() - begun < 5
    assert len(found) < 18_000
    assert "[cut: " in found


def test_ten_thousand_unknown_entries_are_counted() -> None:
    pieces = (
        {"choices": [{"index": 0, "delta": {"holograms": [{"n": n}]}}]} for n in range(20_000)
    )
    found = fed(*pieces).whole().result(FULL)
    assert isinstance(found, dict)
    assert any(entry["type"] == "left out" for entry in found["other"])
    assert len(canonical(found)) < 200_000


def test_of_more_than_a_thousand_calls_of_tools_the_rest_is_digested() -> None:
    def found(last: str, policy: ContentPolicy = FULL) -> Any:
        calls = [{"function": {"name": "f", "arguments": f"{n}"}} for n in range(1_500)]
        calls.append({"function": {"name": "f", "arguments": last}})
        entries: Any = read(chat({"content": None, "tool_calls": calls})).result(policy)
        assert len(entries["tool_calls"]) == 1_000
        [left_out] = entries["other"]
        return left_out["value"]

    assert found("a")["entries"] == 501
    assert found("a") == found("a") != found("b")
    assert found("a", ContentPolicy("omit")) == {"entries": 501}


def test_a_thousand_choices_and_more() -> None:
    choices = [
        {"index": n, "message": {"content": f"{n}"}, "finish_reason": "stop"} for n in range(1_500)
    ]
    found = sealed({"choices": choices})
    assert found[:1_000] == [str(n) for n in range(1_000)]
    assert found[1_000:] == ["[cut: 1000 of 1500 entries kept]"]


def test_probabilities_are_a_sample() -> None:
    tokens = [{"token": "a", "logprob": -0.5, "top_logprobs": []}] * 4_000
    found = sealed(chat({"content": "a"}, logprobs={"content": tokens}))
    [entry] = found["other"]
    assert (entry["type"], entry["value"]["of"]) == ("logprobs.content", 4_000)
    assert entry["value"]["first"] == [{"text": "a", "logprob": -0.5}] * 20


@pytest.mark.parametrize("text", [PIC, PIC.rstrip("="), PIC.replace("+", "-").replace("/", "_")])
def test_bytes_however_they_are_written(text: str) -> None:
    assert decoded(text) == PNG


def test_bytes_in_pieces_that_were_written_each_by_itself() -> None:
    pieces = [base64.b64encode(PNG[:100]).decode(), base64.b64encode(PNG[100:]).decode()]
    assert decoded("".join(pieces)) == PNG
    assert decoded("no base64: é") is None


def test_no_reader_changes_what_it_reads() -> None:
    for route, shape in SHAPES:
        answer = whole(route, shape)
        before = json.dumps(answer)
        sealed(answer)
        fed(*streamed(route, shape), answer)
        assert json.dumps(answer) == before


@pytest.mark.parametrize("keyed", [True, False])
def test_an_object_that_comes_again_with_its_id_and_a_status_is_a_later_state_of_it(
    keyed: bool,
) -> None:
    states: list[dict[str, Any]] = [
        {"id": "ws_1", "index": 0, "status": "in_progress", "query": "", "queries": []},
        {"id": "ws_1", "index": 0, "status": "in_progress", "query": "cats", "queries": ["cats"]},
        {"id": "ws_1", "index": 0, "status": "completed", "query": "cats", "queries": ["cats"]},
    ]
    stream = fed(
        *(
            {"choices": [{"index": 0, "delta": {"calls": {"s1": one} if keyed else [one]}}]}
            for one in states
        ),
        {"choices": [{"index": 0, "delta": {"content": "a", "text_of_mine": "b"}}]},
        {"choices": [{"index": 0, "delta": {"text_of_mine": "b"}, "finish_reason": "stop"}]},
    )
    said = canonical(stream.whole().result(FULL))
    assert "catscats" not in said
    assert said.count('"cats"') == 2
    assert "completed" in said
    assert "in_progress" not in said
    assert '"bb"' in said, "a text without a state goes on being appended"


def test_a_stream_holds_copies() -> None:
    held: list[Any] = [{"deep": "one"}]
    stream = fed({"choices": [{"index": 0, "delta": {"hologram": held}}]})
    held[0]["deep"] = "changed"
    held.append("more")
    assert "one" in canonical(stream.whole().result(FULL))
    assert "changed" not in canonical(stream.whole().result(FULL))


# -- how it ended ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("native", "finish", "told", "ended"),
    [
        ("error", "stop", "error", "failure"),
        ("insufficient_system_resource", "stop", "insufficient_system_resource", "success"),
        ("pause_turn", "length", "pause_turn", "success"),
        ("ABORTED", "stop", "ABORTED", "partial"),
        ("SAFETY", "stop", "SAFETY", "blocked"),
        ("MAX_TOKENS", "length", "length", "success"),
        ("max_tokens", "stop", "max_tokens", "success"),
        ("end_turn", "stop", "stop", "success"),
        ("OTHER", "content_filter", "content_filter", "blocked"),
    ],
)
@pytest.mark.parametrize("name", ["native_finish_reason", "sent_finish_reason"])
def test_an_unusual_reason_of_the_providers_own_is_the_one_that_is_named(
    native: str, finish: str, told: str, ended: str, name: str
) -> None:
    whole = read(chat({"content": "x"}, finish, **{name: native}))
    assert (whole.finish, whole.verdict.status) == (told, ended)
    again = {"choices": [{"index": 0, "delta": {}, "finish_reason": finish, name: native}]}
    streamed = fed({"choices": [{"index": 0, "delta": {"content": "x"}}]}, again, again).whole()
    assert (streamed.finish, streamed.verdict.status) == (told, ended)


def _message(*events: Any) -> list[Any]:
    delta = {"type": "text_delta", "text": "a"}
    return [
        {"type": "message_start", "message": {"role": "assistant", "stop_reason": None}},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        *events,
    ]


def _candidate(index: int, reason: str | None = None) -> dict[str, Any]:
    entry = {"index": index, "content": {"parts": [{"text": "a"}]}, "finishReason": reason}
    return {"candidates": [entry]}


@pytest.mark.parametrize(
    ("pieces", "status", "ended"),
    [
        (_message(), "partial", "unfinished"),
        (
            _message({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
            "success",
            None,
        ),
        (_message({"type": "message_stop"}), "success", None),
        (_message({"type": "message_delta", "delta": {"stop_reason": "refusal"}}), "blocked", None),
        (_message({"type": "error", "error": {"message": "x"}}), "failure", None),
        ([_candidate(0)], "partial", "unfinished"),
        ([_candidate(0, "STOP")], "success", None),
        ([_candidate(0), _candidate(1, "STOP")], "success", None),
        ([{"promptFeedback": {"blockReason": "SAFETY"}}], "blocked", None),
        ([{"choices": [{"index": 0, "delta": {"content": "a"}}]}], "success", None),
        ([b"bytes of a recording"], "success", None),
    ],
)
def test_an_answer_that_nobody_said_was_finished_is_partial(
    pieces: list[Any], status: str, ended: str | None
) -> None:
    verdict = fed(*pieces).whole().verdict
    assert (verdict.status, verdict.ended) == (status, ended)


def test_thousands_of_streamed_tool_calls_cost_as_much_each_as_a_few() -> None:
    def seconds(count: int) -> float:
        started = time.process_time()
        fed(
            *(
                {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": n, "id": f"t{n}"}]}}]}
                for n in range(count)
            )
        )
        return time.process_time() - started

    seconds(100)
    assert seconds(8_000) < 24 * max(seconds(1_000), 0.005)

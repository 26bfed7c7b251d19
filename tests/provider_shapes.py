"""Answers of unusual shape, as the wire has them: the loopback provider gives them for ``shape:<name>``.

Each shape is written down once, as it comes whole; `streamed` cuts it into the events of its protocol. Every
text that a model or a tool could have written holds ``CANARY``.
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

CANARY = "Kanarienvogel"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
WAV = b"RIFF" + bytes(range(256)) * 8
_PNG = base64.b64encode(PNG).decode()
_WAV = base64.b64encode(WAV).decode()

_SAFE = {"hate": {"filtered": False, "severity": "safe"}}
_HIT = {"violence": {"filtered": True, "severity": "high"}}

#: A choice of Chat Completions: its message, its reason to stop, its other entries.
CHAT: dict[str, tuple[Json, str, Json]] = {
    "broken": ({"content": f"half {CANARY}"}, "model_error", {}),
    "overloaded": ({"content": f"half {CANARY}"}, "insufficient_system_resource", {}),
    "refusal": ({"content": None, "refusal": f"I must not, {CANARY}."}, "stop", {}),
    "custom": (
        {
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "custom",
                    "custom": {"name": "sql", "input": f"select '{CANARY}'"},
                },
                {
                    "id": "c2",
                    "type": "function",
                    "function": {"name": "mail", "arguments": f'{{"to": "{CANARY}"}}'},
                },
            ],
        },
        "tool_calls",
        {},
    ),
    "unfinished": ({"content": f"half {CANARY}"}, None, {}),
    "audio": (
        {
            "content": None,
            "audio": {"id": "a1", "data": _WAV, "transcript": f"spoken {CANARY}", "expires_at": 1},
        },
        "stop",
        {},
    ),
    "image": (
        {
            "content": f"see {CANARY}",
            "images": [
                {
                    "type": "image_url",
                    "index": 0,
                    "image_url": {"url": f"data:image/png;base64,{_PNG}"},
                },
            ],
        },
        "stop",
        {},
    ),
    "reasoning": (
        {"content": f"42 {CANARY}", "reasoning_content": f"six by seven, {CANARY}"},
        "stop",
        {},
    ),
    "citation": (
        {
            "content": f"see {CANARY}",
            "annotations": [
                {
                    "type": "url_citation",
                    "url_citation": {
                        "url": f"https://{CANARY}.org",
                        "title": CANARY,
                        "start_index": 0,
                        "end_index": 3,
                    },
                },
            ],
        },
        "stop",
        {},
    ),
    "unknown": ({"content": None, "hologram": {"beam": f"blue {CANARY}"}}, "stop", {}),
    "beside": ({"content": f"text {CANARY}", "mood": f"cheerful {CANARY}"}, "stop", {}),
    "filtered": (
        {"content": f"half a {CANARY}"},
        "content_filter",
        {"content_filter_results": {**_SAFE, **_HIT}},
    ),
    "passed": ({"content": f"all of {CANARY}"}, "stop", {"content_filter_results": _SAFE}),
    "length": ({"content": f"too long, {CANARY}"}, "length", {}),
}

#: A response of the Responses API: its output, its other entries.
RESPONSES: dict[str, tuple[list[Json], Json]] = {
    "refusal": (
        [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": f"No, {CANARY}."}],
            }
        ],
        {},
    ),
    "custom": (
        [
            {
                "type": "custom_tool_call",
                "call_id": "c1",
                "name": "sql",
                "input": f"select '{CANARY}'",
            }
        ],
        {},
    ),
    "reasoning": (
        [
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": f"I think {CANARY}"}],
                "encrypted_content": "gAAA",
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": f"so {CANARY}", "annotations": []}],
            },
        ],
        {},
    ),
    "search": (
        [
            {
                "type": "web_search_call",
                "status": "completed",
                "action": {"type": "search", "query": f"who is {CANARY}"},
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [
                    {
                        "type": "output_text",
                        "text": f"it is {CANARY}",
                        "annotations": [
                            {
                                "type": "url_citation",
                                "url": f"https://{CANARY}.org",
                                "title": CANARY,
                                "start_index": 0,
                                "end_index": 2,
                            }
                        ],
                    }
                ],
            },
        ],
        {},
    ),
    "code": (
        [
            {
                "type": "code_interpreter_call",
                "status": "completed",
                "code": f"print('{CANARY}')",
                "container_id": "cntr_1",
                "outputs": [{"type": "logs", "logs": CANARY}],
            }
        ],
        {},
    ),
    "mcp": (
        [
            {
                "type": "mcp_call",
                "name": "lookup",
                "server_label": "crm",
                "arguments": f'{{"who": "{CANARY}"}}',
                "status": "completed",
                "output": CANARY,
                "error": None,
                "approval_request_id": None,
            }
        ],
        {},
    ),
    "image": ([{"type": "image_generation_call", "status": "completed", "result": _PNG}], {}),
    "unknown": ([{"type": "hologram", "status": "completed", "beam": f"blue {CANARY}"}], {}),
    "failed": (
        [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": f"half {CANARY}", "annotations": []}],
            }
        ],
        {"status": "failed", "error": {"code": "server_error", "message": f"broken {CANARY}"}},
    ),
    "failed_late": (
        [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": f"half {CANARY}", "annotations": []}],
            }
        ],
        {
            "status": "failed",
            "metadata": {"streams": "nothing"},
            "error": {"code": "server_error", "message": f"broken {CANARY}"},
        },
    ),
    "incomplete": (
        [
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": f"too {CANARY}", "annotations": []}],
            }
        ],
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    ),
    "filtered": ([], {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}),
    "cancelled": ([], {"status": "cancelled"}),
    "queued": ([], {"status": "queued", "background": True}),
    "working": ([], {"status": "in_progress", "background": True}),
}

#: A message of the Messages API: its content, its other entries.
MESSAGES: dict[str, tuple[list[Json], Json]] = {
    "thinking": (
        [
            {"type": "thinking", "thinking": f"hmm {CANARY}", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "ZW5jcnlwdGVk"},
            {"type": "text", "text": f"so {CANARY}"},
        ],
        {},
    ),
    "search": (
        [
            {
                "type": "server_tool_use",
                "id": "s1",
                "name": "web_search",
                "input": {"query": f"who is {CANARY}"},
            },
            {
                "type": "web_search_tool_result",
                "tool_use_id": "s1",
                "content": [
                    {
                        "type": "web_search_result",
                        "url": f"https://{CANARY}.org",
                        "title": CANARY,
                        "encrypted_content": "ZW5j",
                    },
                ],
            },
            {
                "type": "text",
                "text": f"it is {CANARY}",
                "citations": [
                    {
                        "type": "web_search_result_location",
                        "url": f"https://{CANARY}.org",
                        "cited_text": CANARY,
                        "encrypted_index": "ZW5j",
                    },
                ],
            },
        ],
        {},
    ),
    "tools": (
        [
            {"type": "text", "text": f"I ask {CANARY}"},
            {"type": "tool_use", "id": "t1", "name": "mail", "input": {"to": CANARY}},
        ],
        {"stop_reason": "tool_use"},
    ),
    "unknown": ([{"type": "hologram", "beam": f"blue {CANARY}"}], {}),
    "refusal": (
        [],
        {
            "stop_reason": "refusal",
            "stop_details": {"type": "refusal", "category": "bio", "explanation": f"no {CANARY}"},
        },
    ),
}

#: An answer of generateContent: the parts of its candidate, the candidate's other entries, those beside it.
GEMINI: dict[str, tuple[list[Json] | None, Json, Json]] = {
    "thought": (
        [
            {"text": f"hmm {CANARY}", "thought": True},
            {"text": f"so {CANARY}", "thoughtSignature": "c2ln"},
        ],
        {},
        {},
    ),
    "code": (
        [
            {"executableCode": {"language": "PYTHON", "code": f"print('{CANARY}')"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": CANARY}},
            {"text": f"ran {CANARY}"},
        ],
        {},
        {},
    ),
    "image": ([{"inlineData": {"mimeType": "image/png", "data": _PNG}}], {}, {}),
    "grounded": (
        [{"text": f"it is {CANARY}"}],
        {
            "groundingMetadata": {
                "webSearchQueries": [CANARY],
                "groundingChunks": [{"web": {"uri": f"https://{CANARY}.org"}}],
            }
        },
        {},
    ),
    "unknown": ([{"hologram": {"beam": f"blue {CANARY}"}}], {}, {}),
    "rated": (
        [{"text": f"mild {CANARY}"}],
        {"safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "MEDIUM"}]},
        {},
    ),
    "safety": (
        None,
        {
            "finishReason": "SAFETY",
            "finishMessage": f"not {CANARY}",
            "safetyRatings": [
                {"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH", "blocked": True}
            ],
        },
        {},
    ),
    "prompt": (
        None,
        {},
        {
            "promptFeedback": {
                "blockReason": "PROHIBITED_CONTENT",
                "blockReasonMessage": f"not {CANARY}",
            }
        },
    ),
}


def whole(route: str, shape: str) -> Json:
    """The answer of a shape as it comes whole."""
    if route == "chat/completions":
        message, finish, rest = CHAT[shape]
        choice = {
            "index": 0,
            "message": {"role": "assistant", **message},
            "finish_reason": finish,
            **rest,
        }
        usage = {
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "total_tokens": 30,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 6},
        }
        head = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "gpt-4o",
        }
        return {**head, "choices": [choice], "usage": usage}
    if route == "responses":
        output, rest = RESPONSES[shape]
        items = [{"id": f"item_{number}", **item} for number, item in enumerate(output)]
        return _response(items) | rest
    if route == "messages":
        content, rest = MESSAGES[shape]
        usage = {
            "input_tokens": 10,
            "output_tokens": 20,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 0,
        }
        head = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5",
            "content": content,
        }
        return {**head, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage, **rest}
    parts, rest, beside = GEMINI[shape]
    candidate = {"finishReason": "STOP", "index": 0, **rest}
    if parts is not None:
        candidate["content"] = {"role": "model", "parts": parts}
    usage = {
        "promptTokenCount": 10,
        "candidatesTokenCount": 20,
        "totalTokenCount": 36,
        "thoughtsTokenCount": 6,
    }
    top = {
        "usageMetadata": usage,
        "modelVersion": "gemini-2.5-flash",
        "responseId": "gem-1",
        **beside,
    }
    return top if "promptFeedback" in beside else {"candidates": [candidate], **top}


def _response(items: list[Json]) -> Json:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": "SYSTEM",
        "metadata": {},
        "model": "gpt-4o",
        "output": items,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": 10,
            "output_tokens": 20,
            "total_tokens": 30,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 6},
        },
    }


# -- the same, cut into events -----------------------------------------------------------------------


def streamed(route: str, shape: str) -> list[Json]:
    """The same answer as the events or chunks of its stream."""
    answer = whole(route, shape)
    if route == "chat/completions":
        return list(_chat_chunks(answer))
    if route == "responses":
        return list(_response_events(answer))
    if route == "messages":
        return list(_message_events(answer))
    return list(_gemini_chunks(answer))


def sse(route: str, shape: str) -> bytes:
    """The same as server-sent events."""
    end = b"data: [DONE]\n\n" if route == "chat/completions" else b""
    return events(streamed(route, shape)) + end


def events(given: list[Json]) -> bytes:
    """Server-sent events, named where they name their type."""
    frames = []
    for event in given:
        name = f"event: {event['type']}\n" if "type" in event else ""
        frames.append(f"{name}data: {json.dumps(event)}\n\n")
    return "".join(frames).encode()


def aws_events(given: list[Json]) -> bytes:
    """The frames of an AWS event stream: each event is ``{type: payload}``."""
    return b"".join(_aws_frame(kind, event[kind]) for event in given for kind in event)


def _aws_frame(kind: str, payload: Json) -> bytes:
    """Lengths, checksum, headers (a name, type 7 for a text, the text), payload, checksum; big-endian."""
    headers = b""
    told = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    for name, value in told.items():
        headers += struct.pack(f">B{len(name)}sBH", len(name), name.encode(), 7, len(value))
        headers += value.encode()
    body = json.dumps(payload).encode()
    frame = struct.pack(">II", len(headers) + len(body) + 16, len(headers))
    frame += struct.pack(">I", zlib.crc32(frame)) + headers + body
    return frame + struct.pack(">I", zlib.crc32(frame))


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _chat_chunks(answer: Json) -> Iterator[Json]:
    [choice] = answer["choices"]
    head = {name: answer[name] for name in ("id", "created", "model")} | {
        "object": "chat.completion.chunk"
    }

    def chunk(delta: Json, **rest: Any) -> Json:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None, **rest}]}

    yield chunk({"role": "assistant", "content": None})
    for name, value in choice["message"].items():
        if name in ("content", "refusal", "reasoning_content", "mood") and value:
            for half in _halves(value):
                yield chunk({name: half})
        elif name == "tool_calls":
            for index, call in enumerate(value):
                kind = call["type"]
                key = "input" if kind == "custom" else "arguments"
                first, second = _halves(call[kind][key])
                start = {"index": index, "id": call["id"], "type": kind}
                yield chunk({"tool_calls": [start | {kind: call[kind] | {key: first}}]})
                yield chunk({"tool_calls": [{"index": index, kind: {key: second}}]})
        elif name == "audio":
            yield chunk({"audio": {"id": value["id"], "transcript": value["transcript"]}})
            for half in _halves(value["data"]):
                yield chunk({"audio": {"id": value["id"], "data": half}})
            yield chunk({"audio": {"id": value["id"], "expires_at": 1}})
        elif value and name != "role":
            yield chunk({name: value})
    rest = {k: v for k, v in choice.items() if k not in ("index", "message", "finish_reason")}
    yield chunk({}, **rest) | {
        "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"], **rest}]
    }
    yield {**head, "choices": [], "usage": answer["usage"]}


def _response_events(answer: Json) -> Iterator[Json]:
    numbers = itertools.count()

    def event(kind: str, **data: Any) -> Json:
        return {"type": f"response.{kind}", "sequence_number": next(numbers), **data}

    opened = {
        **answer,
        "status": "in_progress",
        "output": [],
        "usage": None,
        "error": None,
        "incomplete_details": None,
    }
    yield event("created", response=opened)
    told = [] if answer["metadata"] else answer["output"]  # else all comes with the last event
    for index, item in enumerate(told):
        at: Json = {"output_index": index, "item_id": item["id"]}
        yield event(
            "output_item.added",
            output_index=index,
            item={k: v for k, v in item.items() if k in ("id", "type", "role", "name")},
        )
        if item["type"] == "custom_tool_call":
            for half in _halves(item["input"]):
                yield event("custom_tool_call_input.delta", **at, delta=half)
        for number, part in enumerate(item.get("content", ())):
            name = "refusal" if part["type"] == "refusal" else "text"
            yield event("content_part.added", **at, content_index=number, part={**part, name: ""})
            for half in _halves(part[name]):
                kind = "refusal" if name == "refusal" else "output_text"
                yield event(f"{kind}.delta", **at, content_index=number, delta=half)
            yield event("content_part.done", **at, content_index=number, part=part)
        for number, part in enumerate(item.get("summary", ())):
            for half in _halves(part["text"]):
                yield event("reasoning_summary_text.delta", **at, summary_index=number, delta=half)
        yield event("output_item.done", output_index=index, item=item)
    kind = {"in_progress": "incomplete", "queued": "incomplete"}.get(
        answer["status"], answer["status"]
    )
    yield event(kind, response=answer)


def _message_events(answer: Json) -> Iterator[Json]:
    usage = answer["usage"]
    opened = {**answer, "content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    opened.pop("stop_details", None)
    yield {"type": "message_start", "message": opened}
    for index, block in enumerate(answer["content"]):
        start, deltas = dict(block), []
        if block["type"] == "text":
            start["text"] = ""
            deltas = [{"type": "text_delta", "text": half} for half in _halves(block["text"])]
            deltas += [
                {"type": "citations_delta", "citation": one} for one in start.pop("citations", ())
            ]
        elif block["type"] == "thinking":
            start |= {"thinking": "", "signature": ""}
            deltas = [
                {"type": "thinking_delta", "thinking": half} for half in _halves(block["thinking"])
            ]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        elif "input" in block:
            start["input"] = {}
            deltas = [
                {"type": "input_json_delta", "partial_json": half}
                for half in _halves(json.dumps(block["input"]))
            ]
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {
        name: answer[name]
        for name in ("stop_reason", "stop_sequence", "stop_details")
        if name in answer
    }
    yield {"type": "message_delta", "delta": stop, "usage": usage}
    yield {"type": "message_stop"}


def _gemini_chunks(answer: Json) -> Iterator[Json]:
    top = {name: answer[name] for name in ("modelVersion", "responseId")}
    if "candidates" not in answer:
        yield answer
        return
    [candidate] = answer["candidates"]
    for part in candidate.get("content", {}).get("parts", ()):
        if "text" in part:
            for half in _halves(part["text"]):
                yield {
                    "candidates": [
                        {
                            "content": {"role": "model", "parts": [{**part, "text": half}]},
                            "index": 0,
                        }
                    ],
                    **top,
                }
        else:
            yield {
                "candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}],
                **top,
            }
    last = {name: value for name, value in candidate.items() if name != "content"}
    yield {"candidates": [last], "usageMetadata": answer["usageMetadata"], **top}

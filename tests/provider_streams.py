"""The streamed answers of the loopback provider: the server-sent events of three protocols."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from provider_answers import Json, Request, completion, error_body, message, response, response_item


class Stream(NamedTuple):
    """The server-sent events of an answer; what happens in the middle, happens between deltas."""

    head: bytes
    deltas: list[bytes]
    tail: bytes
    error: bytes


def sse(data: Json | str, event: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


def stream_completion(r: Request) -> Stream:
    """Stream a chat or text completion; usage in a last chunk, if it was asked for."""
    of_chat = r.route == "chat/completions"
    asked = (r.body.get("stream_options") or {}).get("include_usage", False)
    kind = "chat.completion.chunk" if of_chat else "text_completion"
    count = r.body.get("n") or 1

    def chunk(part: Json, finish: str | None = None) -> bytes:
        choice = {"finish_reason": finish} | ({"delta": part} if of_chat else part)
        choices = [{"index": i} | choice for i in range(count)]
        extra: Json = {"usage": None} if asked else {}
        return sse(completion(r, kind, choices) | extra)

    finish = "stop"
    if of_chat and r.tool:
        finish = "tool_calls"
        start = {"id": f"call_{r.id}", "type": "function"}
        calls: list[Json] = [
            start | {"index": 0, "function": {"name": r.tool, "arguments": ""}},
            {"index": 0, "function": {"arguments": '{"city": '}},
            {"index": 0, "function": {"arguments": '"Paris"}'}},
        ]
        deltas = [chunk({"role": "assistant", "tool_calls": [call]}) for call in calls]
    elif of_chat:
        first, *rest = r.pieces or [""]
        deltas = [chunk({"role": "assistant", "content": first})]
        deltas += [chunk({"content": piece}) for piece in rest]
    else:
        deltas = [chunk({"text": piece}) for piece in r.pieces]
    tail = chunk({} if of_chat else {"text": ""}, finish=finish)
    if (asked or "usagechunk" in r.words) and "nousage" not in r.words:
        tail += sse(completion(r, kind, []) | {"usage": r.usage()})
    return Stream(b"", deltas, tail + sse("[DONE]"), sse(error_body(r, 500)))


def stream_response(r: Request) -> Stream:
    numbers = itertools.count()

    def event(kind: str, **data: Any) -> bytes:
        return sse({"type": kind, "sequence_number": next(numbers)} | data, kind)

    item = response_item(r, "in_progress")
    at: Json = {"item_id": item["id"], "output_index": 0}
    head = event("response.created", response=response(r, "in_progress"))
    head += event("response.in_progress", response=response(r, "in_progress"))
    head += event("response.output_item.added", output_index=0, item=item)
    if r.tool:
        pieces = ['{"city": ', '"Paris"}']
        name, text = "function_call_arguments", {"arguments": "".join(pieces)}
        part = done = b""
    else:
        at["content_index"] = 0
        pieces, name, text = r.pieces, "output_text", {"text": r.answer}
        empty: Json = {"type": "output_text", "annotations": [], "logprobs": []}
        part = event("response.content_part.added", **at, part=empty | {"text": ""})
    deltas = [event(f"response.{name}.delta", **at, delta=piece) for piece in pieces]
    tail = event(f"response.{name}.done", **at, **text)
    if not r.tool:
        done = event("response.content_part.done", **at, part=empty | text)
    tail += done + event("response.output_item.done", output_index=0, item=response_item(r))
    final = response(r) | ({"usage": None} if "nousage" in r.words else {})
    tail += event("response.completed", response=final)
    return Stream(head + part, deltas, tail, event("error", **error_body(r, 500)))


def stream_message(r: Request) -> Stream:
    def event(kind: str, **data: Any) -> bytes:
        return sse({"type": kind} | data, kind)

    whole = message(r)
    block = whole["content"][0]
    start = block | ({"input": {}} if r.tool else {"text": ""})
    opened = whole | {"content": [], "stop_reason": None}
    opened["usage"] = whole["usage"] | {"output_tokens": 1}
    head = event("message_start", message=opened)
    head += event("content_block_start", index=0, content_block=start)
    if r.tool:
        parts = [{"type": "input_json_delta", "partial_json": p} for p in ('{"city": ', '"Paris"}')]
    else:
        parts = [{"type": "text_delta", "text": piece} for piece in r.pieces]
    deltas = [event("content_block_delta", index=0, delta=part) for part in parts]
    tail = event("content_block_stop", index=0)
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    tail += event("message_delta", delta=stop, usage=whole["usage"]) + event("message_stop")
    return Stream(head, deltas, tail, sse(error_body(r, 500), "error"))


STREAMED: dict[str, Callable[[Request], Stream]] = {
    "chat/completions": stream_completion,
    "completions": stream_completion,
    "responses": stream_response,
    "messages": stream_message,
}

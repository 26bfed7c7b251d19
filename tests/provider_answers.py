"""What the loopback provider reads in a request, and its plain answers to it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

CREATED = 1_700_000_000
AUDIO = b"ID3" + bytes(2045)
CATEGORIES = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")

_NUMBER = r"\d+(?:\.\d+)?"
_STEERING = re.compile(
    r"(?<!\S)(?:fail(?P<fail>[45]\d\d)|slow(?P<slow>" + _NUMBER + r")"
    r"|midslow(?P<midslow>(?:" + _NUMBER + r")?)|flaky(?P<flaky>\d+-\S+)|say:(?P<say>\S+)"
    r"|shape:(?P<shape>\S+)|lines:(?P<lines>\S+)"
    r"|long(?P<long>\d+)|tokens(?P<tokens>\d+/\d+)"
    r"|(?P<flag>policy400|drop|miderr|middrop|echo|calltool|nousage|usagechunk|flagme))(?!\S)"
)
_ids = itertools.count(1)


@dataclass
class Request:
    """A request, with the steering words of its text and what they make of the answer."""

    route: str
    body: Json
    model: str = ""
    text: str = ""
    words: dict[str, str] = field(default_factory=dict)
    id: str = ""

    def __post_init__(self) -> None:
        self.model = str(self.body.get("model") or "")
        for key in ("messages", "input", "prompt", "query", "contents"):
            if self.body.get(key):
                self.text = text_of(self.body[key])
                break
        for match in _STEERING.finditer(self.text):
            kind = match.lastgroup or ""
            self.words[match[kind] if kind == "flag" else kind] = match[kind]
        self.id = f"{next(_ids):08x}"

    @property
    def streamed(self) -> bool:
        return self.body.get("stream") in (True, "true")

    @property
    def tool(self) -> str | None:
        """The name of the tool to call, if this turn is to call one."""
        tools, turns = self.body.get("tools"), self.body.get("messages", self.body.get("input"))
        if "calltool" not in self.words or not tools or not turns:
            return None
        if isinstance(turns, list) and (turns[-1].get("role") != "user" or not text_of(turns[-1])):
            return None  # the tool's result follows: this turn answers in words
        return str(tools[0].get("function", tools[0])["name"])

    @property
    def pieces(self) -> list[str]:
        """The answer in the chunks of a stream."""
        if "long" in self.words:
            return [f"{' ' if i else ''}word{i}" for i in range(int(self.words["long"]))]
        answer = "hello world!"
        if "echo" in self.words:
            answer = self.model
        elif "say" in self.words:
            answer = self.words["say"]
        wanted = self.body.get("response_format") or (self.body.get("text") or {}).get("format")
        if isinstance(wanted, dict) and wanted.get("type", "").startswith("json"):
            answer = json.dumps({"answer": answer})
        elif answer == "hello world!":
            return ["hello", " wor", "ld!"]
        third = -(-len(answer) // 3)
        return [answer[i : i + third] for i in range(0, len(answer), third)]

    @property
    def answer(self) -> str:
        return "".join(self.pieces)

    def usage(self, prompt: str = "prompt_tokens", completion: str = "completion_tokens") -> Json:
        given, made = map(int, self.words.get("tokens", "10/2").split("/"))
        return {prompt: given, completion: made, "total_tokens": given + made}


def text_of(value: Any) -> str:
    """The text of a message, of its content parts, or of the last user message of a list."""
    if isinstance(value, dict):
        inner = value.get("content", value.get("parts")) if "role" in value else value.get("text")
        return text_of(inner or "")
    if not isinstance(value, list):
        return str(value or "")
    turns = [item for item in value if isinstance(item, dict) and "role" in item]
    if turns:
        texts = [text_of(turn) for turn in turns if turn["role"] == "user"]
        return next((text for text in reversed(texts) if text), text_of(turns[-1]))
    return " ".join(filter(None, map(text_of, value)))


def form(body: bytes) -> Json:
    """Give the text fields of a multipart body; the files are nobody's business."""
    fields = re.findall(rb'name="(\w+)"\r\n(?:[\w-]+:.*\r\n)*\r\n(.*)\r\n--', body)
    return {name.decode(): value.decode(errors="replace") for name, value in fields}


def chat(r: Request) -> Json:
    message: Json = {"role": "assistant", "content": r.answer}
    if r.tool:
        call = {"name": r.tool, "arguments": '{"city": "Paris"}'}
        message["tool_calls"] = [{"id": f"call_{r.id}", "type": "function", "function": call}]
        message["content"] = None
    choices = [
        {"index": i, "message": message, "finish_reason": "tool_calls" if r.tool else "stop"}
        for i in range(r.body.get("n") or 1)
    ]
    return completion(r, "chat.completion", choices) | {"usage": r.usage()}


def text_completion(r: Request) -> Json:
    choices = [
        {"index": i, "text": r.answer, "finish_reason": "stop", "logprobs": None}
        for i in range(r.body.get("n") or 1)
    ]
    return completion(r, "text_completion", choices) | {"usage": r.usage()}


def completion(r: Request, kind: str, choices: list[Json]) -> Json:
    name = "cmpl" if kind == "text_completion" else "chatcmpl"
    return {
        "id": f"{name}-{r.id}",
        "object": kind,
        "created": CREATED,
        "model": r.model,
        "choices": choices,
    }


def response(r: Request, status: str = "completed") -> Json:
    done = status == "completed"
    return {
        "id": f"resp_{r.id}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": r.model,
        "output": [response_item(r)] if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": r.body.get("tools") or [],
        "top_p": 1.0,
        "usage": r.usage("input_tokens", "output_tokens")
        | {"input_tokens_details": {"cached_tokens": 0}}
        | {"output_tokens_details": {"reasoning_tokens": 0}}
        if done
        else None,
    }


def response_item(r: Request, status: str = "completed") -> Json:
    done = status == "completed"
    if r.tool:
        arguments = '{"city": "Paris"}' if done else ""
        call = {"call_id": f"call_{r.id}", "name": r.tool, "arguments": arguments}
        return {"type": "function_call", "id": f"fc_{r.id}", "status": status} | call
    part = {"type": "output_text", "text": r.answer, "annotations": [], "logprobs": []}
    item = {"type": "message", "id": f"msg_{r.id}", "role": "assistant", "status": status}
    return item | {"content": [part] if done else []}


def message(r: Request) -> Json:
    if r.tool:
        call = {"type": "tool_use", "id": f"toolu_{r.id}", "name": r.tool}
        content: list[Json] = [call | {"input": {"city": "Paris"}}]
    else:
        content = [{"type": "text", "text": r.answer}]
    usage = r.usage("input_tokens", "output_tokens")
    del usage["total_tokens"]
    return {
        "id": f"msg_{r.id}",
        "type": "message",
        "role": "assistant",
        "model": r.model,
        "content": content,
        "stop_reason": "tool_use" if r.tool else "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }


def embeddings(r: Request) -> Json:
    inputs = r.body.get("input")
    count = len(inputs) if isinstance(inputs, list) else 1
    vector = {"object": "embedding", "embedding": [0.1, 0.2, 0.3]}
    given = r.usage()["prompt_tokens"]
    return {
        "object": "list",
        "model": r.model,
        "data": [vector | {"index": i} for i in range(count)],
        "usage": {"prompt_tokens": given, "total_tokens": given},
    }


def images(r: Request) -> Json:
    image = {"url": "http://127.0.0.1/image.png", "b64_json": None, "revised_prompt": None}
    return {"created": CREATED, "data": [image] * int(r.body.get("n") or 1)}


def transcription(r: Request) -> Json:
    return {"task": "transcribe", "language": "english", "duration": 1.0, "text": r.answer}


def speech(r: Request) -> bytes:
    return AUDIO


def moderations(r: Request) -> Json:
    flagged = "flagme" in r.words
    result = {
        "flagged": flagged,
        "categories": dict.fromkeys(CATEGORIES, flagged),
        "category_scores": dict.fromkeys(CATEGORIES, 0.9 if flagged else 0.1),
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }
    return {"id": f"modr-{r.id}", "model": r.model or "omni-moderation-latest", "results": [result]}


def rerank(r: Request) -> Json:
    documents = r.body.get("documents") or []
    results: list[Json] = [
        {"index": i, "relevance_score": round(0.9 - 0.1 * i, 3)} for i in range(len(documents))
    ]
    if r.body.get("return_documents"):
        for result, document in zip(results, documents, strict=True):
            result["document"] = {"text": text_of(document)}
    return {
        "id": f"rerank-{r.id}",
        "results": results[: r.body.get("top_n")],
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        "usage": {"total_tokens": r.usage()["prompt_tokens"]},
    }


def error_body(r: Request, status: int) -> Json:
    kind = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
    code = "content_policy_violation" if "policy400" in r.words else str(status)
    error = {"type": kind.get(status, "server_error"), "message": f"as told: {code}", "code": code}
    if r.route == "messages":
        return {"type": "error", "error": error}
    return {"error": error | {"param": None}}


PLAIN: dict[str, Callable[[Request], Json | bytes]] = {
    "chat/completions": chat,
    "completions": text_completion,
    "responses": response,
    "messages": message,
    "messages/count_tokens": lambda r: {"input_tokens": r.usage()["prompt_tokens"]},
    "embeddings": embeddings,
    "images/generations": images,
    "images/edits": images,
    "images/variations": images,
    "audio/transcriptions": transcription,
    "audio/translations": transcription,
    "audio/speech": speech,
    "moderations": moderations,
    "rerank": rerank,
}

"""Pieces: what has come of a streamed answer so far, whatever kind of chunk LiteLLM hands on.

Holds text that was copied out of the chunks, never a chunk, the stream, or what belongs to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ...content import ContentPolicy, label
from ...logs import guarded
from ...records.call import Answer
from .answered import (
    Answered,
    Price,
    cost_of,
    genai_candidate,
    get,
    of_choices,
    usage_in,
    usage_of,
)

__all__ = ["Pieces"]


class Pieces:
    """One streamed answer in the making."""

    __slots__ = (
        "_buffer",
        "_choices",
        "_last_hidden",
        "_model",
        "_price",
        "_usage",
        "cached",
        "facts",
        "failure",
    )

    def __init__(self, price: Price) -> None:
        self._price = price
        self._choices: dict[int, Answered] = {}
        self._usage: Any = None
        self._model = ""
        self._buffer = b""
        #: LiteLLM's notes on the last chunk, a mapping that it completes after the stream's end.
        self._last_hidden: Any = None
        self.cached = False
        self.facts: dict[str, Any] = {}
        #: What a provider said went wrong in a stream that ends as if nothing had.
        self.failure: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the model has said, for each choice, that it had finished."""
        return bool(self._choices) and all(choice.finish for choice in self._choices.values())

    def feed(self, chunk: Any) -> None:
        """Take over what one chunk brings. An error in here must not reach the chunk's reader."""
        if isinstance(chunk, bytes | str):
            self._frames(chunk.encode() if isinstance(chunk, str) else chunk)
        else:
            self._take(chunk)

    def begin(self, stream: Any) -> None:
        """Take what the stream tells before its first chunk."""
        with guarded("litellm.stream"):
            provider = get(stream, "custom_llm_provider")
            self.cached = provider == "cached_response"
            hidden = get(stream, "_hidden_params")
            for name in ("litellm_call_id", "api_base", "model_id"):
                if value := get(hidden, name):
                    self.facts[name] = label(value)

    def finish(self, stream: Any = None) -> None:
        """Take what LiteLLM adds behind the last chunk: usage that was sent but not asked for.

        It adds its own estimate where none was sent. The chunks as they came, which the stream has kept, tell.
        """
        chunks = get(stream, "chunks")
        sent = not isinstance(chunks, list) or any(get(chunk, "usage") for chunk in chunks)
        if sent and self._usage is None and self._last_hidden is not None:
            self._take_usage(get(self._last_hidden, "usage"))
        self._last_hidden = None

    def answer(self, policy: ContentPolicy) -> Answer:
        """Return what has come, as ``policy`` lets it be sealed."""
        tokens_in, tokens_out = usage_of(self._usage)
        cost: Decimal | None = None
        if self.cached:
            cost = Decimal(0)
        elif tokens_in is not None or tokens_out is not None:
            cost = cost_of(get(self._usage, "cost"))
            if cost is None:
                cost = cost_of(self._price(self._model, self._usage))
        choices = [choice for _, choice in sorted(self._choices.items())] or [Answered()]
        result, finish = of_choices(choices, policy)
        environment = dict(self.facts)
        if self._model:
            environment["response_model"] = label(self._model)
        if finish:
            environment["finish_reason"] = label(finish)
        if self.cached:
            environment["cache_hit"] = True
        return Answer(
            result=result,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_usd=cost,
            environment=environment,
        )

    def _take(self, chunk: Any) -> None:
        if get(chunk, "choices") is not None:
            self._chat(chunk)
        elif get(chunk, "candidates") is not None or get(chunk, "usageMetadata") is not None:
            self._candidates(chunk)
        else:
            self._event(chunk)

    def _choice(self, index: Any) -> Answered:
        return self._choices.setdefault(index if isinstance(index, int) else 0, Answered())

    def _chat(self, chunk: Any) -> None:
        """Chat and text completion chunks."""
        self._last_hidden = get(chunk, "_hidden_params")
        model = get(chunk, "model")
        if isinstance(model, str) and model:
            self._model = model
        self._take_usage(get(chunk, "usage"))
        for item in get(chunk, "choices") or ():
            choice = self._choice(get(item, "index"))
            delta = get(item, "delta")
            choice.text(get(delta, "content") if delta is not None else get(item, "text"))
            for call in get(delta, "tool_calls") or ():
                function = get(call, "function")
                choice.tool(get(call, "index"), get(function, "name"), get(function, "arguments"))
            legacy = get(delta, "function_call")
            if legacy is not None:
                choice.tool("function_call", get(legacy, "name"), get(legacy, "arguments"))
            finish = get(item, "finish_reason")
            if finish:
                choice.finish = str(finish)

    def _candidates(self, chunk: Any) -> None:
        """Chunks of the Gemini API."""
        self._take_usage(usage_in(chunk))
        for item in get(chunk, "candidates") or ():
            genai_candidate(item, self._choice(get(item, "index")))

    def _event(self, event: Any) -> None:
        """Events of the Responses API, and those of the Messages API as mappings."""
        kind = get(event, "type")
        kind = str(getattr(kind, "value", kind))
        if kind == "response.output_text.delta":
            self._choice(0).text(get(event, "delta"))
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            response = get(event, "response")
            self._take_usage(get(response, "usage"))
            self._model = str(get(response, "model") or self._model)
            self._choice(0).finish = kind.removeprefix("response.")
            for index, item in enumerate(get(response, "output") or ()):
                if get(item, "type") == "function_call":
                    self._choice(0).tool(index, get(item, "name"), get(item, "arguments"))
            if kind == "response.failed":
                self.failure = str(get(get(response, "error"), "message") or "response failed")
        elif kind == "content_block_start":
            block = get(event, "content_block")
            if get(block, "type") == "tool_use":
                self._choice(0).tool(get(event, "index"), get(block, "name"), "")
            self._choice(0).text(get(block, "text"))
        elif kind == "content_block_delta":
            delta = get(event, "delta")
            self._choice(0).text(get(delta, "text"))
            if get(delta, "type") == "input_json_delta":
                self._choice(0).tool(get(event, "index"), None, get(delta, "partial_json"))
        elif kind == "message_start":
            message = get(event, "message")
            self._model = str(get(message, "model") or self._model)
            self._take_usage(get(message, "usage"))
        elif kind == "message_delta":
            stop = get(get(event, "delta"), "stop_reason")
            self._choice(0).finish = str(stop) if stop else self._choice(0).finish
            self._take_usage(get(event, "usage"))
        elif kind == "error":
            error = get(event, "error")
            self.failure = str(get(error, "message") or error or "the provider reported an error")

    def _frames(self, data: bytes) -> None:
        """Raw server-sent events, cut anywhere: whole frames are read, the rest is kept for the next."""
        *frames, self._buffer = (self._buffer + data).replace(b"\r\n", b"\n").split(b"\n\n")
        for frame in frames:
            lines = [line[5:].strip() for line in frame.split(b"\n") if line.startswith(b"data:")]
            try:
                event = json.loads(b"\n".join(lines)) if lines else None
            except ValueError:
                continue
            if isinstance(event, dict):
                self._take(event)

    def _take_usage(self, usage: Any) -> None:
        """Keep the fullest report: the Messages API counts input first and output at the end."""
        found = usage_of(usage)
        if found == (None, None):
            return
        if isinstance(usage, Mapping) and isinstance(self._usage, Mapping):
            usage = {**self._usage, **{name: value for name, value in usage.items() if value}}
        self._usage = usage

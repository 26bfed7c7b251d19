"""Blocks: whatever names its own ``type`` in an answer (a block, a part, an item) -> what it says.

Chat Completions, Responses, Messages and Interactions share these; where two formats use one name they mean
the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from .choice import Choice
from .reading import NOISE, Taken, texts_in, word

__all__ = ["is_of_tool", "read_block", "read_reasoning"]

#: What a provider's own tools are called, those to come as well: ``web_search_call``, ``x_tool_result``.
_RAN: Final = re.compile(
    r"\w+_(call|call_output|tool_use|tool_result|approval_request|result)|mcp_\w+"
)
_NOISE: Final = NOISE | {"status", "logprobs"}


def read_block(choice: Choice, value: Any) -> None:
    """Add what one block says."""
    if isinstance(value, str):
        choice.say("text", value)
        return
    entry = Taken(value)
    kind = word(entry.take("type"))
    handler = _HANDLERS.get(kind)
    if handler is None and not kind and ("text" in entry.left or "content" in entry.left):
        handler = _message if "content" in entry.left else _text
    if handler is not None:
        handler(choice, entry)
    elif _RAN.fullmatch(kind):
        _ran(choice, entry, kind)
    elif kind or entry.left:
        choice.unknown(kind or "block", dict(entry.rest()) or kind)
        return
    elif value is not None:
        choice.unknown("block", value)
    choice.rest(entry.rest(_NOISE), of=kind)


def is_of_tool(kind: Any) -> bool:
    """Tell whether a block of this type is about a tool that the provider runs."""
    return isinstance(kind, str) and bool(_RAN.fullmatch(kind)) and kind not in _HANDLERS


def read_reasoning(choice: Choice, value: Any) -> None:
    """Add what a model says of its thinking: a text, or parts of one."""
    texts = texts_in(value)
    if not texts:
        choice.unknown("reasoning", value)
    for text in texts:
        choice.say("reasoning", text)


def _text(choice: Choice, entry: Taken) -> None:
    choice.say("text", entry.take("text"))
    choice.cite(entry.take("annotations"))
    choice.cite(entry.take("citations"))


def _refusal(choice: Choice, entry: Taken) -> None:
    choice.say("refusal", entry.take("refusal"))


def _thinking(choice: Choice, entry: Taken) -> None:
    read_reasoning(choice, entry.take("thinking", "text"))


def _reasoning(choice: Choice, entry: Taken) -> None:
    """Reasoning has a summary, its own words, or both; encrypted, it is opaque to all but the provider."""
    for name in ("summary", "content", "text", "reasoning"):
        held = entry.take(name)
        if held is not None:
            read_reasoning(choice, held)


def _redacted(choice: Choice, entry: Taken) -> None:
    data = entry.take("data")
    size = len(data) if isinstance(data, str | bytes) else None
    choice.unknown("redacted_thinking", {"characters": size})


def _message(choice: Choice, entry: Taken) -> None:
    content = entry.take("content")
    for part in content if isinstance(content, list | tuple) else [content]:
        read_block(choice, part)


def _function_call(choice: Choice, entry: Taken) -> None:
    choice.tool(entry.take("name"), entry.take("arguments", "input"))


def _custom_call(choice: Choice, entry: Taken) -> None:
    choice.tool(entry.take("name"), entry.take("input", "arguments"), "custom")


def _tool_use(choice: Choice, entry: Taken) -> None:
    given, streamed = entry.take("input"), entry.take("input_json")
    choice.tool(entry.take("name"), given if streamed is None else streamed)


def _image(choice: Choice, entry: Taken) -> None:
    choice.show(dict(entry.rest()))
    entry.left.clear()


def _made_image(choice: Choice, entry: Taken) -> None:
    choice.show({"b64_json": entry.take("result")})
    _ran(choice, entry, "image_generation_call")


def _audio(choice: Choice, entry: Taken) -> None:
    choice.hear(entry.take("audio", "output_audio", "input_audio") or dict(entry.rest()))
    entry.left.clear()


def _ran(choice: Choice, entry: Taken, kind: str) -> None:
    streamed = entry.take("input_json")
    if streamed is not None:
        entry.left["input"] = streamed
    choice.ran(kind, dict(entry.rest()))
    entry.left.clear()


_HANDLERS: Final[dict[str, Callable[[Choice, Taken], None]]] = {
    "text": _text,
    "output_text": _text,
    "refusal": _refusal,
    "thinking": _thinking,
    "reasoning": _reasoning,
    "reasoning_text": _reasoning,
    "summary_text": _reasoning,
    "thought": _reasoning,
    "redacted_thinking": _redacted,
    "message": _message,
    "model_output": _message,
    "function_call": _function_call,
    "custom_tool_call": _custom_call,
    "tool_use": _tool_use,
    "image": _image,
    "image_url": _image,
    "output_image": _image,
    "input_image": _image,
    "image_generation_call": _made_image,
    "audio": _audio,
    "output_audio": _audio,
    "input_audio": _audio,
}

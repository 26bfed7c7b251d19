"""Dropped: what a provider streams and LiteLLM does not hand on.

LiteLLM makes chunks of its own out of those that a provider sends, and leaves out what it has no place
for: from a Chat Completions stream a refusal, for one. Its caller then reads an empty answer; the capsule says
what the model said.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ...calls.answers.reading import fields, is_void
from ...logs import report

__all__ = ["watch"]

#: LiteLLM's method that makes a chunk for the caller of one from the provider; ``None`` where it makes none.
_MAKES = "chunk_creator"

#: What it hands on, under this name or another, at once or later.
_HANDED_ON = frozenset(
    {
        "annotations", "audio", "content", "delta", "finish_reason", "function_call", "images", "index",
        "logprobs", "message", "native_finish_reason", "provider_specific_fields", "reasoning",
        "reasoning_content", "reasoning_details", "reasoning_items", "role", "stop_reason", "text",
        "thinking_blocks", "tool_calls",
    }
)  # fmt: skip


def watch(stream: Any, feed: Callable[[Any], None]) -> None:
    """Have ``feed`` take over what a stream of LiteLLM's drops from its provider's chunks."""
    if not callable(getattr(type(stream), _MAKES, None)) or not hasattr(stream, "__dict__"):
        return
    itself = weakref.ref(stream)  # not the stream: it is to die with its last reader

    def chunk_creator(*args: Any, **kwargs: Any) -> Any:
        held = itself()
        made = getattr(type(held), _MAKES)(held, *args, **kwargs)
        try:
            for raw in (*args, *kwargs.values()):
                _compare(raw, made, feed)
        except Exception as error:  # noqa: BLE001 - as `guarded`, for less at each chunk
            report("litellm.stream.dropped", error)
        return made

    stream.__dict__[_MAKES] = chunk_creator


def _compare(raw: Any, made: Any, feed: Callable[[Any], None]) -> None:
    choices = fields(raw).get("choices")
    if not isinstance(choices, list):
        return
    handed = fields(made).get("choices")
    for number, choice in enumerate(choices):
        entries = fields(choice)
        of_delta, of_choice = _rare(fields(entries.get("delta"))), _rare(entries)
        if not of_delta and not of_choice:
            continue
        passed = fields(handed[number]) if isinstance(handed, list) and number < len(handed) else {}
        of_delta = _without(of_delta, fields(passed.get("delta")))
        of_choice = _without(of_choice, passed)
        if of_delta or of_choice:
            index = entries.get("index")
            feed({"choices": [{"index": index, "delta": of_delta, **of_choice}]})


def _rare(entries: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in entries.items()
        if value is not None and name not in _HANDED_ON and not is_void(value)
    }


def _without(entries: dict[str, Any], passed: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: value for name, value in entries.items() if is_void(passed.get(name))}

"""Dropped: what a provider streams and LiteLLM does not hand on.

LiteLLM makes chunks of its own out of those that a provider sends, and leaves out what it has no place
for: from a Chat Completions stream a refusal, for one. Its caller then reads an empty answer; the capsule says
what the model said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...calls.answers.chat import is_plain
from ...calls.answers.reading import fields, is_void

__all__ = ["compare"]

#: What it hands on, under this name or another, at once or later.
_HANDED_ON = frozenset(
    {
        "annotations", "audio", "content", "delta", "finish_reason", "function_call", "images", "index",
        "logprobs", "message", "native_finish_reason", "provider_specific_fields", "reasoning",
        "reasoning_content", "reasoning_details", "reasoning_items", "role", "stop_reason", "text",
        "thinking_blocks", "tool_calls",
    }
)  # fmt: skip


def compare(raw: Any, made: Any, feed: Callable[[Any], None]) -> None:
    """Have ``feed`` take over what LiteLLM has dropped from a chunk.

    Args:
        raw: a chunk from the provider.
        made: the chunk that LiteLLM has made of it for its caller; ``None`` where it makes none.
        feed: takes over a chunk of what is missing.

    """
    choices = fields(raw).get("choices")
    if not isinstance(choices, list):
        return
    handed = fields(made).get("choices")
    for number, choice in enumerate(choices):
        entries = fields(choice)
        of_delta, of_choice = _rare(fields(entries.get("delta"))), _rare(entries)
        reason = entries.get("finish_reason")
        if isinstance(reason, str) and not is_plain(reason):
            # LiteLLM hands a usual one on in its place: `stop` for `error`, and for any that it does not know
            of_choice["sent_finish_reason"] = reason
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

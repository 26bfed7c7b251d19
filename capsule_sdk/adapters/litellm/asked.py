"""What was asked: the arguments of a LiteLLM call -> the facts of its request."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import litellm

from ...content import ContentPolicy, canonical, digest, label, safe
from ...records.attribution import NOBODY, Attribution
from ...records.call import Request

__all__ = ["attribution_of", "is_private", "request_of"]

#: Where the prompt of a call stands, by the first of these arguments that it has.
PROMPTS = ("messages", "input", "prompt", "query", "contents", "file", "image", "document")


def request_of(call_type: str, given: Mapping[str, Any], policy: ContentPolicy) -> Request:
    """Return the request that these arguments of the entry point ``call_type`` make."""
    prompt = next((given[name] for name in PROMPTS if given.get(name) is not None), None)
    messages = prompt if isinstance(prompt, list) else [] if prompt is None else [prompt]
    model = label(given.get("model") or "unknown")
    environment: dict[str, Any] = {"stream": bool(given.get("stream"))}
    provider = given.get("custom_llm_provider") or (
        model.split("/", 1)[0] if "/" in model else None
    )
    for name, value in (
        ("provider", provider),
        ("litellm_call_id", given.get("litellm_call_id")),
        ("litellm_trace_id", given.get("litellm_trace_id")),
        ("model_group", _mapping(given.get("metadata")).get("model_group")),
    ):
        if value:
            environment[name] = label(value)
    return Request(
        call_type=call_type,
        model=model,
        text=policy.text(last_user_text(prompt)),
        prompt_hash=None if policy.mode == "omit" else prompt_hash(prompt),
        message_count=len(messages),
        environment=environment,
    )


def prompt_hash(prompt: Any) -> str:
    """Return SHA3-256 over the canonical JSON (CPS 2) of all messages.

    The JSON is that of the values as they are, as `capsule_litellm` hashed them, so that old hashes compare;
    objects in it (a message that a model returned) count as their fields.
    """
    try:
        text = json.dumps(
            prompt, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_fields
        )
    except (TypeError, ValueError, RecursionError):
        text = canonical(safe(prompt))
    return digest(text)


def _fields(value: Any) -> Any:
    if isinstance(
        value, io.BytesIO
    ):  # a recording, of which the file's reader is to notice nothing
        return safe(value.getvalue())
    dump: Callable[[], Any] | None = getattr(value, "model_dump", None)
    return dump() if callable(dump) else safe(value)


def last_user_text(prompt: Any) -> str:
    """Return the last message of the user as text; a prompt that has no messages is all the user's."""
    if isinstance(prompt, str):
        return prompt
    if (file := _file(prompt)) is not None:
        return f"[{file}]"
    if not isinstance(prompt, list | tuple):
        return "" if prompt is None else label(prompt)
    if all(isinstance(item, str) for item in prompt):
        return "\n".join(prompt)
    for message in reversed(prompt):
        if _field(message, "role") == "user":
            content = _field(message, "content")
            return _text_of(_field(message, "parts") if content is None else content)
    return ""


def _file(prompt: Any) -> str | None:
    """Name a file, which LiteLLM takes as bytes, as an open one, or as (name, content, type)."""
    if isinstance(prompt, bytes | bytearray):
        return f"{len(prompt)} bytes"
    if isinstance(prompt, tuple):
        name = prompt[0] if len(prompt) > 1 and not isinstance(prompt[1], str) else None
    else:
        name = getattr(prompt, "name", None) if hasattr(prompt, "read") else None
    return label(name) if isinstance(name, str) else None


def _text_of(content: Any) -> str:
    """Return the texts of a message's content; what is not a text is named by its kind."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        return "" if content is None else label(content)
    parts = []
    for part in content:
        text = part if isinstance(part, str) else _field(part, "text")
        parts.append(
            text if isinstance(text, str) else f"[{label(_field(part, 'type') or 'part')}]"
        )
    return "\n".join(parts)


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def attribution_of(given: Mapping[str, Any], around: Attribution = NOBODY) -> Attribution:
    """Return session, user and correlation as the call's own arguments and metadata name them.

    Never an agent, never an authority: metadata may come from outside. A Router gives each call a trace id
    if it has none; so among its calls that id says nothing against the correlation of the scopes ``around``.
    """
    metadata = {**_mapping(given.get("litellm_metadata")), **_mapping(given.get("metadata"))}
    session = metadata.get("session_id") or given.get("litellm_session_id")
    user = given.get("user") or metadata.get("user_id") or metadata.get("trace_user_id")
    trace = given.get("litellm_trace_id")
    if "model_group" in metadata and around.correlation_id is not None:
        trace = None
    correlation = metadata.get("correlation_id") or trace or metadata.get("trace_id")
    if not (session or user or correlation):
        return NOBODY
    return Attribution(
        session_id=_name(session), user_id=_name(user), correlation_id=_name(correlation)
    )


def _name(value: Any) -> str | None:
    return label(value) if value else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def is_private(given: Mapping[str, Any]) -> bool:
    """Tell whether LiteLLM has been told not to log the texts of this call, or the call at all.

    ``litellm.turn_off_message_logging``, the argument of that name, and ``no-log``: the capsule is made all
    the same, without the texts.
    """
    own = given.get("turn_off_message_logging")
    if own is not None:
        return bool(own) or bool(given.get("no-log"))
    return bool(litellm.turn_off_message_logging or given.get("no-log"))

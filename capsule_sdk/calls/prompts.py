"""What a prompt says: its last user message as text, and the roles of its messages, of every wire format.

OpenAI's chat, Responses and text completions, Anthropic's Messages, Gemini's contents; what is none of them
is named by its kind. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..content import JSON, label
from .objects import get

__all__ = ["last_user_text", "roles_of"]

#: Roles that are listed one by one; of a longer conversation only how many of each, and the last ones.
LISTED, LAST = 32, 8
_COMMON = ("assistant", "developer", "function", "model", "system", "tool", "user")


def roles_of(prompt: Any, *, before: Iterable[str] = (), is_chat: bool = True) -> JSON:
    """Return the roles of the messages, in order; of a long conversation their numbers and the last ones.

    Args:
        prompt: the messages; an item of the Responses API without a role counts by its type.
        before: roles of what stands beside the messages and comes before them (``system=``).
        is_chat: whether a bare text is a message of the user's.

    Returns:
        A list; with more than 32 ``{"counts": {role: number}, "last": [the last 8]}``; ``None`` where
        nothing has a role.

    """
    items = prompt if isinstance(prompt, list | tuple) else [prompt]
    roles = list(before)
    for item in items:
        if type(item) is dict and (role := item.get("role")) in _COMMON:
            roles.append(role)
            continue
        role = "user" if isinstance(item, str) else get(item, "role") or get(item, "type")
        if isinstance(role, str) and (is_chat or not isinstance(item, str)):
            roles.append(label(role, limit=64))
    if not roles:
        return None
    if len(roles) <= LISTED:
        return list(roles)
    counts: dict[str, JSON] = dict(Counter(roles).most_common(LISTED))
    return {"counts": counts, "last": list(roles[-LAST:])}


def last_user_text(prompt: Any) -> str:
    """Return the last message of the user as text; a prompt that has no messages is all the user's."""
    if isinstance(prompt, str):
        return prompt
    if type(prompt) is not list and (file := _file(prompt)) is not None:
        return f"[{file}]"
    if not isinstance(prompt, list | tuple):
        return "" if prompt is None else label(prompt)
    if not prompt or (isinstance(prompt[0], str) and all(isinstance(item, str) for item in prompt)):
        return "\n".join(prompt)
    for message in reversed(prompt):
        if get(message, "role") == "user":
            content = get(message, "content")
            return _text_of(get(message, "parts") if content is None else content)
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
        text = part if isinstance(part, str) else get(part, "text")
        parts.append(text if isinstance(text, str) else f"[{label(get(part, 'type') or 'part')}]")
    return "\n".join(parts)

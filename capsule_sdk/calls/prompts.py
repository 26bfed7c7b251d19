"""What a prompt says: its last user message as text, and the roles of its messages, of every wire format.

OpenAI's chat, Responses and text completions, Anthropic's Messages, Gemini's contents; what is none of them
is named by its kind. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ..content import JSON, instance, label
from .objects import get, items_of

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
    items = items_of(prompt)
    items = [prompt] if items is None else items
    roles = list(before)
    for item in items:
        if type(item) is dict and type(role := item.get("role")) is str and role in _COMMON:
            roles.append(role)
            continue
        is_text = instance(item, str)
        role = "user" if is_text else get(item, "role")
        role = get(item, "type") if role is None else role
        if instance(role, str) and (is_chat or not is_text):
            roles.append(label(role, limit=64))
    if not roles:
        return None
    if len(roles) <= LISTED:
        return list(roles)
    counts: dict[str, JSON] = dict(Counter(roles).most_common(LISTED))
    return {"counts": counts, "last": list(roles[-LAST:])}


def last_user_text(prompt: Any) -> str:
    """Return the last message of the user as text; a prompt that has no messages is all the user's."""
    if instance(prompt, str):
        return str.__str__(prompt)
    if type(prompt) is not list and (file := _file(prompt)) is not None:
        return f"[{file}]"
    items = items_of(prompt)
    if items is None:
        return "" if prompt is None else label(prompt)
    if all(instance(item, str) for item in items):
        return "\n".join(items)
    for message in reversed(items):
        role = get(message, "role")
        if instance(role, str) and str.__eq__(role, "user"):
            content = get(message, "content")
            return _text_of(get(message, "parts") if content is None else content)
    return ""


def _file(prompt: Any) -> str | None:
    """Name a file, which LiteLLM takes as bytes, as an open one, or as (name, content, type)."""
    if instance(prompt, (bytes, bytearray)):
        return f"{len(prompt)} bytes"
    items = items_of(prompt)
    if items is not None:
        name = items[0] if len(items) > 1 and not instance(items[1], str) else None
    else:
        name = getattr(prompt, "name", None) if hasattr(prompt, "read") else None
    return label(name) if instance(name, str) else None


def _text_of(content: Any) -> str:
    """Return the texts of a message's content; what is not a text is named by its kind."""
    if instance(content, str):
        return str.__str__(content)
    items = items_of(content)
    if items is None:
        return "" if content is None else label(content)
    parts = []
    for part in items:
        text = part if instance(part, str) else get(part, "text")
        parts.append(text if instance(text, str) else f"[{label(get(part, 'type') or 'part')}]")
    return "\n".join(parts)

"""Errors: where the body of an answer says that it is one, whatever its HTTP status. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["BODY", "error_in"]

#: Characters of a body that are read.
BODY: Final = 1 << 20
#: Where a body has its error, in the order in which they are believed.
_PLACES: Final = ("error", "errors", "detail", "details", "message", "msg", "error_message")
#: Those that are an error only as text, and in a body that has no answer.
_WORDS: Final = frozenset({"message", "msg"})
#: Entries of an answer that is one; its ``message`` is no error.
_ANSWERS: Final = frozenset(
    {"candidates", "choices", "content", "data", "embeddings", "output", "result", "results"}
)


def error_in(body: Any) -> Any:
    """Return the error that the body of an answer holds, or consists of; ``None`` where there is none."""
    if isinstance(body, str):
        body = _json(body)
    if not isinstance(body, Mapping):
        return None
    for name in _PLACES:
        found = body.get(name)
        if name in _WORDS and (not isinstance(found, str) or any(map(body.get, _ANSWERS))):
            continue
        if name == "details" and not isinstance(found, str):
            continue
        if found:
            return found[0] if isinstance(found, list) and len(found) == 1 else found
    return None


def _json(text: str) -> Any:
    if text[:1] != "{" or len(text) > BODY:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None

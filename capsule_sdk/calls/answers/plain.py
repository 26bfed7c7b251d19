"""Plain: the short way for the commonest answer, one choice of Chat Completions that is one text and no more.

It only says that an answer is so; what is the least bit more goes the long way (`whole`), and what both say of
a plain one is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .chat import CHOICE_NOISE, ECHOES
from .reading import NOISE, fields

__all__ = ["plain_text"]

_TOP: Final = ECHOES | {"choices"}
_CHOICE: Final = CHOICE_NOISE | {"message", "finish_reason"}
_MESSAGE: Final = NOISE | {"content"}
_REASONS: Final = frozenset({"stop", "length", "end_turn", "max_tokens"})


def plain_text(response: Any) -> tuple[str, str] | None:
    """Return the text of a plain answer and its reason to stop; ``None`` for every other answer."""
    held = fields(response)
    choices = held.get("choices")
    if type(choices) is not list or len(choices) != 1 or not _only(held, _TOP):
        return None
    choice = fields(choices[0])
    reason = choice.get("finish_reason")
    if type(reason) is not str or reason not in _REASONS or not _only(choice, _CHOICE):
        return None
    message = fields(choice.get("message"))
    text = message.get("content")
    if type(text) is not str or not text or not _only(message, _MESSAGE):
        return None
    return text, reason


def _only(held: Mapping[Any, Any], known: frozenset[str]) -> bool:
    """Tell whether every entry is known, private to its library, null, or an empty container."""
    for name, entry in held.items():
        if (
            entry is None
            or name in known
            or ((type(entry) is dict or type(entry) is list) and not entry)
        ):
            continue
        if type(name) is not str or not name.startswith("_"):
            return False
    return True

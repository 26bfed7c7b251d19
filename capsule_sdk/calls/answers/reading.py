"""Reading: an answer taken apart entry by entry, so that nothing in it is passed over.

How an entry is had of a foreign object is in `capsule_sdk.calls.objects`. Nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from ...content import label
from ..objects import fields, get, is_model

__all__ = [
    "NOISE",
    "Taken",
    "fields",
    "get",
    "is_model",
    "is_void",
    "lean",
    "snake",
    "texts_in",
    "word",
]

#: Entries that say nothing of the answer: names of places, echoes of the question, tokens for the next request.
NOISE: Final = frozenset(
    {
        "cache_control", "call_id", "caller", "created", "created_at", "encrypted_content",
        "encrypted_index", "id", "index", "item_id", "object", "obfuscation", "output_index",
        "phase", "response_id", "role", "sequence_number", "signature", "thought_signature",
        "thought_signatures", "tool_call_id", "tool_use_id",
    }
)  # fmt: skip

_OPAQUE: Final = frozenset(
    {"encrypted_content", "encrypted_index", "signature", "thought_signature"}
)
_NODES: Final = 5_000  # of one value that are looked at for what can be left out
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def is_void(value: Any, depth: int = 3) -> bool:
    """Tell whether a value says nothing: null, an empty text, or a container of nothing else."""
    kind: Any = type(value)
    if value is None or (kind is str and not value):
        return True
    if kind is dict:
        return not value or (depth > 0 and all(is_void(v, depth - 1) for v in value.values()))
    if kind is list or kind is tuple:
        return not value or (
            depth > 0 and len(value) < 8 and all(is_void(v, depth - 1) for v in value)
        )
    if is_model(kind):
        held = fields(value)
        return depth > 0 and all(is_void(v, depth - 1) for v in held.values())
    return False


def word(value: Any) -> str:
    """Return a code of the provider's (a type, a status, a reason): an enum's value, bounded; no content."""
    value = getattr(value, "value", value) if not isinstance(value, str) else value
    return label(value, 128) if value is not None else ""


@lru_cache(maxsize=1024)
def snake(name: str) -> str:
    """Return ``finish_reason`` for ``finishReason``, as one API has both."""
    return _HUMP.sub("_", name).lower()


class Taken:
    """The entries of one object, each to be taken once; what nobody took is left over."""

    __slots__ = ("left",)

    def __init__(self, value: Any, *, snaked: bool = False) -> None:
        self.left: dict[str, Any] = {}
        if value is None:
            return
        for key, entry in fields(value).items():
            if is_void(entry):
                continue
            name = key if type(key) is str else label(key)
            if not name.startswith("_"):
                self.left[snake(name) if snaked and len(name) < 64 else name] = entry

    def take(self, *names: str) -> Any:
        """Take all entries of these names, and return the first."""
        if not self.left:
            return None
        found = None
        for name in names:
            entry = self.left.pop(name, None)
            if found is None:
                found = entry
        return found

    def items(self, name: str) -> list[Any]:
        """Take a list; what is none is left over."""
        entry = self.left.get(name)
        return list(self.left.pop(name)) if isinstance(entry, list | tuple) else []

    def rest(self, noise: frozenset[str] = NOISE) -> Iterator[tuple[str, Any]]:
        """Yield the entries that nobody has taken, without those that say nothing."""
        return ((name, entry) for name, entry in self.left.items() if name not in noise)


def lean(value: Any) -> Any:
    """Return a value of JSON without its nulls and without what only the provider can read."""
    return _lean(value, [_NODES], 8)


def _lean(value: Any, left: list[int], depth: int) -> Any:
    kind: Any = type(value)
    left[0] -= 1
    if left[0] < 0 or depth == 0:
        return value
    if kind is dict or is_model(kind):
        return {
            name: _lean(entry, left, depth - 1)
            for name, entry in fields(value).items()
            if name not in _OPAQUE and not is_void(entry)
        }
    if kind is list and len(value) <= left[0]:
        return [_lean(entry, left, depth - 1) for entry in value]
    return value


def texts_in(value: Any) -> list[str]:
    """Return the texts of a list of parts (``[{"text": …}]``), or the one text that it is."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple):
        return []
    texts = (part if isinstance(part, str) else get(part, "text") for part in value)
    return [text for text in texts if isinstance(text, str)]

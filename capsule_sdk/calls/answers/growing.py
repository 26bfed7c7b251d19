"""Growing: pieces of a JSON value put together, by what a piece looks like and not by what it is called.

Texts are appended, lists extended (entries with an index grow where they stand), objects grow entry by
entry, anything else is replaced. An entry that comes again with its id and a status is a later state of it.
It holds copies only. What is known to be the answer is kept whole; of what is not, a bounded part, and how
much more there was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any, Final

from .left_out import LeftOut
from .reading import fields, is_void

__all__ = ["Room", "Text", "copied", "grow", "plain"]

#: Entries of which a later piece replaces the earlier one, though it is a text.
_WORDS: Final = frozenset(
    {
        "call_id", "created", "finish_reason", "format", "id", "index", "item_id", "made_finish_reason",
        "media_type", "mime_type", "model", "name", "native_finish_reason", "object", "role",
        "sent_finish_reason", "service_tier", "status", "stop_reason", "system_fingerprint", "type", "url",
    }
)  # fmt: skip

#: Entries of which every piece is kept: they are what the caller asked for.
_WHOLE: Final = frozenset(
    {
        "arguments", "b64_json", "code", "content", "data", "input", "input_json", "reasoning",
        "reasoning_content", "refusal", "result", "text", "thinking", "transcript", "url",
    }
)  # fmt: skip

_TEXT: Final = 65_536  # characters kept of a text under any other name
_DEPTH: Final = 12


class Room:
    """How many more entries that are not understood are kept of one answer; of others, a digest."""

    __slots__ = ("left", "left_out")

    def __init__(self, entries: int = 10_000) -> None:
        self.left = entries
        self.left_out = LeftOut()

    def takes(self, entry: Any) -> bool:
        """Take up one entry, if there is room for it."""
        if self.left > 0:
            self.left -= 1
            return True
        self.left_out.add(entry)
        return False


class Text:
    """A text in the making."""

    __slots__ = ("_left", "_left_out", "_pieces")

    def __init__(self, piece: str, limit: int | None = None) -> None:
        self._pieces: list[str] = []
        self._left = limit
        self._left_out = 0
        self.add(piece)

    def add(self, piece: str) -> None:
        """Append a piece."""
        if self._left is not None:
            if len(piece) > self._left:
                self._left_out += len(piece) - self._left
                piece = piece[: self._left]
            self._left -= len(piece)
        if piece:
            self._pieces.append(piece)

    def __str__(self) -> str:
        text = "".join(self._pieces)
        return f"{text}…[cut: {self._left_out} more characters]" if self._left_out else text


class _Entries(list[Any]):
    """A list in the making, which knows the newest of its objects of each index."""

    __slots__ = ("newest",)

    def __init__(self) -> None:
        super().__init__()
        self.newest: dict[Any, dict[str, Any]] = {}


#: What an index may be; ``None`` is that of an object that has none.
_KEYS: Final = (int, str, float, NoneType)


def grow(into: dict[str, Any], piece: Any, room: Room, depth: int = _DEPTH) -> None:
    """Add the entries of ``piece``, an object, to those that have come so far."""
    for name, value in _entries(piece):
        held = into.get(name)
        if held is None:
            if len(into) < 1_000 and (
                name in _WHOLE or name in _WORDS or room.takes({name: value})
            ):
                into[name] = _begun(name, value, room, depth)
        elif type(held) is Text and isinstance(value, str):
            held.add(str.__str__(value))
        elif type(held) is _Entries and isinstance(value, list | tuple):
            _extend(held, value, room, depth)
        elif type(held) is dict and fields(value):
            if depth > 0:
                _grow_on(held, value, room, depth)
        else:
            into[name] = _begun(name, value, room, depth)


def _entries(piece: Any) -> Iterator[tuple[str, Any]]:
    for name, value in fields(piece).items():
        if type(name) is str and not name.startswith("_") and not is_void(value):
            yield name, value


def _begun(name: str, value: Any, room: Room, depth: int) -> Any:
    if isinstance(value, str):
        if name in _WORDS:
            return str.__str__(value)
        return Text(str.__str__(value), None if name in _WHOLE else _TEXT)
    return copied(value, room, depth)


def copied(value: Any, room: Room, depth: int = _DEPTH) -> Any:
    """Return a copy of a value that can grow; of what is no JSON, the value itself if nothing can change it."""
    if value is None or isinstance(value, bool | int | float | bytes):
        return value
    if isinstance(value, str):
        return Text(str.__str__(value))
    if isinstance(value, list | tuple):
        made = _Entries()
        if depth > 0:
            _extend(made, value, room, depth)
        return made
    if isinstance(value, Mapping) or fields(value):
        entries: dict[str, Any] = {}
        if depth > 0:
            grow(entries, value, room, depth - 1)
        return entries
    return f"<{type(value).__name__} object>"


def _extend(held: _Entries, pieces: Any, room: Room, depth: int) -> None:
    for piece in pieces:
        place = _place(held, piece)
        if place is not None:
            _grow_on(place, piece, room, depth)
        elif room.takes(piece):
            _append(held, copied(piece, room, depth - 1))


def _append(held: _Entries, entry: Any) -> None:
    held.append(entry)
    if type(entry) is dict and isinstance(index := entry.get("index"), _KEYS):
        held.newest[index] = entry


def _grow_on(entry: dict[str, Any], piece: Any, room: Room, depth: int) -> None:
    """Add a piece to an object; one with the same id and a status says anew how all of it stands."""
    entries = fields(piece)
    name = entries.get("id")
    if name and name == entry.get("id") and entries.get("status") and "status" in entry:
        entry.update(copied(piece, room, depth - 1))
    else:
        grow(entry, piece, room, depth - 1)


def _place(held: _Entries, piece: Any) -> dict[str, Any] | None:
    """Return the entry that a piece continues: the last one of its index, unless their ids differ."""
    entries = fields(piece)
    if "index" not in entries:
        return None
    index, name = entries["index"], entries.get("id")
    entry = held.newest.get(index) if isinstance(index, _KEYS) else None
    if entry is None:
        return None
    return entry if name in (None, "") or entry.get("id") in (None, name) else None


def plain(value: Any) -> Any:
    """Return what has grown as plain JSON."""
    if type(value) is Text:
        return str(value)
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if type(value) is dict:
        return {name: plain(entry) for name, entry in value.items()}
    return value

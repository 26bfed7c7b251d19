"""Frames: raw bytes of a stream -> the events in them, wherever they were cut.

What are no server-sent events (JSON lines, one JSON document, a recording) is read as such in the end, or
sealed by digest and size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Final

from .choice import Choice

__all__ = ["Frames"]

_FIELDS: Final = (b"data", b"event", b"id", b"retry", b":")
_RAW: Final = 1 << 20  # bytes kept of what are no events
_FRAME: Final = 64 << 20  # bytes of one event that are waited for
_BAD: Final = 100  # events kept of those that are no JSON


class Frames:
    """The bytes of one stream."""

    __slots__ = ("_bad", "_events", "_hash", "_parts", "_raw", "_size", "_take", "_waiting")

    def __init__(self, take: Callable[[Any], None]) -> None:
        self._take = take
        self._parts: list[bytes] = []
        self._waiting = 0
        self._events: bool | None = None
        self._raw = bytearray()
        self._hash = hashlib.sha3_256()
        self._size = 0
        self._bad: list[str] = []

    def feed(self, data: bytes) -> None:
        """Take over some bytes."""
        if self._events is None:
            start = b"".join((*self._parts, data)).lstrip()
            if start and (len(start) >= len(b"event:") or b":" in start):
                self._events = start.startswith(_FIELDS)
        if self._events is False:
            self._keep(b"".join((*self._parts, data)))
            self._parts.clear()
            return
        end = self._parts[-1][-3:] if self._parts else b""
        self._parts.append(data)
        self._waiting += len(data)
        seam = (end + data).replace(b"\r", b"")
        if b"\n\n" in seam:
            self._split()
        elif self._waiting > _FRAME:
            self._bad.append(f"an event of more than {_FRAME} bytes")
            self._parts, self._waiting = [], 0

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        self._hash.update(data)
        self._raw += data[: max(0, _RAW - len(self._raw))]

    def _split(self) -> None:
        *frames, rest = b"".join(self._parts).replace(b"\r\n", b"\n").split(b"\n\n")
        self._parts, self._waiting = [rest] if rest else [], len(rest)
        for frame in frames:
            self._frame(frame)

    def _frame(self, frame: bytes) -> None:
        lines = [line[5:].strip() for line in frame.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines)
        if not data or data == b"[DONE]":
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, dict):
            self._take(event)
        elif len(self._bad) < _BAD:
            self._bad.append(data[:_RAW].decode("utf-8", "replace"))

    def flush(self) -> list[Any]:
        """Read what is still waiting: an event without its end, or what are no events at all.

        Returns:
            The documents of JSON that have come in the place of events.

        """
        left, self._parts, self._waiting = b"".join(self._parts), [], 0
        if self._events and left.strip():
            self._frame(left.replace(b"\r\n", b"\n"))
        elif left:
            self._keep(left)
        documents = _documents(bytes(self._raw)) if self._raw and self._size <= _RAW else []
        if documents:
            self._raw.clear()
        return documents

    def add_to(self, choice: Choice) -> None:
        """Add what could not be read as events: a text as the answer's, other bytes by digest and size."""
        choice.unknown("event", self._bad)
        if not self._raw:
            return
        try:
            text = self._raw.decode() if self._size == len(self._raw) else None
        except UnicodeDecodeError:
            text = None
        if text is None:
            choice.unknown("bytes", {"bytes": self._size, "sha3_256": self._hash.hexdigest()})
        else:
            choice.say("text", text)


def _documents(raw: bytes) -> list[Any]:
    """Return the JSON objects of a document, of a list of them, or of lines; none if it is anything else."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        try:
            found = [json.loads(line) for line in raw.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            return []
    found = found if isinstance(found, list) else [found]
    return found if all(isinstance(entry, dict) for entry in found) else []

"""Events of streamed messages and responses -> the message, the response, as they would be whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from ...content import label
from .choice import Choice
from .growing import Room, copied, grow, plain
from .reading import NOISE, fields, get, is_void, word
from .usage import usage_in

__all__ = ["MessageEvents", "ResponseEvents"]


class MessageEvents:
    """A message in the making: blocks start, grow and stop."""

    __slots__ = ("_blocks", "_room", "_top", "id", "model", "over", "stopped")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._blocks: dict[Any, dict[str, Any]] = {}
        self._top: dict[str, Any] = {"role": "assistant"}
        self.model = self.id = self.stopped = ""
        self.over = False

    def take(self, kind: str, event: Any) -> Iterator[Any]:
        """Take over what an event brings, and yield its reports of tokens."""
        if kind == "message_start":
            message = get(event, "message")
            self.model, self.id = word(get(message, "model")), word(get(message, "id"))
            yield usage_in(message)
            self._take_top(message)
        elif kind == "content_block_start":
            self._block(event, get(event, "content_block"))
        elif kind == "content_block_delta":
            self._delta(event, get(event, "delta"))
        elif kind == "message_delta":
            delta = get(event, "delta")
            self.stopped = word(get(delta, "stop_reason")) or self.stopped
            yield usage_in(event)
            self._take_top(delta)
            self._take_top(event)
        elif kind == "message_stop":
            self.over = True
        elif kind != "content_block_stop":
            grow(self._top, {kind: _without_noise(event)}, self._room)

    def _take_top(self, value: Any) -> None:
        rest = {
            name: entry
            for name, entry in fields(value).items()
            if name not in ("content", "delta", "usage", "type", "role", "model", "id")
        }
        grow(self._top, rest, self._room)

    def _block(self, event: Any, value: Any) -> dict[str, Any]:
        index = get(event, "index")
        block = self._blocks.get(index) if isinstance(index, int | str) else None
        if block is None:
            made = copied(value, self._room) if fields(value) else {}
            block = made if isinstance(made, dict) else {}
            if len(self._blocks) < 1_000:
                self._blocks[index if isinstance(index, int | str) else len(self._blocks)] = block
            else:
                self._room.left_out.add(event)
        return block

    def _delta(self, event: Any, delta: Any) -> None:
        block, entries = self._block(event, None), fields(delta)
        for name, value in entries.items():
            if name == "partial_json":
                grow(block, {"input_json": value}, self._room)
            elif name == "citation":
                grow(block, {"citations": [value]}, self._room)
            elif name == "type":
                block.setdefault("type", _BLOCK_OF.get(word(value), word(value)))
            elif name != "signature":
                grow(block, {name: value}, self._room)
        if not entries and not is_void(delta):
            grow(block, {"text" if isinstance(delta, str) else "delta": delta}, self._room)

    def message(self) -> dict[str, Any]:
        """Return the message as far as it has come."""
        blocks = [plain(block) for block in self._blocks.values()]
        return {**plain(self._top), "content": [block for block in blocks if block]}


#: The kind of block that a delta belongs to, for a stream whose beginning was not seen.
_BLOCK_OF: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "citations_delta": "text",
    "input_json_delta": "tool_use",
}


class ResponseEvents:
    """A response in the making: items are added, grow, and are done; in the end it comes once more, whole."""

    __slots__ = ("_items", "_last", "_loose", "_of_items", "_room", "complete", "id", "model")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._items: dict[Any, dict[str, Any]] = {}
        self._loose: dict[str, dict[str, Any]] = {}
        self._of_items: dict[str, dict[str, Any]] = {}
        self._last: dict[str, Any] | None = None
        self.complete = False
        self.model = self.id = ""

    def take(self, kind: str, event: Any) -> Iterator[Any]:
        """Take over what an event brings, and yield its reports of tokens."""
        name = kind.removeprefix("response.")
        response = get(event, "response")
        if fields(response):
            self.model = word(get(response, "model")) or self.model
            self.id = label(get(response, "id")) or self.id  # longer than a word: it may be wrapped
            if name not in ("created", "in_progress", "queued"):
                yield usage_in(response)
                self._end(name, response)
        elif name in ("output_item.added", "output_item.done"):
            self._item_came(event, done=name.endswith("done"))
        elif name.endswith(".delta"):
            self._delta(name.removesuffix(".delta"), event)
        elif name == "output_text.annotation.added":
            part = self._part(event, "content", "output_text")
            grow(part, {"annotations": [get(event, "annotation")]}, self._room)
        elif not (_QUIET.search(name) and get(event, "item_id")) and name not in _STEPS:
            self._strange(kind, event)

    def _end(self, name: str, response: Any) -> None:
        made = copied(response, self._room)
        if isinstance(made, dict):
            made.setdefault("status", name)
            self._last = made
        self.complete = True

    def _item_came(self, event: Any, *, done: bool) -> None:
        item = get(event, "item")
        if done or not self._item(event):
            made = copied(item, self._room)
            if isinstance(made, dict) and made:
                held = self._item(event)
                held.clear()
                held.update(made)

    def _item(self, event: Any) -> dict[str, Any]:
        index = get(event, "output_index")
        if not isinstance(index, int):
            index = word(get(event, "item_id"))
        if index not in self._items and len(self._items) >= 1_000:
            self._room.left_out.add(event)
            return {}
        return self._items.setdefault(index, {})

    def _part(self, event: Any, place: str, kind: str) -> dict[str, Any]:
        """Return the part of an item that an event is about; made, where it was not announced."""
        item = self._item(event)
        item.setdefault(
            "type", "reasoning" if kind in ("summary_text", "reasoning_text") else "message"
        )
        parts = item.setdefault(place, [])
        index = get(event, "summary_index" if place == "summary" else "content_index")
        if not isinstance(parts, list):
            parts = item[place] = []
        index = index if isinstance(index, int) and 0 <= index < 1_000 else 0
        while len(parts) <= index:
            parts.append({"type": kind})
        part = parts[index]
        return part if isinstance(part, dict) else {}

    def _delta(self, name: str, event: Any) -> None:
        delta = get(event, "delta")
        if (found := _PARTS.get(name)) is not None:
            place, kind, entry = found
            grow(self._part(event, place, kind), {entry: delta}, self._room)
        elif (of := _ENTRIES.get(name)) is not None:
            item = self._item(event)
            item.setdefault("type", of[0])
            grow(item, {of[1]: delta}, self._room)
        elif name in ("audio", "audio.transcript"):
            part = self._part(event, "content", "output_audio")
            grow(part, {"data" if name == "audio" else "transcript": delta}, self._room)
        else:
            self._strange(f"response.{name}.delta", event)

    def _strange(self, kind: str, event: Any) -> None:
        kept = self._of_items if get(event, "item_id") else self._loose
        if kind not in kept and len(kept) >= 100:
            self._room.left_out.add(event)
        elif kind in kept or self._room.takes(event):
            grow(kept.setdefault(kind, {}), _without_noise(event), self._room)

    def response(self) -> dict[str, Any]:
        """Return the response as it came in the end, else as far as it has come."""
        items = [plain(item) for item in self._items.values() if item]
        if self._last is None:
            return {"object": "response", "output": items}
        last: dict[str, Any] = plain(self._last)
        return last if last.get("output") else {**last, "output": items}

    def add_to(self, choice: Choice) -> None:
        """Add the events that are not understood, but for those that the whole response stands for."""
        held = self._loose if self.complete else {**self._loose, **self._of_items}
        for kind, entries in held.items():
            choice.unknown(kind, plain(entries) or kind)


def _without_noise(event: Any) -> dict[str, Any]:
    noise = NOISE | {"content_index", "summary_index", "type", "logprobs"}
    return {name: value for name, value in fields(event).items() if name not in noise}


#: The part of an item that a delta belongs to: where it stands, its type, its entry.
_PARTS: Final = {
    "output_text": ("content", "output_text", "text"),
    "refusal": ("content", "refusal", "refusal"),
    "reasoning_text": ("content", "reasoning_text", "text"),
    "reasoning_summary_text": ("summary", "summary_text", "text"),
    "reasoning_summary": ("summary", "summary_text", "text"),
}

#: The type of an item, and its entry, that a delta belongs to.
_ENTRIES: Final = {
    "function_call_arguments": ("function_call", "arguments"),
    "custom_tool_call_input": ("custom_tool_call", "input"),
    "mcp_call_arguments": ("mcp_call", "arguments"),
    "code_interpreter_call_code": ("code_interpreter_call", "code"),
}

#: Events that say again what the item will say, or that it is being worked on.
_QUIET: Final = re.compile(
    r"\.(added|done|in_progress|searching|completed|interpreting|generating|partial_image|failed)$"
)
_STEPS: Final = frozenset(
    {"created", "in_progress", "queued", "audio.done", "audio.transcript.done"}
)

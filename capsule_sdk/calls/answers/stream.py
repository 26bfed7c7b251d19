"""Stream: the pieces of an answer, of any wire format -> the answer as it would have come whole.

Holds text that was copied out of the pieces, never a piece. What it makes of them is read by the same code
as an answer that comes whole (`capsule_sdk.calls.answers.whole`), so that both are sealed alike.
"""

from __future__ import annotations

from typing import Any

from .chat import ECHOES
from .choice import Choice
from .errors import error_in
from .events import MessageEvents, ResponseEvents
from .frames import Frames
from .gemini import MARKS
from .growing import Room, Text, copied, grow, plain
from .reading import fields, get, is_void, snake, word
from .usage import tokens_of, usage_in
from .verdict import Verdict, error_of
from .whole import Whole, read_in_full

__all__ = ["Stream"]


class Stream:
    """One streamed answer in the making."""

    __slots__ = (
        "_at_end", "_candidates", "_choices", "_error", "_frames", "_messages", "_new", "_over", "_read",
        "_responses", "_room", "_top", "_unknown", "id", "model", "usage",
    )  # fmt: skip

    def __init__(self) -> None:
        self._room = Room()
        self._choices: dict[int, dict[str, Any]] = {}
        self._candidates: dict[int, dict[str, Any]] = {}
        self._messages: MessageEvents | None = None
        self._responses: ResponseEvents | None = None
        self._top: dict[str, Any] = {}
        self._unknown: dict[str, dict[str, Any]] = {}
        self._frames: Frames | None = None
        self._error: tuple[str, str] | None = None
        self._read: Whole | None = None
        self._over = False
        #: Whether a piece has just reported tokens, and whether the last such came when all was said.
        self._new = self._at_end = False
        #: The fullest report of tokens.
        self.usage: Any = None
        self.model = ""
        self.id = ""

    # -- what comes ----------------------------------------------------------------------------------

    def feed(self, piece: Any) -> None:
        """Take over what one piece brings: an object of a client library, JSON, or raw server-sent events."""
        if isinstance(piece, bytes | bytearray | str):
            if self._frames is None:
                self._frames = Frames(self._take)
            self._frames.feed(piece.encode() if isinstance(piece, str) else bytes(piece))
        else:
            self._take(piece)

    def finish(self) -> None:
        """Nothing more comes, by itself: take over what raw events still wait for the rest of a frame."""
        self._over = True
        if self._frames is not None:
            for document in self._frames.flush():
                if (error := error_in(document)) is not None:
                    self._error = error_of(error)
                else:
                    self._take(document)

    def take_usage(self, usage: Any) -> None:
        """Keep the fullest report: the Messages API counts input first and output at the end."""
        tokens = tokens_of(usage)
        if tokens.tokens_in is None and tokens.tokens_out is None:
            return
        if isinstance(usage, dict) and isinstance(self.usage, dict):
            usage = {**self.usage, **{name: value for name, value in usage.items() if value}}
        self.usage = usage
        self._new = True

    def _take(self, piece: Any) -> None:
        self._sort(piece)
        if self._new:
            self._new, self._at_end = False, self.complete

    def _sort(self, piece: Any) -> None:
        held = fields(piece)
        choices = held.get("choices")
        if isinstance(choices, list | tuple):
            self._chat(piece, held, choices)
            return
        kind = held.get("type")
        kind = "" if kind is None else word(kind)
        if kind.startswith("response."):
            self._response(kind, piece)
        elif kind.startswith(("message_", "content_block_")):
            self._message(kind, piece)
        elif kind == "ping":
            return
        elif any(name in held for name in MARKS):
            self._gemini(held)
        elif not is_void(held.get("error")) or kind == "error":
            self._error = error_of(held.get("error") or piece)
        else:
            self._strange(kind or word(held.get("event_type")) or "chunk", piece)

    def _chat(self, piece: Any, held: Any, choices: Any) -> None:
        usage = held.get("usage")
        if usage is not None:
            self.take_usage(usage)
        if held.get("error"):
            self._error = error_of(held["error"])
        model = held.get("model")
        if type(model) is str and model:
            self.model = model
        if not self.id:
            self.id = word(held.get("id"))
        for item in choices:
            entries = fields(item)
            index = entries.get("index")
            index = index if type(index) is int else 0
            choice = self._choices.get(index)
            if choice is None:
                if not self._room.takes(item):
                    continue
                choice = self._choices[index] = {"delta": {}}
            self._delta(choice, entries)
        for name, value in held.items():
            if value is not None and name not in _CHAT_TOP:
                grow(self._top, {name: value}, self._room)

    def _delta(self, choice: dict[str, Any], entries: Any) -> None:
        """Add a chat's delta. It comes most often and brings one text most often, hence the short way."""
        for name, value in entries.items():
            if value is None or name == "index":
                continue
            if name in ("delta", "message"):
                into, delta = choice["delta"], fields(value)
                for key, content in delta.items():
                    if content is None:
                        continue
                    held = into.get(key)
                    if type(held) is Text and type(content) is str:
                        held.add(content)
                    elif key != "role":
                        grow(into, {key: content}, self._room)
            elif name != "logprobs" or not _is_sample(choice.get("logprobs")):
                grow(choice, {name: value}, self._room)

    def _gemini(self, held: Any) -> None:
        self.take_usage(usage_in(held))
        for name, value in held.items():
            if not isinstance(name, str) or is_void(value):
                continue
            key = snake(name)
            if key == "candidates" and isinstance(value, list | tuple):
                for item in value:
                    self._candidate(item)
            elif key == "model_version":
                self.model = word(value)
            elif key == "response_id":
                self.id = word(value)
            elif key == "error":
                self._error = error_of(value)
            elif key != "usage_metadata" and not name.startswith("_"):
                self._top[key] = copied(value, self._room)

    def _candidate(self, item: Any) -> None:
        index = get(item, "index")
        candidate = self._candidates.setdefault(
            index if type(index) is int else 0, {"content": {"parts": []}}
        )
        for name, value in fields(item).items():
            if not isinstance(name, str) or is_void(value) or name.startswith("_"):
                continue
            if name != "content":
                candidate[snake(name)] = copied(value, self._room)
                continue
            parts = candidate["content"]["parts"]
            for part in get(value, "parts") or ():
                self._part(parts, part)

    def _part(self, parts: list[Any], part: Any) -> None:
        entries = {name: value for name, value in fields(part).items() if not is_void(value)}
        text, last = entries.get("text"), fields(parts[-1]) if parts else {}
        held = last.get("text")
        same = last.get("thought") == entries.get("thought")
        if same and isinstance(held, Text) and isinstance(text, str):
            held.add(str.__str__(text))
        elif isinstance(text, str) or self._room.takes(part):
            parts.append(copied(part, self._room))

    def _message(self, kind: str, piece: Any) -> None:
        if self._messages is None:
            self._messages = MessageEvents(self._room)
        events = self._messages
        for usage in events.take(kind, piece):
            self.take_usage(usage)
        self.model, self.id = events.model or self.model, events.id or self.id

    def _response(self, kind: str, piece: Any) -> None:
        if self._responses is None:
            self._responses = ResponseEvents(self._room)
        events = self._responses
        for usage in events.take(kind, piece):
            self.take_usage(usage)
        self.model, self.id = events.model or self.model, events.id or self.id

    def _strange(self, kind: str, piece: Any) -> None:
        self.take_usage(usage_in(piece))
        held = self._unknown.get(kind)
        if held is None:
            if len(self._unknown) >= 100:
                self._room.left_out.add(piece)
                return
            if not self._room.takes(piece):
                return
            held = self._unknown[kind] = {}
        entries = fields(piece)
        if entries:
            grow(held, {name: v for name, v in entries.items() if name != "type"}, self._room)
        elif not is_void(piece):
            grow(held, {"values": [piece]}, self._room)

    # -- what has come -------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether the model has said, for each choice, that it had finished."""
        if self._responses is not None:
            return self._responses.complete
        if self._messages is not None:
            return bool(self._messages.stopped)
        started = [*self._choices.values(), *self._candidates.values()]
        if not started:
            return "prompt_feedback" in self._top
        return all(
            any(choice.get(f"{told}finish_reason") for told in ("", "sent_", "made_"))
            for choice in started
        )

    @property
    def has_events(self) -> bool:
        """Whether an event of a message or a response has come, or raw bytes."""
        found = (self._messages, self._responses, self._frames)
        return any(one is not None for one in found)

    @property
    def is_counted(self) -> bool:
        """Whether the report of tokens is of the whole answer: providers report what there is so far, too."""
        return self._at_end or (self._over and self._error is None and not self._broke_off())

    def whole(self) -> Whole:
        """Return the answer, as far as it has come. To be asked once nothing more comes."""
        if self._read is None:
            self._read = self._whole()
        return self._read

    def _whole(self) -> Whole:
        choices, _, verdict, _ = read_in_full(self._as_it_would_be())
        choices = choices or [Choice()]  # candidates may say nothing
        if choices[0].absent and (not self._over or self._unknown or self._frames is not None):
            # something else has come, or it may have been on its way
            choices[0].absent = ""
            verdict = Verdict() if verdict.status == "partial" else verdict
        for kind, held in self._unknown.items():
            choices[0].unknown(kind, plain(held) or kind)
        if self._responses is not None:
            self._responses.add_to(choices[0])
        if self._frames is not None:
            self._frames.add_to(choices[0])
        choices[0].left_out.join(self._room.left_out)
        if self._error is not None:
            verdict = Verdict("failure", *self._error)
        elif verdict.status == "success" and self._broke_off():
            verdict = Verdict("partial", ended="unfinished")
        return Whole(choices, None, verdict)

    def _broke_off(self) -> bool:
        """Tell whether nobody has said that it was finished, in a format that always says so."""
        if self._messages is not None:
            return not self._messages.stopped and not self._messages.over
        candidates = self._candidates.values()
        return bool(candidates) and not any(held.get("finish_reason") for held in candidates)

    def _as_it_would_be(self) -> Any:
        if self._responses is not None:
            return self._responses.response()
        if self._messages is not None:
            return self._messages.message()
        top = plain(self._top)
        if self._candidates or (top.get("prompt_feedback") and not self._choices):
            in_order = [plain(held) for _, held in sorted(self._candidates.items())]
            return {**top, "candidates": in_order}
        return {**top, "choices": [plain(held) for _, held in sorted(self._choices.items())]}


_CHAT_TOP = ECHOES | {"choices", "error"}


def _is_sample(logprobs: Any) -> bool:
    """Tell whether there are the probabilities of enough tokens; there are as many as tokens."""
    held = logprobs.values() if isinstance(logprobs, dict) else ()
    return any(isinstance(entries, list) and len(entries) >= 20 for entries in held)

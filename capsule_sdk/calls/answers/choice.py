"""Choice: one answer of a model in our own words, whatever wire format it came in.

What is text, and anything that a model or a tool may have written, passes the content policy when it is
sealed; names of tools, types, and codes are labels and stay in every mode.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ...content import JSON, ContentPolicy, canonical, label, safe
from ...content.readers import Marker
from ..media import decoded, digested, in_data_url
from .left_out import LeftOut
from .reading import fields, is_void, lean, word

__all__ = ["Choice", "media", "of_choices"]

#: How a model ends that has said what it wanted to.
NORMAL: Final = frozenset(
    {
        "", "complete", "completed", "end", "end_turn", "eos", "eos_token",
        "finish_reason_unspecified", "function_call", "stop", "stop_sequence", "tool_call",
        "tool_calls", "tool_use",
    }
)  # fmt: skip

#: Entries of what a provider's tool did that name something, and are no content.
_NAMES: Final = frozenset({"name", "server_label", "server_name", "status", "type"})
_MOST: Final = 1_000  # entries of each kind in one choice


class Choice:
    """What one answer consists of."""

    __slots__ = (
        "absent", "audio", "block_reason", "citations", "error", "finish", "images", "left_out", "other",
        "provider_tools", "said", "tools",
    )  # fmt: skip

    def __init__(self) -> None:
        self.said: dict[str, list[str]] = {}
        self.audio: dict[str, Any] = {}
        self.images: list[Any] = []
        self.tools: list[tuple[str, Any, str]] = []
        self.provider_tools: list[dict[str, Any]] = []
        self.citations: list[Any] = []
        self.other: list[tuple[str, Any]] = []
        self.left_out = LeftOut()
        self.finish = ""
        #: The list that the answer should stand in, and that was empty: its name on the wire.
        self.absent = ""
        self.block_reason: dict[str, Any] = {}
        #: What went wrong with this answer alone: (code, words).
        self.error: tuple[str, str] | None = None

    # -- what a wire format's module says ----------------------------------------------------------

    def say(self, channel: str, value: Any) -> None:
        """Add a piece of ``text``, ``refusal`` or ``reasoning``; what is no text is kept as it is."""
        if isinstance(value, str):
            if value:
                self.said.setdefault(channel, []).append(str.__str__(value))
        else:
            self.unknown(channel, value)

    def has_said(self, channel: str) -> bool:
        """Tell whether there is anything of a channel."""
        return channel in self.said

    def hear(self, value: Any) -> None:
        """Add spoken words: their transcript, and the recording by digest and size."""
        entries = dict(fields(value))
        data, transcript = entries.pop("data", None), entries.pop("transcript", None)
        if transcript:
            self.audio["transcript"] = self.audio.get("transcript", "") + _text(transcript)
        if data:
            data = _bytes_of(data) if isinstance(data, str) else data
            held = self.audio.get("data")
            if isinstance(held, bytes) and isinstance(data, bytes):
                data = held + data
            self.audio["data"] = data
        if isinstance(kind := entries.get("mime_type"), str) and kind:
            self.audio["media_type"] = word(kind)
        for name in ("id", "expires_at", "type", "format", "mime_type"):
            entries.pop(name, None)
        self._put("audio", entries)

    def show(self, value: Any) -> None:
        """Add an image: what it is made of by digest and size, an address as it is."""
        if not is_void(value):
            self._add(self.images, media(value))

    def tool(self, name: Any, arguments: Any, kind: str = "function") -> None:
        """Add a call that the model asks for."""
        self._add(self.tools, (word(name), arguments, kind))

    def ran(self, kind: str, entries: dict[str, Any]) -> None:
        """Add what a tool of the provider's did, or what came of it."""
        self._add(self.provider_tools, {"type": kind, **entries})

    def cite(self, value: Any) -> None:
        """Add what the answer rests on: one entry, or a list of them."""
        if value is None:
            return
        for entry in value if isinstance(value, list | tuple) else [value]:
            if not is_void(entry):
                self._add(self.citations, entry)

    def ends(self, reason: Any) -> None:
        """Write down why the model stopped."""
        self.finish = word(reason) or self.finish

    def blocks(self, **reason: Any) -> None:
        """Write down why it was kept from answering: ``reason`` is a code, the rest may be anything."""
        for name, value in reason.items():
            if not is_void(value):
                self.block_reason[name] = value

    def unknown(self, kind: str, value: Any) -> None:
        """Keep what is not understood, with its name."""
        if not is_void(value):
            self._add(self.other, (kind, value))

    def rest(self, entries: Iterable[tuple[str, Any]], of: str = "") -> None:
        """Keep the entries that nobody has taken."""
        for name, value in entries:
            self.unknown(f"{of}.{name}" if of else name, value)

    def regain(self, sent: Choice) -> None:
        """Add what a client library has dropped when it translated the answer that a provider ``sent``."""
        kinds = {kind for kind, _ in self.other}
        for kind, value in sent.other:
            if kind not in kinds:
                self.unknown(kind, value)
        for channel, pieces in sent.said.items():
            self.said.setdefault(channel, pieces)
        self.audio = self.audio or sent.audio
        self.images = self.images or sent.images
        self.provider_tools = self.provider_tools or sent.provider_tools
        self.citations = self.citations or sent.citations
        self.block_reason = self.block_reason or sent.block_reason
        self.left_out.join(sent.left_out)

    def _add(self, entries: list[Any], entry: Any) -> None:
        if len(entries) < _MOST:
            entries.append(entry)
        else:
            self.left_out.add(entry)

    def _put(self, kind: str, entries: dict[str, Any]) -> None:
        self.unknown(kind, {name: value for name, value in entries.items() if not is_void(value)})

    # -- what is sealed ------------------------------------------------------------------------------

    def value(self, *, whole: bool = True, hashing: bool = True) -> Any:
        """Return a text where the answer is nothing but text, else its parts; yet to pass the policy.

        Args:
            whole: it is the only one, so that its reason to stop stands beside the result already.
            hashing: whether digests may be told.

        """
        text = "".join(self.said.get("text", ()))
        parts = self._parts(hashing=hashing)
        unusual = self.finish.lower() not in NORMAL
        if not parts and text and (whole or not unusual):
            return text
        if not parts and not self.finish:
            # nothing has come, and nobody has said that this is all
            return {self.absent: []} if self.absent else ""
        if text or self.tools:
            parts = {"text": text, **parts}
        if self.finish or self.tools:
            parts["finish_reason"] = Marker(self.finish) if self.finish else None
        return parts

    def _parts(self, *, hashing: bool) -> dict[str, Any]:
        parts: dict[str, Any] = {
            name: "".join(pieces) for name, pieces in self.said.items() if name != "text"
        }
        if self.audio:
            parts["audio"] = _sealable(self.audio, hashing=hashing)
        if self.images:
            parts["images"] = [_sealable(image, hashing=hashing) for image in self.images]
        if self.tools:
            parts["tool_calls"] = [_tool(*call) for call in self.tools]
        if self.provider_tools:
            parts["provider_tools"] = [_labelled(entry) for entry in self.provider_tools]
        if self.citations:
            parts["citations"] = [_labelled(entry) for entry in self.citations]
        if self.block_reason:
            parts["block_reason"] = _reason(self.block_reason)
        if self.other:
            parts["other"] = [
                {"type": Marker(label(kind)), "value": _sealable(lean(value), hashing=hashing)}
                for kind, value in self.other
            ]
        if self.left_out.count:
            told = self.left_out.told(hashing=hashing)
            parts.setdefault("other", []).append({"type": Marker("left out"), "value": told})
        return parts


def of_choices(choices: list[Choice], policy: ContentPolicy) -> JSON:
    """Return what is sealed of an answer: one choice as itself, several as a list."""
    whole, hashing = len(choices) == 1, policy.mode != "omit"
    values = [choice.value(whole=whole, hashing=hashing) for choice in choices]
    value = values[0] if len(values) == 1 else values
    return policy.text(value) if isinstance(value, str) else policy.value(value)


def _tool(name: str, arguments: Any, kind: str) -> dict[str, Any]:
    call = {"name": Marker(name), "arguments": _text(arguments)}
    return call if kind == "function" else {**call, "type": Marker(kind)}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str.__str__(value)
    return "" if value is None else canonical(safe(value))


def _labelled(entry: Any) -> Any:
    entry = lean(entry)
    if type(entry) is not dict:
        return entry
    return {
        name: Marker(word(value)) if name in _NAMES and isinstance(value, str) else value
        for name, value in entry.items()
    }


def _reason(reason: dict[str, Any]) -> Any:
    code = reason.get("reason")
    if code is not None:
        reason = {**reason, "reason": Marker(word(code))}
    return reason["reason"] if set(reason) == {"reason"} else lean(reason)


# -- pictures and sounds -----------------------------------------------------------------------------


def media(value: Any) -> Any:
    """Return an image or a recording: its bytes (``data``) and its type; its address as a text."""
    if isinstance(value, str):
        if (held := in_data_url(value)) is not None:
            kind = {"media_type": held[1]} if held[1] else {}
            return {**kind, "data": held[0]}
        return {"url": value} if "://" in value[:16] else {"data": _bytes_of(value)}
    entries = dict(fields(value))
    found: dict[str, Any] = {}
    for name in ("image_url", "url", "b64_json", "data", "source", "result", "image"):
        inner = entries.pop(name, None)
        if isinstance(inner, str) and inner:
            found |= media(inner) if name != "url" or inner.startswith("data:") else {"url": inner}
        elif isinstance(inner, bytes):
            found["data"] = inner
        elif not is_void(inner):
            held = media(inner)
            found |= held if isinstance(held, dict) else {name: held}
    kind = entries.pop("media_type", None) or entries.pop("mime_type", None)
    if isinstance(kind, str):
        found.setdefault("media_type", word(kind))
    for name in ("type", "index"):
        entries.pop(name, None)
    rest = {name: entry for name, entry in entries.items() if not is_void(entry)}
    return {**rest, **found} if found or rest else value


def _bytes_of(text: str) -> bytes:
    """Return the bytes of a base64 text; of one that is none, its own."""
    content = decoded(text)
    return text.encode("utf-8", "replace") if content is None else content


def _sealable(value: Any, *, hashing: bool) -> Any:
    """Return a value, its bytes as what stands for them."""
    if type(value) is not dict or not isinstance(value.get("data"), bytes):
        return value
    rest = {name: entry for name, entry in value.items() if name not in ("data", "media_type")}
    return {**rest, **digested(value["data"], value.get("media_type"), hashing=hashing)}

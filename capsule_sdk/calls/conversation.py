"""A conversation as it is sealed, where the user allows it: ``configure(messages="full")``.

Each message stands as it was sent, in the wire format of its call: roles, types, names and ids as they are,
each text as the content policy lets it be, and images, audio and files as digest, size and media type.
The whole is bounded: the oldest messages lose their texts first, and then their place.

What an earlier capsule holds is not sealed again: `capsule_sdk.calls.memory` knows which one that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..content import JSON, ContentPolicy, canonical, instance, label
from ..content.readers import Marker, may_be_text
from .media import decoded, digested, in_data_url
from .objects import entries_of, is_model, items_of

__all__ = ["sealed_messages", "taken_apart"]

#: Bytes of JSON that the messages of one capsule have in all; beyond, texts are sealed as digests.
WHOLE: Final = 1 << 20
#: Messages that one capsule holds.
MOST: Final = 2_000
#: Levels of a message, and entries in it, that are looked at for images and files.
_DEEPEST, _ENTRIES = 12, 20_000

#: Entries of a message and of its parts that name something. They are kept in every mode.
_LABELS = frozenset(
    {
        "call_id", "detail", "format", "id", "media_type", "mimeType", "mime_type", "name", "role", "status",
        "tool_call_id", "tool_use_id", "type",
    }
)  # fmt: skip
#: Entries below which the user's, or the model's, own data stands: nothing in there is a label.
_OWN = frozenset({"args", "arguments", "input", "output", "response", "result", "results"})
#: Entries that hold base64 where what stands beside them says so, or where it can be nothing else.
_ENCODED = frozenset({"b64_json", "data", "file_data"})
_TOLD_BY = ("media_type", "mime_type", "mimeType", "format")
_SURE = 64  # characters from which a text without spaces that decodes as base64 is taken for it


def sealed_messages(
    messages: Sequence[Any], policy: ContentPolicy, *, is_chat: bool = True, whole: int = WHOLE
) -> tuple[list[JSON], bool]:
    """Return these messages as they may be sealed, oldest first, and whether the bounds left all of them whole.

    Args:
        messages: those that no earlier capsule holds.
        policy: what of their texts may be sealed.
        is_chat: whether a bare text is a message of the user's.
        whole: bytes that they have in all.

    """
    digests = ContentPolicy("digest", policy.redact, policy.limits)
    sealed: list[JSON] = []
    held_whole = len(messages) <= MOST
    for message in reversed(messages[-MOST:]):
        is_bare = is_chat and instance(message, str)
        whole_message = {"role": "user", "content": message} if is_bare else message
        taken = taken_apart(whole_message, redacting=policy.redact is not None)
        held_whole = held_whole and whole > 0
        entry = policy.value(taken) if whole > 0 else digests.value(taken)
        whole -= len(canonical(entry))
        sealed.append(entry)
    if len(messages) > MOST:
        sealed.append(f"[cut: {MOST} of {len(messages)} entries kept]")
    sealed.reverse()
    return sealed, held_whole


def taken_apart(value: Any, *, redacting: bool = False) -> Any:
    """Return a message, or other content, with its labels marked as such and its media replaced.

    Where texts are ``redacting`` a medium that may be a text has no digest, as no such bytes have one.
    """
    return _Taking(redacting).node(value, 0, own=False)


class _Taking:
    """One pass over one message, which looks at so many entries and no more: a message may hold itself."""

    __slots__ = ("left", "redacting")

    def __init__(self, redacting: bool) -> None:
        self.left = _ENTRIES
        self.redacting = redacting

    def node(self, value: Any, depth: int, *, own: bool) -> Any:
        if instance(value, str):
            return self.of_data_url(value) if str.startswith(value, "data:") else value
        self.left -= 1
        if depth >= _DEEPEST or self.left < 0:
            return value
        if (items := items_of(value)) is not None:
            looked_at, rest = items[: self.left + 1], items[self.left + 1 :]
            return [*(self.node(item, depth + 1, own=own) for item in looked_at), *rest]
        fields = entries_of(value)
        if fields is None:
            return value
        return {
            name: self.entry(name, entry, fields, depth, own=own)
            for name, entry in fields.items()
            if entry is not None or not is_model(type(value))  # a model's fields that nobody set
        }

    def entry(
        self, name: Any, entry: Any, beside: Mapping[Any, Any], depth: int, *, own: bool
    ) -> Any:
        if type(entry) is str:
            if not own and name in _LABELS:
                return Marker(label(entry))
            if name in _ENCODED and (media := self.of_base64(entry, beside)) is not None:
                return media
        return self.node(entry, depth + 1, own=own or name in _OWN)

    def of_data_url(self, url: str) -> Any:
        """Return what stands for the content of a ``data:`` URL; the text itself if it is none."""
        held = in_data_url(url)
        return url if held is None else self.digested(*held)

    def of_base64(self, value: str, beside: Mapping[Any, Any]) -> Any:
        """Return what stands for content in base64; ``None`` if it is none."""
        if beside.get("type") == "text" or value[:5] == "data:":
            return None
        told = (beside.get(name) for name in _TOLD_BY)
        media_type = next((kind for kind in told if isinstance(kind, str)), "")
        if not media_type and (len(value) < _SURE or " " in value[:1024]):
            return None
        content = decoded(value)
        return None if content is None else self.digested(content, media_type)

    def digested(self, content: bytes, media_type: str) -> Any:
        """Return what stands for a medium; of one that `redact` might change no digest is told."""
        hidden = self.redacting and may_be_text(content)
        return digested(content, media_type, hashing=not hidden)

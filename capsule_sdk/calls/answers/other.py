"""Other: answers that are no conversation. Vectors by shape, files and images by digest, the rest as is."""

from __future__ import annotations

from typing import Any, Final

from ..media import decoded
from .reading import NOISE, Taken, fields, get, is_void

__all__ = ["read_other"]

_BLOBS: Final = ("b64_json", "image_base64", "audio_base64")
_TRANSCRIPT: Final = NOISE | {"duration", "language", "task", "usage", "model", "response_ms"}


def read_other(response: Any, entry: Taken) -> Any:
    """Return what is to be sealed of an answer, yet to pass the policy."""
    content = get(response, "content")
    if isinstance(content, bytes):
        return content
    text = get(response, "text")
    if isinstance(text, str):
        return _transcript(text, entry)
    for name in ("results", "data"):
        items = get(response, name)
        if isinstance(items, list):
            return _items(items)
    held = fields(response)
    return {name: _plain(value) for name, value in held.items()} if held else response


def _transcript(text: str, entry: Taken) -> Any:
    entry.take("text")
    rest = [{"type": name, "value": value} for name, value in entry.rest(_TRANSCRIPT)]
    return {"text": text, "other": rest} if rest else text


def _items(items: list[Any]) -> Any:
    vectors = [get(item, "embedding") for item in items[:1]]
    if vectors and isinstance(vectors[0], list | str):
        return {"embeddings": len(items), "dimensions": len(vectors[0])}
    return [_plain(item) for item in items]


def _plain(value: Any) -> Any:
    """Return an entry with its images and recordings as bytes, which are sealed by digest and size."""
    held = fields(value)
    if is_void(value) or not any(isinstance(held.get(name), str) for name in _BLOBS):
        return value
    return {
        name: _content(entry) if name in _BLOBS and isinstance(entry, str) else entry
        for name, entry in held.items()
        if isinstance(name, str) and not name.startswith("_")
    }


def _content(text: str) -> Any:
    content = decoded(text)
    return text if content is None else content

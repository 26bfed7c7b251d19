"""Unstreamed: the body of an answer that should have been a stream, and is none.

Some providers answer a streamed request with one JSON document, or a page, and HTTP status 200: an error, most
often. Client libraries find no event in it and end as if nothing had come. So where the head of an answer
says that it is no stream of events, a copy of its first bytes is kept as the library reads them. Any other
answer is left alone.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from ...calls.answers.errors import BODY
from ...content.inert import module_of

__all__ = ["Unstreamed", "watch_body"]

_KEPT: Final = "_capsule_sdk_kept"


class Unstreamed:
    """The body of one such answer, as far as it was read."""

    __slots__ = ("_bytes", "_headers", "_kind")

    def __init__(self, response: Any) -> None:
        self._kind: Any = type(response)
        self._headers = response.headers
        self._bytes = bytearray()

    def take(self, data: bytes) -> None:
        """Copy some bytes, as they came over the wire."""
        if len(self._bytes) <= BODY:
            self._bytes += data

    def text(self, *, is_all: bool) -> str:
        """Return the body as JSON, a page as an error that consists of it; nothing where it is too large.

        Args:
            is_all: whether nothing else has come of the answer: a page is believed only then.

        """
        if not self._bytes or len(self._bytes) > BODY:
            return ""
        text = str(self._kind(200, headers=self._headers, content=bytes(self._bytes)).text).strip()
        try:
            return text if isinstance(json.loads(text), dict) else ""
        except (ValueError, RecursionError):
            return json.dumps({"error": text}) if is_all else ""


def watch_body(stream: Any) -> Unstreamed | None:
    """Have the answer that a stream reads from keep its body, if it says that this is no stream of events."""
    held = _entries(stream)
    held = _entries(held.get("completion_stream")) or held
    response = held.get("response")
    if response is None:
        response = held.get("http_response")
    if response is None or not module_of(type(response)).startswith("httpx"):
        return None
    kind = response.headers.get("content-type", "")
    if "stream" in kind or not kind:
        return None
    kept = Unstreamed(response)
    body = response.stream
    base: Any = type(body)
    body.__class__ = _keeping(base)
    body.__dict__[_KEPT] = kept
    return kept


def _entries(value: Any) -> dict[str, Any]:
    found = getattr(value, "__dict__", None)
    return found if type(found) is dict else {}


@functools.cache
def _keeping(base: Any) -> Any:
    """Return the subclass of a body's class that keeps a copy of what is read of it."""

    def __iter__(self: Any) -> Iterator[bytes]:  # noqa: N807 - the name it has in the class
        for data in base.__iter__(self):
            self.__dict__[_KEPT].take(data)
            yield data

    async def __aiter__(self: Any) -> AsyncIterator[bytes]:  # noqa: N807 - as above
        async for data in base.__aiter__(self):
            self.__dict__[_KEPT].take(data)
            yield data

    steps = {step.__name__: step for step in (__iter__, __aiter__) if hasattr(base, step.__name__)}
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__}
    return type(base.__name__, (base,), {**steps, **names, "__doc__": base.__doc__})

"""How a question is hashed, so that anybody who kept it can show that it was this one. docs/hashes.md says it.

Nothing is bounded or redacted here, as a hash of a part proves nothing of the whole; no hash is taken where
texts are omitted. Leaf: `capsule_sdk.content` and the standard library only.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

from ..content import JSON, ContentPolicy, Limits, canonical, digest
from ..content.canonical_json import real, weigh

__all__ = ["canonical_of", "content_digest", "prompt_hash", "request_hash"]

#: Wide enough for every schema that a provider takes; what is beyond is cut, and the cut is hashed.
_WHOLE = ContentPolicy(
    limits=Limits(text=1 << 20, depth=64, items=100_000, total=1_000_000), find_secrets=False
)
_AS_IT_IS = ContentPolicy(find_secrets=False)


def canonical_of(value: Any, *, strictly: bool = False) -> str:
    """Return the canonical JSON (CPS 2) of a prompt, or of another argument that holds content.

    The JSON is that of the values as they are, as `capsule_litellm` hashed them, so that old hashes compare;
    objects in it (a message that a model returned) count as their fields.

    Raises:
        TypeError, ValueError, RecursionError: only ``strictly``: it cannot be written as it is.

    """
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError):
        if strictly:
            raise
        return canonical(_AS_IT_IS.value(value))


def prompt_hash(prompt: Any) -> str:
    """Return SHA3-256 over the canonical JSON (CPS 2) of all messages, in hexadecimal (CPS 1.3)."""
    return digest(canonical_of(prompt))


def content_digest(value: Any) -> str:
    """Return what stands for an argument that holds content: ``sha3-256:<hex> (<n> bytes)``.

    Of a text it is over the text's own UTF-8, of anything else over its canonical JSON.
    """
    size, sha3 = weigh(value if isinstance(value, str) else canonical_of(value))
    return f"sha3-256:{sha3} ({size} bytes)"


def request_hash(arguments: Mapping[str, Any]) -> str:
    """Return SHA3-256, in hexadecimal, over the canonical JSON of all that determines the answer.

    Args:
        arguments: the call's arguments by name, the prompt and the tools as their hashes, other content as
            `content_digest` gives it.

    """
    whole: JSON
    if all(type(name) is str and name.isascii() for name in arguments):
        whole = {name: _plain(value) for name, value in arguments.items()}
    else:
        whole = _WHOLE.value(dict(arguments))
    return digest(canonical(whole))


def _plain(value: Any) -> JSON:
    """Do the same for the few kinds that most arguments are of, in a fraction of its time."""
    kind = type(value)
    if kind is bool or (kind is str and value.isascii()):
        return value  # type: ignore[no-any-return]
    return real(value) if kind is float else _WHOLE.value(value)


def _fields(value: Any) -> Any:
    if isinstance(value, io.BytesIO):  # a recording; whoever reads it later must not notice
        return _AS_IT_IS.value(value.getvalue())
    dump: Callable[[], Any] | None = getattr(value, "model_dump", None)
    return dump() if callable(dump) else _AS_IT_IS.value(value)


_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_fields
).encode

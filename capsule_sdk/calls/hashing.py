"""How a question is hashed, so that anybody who kept it can show that it was this one. docs/hashes.md says it.

Nothing is bounded here, as a hash of a part proves nothing of the whole; no hash is taken where texts are
omitted. Where the user has a `redact`, what it leaves is hashed (`as_redacted`): a hash of the texts as they
were sent would confirm a guess at what was taken out of them. No code of the values' classes is run.
"""

from __future__ import annotations

import io
import json
import marshal
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from ..content import JSON, ContentPolicy, Limits, canonical, digest, instance
from ..content.canonical_json import real, weigh
from ..content.quick_json import is_spelled_alike, quick_canonical
from .objects import entries_of

__all__ = [
    "as_redacted",
    "canonical_of",
    "content_digest",
    "prompt_hash",
    "request_hash",
    "set_in",
    "tools_digest",
]

#: Wide enough for every schema that a provider takes; what is beyond is cut, and the cut is hashed.
_WHOLE = ContentPolicy(
    limits=Limits(text=1 << 20, depth=64, items=100_000, total=1_000_000), find_secrets=False
)
_AS_IT_IS = ContentPolicy(find_secrets=False)


def canonical_of(value: Any, *, strictly: bool = False) -> str:
    """Return the canonical JSON (CPS 2) of a prompt, or of another argument that holds content.

    The JSON is that of the values as they are, as `capsule_litellm` hashed them, so that old hashes compare;
    objects in it (a message that a model returned) count as their fields, without those that nobody has set:
    it has the hash of the message as it is sent.

    Raises:
        TypeError, ValueError, RecursionError: only ``strictly``: it cannot be written as it is.

    """
    try:
        return _encode(_inert(value))
    except (TypeError, ValueError, RecursionError):
        if strictly:
            raise
        return canonical(_AS_IT_IS.value(value))


def canonical_bytes_of(value: Any) -> bytes | str:
    """Return the same, as UTF-8 where it can be had in a fraction of the time."""
    try:
        quick = quick_canonical(value) if is_spelled_alike(value) else None
    except (RecursionError, RuntimeError):  # it holds itself, or another thread changes it
        quick = None
    return canonical_of(value) if quick is None else quick


def as_redacted(value: Any, policy: ContentPolicy) -> Any:
    """Return content as it is to be hashed: with ``redact`` called on each text of it, else as it is.

    What is no JSON is taken as the JSON that it would be hashed as. Keys stay, and so do ``data:`` URLs.
    """
    if policy.redact is None:
        return value
    if instance(value, str):
        return _redacted(str.__str__(value), policy)
    return _redacted(json.loads(canonical_of(value)), policy)


def _redacted(value: Any, policy: ContentPolicy) -> Any:
    if isinstance(value, str):
        return value if value[:5] == "data:" else policy.redacted(value)
    if isinstance(value, list):
        return [_redacted(entry, policy) for entry in value]
    if isinstance(value, dict):
        return {name: _redacted(entry, policy) for name, entry in value.items()}
    return value


def prompt_hash(prompt: Any) -> str:
    """Return SHA3-256 over the canonical JSON (CPS 2) of all messages, in hexadecimal (CPS 1.3)."""
    return digest(canonical_bytes_of(prompt))


def tools_digest(tools: list[Any]) -> str:
    """Return SHA3-256 over the canonical JSON of definitions of tools; most calls have those of others."""
    try:
        key = marshal.dumps(tools, 2)  # a copy, which only equal values of the same kinds have
    except ValueError:
        return prompt_hash(tools)
    found = _digests.get(key)
    if found is None:
        found = prompt_hash(tools)
        with suppress(RecursionError):
            if len(key) <= _LARGEST and _is_plain(tools):
                _digests[key] = found
        if len(_digests) > _MOST:
            _digests.clear()
    return found


#: Digests that are kept, and bytes of the tools that one is of.
_MOST: Final = 64
_LARGEST: Final = 1 << 15
_digests: dict[bytes, str] = {}


def content_digest(value: Any) -> str:
    """Return what stands for an argument that holds content: ``sha3-256:<hex> (<n> bytes)``.

    Of a text it is over the text's own UTF-8, of anything else over its canonical JSON.
    """
    size, sha3 = weigh(str.__str__(value) if instance(value, str) else canonical_of(value))
    return f"sha3-256:{sha3} ({size} bytes)"


def request_hash(arguments: Mapping[str, Any], policy: ContentPolicy = _WHOLE) -> str:
    """Return SHA3-256, in hexadecimal, over the canonical JSON of all that determines the answer.

    Args:
        arguments: the call's arguments by name, the prompt and the tools as their hashes, other content as
            `content_digest` gives it.
        policy: has a ``redact`` that is called on each text of the others first.

    """
    whole: JSON
    if policy.redact is not None:
        whole = ContentPolicy(redact=policy.redact, limits=_WHOLE.limits, find_secrets=False).value(
            dict(arguments)
        )
    elif all(type(name) is str and name.isascii() for name in arguments):
        whole = {name: _plain(value) for name, value in arguments.items()}
    else:
        whole = _WHOLE.value(dict(arguments))
    return digest(quick_canonical(whole) or canonical(whole))


def _plain(value: Any) -> JSON:
    """Do the same for the few kinds that most arguments are of, in a fraction of its time."""
    kind = type(value)
    if kind is bool or (kind is str and value.isascii()):
        return value  # type: ignore[no-any-return]
    return real(value) if kind is float else _WHOLE.value(value)


def _is_plain(value: Any) -> bool:
    """Tell whether a value is of JSON's own kinds alone."""
    kind = type(value)
    if kind is dict:
        return all(type(name) is str and _is_plain(entry) for name, entry in value.items())
    if kind is list:
        return all(map(_is_plain, value))
    return value is None or kind is str or kind is bool or kind is int or kind is float


def _inert(value: Any) -> Any:
    """Return a value whose objects `json` can walk through without running code of their classes."""
    kind: Any = type(value)
    if issubclass(kind, dict):
        return {name: _inert(entry) for name, entry in dict.items(value)}
    if issubclass(kind, list | tuple):
        walk = list.__iter__ if issubclass(kind, list) else tuple.__iter__
        return [_inert(entry) for entry in walk(value)]
    return value


def set_in(value: Any) -> Any:
    """Return what is set in a message: the entries of its objects that are not null, but for ``content``.

    So it stands in a request: the content of a message that only calls tools is null there.
    """
    kind: Any = type(value)
    if kind is list:
        return [set_in(entry) for entry in value]
    if kind is not dict:
        return value
    return {
        name: set_in(entry)
        for name, entry in value.items()
        if entry is not None or name == "content"
    }


def _fields(value: Any) -> Any:
    """Return what stands for an object; a model is what is set in it, and so are those in it."""
    if instance(value, io.BytesIO):  # a recording; whoever reads it later must not notice
        return _AS_IT_IS.value(io.BytesIO.getvalue(value))
    held = entries_of(value)
    return _AS_IT_IS.value(value) if held is None else set_in(_inert(dict(held)))


_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_fields
).encode

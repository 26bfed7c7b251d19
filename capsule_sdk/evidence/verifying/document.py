"""A stored document: its text read as JSON, and hashed as CPS 2 has it. Pure.

CPS hashes the JSON that Python's `json.dumps` writes with sorted keys. orjson writes the same bytes in a
quarter of the time, but two documents that it wrote alike would pass for one another. So:

- numbers that it spells otherwise, or cannot hold, are read as a type of their own, which it refuses;
- an orjson that does not write each character as `json` does is not used (3.10.17 does not);
- what it refuses, and whatever does not have the hash that it claims, is judged by what `json` writes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

import orjson

from ...content.quick_json import spells_as_json_does

__all__ = ["Repeated", "content_hash", "decode", "decode_repeated"]


class Repeated(Exception):  # noqa: N818 - caught where it is raised
    """A name that stands twice in one object, of which readers take one or the other (RFC 8259, 4)."""


class _OwnSpelling(float):
    """A number that JSON libraries spell in several ways, such as ``1e+16``, or not at all, such as NaN."""


def _number(text: str) -> float:
    value = float(text)
    spelled = repr(value)
    return _OwnSpelling(value) if "e" in spelled or "n" in spelled else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise Repeated(counts.most_common(1)[0][0])
    return found


_decoder = partial(json.JSONDecoder, parse_float=_number, parse_constant=_number)
_encode = json.JSONEncoder(
    sort_keys=True,
    separators=(",", ":"),
    ensure_ascii=False,
    allow_nan=False,
    check_circular=False,  # what was parsed has no circles
).encode

#: Return what a text holds; raises `Repeated`, ``ValueError`` where it is not JSON, ``RecursionError``.
decode = _decoder(object_pairs_hook=_unique).decode
#: The same, but of names that stand twice the later one counts, as in Python and in qp-capsule.
decode_repeated = _decoder().decode


#: How deep a capsule may be nested: orjson writes that, qp-capsule compares some 300 levels (CPS has no rule).
DEEPEST = 254
_orjson_can = spells_as_json_does()


def content_hash(document: dict[str, Any], claimed: str) -> str:
    """Return the SHA3-256 of a document's canonical JSON, in hexadecimal (CPS 2).

    Args:
        document: as `decode` has returned it.
        claimed: what it is said to be, which is found faster than anything else.

    Raises:
        UnicodeEncodeError: it holds half a character, which has no bytes to hash.
        ValueError: it holds a number that JSON has no way to write.
        RecursionError: it is nested too deeply.

    """
    # orjson's errors are TypeErrors: a number, half a character, nested too deeply.
    with suppress(TypeError):
        if _orjson_can and _sha3(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)) == claimed:
            return claimed
    if is_deeper(document, DEEPEST):
        raise RecursionError(f"nested more than {DEEPEST} deep")
    return _sha3(_encode(document).encode())


def is_deeper(value: object, levels: int) -> bool:
    """Tell whether objects and lists stand in each other more than so many deep."""
    inner: list[object] = [value]
    for _ in range(levels + 1):
        containers = [one for one in inner if isinstance(one, dict | list)]
        if not containers:
            return False
        inner = [
            value
            for one in containers
            for value in (one.values() if isinstance(one, dict) else one)
        ]
    return True


def _sha3(content: bytes) -> str:
    return hashlib.sha3_256(content).hexdigest()

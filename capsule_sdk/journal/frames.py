r"""Frames: one entry of a journal as a line of text, and back. Pure.

    \n KIND LENGTH CRC JSON

KIND is one letter, LENGTH the bytes of the JSON and CRC its CRC-32 (RFC 1952) with the letter as start
value, both as eight hexadecimal digits; the JSON is UTF-8 without line breaks. A frame begins with the line
break, so that one that was torn by a crash or a full disk never takes the next one with it: a reader finds
its feet again at the next line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar
from zlib import crc32

import orjson

__all__ = ["Damage", "Frame", "Kind", "encode", "parse", "read"]

_HEADER = 20  # bytes: "K 00000000 00000000 "


class Kind:
    """What a frame says: one letter."""

    BEGUN: ClassVar = b"b"
    NOTED: ClassVar = b"n"
    ENDED: ClassVar = b"e"
    #: A record as it is known by now, said again at the head of a new file; it holds once RESTATED follows.
    STATE: ClassVar = b"s"
    RESTATED: ClassVar = b"r"
    #: Before this, in the same file, a write has failed, and may have left the head of a frame.
    CUT: ClassVar = b"t"
    CAPSULE: ClassVar = b"c"
    #: A record that could not be written: alone, how it ended, or several as a number (`unwritten`).
    LOST: ClassVar = b"l"


_KINDS = frozenset(value for key, value in vars(Kind).items() if key.isupper())

#: How much of a header there may be.
_HEAD = re.compile(rb"[a-z](?: [0-9a-f]{0,8}(?: [0-9a-f]{0,8} ?)?)?")


@dataclass(frozen=True, slots=True)
class Frame:
    """One entry that is whole."""

    kind: bytes
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Damage:
    """A line that is no frame.

    ``torn`` if it is the last one, as a process leaves it that dies in a write; ``short`` if it is the head of
    a frame and no more, as a full disk leaves it.
    """

    offset: int
    length: int
    reason: str
    torn: bool
    short: bool = False


def _as_text(value: object) -> str:
    """Name a value that JSON does not know: what is in a journal says at least that there was something."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a value of the user's may have any __str__
        return f"<{type(value).__name__}>"


_encode = json.JSONEncoder(
    separators=(",", ":"), default=_as_text, check_circular=False, ensure_ascii=True
).encode

_AS_JSON_DOES = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)


def encode(kind: bytes, document: dict[str, Any]) -> bytes:
    """Return the frame of a document, whose numbers are finite.

    Raises:
        TypeError, ValueError, RecursionError: it cannot be written as JSON.

    """
    try:
        text = orjson.dumps(document, option=_AS_JSON_DOES)  # it is written while the caller waits
    except TypeError:  # half a character, a long number, a value or a key that JSON does not know
        text = _encode(document).encode("ascii")
    return b"\n%b %08x %08x %b" % (kind, len(text), crc32(text, kind[0]), text)


def _header(kind: bytes, text: bytes) -> bytes:
    return b"%b %08x %08x " % (kind, len(text), crc32(text, kind[0]))


def parse(text: bytes) -> Frame | str:
    """Return the frame that a line is, or why it is none."""
    if len(text) < _HEADER:
        return "too short"
    kind, content = text[:1], text[_HEADER:]
    if kind not in _KINDS:
        return "of no known kind"
    if text[2:10] != b"%08x" % len(content):
        return "its length does not match"
    if text[:_HEADER] != _header(kind, content):
        return "its checksum does not match"
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    return Frame(kind, document) if isinstance(document, dict) else "no JSON object"


def _is_short(text: bytes) -> bool:
    """Tell whether a line may be the head of a frame and no more: not one whose length alone is wrong."""
    if len(text) < _HEADER:
        return _HEAD.fullmatch(text) is not None
    kind, content = text[:1], text[_HEADER:]
    try:
        short = len(content) < int(text[2:10], 16)
    except ValueError:
        return False
    return short and kind in _KINDS and text[11:19] != b"%08x" % crc32(content, kind[0])


def read(file: BinaryIO) -> Iterator[Frame | Damage]:
    """Yield the frames of a file from where it stands, and what is no frame."""
    offset = file.tell()
    line = file.readline()
    while line:
        following = file.readline()
        text = line.rstrip(b"\n")
        if text:
            frame = parse(text)
            if isinstance(frame, str):
                yield Damage(offset, len(text), frame, not following, _is_short(text))
            else:
                yield frame
        offset += len(line)
        line = following

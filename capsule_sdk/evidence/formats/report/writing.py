"""Writing a report: page, manifest and packed records. Memory does not grow with the chain."""

from __future__ import annotations

import base64
import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

from capsule_sdk.evidence.formats.replacing import as_text, replacing

from .page import page

__all__ = ["write_report"]

_LINE_BYTES: Final = 570  # 760 characters of base64
_BLOCK: Final = 1 << 16  # characters of records packed at a time
_GZIP: Final = 31  # zlib's window of 32 KiB, with a gzip header that holds neither name nor time
# What could end the element that the manifest stands in, or a line of script.
_UNSAFE: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
_HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")


def write_report(
    records: Iterable[str],
    out: str | os.PathLike[str] | TextIO,
    *,
    manifest: Mapping[str, Any],
) -> int:
    """Write a chain as a page that shows and checks itself, and return how many records it holds.

    The same records and the same manifest give the same bytes.

    Args:
        records: content and seal of each as one JSON object, in the order of the chain. They go in as they
            are stored (CPS 3.5): no number is printed anew.
        out: an open text file (UTF-8), or a path. A path gets the whole report or keeps what it had; a new
            file is readable by its owner only.
        manifest: what the page says of itself: see `capsule_sdk.evidence.exporting.manifest`. All of it may be
            missing.

    Raises:
        EvidenceError: ``out`` cannot be written. What reading the records raises comes through as it is.

    """
    if not isinstance(out, str | os.PathLike):
        return _write(records, out, manifest)
    with replacing(out) as file, as_text(file) as text:
        return _write(records, text, manifest)


def _write(records: Iterable[str], file: TextIO, manifest: Mapping[str, Any]) -> int:
    head, middle, tail = page()
    file.write(head)
    file.write(json.dumps(manifest).translate(_UNSAFE))
    file.write(middle)
    packed = _Packed(file)
    count = 0
    for record in records:
        packed.add(_on_one_line(record))
        count += 1
    packed.close()
    file.write(tail)
    return count


def _on_one_line(text: str) -> str:
    r"""Return the same JSON without line breaks, in characters that UTF-8 can carry.

    In valid JSON a line break stands only between tokens, where a tab means the same; a text with a raw one in
    it is not valid, and with a tab it is not either. Half a character is written as the escape that means it.
    """
    flat = text.replace("\r", "\t").replace("\n", "\t")
    return _HALF_CHARACTER.sub(lambda half: f"\\u{ord(half.group()):04x}", flat)


class _Packed:
    """JSON Lines, packed with gzip and written as lines of base64."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._gzip = zlib.compressobj(wbits=_GZIP)
        self._waiting: list[str] = []
        self._size = 0
        self._rest = b""

    def add(self, line: str) -> None:
        self._waiting += (line, "\n")
        self._size += len(line) + 1
        if self._size >= _BLOCK:
            self._pack()

    def close(self) -> None:
        self._pack()
        self._put(self._rest + self._gzip.flush())

    def _pack(self) -> None:
        block = "".join(self._waiting).encode()
        self._waiting, self._size = [], 0
        ready = self._rest + self._gzip.compress(block)
        whole = len(ready) - len(ready) % _LINE_BYTES
        self._rest = ready[whole:]
        self._put(ready[:whole])

    def _put(self, data: bytes) -> None:
        for start in range(0, len(data), _LINE_BYTES):
            line = base64.b64encode(data[start : start + _LINE_BYTES])
            self._file.write(f"\n{line.decode()}")

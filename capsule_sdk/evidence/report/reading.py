"""Reading a report back: its data alone. None of the page's code is run or believed.

A page that was altered may show what it likes; what counts is what stands between the two pairs of tags, and
each of these must be there once, so that no two readers can find different data.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

from capsule_sdk.errors import EvidenceError

from .page import END, FIRST_LINES, MANIFEST, RECORDS

__all__ = ["is_report", "read_report"]

_CHUNK: Final = 1 << 18  # characters read at a time
_UNPACKED: Final = 1 << 20  # bytes unpacked at a time: a small file must not fill the memory
_GZIP: Final = 31
_LARGEST_PAGE: Final = 16 << 20  # characters before the manifest, or between it and the records
_LARGEST_MANIFEST: Final = 16 << 20  # characters
_LARGEST_RECORD: Final = 256 << 20  # bytes
_SPACE: Final = re.compile(r"\s+")


def is_report(start: bytes) -> bool:
    """Tell from the first 64 bytes of a file whether it is a report."""
    text = start.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    return text.startswith(FIRST_LINES.encode())


def read_report(file: IO[str] | IO[bytes]) -> tuple[dict[str, Any], Iterator[str]]:
    """Return what a report says of itself, and an iterator over the texts of its records.

    The file must stay open while records are taken from it. Memory does not grow with it, but for one record
    at a time.

    Args:
        file: open at its beginning, as text or as bytes.

    Raises:
        EvidenceError: it is no report, or is damaged; from the iterator too, where the damage is only met
            there. It is a `ValueError`. What the file system raises comes through as it is.

    """
    characters = _Characters(file)
    if not characters.skip_past(MANIFEST, _LARGEST_PAGE):
        raise EvidenceError("this is no report of `capsuled report`: it lacks a manifest")
    manifest = _manifest(characters)
    if not characters.skip_past(RECORDS, _LARGEST_PAGE):
        raise EvidenceError(
            "this is no report of `capsuled report`, or it was cut off: it lacks records"
        )
    return manifest, _records(characters)


def _manifest(characters: _Characters) -> dict[str, Any]:
    text = ""
    for piece in characters.up_to(END):
        text += piece
        if len(text) > _LARGEST_MANIFEST:
            raise EvidenceError("the report is damaged: its manifest has no end")
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise EvidenceError("the report is damaged: its manifest is no JSON object")
    return manifest


def _records(characters: _Characters) -> Iterator[str]:
    waiting: list[bytes] = []
    size = 0
    for block in _unpacked(_decoded(characters.up_to(END))):
        *whole, rest = block.split(b"\n")
        for line in whole:
            yield _text(b"".join([*waiting, line]))
            waiting, size = [], 0
        waiting.append(rest)
        size += len(rest)
        if size > _LARGEST_RECORD:
            raise EvidenceError("the report is damaged: one of its records has no end")
    if size:
        raise EvidenceError("the report is damaged: its last record has no end")
    characters.refuse_again((MANIFEST, RECORDS))


def _text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise EvidenceError("the report is damaged: a record is no UTF-8") from error


def _decoded(pieces: Iterable[str]) -> Iterator[bytes]:
    rest = ""
    for piece in pieces:
        text = rest + _SPACE.sub("", piece)
        whole = len(text) - len(text) % 4
        rest = text[whole:]
        yield _from_base64(text[:whole])
    yield _from_base64(rest)


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise EvidenceError("the report is damaged: its records are no base64") from error


def _unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    gzip = zlib.decompressobj(_GZIP)
    try:
        for piece in pieces:
            data = piece
            while data and not gzip.eof:
                yield gzip.decompress(data, _UNPACKED)
                data = gzip.unconsumed_tail
            if gzip.unused_data or (data and gzip.eof):
                raise EvidenceError("the report is damaged: something stands behind its records")
        yield gzip.flush()
    except zlib.error as error:
        raise EvidenceError(
            f"the report is damaged: its records cannot be unpacked ({error})"
        ) from error
    if not gzip.eof:
        raise EvidenceError("the report is damaged: its records are cut off")


class _Characters:
    """The characters of a file, of which only a few are in memory."""

    def __init__(self, file: IO[str] | IO[bytes]) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._text, self._found = "", False

    def skip_past(self, mark: str, limit: int) -> bool:
        """Go behind a mark; false where there is none within ``limit`` characters."""
        for piece in self.up_to(mark, required=False):
            limit -= len(piece)
            if limit < 0:
                return False
        return self._found

    def up_to(self, mark: str, *, required: bool = True) -> Iterator[str]:
        """Yield what stands before a mark, and go behind it."""
        self._found = False
        while True:
            before, found, behind = self._text.partition(mark)
            if found:
                self._text, self._found = behind, True
                yield before
                return
            keep = len(mark) - 1  # the mark may have begun
            yield self._text[:-keep]
            self._text = self._text[-keep:]
            piece = self._read()
            if not piece:
                break
            self._text += piece
        if required:
            raise EvidenceError(f"the report is damaged: it is cut off before its {mark}")

    def refuse_again(self, marks: Iterable[str]) -> None:
        """Go to the end of the file, where none of these marks may come again."""
        longest = max(map(len, marks))
        while True:
            if any(mark in self._text for mark in marks):
                raise EvidenceError("the report was tampered with: it holds its data twice")
            piece = self._read()
            if not piece:
                return
            self._text = self._text[-longest:] + piece

    def _read(self) -> str:
        try:
            piece = self._file.read(_CHUNK)
        except UnicodeDecodeError as error:
            raise EvidenceError("the report is damaged: it is no UTF-8") from error
        return piece if isinstance(piece, str) else self._decode(piece, not piece)

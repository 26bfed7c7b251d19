"""Reading a report back: its data alone. None of the page's code is run or believed.

A page whose script was altered may show what it likes; what counts is what stands between the two pairs of
tags. So that the page's own script finds the same data, nothing else in the file may be an element that it
could take for one of the two, however it is spelled.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.formats.scanning import TOO_LARGE, is_too_large

from .page import END, MANIFEST, RECORDS

__all__ = ["read_report"]

_CHUNK: Final = 1 << 18  # characters read at a time
_UNPACKED: Final = 1 << 20  # bytes unpacked at a time: a small file must not fill the memory
_GZIP: Final = 31
#: Characters before the manifest, between it and the records, or behind.
_LARGEST_PAGE: Final = 4 << 20
_LARGEST_MANIFEST: Final = 4 << 20  # characters
_LARGEST_RECORD: Final = 64 << 20  # bytes
_CONTINUING: Final = bytes(range(0x80, 0xC0))  # UTF-8: what does not begin a character
_SPACE: Final = re.compile(r"[ \t\r\n\f]+")  # what `atob` passes over (WHATWG, Infra)
#: What makes an element one of the two, and what must not stand in a page: a character that a browser might
#: pass over where this reader sees it, as the escapes of ISO-2022-JP. Linear: blanks are matched in one way.
_NAMES_DATA: Final = re.compile(
    r"""\bid\s*=[\s"']*(?:manifest|records)\b""", re.IGNORECASE | re.ASCII
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")


def read_report(file: IO[str] | IO[bytes]) -> tuple[dict[str, Any], Iterator[str]]:
    """Return what a report says of itself, and an iterator over the texts of its records.

    The file must stay open while records are taken from it. Memory does not grow with it, but for one record
    at a time.

    Args:
        file: open at its beginning, as text or as bytes.

    Raises:
        EvidenceError: it is not a report, or is damaged; from the iterator too, where the damage is only met
            there. It is a `ValueError`. What the file system raises comes through as it is.

    """
    characters = _Characters(file)
    if not characters.skip_past(MANIFEST):
        raise EvidenceError("this is not a report of `capsuled report`: it lacks a manifest")
    manifest = _manifest(characters)
    if not characters.skip_past(RECORDS):
        raise EvidenceError(
            "this is not a report of `capsuled report`, or it was cut off: it lacks records"
        )
    return manifest, _records(characters)


def _manifest(characters: _Characters) -> dict[str, Any]:
    text = ""
    for piece in characters.up_to(END):
        text += piece
        if len(text) > _LARGEST_MANIFEST:
            raise EvidenceError("the report is damaged: its manifest is too large, or has no end")
    if "<" in text:  # it is always escaped; in a browser the element might end elsewhere
        raise EvidenceError("the report was tampered with: its manifest holds a tag")
    try:
        manifest = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise EvidenceError("the report is damaged: its manifest is not a JSON object")
    return manifest


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")  # Python takes it for some, a browser does not


def _records(characters: _Characters) -> Iterator[str]:
    waiting: list[bytes] = []
    size = 0
    for block in _unpacked(_decoded(characters.up_to(END))):
        *whole, rest = block.split(b"\n")
        for line in whole:
            record = b"".join([*waiting, line])
            waiting, size = [], 0
            yield _text(record)
        waiting.append(rest)
        size += len(rest)
        if size > _LARGEST_RECORD:
            raise EvidenceError(
                f"the report cannot be read: it holds {TOO_LARGE}, or one without end"
            )
    if size:
        raise EvidenceError("the report is damaged: its last record has no end")
    characters.go_to_end()


def _text(line: bytes) -> str:
    # Counted before it is decoded: that alone could take four times the memory.
    ascii_only = line.isascii()
    characters = len(line if ascii_only else line.translate(None, _CONTINUING))
    if is_too_large(characters, ascii_only=ascii_only):
        raise EvidenceError(f"the report cannot be read: it holds {TOO_LARGE}")
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise EvidenceError("the report is damaged: a record is not UTF-8") from error


def _refuse_more_data(page: str) -> None:
    """Refuse a page in which something else could be taken for manifest or records."""
    if _CONTROL.search(page):
        raise EvidenceError("the report was tampered with: control characters stand in its page")
    if _NAMES_DATA.search(html.unescape(page)):
        raise EvidenceError("the report was tampered with: it holds its data twice")


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
        raise EvidenceError("the report is damaged: its records are not base64") from error


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

    def skip_past(self, mark: str) -> bool:
        """Go behind a mark over a part of the page; false where there is none within what a page may have."""
        passed: list[str] = []
        size = 0
        for piece in self.up_to(mark, required=False):
            passed.append(piece)
            size += len(piece)
            if size > _LARGEST_PAGE:
                return False
        if self._found:
            _refuse_more_data("".join(passed))
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

    def go_to_end(self) -> None:
        """Go to the end of the file, over the last part of the page."""
        while len(self._text) <= _LARGEST_PAGE:
            piece = self._read()
            if not piece:
                _refuse_more_data(self._text)
                return
            self._text += piece
        raise EvidenceError("the report was tampered with: too much stands behind its records")

    def _read(self) -> str:
        try:
            piece = self._file.read(_CHUNK)
        except UnicodeDecodeError as error:
            raise EvidenceError("the report is damaged: it is not UTF-8") from error
        return piece if isinstance(piece, str) else self._decode(piece, not piece)

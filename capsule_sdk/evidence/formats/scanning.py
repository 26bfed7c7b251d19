"""Scanning: the values of a JSON list, or of JSON Lines, one after the other, out of a file of any size.

What is not JSON is given too, with what is wrong with it, and reading goes on at the next line that begins
with an object: an auditor wants to know all that is wrong, not the first. Memory does not grow with the
file, but for one value at a time, and a value that is too large is a fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple, TextIO

from capsule_sdk.errors import EvidenceError

__all__ = ["TOO_LARGE", "Piece", "is_too_large", "scan"]

#: What a message calls a record that `is_too_large`.
TOO_LARGE: Final = "a record that is too large (more than 64 MiB)"
_CHUNK = 1 << 18  # characters read at a time
_LARGEST_STEP = 4 << 20  # the same, once a value has turned out to be large
_LARGEST = 64 << 20  # bytes that the characters of one value may take in memory
_SHOWN = 200  # characters of what is not JSON that are kept
_TAIL = 16  # a literal or an escape may be cut in two this close to the end of what was read
_BLANK: Final = " \t\r\n"  # all that JSON takes for white space
_SPACE: Final = re.compile(f"[{_BLANK}]*")
_NEXT_LINE: Final = re.compile(r"\n[ \t\r]*(?=\{)")
_decode = json.JSONDecoder().raw_decode


class Piece(NamedTuple):
    """The text of one value; or what is not JSON, cut short, with what is wrong with it."""

    text: str
    fault: str | None = None


def is_too_large(characters: int, *, ascii_only: bool) -> bool:
    """Tell whether a record, or what has been read of it, is larger than any reader takes.

    That is 64 Mi characters; a quarter of it where they are not all ASCII, since one astral character makes
    Python keep all others of its text in four bytes too.
    """
    return characters * (1 if ascii_only else 4) > _LARGEST


def scan(file: TextIO) -> Iterator[Piece]:
    """Yield the values of a JSON list, of JSON Lines, or a single object.

    Raises:
        EvidenceError: the file is empty, or holds neither a list nor an object.

    """
    window = _Window(file)
    first = window.peek()
    if first == "[":
        window.take()
        return _scan_list(window)
    if first == "{":
        return _scan_lines(window)
    raise EvidenceError(
        "this is not a SQLite database, and neither a JSON list nor JSON objects: no chain"
        if first
        else "the file is empty"
    )


class _Window:
    """What has been read of a file and not yet been given."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._ended = False
        self.text, self.at = "", 0

    def more(self) -> bool:
        """Read on, up to twice as much as there is; false at the end of the file."""
        if self._ended:
            return False
        wanted = max(_CHUNK, min(len(self.text) - self.at, _LARGEST_STEP))
        piece = self._file.read(wanted)
        if piece:
            self.text, self.at = self.text[self.at :] + piece, 0
        self._ended = not piece
        return bool(piece)

    def peek(self) -> str:
        """Return the next character that is no white space; nothing at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self) -> None:
        """Go past the character that was peeked at."""
        self.at += 1

    def value(self) -> Piece:
        """Take the value that begins here."""
        while True:
            fault, end = None, self.at
            try:
                _, end = _decode(self.text, self.at)
                goes_on = end >= len(self.text) - _TAIL  # a number may go on
            except json.JSONDecodeError as error:
                fault, goes_on = f"no JSON: {error.msg}", self._may_be_cut(error)
            except (ValueError, RecursionError) as error:
                return self.skip(f"no JSON that can be read: {error}")
            if goes_on and _is_too_large(self.text[self.at :]):
                return self.skip(TOO_LARGE)
            if goes_on and self.more():
                continue
            if fault is not None:
                return self.skip(fault)
            text, self.at = self.text[self.at : end], end
            return Piece("", TOO_LARGE) if _is_too_large(text) else Piece(text)

    def skip(self, fault: str) -> Piece:
        """Go to the next line that begins with an object, or to the end."""
        shown = self.text[self.at : self.at + _SHOWN].partition("\n")[0]
        self.at += 1
        while True:
            found = _NEXT_LINE.search(self.text, self.at)
            if found:
                self.at = found.end()
                break
            if self._go_to_end():
                if self.peek() in {"{", ""}:
                    break
            elif not self.more():
                break
        return Piece(shown, fault)

    def _go_to_end(self) -> bool:
        """Go behind what was read; tell whether it ended in a line on which nothing stands yet."""
        line = self.text.rfind("\n", self.at)
        self.at = len(self.text)
        return line >= 0 and _SPACE.fullmatch(self.text, line) is not None

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.pos >= len(self.text) - _TAIL or error.msg.startswith("Unterminated string")


def _is_too_large(text: str) -> bool:
    return is_too_large(len(text), ascii_only=text.isascii())


def _scan_lines(window: _Window) -> Iterator[Piece]:
    while window.peek():
        yield window.value()


def _scan_list(window: _Window) -> Iterator[Piece]:
    first = True
    while True:
        char = window.peek()
        if char == "]":
            window.take()
            break
        if not first and char == ",":
            window.take()
            char = window.peek()
        elif not first and char:
            yield Piece("", "no comma between two records")
        if not char:
            yield Piece("", "the list has no end: the file was cut off")
            return
        if char == "]":
            yield Piece("", "a comma that nothing follows")
            continue
        piece = window.value()
        yield piece
        first = piece.fault is not None  # what was passed over may have held the comma
    if window.peek():
        yield window.skip("something follows the end of the list")
        while window.peek():
            yield window.value()

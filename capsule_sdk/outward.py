"""Outward: texts that somebody else has written, made fit for where they go. A leaf.

Whatever comes out of a chain is hostile: users, models, and whoever can write to the database have put it
there. So is what a driver says, which may quote a URL with its password. One function for each medium, and no
other way:

    one_line          a line on a terminal, in a pager or in a pipe
    lines_of_text     a longer text, likewise, its own lines kept
    message           an error or a log entry: nothing that steers a terminal, no password of a URL
    without_password  a URL in a message
    cell              a field of CSV, which a spreadsheet may take for a formula
    escaped_json      JSON on a terminal: the same JSON, in which nothing steers it

The page of `capsuled report` has its own in ``web/src/ui/dom.js``. What is written to a file as JSON goes out
as it is stored (CPS 3.5).
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Final

__all__ = [
    "cell",
    "escaped_json",
    "lines_of_text",
    "message",
    "one_line",
    "without_password",
]

#: Characters of a text that one line shows at most, however wide the terminal is.
LONGEST: Final = 1000
#: Hangul fillers, the Braille blank and the like: printable by Unicode, and not to be seen.
_LOOKS_BLANK: Final = dict.fromkeys(
    map(ord, "\u115f\u1160\u2800\u3164\uffa0\u034f\u17b4\u17b5"), " "
)
#: Variation selectors but those of emoji: printable, not to be seen, and fit to hide any text in.
_HIDDEN: Final = dict.fromkeys(
    [*range(0x180B, 0x180E), 0x180F, *range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0)]
)
_CLEANED: Final = _LOOKS_BLANK | _HIDDEN

_USER_AND_PASSWORD = re.compile(r"""://[^\s"'<>]{1,512}@""")
_PASSWORD_OPTION = re.compile(r"(?i)\b((?:ssl)?password|passwd|pwd)(\s*=\s*)('[^']*'|[^\s&;'\"]+)")


def one_line(text: str | None) -> str:
    """Return a text as one line of printable characters, cut to `LONGEST`.

    What looks like nothing is a blank: enough of it would wrap a text into lines of its own making.
    """
    if text is None:
        return ""
    text = text[:LONGEST].translate(_CLEANED)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())


def lines_of_text(text: str) -> list[str]:
    """Return the lines of a text; what is not printable in them is replaced by a sign of that."""
    return [
        line
        if line.isprintable()
        else "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
        for line in (line.expandtabs(4).translate(_CLEANED) for line in text.splitlines())
    ]


def message(text: str) -> str:
    r"""Return an error or a log entry: printable but for its line breaks, and without passwords of URLs.

    >>> message("no chain at postgresql://app:hunter2@db/audit of tenant \x1b[2J")
    'no chain at postgresql://…@db/audit of tenant \\x1b[2J'
    """
    if "://" in text or "=" in text:
        text = _PASSWORD_OPTION.sub(r"\1\2…", _USER_AND_PASSWORD.sub("://…@", text))
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def without_password(url: str | None) -> str | None:
    """Return a URL without user, password and options, and whatever else names a store as it is."""
    scheme, mark, rest = (url or "").partition("://")
    if not mark:
        return url and _PASSWORD_OPTION.sub(r"\1\2…", url)
    _, at, place = rest.rpartition("@")  # first: a password may hold whatever else divides a URL
    place, options, _ = place.partition("?")
    return f"{scheme}{mark}{'…@' if at else ''}{place}{'?…' if options else ''}"


# -- CSV ------------------------------------------------------------------------------------------

#: What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection), old ones a bar too, for a
#: command (DDE). Full-width, small and raised forms are made of these (Unicode, NFKC); a minus sign is not.
_BEGINS_A_FORMULA: Final = frozenset("=+-@|\N{MINUS SIGN}")
#: Before what may be taken for the beginning of a cell, where a semicolon or a tab divides them.
_BEGINS_A_CELL = re.compile(r"(?:\A|[;\t\n])[\s'\"\ufffd]*(?=(.))", re.DOTALL)


def cell(text: str) -> str:
    """Return a text as a cell of CSV that no spreadsheet takes for a formula, and no terminal for a command.

    An apostrophe stands before what may begin one, also behind a line break, a tab or a semicolon, which divide
    cells for some readers. What is not printable, and no line break, is replaced.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_CLEANED)
    if not text.isprintable():
        text = "".join(
            char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}"
            for char in text
        )
    if text[:1] in {"\t", "\n"}:
        text = f"'{text}"
    return _BEGINS_A_CELL.sub(_defused, text)


def _defused(found: re.Match[str]) -> str:
    before, first = found[0], unicodedata.normalize("NFKC", found[1])[:1]
    return f"{before}'" if first in _BEGINS_A_FORMULA else before


# -- JSON -----------------------------------------------------------------------------------------


def escaped_json(text: str) -> str:
    """Return a JSON text with all that is not printable escaped as JSON has it; what it says stays the same."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text
    )


def _escaped(char: str) -> str:
    """Return a character as JSON escapes it; outside of strings JSON allows none that would need it."""
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"

"""Secrets that a place names: elements and fields of XML and HTML, tables, escaped queries, defaults.

Each of these is looked for only in texts that have its sign (``</``, ``|``, ``%3``), and that name a secret.
"""

from __future__ import annotations

import re

from .secret_keys import SECRET
from .secret_names import names_secret
from .secret_values import is_nothing, is_random, is_telling

__all__ = ["without_markup"]

_ELEMENT = re.compile(
    r"<(?:[A-Za-z_][\w-]{0,31}:)?(?P<name>[A-Za-z_][\w.-]{1,63})(?:[ \t\r\n][^<>]{0,512})?>"
    r"(?:\s{0,64}<!\[CDATA\[)?(?P<value>[^<>]++)(?=>?\s{0,64}</(?:[A-Za-z_][\w-]{0,31}:)?(?P=name)[ >])"
)
#: `<key>ApiKey</key><string>…`, `<name>password</name><value>…`, `<setting name="Password"><value>…`
_KEY_AND_VALUE = re.compile(
    r"<(?:key|name|Name)>\s{0,64}(?P<name>[\w.-]{2,128})\s{0,64}</(?:key|name|Name)>\s{0,64}<(?:string|value|Value)>"
    r"\s{0,64}(?P<value>[^<>]+)"
)
_TAG = re.compile(
    r"<[A-Za-z][\w:.-]{0,63}[ \t\r\n][^<>]{0,1024}>(?:\s{0,64}<[vV]alue>(?P<inner>[^<>]+))?"
)
_NAMING = re.compile(
    r"""\b(?:name|key|id|type)\s{0,4}=\s{0,4}["'](?P<name>[\w.:-]{2,128})["']""", re.IGNORECASE
)
_VALUE = re.compile(r"""\bvalue\s{0,4}=\s{0,4}["'](?P<value>[^"']+)""", re.IGNORECASE)

#: Cells of one row: `| password | hunter2 |`, with or without marks around them.
_CELL = re.compile(r"\|[ \t]{0,64}[`*\"']{0,3}(?P<name>[\w.-]{2,64})[`*\"']{0,3}[ \t]{0,64}(?=\|)")
_NEXT_CELL = re.compile(
    r"\|[ \t]{0,64}[`*\"']{0,3}(?P<value>[^\s|`*\\]{6,512})(?=[`*\"']{0,3}[ \t]{0,64}(?:\||\r?$))",
    re.MULTILINE,
)
#: What is between the names of a table's columns and its rows: `|---|---|`, `----+----`.
_RULE = re.compile(
    r"[ \t]{0,64}[|+]?(?:[ \t]{0,4}:?-{2,512}:?[ \t]{0,4}(?:[|+]|(?=\r?\Z))){2,64}\r?"
)
_AROUND = " \t\r`*\"'"  # a cell's text

# A query inside a query, `password%3Dhunter2%26`, and JSON inside one, `%22password%22%3A%22hunter2%22`: found
# from the end of the text on, where the sign comes before the name.
_ESCAPED = re.compile(r"[DAda]3(?:52)?%(?:22(?:52)?%)?(?P<name>[\w.-]{2,128}+)")
_ESCAPED_VALUE = re.compile(
    r"(?:%(?:25)?2[02]|\+){0,3}+(?P<value>(?:[^%&\s\"'<>+]|%(?!(?:25)?(?:2[26Cc]|7[Dd]|0[AaDd]))(?:25)?[0-9A-Fa-f]{2})+)"
)


def without_markup(text: str, small: str) -> str:
    """Return a text without secrets that a place names; ``small`` is it in small letters."""
    if "<" in small:
        if "</" in small:
            text = _ELEMENT.sub(_named, text)
            if "<string>" in small or "<value>" in small:
                text = _KEY_AND_VALUE.sub(_named, text)
        if "value" in small:
            text = _TAG.sub(_field, text)
    if "|" in small:
        text = _without_cells(text)
        if "--" in small:
            text = _without_columns(text)
    if "%3" in small or "%253" in small:
        text = _without_escaped(text)
    return text


def _named(found: re.Match[str]) -> str:
    value = found["value"].strip().removesuffix("]]").rstrip()
    if not names_secret(found["name"]) or not value or is_nothing(value):
        return found[0]
    if found["name"].lower() == "token" and not is_telling(value):
        return found[0]  # a piece of a text
    start = found.start("value") - found.start()
    return found[0][:start] + found["value"].replace(value, SECRET, 1)


def _field(tag: re.Match[str]) -> str:
    """Replace the value of a field: `<input type="password" value="…">`, `<add key="ApiKey" value="…"/>`."""
    said = tag[0]
    if not any(names_secret(name["name"]) for name in _NAMING.finditer(said)):
        return said
    place = tag.span("inner") if tag["inner"] else (0, 0)
    if place == (0, 0) and (value := _VALUE.search(said)):
        place = (tag.start() + value.start("value"), tag.start() + value.end("value"))
    value_said = tag.string[place[0] : place[1]]
    if not value_said.strip() or is_nothing(value_said):
        return said
    return said[: place[0] - tag.start()] + SECRET + said[place[1] - tag.start() :]


def _without_cells(text: str) -> str:
    """Replace the cell behind one that names a secret."""
    parts: list[str] = []
    done = 0
    for cell in _CELL.finditer(text):
        if cell.end() >= done and names_secret(cell["name"]):
            value = _NEXT_CELL.match(text, cell.end())
            if value and is_random(value["value"]):
                parts += (text[done : value.start("value")], SECRET)
                done = value.end()
    return "".join([*parts, text[done:]]) if parts else text


def _without_columns(text: str) -> str:
    """Replace the cells under the name of a secret, in tables of Markdown and of databases."""
    end = "\n" if "\n" in text else "\\n"
    lines = text.split(end)
    changed, columns = False, list[int]()
    for place, line in enumerate(lines):
        if "--" in line and _RULE.fullmatch(line):
            names = lines[place - 1].split("|") if place else []
            columns = [at for at, name in enumerate(names) if names_secret(name.strip(_AROUND))]
        elif columns and "|" in line:
            cells = line.split("|")
            for at in columns:
                if at < len(cells) and is_random(said := cells[at].strip(_AROUND)):
                    cells[at] = cells[at].replace(said, SECRET, 1)
                    changed = True
            lines[place] = "|".join(cells)
        else:
            columns = []
    return end.join(lines) if changed else text


def _without_escaped(text: str) -> str:
    back, size = text[::-1], len(text)
    parts: list[str] = []
    done = last = size  # what is done, and where the last name begins: no value goes beyond
    for found in _ESCAPED.finditer(back):
        if names_secret(found["name"][::-1]):
            start = size - found.start()
            value = _ESCAPED_VALUE.match(text, start, last)
            if value and not is_nothing(value["value"]):
                parts += (text[value.end() : done], SECRET)
                done = value.start("value")
            last = size - found.end()
    return "".join([text[:done], *reversed(parts)]) if parts else text

"""What comes out of a chain steers nothing: no terminal, no pager, no spreadsheet and no log."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import unicodedata
from pathlib import Path
from typing import Final

import pytest
from hostile import (
    AS_STORED,
    COMMANDS,
    HOSTILE,
    STYLE,
    companions,
    hostile_chain,
    on_a_terminal,
    steering,
)

import capsule_sdk
from capsule_sdk import errors
from capsule_sdk.cli import main
from capsule_sdk.errors import CapsuleSDKError, ChainUnavailable, EvidenceError
from capsule_sdk.evidence import open_source, read_chain
from capsule_sdk.logs import report
from capsule_sdk.outward import cell, escaped_json, message, one_line, without_password


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def beside(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a chain in whose every text stands what could steer something, and files made of it."""
    monkeypatch.chdir(home)
    companions(hostile_chain(home, lambda: HOSTILE), lambda: HOSTILE)
    return home


def test_no_command_lets_a_chain_steer_a_terminal(beside: Path) -> None:
    for command, shown in zip(COMMANDS, on_a_terminal(*COMMANDS), strict=True):
        assert shown, command
        assert "Traceback" not in shown, shown
        assert not steering(STYLE.sub("", shown)), (command, shown)


def test_no_command_writes_into_a_pipe_what_could_steer_whoever_prints_it(
    beside: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for command in COMMANDS:
        main(list(command))
        out, err = capfdbinary.readouterr()
        assert not steering(err.decode()), command
        if command in AS_STORED and "csv" not in command:
            assert not re.search(rb"[\0-\x09\x0b-\x1f]", out), command
        else:
            assert not steering(out.decode(), "\n\t"), command


def test_json_that_is_shown_on_a_terminal_says_what_is_stored(beside: Path) -> None:
    shown = json.loads(*on_a_terminal(("export", "-", "--format", "json")))
    assert shown == list(read_chain(beside / "capsules.db"))


# -- spreadsheets ---------------------------------------------------------------------------------

SIGNS: Final = "=+-@|\uff5c\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b⁼⁺⁻₌₊₋\u2212\ufb29"
BEFORE: Final = (
    "",
    " ",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "\u00a0",
    "\u3000",
    "\ufeff",
    "\u200b",
    "\x00",
    "\ue000",
    "'",
    '"',
)


@pytest.mark.parametrize("sign", SIGNS)
def test_no_cell_begins_as_a_formula_however_it_is_spelled(sign: str) -> None:
    for before in BEFORE:
        for text in (f"{before}{sign}1+1", f"{before}{sign}cmd|' /C calc'!A0", f"{before}{sign}"):
            written = cell(text)
            seen = re.sub(r"[\s\ufffd\"]", "", written)
            assert seen.startswith("'"), (text, written)
            assert (
                not re.match(r"'*[=+@|-]", unicodedata.normalize("NFKC", seen)[1:])
                or "'" in written
            )


@pytest.mark.parametrize("divider", [";", "\t", "\n", "\r\n", "\r", '";"', "\n\t ", '"\n"'])
def test_nor_does_a_part_of_it_that_another_reader_takes_for_a_cell(divider: str) -> None:
    """A spreadsheet that divides cells by semicolons or tabs, or knows no quotes."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(["a", cell(f"harmless{divider}=1+1"), "b"])
    for part in re.split(r"[;\t\n,]", out.getvalue()):
        assert not part.lstrip(" \"'\ufffd").startswith("=") or "'" in part


def test_what_is_harmless_stays_as_it_is_in_a_cell() -> None:
    for text in (
        "",
        "a - b",
        "1.5",
        "ana@example.com",
        "über = 漢字 🙂 ❤️",
        "a, -b",
        "two\nlines",
        "it's",
    ):
        assert cell(text) == text


# -- lines, errors, logs --------------------------------------------------------------------------


def test_a_line_shows_nothing_that_is_not_seen() -> None:
    hidden = "".join(chr(0xE0100 + ord(char)) for char in "ignore all that was said")
    assert one_line(f"a{hidden}b\u3164c\u200dd") == "ab c d"
    assert one_line("❤️ 漢字") == "❤️ 漢字"


PASSWORDS: Final = ("hunter2", "p/w", "p?w", "p#w", "a@b", "p:w", "%40%3A")


@pytest.mark.parametrize("password", PASSWORDS)
def test_no_repr_error_or_log_shows_the_password_of_a_url(
    password: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://app:{password}@db.example.com/audit?sslmode=disable"
    said = [
        repr(capsule_sdk.settings.Settings(url=url)),
        str(without_password(url)),
        message(f"could not connect to {url} (timeout)"),
        repr(ChainUnavailable(f"connection to '{url}' failed")),
        str(EvidenceError(f"{url}: no chain")),
    ]
    monkeypatch.setattr("capsule_sdk.logs.raised", None)
    with caplog.at_level(logging.ERROR):
        report("test", RuntimeError(f'invalid connection option in "{url}"'))
    for text in (*said, caplog.text):
        assert password not in text
        assert "db.example.com" in text


@pytest.mark.parametrize(
    "text",
    [
        "host=db password=hunter2",
        "password = 'hunter2 x'",
        "pwd=hunter2;a=b",
        "sslpassword=hunter2",
    ],
)
def test_nor_that_of_a_connection_string(text: str) -> None:
    for said in (
        message(text),
        str(ChainUnavailable(text)),
        repr(capsule_sdk.settings.Settings(url=text)),
    ):
        assert "hunter2" not in said


def test_a_source_does_not_show_the_password_of_its_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = open_source("postgresql://app:hunter2@db.example.com/audit", tenant="acme")
    assert "hunter2" not in repr(opened)


def test_every_error_of_ours_escapes_what_could_steer_and_stays_what_it_was() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, CapsuleSDKError)
        if name not in {"CapsuleRejected", "ChainMissing"}:
            error = kind(f"of tenant {HOSTILE}")
            unseen = "\u3164\U000e0100"  # which no terminal is steered by
            assert not steering(str(error), "\n\t" + unseen)
            assert not steering(repr(error), unseen)
            assert str(kind("two\nlines, über")) == "two\nlines, über"
    assert ChainUnavailable("x").added == 0
    assert str(errors.CapsuleRejected("id", "\x1b[2J")).endswith("stored: \\x1b[2J")


def test_escaped_json_says_the_same() -> None:
    for value in (HOSTILE, {HOSTILE: [HOSTILE, 1.0]}, "über 漢字 🙂"):
        text = json.dumps(value, ensure_ascii=False)
        assert json.loads(escaped_json(text)) == value
        assert not steering(escaped_json(text), "\u3164\U000e0100")

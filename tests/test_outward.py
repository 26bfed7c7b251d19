"""What comes out of a chain steers nothing: no terminal, no pager, no spreadsheet and no log."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import pty
import re
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from chain_support import ROOT, capsule
from looking import EVIL
from nacl.signing import SigningKey
from tampering import (  # noqa: F401 - fixtures
    Made,
    Record,
    at,
    checkpoint,
    everything,
    made_chains,
    places,
    put,
    seal_all_anew,
    use,
)

import capsule_sdk
from capsule_sdk import errors
from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.errors import CapsuleSDKError, ChainUnavailable, EvidenceError
from capsule_sdk.evidence import open_source, read_chain
from capsule_sdk.logs import report
from capsule_sdk.outward import cell, escaped_json, message, one_line, without_password

#: Controls, C1, changes of direction, what is not seen, line ends of every kind, half a character, formulas.
HOSTILE: Final = (
    EVIL
    + "\x1b]52;c;aGk=\x07\x1bP+q544e\x1b\\\x08\x7f\x85\u2028\u2029\u200b\u200d\u2066\u061c\ufeff\u3164"
    "\U000e0041\U000e0100\r\n=1+1\x00"
)
#: What a terminal is styled with by ourselves, and how a bar is drawn and taken away.
_STYLE = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\r?(?:\x1b\[1A)?\x1b\[2K")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def hostile(home: Path) -> Path:
    """A chain in whose every text, name and column stands what could steer something."""
    chain = open_chain(url=home / "capsules.db")
    chain.append([capsule(), capsule()])
    chain.close()
    full = everything()
    full.parent_id = None
    records: list[dict[str, Any]] = []
    for _ in range(2):
        content = full.to_dict()
        for place in places(content):
            if isinstance(at(content, place), str) and place not in {
                ("id",),
                ("type",),
                ("trigger", "timestamp"),
            }:
                put(content, place, HOSTILE)
        content["context"]["environment"] = {HOSTILE: {HOSTILE: [HOSTILE]}}
        content["outcome"]["metrics"] = {HOSTILE: HOSTILE, "children": {HOSTILE: 1}}
        records.append(content)
    columns = ("signature", "signature_pq", "signed_at", "signed_by", "hash", "type", "session_id")
    with sqlite3.connect(home / "capsules.db") as connection:
        for sequence, content in enumerate(records):
            connection.execute(
                "UPDATE capsules SET data = ? WHERE sequence = ?", (json.dumps(content), sequence)
            )
        sets = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(
            f"UPDATE capsules SET {sets} WHERE sequence = 1", [HOSTILE] * len(columns)
        )
    return home / "capsules.db"


KEY: Final = bytes(SigningKey(b"a key that nobody has ever used!").verify_key).hex()
#: Every command, and every form of it, that prints something of a chain.
COMMANDS: Final[Sequence[Sequence[str]]] = (
    ("tree",), ("tree", "--json"), ("tree", "--no-pager"),
    ("show", "0", "--no-pager"), ("show", "1"), ("show", "0", "--section", "trigger"),
    ("show", "0", "--section", "context", "--json"), ("show", "1", "--section", "seal"),
    ("show", "0", "--json"), ("show", "0000"), ("show", "capsule://chain/0#context/environment"),
    ("tail",), ("tail", "--json"), ("tail", "-n", "1"),
    ("stats",), ("stats", "--by", "agent"), ("stats", "--by", "model"), ("stats", "--json"),
    ("verify",), ("verify", "--json"), ("verify", "--selection"), ("verify", "--pubkey", KEY),
    ("verify", "chain.json"), ("verify", "bundle.zip"), ("verify", "--all-tenants"),
    ("verify", "--against", "kept"), ("verify", "lines.jsonl", "--json"),
    ("status",), ("status", "--json"), ("recover",),
    ("export", "-", "--format", "json"), ("export", "-", "--format", "jsonl"),
    ("export", "-", "--format", "csv"), ("export", "o.json"), ("export", "o.zip"), ("report", "o.html"),
    ("check-prompt", "0", "prompt.txt"), ("checkpoint", "-"), ("backup", "o.db"), ("keys", "export", "-"),
    ("export", "-", "--session", HOSTILE.replace("\0", "")), ("show", HOSTILE.replace("\0", "")),
    ("tree", "--task", HOSTILE.replace("\0", "")), ("verify", HOSTILE.replace("\0", "")),
)  # fmt: skip
#: What goes out exactly as it is stored where nobody looks at it: JSON, in which no control stands as it is.
AS_STORED: Final = {
    ("show", "0", "--json"),
    *(command for command in COMMANDS if command[:2] == ("export", "-")),
}


@pytest.fixture
def beside(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What else the commands read: exports, a bundle that says hostile things, a checkpoint."""
    folder = hostile.parent
    monkeypatch.chdir(folder)
    texts = [entry.record_text() for entry in open_source(hostile).entries()]
    (folder / "chain.json").write_text(f"[{','.join(texts)}]")
    (folder / "lines.jsonl").write_text("".join(f"{text}\n" for text in texts) + f"{HOSTILE}\n")
    (folder / "prompt.txt").write_text(HOSTILE)
    from capsule_sdk.evidence.formats.bundle import write_bundle

    said = dict.fromkeys(("format", "source", "made_at", "made_by"), HOSTILE)
    says = {
        **said,
        "selection": {HOSTILE: HOSTILE},
        "keys": [{"public_key": HOSTILE}],
        "checkpoints": [HOSTILE],
    }
    with (folder / "bundle.zip").open("wb") as file:
        write_bundle(texts, says, file)
    (folder / "kept").mkdir()
    record = {"hash": "ab" * 32}
    origin = "name\u202e\x9b31m\u200b"
    (folder / "kept" / "1.checkpoint").write_text(
        checkpoint([record], SigningKey.generate(), origin).text
    )
    return folder


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
        "PAGER": "cat",
        "COLUMNS": "100",
    }


def on_a_terminal(command: Sequence[str]) -> str:
    near, far = pty.openpty()
    run = [sys.executable, "-m", "capsule_sdk.cli", *command]
    with subprocess.Popen(run, stdin=far, stdout=far, stderr=far, env=environment()):
        os.close(far)
        read = b""
        while True:
            try:
                piece = os.read(near, 1 << 16)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            read += piece
    os.close(near)
    return read.decode()  # nor may there be half a character


def steering(text: str, allowed: str = "\n") -> set[str]:
    """The characters that could steer something, or hide."""
    return {
        f"U+{ord(char):04X} {unicodedata.category(char)}"
        for char in text
        if char not in allowed and (not char.isprintable() or char in "\u3164\U000e0100")
    }


def test_no_command_lets_a_chain_steer_a_terminal(beside: Path) -> None:
    for command in COMMANDS:
        shown = on_a_terminal(command)
        assert shown, command
        assert "Traceback" not in shown, shown
        assert not steering(_STYLE.sub("", shown).replace("\r\n", "\n")), (command, shown)


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
    shown = json.loads(on_a_terminal(("export", "-", "--format", "json")))
    assert shown == list(read_chain(beside / "capsules.db"))


# -- spreadsheets ---------------------------------------------------------------------------------

SIGNS: Final = "=+-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b⁼⁺⁻₌₊₋\u2212\ufb29"
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
                not re.match(r"'*[=+@-]", unicodedata.normalize("NFKC", seen)[1:]) or "'" in written
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

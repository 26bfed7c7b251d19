"""Hostile chains: what steers a terminal or a spreadsheet stands in every text, and every command shows it.

Used by ``test_outward.py`` with one text that holds everything, by ``campaigns/outputs.py`` with drawn ones.
"""

from __future__ import annotations

import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from chain_support import ROOT, capsule
from looking import EVIL
from nacl.signing import SigningKey
from tampering import Record, at, checkpoint, everything, places, put, seal_all_anew

from capsule_sdk.chain import open_chain
from capsule_sdk.evidence import open_source
from capsule_sdk.evidence.formats.bundle import write_bundle

#: Controls, C1, changes of direction, what is not seen, line ends of every kind, half a character, formulas.
HOSTILE: Final = (
    EVIL
    + "\x1b]52;c;aGk=\x07\x1bP+q544e\x1b\\\x08\x7f\x85\u2028\u2029\u200b\u200d\u2066\u061c\ufeff\u3164"
    "\U000e0041\U000e0100\r\n=1+1\x00"
)
#: What a terminal is styled with by ourselves, and how a bar is drawn and taken away.
STYLE = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\r?(?:\x1b\[1A)?\x1b\[2K")


Drawn = Callable[[], str]

# -- a chain --------------------------------------------------------------------------------------


def hostile_chain(folder: Path, text: Drawn, key: SigningKey | None = None) -> Path:
    """Make a chain of two records in whose every text, name and column stands such a text.

    With a key it is sealed anew, and whole; without, its seal is hostile too.
    """
    path = folder / "capsules.db"
    chain = open_chain(url=path)
    chain.append([capsule(), capsule()])
    chain.close()
    records = [_hostile(text, str(number)) for number in range(2)]
    if key:
        seal_all_anew(records, key)
    with sqlite3.connect(path) as connection:
        for sequence, record in enumerate(records):
            seal = {name: record.pop(name) for name in ("hash", "signature") if name in record}
            seal |= {"id": record["id"]} if key else {}
            seal |= {"previous_hash": record["previous_hash"]} if key else {}
            sets = ", ".join(f"{name} = ?" for name in ("data", *seal))
            connection.execute(
                f"UPDATE capsules SET {sets} WHERE sequence = ?",
                (json.dumps(record), *seal.values(), sequence),
            )
        columns = ("signature_pq", "signed_at", "signed_by", "type", "session_id")
        columns += () if key else ("signature", "hash")
        sets = ", ".join(f"{name} = ?" for name in columns)
        connection.execute(
            f"UPDATE capsules SET {sets} WHERE sequence = 1", [text() for _ in columns]
        )
    connection.close()
    return path


def _hostile(text: Drawn, number: str) -> Record:
    full = everything()
    full.parent_id = None
    content = full.to_dict()
    for place in places(content):
        if isinstance(at(content, place), str) and place not in {
            ("id",),
            ("type",),
            ("trigger", "timestamp"),
        }:
            put(content, place, text())
    content["id"] = f"{content['id'][:-1]}{number}"
    content["context"]["environment"] = {text(): {text(): [text()]}}
    content["outcome"]["metrics"] = {text(): text(), "children": {text(): 1}}
    return content


def companions(path: Path, text: Drawn) -> None:
    """Lay beside a chain what else the commands read: exports, a bundle, a question, a checkpoint."""
    folder = path.parent
    texts = [entry.record_text() for entry in open_source(path).entries()]
    (folder / "chain.json").write_text(f"[{','.join(texts)}]")
    (folder / "lines.jsonl").write_text("".join(f"{one}\n" for one in texts) + f"{text()}\n")
    (folder / "prompt.txt").write_text(text())
    said: dict[str, Any] = {name: text() for name in ("format", "source", "made_at", "made_by")}
    said |= {
        "selection": {text(): text()},
        "keys": [{"public_key": text()}],
        "checkpoints": [text()],
    }
    with (folder / "bundle.zip").open("wb") as file:
        write_bundle(texts, said, file)
    (folder / "kept").mkdir()
    (folder / "kept" / "1.checkpoint").write_text(
        checkpoint([{"hash": "ab" * 32}], SigningKey.generate(), "name\u202e\x9b31m\u200b").text
    )


# -- commands that show it ------------------------------------------------------------------------

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


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
        "PAGER": "cat",
        "COLUMNS": "100",
    }


_RUN = """
import json, sys
from capsule_sdk.cli import main
for command in json.loads(sys.stdin.readline()):
    main(command)
    print(end="\\n<end of output>\\n", flush=True)
"""


def on_a_terminal(*commands: Sequence[str]) -> list[str]:
    """Return all that these commands write to a terminal, each for itself."""
    near, far = pty.openpty()
    run = [sys.executable, "-c", _RUN]
    with subprocess.Popen(
        run, stdin=subprocess.PIPE, stdout=far, stderr=far, env=environment()
    ) as process:
        os.close(far)
        assert process.stdin
        process.stdin.write(json.dumps(commands).encode() + b"\n")
        process.stdin.flush()
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
    text = read.decode().replace("\r\n", "\n")  # nor may there be half a character
    *shown, rest = text.split("\n<end of output>\n")
    assert len(shown) == len(commands), rest
    return shown


def steering(text: str, allowed: str = "\n") -> set[str]:
    """The characters that could steer something, or hide."""
    return {
        f"U+{ord(char):04X} {unicodedata.category(char)}"
        for char in text
        if char not in allowed and (not char.isprintable() or char in "\u3164\U000e0100")
    }

"""Outputs: what steers a terminal or a spreadsheet, in every field of a chain. Nothing comes through.

Every command shows it, into a pipe and now and then on a terminal, of chains that are whole and of others.
And no cell of a CSV file begins as a formula, whatever reads it.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import random
import re
import tempfile
import time
import unicodedata
from pathlib import Path

from hostile import AS_STORED, COMMANDS, STYLE, companions, hostile_chain, on_a_terminal, steering
from nacl.signing import SigningKey

from capsule_sdk.cli import main
from capsule_sdk.outward import cell

PIECES = (
    *(
        "\x1b[2J",
        "\x1b]0;t\x07",
        "\x1b]52;c;aGk=\x07",
        "\x1bP+q\x1b\\",
        "\x9b31m",
        "\x9d0;t\x9c",
        "\x08\x08",
        "\x7f",
    ),
    *("\r", "\n", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\0", "\t", "\x1c", "\x0e"),
    *(
        "\u202e",
        "\u2066",
        "\u061c",
        "\u200b",
        "\u200d",
        "\ufeff",
        "\u3164",
        "\u2800",
        "\U000e0041",
        "\U000e0100",
    ),
    *(
        "[bold red]",
        "[/]",
        "<script>",
        "%s",
        "{0}",
        "\\x1b",
        "漢字",
        "🙂",
        "ünï",
        "a",
        " ",
        "-----",
        "|",
        "\ud83d",
    ),
)
STARTS = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(1)",
    "\uff1d1",
    "\uff0b1",
    "\uff20x",
    "\ufe661",
    "⁼1",
    "\u22121",
    "=cmd|' /C calc'!A0",
)
DIVIDERS = (
    "",
    ";",
    "\t",
    "\n",
    "\r\n",
    "\r",
    ",",
    '"',
    "'",
    '";"',
    "\ufeff",
    "\u00a0",
    "\u3000",
    "\0",
    "\u200b",
)


def run(chances: random.Random, deadline: float, rounds: int = 1_000_000) -> tuple[list[str], str]:
    """Show hostile chains until the deadline; return what was broken, and the figures."""
    problems: list[str] = []
    shown = cells = chains = 0
    before = Path.cwd()
    while chains < rounds and time.monotonic() < deadline and len(problems) < 5:
        chains += 1
        seed = chances.randrange(1 << 32)
        own = random.Random(seed)
        with tempfile.TemporaryDirectory() as directory, _home(Path(directory)):
            seen, found = _showing(own, Path(directory))
        shown += seen
        for _ in range(200):
            cells += 1
            found += _formula(
                "".join(own.choices((*DIVIDERS, *STARTS, *PIECES), k=own.randint(1, 5)))
            )
        problems += [f"round with seed {seed}: {one}" for one in found]
    assert Path.cwd() == before
    return problems, f"{shown} outputs of {chains} chains, {cells} cells"


def text(chances: random.Random) -> str:
    """Return something hostile; half a character only where JSON carries it."""
    return "".join(chances.choices((*PIECES, *STARTS), k=chances.randint(1, 8))).replace(
        "\ud83d", "?"
    )


def _showing(chances: random.Random, folder: Path) -> tuple[int, list[str]]:
    key = None
    if chances.random() < 0.5:
        key = SigningKey.generate()
        (folder / "key").write_bytes(bytes(key))
        (folder / "key").chmod(0o600)
    path = hostile_chain(folder, lambda: text(chances), key)
    companions(path, lambda: text(chances))
    problems = []
    chosen = chances.sample(COMMANDS, 8)
    for command in chosen:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(list(command))
            except BaseException as error:
                problems.append(f"{command} raises {error!r}")
        allowed = "\n\t"
        if command in AS_STORED and "csv" not in command:
            found = set(re.findall(r"[\0-\x08\x0b-\x1f]", out.getvalue()))
        else:
            found = steering(out.getvalue(), allowed)
        if found or steering(err.getvalue()):
            problems.append(f"{command} lets through {found or steering(err.getvalue())}")
    chosen += chances.sample(COMMANDS, 8)
    for command, shown in zip(chosen[8:], on_a_terminal(*chosen[8:]), strict=True):
        seen = STYLE.sub("", shown)
        found = steering(seen, "\n\t" if "csv" in command else "\n")
        if found or "Traceback" in seen:
            problems.append(f"{command} on a terminal lets through {found}: {seen[:500]!r}")
    return len(chosen), problems


def _formula(value: str) -> list[str]:
    """Tell where a reader of CSV, whatever divides its cells, would see a formula."""
    value = value.replace("\ud83d", "?")
    written = cell(value)
    row = io.StringIO()
    csv.writer(row, lineterminator="\n").writerow(["a", written, "b"])
    for dialect in (
        {},
        {"delimiter": ";"},
        {"delimiter": "\t"},
        {"delimiter": ";", "quoting": csv.QUOTE_NONE},
    ):
        with contextlib.suppress(csv.Error):
            for line in csv.reader(io.StringIO(row.getvalue(), newline=""), **dialect):  # type: ignore[arg-type]
                for one in line:
                    first = unicodedata.normalize("NFKC", one.lstrip(' \t\r\n"\ufffd\u00a0\u3000'))[
                        :1
                    ]
                    if first and first in "=+-@\u2212":
                        return [f"{value!r} becomes the cell {one!r} for {dialect}"]
    return []


@contextlib.contextmanager
def _home(folder: Path):  # type: ignore[no-untyped-def]
    before, place = os.environ.get("QUANTUMPIPES_DATA_DIR"), Path.cwd()
    os.environ["QUANTUMPIPES_DATA_DIR"] = str(folder)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(place)
        if before is None:
            del os.environ["QUANTUMPIPES_DATA_DIR"]
        else:
            os.environ["QUANTUMPIPES_DATA_DIR"] = before

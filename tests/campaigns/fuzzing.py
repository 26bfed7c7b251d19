"""Fuzzed records: a value of a sealed chain is changed, or the bytes of a file. It is not whole.

Python's own `json` reads the file before and after; where it reads the same, and only there, the verdict may
be "whole". No change brings another exception than `EvidenceError` out of the verifier, nor any out of the
commands that show records.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tampering import (
    FOREIGN,
    SEAL,
    Chains,
    Made,
    Record,
    as_json,
    as_lines,
    at,
    changes_of,
    in_database,
    places,
    put,
    same,
    seal_anew,
)

from capsule_sdk.cli import main
from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence import given_keys, open_source, verify
from capsule_sdk.evidence.exporting.manifest import BUNDLE
from capsule_sdk.evidence.formats.bundle import write_bundle

COMMANDS: Sequence[Sequence[str]] = (
    ("tree", "--db"), ("show", "0", "--db"), ("show", "1", "--json", "--db"), ("stats", "--db"),
    ("tail", "--db"), ("export", "-", "--db"), ("export", "-", "--format", "csv", "--db"),
)  # fmt: skip


def run(chances: random.Random, deadline: float, rounds: int = 1_000_000) -> tuple[list[str], str]:
    """Change chains until the deadline; return what was broken, and the figures."""
    problems: list[str] = []
    done: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        chains = Chains(folder)
        while done.total() < rounds and time.monotonic() < deadline and len(problems) < 5:
            seed = chances.randrange(1 << 32)
            own = random.Random(seed)
            made = chains[own.choice(["recorded", "reference"])]
            change = own.choice([changed_value, changed_value, changed_bytes])
            outcome, problem = change(own, made, folder)
            done[outcome] += 1
            if problem:
                problems.append(f"round with seed {seed}: {problem}")
    return problems, f"{done.total()} files: " + ", ".join(
        f"{n} {name}" for name, n in done.items()
    )


def changed_value(chances: random.Random, made: Made, folder: Path) -> tuple[str, str | None]:
    """Change one to three values anywhere, perhaps with the seal of somebody else."""
    records = made.records()
    for _ in range(chances.choice([1, 1, 1, 2, 3])):
        record = chances.choice(records)
        place = chances.choice(list(places(record)))
        with contextlib.suppress(OverflowError):  # what was made huge already
            put(record, place, chances.choice(list(changes_of(at(record, place)).values())))
    if chances.random() < 0.2:
        with contextlib.suppress(Exception):  # of what has no hash
            seal_anew(record, FOREIGN)
    writers: list[Callable[[], Path]] = [
        lambda: as_json(records, folder),
        lambda: as_lines(records, folder),
        lambda: _bundle(records, folder),
        lambda: in_database(made, records, folder),
    ]
    path = None
    with contextlib.suppress(Exception):  # a value that this medium cannot hold: another one can
        path = chances.choice(writers)()
    if path is None:
        path = as_json(records, folder)
    untouched = same(*map(_sealed, (records, made.records())))
    return _judged(path, made, untouched, chances)


def changed_bytes(chances: random.Random, made: Made, folder: Path) -> tuple[str, str | None]:
    """Change, remove or insert some bytes of an export."""
    name, write = chances.choice([("chain.json", as_json), ("chain.jsonl", as_lines)])
    good = write(made.records(), folder).read_bytes()  # type: ignore[operator]
    text = bytearray(good)
    for _ in range(chances.choice([1, 1, 2, 5])):
        place = chances.randrange(len(text))
        how = chances.random()
        if how < 0.4:
            text[place] ^= 1 << chances.randrange(8)
        elif how < 0.6:
            del text[place : place + chances.randint(1, 40)]
        elif how < 0.8:
            text[place:place] = chances.randbytes(chances.randint(1, 4))
        else:
            piece = good[chances.randrange(len(good)) :][: chances.randint(1, 200)]
            text[place:place] = piece
        text = text or bytearray(b" ")
    path = folder / name
    path.write_bytes(text)
    return _judged(path, made, _reads_alike(bytes(text), good, name), chances)


def _judged(
    path: Path, made: Made, untouched: bool, chances: random.Random
) -> tuple[str, str | None]:
    try:
        verdict = verify(open_source(path), given_keys([made.public_key]))
        outcome = verdict.outcome.name.lower()
    except EvidenceError:
        verdict, outcome = None, "unreadable"
    if verdict is not None and verdict.whole and not untouched:
        kept = path.with_name(f"kept-{os.getpid()}-{path.name}")
        kept.write_bytes(path.read_bytes())
        return outcome, f"{path.name} is changed, and called whole: {kept}"
    command = [*chances.choice(COMMANDS), str(path)]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            code = main(command)
        except BaseException as error:
            return outcome, f"{command[:-1]} raises {error!r}"
    if code not in {0, 1, 2}:
        return outcome, f"{command[:-1]} ends with {code}"
    return outcome, None


def _reads_alike(text: bytes, good: bytes, name: str) -> bool:
    """Tell whether Python's own `json` reads the same out of both, and each name once."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    def read(text: bytes) -> list[Any]:
        decoded = text.decode()
        if name.endswith("l"):
            return [
                json.loads(line, object_pairs_hook=once)
                for line in decoded.split("\n")
                if line.strip()
            ]
        return list(json.loads(decoded, object_pairs_hook=once))

    try:
        return same(_sealed(read(text)), _sealed(read(good)))
    except (ValueError, RecursionError):
        return False


def _sealed(records: Sequence[Record]) -> list[Record]:
    """Return records without what no seal covers, by the protocol: who signed, when, and a second signature.

    A signature is the same however its bytes are spelled: in capital letters, with a space between two of them.
    """
    return [
        {
            name: _as_bytes(value) if name == "signature" else value
            for name, value in record.items()
            if name not in SEAL[2:]
        }
        if isinstance(record, dict)
        else record
        for record in records
    ]


def _as_bytes(signature: Any) -> Any:
    try:
        return bytes.fromhex(signature).hex()
    except (TypeError, ValueError):
        return signature


def _bundle(records: Sequence[Record], folder: Path) -> Path:
    path = folder / "b.zip"
    with path.open("wb") as file:
        write_bundle(map(json.dumps, records), {"format": BUNDLE, "selection": None}, file)
    return path

"""Poison: journals in which one record cannot become a capsule. All others arrive, and it has a stand-in.

What is wrong with it is drawn: a value of another type, a field that another version has or lacks, an
impossible date, an id that is none, a task under itself; in a record that had ended, had not, or waited as a
capsule.
"""

from __future__ import annotations

import copy
import json
import logging
import random
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from recording import make_call, make_task

from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.journal.contents import homes
from capsule_sdk.journal.files import Home
from capsule_sdk.journal.frames import Kind, encode
from capsule_sdk.recording.default import recover, store_and_journals
from capsule_sdk.records.capsules import capsule_of
from capsule_sdk.records.record import Record
from capsule_sdk.records.state import beginning, ending, state

JUNK: list[Any] = [
    *(None, True, -1, 0, 1e300, -1e300, float("nan"), float("inf"), 10**30, 10**400, "", "x" * 99),
    *([], {}, [[]], {"": None}, "\ud800", "2026-99-99", "self", "self-dashed", "SELF", [1, "a"]),
]

Frames = list[tuple[bytes, dict[str, Any]]]


def run(chances: random.Random, deadline: float, rounds: int = 1_000_000) -> tuple[list[str], str]:
    """Poison journals until the deadline; return what was broken, and the figures."""
    problems: list[str] = []
    count = 0
    logging.getLogger("capsule_sdk").setLevel(logging.CRITICAL + 1)
    while count < rounds and time.monotonic() < deadline and len(problems) < 5:
        count += 1
        seed = chances.randrange(1 << 32)
        with tempfile.TemporaryDirectory() as directory:
            problem = poisoned(random.Random(seed), Path(directory))
        if problem:
            problems.append(f"round with seed {seed}: {problem}")
    logging.getLogger("capsule_sdk").setLevel(logging.NOTSET)
    return problems, f"{count} poisoned journals"


def poisoned(chances: random.Random, directory: Path) -> str | None:
    """Recover one journal with a poisoned record in it; return what is wrong afterwards."""
    url = str(directory / "capsules.db")
    _, root = store_and_journals(url)
    home = Home.make(root)
    good: list[Record] = [make_task("one"), make_call(), make_task("two")]
    good.append(make_task("below", parent=good[0]))
    frames: Frames = []
    for record in good:
        frames.append((Kind.BEGUN, beginning(record)))
    for record in reversed(good):
        record.settle("success")
        frames.append((Kind.ENDED, ending(record)))
    bad, waiting, victim = poison(chances, good[0])
    at = chances.randrange(len(frames) + 1)
    text = b"".join(encode(kind, document) for kind, document in frames[:at] + bad + frames[at:])
    home.new_records().write_bytes(text)
    if waiting:
        capsules = [capsule_of(make_ended()) for _ in range(2)]
        good_ids = {str(capsule.id) for capsule in capsules}
        documents = [capsule.to_dict() for capsule in capsules]
        documents.insert(chances.randrange(3), waiting[0])
        home.new_backlog().write_bytes(b"".join(encode(Kind.CAPSULE, one) for one in documents))
    else:
        good_ids = set()
    home.release()
    found = recover(url)
    chain = {capsule["id"]: capsule for capsule in read_chain(url)}
    missing = (good_ids | {str(record.id) for record in good}) - set(chain)
    what = json.dumps([document for _, document in bad] or waiting, default=str)[:900]
    if missing:
        return f"{len(missing)} good neighbours are not in the chain: {what}"
    if found.left or list(homes(root)):
        return f"the journal stays where it is: {what}"
    if victim is not None and str(victim) not in chain:
        return f"the record itself has vanished: {what}"
    return None


def make_ended() -> Record:
    record = make_task("waits")
    record.settle("success")
    return record


def poison(chances: random.Random, parent: Any) -> tuple[Frames, list[dict[str, Any]], UUID | None]:
    """Return frames of a bad record, or a bad capsule that waits, and the id that is to be in the chain."""
    record: Record = chances.choice([make_task, make_call])(parent=chances.choice([None, parent]))  # type: ignore[operator]
    if chances.random() < 0.2:
        record.settle("success")
        document = json.loads(json.dumps(capsule_of(record).to_dict()))
        spoil(chances, document, record.id)
        return [], [document], record.id if document.get("id") == str(record.id) else None
    begun = beginning(record)
    if chances.random() < 0.3:
        frames: Frames = [(Kind.STATE, state(record) | {"placed": chances.random() < 0.5})]
        frames.append((Kind.RESTATED, {}))
    else:
        frames = [(Kind.BEGUN, begun)]
    if chances.random() < 0.7:
        record.settle("success")
        frames.append((Kind.ENDED, ending(record)))
    if chances.random() < 0.2:  # two that hang under one another
        other = make_task("other")
        frames[0][1]["parent"] = other.id.hex
        frames.append((Kind.BEGUN, beginning(other) | {"parent": record.id.hex}))
    for _ in range(chances.choice([1, 1, 1, 2, 3])):
        spoil(chances, chances.choice(frames)[1], record.id)
    kept = all(frame[1].get("id", record.id.hex) == record.id.hex for frame in frames[:2])
    return frames, [], record.id if kept and "id" in frames[0][1] else None


def spoil(chances: random.Random, document: dict[str, Any], own: UUID) -> None:
    """Change one thing in a document, at any depth."""
    inside: Any = document
    while True:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        if not keys:
            return
        key = chances.choice(keys)
        if isinstance(inside[key], dict | list) and inside[key] and chances.random() < 0.7:
            inside = inside[key]
            continue
        break
    names = {"self": own.hex, "self-dashed": str(own), "SELF": own.hex.upper()}
    how = chances.random()
    value = copy.deepcopy(chances.choice(JUNK))
    if how < 0.2:
        del inside[key]
    elif how < 0.3 and isinstance(inside, dict):
        inside[chances.choice(["parent", "above", "children", "open", "placed", "sums", "new"])] = (
            names.get(value, value) if isinstance(value, str) else value
        )
    else:
        inside[key] = names.get(value, value) if isinstance(value, str) else value

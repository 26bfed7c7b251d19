"""Companions: keys, checkpoints and claims that a forged file brings. None makes the verdict milder.

What became of the chain, what the auditor brings and what the file brings are drawn. A file is judged once as
records alone and once with its companions; and where a kept checkpoint covers what was falsified, or a key of
the auditor's would have had to sign it, nothing but "broken" will do. The rule: docs/decisions/0022.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey
from tampering import FOREIGN, Chains, Made, Record, checkpoint, seal_all_anew

from capsule_sdk.evidence import given_keys, open_source, verify
from capsule_sdk.evidence.exporting.manifest import BUNDLE, REPORT
from capsule_sdk.evidence.formats.bundle import write_bundle
from capsule_sdk.evidence.formats.report import write_report
from capsule_sdk.evidence.verifying.checkpoints import KnownCheckpoint
from capsule_sdk.evidence.verifying.verify import Outcome, Verdict

#: The worse, the higher; a selection that nothing contradicts is as good as a chain that nothing contradicts.
SEVERITY = {Outcome.WHOLE: 0, Outcome.SELECTION: 0, Outcome.NOT_CHECKED: 1, Outcome.BROKEN: 2}
JUNK: list[Any] = [
    None,
    True,
    -1,
    10**9,
    "",
    "whole",
    [],
    {},
    [[]],
    {"a": {"b": 1}},
    "\ud800",
    "\x1b[2J",
]
CLAIMS = (
    "verdict",
    "trusted",
    "brought",
    "count",
    "complete",
    "source",
    "made_by",
    "tenant",
    "head",
)


def run(chances: random.Random, deadline: float, rounds: int = 1_000_000) -> tuple[list[str], str]:
    """Judge forged files until the deadline; return what was broken, and the figures."""
    problems: list[str] = []
    judged = 0
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        chains = Chains(folder)
        while judged < rounds and time.monotonic() < deadline and len(problems) < 5:
            judged += 1
            seed = chances.randrange(1 << 32)
            made = chains[random.Random(seed).choice(["recorded", "reference", "rotated"])]
            outcome, problem = forged(random.Random(seed), made, folder)
            outcomes[outcome.name.lower()] += 1
            if problem:
                problems.append(f"round with seed {seed}: {problem}")
    return problems, f"{judged} files: " + ", ".join(f"{n} {name}" for name, n in outcomes.items())


def forged(chances: random.Random, made: Made, folder: Path) -> tuple[Outcome, str | None]:
    """Judge one file; return its verdict, and what is wrong with that."""
    true = made.records()
    records, key = crime(chances, made)
    keys = chances.choice([[], [made.public_key], [made.public_key, _public(FOREIGN)]])
    kept = [
        _note(true[: chances.randint(1, len(true))], made.key) for _ in range(chances.randrange(3))
    ]
    plain = folder / "plain.json"
    plain.write_text(json.dumps(records))
    least = _judged(plain, keys, kept)
    says = manifest(chances, records, key, made)
    path = _written(chances, records, says, folder)
    found = _judged(path, keys, kept)
    about = (
        f"{found.outcome.name} with {len(keys)} keys, {len(kept)} kept; it says {str(says)[:500]}"
    )
    if SEVERITY[found.outcome] < SEVERITY[least.outcome]:
        return found.outcome, f"milder than {least.outcome.name} of the records alone: {about}"
    covered = any(_hashes(records)[: _size(note)] != _hashes(true)[: _size(note)] for note in kept)
    if covered and found.outcome is not Outcome.BROKEN and not _is_selection(says):
        return found.outcome, f"a kept checkpoint is contradicted: {about}"
    if covered and SEVERITY[found.outcome] == 0:
        return found.outcome, f"a claim takes a kept checkpoint out of the judgement: {about}"
    if found.outcome is Outcome.WHOLE and not keys:
        return found.outcome, f"whole without a key of the auditor's: {about}"
    if found.outcome is Outcome.WHOLE and key == FOREIGN and len(keys) < 2:
        return found.outcome, f"another's signature counts: {about}"
    return found.outcome, None


def crime(chances: random.Random, made: Made) -> tuple[list[Record], SigningKey]:
    """What somebody hands over, and whose key he has; one in five is honest."""
    records = made.records()
    if chances.random() < 0.2:
        return records, made.key
    key = chances.choice([made.key, FOREIGN])
    start = chances.randrange(len(records))
    how = chances.choice(["rewrite", "cut", "drop", "swap", "double", "insert"])
    if how == "cut":
        return records[: max(1, start)], made.key
    if how == "drop" and len(records) > 1:
        del records[start]
    elif how == "swap":
        other = chances.randrange(len(records))
        records[start], records[other] = records[other], records[start]
    elif how in {"double", "insert"}:
        again = json.loads(json.dumps(records[start]))
        if how == "insert":
            again["id"] = "5e1f7a30-0c4b-4d1e-9a55-ffffffffffff"
        records.insert(start, again)
    else:
        records[start]["outcome"] = {**records[start]["outcome"], "summary": "nothing happened"}
    start = min(start, len(records) - 1)
    if chances.random() < 0.8:
        for record in records[start:]:
            record["signed_by"] = f"qp_key_{_public(key)[:4]}"
        seal_all_anew(records, key, 0 if how == "swap" else start)
    return records, key


def manifest(
    chances: random.Random, records: Sequence[Record], key: SigningKey, made: Made
) -> dict[str, Any]:
    """What the file says of itself: true, false, and no sense at all."""
    says: dict[str, Any] = {"selection": None}
    publics: list[Any] = [_public(key), _public(FOREIGN), made.public_key]
    if chances.random() < 0.8:
        says["keys"] = [
            {"public_key": chances.choice([*publics, *JUNK]), "name": chances.choice(JUNK)}
            for _ in range(chances.randrange(4))
        ]
    if chances.random() < 0.8:
        says["checkpoints"] = [
            chances.choice(
                [
                    _note(records[: chances.randint(1, len(records))], signer, origin).text,
                    *([chances.choice(JUNK)] if chances.random() < 0.1 else []),
                ]
            )
            for signer in chances.choices([key, FOREIGN], k=chances.randrange(5))
            for origin in chances.choices([None, "the-auditors-name"], k=1)
        ]
    if chances.random() < 0.15:
        says["selection"] = chances.choice([{"agent": "a"}, {"since": "1970-01-01"}, *JUNK])
    for name in chances.sample(CLAIMS, k=chances.randrange(4)):
        says[name] = chances.choice(JUNK)
    if chances.random() < 0.1:
        says[chances.choice(["keys", "checkpoints"])] = chances.choice(JUNK)
    return says


def _is_selection(says: dict[str, Any]) -> bool:
    return says["selection"] is not None


def _written(
    chances: random.Random, records: Sequence[Record], says: dict[str, Any], folder: Path
) -> Path:
    texts = map(json.dumps, records)
    if chances.random() < 0.5:
        path = folder / "bundle.zip"
        with path.open("wb") as file:
            write_bundle(texts, {"format": BUNDLE, **says}, file)
    else:
        path = folder / "report.html"
        write_report(texts, path, manifest={"format": REPORT, **says})
    return path


def _judged(path: Path, keys: Sequence[str], kept: Sequence[KnownCheckpoint]) -> Verdict:
    return verify(open_source(path), given_keys(keys), checkpoints=kept)


def _note(records: Sequence[Record], key: SigningKey, origin: str | None = None) -> KnownCheckpoint:
    return checkpoint(records, key, origin)


def _hashes(records: Sequence[Record]) -> list[str]:
    return [record["hash"] for record in records]


def _size(note: KnownCheckpoint) -> int:
    return note.note.checkpoint.size


def _public(key: SigningKey) -> str:
    return bytes(key.verify_key).hex()

"""Verification of a long chain: time and peak memory, beside qp-capsule's own command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from capsule_sdk.chain import open_chain

from .measuring import alternate, spread
from .records import full_capsule

CAPSULES = 100_000
ROUNDS = 5
PROGRAMS = Path(sys.executable).parent
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


def verifying(home: Path) -> tuple[dict[str, str], int]:
    """Return the lines of the table, and 1 if one of the two found something wrong."""
    database = home / "verified.db"
    chain = open_chain(url=database)
    for _ in range(CAPSULES // 1000):
        chain.append([full_capsule() for _ in range(1000)])
    chain.close()
    ours = [PROGRAMS / "capsuled", "verify", str(database), "--quiet"]
    theirs = [PROGRAMS / "capsule", "verify", "--db", str(database), "--signatures", "--quiet"]
    runs: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    failures = 0

    def side(name: str, command: Sequence[str | Path]) -> float:
        nonlocal failures
        code, seconds, megabytes = run(command)
        failures |= code != 0
        runs[name].append((seconds, megabytes))
        return seconds

    mine, other = alternate(
        lambda: side("ours", ours), lambda: side("theirs", theirs), rounds=ROUNDS
    )
    ratios = [theirs / ours for ours, theirs in zip(mine, other, strict=True)]
    memory = {name: [megabytes for _, megabytes in taken] for name, taken in runs.items()}
    return {
        f"verify {CAPSULES:,} capsules with signatures, capsuled, s": spread(mine),
        f"verify {CAPSULES:,} capsules with signatures, capsule, s": spread(other),
        "verify, how many times as fast": spread(ratios),
        "verify, peak memory of all processes, capsuled, MB": spread(memory["ours"], 0),
        "verify, peak memory, capsule, MB": spread(memory["theirs"], 0),
    }, failures


def run(command: Sequence[str | Path]) -> tuple[int, float, float]:
    """Run a command; return its exit code, its seconds, and the megabytes that it had at most.

    The memory is what it and the processes that it started hold together: pages that they share count once.
    """
    # as it runs where it is installed: modules are compiled once
    environment = {name: value for name, value in os.environ.items() if name != _NO_BYTECODE}
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    most = 0.0
    while process.poll() is None:
        most = max(most, sum(map(held, family(process.pid))))
        time.sleep(0.2)  # to look takes time from what is looked at
    return process.returncode, time.perf_counter() - start, most


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it has started."""
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def held(pid: int) -> float:
    """Return the megabytes of one process: its own pages, and its share of those it shares (Linux)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)

"""Crowds: so many processes that begin at once on an empty directory, until all of their records are durable.

    python -m benchmarks.crowds 25 50 100 200

Each imports the SDK, waits for the gate, records one task, and waits until it is in the chain. Linear means:
twice the processes, twice the time.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import sys
from capsule_sdk import capsule_scope, flush
import capsule_sdk.chain
print(flush=True)
sys.stdin.read()
with capsule_scope("task"): pass
left = flush(300)
print(left, flush=True)
"""


def crowd(count: int, home: Path) -> tuple[float, int, int]:
    """Have so many processes begin at once.

    Args:
        count: how many.
        home: an empty directory for their chain.

    Returns:
        Seconds until the last record was durable, how many were not in the end, and how many capsules the
        chain has.

    """
    environment = {name: value for name, value in os.environ.items() if "CAPSULE_SDK" not in name}
    gate, opener = os.pipe()
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=gate, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parent.parent,
            env={**environment, "QUANTUMPIPES_DATA_DIR": str(home)},
        )
        for _ in range(count)
    ]  # fmt: skip
    os.close(gate)
    for child in children:
        assert child.stdout is not None  # noqa: S101 - a pipe was asked for
        child.stdout.readline()
    started = time.monotonic()
    os.close(opener)
    left = 0
    for child in children:
        said, _ = child.communicate()
        left += int(said)
    seconds = time.monotonic() - started
    with sqlite3.connect(home / "capsules.db") as chain:
        (stored,) = chain.execute("SELECT count(*) FROM capsules").fetchone()
    return seconds, left, stored


def main() -> None:
    """Print one line for each number of processes on the command line."""
    for count in map(int, sys.argv[1:] or ["25", "50", "100", "200"]):
        with tempfile.TemporaryDirectory() as home:
            seconds, left, stored = crowd(count, Path(home))
        print(
            f"{count} processes: all durable after {seconds:.1f} s ({1000 * seconds / count:.0f} ms each);"
            f" {left} not durable, {stored} capsules",
            flush=True,
        )


if __name__ == "__main__":
    main()

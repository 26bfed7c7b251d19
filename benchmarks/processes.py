"""Several processes that write one chain, beside one process alone: durable capsules a second.

    python -m benchmarks.processes

Every process submits its records through the SDK and waits until they are durable. What counts is the
time from the first that starts to the last that is done. Each round has a new chain, whose rows are
counted after it.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import alternate, fsync_ms, spread

PROCESSES = 4
CAPSULES = 1_000  # of each process
ROUNDS = 5


def processes(folder: Path) -> tuple[dict[str, str], int]:
    """Measure one process against four on one chain.

    Args:
        folder: where the chains lie while they are measured.

    Returns:
        The lines of the table, and how many capsules were lost, doubled or linked wrongly; 0 is right.

    """
    waits: list[float] = []
    wrong = dict.fromkeys(("lost", "forked"), 0)

    def side(count: int) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as home:
            rate, longest = _race(Path(home), count)
            lost, forked = _faults(Path(home, "capsules.db"), count * (CAPSULES + 1))
        wrong["lost"] += lost
        wrong["forked"] += forked
        if count > 1:
            waits.append(longest)
        return rate

    one, several = alternate(lambda: side(1), lambda: side(PROCESSES), rounds=ROUNDS)
    table = {
        "fsync of 4 kB beside the chains, ms": f"{fsync_ms(folder):.2f}",
        "durable capsules a second, 1 process": spread(one, 0),
        f"durable capsules a second, {PROCESSES} processes on one chain": spread(several, 0),
        "the longest that one of these waited for a commit, ms": spread(waits, 0),
        "lost or doubled, forked links": "{lost}, {forked}".format_map(wrong),
    }
    return table, sum(wrong.values())


def _race(home: Path, count: int) -> tuple[float, float]:
    """Have so many processes record at once; return the rate of all and the longest wait for a commit."""
    environment = {
        **{name: value for name, value in os.environ.items() if "CAPSULE_SDK" not in name},
        "QUANTUMPIPES_DATA_DIR": str(home),
    }
    gate, opener = os.pipe()
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.processes", "record"],
            stdin=gate,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).resolve().parent.parent,
        )
        for _ in range(count)
    ]
    os.close(gate)
    for child in children:
        child.stdout.readline()  # all is imported and the chain is open
    os.close(opener)
    told = [child.communicate()[0].split() for child in children]
    begun, ended, waited = (list(map(float, figures)) for figures in zip(*told, strict=True))
    return count * CAPSULES / (max(ended) - min(begun)), max(waited) * 1e3


def _faults(db: Path, expected: int) -> tuple[int, int]:
    """Count what is missing or too much in a chain, and the links that do not lead to the one before."""
    connection = sqlite3.connect(db)
    try:
        rows = connection.execute(
            "SELECT sequence, previous_hash, hash FROM capsules ORDER BY sequence"
        ).fetchall()
    finally:
        connection.close()
    before = [(-1, None, None), *rows]
    forked = sum(
        row[0] != last[0] + 1 or row[1] != last[2] for last, row in zip(before, rows, strict=False)
    )
    return abs(len(rows) - expected), forked


def _record() -> int:
    """Be one of the processes: record, tell when it began and ended, and how long a commit kept it waiting."""
    from capsule_sdk import capsule_scope, flush, get_recorder  # noqa: PLC0415 - not in the parent

    def record() -> None:
        with capsule_scope("bench", request="x" * 150) as task:
            task.tool("tool", arguments={"query": "q"}, result="y" * 300)

    record()
    left = flush()
    print("ready", flush=True)
    sys.stdin.read()
    begun, longest = time.monotonic(), 0.0
    for _ in range(CAPSULES):
        record()
    last, recorder = time.monotonic(), get_recorder()
    before = recorder.stats()
    while (stats := recorder.stats()).pending:
        if stats.committed != before.committed:
            before, last = stats, time.monotonic()
        longest = max(longest, time.monotonic() - last)
        time.sleep(0.005)
    left += flush()
    print(begun, time.monotonic(), longest)
    return left


def main() -> int:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="capsuled-bench-") as folder:
        table, wrong = processes(Path(folder))
    width = max(map(len, table))
    for name, value in table.items():
        print(f"{name:<{width}}  {value}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(_record() if sys.argv[1:] == ["record"] else main())

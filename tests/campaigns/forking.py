"""Forks: children of the first half second, from threads, while others make the first records. None hangs."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time

CHILDREN, PATIENCE = 20, 60.0

PROGRAM = """
import os, sys, threading, time
from capsule_sdk import capsule_scope
count, delay, patience = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
pids, stop = [], []

def record():
    while not stop:
        with capsule_scope("parent"): pass
        time.sleep(0.001)

def fork():
    for _ in range(count // 2):
        pid = os.fork()
        if pid == 0:
            with capsule_scope("child"): pass
            os._exit(0)
        pids.append(pid)

threads = [threading.Thread(target=record, daemon=True) for _ in range(2)]
forkers = [threading.Thread(target=fork) for _ in range(2)]
for thread in threads: thread.start()
time.sleep(delay)
for thread in forkers: thread.start()
for thread in forkers: thread.join()
deadline, left = time.monotonic() + patience, set(pids)
while left and time.monotonic() < deadline:
    left -= {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
    time.sleep(0.01)
for pid in left: os.kill(pid, 9)
stop.append(True)
print(len(pids), len(left), flush=True)
os._exit(0)
"""


def run(chances: random.Random, deadline: float, rounds: int = 1_000_000) -> tuple[list[str], str]:
    """Fork until the deadline; return what was broken, and the figures."""
    problems: list[str] = []
    forks = done = 0
    while done < rounds and time.monotonic() < deadline and not problems:
        done += 1
        delay = chances.uniform(0.0, 0.5)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
            out = subprocess.run(
                [sys.executable, "-c", PROGRAM, str(CHILDREN), str(delay), str(PATIENCE)],
                env={**_environment(), "QUANTUMPIPES_DATA_DIR": directory},
                capture_output=True, text=True, timeout=3 * PATIENCE, check=True,
            ).stdout  # fmt: skip
        made, hung = map(int, out.split())
        forks += made
        if hung:
            problems.append(f"{hung} of {made} children hang, forked after {delay:.3f} s")
    return problems, f"{forks} forks in {done} processes"


def _environment() -> dict[str, str]:
    import os

    return {k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_SDK_")}

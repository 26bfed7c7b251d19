"""What an auditor does with a chain: look at it, verify it with two programs, take a report along.

python examples/audit.py capsuled-demo
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from capsule_sdk.evidence import export_chain, render_tree

PROGRAMS = Path(sys.executable).parent  # where pip put `capsule` and `capsuled`
_VERDICTS = ("WHOLE", "BROKEN", "PASS", "FAIL")
if PROGRAMS.is_relative_to(Path.cwd()):
    PROGRAMS = PROGRAMS.relative_to(Path.cwd())


def audit(data: Path) -> tuple[list[dict[str, Any]], bool]:
    """Show and verify the chain in a data directory; return its capsules and whether all holds."""
    database, chain = data / "capsules.db", data / "chain.json"
    export_chain(database, chain)
    capsules = json.loads(chain.read_text())
    print(render_tree(capsules), end="\n\n")

    checks = [
        ["capsuled", "verify", str(database)],
        ["capsule", "verify", str(chain), "--full"],
        ["capsule", "verify", "--db", str(database), "--signatures"],
    ]
    verified = [passes(check, key_directory=data) for check in checks]
    report = ["capsuled", "report", str(data / "report.html"), "--db", str(database)]
    verified.append(passes(report, key_directory=data))

    print("\nCheck it yourself:")
    for command in (["capsuled", "export", "--db", str(database), str(chain)], *checks, report):
        print(f"  QUANTUMPIPES_DATA_DIR={shlex.quote(str(data))}", end=" ")
        print(shlex.join([str(PROGRAMS / command[0]), *command[1:]]))
    return capsules, all(verified)


def passes(command: list[str], *, key_directory: Path) -> bool:
    """Run a program that reads the chain; print what it was, and its verdict."""
    run = subprocess.run(
        [PROGRAMS / command[0], *command[1:]],
        env={**os.environ, "QUANTUMPIPES_DATA_DIR": str(key_directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line.strip() for line in (run.stdout + run.stderr).splitlines()]
    verdicts = [line for line in said if line.startswith(_VERDICTS)] or said[-1:] or ["no answer"]
    print(f"{f'{command[0]} {command[1]}':>16}: {verdicts[0]}")
    return run.returncode == 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/audit.py DIRECTORY")
    sys.exit(0 if audit(Path(sys.argv[1]))[1] else 1)

"""What an auditor does with a chain: export it, look at it, have it verified by another program.

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

from capsule_sdk.evidence.export import export_chain
from capsule_sdk.evidence.tree import render_tree

PROGRAMS = Path(sys.executable).parent  # where pip put `capsule` and `capsuled`
if PROGRAMS.is_relative_to(Path.cwd()):
    PROGRAMS = PROGRAMS.relative_to(Path.cwd())


def audit(data: Path) -> tuple[list[dict[str, Any]], bool]:
    """Show and verify the chain in a data directory; return its capsules and whether all holds."""
    database, chain = data / "capsules.db", data / "chain.json"
    export_chain(database, chain)
    capsules = json.loads(chain.read_text())
    print(render_tree(capsules), end="\n\n")

    checks = [
        ["capsule", "verify", str(chain), "--full"],
        ["capsule", "verify", "--db", str(database), "--signatures"],
    ]
    verified = [passes(check, key_directory=data) for check in checks]

    print("\nCheck it yourself:")
    for command in (["capsuled", "export", "--db", str(database), str(chain)], *checks):
        key = (
            f"QUANTUMPIPES_DATA_DIR={shlex.quote(str(data))} " if "--signatures" in command else ""
        )
        print(f"  {key}{shlex.join([str(PROGRAMS / command[0]), *command[1:]])}")
    return capsules, all(verified)


def passes(command: list[str], *, key_directory: Path) -> bool:
    """Run qp-capsule's own verifier, a program apart from this SDK; print its last line."""
    run = subprocess.run(
        [PROGRAMS / command[0], *command[1:]],
        env={**os.environ, "QUANTUMPIPES_DATA_DIR": str(key_directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.strip() for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    print(f"{command[-1][2:]:>10}: {lines[-1] if lines else 'no answer'}")
    return run.returncode == 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/audit.py DIRECTORY")
    sys.exit(0 if audit(Path(sys.argv[1]))[1] else 1)

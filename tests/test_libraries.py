"""Libraries are imported whole: Ctrl-C at the first record, or in `configure`, leaves recording as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from chain_support import ROOT
from postgres_support import postgres  # noqa: F401 - a fixture

PROGRAM = """
import os, signal, sys
from capsule_sdk import capsuled, configure, flush, get_recorder

class Once:
    hit = False
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1] and not Once.hit:
            Once.hit = True
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Once())

@capsuled
def work(): pass

try:
    configure(*sys.argv[3:]) if sys.argv[2] == "configure" else work()
except KeyboardInterrupt:
    print("interrupted")
before = get_recorder().stats().submitted
for _ in range(20): work()
print(Once.hit, flush(20), get_recorder().stats().submitted - before)
"""


def interrupted(module: str, at: str, directory: Path, *urls: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, at, *urls],
        env={**os.environ, "QUANTUMPIPES_DATA_DIR": str(directory), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("at", ["configure", "record"])
@pytest.mark.parametrize(
    "module",
    ["sqlalchemy", "sqlalchemy.sql.compiler", "sqlalchemy.orm.context", "qp_capsule.capsule",
     "capsule_sdk.chain.sqlite", "capsule_sdk.recording.outbox"],
)  # fmt: skip
def test_an_interrupted_import_of_what_a_store_takes_is_made_good(
    module: str, at: str, tmp_path: Path
) -> None:
    urls = [str(tmp_path / "own.db")] if at == "configure" else []
    assert interrupted(module, at, tmp_path, *urls) == "interrupted\nTrue 0 20\n"


def test_so_is_that_of_the_driver_of_postgresql(postgres: str, tmp_path: Path) -> None:
    said = interrupted("psycopg.types.array", "configure", tmp_path, postgres)
    assert said == "interrupted\nTrue 0 20\n"

"""What the tests of chain, evidence and CLI share: capsules, other processes, other checkers."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qp_capsule.cli
from qp_capsule import (
    Capsule,
    CapsuleType,
    ContextSection,
    ExecutionSection,
    OutcomeSection,
    ToolCall,
    TriggerSection,
)

ROOT = Path(__file__).resolve().parent.parent


def capsule(name: str = "task", **fields: Any) -> Capsule:
    """A capsule as the recorder hands it over: complete but for link and seal."""
    return Capsule(
        **{
            "type": CapsuleType.AGENT,
            "trigger": TriggerSection(source=name, request=f"do {name}"),
            "context": ContextSection(agent_id="tester", environment={"note": "ünï → 漢字 🙂"}),
            "execution": ExecutionSection(tool_calls=[ToolCall(tool=name, success=True)]),
            "outcome": OutcomeSection(status="success", metrics={"cost_usd": "0.000025"}),
            **fields,
        }
    )


def capsules(count: int, name: str = "task") -> list[Capsule]:
    return [capsule(f"{name}-{number}") for number in range(count)]


def rows(db: Path, columns: str = "sequence, previous_hash, hash, id") -> list[tuple[Any, ...]]:
    """What is in the table, read by sqlite3 alone."""
    connection = sqlite3.connect(db)
    try:
        return connection.execute(f"SELECT {columns} FROM capsules ORDER BY sequence").fetchall()
    finally:
        connection.close()


def assert_one_unbroken_chain(db: Path, length: int) -> None:
    """Consecutive, linked, no id twice, and verified with signatures by qp-capsule's command."""
    stored = rows(db)
    assert [row[0] for row in stored] == list(range(length))
    assert [row[1] for row in stored] == [None, *(row[2] for row in stored)][:length]
    assert len({row[3] for row in stored}) == length
    assert_verified("--db", db, "--signatures")


def assert_verified(*arguments: str | Path) -> None:
    """By qp-capsule's command, with the keys that ``QUANTUMPIPES_DATA_DIR`` names."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = qp_capsule.cli.main(["verify", *map(str, arguments)])
    assert code == 0, printed.getvalue()


def rotate_keys() -> None:
    """What ``capsule keys rotate`` does."""
    with contextlib.redirect_stdout(io.StringIO()):
        assert qp_capsule.cli.main(["keys", "rotate"]) == 0


def qp_capsule_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it as users do, in a process of its own."""
    command = Path(sys.executable).with_name("capsule")
    return subprocess.run(
        [command, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def start(code: str, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    """Run Python code in a process of its own; its arguments are in ``sys.argv[1:]``."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        **options,
    )


def race(count: int, work: Callable[[int], None]) -> None:
    """Run ``work(number)`` in this many processes that start it at the same moment.

    To be called from code given to `start`: they are forked, so that only one has to import.
    """
    gate, opener = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            os.close(opener)
            os.read(gate, 1)
            status = 1
            try:
                work(number)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        children.append(child)
    os.close(gate)
    os.close(opener)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert not any(statuses), statuses


def finish(*processes: subprocess.Popen[str], timeout: float = 60) -> list[str]:
    """Wait for processes that must succeed, and return what each printed."""
    printed = []
    for process in processes:
        out, err = process.communicate(timeout=timeout)
        assert process.returncode == 0, f"{out}\n{err}"
        assert "Warning" not in err, err
        printed.append(out)
    return printed

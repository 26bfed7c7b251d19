"""The exported names, and what importing them costs: nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import capsule_sdk

NAMES = {
    "Authority",
    "CapsuleLogger",
    "Task",
    "add_capsule_ids",
    "aflush",
    "bind_scope",
    "capsule_scope",
    "capsuled",
    "configure",
    "current_scope",
    "current_task",
    "flush",
    "from_arg",
    "get_recorder",
    "shutdown",
}


def run(code: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={"HOME": str(cwd), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_these() -> None:
    assert set(capsule_sdk.__all__) == NAMES
    assert list(capsule_sdk.__all__) == sorted(capsule_sdk.__all__)
    assert set(dir(capsule_sdk)) >= NAMES
    for name in NAMES - {"CapsuleLogger"}:
        assert getattr(capsule_sdk, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = capsule_sdk.nothing


def test_the_names_of_evidence_are_there_and_nothing_else() -> None:
    from capsule_sdk import evidence

    assert set(evidence.__all__) == set(evidence._HOMES) <= set(dir(evidence))
    for name in evidence.__all__:
        assert getattr(evidence, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = evidence.nothing


def test_importing_the_package_imports_nothing_heavy_starts_no_thread_and_touches_no_file(
    tmp_path: Path,
) -> None:
    code = """
import sys, threading
import structlog, anyio, anyio.to_thread, wrapt  # what is imported anyway
opened = []
sys.addaudithook(lambda event, args: opened.append((event, *map(str, args)))
    if event in ("open", "os.mkdir", "os.rename", "sqlite3.connect", "socket.connect", "subprocess.Popen")
    else None)
import capsule_sdk
written = [call for call in opened
    if call[0] != "open" or not call[1].endswith((".py", ".pyc", ".so")) and call[1].strip("0123456789")]
assert not written, written
assert threading.active_count() == 1, threading.enumerate()
heavy = {"litellm", "sqlalchemy", "qp_capsule", "sqlite3", "asyncpg", "httpx", "fastapi", "nacl"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    run(code, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_decorating_configuring_and_reading_scopes_touch_no_file_either(tmp_path: Path) -> None:
    code = """
import threading
import capsule_sdk
@capsule_sdk.capsuled(agent_id="a")
def work(): ...
capsule_sdk.current_task().reason("nobody listens")
capsule_sdk.current_scope().agent_id
recorder = capsule_sdk.configure(url="capsules.db")
assert recorder.flush(0) == 0
assert threading.active_count() == 1
capsule_sdk.shutdown()
"""
    run(code, tmp_path, QUANTUMPIPES_DATA_DIR=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_ends_with_the_process_is_in_the_chain(tmp_path: Path) -> None:
    code = """
from capsule_sdk import capsule_scope
with capsule_scope("last words"):
    pass
"""
    run(code, tmp_path, QUANTUMPIPES_DATA_DIR=str(tmp_path))
    from capsule_sdk.evidence.exporting.export import read_chain

    (database,) = tmp_path.rglob("*.db")
    assert [capsule["trigger"]["source"] for capsule in read_chain(database)] == ["last words"]

"""Celery's prefork pool: each task that it ran is a task of ours with its call under it, however it ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chain_support import ROOT
from provider import Provider, ProviderProcess
from serving import nothing_committed, recover, tasks_and_calls

pytest.importorskip("celery", reason="Celery is not installed")
WORKER = (
    "celery", "-A", "celery_programs", "worker", "--pool=prefork", "--concurrency=2", "-l", "WARNING",
    "--without-mingle", "--without-gossip", "--without-heartbeat",
)  # fmt: skip


class Celery:
    """A worker, and the one who gives it work."""

    def __init__(self, home: Path, provider: ProviderProcess, *options: str, first: bool) -> None:
        self.db = home / "chain" / "capsules.db"
        self.place = home / "work"
        self.place.mkdir()
        self._log = home / "worker.log"
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "PYTHONWARNINGS": "ignore",
            "BROKER": str(self.place),
            "PROVIDER": provider.base_url,
            "C_FORCE_ROOT": "1",
        }
        self._environment.pop("RECORD_FIRST", None)
        with self._log.open("w") as log:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", *WORKER, *options],
                env={**self._environment, "CAPSULE_SDK_URL": str(self.db)}
                | ({"RECORD_FIRST": "1"} if first else {}),
                cwd=home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def give(self, source: str) -> Any:
        """Run a program that gives work and prints JSON; it records nothing itself."""
        done = subprocess.run(
            [sys.executable, "-c", f"import json\nfrom celery_programs import *\n{source}"],
            env={**self._environment, "CAPSULE_SDK_DISABLED": "1"},
            cwd=self.place,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr + self.log
        return json.loads(done.stdout or "null")

    def wait_for(self, *names: str) -> None:
        until = time.monotonic() + 30
        while not all((self.place / f"begun-{name}").exists() for name in names):
            assert time.monotonic() < until, self.log
            time.sleep(0.01)

    def end(self, *signals: signal.Signals) -> None:
        """Send these; it ends by itself, or the test fails."""
        for number in signals:
            self.worker.send_signal(number)
        self.worker.wait(20)

    def kill_all(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.worker.pid, signal.SIGKILL)
        self.worker.wait(20)

    def jobs(self) -> dict[str, list[Any]]:
        """Return the tasks by name, after a look that each has exactly one call under it."""
        jobs, below = tasks_and_calls(self.db, "job")
        for name, found in jobs.items():
            for job in found:
                (call,) = below[job["id"]]
                assert call["trigger"]["request"].split()[0] == name
        return jobs


@pytest.fixture(scope="module")
def provider() -> Iterator[ProviderProcess]:
    with Provider.start_process() as process:
        yield process


@contextlib.contextmanager
def working(
    home: Path, provider: ProviderProcess, *options: str, first: bool = False
) -> Iterator[Celery]:
    celery = Celery(home, provider, *options, first=first)
    try:
        yield celery
    finally:
        celery.kill_all()


def statuses(jobs: dict[str, list[Any]]) -> dict[str, list[str]]:
    return {name: sorted(one["outcome"]["status"] for one in found) for name, found in jobs.items()}


@pytest.mark.parametrize("first", [True, False], ids=["recorded-before-the-pool", "not-before"])
def test_a_warm_shutdown_of_children_that_are_replaced(
    tmp_path: Path, provider: ProviderProcess, first: bool
) -> None:
    """Retries are tasks of their own; nothing has to be recovered."""
    with working(tmp_path, provider, "--max-tasks-per-child=3", first=first) as celery:
        pids = celery.give(
            "rs = [ask.delay(f'n-{n}') for n in range(9)]\n"
            "ask_again.delay('again')\n"  # whose result would be that of either try
            "print(json.dumps([r.get(timeout=50, interval=0.1) for r in rs]))"
        )
        celery.give("ask.delay('last', 'slow2')")
        celery.wait_for("last", "again-1")
        celery.end(signal.SIGTERM)
    assert len(set(pids)) > 2
    expected = {f"n-{n}": ["success"] for n in range(9)}
    found = statuses(celery.jobs())
    assert found.pop("again") == ["failure", "success"]
    assert found == {**expected, "last": ["success"]}
    assert "recovered" not in celery.log
    assert "internal error" not in celery.log


def test_a_task_beyond_its_hard_time_limit_is_recorded_as_cut_off(
    tmp_path: Path, provider: ProviderProcess
) -> None:
    """Celery ends the child with SIGTERM, then with SIGKILL; the soft limit raises in the task."""
    with working(tmp_path, provider) as celery:
        said = celery.give(
            "rs = [ask.apply_async(('hard', 'slow30'), time_limit=1),"
            " ask.apply_async(('soft', 'slow30'), soft_time_limit=1), ask.delay('good')]\n"
            "print(json.dumps([type(r.get(timeout=50, interval=0.1, propagate=False)).__name__ for r in rs]))"
        )
        celery.give("print(ask.delay('after').get(timeout=50, interval=0.1))")
        celery.end(signal.SIGTERM)
    assert said[0] == "TimeLimitExceeded"
    assert said[2] == "int"
    recover(celery.db)
    found = celery.jobs()
    hard = found.pop("hard")[0]["outcome"]
    assert (hard["status"], hard["error"].partition(":")[0]) in (
        ("partial", "SystemExit"),
        ("failure", "process ended before completion"),
    )
    assert statuses(found) == {"soft": ["failure"], "good": ["success"], "after": ["success"]}
    assert "SoftTimeLimitExceeded" in found["soft"][0]["outcome"]["error"]


def test_a_cold_shutdown_leaves_what_was_under_way_as_cut_off_and_what_had_ended_whole(
    tmp_path: Path, provider: ProviderProcess
) -> None:
    with working(tmp_path, provider) as celery:
        celery.give("print(ask.delay('good').get(timeout=50, interval=0.1))")
        with nothing_committed(celery.db):
            celery.give("print(ask.delay('waiting').get(timeout=50, interval=0.1))")
            celery.give("ask.delay('long-1', 'slow30'); ask.delay('long-2', 'slow30')")
            celery.wait_for("long-1", "long-2")
            celery.end(signal.SIGQUIT)
    recover(celery.db)
    found = statuses(celery.jobs())
    assert found.pop("long-1")[0] in ("failure", "partial")
    assert found.pop("long-2")[0] in ("failure", "partial")
    assert found == {"good": ["success"], "waiting": ["success"]}

"""Servers of several processes for the tests: what they answered, and the chain that they wrote."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from chain_support import ROOT, assert_one_unbroken_chain, rows

from capsule_sdk.evidence.exporting.export import read_chain

__all__ = ["Server", "call_all", "nothing_committed", "recover", "serving", "tasks_and_calls"]


class Server:
    """A server of several processes, what it answered, and the chain that it wrote."""

    def __init__(self, home: Path, *command: str, **environ: str) -> None:
        self.db = home / "capsules.db"
        self._socket = home / "socket"
        self.answered: dict[str, int] = {}  # name of the call -> the process that answered
        self._log = home / "server.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *(part.format(socket=self._socket) for part in command)],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
                    **environ,
                },
                cwd=home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self._socket), retries=3),
            base_url="http://app",
            timeout=60,
        )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self._kill_all()
            raise

    def _wait_until_it_answers(self) -> None:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.TransportError):
                self._client.get("/").raise_for_status()
                return
            assert self._process.poll() is None, self.log
            assert time.monotonic() < until, self.log
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def call(self, name: str, path: str = "call") -> None:
        """Make a request; one that is cut off by the end of its process is not answered."""
        with contextlib.suppress(httpx.TransportError):
            answer = self._client.get(f"/{path}/{name}", headers={"connection": "close"})
            self.answered[name] = int(answer.raise_for_status().json())

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def children(self) -> list[int]:
        """Return its workers."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]

    def stop(self) -> None:
        """End it in its own way; one that hangs is killed, and fails the test."""
        try:
            self.send(signal.SIGTERM)
            self._process.wait(30)
        finally:
            self._kill_all()
            self._client.close()

    def _kill_all(self) -> None:
        """End the server and all its workers, whatever has become of them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)

    def requests(self) -> Counter[str]:
        return Counter(capsule["trigger"]["request"] for capsule in read_chain(self.db))

    def assert_exactly(self, *more: str) -> None:
        """What was answered is in the chain, once; and what was called before it was served."""
        assert self.requests() == Counter([*self.answered, *more]), self.log
        assert_one_unbroken_chain(self.db, len(self.answered) + len(more))
        assert "Traceback" not in self.log


@contextlib.contextmanager
def serving(home: Path, *command: str, **environ: str) -> Iterator[Server]:
    server = Server(home, *command, **environ)
    try:
        yield server
    finally:
        server.stop()


def call_all(server: Server, count: int, path: str = "call") -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: server.call(f"{path}-{number}", path), range(count)))
    assert len([name for name in server.answered if name.startswith(f"{path}-")]) == count


def tasks_and_calls(db: Path, source: str) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Return the tasks of this name by their request, and what hangs under each by its id.

    After a look that the chain is unbroken and holds nothing else but what was done at import.
    """
    capsules = list(read_chain(db))
    assert_one_unbroken_chain(db, len(capsules))
    tasks: dict[str, list[Any]] = defaultdict(list)
    below: dict[str, list[Any]] = defaultdict(list)
    for capsule in capsules:
        if capsule["trigger"]["source"] == source:
            tasks[capsule["trigger"]["request"]].append(capsule)
        elif capsule["parent_id"]:
            below[capsule["parent_id"]].append(capsule)
    imports = sum(one["trigger"]["source"] == "import" for one in capsules)
    assert len(capsules) == 2 * sum(map(len, tasks.values())) + 2 * imports
    return tasks, below


@contextlib.contextmanager
def nothing_committed(db: Path) -> Iterator[None]:
    """Hold the lock of the database, so that what is answered meanwhile cannot be in the chain yet."""
    until = time.monotonic() + 10
    while not db.exists() or not read_count(db):
        assert time.monotonic() < until
        time.sleep(0.01)
    other = sqlite3.connect(db, isolation_level=None, timeout=10)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


def read_count(db: Path) -> int:
    try:
        return len(rows(db))
    except sqlite3.OperationalError:
        return 0


def recover(db: Path) -> None:
    command = [sys.executable, "-m", "capsule_sdk.cli", "recover", "--db", str(db)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

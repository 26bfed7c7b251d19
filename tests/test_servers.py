"""Servers of several processes: when they are down, every request they answered is in the chain once."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from chain_support import ROOT, assert_one_unbroken_chain, rows

from capsule_sdk.evidence.exporting.export import read_chain

GUNICORN = ("gunicorn", "process_programs:wsgi()", "--preload", "--bind", "unix:{socket}")
UVICORN = ("uvicorn", "process_programs:asgi", "--factory", "--workers=2", "--uds", "{socket}")


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
            )
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self._socket), retries=3), base_url="http://app"
        )
        self._wait_until_it_answers()

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

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._client.close()

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


@pytest.mark.parametrize(
    "workers",
    [["--workers=3"], ["--workers=2", "--worker-class=gthread", "--threads=4"]],
    ids=["sync", "gthread"],
)
def test_gunicorn_that_forks_after_the_first_record(tmp_path: Path, workers: list[str]) -> None:
    with serving(tmp_path, *GUNICORN, *workers) as server:
        call_all(server, 200)
    assert len(set(server.answered.values())) > 1
    server.assert_exactly("import")


def test_gunicorn_whose_workers_end_after_some_requests(tmp_path: Path) -> None:
    options = "--workers=2", "--max-requests=20", "--max-requests-jitter=5"
    with serving(tmp_path, *GUNICORN, *options) as server:
        call_all(server, 120)
    assert len(set(server.answered.values())) > 3
    server.assert_exactly("import")


def test_gunicorn_one_of_whose_workers_is_killed_while_it_serves(tmp_path: Path) -> None:
    """The journal has what the killed one had answered and not committed, and `recover` brings it in."""
    with serving(tmp_path, *GUNICORN, "--workers=2") as server:
        with nothing_committed(server.db), ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(server.call, f"call-{number}") for number in range(200)]
            while len(server.answered) < 60:
                time.sleep(0.001)
            victim = list(server.answered.values())[-1]
            os.kill(victim, signal.SIGKILL)
            for one in calls:
                one.result()
        server.call("after")
    assert server.answered["after"] != victim
    assert len(server.answered) > 190
    recover(server.db)
    found = server.requests()
    assert set(found.values()) == {1}
    assert {*server.answered, "import"} <= set(found)
    assert set(found) <= {f"call-{number}" for number in range(200)} | {"after", "import"}
    assert_one_unbroken_chain(server.db, len(found))


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


@pytest.mark.parametrize("path", ["call", "in-thread"])
def test_uvicorn_with_two_workers_that_flush_at_shutdown(tmp_path: Path, path: str) -> None:
    with serving(tmp_path, *UVICORN, FLUSH="1") as server:
        call_all(server, 200, path)
    server.assert_exactly("import", "import")


def test_uvicorn_that_ends_its_workers_by_their_signal(tmp_path: Path) -> None:
    """Without a flush at shutdown: uvicorn raises SIGTERM again when it is done, and no exit hook runs."""
    with serving(tmp_path, *UVICORN) as server:
        call_all(server, 20)
        with nothing_committed(server.db):
            call_all(server, 50, "in-thread")
            server.stop()
    recover(server.db)
    server.assert_exactly("import", "import")

"""Servers of several processes: when they are down, every request they answered is in the chain once."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chain_support import assert_one_unbroken_chain
from serving import call_all, nothing_committed, recover, serving

GUNICORN = ("gunicorn", "process_programs:wsgi()", "--preload", "--bind", "unix:{socket}")
UVICORN = ("uvicorn", "process_programs:asgi", "--factory", "--workers=2", "--uds", "{socket}")


@pytest.mark.parametrize(
    "workers",
    [
        ["--workers=3"],
        ["--workers=2", "--worker-class=gthread", "--threads=4"],
        ["--workers=2", "--worker-class=gevent"],
    ],
    ids=["sync", "gthread", "gevent"],
)
def test_gunicorn_that_forks_after_the_first_record(tmp_path: Path, workers: list[str]) -> None:
    """Also where gevent replaces threads by greenlets in a worker, when all has long been imported."""
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

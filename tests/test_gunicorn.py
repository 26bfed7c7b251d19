"""gunicorn through a day of its life: reload, recycling, workers that it kills, the end.

Each request is one task with its call to a model under it, answered or cut off.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from provider import Provider, ProviderProcess
from serving import Server, nothing_committed, recover, serving, tasks_and_calls

GUNICORN = (
    "gunicorn",
    "--bind",
    "unix:{socket}",
    "--workers=2",
    "--graceful-timeout=20",
)
KINDS = {
    "sync": ("served_agents:wsgi",),
    "gthread": ("served_agents:wsgi", "--worker-class=gthread", "--threads=4"),
    "gevent": ("served_agents:wsgi", "--worker-class=gevent"),
    "uvicorn": ("served_agents:asgi", "--worker-class=uvicorn.workers.UvicornWorker"),
}


@pytest.fixture(scope="module")
def provider() -> Iterator[ProviderProcess]:
    with Provider.start_process() as process:
        yield process


def start(home: Path, provider: ProviderProcess, kind: str, *options: str) -> Any:
    if kind == "gevent" and "--preload" in options:
        # As gevent asks for: before LiteLLM is imported, whose threads stand still otherwise.
        (home / "gunicorn.conf.py").write_text("from gevent import monkey; monkey.patch_all()")
    command = (*GUNICORN, *KINDS[kind], *options)
    return serving(home, *command, PROVIDER=provider.base_url, PYTHONWARNINGS="ignore")


def ask(server: Server, *names: str, word: str = "ask") -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: server.call(name, word), names))


def numbered(part: str, count: int) -> list[str]:
    return [f"{part}-{number}" for number in range(count)]


def assert_each_request_once(server: Server, *cut_off: str) -> dict[str, Any]:
    """All that was served is a task, once, with its one call; return the tasks of what was cut off."""
    tasks, below = tasks_and_calls(server.db, "request")
    assert {*server.answered, *cut_off} <= set(tasks), server.log
    for name, found in tasks.items():
        assert len(found) == 1, f"{name} is there {len(found)} times"
        (call,) = below[found[0]["id"]]
        assert call["trigger"]["source"] == "litellm"
        assert call["trigger"]["request"].split()[0] == name
        if name in server.answered:
            assert found[0]["outcome"]["status"] == call["outcome"]["status"] == "success"
    assert "internal error" not in server.log
    return {name: tasks[name][0] for name in cut_off}


@pytest.mark.parametrize(
    ("kind", "preload"),
    [("sync", True), ("gthread", False), ("gevent", True), ("uvicorn", True)],
)
def test_reload_recycling_and_the_end_lose_and_double_nothing(
    tmp_path: Path, provider: ProviderProcess, kind: str, preload: bool
) -> None:
    options = ["--max-requests=9", "--max-requests-jitter=3", *["--preload"] * preload]
    with start(tmp_path, provider, kind, *options) as server:
        ask(server, *numbered("before", 24))
        server.send(signal.SIGHUP)
        ask(server, *numbered("during", 24))
    assert len(server.answered) > 24  # some workers leave connections unanswered as they end
    assert len(set(server.answered.values())) > 3
    if kind == "uvicorn":  # its workers end by the signal itself, past Python's own end
        recover(server.db)
    assert_each_request_once(server)


@pytest.mark.parametrize(("kind", "preload"), [("sync", True), ("uvicorn", False)])
def test_a_worker_that_gunicorn_kills_for_its_silence_leaves_its_request_as_cut_off(
    tmp_path: Path, provider: ProviderProcess, kind: str, preload: bool
) -> None:
    """It has SIGABRT first, then SIGKILL: by then the database is locked, and nothing of it is in the chain."""
    options = ["--timeout=3", *["--preload"] * preload]
    with start(tmp_path, provider, kind, *options) as server:
        ask(server, *numbered("before", 4))
        with nothing_committed(server.db):
            with contextlib.suppress(httpx.HTTPStatusError):  # 500, where there is time for it
                server.call("late", "slow30" if kind == "sync" else "spin30")
            ask(server, *numbered("waiting", 4))
        ask(server, *numbered("after", 4))
    recover(server.db)
    assert "late" not in server.answered
    task = assert_each_request_once(server, "late")["late"]
    assert task["outcome"]["status"] in ("failure", "partial")

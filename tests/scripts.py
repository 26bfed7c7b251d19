"""Tests of whole processes: each script runs in a Python of its own, all of a module's at the same time.

    @script('''
    with capsule_scope("task"): ...
    ''')
    def test_what_it_shows(run: Run) -> None:
        assert run.sources == ["task"]

A test module that uses it imports the fixtures ``run`` and ``_running``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from chain_support import ROOT, assert_verified
from recording import assert_tree_is_whole

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.exporting.export import read_chain

__all__ = ["Run", "_running", "run", "script"]

F = TypeVar("F", bound=Callable[..., None])

PREAMBLE = """
import asyncio, atexit, multiprocessing, os, signal, sys, threading, time
import capsule_sdk
from capsule_sdk import capsule_scope, capsuled, flush
"""


def script(
    code: str, *, exits_with: int = 0, file: bool = False, **environ: str
) -> Callable[[F], F]:
    """Give the test what a process does that runs this code; ``file`` if it has to be importable."""

    def mark(test: F) -> F:
        test.script = (PREAMBLE + textwrap.dedent(code), exits_with, file, environ)  # type: ignore[attr-defined]
        return test

    return mark


@dataclass
class Run:
    """What a process did, and what it left behind."""

    out: str
    err: str
    directory: Path

    @property
    def capsules(self) -> list[dict[str, Any]]:
        try:
            return list(read_chain(self.directory / "capsules.db"))
        except EvidenceError:
            return []

    @property
    def sources(self) -> list[str]:
        return [capsule["trigger"]["source"] for capsule in self.capsules]

    def one(self, source: str) -> dict[str, Any]:
        found = [c for c in self.capsules if c["trigger"]["source"] == source]
        assert len(found) == 1, f"{len(found)} of {source!r} among {self.sources}\n{self.err}"
        return found[0]

    def verify(self, count: int) -> None:
        assert len(self.capsules) == count, f"{self.sources}\n{self.err}"
        assert_tree_is_whole(self.capsules)
        os.environ["QUANTUMPIPES_DATA_DIR"] = str(self.directory)  # put back by conftest
        assert_verified("--db", self.directory / "capsules.db", "--signatures")


def _execute(
    directory: Path, code: str, exits_with: int, file: bool, environ: dict[str, str]
) -> Run:
    path = directory / "script.py"
    path.write_text(code)
    done = subprocess.run(
        [sys.executable, str(path)] if file else [sys.executable, "-c", code],
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("CAPSULE_SDK_")},
            "PYTHONPATH": str(ROOT),
            "QUANTUMPIPES_DATA_DIR": str(directory),
            "CAPSULE_SDK_EXIT_TIMEOUT": "60",  # what is recorded is there, however slow the machine
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == exits_with, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return Run(done.stdout, done.stderr, directory)


@pytest.fixture(scope="module")
def _running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Run]]]:
    with ThreadPoolExecutor(3) as pool:
        running: dict[str, Future[Run]] = {}
        for item in request.session.items:
            test = getattr(item, "function", None)
            if item.path == request.path and hasattr(test, "script"):
                directory = tmp_path_factory.mktemp("script")
                running[item.name] = pool.submit(_execute, directory, *test.script)
        yield running


@pytest.fixture
def run(request: pytest.FixtureRequest, _running: dict[str, Future[Run]]) -> Run:
    return _running[request.node.name].result()

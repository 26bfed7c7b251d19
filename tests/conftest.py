"""Shared fixtures: a real SQLite chain per test, verified by other code than wrote it.

Every test starts with no recorder, no ``CAPSULE_SDK_…`` variable, and qp-capsule's data in its own
``tmp_path``. An error inside the SDK fails the test, unless it is marked ``internal_errors``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import capsule_sdk
from capsule_sdk import logs
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.journal import temporary
from capsule_sdk.recording.recorder import Recorder
from capsule_sdk.scopes import node

pytest.register_assert_rewrite("litellm_support")
# Machines that run these tests are busy: no example is too slow, only wrong.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")
# Before anything imports LiteLLM, which would ask the network for prices.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

Capsule = dict[str, Any]


class Chain:
    """The chain of one test: ``url`` is its database file, ``data_dir`` holds the keys."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.url = data_dir / "capsules.db"
        self.configure()

    def configure(self, **settings: Any) -> Recorder:
        """Replace the default recorder by one on the same file with other settings."""
        self.recorder = capsule_sdk.configure(url=self.url, **settings)
        return self.recorder

    def stored(self) -> list[Capsule]:
        """Return what is in the file at this moment, in chain order, without waiting."""
        return list(read_chain(self.url)) if self.url.exists() else []

    def capsules(self, *, timeout: float = 20.0) -> list[Capsule]:
        """Return all sealed capsules in chain order, after a flush that leaves nothing behind."""
        assert capsule_sdk.flush(timeout) == 0, "records are not durable"
        return self.stored()

    def named(self, source: str) -> list[Capsule]:
        """Return the capsules whose ``trigger.source`` is, or ends in, ``.source``."""
        return [
            capsule
            for capsule in self.capsules()
            if capsule["trigger"]["source"] == source
            or capsule["trigger"]["source"].endswith(f".{source}")
        ]

    def one(self, source: str) -> Capsule:
        """Return the only capsule of this name."""
        found = self.named(source)
        names = [capsule["trigger"]["source"] for capsule in self.capsules()]
        assert len(found) == 1, f"{len(found)} capsules named {source!r} among {names}"
        return found[0]

    def sources(self) -> list[str]:
        """Return the last part of all names, in chain order."""
        return [capsule["trigger"]["source"].rpartition(".")[2] for capsule in self.capsules()]

    def children(self, parent: Capsule | None) -> list[Capsule]:
        """Return what hangs directly under a capsule, or under none."""
        parent_id = None if parent is None else parent["id"]
        return [capsule for capsule in self.capsules() if capsule["parent_id"] == parent_id]

    def tree(self) -> dict[str, Any]:
        """Return the names as nested dicts; equal siblings get ``#2``, ``#3`` …"""
        below: defaultdict[str | None, list[Capsule]] = defaultdict(list)
        for capsule in self.capsules():
            below[capsule["parent_id"]].append(capsule)

        def level(parent_id: str | None) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for capsule in below[parent_id]:
                name = key = capsule["trigger"]["source"].rpartition(".")[2]
                count = 1
                while key in found:
                    count += 1
                    key = f"{name}#{count}"
                found[key] = level(capsule["id"])
            return found

        return level(None)

    def verify(self) -> None:
        """Have qp-capsule's own command verify hashes, links and signatures, in another process."""
        self.capsules()
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("capsule")),
                *("verify", "--db", str(self.url), "--signatures"),
            ],
            env={**os.environ, "QUANTUMPIPES_DATA_DIR": str(self.data_dir)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session", autouse=True)
def _temporary() -> Iterator[Path]:
    """Give a place for what the SDK keeps among what is temporary; remove what is empty elsewhere."""
    directory = Path(tempfile.mkdtemp(prefix="capsuled-tests-"))
    directory.chmod(0o1777)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
    for own in temporary.own_places(""):
        for empty in (*own.glob("*.records"), own):
            with contextlib.suppress(OSError):  # something is in it
                empty.rmdir()


@pytest.fixture(autouse=True)
def _sdk(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    _temporary: Path,
) -> Iterator[None]:
    monkeypatch.setattr(temporary, "directories", lambda: [_temporary])
    for name in list(os.environ):
        if name.startswith("CAPSULE_SDK_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path))
    expected = request.node.get_closest_marker("internal_errors") is not None
    raised: list[BaseException] = []
    # With a list there, the guard raises in the main thread: the test stops at once.
    monkeypatch.setattr(logs, "raised", None if expected else raised)
    logs.errors.clear()
    yield
    left = node._current.get()
    node._current.set(None)
    capsule_sdk.shutdown(5.0)
    assert left is None, "a scope is still current after the test"
    assert not raised, f"errors inside the SDK: {raised}"


@pytest.fixture
def chain(_sdk: None, tmp_path: Path) -> Chain:
    return Chain(tmp_path)

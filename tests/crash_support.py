"""What the tests that break things share: the process that runs programs, and what must be in the chain
afterwards.

What a journal says is read here by other code than the SDK's, from the description of its format alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from chain_support import ROOT, assert_verified
from recording import assert_tree_is_whole

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.evidence.sources import open_source
from capsule_sdk.evidence.verifying.keys import keys_here
from capsule_sdk.evidence.verifying.verify import verify

__all__ = ["CUT_OFF", "Server", "Site", "Told", "frames_of", "told_by"]

CUT_OFF = "process ended before completion"


#: What is said of a database whose maker was killed before its first commit.
_NO_CHAIN_YET = (
    "holds no capsules yet|is an empty database|file is empty|in the middle of a transaction"
)


class Server:
    """Runs programs (`crash_programs`), each in a process of its own."""

    def __init__(self, preload: Path | None = None) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if "CAPSULE" not in name},
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "PYTHONWARNINGS": "ignore",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "CRITICAL",
            **({} if preload is None else {"LD_PRELOAD": str(preload)}),
        }
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "crash_server.py")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def start(self, job: dict[str, Any]) -> int:
        """Start a program and return its pid."""
        return self._ask(job)

    def wait(self, pid: int) -> int:
        """Return how a program has ended."""
        return self._ask({"wait": pid})

    def kill(self, pid: int) -> int:
        """Kill a program, unless it has ended, and return how it did."""
        os.kill(pid, signal.SIGKILL)  # nobody else gets this pid before `wait`
        return self.wait(pid)

    def stop(self) -> None:
        self._process.communicate(timeout=30)

    def _ask(self, job: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


# -- what journals say -------------------------------------------------------------------------------


@dataclass
class Told:
    """What a journal says of one record: ``status`` is ``None`` while it has not ended."""

    parent: str | None = None
    status: str | None = None
    is_task: bool = False


def told_by(root: Path) -> dict[str, Told]:
    """Return by id what all journals below a directory say, waiting capsules and all."""
    told: dict[str, Told] = {}
    for home in sorted(path for path in root.glob("[!.]*") if path.name != "damaged"):
        told |= _told_by_one(home)
    return told


def _told_by_one(home: Path) -> dict[str, Told]:
    told: dict[str, Told] = {}
    for path in sorted(home.glob("records-*")):
        frames = list(frames_of(path))
        if any(kind == "r" for kind, _ in frames):
            told = {}
        for kind, document in sorted(frames, key=lambda frame: frame[0] not in "sr"):
            if kind in "rt":
                continue
            key = _uuid(document["id"])
            if kind == "s" and key in told:  # not said to the end: what was said before holds
                continue
            record = told.setdefault(key, Told())
            if kind in "sb":
                record.parent = _uuid(document["parent"]) if "parent" in document else None
                record.is_task = "task" in document
            record.status = document.get("status", record.status)
    for path in sorted(home.glob("backlog-*")):
        for _, capsule in frames_of(path):
            told[capsule["id"]] = Told(capsule["parent_id"], capsule["outcome"]["status"])
    return told


def frames_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and document of the frames that are whole."""
    for line in path.read_bytes().split(b"\n"):
        kind, length, checksum, content = line[:1], line[2:10], line[11:19], line[20:]
        if line and len(line) >= 20 and len(content) == int(length, 16):
            assert crc32(content, kind[0]) == int(checksum, 16)
            yield kind.decode(), json.loads(content)


def _uuid(text: str) -> str:
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


# -- one chain, and what was done to it --------------------------------------------------------------


class Site:
    """A chain in a directory, what programs have reported to do on it, and whether all of that is there."""

    def __init__(self, server: Server, directory: Path, seed: int = 0) -> None:
        self._server = server
        self._seed = seed
        self.data = directory / "data"
        self.data.mkdir(parents=True)
        self.database = self.data / "capsules.db"
        self.journals = self.data / "journal" / "capsules.db.records"
        self.report = directory / "report"
        self.output = directory / "output"
        self.output.touch()
        self._chain: list[dict[str, Any]] = []
        self._told: dict[str, Told] = {}

    def start(self, program: str, **options: Any) -> int:
        """Start a program on this chain."""
        self._seed += 1
        return self._server.start(
            {
                "program": program,
                "seed": self._seed,
                "directory": str(self.data),
                "database": str(self.database),
                "report": str(self.report),
                "output": str(self.output),
                **options,
            }
        )

    def run(self, program: str, **options: Any) -> int:
        """Run a program to its end, and return how that was."""
        return self._server.wait(self.start(program, **options))

    def wait(self, pid: int) -> int:
        """Return how a program has ended."""
        return self._server.wait(pid)

    def kill_after(self, moments: dict[int, float]) -> None:
        """Kill programs, each so many seconds from now."""
        began = time.monotonic()
        for pid, moment in sorted(moments.items(), key=lambda one: one[1]):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            self._server.kill(pid)

    def reported(self, word: str) -> list[list[str]]:
        """Return what follows this word in the lines of the report."""
        lines = self.report.read_text().splitlines() if self.report.exists() else []
        return [line.split()[1:] for line in lines if line.split()[0] == word]

    def capsules(self) -> list[dict[str, Any]]:
        """Return what is in the chain now."""
        return self.capsules_in(self.database)

    @staticmethod
    def capsules_in(database: Path) -> list[dict[str, Any]]:
        """Return what is in a chain, if there is one yet."""
        try:
            return list(read_chain(database))
        except EvidenceError as error:
            if not database.exists() or re.search(_NO_CHAIN_YET, str(error)):
                return []  # killed before there was a chain
            raise

    def recover(self, **options: Any) -> None:
        """Run ``capsuled recover``."""
        code = self.run("recover", **options)
        assert code == 0, f"recover ended with {code}\n{self.log()}"

    def log(self) -> str:
        """Return what the programs have printed and logged."""
        return self.output.read_text()

    def remove(self) -> None:
        shutil.rmtree(self.data.parent)

    # -- what must be so ---------------------------------------------------------------------------

    def look(self) -> None:
        """Note what is in the chain and what the journals say, while nobody writes."""
        self._chain = self._chain or self.capsules()
        self._told |= told_by(self.journals)

    def assert_recovered(self) -> None:
        """The chain has all that it and the journals had before, what was reported, and no more."""
        before, told = self._chain, self._told
        capsules = self.capsules()
        assert capsules[: len(before)] == before, "the chain of before was changed"
        there = {capsule["id"] for capsule in before}
        started = {task for task, _ in self.reported("started")}
        after = {capsule["id"]: capsule for capsule in capsules}
        lost = {one: told.get(one) for one in (there | told.keys()) - after.keys()}
        assert not lost, f"{len(lost)} are lost: {lost}"
        made_up = [after[one] for one in after.keys() - there - told.keys() - started]
        assert not made_up, f"{len(made_up)} were made up: {made_up}"
        for one in told.keys() - there:
            assert after[one]["parent_id"] == told[one].parent
            assert after[one]["outcome"]["status"] == (told[one].status or "failure")
            if told[one].status is None:
                assert after[one]["outcome"]["error"] == CUT_OFF
        self.assert_whole()

    def assert_whole(self) -> None:
        """The chain holds what was reported, verifies, and no journal is left."""
        capsules = self.capsules()
        self._assert_reported(capsules)
        assert_tree_is_whole(capsules)
        _assert_commitments_count(capsules)
        if capsules:
            os.environ["QUANTUMPIPES_DATA_DIR"] = str(self.data)  # put back by conftest
            assert_verified("--db", self.database, "--signatures")
            verdict = verify(open_source(self.database), keys_here())
            assert verdict.whole
            assert not verdict.findings
        left = sorted(self.journals.rglob("*")) if self.journals.exists() else []
        assert not left, f"left behind: {left}\n{self.log()}"

    def _assert_reported(self, capsules: list[dict[str, Any]]) -> None:
        by_id = {capsule["id"]: capsule for capsule in capsules}
        returned = {task for (task,) in self.reported("returned")}
        for task, above in self.reported("started"):
            assert task in by_id, f"started {task} is lost"
            capsule, outcome = by_id[task], by_id[task]["outcome"]
            assert (capsule["parent_id"] or "-") == above
            if outcome["status"] != "success":
                assert task not in returned, f"returned {task} is {outcome}"
                assert (outcome["status"], outcome["error"]) == ("failure", CUT_OFF)
        for task, count in self.reported("noted"):
            effects = by_id[task]["outcome"]["side_effects"]
            expected = [f"effect {number}" for number in range(1, len(effects) + 1)]
            assert effects == expected
            assert len(effects) >= int(count)
        asked = Counter(c["trigger"]["request"] for c in capsules if c["type"] == "chat")
        assert all(count == 1 for count in asked.values())
        answers = {c["trigger"]["request"]: c for c in capsules if c["type"] == "chat"}
        for text, above in self.reported("answered"):
            assert text in answers, f"answered {text} is lost"
            assert answers[text]["parent_id"] == above
            assert answers[text]["outcome"]["status"] == "success"
            assert answers[text]["outcome"]["result"] == "so be it"


def _assert_commitments_count(capsules: list[dict[str, Any]]) -> None:
    below: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for capsule in capsules:
        if capsule["parent_id"] is not None:
            below[capsule["parent_id"]].append(capsule)
    for capsule in capsules:
        if "children" in capsule["outcome"]["metrics"]:
            ended = sum(child["outcome"]["error"] != CUT_OFF for child in below[capsule["id"]])
            assert capsule["outcome"]["metrics"]["children"]["ended"] == ended
            calls = sum(one["type"] == "chat" for one in _all_below(capsule["id"], below))
            assert capsule["outcome"]["metrics"]["llm_calls"] == calls


def _all_below(task: str, below: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for child in below.get(task, ()):
        yield child
        yield from _all_below(child["id"], below)

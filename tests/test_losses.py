"""What is lost is called lost, and counted: by the process itself, by the next one, and by all who look."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crash_support import Server, Site
from disks import fill, free, grow, small_disk

from capsule_sdk.cli import main

#: How many disks fill; `CRASH_DISKS=50` for the whole campaign.
DISKS = int(os.environ.get("CRASH_DISKS", "6"))
SEED = int(os.environ.get("CRASH_SEED", "10"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a command with ``--json``, and return its exit code and what it says."""
    capsys.readouterr()
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def losses_in(capsules: list[dict[str, Any]]) -> int:
    return sum(
        one["outcome"]["metrics"].get("records_lost", 0)
        for one in capsules
        if one["type"] == "system"
    )


@pytest.mark.load
@pytest.mark.timeout(100 + 20 * DISKS)
@pytest.mark.parametrize("number", range(DISKS))
def test_a_disk_that_fills_at_a_random_moment(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Recorded + counted as lost = begun, as ``capsuled verify`` and ``capsuled status`` tell it."""
    luck = random.Random(SEED * 1000 + number)
    end = ["normal", "TERM", "kill"][number % 3]
    site = Site(server, tmp_path, seed=number)
    with small_disk(site.data, luck.choice([2000, 4000, 8000])) as disk:
        monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(disk))
        pid = site.start("filling", seconds=2.0, pause=luck.choice([0, 0.05]), end=end)
        # At most so many of the 50 records and more that begin: a moment counted so needs no fast machine.
        most, until = luck.randrange(50), time.monotonic() + 20
        while len(site.reported("begun")) < most and time.monotonic() < until:
            time.sleep(0.001)
        fill(disk)
        if luck.random() < 0.3:
            time.sleep(0.3)
            free(disk)
            time.sleep(0.2)
            fill(disk)
        ended = site.wait(pid)
        assert ended == {"normal": 0, "TERM": -15, "kill": -9}[end], site.log()
        before, _ = said(capsys, "status", "--db", str(site.database))
        grow(disk)
        if luck.random() < 0.5:
            assert site.run("recover") in {0, 1}, site.log()
        else:
            assert site.run("successor") == 0, site.log()
        begins = {one for (one,) in site.reported("begins")}
        begun = {one for (one,) in site.reported("begun")}
        assert begins == begun, "a record was begun, and its begin has not returned"
        capsules = {one["id"]: one for one in site.capsules()}
        recorded = {key for key in begun & capsules.keys() if capsules[key]["type"] != "system"}
        by_successor = {key for key, _ in site.reported("started")} - begun
        code, verdict = said(capsys, "verify", str(site.database))
        assert (code, verdict["verdict"]) == (0, "whole"), verdict
        code, status = said(capsys, "status", "--db", str(site.database))
        assert (code, status["trouble"], status["journals"]) == (0, [], []), (status, site.log())
        assert status["capsules"] == verdict["records"] == len(capsules)
        assert len(recorded) + status["lost"] == len(begun), (
            f"{len(recorded)} recorded, {status['lost']} lost, {len(begun)} begun\n{site.log()}"
        )
        assert bool(status["lost"]) == bool(verdict["counts"].get("records_lost"))
        others = capsules.keys() - begun - by_successor
        assert losses_in([capsules[one] for one in others]) == status["lost"] - len(
            begun & capsules.keys() - recorded
        )
        (tmp_path / "figures").write_text(
            f"{number} {end} begun {len(begun)} recorded {len(recorded)} lost {status['lost']}"
            f" of these by number {len(others)} ends lost {status['ends_lost']} status before {before}"
        )

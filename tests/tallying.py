"""Tallying: whether recorded + counted as lost = begun, as the chain, ``verify`` and ``status`` tell it.

Programs (`crash_programs`) report each record that they begin: ``begins ID`` before, and ``begun ID`` after.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from crash_support import Server, Site

from capsule_sdk.cli import main
from capsule_sdk.evidence.exporting.export import read_chain

__all__ = ["SEED", "Tally", "assert_all_is_counted", "said", "seed", "server"]

SEED = int(os.environ.get("CRASH_SEED", "10"))


@pytest.fixture(autouse=True)
def seed() -> None:
    """Have pytest show the seed with a failure."""
    print(f"CRASH_SEED={SEED}")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Give what starts programs quickly."""
    server = Server()
    yield server
    server.stop()


class Tally(NamedTuple):
    """How many records were begun, are in the chain, and are called lost there: by name, or as a number."""

    begun: int
    recorded: int
    lost: int
    by_number: int
    ends_lost: int


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a command with ``--json``, and return its exit code and what it says."""
    capsys.readouterr()
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def assert_all_is_counted(
    site: Site, capsys: pytest.CaptureFixture[str], database: Path | str | None = None
) -> Tally:
    """Recorded + counted as lost = begun, and nothing waits for anybody any more."""
    place = str(database or site.database)
    begins = {one for (one,) in site.reported("begins")}
    begun = {one for (one,) in site.reported("begun")}
    assert begins == begun, "a record was begun, and its begin has not returned"
    capsules = {one["id"]: one for one in read_chain(database or site.database)}
    recorded = {key for key in begun & capsules.keys() if capsules[key]["type"] != "system"}
    by_successor = {key for key, _ in site.reported("started")} - begun
    code, verdict = said(capsys, "verify", place)
    assert (code, verdict["verdict"]) == (0, "whole"), verdict
    code, status = said(capsys, "status", "--db", place)
    assert (code, status["trouble"], status["journals"]) == (0, [], []), (status, site.log())
    assert status["capsules"] == verdict["records"] == len(capsules)
    assert len(recorded) + status["lost"] == len(begun), (
        f"{len(recorded)} recorded, {status['lost']} lost, {len(begun)} begun\n{site.log()}"
    )
    assert bool(status["lost"]) == bool(verdict["counts"].get("records_lost"))
    others = capsules.keys() - begun - by_successor
    assert _losses_in([capsules[one] for one in others]) == status["lost"] - len(
        begun & capsules.keys() - recorded
    )
    return Tally(len(begun), len(recorded), status["lost"], len(others), status["ends_lost"])


def _losses_in(capsules: list[dict[str, Any]]) -> int:
    return sum(
        one["outcome"]["metrics"].get("records_lost", 0)
        for one in capsules
        if one["type"] == "system"
    )

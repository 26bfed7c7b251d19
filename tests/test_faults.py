"""Every instant, and every failure of the disk: at the Nth call that changes a file."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import faulty_io
import pytest
from crash_support import CUT_OFF, Server, Site

NOBODY = 65534
#: What needs room on a disk.
EVERYTHING = ["write", "pwrite", "truncate", "create", "mkdir"]
#: How many calls of a kind are tried, of all that there are.
SAMPLE = int(os.environ.get("CRASH_SAMPLE", "6"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    library = faulty_io.build(tmp_path_factory.mktemp("library"))
    if library is None:
        pytest.skip("there is no C compiler to build faulty input and output with, or no /proc")
    server = Server(preload=library)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def moments(server: Server, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """Return kind and number of the calls to try, of those that the orderly program makes."""
    site = Site(server, tmp_path_factory.mktemp("counted"))
    assert site.run("orderly", seed=1, fault={}) == 0, site.log()
    ((text,),) = site.reported("counted")
    counts: dict[str, int] = json.loads(text)
    for kind in ("write", "pwrite", "fsync", "rename", "unlink", "create", "mkdir"):
        assert counts[kind], f"no {kind} was seen: {counts}"
    return _sampled(counts)


def _sampled(counts: dict[str, int]) -> list[tuple[str, int]]:
    return [
        (kind, number)
        for kind, count in counts.items()
        for number in sorted(
            {1 + step * (count - 1) // max(1, SAMPLE - 1) for step in range(SAMPLE)}
        )
        if count
    ]


def _fault(kind: str, number: int, action: str, code: str = "EIO") -> dict[str, Any]:
    return {"kinds": [kind], "nth": number, "action": action, "code": code}


@pytest.mark.load
def test_a_process_killed_at_any_change_of_a_file_loses_nothing(
    server: Server, moments: list[tuple[str, int]], tmp_path: Path
) -> None:
    killed = 0
    for place, ((kind, number), how) in enumerate(
        zip(moments, cycle(["kill before", "kill after", "kill halfway"]), strict=False)
    ):
        site = Site(server, tmp_path / str(place))
        killed += site.run("orderly", seed=1, fault=_fault(kind, number, how)) == -9
        site.look()
        site.recover()
        try:
            site.assert_recovered()
        except AssertionError as error:
            error.add_note(f"{how} {kind} {number}")
            raise
        site.remove()
    assert killed > 0.8 * len(moments), "the kills were not where they were to be"


@pytest.mark.load
def test_a_recovery_killed_at_any_change_of_a_file_can_be_repeated(
    server: Server, tmp_path: Path
) -> None:
    template = Site(server, tmp_path / "template")
    template.run("cut_off")
    place = 0
    for place, number in enumerate(range(1, 60, 2)):
        site = Site(server, tmp_path / str(place))
        shutil.copytree(template.data / "journal", site.data / "journal")
        site.look()
        fault = {"nth": number, "action": ["kill before", "kill after"][place % 2]}
        ended = site.run("recover", fault=fault)
        site.recover()
        try:
            site.assert_recovered()
        except AssertionError as error:
            error.add_note(f"{fault}")
            raise
        site.remove()
        if not ended:
            break
    assert place > 5


@pytest.mark.load
def test_one_failure_of_the_disk_is_not_seen_and_costs_nothing(
    server: Server, moments: list[tuple[str, int]], tmp_path: Path
) -> None:
    codes = cycle(["EIO", "ENOSPC", "EDQUOT", "EROFS", "EMFILE"])
    for place, ((kind, number), code) in enumerate(zip(moments, codes, strict=False)):
        site = Site(server, tmp_path / str(place))
        half = kind == "write" and place % 2
        fault = _fault(kind, number, "half" if half else "fail once", code)
        ended = site.run("orderly", seed=1, fault=fault)
        try:
            assert ended == 0, site.log()
            site.recover()
            site.assert_whole()
            statuses = Counter(one["outcome"]["status"] for one in site.capsules())
            assert statuses == {"success": len(site.reported("started")) + 1}
        except AssertionError as error:
            error.add_note(f"{fault}\n{site.log()}")
            raise
        site.remove()


@pytest.mark.parametrize(
    ("number", "kinds"),
    [
        (1, EVERYTHING),
        (2, EVERYTHING),
        (12, EVERYTHING),
        (40, EVERYTHING),
        (12, ["write", "pwrite"]),
    ],
)
def test_on_a_full_disk_the_users_code_goes_on_and_all_is_there_once_there_is_room(
    server: Server, tmp_path: Path, number: int, kinds: list[str]
) -> None:
    site = Site(server, tmp_path)
    fault = {
        "kinds": kinds,
        "nth": number,
        "action": "fail on",
        "code": "ENOSPC",
    }
    assert site.run("in_trouble", fault=fault, seconds=2.5) == -9, site.log()
    _assert_all_is_well(site)


def test_a_task_whose_beginning_could_not_be_written_is_written_soon_after(
    server: Server, tmp_path: Path
) -> None:
    site = Site(server, tmp_path)
    assert site.run("unlucky") == -9, site.log()
    site.look()
    site.recover()
    site.assert_recovered()
    (long,) = [one for one in site.capsules() if one["trigger"]["source"] == "long"]
    assert long["outcome"]["error"] == CUT_OFF


def test_a_directory_that_cannot_be_written_heals(server: Server) -> None:
    place = Path(tempfile.mkdtemp())  # pytest's own are closed to other users
    try:
        place.chmod(0o755)
        site = Site(server, place / "site")
        options: dict[str, Any] = {}
        if os.getuid() == 0:
            os.chown(site.data, NOBODY, NOBODY)
            options["uid"] = NOBODY
        site.data.chmod(0o500)
        pid = site.start("in_trouble", seconds=1.5, **options)
        while not site.reported("trouble"):
            time.sleep(0.01)
        site.data.chmod(0o700)
        assert site.wait(pid) == -9, site.log()
        _assert_all_is_well(site, **options)
    finally:
        shutil.rmtree(place)


def _assert_all_is_well(site: Site, **options: Any) -> None:
    """In trouble it was loud, but not too loud; healed, it was safe from a kill; and all is there once."""
    ((journal, store, files),) = site.reported("trouble")
    assert store == "True"
    assert journal == "True" or "the journal is kept elsewhere" in site.log(), site.log()
    assert int(files) < 4, "files pile up"
    assert site.reported("well") == [["0", "0"]]
    said = re.findall(r"""^capsule_sdk\|ERROR\|event=(['"])(.*?)\1""", site.log(), re.MULTILINE)
    events = Counter(event for _, event in said)
    assert len(events) >= 2, site.log()
    assert set(events.values()) == {1}, site.log()
    site.look()
    site.recover(**options)
    site.assert_recovered()
    (long,) = [one for one in site.capsules() if one["trigger"]["source"] == "long"]
    assert long["outcome"]["error"] == CUT_OFF
    assert long["outcome"]["metrics"]["children"]["started"] == 2

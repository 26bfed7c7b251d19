"""What is lost is called lost, and counted: by the process itself, by the next one, and by all who look."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from crash_support import Server, Site
from disks import fill, free, full_after, grow, small_disk
from recording import make_task
from tallying import SEED, assert_all_is_counted, said, seed, server  # noqa: F401 - fixtures

from capsule_sdk.directories import open_directory
from capsule_sdk.journal.files import Home
from capsule_sdk.journal.frames import Kind, encode
from capsule_sdk.journal.unwritten import PLACE, PLACES, Unwritten
from capsule_sdk.recording.default import recover
from capsule_sdk.recording.safekeeping import Safekeeping
from capsule_sdk.recording.whereabouts import elsewhere_of
from capsule_sdk.records.attribution import Attribution
from capsule_sdk.records.record import Record
from capsule_sdk.records.state import beginning, ending, missing
from capsule_sdk.records.task import Task

#: How many disks fill; `CRASH_DISKS=50` for the whole campaign.
DISKS = int(os.environ.get("CRASH_DISKS", "6"))


# -- a disk that is full for a moment ----------------------------------------------------------------


class Keeping:
    """Keeps records safe beside a chain in a directory, and dies."""

    def __init__(self, directory: Path) -> None:
        self.database = directory / "capsules.db"
        self.root = directory / "journal" / "capsules.db.records"
        self.living: list[Record] = []
        self.keeping = Safekeeping(
            lambda: self.root, elsewhere_of, lambda: list(self.living), lambda: None
        )
        self.keeping.open()

    @property
    def records(self) -> Path:
        assert self.keeping.home is not None
        return self.keeping.home.records()[-1]

    def begin(self, parent: Task | None = None) -> Task:
        task = make_task("task", parent)
        task.parent_id = None if parent is None else parent.id
        if parent is not None:
            parent.adopt(task.id)
        self.living.append(task)
        self.keeping.begun(task)
        return task

    def end(self, task: Task) -> None:
        task.settle("success")
        self.keeping.ended(task)

    def die(self) -> None:
        """Let go of the locks, as the kernel does it, and of nothing else."""
        assert self.keeping.home is not None
        self.keeping.home.release()
        if self.keeping._unwritten is not None:
            self.keeping._unwritten.release()

    def capsules(self) -> dict[str, dict[str, Any]]:
        return {one["id"]: one for one in Site.capsules_in(self.database)}


@pytest.mark.parametrize("more", [0, 1, 40])
@pytest.mark.parametrize("room", ["here", "elsewhere"])
def test_what_could_not_be_said_at_its_begin_is_said_at_its_end(
    tmp_path: Path, more: int, room: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is room again before anybody has tended the journal, and then the process is killed."""
    kept = Keeping(tmp_path)
    if room == "elsewhere":  # there was none for it when the journal was made
        assert kept.keeping._unwritten is not None
        kept.keeping._unwritten.remove()
        kept.keeping._unwritten = Unwritten.make_elsewhere(elsewhere_of(kept.root), kept.root)
    with kept.records.open("ab") as file:  # the kernel's limit is to spare the room that was taken
        file.write(b"\n" * PLACE * PLACES)
    above = kept.begin()
    with full_after(kept.records, more):
        ends, stays = kept.begin(above), kept.begin(above)
    kept.end(ends)
    kept.keeping.noted(stays, "summary")  # all that a journal has of it
    kept.die()
    found = recover(kept.database)
    assert (found.damaged, found.lost, found.left) == (0, 1, 0)
    capsules = kept.capsules()
    statuses = [capsules[str(one.id)]["outcome"]["status"] for one in (above, ends, stays)]
    assert statuses == ["failure", "success", "failure"]
    assert capsules[str(stays.id)]["type"] == "system"
    assert capsules[str(stays.id)]["parent_id"] == str(above.id)
    assert said(capsys, "verify", str(kept.database))[0] == 0
    code, status = said(capsys, "status", "--db", str(kept.database))
    assert (code, status["trouble"], status["lost"]) == (0, [], 1)


def test_what_is_noted_elsewhere_is_known_to_the_task_that_a_journal_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commitment of the task counts it, and how it ended is not called cut off."""
    root = tmp_path / "journal" / "capsules.db.records"
    above, child, below, half = (make_task(name) for name in ("above", "child", "below", "half"))
    child.parent_id, below.parent_id = above.id, child.id
    for task in (above, child, below, half):
        task.settle("success")
    home = Home.make(root)
    home.new_records().write_bytes(
        encode(Kind.BEGUN, beginning(above))
        + encode(Kind.BEGUN, beginning(half))
        + encode(Kind.ENDED, ending(above))
    )
    home.release()
    noted = Unwritten.make_elsewhere(elsewhere_of(root), root)
    assert noted is not None
    for one in (child, below, half):
        noted.put(one.id.hex, missing(one))
    noted.release()
    found = recover(tmp_path / "capsules.db")
    assert (found.damaged, found.lost, found.ends_lost, found.left) == (0, 2, 1, 0)
    capsules = {one["id"]: one for one in Site.capsules_in(tmp_path / "capsules.db")}
    outcome = capsules[str(above.id)]["outcome"]
    assert outcome["metrics"]["children"]["ended"] == 1
    assert capsules[str(half.id)]["outcome"]["status"] == "partial"
    assert said(capsys, "verify", str(tmp_path / "capsules.db"))[0] == 0
    assert not noted.path.exists()


TENANTS = {
    "chinese": "客" * 36,
    "emoji": "\U0001f9fe" * 36,
    "quotes": '"\\' * 18,
    "controls": "\x01" * 36,
    "halves of characters": "\ud800" * 36,
}


@pytest.mark.parametrize("tenant", TENANTS.values(), ids=TENANTS)
def test_a_loss_is_counted_whatever_characters_its_tenant_is_written_in(
    tmp_path: Path, tenant: str
) -> None:
    above = make_task("above", attribution=Attribution(tenant_id=tenant))
    lost = make_task("lost", above, attribution=above.attribution)
    lost.settle("success")
    noted = Unwritten.make(open_directory(tmp_path), "unwritten")
    assert noted.put(lost.id.hex, missing(lost))
    assert noted.entries() == [missing(lost)]
    assert noted.entries()[0]["tenant"] == lost.attribution.tenant_id
    noted.remove()


# -- a disk that fills at a random moment -------------------------------------------------------------


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
        tally = assert_all_is_counted(site, capsys)
        (tmp_path / "figures").write_text(f"{number} {end} {tally} status before {before}")

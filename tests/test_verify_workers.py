"""Verify with more processes than one: the same verdict, whatever a record holds and whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tampering import (
    FOREIGN,
    Made,
    Record,
    altered,
    as_json,
    as_lines,
    as_text,
    judge,
    made_chains,  # noqa: F401 - a fixture
    reasons,
    seal_anew,
    use,  # noqa: F401 - a fixture
)

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.formats.entries import Entry
from capsule_sdk.evidence.sources import Source, open_source
from capsule_sdk.evidence.verifying import workers
from capsule_sdk.evidence.verifying.findings import Reason
from capsule_sdk.evidence.verifying.keys import keys_here
from capsule_sdk.evidence.verifying.verify import Verdict, verify

Use = Callable[[str], Made]
Damage = Callable[[list[Record], int], object]

pytestmark = pytest.mark.usefixtures("nobody_left")

FEW, LENGTH = 100, 300  # records that are checked before other processes start, and that there are


def children_of(pid: int) -> list[int]:
    """The processes that this one has started and that have not been waited for."""
    if not Path("/proc/self/stat").is_file():
        pytest.skip("processes are looked for in /proc")
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(folder.name))
    return sorted(found)


@pytest.fixture
def nobody_left() -> Iterator[None]:
    before = children_of(os.getpid())
    yield
    assert children_of(os.getpid()) == before


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes come in after a tenth of the records that it otherwise takes."""
    monkeypatch.setattr(workers, "_FEW", FEW)
    monkeypatch.setattr(workers, "_GROUP", 32)


def outcome(verdict: Verdict) -> dict[str, object]:
    names = ("records", "head", "findings", "checks", "signers", "approvals", "obstacle")
    return {name: getattr(verdict, name) for name in names}


def deep(records: list[Record], place: int) -> None:
    """Nested more deeply than can be handed from one process to another."""
    nested: object = []
    for _ in range(600):
        nested = [nested]
    records[place]["previous_hash"] = nested


DAMAGES: dict[str, Damage] = {
    "none": lambda records, place: None,
    "content": lambda records, place: records[place]["outcome"].update(summary="x"),
    "signature": lambda records, place: records[place].update(signature="00" * 64),
    "another key": lambda records, place: seal_anew(records[place], FOREIGN),
    "removed": lambda records, place: records.pop(place),
    "copied": lambda records, place: records.insert(place, dict(records[place - 1])),
    "no record": lambda records, place: records.__setitem__(place, {}),
    "half a character": lambda records, place: records[place].update(
        domain="\ud800", signed_by="\udfff"
    ),
    "depth": deep,
}


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_verdict_is_the_same_with_more_processes(
    damage: Damage, use: Use, tmp_path: Path
) -> None:
    """Damage stands before, at and behind the record from which on other processes check."""
    made = use("medium")
    records = made.records()
    for place in (290, 200, FEW + 2, FEW + 1, FEW, FEW - 1, 3):
        damage(records, place)
    path = as_json(records, tmp_path)
    alone, together = (judge(path, keys_here(), processes=count) for count in (0, 2))
    assert outcome(together) == outcome(alone)
    assert alone.whole == (damage is DAMAGES["none"])


def test_a_long_chain_is_checked_by_more_processes(use: Use, tmp_path: Path) -> None:
    """As it is for users, with findings on both sides of the thousand records that are checked at once."""
    made = use("long")
    path = altered(
        made, tmp_path,
        "UPDATE capsules SET type = 'tool' WHERE sequence IN (2, 1300)",
        "UPDATE capsules SET data = 'x' WHERE sequence IN (4, 1400)",
        "UPDATE capsules SET id = cast(x'ff' AS text) WHERE sequence = 1399",
    )  # fmt: skip
    alone, together = (judge(path, keys_here(), processes=count) for count in (0, 2))
    assert outcome(together) == outcome(alone)
    found = [(one.reason, one.position) for one in alone.findings]
    assert (Reason.COLUMN_MISMATCH, 1300) in found
    assert (Reason.MALFORMED, 1400) in found


@pytest.mark.usefixtures("early")
def test_a_file_that_is_cut_off_is_read_to_there_with_more_processes_too(
    use: Use, tmp_path: Path
) -> None:
    text = json.dumps(use("medium").records())
    path = as_text(text[: len(text) * 9 // 10], tmp_path)
    alone, together = (judge(path, keys_here(), processes=count) for count in (0, 2))
    assert outcome(together) == outcome(alone)
    assert not alone.whole


def test_a_short_chain_starts_no_process(
    use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_Worker", None)
    path = as_lines(use("long").records()[:1_000], tmp_path)
    assert judge(path, keys_here(), processes=2).whole


@pytest.mark.usefixtures("early")
def test_what_lies_in_the_current_directory_is_not_imported(
    use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = use("medium")
    for name in ("nacl", "qp_capsule", "json", "capsule_sdk"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert judge(made.db, keys_here(), processes=2).whole


# -- a worker that dies ---------------------------------------------------------------------------


def slowed(path: Path, pause: Callable[[int], object]) -> Source:
    """The same source, with something that happens before each of its entries."""
    source = open_source(path)

    def entries() -> Iterator[Entry]:
        for number, entry in enumerate(source.entries()):
            pause(number)
            yield entry

    return Source(source.name, None, entries)


def assert_right_or_unread(source: Source, whole: bool) -> None:
    """Either it was read to its end, and the verdict is right; or it says that it was not."""
    began = time.monotonic()
    try:
        verdict = verify(source, keys_here(), processes=2)
    except EvidenceError:
        return
    finally:
        assert time.monotonic() - began < 30
    if verdict.obstacle is None:
        assert verdict.whole == whole
        assert verdict.records == LENGTH
    else:
        assert not verdict.whole


@pytest.mark.usefixtures("early")
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "broken"])
@pytest.mark.parametrize("moment", [FEW + 5, 200, LENGTH - 1])
def test_a_worker_that_is_killed_leads_to_no_wrong_verdict_and_no_hang(
    moment: int, whole: bool, use: Use, tmp_path: Path
) -> None:
    made = use("medium")
    before = children_of(os.getpid())
    path = made.db
    if not whole:
        path = altered(made, tmp_path, "UPDATE capsules SET signature = '00' WHERE sequence = 290")

    def pause(place: int) -> None:
        if place == moment:
            started = [pid for pid in children_of(os.getpid()) if pid not in before]
            assert started or moment == FEW + 5
            for pid in started[:1]:
                os.kill(pid, signal.SIGKILL)

    assert_right_or_unread(slowed(path, pause), whole)


@pytest.mark.usefixtures("early")
def test_workers_that_are_all_killed_lead_to_no_wrong_verdict_and_no_hang(
    use: Use, tmp_path: Path
) -> None:
    made = use("medium")
    before = children_of(os.getpid())

    def pause(place: int) -> None:
        if place > 150 and place % 20 == 0:
            for pid in children_of(os.getpid()):
                if pid not in before:
                    os.kill(pid, signal.SIGKILL)

    assert_right_or_unread(slowed(made.db, pause), True)


@pytest.mark.usefixtures("early")
def test_a_verification_that_is_given_up_leaves_no_process_behind(
    use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsule_sdk.evidence.verifying.verify._STEP", 50)

    class GivenUpError(Exception):
        pass

    def stop(count: int) -> None:
        if count >= 150:
            raise GivenUpError

    made = use("medium")
    before, threads = children_of(os.getpid()), set(threading.enumerate())
    with pytest.raises(GivenUpError):
        verify(open_source(made.db), keys_here(), processes=2, progress=stop)
    deadline = time.monotonic() + 5
    while (
        children_of(os.getpid()) != before or set(threading.enumerate()) - threads
    ) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert children_of(os.getpid()) == before
    assert not set(threading.enumerate()) - threads


@pytest.mark.usefixtures("early")
def test_a_source_that_fails_in_the_middle_is_unread_from_there(use: Use) -> None:
    made = use("medium")

    def fail(place: int) -> None:
        if place == 250:
            raise EvidenceError("the disk is gone")

    for count in (0, 2):
        verdict = verify(slowed(made.db, fail), keys_here(), processes=count)
        assert verdict.obstacle == "the disk is gone"
        assert verdict.records == 250  # all that came before has been checked
        assert not verdict.whole
        assert reasons(verdict) == set()

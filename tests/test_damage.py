"""Damaged journals: what can be read is recovered, what cannot is said, and kept aside for good."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash_support import CUT_OFF, Server, Site, Told, frames_of, told_by

from capsule_sdk.recording.default import recover as recover_store
from capsule_sdk.recording.recovery import Found

HEADER = 20


@pytest.fixture(scope="module")
def dead(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal that a killed process has left, and nothing of it in a chain."""
    server = Server()
    site = Site(server, tmp_path_factory.mktemp("dead"))
    site.run("cut_off")
    server.stop()
    (home,) = site.journals.iterdir()
    return home


class Patient:
    """A chain without a capsule, and a copy of the dead journal beside it."""

    def __init__(self, directory: Path, dead: Path) -> None:
        self.directory = directory
        self.root = directory / "journal" / "capsules.db.records"
        self.home = self.root / dead.name
        shutil.copytree(dead, self.home)
        self.records = self.home / "records-00000001"
        self.told = told_by(self.root)
        self.told_frames = list(frames_of(self.records))
        #: Where each frame begins: with its line break.
        text = self.records.read_bytes()
        self.frames = [place for place, byte in enumerate(text) if byte == ord("\n")]
        self.frames.append(len(text))

    def recover(self) -> tuple[Found, dict[str, dict[str, Any]]]:
        """Recover twice; return what was found the first time, and the capsules by id."""
        found = recover_store(self.directory / "capsules.db")
        capsules = self._capsules()
        recover_store(self.directory / "capsules.db")
        assert self._capsules() == capsules, "recovering once more has changed the chain"
        return found, {capsule["id"]: capsule for capsule in capsules}

    def _capsules(self) -> list[dict[str, Any]]:
        return Site.capsules_in(self.directory / "capsules.db")

    def place_of(self, kind: str, which: int) -> int:
        """Return the number of one of the frames of a kind."""
        return [n for n, (found, _) in enumerate(self.told_frames) if found == kind][which]

    def change(self, change: Callable[[bytearray], object]) -> None:
        text = bytearray(self.records.read_bytes())
        change(text)
        self.records.write_bytes(text)

    def id_in(self, frame: int) -> str:
        text = self.told_frames[frame][1]["id"]
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def assert_the_rest_is_there(
        self, capsules: dict[str, dict[str, Any]], but: Collection[str] = ()
    ) -> None:
        assert capsules.keys() == self.told.keys()
        for key, told in self.told.items():
            if key not in but:
                _assert_as_told(capsules[key], told)

    def assert_set_aside(self) -> None:
        assert [path.name for path in self.root.iterdir()] == ["damaged"]
        assert [path.name for path in (self.root / "damaged").iterdir()] == [self.home.name]

    def assert_gone(self) -> None:
        assert list(self.root.iterdir()) == []


def _assert_as_told(capsule: dict[str, Any], told: Told) -> None:
    assert capsule["parent_id"] == told.parent
    assert capsule["outcome"]["status"] == (told.status or "failure")
    assert capsule["outcome"]["error"] == (None if told.status else CUT_OFF)


@pytest.fixture
def patient(tmp_path: Path, dead: Path) -> Patient:
    return Patient(tmp_path, dead)


@pytest.fixture
def patients(tmp_path: Path, dead: Path) -> Iterator[Patient]:
    """Yield as many as are asked for."""

    def make() -> Iterator[Patient]:
        number = 0
        while True:
            number += 1
            yield Patient(tmp_path / str(number), dead)

    return make()


def test_a_journal_without_damage_is_recovered_as_it_is(patient: Patient) -> None:
    found, capsules = patient.recover()
    assert (found.journals, found.damaged, found.torn, found.left) == (1, 0, 0, 0)
    assert found.capsules == len(patient.told) > 10
    assert found.unfinished == sum(told.status is None for told in patient.told.values()) == 2
    patient.assert_the_rest_is_there(capsules)
    patient.assert_gone()


def _places_in_frame(patient: Patient, frame: int) -> list[int]:
    start, end = patient.frames[frame], patient.frames[frame + 1]
    return [*range(start, start + 1 + HEADER), *range(start + 1 + HEADER, end, 23), end - 1]


@pytest.mark.parametrize(("kind", "which"), [("b", 3), ("n", -4), ("e", 3)])
def test_a_flipped_byte_costs_no_more_than_its_frame(
    patients: Iterator[Patient], kind: str, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    for place in _places_in_frame(first := next(patients), first.place_of(kind, which)):
        patient = next(patients)
        frame = patient.place_of(kind, which)
        caplog.clear()

        def flip(text: bytearray, place: int = place) -> None:
            text[place] ^= 0x55

        patient.change(flip)
        found, capsules = patient.recover()
        hurt = patient.id_in(frame)
        # The line break in front keeps it apart from the frame before.
        is_break = place == patient.frames[frame]
        before = {patient.id_in(frame - 1)} if is_break else set()
        assert found.damaged >= 1
        assert "a journal is damaged" in caplog.text
        patient.assert_the_rest_is_there(capsules, but={hurt, *before})
        if kind == "b":
            assert capsules[hurt]["type"] == "system"
            assert capsules[hurt]["outcome"]["status"] == "failure"
        elif kind == "e":
            assert capsules[hurt]["outcome"]["error"] == CUT_OFF
        elif not is_break:
            assert capsules[hurt]["outcome"]["side_effects"] == ["effect 2"]
        patient.assert_set_aside()


def test_the_last_frame_may_be_torn_anywhere(patients: Iterator[Patient]) -> None:
    first = next(patients)
    start, end = first.frames[-2], first.frames[-1]
    for length in range(start, end):
        patient = next(patients)
        patient.change(lambda text, length=length: text.__delitem__(slice(length, None)))
        found, capsules = patient.recover()
        assert (found.damaged, found.torn) == (0, int(length > start + 1))
        patient.assert_the_rest_is_there(capsules)
        patient.assert_gone()


@pytest.mark.parametrize("zeros", [1, 17, 5000])
def test_a_tail_of_zeros_is_a_torn_end(patient: Patient, zeros: int) -> None:
    """As a file system may leave it after a power cut."""
    patient.change(lambda text: text.extend(b"\n" + bytes(zeros)))
    found, capsules = patient.recover()
    assert (found.damaged, found.torn) == (0, 1)
    patient.assert_the_rest_is_there(capsules)
    patient.assert_gone()


@pytest.mark.parametrize("kept", [1, 10, HEADER, HEADER + 30])
def test_a_frame_cut_in_the_middle_of_the_file_costs_only_itself(
    patient: Patient, kept: int
) -> None:
    frame = patient.place_of("e", 2)
    start, end = patient.frames[frame : frame + 2]
    patient.change(lambda text: text.__delitem__(slice(start + 1 + kept, end)))
    found, capsules = patient.recover()
    assert (found.damaged, found.torn) == (1, 0)
    patient.assert_the_rest_is_there(capsules, but={patient.id_in(frame)})
    assert capsules[patient.id_in(frame)]["outcome"]["error"] == CUT_OFF
    patient.assert_set_aside()


def test_an_empty_file_is_no_damage(patient: Patient) -> None:
    (patient.home / "records-00000002").touch()
    (patient.home / "backlog-00000003").touch()
    found, capsules = patient.recover()
    assert (found.damaged, found.torn) == (0, 0)
    patient.assert_the_rest_is_there(capsules)
    patient.assert_gone()


@pytest.mark.parametrize("name", ["records-00000002", "records-00000000", "backlog-00000002"])
def test_garbage_is_reported_and_kept_aside(
    patient: Patient, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (patient.home / name).write_bytes(
        b"\n\xff garbage \n" * 3 + os.urandom(300) + b"\n{}\n\n\x00\n"
    )
    found, capsules = patient.recover()
    assert found.damaged >= 5
    assert name in caplog.text
    patient.assert_the_rest_is_there(capsules)
    patient.assert_set_aside()


def test_a_missing_lock_hides_no_journal(patient: Patient) -> None:
    (patient.home / "owner.lock").unlink()
    found, capsules = patient.recover()
    assert (found.damaged, found.left) == (0, 0)
    patient.assert_the_rest_is_there(capsules)
    patient.assert_gone()


@pytest.mark.internal_errors
@pytest.mark.parametrize("name", ["owner.lock", "records-00000000", "records-00000001"])
def test_a_directory_where_a_file_should_be_keeps_no_other_journal_back(
    patient: Patient, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = patient.root / "99991231T235959-1-00000000"
    shutil.copytree(patient.home, other)
    (patient.home / name).unlink(missing_ok=True)
    (patient.home / name).mkdir()
    found, capsules = patient.recover()
    assert found.left or found.damaged
    assert "ERROR" in caplog.text
    patient.assert_the_rest_is_there(capsules)
    assert not other.exists()


@pytest.mark.internal_errors
@pytest.mark.parametrize("name", ["owner.lock", "records-00000001", "."])
def test_a_journal_that_may_not_be_read_waits_and_keeps_no_other_back(
    patient: Patient, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = patient.root / "99991231T235959-1-00000000"
    shutil.copytree(patient.home, other)
    closed = patient.home / name
    as_another_user(patient, lambda: closed.chmod(0o000))
    try:
        found, capsules = patient.recover()
        assert found.left == 1
        assert "Permission denied" in caplog.text
        patient.assert_the_rest_is_there(capsules)
        assert [path.name for path in patient.root.iterdir()] == [patient.home.name]
        closed.chmod(0o700)
        found, _ = patient.recover()
    finally:
        as_myself()
    assert (found.left, found.damaged) == (0, 0)
    patient.assert_gone()


def as_another_user(patient: Patient, prepare: Callable[[], None]) -> None:
    """Lose the rights of a superuser over what belongs to nobody now; the directory is theirs."""
    if os.getuid() == 0:
        for path in [patient.directory, *patient.directory.rglob("*")]:
            os.chown(path, 65534, 65534)
        for above in patient.directory.parents[:3]:
            above.chmod(0o755)
        prepare()
        os.setegid(65534)
        os.seteuid(65534)
    else:
        prepare()


def as_myself() -> None:
    os.seteuid(os.getuid())
    os.setegid(os.getgid())


@pytest.fixture(autouse=True)
def _loud(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "capsule_sdk")

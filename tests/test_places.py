"""Where records go when a directory fails: another place takes them, it is said which, and they are found.

Another user does all of it, in a forked child: root may write everywhere.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from test_directories import as_user, lay, two_users

import capsule_sdk
from capsule_sdk.cli import main
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.journal import temporary
from capsule_sdk.journal.files import Home
from capsule_sdk.journal.unwritten import Unwritten
from capsule_sdk.recording import exiting
from capsule_sdk.recording.recorder import Recorder

pytestmark = [two_users, pytest.mark.internal_errors]

DIRECTORIES = temporary.directories
#: A user that no system file names, and another one.
ME, OTHER = 12345, 54321


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Give a directory that all users can reach, with a ``tmp`` that all may write: the only one."""
    capsule_sdk.configure(tmp_path / "first.db")  # whose imports another user could not make
    with capsule_sdk.capsule_scope("first"):
        pass
    capsule_sdk.shutdown()
    main(["status", "--db", str(tmp_path / "first.db")])
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    lay(directory / "tmp", 0o1777)
    monkeypatch.setattr(temporary, "COMMON", [])
    monkeypatch.setattr(temporary, "directories", DIRECTORIES)
    monkeypatch.setattr(tempfile, "tempdir", str(directory / "tmp"))
    yield directory
    subprocess.run(["umount", "-lR", str(directory / "home")], capture_output=True, check=False)
    shutil.rmtree(directory)


def place_of(recorder: Recorder) -> str | None:
    """Return the directory that the journal of this process is in."""
    home = recorder._rounds.safekeeping.home
    return None if home is None else str(home.path.parent)


class Site:
    """What a user sees of one place, in children that end."""

    def __init__(self, home: Path | str | None, caplog: pytest.LogCaptureFixture) -> None:
        self.home, self._caplog = home, caplog

    def _be(self, home: Path | str | None, data: Path | None) -> None:
        os.environ.pop("QUANTUMPIPES_DATA_DIR", None)
        os.environ.pop("HOME", None)
        if home is not None:
            os.environ["HOME"] = str(home)
        if data is not None:
            os.environ["QUANTUMPIPES_DATA_DIR"] = str(data)

    def record(
        self, *names: str, uid: int = ME, kill: bool = False, url: str | None = None, umask: int = 0o022,
        data: Path | None = None, patience: float = 0.2,
    ) -> dict[str, Any]:  # fmt: skip
        """Record scopes of these names as a user, and end."""

        def do() -> str:
            os.umask(umask)
            self._be(self.home, data)
            self._caplog.clear()
            os.environ["CAPSULE_SDK_EXIT_TIMEOUT"] = "0.2"
            recorder = capsule_sdk.configure(url) if url else capsule_sdk.get_recorder()
            for name in names:
                with capsule_sdk.capsule_scope(name):
                    pass
            left = capsule_sdk.flush(patience)
            place = place_of(recorder)
            if not kill:
                exiting._at_exit()
            return json.dumps(
                {"left": left, "place": place, "log": self._caplog.messages,
                 "trouble": recorder.stats().store_trouble}
            )  # fmt: skip

        text = as_user(uid, do, groups=(0,))  # root's group stands for that of a team
        assert text.startswith("{"), text
        found: dict[str, Any] = json.loads(text)
        return found

    def command(
        self, *arguments: str, uid: int = ME, data: Path | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Run a command as a user."""

        def do() -> str:
            self._be(self.home, data)
            out = io.StringIO()
            with redirect_stdout(out), redirect_stderr(io.StringIO()):
                code = main([*arguments, "--json"])
            return f"{code} {out.getvalue()}"

        text = as_user(uid, do)
        code, _, rest = text.partition(" ")
        assert code in "012", text
        return int(code), json.loads(rest) if rest.startswith("{") else {"text": rest}


def spoil(shared: Path, how: str) -> Path | str | None:
    """Return a home in which nothing can be made."""
    home = shared / "home"
    if how == "unknown":
        return None
    if how == "/":
        return "/"
    if how == "/proc":
        return "/proc"
    if how == "a file":
        home.write_text("in the way")
        return home
    lay(home, 0o755, ME)
    if how == "another's":
        os.chown(home, OTHER, OTHER)
    elif how == "closed":
        home.chmod(0)
    elif how == "a file in it":
        (home / ".quantumpipes").write_text("in the way")
    elif how == "a dangling link":
        (home / ".quantumpipes").symlink_to("/nonexistent/place")
    else:
        options = {"read-only": "ro", "full": "size=4k,nr_inodes=1"}[how]
        mount = ["mount", "-t", "tmpfs", "-o", f"{options},mode=755,uid={ME}", "none", str(home)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("nothing can be mounted here")
    return home


FAILING = [
    "unknown", "/", "/proc", "a file", "another's", "closed", "a file in it", "a dangling link", "read-only",
    "full",
]  # fmt: skip


@pytest.mark.parametrize("kill", [False, True], ids=["ends", "is killed"])
@pytest.mark.parametrize("how", FAILING)
def test_records_of_a_home_that_cannot_be_used_are_kept_said_and_found_again(
    shared: Path, how: str, kill: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever sets the variable that the log names has them in the chain."""
    site = Site(spoil(shared, how), caplog)
    found = site.record("one", "two", kill=kill)
    assert found["left"] == 2
    assert str(found["place"]).startswith(str(shared / "tmp" / f"capsule_sdk-{ME}"))
    (said,) = [line for line in found["log"] if "the journal is kept elsewhere" in line]
    assert found["place"] in said
    assert "CAPSULE_SDK_JOURNAL" in said
    assert "QUANTUMPIPES_DATA_DIR" in said
    assert "QUANTUMPIPES_DATA_DIR" in str(found["trouble"])
    assert not [line for line in found["log"] if "in memory only" in line or "are lost" in line]
    if not kill:
        (last,) = [line for line in found["log"] if "they are in the journal" in line]
        assert found["place"] in last
    if how not in ("unknown", "closed"):
        code, status = site.command("status")
        assert (code, sum(one["waiting"] for one in status["journals"])) == (1, 2), status
        assert status["journals"][0]["name"].startswith(found["place"])
    data = lay(shared / "data", 0o700, ME)
    assert site.command("status", data=data)[0] == 1
    code, brought = site.command("recover", data=data)
    assert (code, brought["capsules"], brought["lost"], brought["left"]) == (0, 2, 0, 0), brought
    assert [one["trigger"]["source"] for one in read_chain(data / "capsules.db")] == ["one", "two"]
    assert site.command("recover", data=data)[1]["capsules"] == 0
    assert site.command("status", data=data)[0] == 0


@pytest.mark.parametrize("how", ["closed", "another's", "a file in it"])
def test_they_are_found_in_the_same_place_once_it_is_mended(
    shared: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By the next process that records there, too."""
    home = spoil(shared, how)
    assert isinstance(home, Path)
    site = Site(home, caplog)
    assert site.record("one", "two")["left"] == 2
    (home / ".quantumpipes").unlink(missing_ok=True)
    os.chown(home, ME, ME)
    home.chmod(0o755)
    assert site.record("three", patience=20)["left"] == 0
    names = {one["trigger"]["source"] for one in read_chain(home / ".quantumpipes" / "capsules.db")}
    assert names == {"one", "two", "three"}


@pytest.mark.parametrize("mended", ["itself", "another is named"])
def test_of_a_data_directory_that_was_named(
    shared: Path, mended: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another one is another chain: it takes these records when their place is named."""
    bad, site = lay(shared / "bad", 0o755), Site(None, caplog)
    found = site.record("one", data=bad)
    assert found["left"] == 1
    if mended == "itself":
        os.chown(bad, ME, ME)
        assert site.command("recover", data=bad)[1]["capsules"] == 1
        return
    good = lay(shared / "good", 0o700, ME)
    assert site.command("recover", data=good)[1]["capsules"] == 0
    assert site.command("recover", "--journal", found["place"], data=good)[1]["capsules"] == 1
    assert site.command("status", data=good)[0] == 0


def test_where_nothing_at_all_can_be_written_that_is_said_with_the_variable(
    shared: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(lay(shared / "closed", 0o755)))
    found = Site(spoil(shared, "closed"), caplog).record("one")
    assert found["place"] is None
    for text in ("records are in memory only", "it stands here only"):
        (line,) = [line for line in found["log"] if text in line]
        assert "CAPSULE_SDK_JOURNAL" in line
    assert not [line for line in found["log"] if "they are in the journal" in line]


def test_the_journal_goes_home_once_that_can_be_written(
    shared: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("capsule_sdk.recording.safekeeping.RETURN", 0.0)
    home = spoil(shared, "closed")
    assert isinstance(home, Path)

    def do() -> str:
        Site(home, caplog)._be(home, None)
        recorder = capsule_sdk.configure(home / "own" / "chain.db")
        with capsule_sdk.capsule_scope("one"):
            pass
        capsule_sdk.flush(0.2)
        places = [place_of(recorder)]
        home.chmod(0o755)
        until = time.monotonic() + 20
        while time.monotonic() < until and "belongs again" not in caplog.text:
            with capsule_sdk.capsule_scope("two"):
                pass
            capsule_sdk.flush()
            time.sleep(0.1)
        places.append(place_of(recorder))
        return "|".join(map(str, places))

    text = as_user(ME, do)
    first, second = text.split("|")
    assert first.startswith(str(shared / "tmp"))
    assert second == str(home / "own" / "journal" / "chain.db.records")


# -- another user was there first -------------------------------------------------------------------


@pytest.mark.parametrize(
    "what", ["a directory", "open to all", "a file", "a link", "a link to ours"]
)
def test_a_name_that_another_user_has_taken_is_passed_over(
    shared: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Records go under a name that nobody can guess, and are found there; what he has laid is not touched."""
    trap, ours = shared / "tmp" / f"capsule_sdk-{ME}", lay(shared / "ours", 0o700, ME)

    def squat() -> None:
        os.umask(0)
        if what in ("a directory", "open to all"):
            trap.mkdir(mode=0o777 if what == "open to all" else 0o755)
            (trap / "bait").mkdir(mode=0o777)
        elif what == "a file":
            trap.write_text("trap")
        else:
            trap.symlink_to(ours if what == "a link to ours" else "/nonexistent")

    as_user(OTHER, squat)
    before = sorted(map(str, trap.rglob("*"))), trap.lstat().st_mtime_ns
    site = Site("/proc", caplog)
    found = [site.record(name) for name in ("one", "two")]
    assert str(found[0]["place"]).startswith(f"{trap}-")
    assert found[0]["place"] == found[1]["place"]  # and no third one
    assert not list(ours.iterdir())
    assert (sorted(map(str, trap.rglob("*"))), trap.lstat().st_mtime_ns) == before
    data = lay(shared / "data", 0o700, ME)
    code, brought = site.command("recover", data=data)
    assert (code, brought["capsules"], brought["refused"]) == (0, 2, 0)
    assert site.command("status", data=data)[0] == 0


def test_what_another_user_lays_under_such_a_name_is_never_believed(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also not where he has a journal of his own there, in which something stands."""
    site = Site("/proc", caplog)
    found = site.record("evil", uid=OTHER)
    (his,) = (shared / "tmp").iterdir()
    for number in range(12):
        forged = shared / "tmp" / f"capsule_sdk-{ME}{f'-{number:016x}' if number else ''}"
        shutil.copytree(his, forged)
        for path in [forged, *forged.rglob("*")]:
            os.chown(path, OTHER, OTHER)
    data = lay(shared / "data", 0o700, ME)
    assert site.record("good")["left"] == 1
    code, brought = site.command("recover", data=data)
    assert (code, brought["capsules"], brought["refused"]) == (0, 1, 0)
    assert [one["trigger"]["source"] for one in read_chain(data / "capsules.db")] == ["good"]
    assert Path(found["place"]).exists()


def test_there_are_not_more_and_more_of_them(shared: Path) -> None:
    def do() -> int:
        for number in range(20):
            for place in temporary.own_places("chain.db.records", make=True):
                if not place.parent.exists() and number:
                    place.parent.mkdir(mode=0o700)
        return len(temporary.own_places("chain.db.records"))

    assert int(as_user(ME, do)) == temporary._MOST


# -- umask ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o777, 0o000, 0o377, 0o277])
def test_whatever_the_umask_all_is_recorded_and_its_owners_alone(
    shared: Path, umask: int, caplog: pytest.LogCaptureFixture
) -> None:
    home = lay(shared / "home", 0o755, ME)
    site = Site(home, caplog)
    assert site.record("one", umask=umask, patience=20)["left"] == 0
    assert site.record("two", umask=umask, kill=True, patience=20)["left"] == 0
    assert site.command("status")[0] == 0
    assert site.command("verify")[0] == 0
    modes = {str(path): path.stat().st_mode & 0o777 for path in home.rglob("*")}
    assert {mode for mode in modes.values() if mode not in (0o700, 0o600)} == set(), modes
    assert len(list(read_chain(home / ".quantumpipes" / "capsules.db"))) == 2
    assert not [line for line in caplog.messages if "elsewhere" in line]


# -- a directory that is closed under a running process ---------------------------------------------------


@pytest.mark.parametrize("elsewhere", [True, False], ids=["another place", "no other place"])
@pytest.mark.parametrize("closed", [".quantumpipes", ".", ".quantumpipes/journal", "the journal"])
def test_a_way_that_is_closed_is_no_loss_and_nothing_is_called_safe_that_nobody_sees(
    shared: Path,
    closed: str,
    elsewhere: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not elsewhere:
        monkeypatch.setattr(tempfile, "tempdir", str(lay(shared / "closed", 0o755)))
    home = lay(shared / "home", 0o755, ME)
    data = home / ".quantumpipes"
    site = Site(home, caplog)

    def do() -> str:
        site._be(home, None)
        os.environ["CAPSULE_SDK_EXIT_TIMEOUT"] = "0.2"
        recorder = capsule_sdk.get_recorder()
        with capsule_sdk.capsule_scope("before"):
            pass
        assert capsule_sdk.flush() == 0
        journal = recorder._rounds.safekeeping.home
        assert journal is not None
        place = journal.path if closed == "the journal" else home / closed
        lock = sqlite3.connect(data / "capsules.db")
        lock.execute(
            "BEGIN IMMEDIATE"
        )  # or what is beside the database that is closed keeps nothing out
        place.chmod(0)
        with capsule_sdk.capsule_scope("after"):
            pass
        exiting._at_exit()
        place.chmod(0o700)
        lock.close()
        return "\n".join(caplog.messages)

    log = as_user(ME, do)
    own = "the journal" in closed and not elsewhere  # beside it another one can be made
    assert ("they are in the journal" in log) == (elsewhere or own), log
    assert ("it is not known whether they are safe" in log) == (not (elsewhere or own)), log
    assert "are lost" not in log
    assert "in memory only" not in log
    code, status = site.command("status")
    assert (code, status["lost"]) == (1, 0)
    assert not any(one["lost"] for one in status["journals"])
    code, brought = site.command("recover")
    assert (code, brought["lost"], brought["unfinished"]) == (0, 0, 0), brought
    assert [one["trigger"]["source"] for one in read_chain(data / "capsules.db")] == [
        "before",
        "after",
    ]
    assert site.command("status")[0] == 0


def test_losses_that_were_noted_are_not_sealed_while_a_journal_cannot_be_looked_at(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They may stand in it."""
    home = lay(shared / "home", 0o755, ME)
    site, root = Site(home, caplog), home / ".quantumpipes" / "journal" / "capsules.db.records"
    assert site.record("one", patience=20)["left"] == 0

    def note() -> None:
        noted = Unwritten.make_elsewhere([home], root)
        assert noted is not None
        noted.put("ab" * 16, {"id": "ab" * 16})
        noted.release()
        Home.make(root).release()

    as_user(ME, note)
    for path in home.glob("capsule_sdk-*"):
        path.rename(home / ".quantumpipes" / path.name)
    root.chmod(0)
    code, found = site.command("recover")
    assert (code, found["lost"]) == (1, 0)
    assert found["left"] >= 1
    root.chmod(0o700)
    code, found = site.command("recover")
    assert (code, found["lost"], found["left"]) == (1, 1, 0)


# -- teams -------------------------------------------------------------------------------------------------


@pytest.fixture
def two_named() -> tuple[int, int]:
    """Give two users that this system knows."""
    return 1, 2  # daemon and bin


@pytest.mark.parametrize("mode", [0o2770, 0o1777, 0o777], ids=["of a group", "sticky", "open"])
def test_the_second_user_of_a_file_is_told_what_a_team_can_do_and_loses_nothing(
    shared: Path, mode: int, two_named: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = two_named
    team = lay(shared / "team", mode, 0, 0)
    homes = {uid: lay(shared / f"home-{uid}", 0o755, uid) for uid in two_named}
    url = str(team / "chain.db")
    assert Site(homes[first], caplog).record("his", uid=first, url=url, patience=20)["left"] == 0
    before = (team / "chain.db").read_bytes()
    site = Site(homes[second], caplog)
    found = site.record("hers", uid=second, url=url)
    assert found["left"] == 1
    trouble = str(found["trouble"])
    for text in ("belongs to daemon", "postgresql://", "a file of their own", "one service user"):
        assert text in trouble
    everything = trouble + "\n".join(found["log"])
    for bad in ("chown", "chmod", "remove it", "move it", "move aside"):
        assert bad not in everything
    assert "are lost" not in everything
    (last,) = [line for line in found["log"] if "they are in the journal" in line]
    assert found["place"] in last
    assert (team / "chain.db").read_bytes() == before
    data = homes[second] / ".quantumpipes"
    code, brought = site.command("recover", "--journal", found["place"], uid=second)
    assert (code, brought["capsules"]) == (0, 1)
    assert [one["trigger"]["source"] for one in read_chain(data / "capsules.db")] == ["hers"]


def test_a_file_that_a_team_shares_on_purpose_goes_on_working(
    shared: Path, two_named: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    team = lay(shared / "team", 0o2770, 0, 0)
    homes = {uid: lay(shared / f"home-{uid}", 0o755, uid) for uid in two_named}
    url = str(team / "chain.db")
    for uid in (*two_named, *two_named):
        found = Site(homes[uid], caplog).record("work", uid=uid, url=url, patience=20)
        assert found["left"] == 0, found
        (team / "chain.db").chmod(0o660)
        os.chown(team / "chain.db", -1, 0)
    assert len(list(read_chain(team / "chain.db"))) == 4

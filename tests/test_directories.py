"""Directories and files are used only if nobody else can have laid them, and no link leads astray.

Most of these need two users: they run as root, and do as another one in a forked child.
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from chain_support import capsule
from recording import make_task, until
from tallying import said

import capsule_sdk
from capsule_sdk import directories
from capsule_sdk.chain import open_chain
from capsule_sdk.cli import main
from capsule_sdk.directories import open_directory
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.journal import temporary
from capsule_sdk.journal.contents import homes
from capsule_sdk.journal.files import Home
from capsule_sdk.journal.frames import Kind, encode
from capsule_sdk.journal.unwritten import Unwritten
from capsule_sdk.owners import open_to_others
from capsule_sdk.recording.default import recover
from capsule_sdk.records.state import beginning, ending

ROOT, DAEMON, NOBODY, UNKNOWN = 0, 1, 65534, 4242
two_users = pytest.mark.skipif(os.getuid() != 0, reason="only root can do as another user")


@pytest.fixture
def shared() -> Iterator[Path]:
    """Give a directory that other users can reach, unlike those of pytest."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def as_user(uid: int, do: Callable[[], Any], groups: tuple[int, ...] = ()) -> str:
    """Do something as another user in a forked child, and return what came of it as a text."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups)
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            text = str(do())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(theirs, text.encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


def lay(path: Path, mode: int, uid: int = ROOT, gid: int | None = None) -> Path:
    path.mkdir()
    os.chown(path, uid, uid if gid is None else gid)
    path.chmod(mode)
    return path


# -- the table of decision 23 ---------------------------------------------------------------------------


@two_users
@pytest.mark.parametrize(
    ("mode", "uid", "gid", "used"),
    [
        (0o755, ROOT, ROOT, True),
        (0o755, DAEMON, DAEMON, True),
        (0o2770, ROOT, UNKNOWN, True),  # fsGroup of Kubernetes, whose group has no name here
        (0o775, DAEMON, DAEMON, True),  # a group of one, with umask 002
        (0o755, UNKNOWN, UNKNOWN, True),  # a volume of another machine's user
        (0o755, NOBODY, NOBODY, True),  # what a user namespace does not know
        (0o1777, ROOT, ROOT, True),
        (0o777, ROOT, ROOT, False),
        (0o777, DAEMON, DAEMON, False),
        (0o755, 2, 2, False),  # somebody else of this system
        (0o775, ROOT, 2, False),  # a group of somebody else
    ],
)  # fmt: skip
def test_who_may_own_and_write_what_is_above(
    shared: Path, mode: int, uid: int, gid: int, used: bool
) -> None:
    above = lay(shared / "above", mode, uid, gid)
    lay(above / "ours", 0o700, DAEMON)
    found = as_user(DAEMON, lambda: open_directory(above / "ours").path, groups=(UNKNOWN,))
    assert (found == str(above / "ours")) == used, found
    assert used or (str(above) in found and "name a directory of your own" in found)
    assert used or ("chmod go-w" in found) == (uid == DAEMON)  # only of what is this user's


@two_users
@pytest.mark.parametrize(
    ("mode", "uid", "gid", "used"),
    [
        (0o700, DAEMON, DAEMON, True),
        (0o755, DAEMON, DAEMON, True),
        (0o2770, DAEMON, UNKNOWN, True),  # what Kubernetes makes of a directory on a volume
        (0o777, DAEMON, DAEMON, False),
        (0o1777, DAEMON, DAEMON, False),
        (0o770, DAEMON, 2, False),
        (0o755, ROOT, ROOT, False),
        (0o777, NOBODY, NOBODY, False),
        (0o755, UNKNOWN, UNKNOWN, False),
    ],
)
def test_the_directory_itself_is_this_users_and_nobody_else_writes_it(
    shared: Path, mode: int, uid: int, gid: int, used: bool
) -> None:
    lay(shared / "ours", mode, uid, gid)
    found = as_user(DAEMON, lambda: open_directory(shared / "ours").path)
    assert (found == str(shared / "ours")) == used, found


@two_users
@pytest.mark.parametrize("owner", [ROOT, DAEMON, NOBODY])
def test_in_a_sticky_directory_only_what_is_ours_leads_on(shared: Path, owner: int) -> None:
    shared.chmod(0o1777)
    lay(shared / "journal", 0o755, owner)
    lay(shared / "journal" / "ours", 0o700, DAEMON)
    found = as_user(DAEMON, lambda: open_directory(shared / "journal" / "ours").path)
    assert ("UnsafeError" in found) == (owner == NOBODY), found


@two_users
@pytest.mark.parametrize("owner", [ROOT, DAEMON, NOBODY])
def test_a_link_above_is_followed_if_the_user_or_root_has_made_it(shared: Path, owner: int) -> None:
    real = lay(shared / "real", 0o755, DAEMON)
    lay(real / "ours", 0o700, DAEMON)
    (shared / "link").symlink_to("real/../real")
    os.chown(shared / "link", owner, owner, follow_symlinks=False)
    found = as_user(DAEMON, lambda: sorted(open_directory(shared / "link" / "ours").names()))
    assert (found == "[]") == (owner != NOBODY), found


def test_a_directory_that_is_missing_is_made_for_its_owner_with_all_above_it(
    tmp_path: Path,
) -> None:
    before = os.umask(0)
    try:
        open_directory(tmp_path / "a" / "b" / "c", make=True).close()
    finally:
        os.umask(before)
    for path in ("a", "a/b", "a/b/c"):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o700


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="symbolic links"):
        open_directory(tmp_path / "one" / "ours")


def test_no_descriptor_is_left_open_whatever_becomes_of_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    before = len(list(Path("/dev/fd").iterdir())), set(directories.ours)
    for name in ("link", "file", "open", "open/below", "none", "none/below", "file/below"):
        with pytest.raises(OSError, match="."):
            open_directory(tmp_path / name)
    home = Home.make(tmp_path / "ours")
    for name in ("link", "none"):
        (home.path / name).symlink_to("nowhere") if name == "link" else None
        with pytest.raises(OSError, match="."):
            home.directory.open(name)
        with pytest.raises(OSError, match="."):
            home.directory.directory(name)
    home.release()
    assert (len(list(Path("/dev/fd").iterdir())), directories.ours) == before


# -- journals that another user has laid ------------------------------------------------------------------


def forged(root: Path) -> tuple[str, Path]:
    """Lay a journal in which somebody says that something was approved."""
    task = make_task("the board approves")
    task.settle("success")
    home = root / "20200101T000000-1-deadbeef"
    home.mkdir(parents=True, exist_ok=True)
    text = encode(Kind.BEGUN, beginning(task)) + encode(Kind.ENDED, ending(task))
    (home / "records-00000001").write_bytes(text)
    return str(task.id), home


@two_users
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_journals_that_another_user_has_laid_are_neither_sealed_nor_deleted(
    shared: Path, mode: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """And all that is recorded meanwhile is safe elsewhere: in life, and after ``kill -9``."""
    shared.chmod(mode)
    root = shared / "journal" / "chain.db.records"

    def plant() -> str:
        os.umask(0)
        return forged(root)[0]

    evil = as_user(NOBODY, plant)
    before = sorted(path for path in root.rglob("*"))
    pid = os.fork()
    if pid == 0:
        capsule_sdk.configure(shared / "chain.db", exit_timeout=0.0)
        with capsule_sdk.capsule_scope("committed"):
            pass
        capsule_sdk.flush()
        scope = capsule_sdk.capsule_scope("cut off")
        scope.__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    code, status = said(capsys, "status", "--db", str(shared / "chain.db"))
    assert code == 1
    assert sum("not believed" in trouble for trouble in status["trouble"]) == 1, status["trouble"]
    assert [journal["open"] for journal in status["journals"]] == [1]
    for times in (1, 2):
        code, found = said(capsys, "recover", "--db", str(shared / "chain.db"))
        assert (code, found["refused"], found["left"]) == (1, 1, 0)
        assert found["unfinished"] == (1 if times == 1 else 0)
    lines = [one for one in caplog.messages if "not believed" in one]
    assert len(lines) == 1
    assert str(shared) in lines[0]
    capsules = list(read_chain(shared / "chain.db"))
    assert [one["trigger"]["source"] for one in capsules] == ["committed", "cut off"]
    assert evil not in {one["id"] for one in capsules}
    assert sorted(path for path in root.rglob("*")) == before


@two_users
def test_root_sees_the_journals_of_a_user_as_that_user_and_brings_none_of_them_in(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, root = shared / "chain.db", shared / "journal" / "chain.db.records"
    capsule_sdk.configure(url)
    with capsule_sdk.capsule_scope("first"):
        pass
    capsule_sdk.shutdown()
    shutil.rmtree(shared / "journal", ignore_errors=True)
    Home.make(root).remove()
    _, home = forged(root)
    home.chmod(0o700)
    for path in [shared, *shared.rglob("*")]:
        os.chown(path, DAEMON, DAEMON)
    code, status = said(capsys, "status", "--db", str(url))
    assert (code, [one["waiting"] for one in status["journals"]]) == (1, [1]), status
    assert "waits for recovery" in status["trouble"][0]
    code, found = said(capsys, "recover", "--db", str(url))
    assert (code, found["refused"], found["capsules"]) == (1, 1, 0)
    shutil.rmtree(home)
    assert said(capsys, "status", "--db", str(url))[0] == 0
    assert said(capsys, "recover", "--db", str(url))[0] == 0


@two_users
def test_of_the_journals_in_a_directory_that_is_ours_only_ours_are_believed(tmp_path: Path) -> None:
    """Whoever has root may have put another's there, or given ours away."""
    url = tmp_path / "chain.db"
    root = tmp_path / "journal" / "chain.db.records"
    Home.make(root).remove()
    good, home = forged(root)
    home.chmod(0o700)
    evil, other = make_task("evil"), root / "20200101T000000-2-deadbeef"
    shutil.copytree(home, other)
    text = (other / "records-00000001").read_bytes()
    (other / "records-00000001").write_bytes(
        text.replace(good.replace("-", "").encode(), evil.id.hex.encode())
    )
    os.chown(other, NOBODY, NOBODY)
    found = recover(url)
    assert (found.journals, found.refused) == (1, 1)
    assert [one["id"] for one in read_chain(url)] == [good]
    assert sorted(other.iterdir()) == [other / "records-00000001"]


@two_users
def test_a_file_of_another_user_in_a_journal_is_damage_and_the_rest_of_it_is_read(
    tmp_path: Path,
) -> None:
    url, root = tmp_path / "chain.db", tmp_path / "journal" / "chain.db.records"
    Home.make(root).remove()
    good, home = forged(root)
    home.chmod(0o700)
    evil, _ = forged(tmp_path / "other")
    planted = home / "records-00000002"
    shutil.move(next(tmp_path.glob("other/*/records-*")), planted)
    os.chown(planted, NOBODY, NOBODY)
    found = recover(url)
    assert (found.journals, found.damaged, found.capsules) == (1, 1, 1)
    assert [one["id"] for one in read_chain(url)] == [good]
    assert evil != good
    assert (root / "damaged" / home.name / "records-00000002").exists()


@two_users
def test_losses_that_another_user_tells_of_are_not_counted(shared: Path) -> None:
    """Also in a directory that is his alone."""
    owned = lay(shared / "his", 0o755, NOBODY)
    root = shared / "journal" / "chain.db.records"

    def tell() -> None:
        file = Unwritten.make_elsewhere([owned], root)
        assert file is not None
        file.put("ab" * 16, {"id": "ab" * 16})

    as_user(NOBODY, tell)
    assert len(list(owned.iterdir())) == 1
    from capsule_sdk.journal.unwritten import left_in

    assert list(left_in([owned], root)) == []


@two_users
@pytest.mark.internal_errors
def test_where_nothing_is_safe_records_are_in_memory_and_that_is_said(
    shared: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's call goes on, and the chain gets all of it."""
    for name in ("data", "temporary", "place"):
        lay(shared / name, 0o777)
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(shared / "data"))
    monkeypatch.setattr(temporary, "directories", lambda: [shared / "temporary"])
    capsule_sdk.configure(shared / "place" / "chain.db")
    with capsule_sdk.capsule_scope("work"):
        pass
    assert capsule_sdk.flush() == 0
    lines = [one for one in caplog.messages if "records are in memory only" in one]
    assert len(lines) == 1
    assert f"chmod go-w {shared / 'place'}" in lines[0]
    assert [one["trigger"]["source"] for one in read_chain(shared / "place" / "chain.db")] == [
        "work"
    ]


@two_users
def test_once_the_directory_is_mended_what_waits_there_is_recovered(shared: Path) -> None:
    url, root = shared / "chain.db", shared / "journal" / "chain.db.records"
    Home.make(root).remove()
    good, home = forged(root)
    home.chmod(0o700)
    shared.chmod(0o777)
    assert (recover(url).refused, home.exists()) == (1, True)
    shared.chmod(0o755)
    assert (recover(url).capsules, home.exists()) == (1, False)
    assert [one["id"] for one in read_chain(url)] == [good]


# -- links ------------------------------------------------------------------------------------------------


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    """Give a directory of the user's own, with what a journal has in it, that nobody is to touch."""
    directory = tmp_path / "treasure"
    _, home = forged(directory)
    for name in ("owner.lock", "unwritten", "backlog-00000001", "gaps"):
        (home / name).write_text("mine")
    home.chmod(0o700)
    directory.chmod(0o700)
    return directory


def tree(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "where",
    ["root", "home", "hidden", "records", "lock", "unwritten", "backlog", "gaps", "damaged"],
)
def test_nothing_behind_a_link_is_read_written_or_deleted(
    tmp_path: Path, treasure: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url, root = tmp_path / "chain.db", tmp_path / "journal" / "chain.db.records"
    (there,) = treasure.iterdir()
    Home.make(root).remove()
    own, home = forged(root)
    home.chmod(0o700)
    if where == "root":
        shutil.move(root, tmp_path / "aside")
        root.symlink_to(treasure)
    elif where in ("home", "hidden"):
        (root / f"{'.' * (where == 'hidden')}20200101T000000-3-deadbeef").symlink_to(there)
    elif where == "damaged":
        (root / "damaged").symlink_to(treasure)
        (home / "records-00000002").write_bytes(b"garbage\n" * 9)
    else:
        name = {"lock": "owner.lock", "records": "records-00000002", "backlog": "backlog-00000001"}
        link = home / name.get(where, where)
        link.symlink_to(there / link.name.replace("00000002", "00000001"))
    before = tree(treasure)
    capsule_sdk.configure(url)
    with capsule_sdk.capsule_scope("work"):
        pass
    capsule_sdk.shutdown()
    recover(url)
    said(capsys, "status", "--db", str(url))
    assert tree(treasure) == before
    ids = {one["id"] for one in read_chain(url)}
    assert len(ids) == (2 if where not in ("root", "lock") else 1), where
    assert (own in ids) == (where not in ("root", "lock"))


def test_a_data_directory_that_the_user_has_linked_works(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    capsule_sdk.configure(tmp_path / "link" / "chain.db", journal=tmp_path / "link" / "journals")
    with capsule_sdk.capsule_scope("work"):
        pass
    capsule_sdk.flush()
    assert list(homes(tmp_path / "link" / "journals" / "chain.db.records"))
    capsule_sdk.shutdown()
    assert len(list(read_chain(tmp_path / "real" / "chain.db"))) == 1


@pytest.mark.parametrize("how", ["link", "another directory"])
def test_a_directory_that_is_swapped_under_recovery_is_not_emptied(
    tmp_path: Path, treasure: Path, how: str
) -> None:
    """It is held by its descriptor, and what has its name now is not."""
    root = tmp_path / "journal"
    Home.make(root).remove()
    _, place = forged(root)
    place.chmod(0o700)
    (there,) = treasure.iterdir()
    home = Home.take_over(place)
    assert home is not None
    place.rename(root / "moved")
    if how == "link":
        place.symlink_to(there)
    else:
        shutil.copytree(there, place)
    before = tree(treasure), tree(place)
    home.remove()
    assert (tree(treasure), tree(place)) == before


def test_a_link_beside_the_database_is_not_written_through(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is recorded waits in the journal until it is gone."""
    (tmp_path / "treasure").write_text("mine")
    (tmp_path / "chain.db-wal").symlink_to(tmp_path / "treasure")
    recorder = capsule_sdk.configure(tmp_path / "chain.db")
    with capsule_sdk.capsule_scope("work"):
        pass
    until(lambda: recorder.stats().store_away is not None)
    assert "is a symbolic link" in caplog.text
    assert (tmp_path / "treasure").read_text() == "mine"
    (tmp_path / "chain.db-wal").unlink()
    assert capsule_sdk.flush() == 0
    assert len(list(read_chain(tmp_path / "chain.db"))) == 1


@two_users
@pytest.mark.parametrize("named", ["by configure", "by a variable"])
def test_a_database_behind_another_users_link_is_not_recorded_to(
    shared: Path, named: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error says so where it was asked for; else records go to qp-capsule's own database."""
    private = lay(shared / "private", 0o700)
    lay(shared / "all", 0o1777)
    link = shared / "all" / "here"
    as_user(NOBODY, lambda: link.symlink_to(private))
    if named == "by configure":
        with pytest.raises(
            capsule_sdk.errors.ConfigurationError, match="link that nobody has made"
        ):
            capsule_sdk.configure(link / "chain.db")
    else:
        monkeypatch.setenv("CAPSULE_SDK_URL", str(link / "chain.db"))
        with capsule_sdk.capsule_scope("work"):
            pass
        assert capsule_sdk.flush() == 0
        assert "link that nobody has made" in caplog.text
    assert not list(private.iterdir())


# -- what is private ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_all_that_is_made_is_its_owners_alone_whatever_the_umask(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "notes").mkdir()
    before = os.umask(umask)
    try:
        url = tmp_path / "new" / "deep" / "chain.db"
        capsule_sdk.configure(url, checkpoint=tmp_path / "notes", checkpoint_capsules=1)
        with capsule_sdk.capsule_scope("work"):
            pass
        capsule_sdk.flush()
        with capsule_sdk.capsule_scope("more"):
            found = [*(tmp_path / "new").rglob("*"), *(tmp_path / "data").rglob("*")]
            until(lambda: any((tmp_path / "notes").rglob("*.checkpoint")))
            found += (tmp_path / "notes").rglob("*")
            modes = {path: path.stat().st_mode for path in found}
        capsule_sdk.shutdown()
    finally:
        os.umask(before)
    names = {path.name for path in modes}
    assert {"chain.db", "chain.db-wal", "chain.db-shm", "key", "owner.lock", "deep"} <= names
    wrong = {
        str(path): oct(mode)
        for path, mode in modes.items()
        if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)
    }
    assert not wrong


@two_users
def test_a_database_that_is_open_to_others_is_said_once_and_stays_so(
    shared: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    url = shared / "chain.db"
    for mode, expected in ((0o600, 0), (0o644, 1), (0o644, 1), (0o666, 2)):
        if url.exists():
            url.chmod(mode)
        capsule_sdk.configure(url)
        with capsule_sdk.capsule_scope("work"):
            pass
        capsule_sdk.shutdown()
        lines = [one for one in caplog.messages if "open to others" in one]
        assert len(lines) == expected
        code, status = said(capsys, "status", "--db", str(url))
        assert code == 0
        assert any(f"chmod go= {shlex.quote(str(url))}" in one for one in status["notes"]) == bool(
            expected
        )
    assert stat.S_IMODE(url.stat().st_mode) == 0o666


@two_users
@pytest.mark.parametrize(
    ("mode", "gid", "above", "how"),
    [
        (0o600, ROOT, 0o755, ""),
        (0o604, ROOT, 0o755, "read by everybody"),
        (0o606, ROOT, 0o755, "read and written by everybody"),
        (0o666, ROOT, 0o700, ""),
        (0o640, 2, 0o750, "read by the group bin"),
        (0o660, UNKNOWN, 0o2770, ""),
    ],
)
def test_a_file_is_open_to_others_where_they_can_get_at_it(
    shared: Path, mode: int, gid: int, above: int, how: str
) -> None:
    directory = lay(shared / "above", above, ROOT, gid)
    file = directory / "chain.db"
    file.touch()
    os.chown(file, ROOT, gid)
    file.chmod(mode)
    assert open_to_others(file).removeprefix("can be ") == how


@two_users
@pytest.mark.parametrize("what", ["key", "data/key", "chain.db", "chain.db-wal"])
def test_what_another_user_has_laid_where_everybody_may_is_not_used(
    shared: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A known key, a database to write prompts to: the records wait, and it is said why."""
    shared.chmod(0o1777)
    data = shared / "data" if what == "data/key" else shared
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(data))

    def plant() -> None:
        os.umask(0)
        (shared / what).parent.mkdir(exist_ok=True)
        (shared / what).write_bytes(b"k" * 32 if "key" in what else b"")

    as_user(NOBODY, plant)
    recorder = capsule_sdk.configure(shared / "chain.db", exit_timeout=0.0)
    with capsule_sdk.capsule_scope("work"):
        pass
    until(lambda: recorder.stats().store_trouble is not None)
    assert "belongs to nobody" in (recorder.stats().store_trouble or "")
    shutil.rmtree(shared / "data") if what == "data/key" else (shared / what).unlink()
    assert capsule_sdk.flush() == 0
    assert len(list(read_chain(shared / "chain.db"))) == 1


@two_users
def test_a_key_that_others_can_read_is_said_once(
    shared: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(shared))
    for _ in range(2):
        capsule_sdk.configure(shared / "chain.db")
        with capsule_sdk.capsule_scope("work"):
            pass
        capsule_sdk.shutdown()
        assert "signing key is open" not in caplog.text
        (shared / "key").chmod(0o600)
    (shared / "key").chmod(0o644)
    for _ in range(2):
        capsule_sdk.configure(shared / "chain.db")
        with capsule_sdk.capsule_scope("work"):
            pass
        capsule_sdk.shutdown()
    assert sum("signing key is open" in one for one in caplog.messages) == 1
    assert stat.S_IMODE((shared / "key").stat().st_mode) == 0o644


# -- a data directory that goes away under a running process --------------------------------------------------


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
def test_a_data_directory_that_goes_away_costs_nothing_and_is_said(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after lies in a chain that its own key can check, and what waited is there too."""
    data = tmp_path / "data"
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(data))
    recorder = capsule_sdk.configure(data / "chain.db")
    with capsule_sdk.capsule_scope("before"):
        pass
    capsule_sdk.flush()
    scope = capsule_sdk.capsule_scope("across")
    with scope:
        if how == "deleted":
            shutil.rmtree(data)
        else:
            data.rename(tmp_path / "moved")
        if how == "replaced":
            data.mkdir(mode=0o700)
        with capsule_sdk.capsule_scope("inside"):
            pass
        assert capsule_sdk.flush() == 0
        until(lambda: "the journal was removed while in use" in caplog.text)
        journal = recorder._rounds.safekeeping._journal
        until(lambda: journal is not None and journal.is_there() is True)
    assert capsule_sdk.flush() == 0
    capsule_sdk.shutdown()
    assert [one["trigger"]["source"] for one in read_chain(data / "chain.db")] == [
        "inside",
        "across",
    ]
    assert "the signing key was removed while in use, and is put back" in caplog.text
    assert "the chain ends before" in caplog.text
    from capsule_sdk.cli import main

    assert main(["verify", str(data / "chain.db")]) == 0
    if how == "moved":
        assert main(["verify", str(tmp_path / "moved" / "chain.db")]) == 0
        assert recover(tmp_path / "moved" / "chain.db").unfinished <= 1


@two_users
@pytest.mark.parametrize("command", ["recover", "status", "stats", "tree"])
def test_what_another_user_has_closed_is_said_with_what_to_do(shared: Path, command: str) -> None:
    """A user after ``sudo``: never an error of ours, and never a traceback."""
    home = lay(shared / "home", 0o755)
    chain = open_chain(url=home / "capsules.db")
    chain.append([capsule()])
    chain.close()
    closed = home if command in {"stats", "tree"} else lay(home / "journal", 0o700)
    closed.chmod(0o700)

    def do() -> str:
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(out):
            code = main([command, "--db", str(home / "capsules.db")])
        return f"{code} {out.getvalue()}"

    told = as_user(DAEMON, do)
    assert told[0] in "12", told
    assert "error of its own" not in told
    assert "Traceback" not in told
    advice = "as its owner", "as their owner", "as the user whose", "NOT BELIEVED"
    assert any(words in told for words in advice), told

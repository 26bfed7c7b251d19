"""File systems as people have them: no hard links, locks, renames, synced directories; odd names and homes."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chain_support import assert_verified, finish, start

import capsule_sdk
from capsule_sdk import capsuled, flush
from capsule_sdk.chain import placing
from capsule_sdk.chain.keys import ensure_key
from capsule_sdk.chain.location import sqlite_path
from capsule_sdk.errors import ConfigurationError
from capsule_sdk.evidence.exporting.export import read_chain

REFUSALS = ("EPERM", "ENOTSUP", "EIO", "ENOSYS", "EMLINK", "EXDEV", "EACCES", "EINVAL")

#: Run in each process before it makes a key: what this volume does not have.
VOLUME = """
import errno, fcntl, os, pathlib, sys
def refuse(name):
    number = getattr(errno, name)
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))
    return refused
for what in sys.argv[2:]:
    what, _, name = what.partition("=")
    if what == "link": os.link = refuse(name)
    if what == "lockf": fcntl.lockf = refuse(name)
    if what == "rename": os.rename = pathlib.Path.rename = refuse(name)
"""


def refusing(name: str) -> Callable[..., Any]:
    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(getattr(errno, name), "refused")

    return refused


@pytest.mark.parametrize("name", REFUSALS)
def test_without_hard_links_the_key_is_renamed_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, "link", refusing(name))
    key = tmp_path / "home" / "key"
    ensure_key(key)
    assert len(key.read_bytes()) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert {path.name for path in key.parent.iterdir()} == {"key", "key.lock"}
    before = key.read_bytes()
    ensure_key(key)
    assert key.read_bytes() == before


@pytest.mark.parametrize("name", ["ENOLCK", "ENOTSUP", "ENOSYS", "EINVAL"])
def test_without_links_and_locks_the_key_is_made_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, "link", refusing("EPERM"))
    monkeypatch.setattr(placing.fcntl, "lockf", refusing(name))
    key = tmp_path / "key"
    ensure_key(key)
    assert len(key.read_bytes()) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_key_that_cannot_be_written_in_its_place_leaves_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refusing("EPERM"))
    monkeypatch.setattr(Path, "rename", refusing("EXDEV"))
    true_fsync, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "full")
        true_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    key = tmp_path / "key"
    with pytest.raises(OSError, match="full"):
        ensure_key(key)
    assert not key.exists()
    ensure_key(key)
    assert len(key.read_bytes()) == 32


def test_a_key_that_is_there_is_never_replaced_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"theirs")
    monkeypatch.setattr(os, "link", refusing("EPERM"))
    placing.put_new(key, b"ours")
    assert key.read_bytes() == b"theirs"


@pytest.mark.parametrize(
    "lacks",
    [["link=EPERM"], ["link=ENOTSUP", "lockf=ENOLCK"], ["link=EIO", "rename=EPERM"]],
    ids=str,
)
def test_20_processes_that_start_together_get_one_key(tmp_path: Path, lacks: list[str]) -> None:
    code = (
        VOLUME
        + """
from pathlib import Path
from chain_support import race
from capsule_sdk.chain.keys import ensure_key, read_key
def work(process):
    for number in range(8):
        key = Path(sys.argv[1], f"new-{number}", "key")
        ensure_key(key)
        os.write(1, f"{number} {read_key(key).verify_key.encode().hex()}\\n".encode())
race(20, work)
"""
    )
    (printed,) = finish(start(code, tmp_path, *lacks))
    lines = printed.splitlines()
    assert len(lines) == 160
    assert len(set(lines)) == 8


def test_a_process_that_forks_while_the_key_is_made_hands_no_lock_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with placing._locked(tmp_path / "key.lock"):
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(os, "link", refusing("EPERM"))
            ensure_key(tmp_path / "other" / "key")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    ensure_key(tmp_path / "key")


# ── directories ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["EINVAL", "EIO", "EBADF", "ENOTSUP", "EPERM", "EROFS"])
def test_a_directory_that_cannot_be_synced_is_told_once_and_all_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    true_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(getattr(errno, name), "refused")
        true_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(placing, "_told", set())
    with caplog.at_level(logging.WARNING, "capsule_sdk"):
        for _ in range(3):
            placing.sync_directory(tmp_path)
    assert caplog.text.count("cannot be synced") == (name != "EINVAL")


def test_a_directory_that_may_be_entered_and_not_listed_is_no_trouble(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o300)
    ensure_key(home / "key")
    assert len((home / "key").read_bytes()) == 32


@pytest.mark.parametrize(
    "name", ["with space", "new\nline", "ünï", "caf\udce9", "x" * 200, "100%", "a;b'c\"d", "?a=b#c"]
)
def test_a_data_directory_may_have_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    home = tmp_path / name / "deeper"
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(home))
    assert _recorded(home / "capsules.db") == 1


def test_a_data_directory_may_be_a_link_and_the_umask_narrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "true").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "true")
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path / "link"))
    before = os.umask(0o077)
    try:
        assert _recorded(tmp_path / "true" / "capsules.db") == 1
    finally:
        os.umask(before)
    assert_verified("--db", tmp_path / "true" / "capsules.db")


def _recorded(path: Path) -> int:
    @capsuled
    def ask() -> None: ...

    capsule_sdk.configure()
    ask()
    assert flush(20) == 0
    return len(list(read_chain(path)))


# ── homes ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user of whom the system knows nothing."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("QUANTUMPIPES_DATA_DIR")
    import pwd

    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}["nobody"])


@pytest.mark.usefixtures("homeless")
def test_without_a_home_it_is_said_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="set QUANTUMPIPES_DATA_DIR to a directory"):
        sqlite_path()
    with pytest.raises(ConfigurationError, match="no home directory is known for '~'.*set HOME"):
        sqlite_path("~/x.db")
    with pytest.raises(ConfigurationError, match="'~nobody-of-this-name'"):
        sqlite_path("sqlite:///~nobody-of-this-name/x.db")


@pytest.mark.usefixtures("homeless")
@pytest.mark.internal_errors
def test_without_a_home_calls_go_on_and_the_log_says_what_to_set(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @capsuled
    def ask() -> int:
        return 5

    with caplog.at_level(logging.ERROR, "capsule_sdk"):
        assert ask() == 5
        flush(1)
    assert "set QUANTUMPIPES_DATA_DIR" in caplog.text


def test_a_data_directory_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path / ".." / "x"))
    with pytest.raises(ConfigurationError, match="QUANTUMPIPES_DATA_DIR cannot be used"):
        sqlite_path()

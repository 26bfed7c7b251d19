"""Turns: whoever waits to write waits behind others, and for nothing that excludes nobody."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from capsule_sdk import directories
from capsule_sdk.chain.turns import turn


def is_taken(directory: Path) -> bool:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_one_has_the_turn_and_gives_it_back(tmp_path: Path) -> None:
    with turn(tmp_path, 1):
        assert is_taken(tmp_path)
    assert not is_taken(tmp_path)


def test_all_who_wait_get_their_turn(tmp_path: Path) -> None:
    order: list[int] = []

    def work(number: int) -> None:
        with turn(tmp_path, 60):
            order.append(number)
            time.sleep(0.005)
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[::2] == order[1::2]
    assert sorted(order[::2]) == list(range(20))


def test_somebody_who_keeps_the_turn_stops_nobody(tmp_path: Path) -> None:
    with turn(tmp_path, 1), turn(tmp_path, 0.1):
        assert is_taken(tmp_path)
    assert not is_taken(tmp_path)


def test_where_there_is_no_directory_all_goes_on(tmp_path: Path) -> None:
    with turn(tmp_path / "missing", 1):
        pass


def test_where_nothing_can_be_locked_all_goes_on_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")  # as NFS says it of a directory

    monkeypatch.setattr(fcntl, "flock", refuse)
    began = time.monotonic()
    with turn(tmp_path, 10):
        assert time.monotonic() - began < 5


def test_a_forked_child_does_not_keep_the_turn(tmp_path: Path) -> None:
    (lives, tell), (wait, end) = os.pipe(), os.pipe()
    before = set(directories.ours)
    with turn(tmp_path, 1):
        pid = os.fork()
        if pid == 0:
            os.write(tell, b"x")
            os.read(wait, 1)
            os._exit(0)
    try:
        os.read(lives, 1)
        assert not is_taken(tmp_path)
        assert directories.ours == before
    finally:
        os.write(end, b"x")
        os.waitpid(pid, 0)

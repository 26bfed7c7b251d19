"""Every lock of ours is found, is taken by `with` alone, and is free in a child forked while all are held."""

from __future__ import annotations

import ast
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from campaigns.locks import left_held, locks
from conftest import Chain

import capsule_sdk
from capsule_sdk import capsule_scope, flush, forks

PACKAGE = Path(capsule_sdk.__file__).parent

#: Where locks are made. A module that is new here says with `at_fork` what becomes of its own in a child, if it
#: outlives a call.
MADE = Counter(
    {
        "forks.py": 1, "records/task.py": 2, "recording/line.py": 1, "recording/rounds.py": 1,
        "chain/sqlite.py": 2, "chain/postgresql.py": 2, "chain/bridge.py": 2, "chain/placing.py": 2,
        # of one call, which no child goes on with:
        "scopes/confirming.py": 1, "evidence/verifying/workers.py": 2,
    }
)  # fmt: skip
#: Where one is taken or released otherwise, and why a signal handler cannot raise there, or does no harm.
BY_HAND = {
    "forks.py",  # asks the lock itself whether it holds it, in the end
    "interrupts.py",  # `held`
    "recording/rounds.py",  # in a thread where no handler runs
    "evidence/verifying/workers.py",  # in threads of its own
}
#: Classes in Python: a signal handler may raise at their first line, with the lock inside them held.
REFUSED = {
    "Condition",
    "Event",
    "Semaphore",
    "BoundedSemaphore",
    "Barrier",
    "Queue",
    "LifoQueue",
    "PriorityQueue",
}


def _calls() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = (
                    node.func.attr
                    if isinstance(node.func, ast.Attribute)
                    else getattr(node.func, "id", "")
                )
                yield path.relative_to(PACKAGE).as_posix(), name
            elif isinstance(node, ast.Attribute) and node.attr in ("acquire", "release"):
                yield path.relative_to(PACKAGE).as_posix(), node.attr


def test_locks_are_made_where_it_is_known_what_becomes_of_them_in_a_child() -> None:
    assert (
        Counter(path for path, name in _calls() if name in ("Lock", "RLock", "allocate_lock"))
        == MADE
    )


def test_locks_are_taken_by_with_alone() -> None:
    taken = {path for path, name in _calls() if name in ("acquire", "acquire_lock")}
    assert taken <= BY_HAND
    assert not [(path, name) for path, name in _calls() if name in REFUSED]


def test_every_fork_hook_is_one_of_ours_in_order() -> None:
    assert [path for path, name in _calls() if name == "register_at_fork"] == ["forks.py"]


def test_every_lock_is_free_in_a_child_that_was_forked_while_all_were_held(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capsule_scope("first"):
        pass
    assert flush() == 0
    ours = locks()
    assert len(ours) >= 6
    take = forks.Stilled.take
    monkeypatch.setattr(forks.Stilled, "take", lambda self, patience=0.05: take(self, 0.05))
    hold, leave = threading.Event(), threading.Event()

    def holder() -> None:
        taken: list[Any] = [one for one in ours if one.acquire(timeout=5.0)]
        hold.set()
        leave.wait(30)
        for one in reversed(taken):
            one.release()

    thread = threading.Thread(target=holder)
    thread.start()
    assert hold.wait(30)
    pid = os.fork()
    if pid == 0:
        mine = locks()
        stuck = [one for one in mine if not one.acquire(timeout=1.0)]
        for one in mine:
            if one not in stuck:
                one.release()
        os._exit(len(stuck))
    leave.set()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
    assert not left_held(ours)
    with capsule_scope("after"):
        pass
    assert flush() == 0

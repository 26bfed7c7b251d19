"""Forks: what a fork waits for, and what its child makes anew. A leaf.

One hook of Python's, registered before any lock of ours is made; what it does is data. A module that keeps a
lock, a connection or a descriptor says beside it, with `at_fork`, what is to become of that.

- A child MUST NOT find a lock that a thread held which it does not have: each is free, or made anew.
- What a thread is at the beginning of (an import, a wrapped framework, the first record) MUST NOT be left half
  done in a child: such code holds `beginning`, and a fork waits for it. An import that was under way in another
  thread never ends in a child: who asks for the same module there waits for ever.
- Stages order the hooks, whichever module was imported first: what may take long is waited for first.
- A fork waits for a bounded time (`PATIENCE`) at each stage, and then goes on.
- Python runs hooks in reverse before a fork. `logging` and `concurrent.futures` take locks of their own in
  theirs, which a thread that is waited for here may need: so those come first, and both are imported here.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - see above
import logging  # noqa: F401 - see above
import os
from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple

from .threads import RLock, get_ident

__all__ = [
    "PATIENCE",
    "Stage",
    "Stilled",
    "at_fork",
    "beginning",
    "end_of_fork",
    "let_go",
    "under_way",
]

#: Seconds that a fork waits for one thing: a beginning, a round of a writer, a connection in use.
PATIENCE: Final = 10.0


class Stage(IntEnum):
    """When a hook runs: before a fork the first stage first, after it the last one first."""

    BEGINNINGS = 0
    ROUNDS = 1
    CONNECTIONS = 2
    REST = 3


class _Hook(NamedTuple):
    stage: Stage
    before: Callable[[list[Any]], object] | None
    in_parent: Callable[[list[Any]], object] | None
    in_child: Callable[[list[Any]], object] | None


_hooks: list[_Hook] = []

#: Forks by the thread that is in the middle of one: each hook with what it has stilled. An entry that its
#: thread finds later is of a fork whose end was interrupted.
under_way: dict[int, list[tuple[_Hook, list[Any]]]] = {}


class _Beginning:
    """A lock for what must be whole in a child. Reentrant: what begins may begin something else."""

    __slots__ = ("__enter__", "__exit__", "lock")

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Be free. A block that this thread is inside of leaves the lock of before."""
        self.lock = RLock()
        # The lock's own methods: a method in Python would leave room for a signal handler between the lock and
        # the block, see `capsule_sdk.interrupts`.
        self.__enter__ = self.lock.__enter__
        self.__exit__ = self.lock.__exit__


class Stilled:
    """A reentrant lock that a fork holds. Whether it does is asked of the lock: so no interrupt can hide it."""

    __slots__ = ("_lock", "_mine")

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._mine = lock._is_owned()

    def take(self, patience: float = PATIENCE) -> bool:
        """Take it, if it can be had in so many seconds; whoever forks inside of it has it already."""
        return bool(self._mine or self._lock.acquire(timeout=patience))

    @property
    def is_mine(self) -> bool:
        """Whether this thread was inside when it forked."""
        return bool(self._mine)

    def let_go(self) -> None:
        """Let the others in again."""
        if not self._mine and self._lock._is_owned():
            self._lock.release()


def let_go(stilled: list[Stilled]) -> None:
    """Let the others into all of these locks again."""
    for lock in stilled:
        lock.let_go()


def at_fork(
    stage: Stage,
    *,
    before: Callable[[list[Any]], object] | None = None,
    in_parent: Callable[[list[Any]], object] | None = None,
    in_child: Callable[[list[Any]], object] | None = None,
) -> None:
    """Have this done around each fork.

    Args:
        stage: its place among the others.
        before: called first, with an empty list, in which it puts what it has stilled, before it stills it.
        in_parent: called after it with that list.
        in_child: likewise.

    """
    _hooks.append(_Hook(stage, before, in_parent, in_child))


def _before() -> None:
    done: list[tuple[_Hook, list[Any]]] = []
    under_way[get_ident()] = done
    problems: list[BaseException] = []
    for hook in sorted(_hooks, key=lambda hook: hook.stage):
        stilled: list[Any] = []
        done.append((hook, stilled))
        _do(hook.before, stilled, problems)
    _report(problems)


def end_of_fork() -> None:
    """Let go of all that this thread has stilled for a fork."""
    done = under_way.get(get_ident())
    problems: list[BaseException] = []
    while done:
        hook, stilled = done[-1]
        _do(hook.in_parent, stilled, problems)
        done.pop()
    under_way.pop(get_ident(), None)
    _report(problems)


def _in_child() -> None:
    done = under_way.pop(get_ident(), [])
    under_way.clear()
    problems: list[BaseException] = []
    for hook in sorted(_hooks, key=lambda hook: hook.stage, reverse=True):
        stilled = next((stilled for one, stilled in done if one is hook), [])
        _do(hook.in_child, stilled, problems)
    _report(problems)


def _do(
    work: Callable[[list[Any]], object] | None, stilled: list[Any], problems: list[BaseException]
) -> None:
    try:
        if work is not None:
            work(stilled)
    except BaseException as error:  # noqa: BLE001 - the other hooks have to run all the same
        problems.append(error)


def _report(problems: list[BaseException]) -> None:
    """Have Python say that a hook failed: whatever is raised in one, it goes on with the fork."""
    if problems:
        raise problems[0]


def _wait_for_beginnings(stilled: list[Any]) -> None:
    stilled.append(Stilled(beginning.lock))
    stilled[0].take()


#: Held by whatever must be whole in a child: ``with beginning: ...``.
beginning = _Beginning()
at_fork(
    Stage.BEGINNINGS,
    before=_wait_for_beginnings,
    in_parent=let_go,
    in_child=lambda _: beginning.renew(),
)
os.register_at_fork(before=_before, after_in_parent=end_of_fork, after_in_child=_in_child)

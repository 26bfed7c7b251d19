"""Forking: a fork waits for the commits under way, and its child begins with nothing of its parent's to record.

The recorders of this process are known here from their making on, so that there is none that a fork overlooks.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from ..forks import Stage, Stilled, at_fork, let_go

if TYPE_CHECKING:
    from .recorder import Recorder

__all__ = ["known", "live", "live_recorders"]

#: All recorders. No `weakref.WeakSet`: a line of Python would run as one dies, and Ctrl-C be lost there.
known: set[weakref.ref[Recorder]] = set()
#: Those that have a writer, or something to answer for. Held here: whoever replaces one may forget it.
live: set[Recorder] = set()


def live_recorders() -> list[Recorder]:
    """Return all recorders of this process that may have something to write."""
    return list(live)


def _before_fork(stilled: list[Stilled]) -> None:
    for recorder in live_recorders():
        recorder.pause_for_fork(stilled)


def _after_fork_in_child(stilled: list[Stilled]) -> None:
    del stilled
    for recorder in [one for ref in list(known) if (one := ref()) is not None]:
        recorder.start_afresh_in_child()


at_fork(Stage.ROUNDS, before=_before_fork, in_parent=let_go, in_child=_after_fork_in_child)

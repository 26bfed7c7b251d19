"""Forking: a fork waits for the commits under way, and its child begins with nothing of its parent's to record.

Imported with the first record, and after the chain, whose own hooks close its connections: hooks run in
reverse order before a fork, and a writer in the middle of a round must not be waited for with its file locked.
"""

from __future__ import annotations

import os
import threading

from .. import chain
from .outbox import Outbox
from .recorder import Recorder, live_recorders

__all__ = ["Outbox", "chain"]

_paused = threading.local()


def _before_fork() -> None:
    _paused.recorders = [recorder for recorder in live_recorders() if recorder.pause_for_fork()]


def _after_fork_in_parent() -> None:
    for recorder in _recorders_paused():
        recorder.go_on_after_fork()


def _after_fork_in_child() -> None:
    _recorders_paused()
    for recorder in live_recorders():
        recorder.start_afresh_in_child()


def _recorders_paused() -> list[Recorder]:
    paused: list[Recorder] = _paused.__dict__.pop("recorders", [])
    return paused


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)

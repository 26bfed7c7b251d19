"""Log lines: the capsule that a line of the user's own log belongs to."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from ..content import label
from ..records.attribution import NOBODY
from .node import innermost

__all__ = ["add_capsule_ids"]


def add_capsule_ids(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Put ``capsule_id``, ``agent_id`` and ``session_id`` on a log line.

    A structlog processor: ``structlog.configure(processors=[add_capsule_ids, ...])``. The id is that
    of the current task, the others are what a record made here would say. What the line already says
    is left as it is, and what is not known is not added.
    """
    del logger, method
    scope = innermost()
    if scope is None:
        return event
    task = scope.nearest_task()
    inherited = NOBODY if task is None else task.attribution  # with what `configure` says
    for key, value in (
        ("capsule_id", None if task is None else str(task.id)),
        ("agent_id", scope.agent_id or inherited.agent_id),
        ("session_id", scope.session_id or inherited.session_id),
    ):
        if value is not None:
            event.setdefault(key, label(value))
    return event

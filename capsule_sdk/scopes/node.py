"""Scope: what the current code runs under. One ContextVar holds a chain of them, innermost first.

Invariants: a scope is closed once and stays closed; readers walk past closed ones, so that one left
behind in a foreign context is never blamed; leaving puts back what was there, by value, and only
where the variable still holds the scope that is left or one inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..records.attribution import Attribution
from ..records.authority import Authority

if TYPE_CHECKING:
    from ..recording.recorder import Recorder
    from ..records.task import Task

__all__ = ["Scope", "innermost", "nearest_open", "parent_of"]


class Scope:
    """What code inside runs under. Read it with `current_scope`; scopes and decorators make it."""

    __slots__ = (
        "_ended",
        "_inside",
        "_outside",
        "attribution",
        "closed",
        "parent",
        "recorder",
        "task",
    )

    def __init__(
        self, within: Scope | None, inner: Attribution, recorder: Recorder | None = None
    ) -> None:
        around = nearest_open(within)
        #: The scope around; closed ones are left out, or a chain of fire-and-forget would never be
        #: freed.
        self.parent = around
        self._ended = None if around is within else parent_of(within)[1]
        self.attribution: Attribution = (
            inner if around is None else around.attribution.overlaid(inner)
        )
        self.recorder = recorder
        self.task: Task | None = None
        self.closed = False
        #: What was current in it when it was suspended: an inner scope, or itself.
        self._inside: Scope | None = None
        #: What was current before it was resumed.
        self._outside: Scope | None = None

    def __repr__(self) -> str:
        return f"<Scope task={self.nearest_task()!r} {'closed' if self.closed else 'open'}>"

    @property
    def agent_id(self) -> str | None:
        """The agent, if a scope names one."""
        return self.attribution.agent_id

    @property
    def domain(self) -> str | None:
        """The domain, if a scope names one."""
        return self.attribution.domain

    @property
    def session_id(self) -> str | None:
        """The session."""
        return self.attribution.session_id

    @property
    def user_id(self) -> str | None:
        """The authenticated user."""
        return self.attribution.user_id

    @property
    def correlation_id(self) -> str | None:
        """The correlation id."""
        return self.attribution.correlation_id

    @property
    def tenant_id(self) -> str | None:
        """The tenant."""
        return self.attribution.tenant_id

    @property
    def environment(self) -> Mapping[str, Any]:
        """Facts for CPS 1.2, of all scopes around; the inner one wins."""
        return self.attribution.environment

    @property
    def authority(self) -> Authority | None:
        """The authority in force, if a scope names one."""
        return self.attribution.authority

    def nearest_task(self) -> Task | None:
        """Return the innermost task that is still open, or ``None``."""
        return parent_of(self)[0]

    def resume(self) -> None:
        """Make this scope current here, or the inner one that was current when it was suspended."""
        self._outside = _current.get()
        _current.set(self._inside or self)

    def suspend(self) -> None:
        """Put back what was current before `resume`, unless this context never held this scope."""
        inside = node = _current.get()
        while node is not None and node is not self:
            node = node.parent
        if node is self:
            _current.set(self._outside)
            self._inside = inside
        self._outside = None

    def close(self) -> None:
        """Close it, for every context that still holds it."""
        self.closed = True
        self._inside = None


_current: ContextVar[Scope | None] = ContextVar("capsule_sdk_scope", default=None)


def innermost() -> Scope | None:
    """Return the innermost scope that this context holds; it may have been closed elsewhere."""
    return _current.get()


def nearest_open(node: Scope | None) -> Scope | None:
    """Return ``node``, or the nearest one around it that is still open."""
    while node is not None and node.closed:
        node = node.parent
    return node


def parent_of(node: Scope | None) -> tuple[Task | None, UUID | None]:
    """Return what a record made in ``node`` hangs under.

    Returns:
        The nearest task that is still open, and the id of the task it was made in, where that had
        ended by then (fire and forget); ``None`` for what there is not.

    """
    ended: UUID | None = None
    while node is not None:
        task = node.task
        if task is not None:
            if not task.closed:
                return task, ended
            ended = ended or task.id
        ended = ended or node._ended
        node = node.parent
    return None, ended

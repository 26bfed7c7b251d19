"""Scope: what the current code runs under. One ContextVar holds a chain of them, innermost first.

Invariants: a scope is closed once and stays closed. Its identity outlives it, for the code that was started in
it and still holds it in a copied context; its authority ends with it, and nothing hangs under it any more
(docs/decisions/0014). Leaving puts back what was there, by value, and only where the variable still holds the
scope that is left or one inside it. Closed scopes are taken out of the chain, so a job that starts the next
one for ever keeps none of those before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import replace
from itertools import islice
from types import EllipsisType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..records.attribution import NOBODY, Attribution
from ..records.authority import Authority
from .collecting import came_upon

if TYPE_CHECKING:
    from ..recording.recorder import Recorder
    from ..records.task import Task

__all__ = ["Scope", "innermost", "nearest_open", "parent_of"]

#: How many facts of the environment a scope takes over from the one it begins in: the last that were set.
INHERITED_FACTS = 256


class Scope:
    """What code inside runs under. Read it with `current_scope`; scopes and decorators make it."""

    __slots__ = (
        "_begun",
        "_ended",
        "_entered",
        "_firm",
        "_inside",
        "_outside",
        "_own",
        "closed",
        "parent",
        "recorder",
        "task",
    )

    def __init__(
        self,
        within: Scope | None,
        inner: Attribution,
        recorder: Recorder | None = None,
        *,
        bound: bool = False,
    ) -> None:
        around = nearest_open(within)
        if around is not None and around.parent is not None:
            around.leave_out_closed()
        #: The nearest scope around that was still open.
        self.parent: Scope | None = around
        #: The task that had ended, where it began in the context of one (fire and forget).
        self._ended = None if around is within else parent_of(within)[1]
        #: What it says of authority itself, if anything.
        self._own = inner if inner.authority is not None else None
        #: What held when it began.
        self._begun: Attribution = inner if within is None else _inherited(within).overlaid(inner)
        #: Session, user and tenant without those that were left over by a scope that had ended; ``None``
        #: where that is what it has. ``bound``: it was begun in that scope on purpose.
        self._firm: Attribution | None = None
        if within is not None and (within._firm is not None or (within.closed and not bound)):
            self._tell_leftovers(within if bound or not within.closed else around, inner)
        self.recorder = recorder
        self.task: Task | None = None
        self.closed: bool = False
        #: What was current in it when it was suspended: an inner scope, or itself.
        self._inside: Scope | None = None
        #: What was current before it was resumed.
        self._outside: Scope | None = None
        #: Tells the context that a block was entered in from its copies.
        self._entered: Token[None] | None = None

    def __repr__(self) -> str:
        return f"<Scope task={self.nearest_task()!r} {'closed' if self.closed else 'open'}>"

    def _tell_leftovers(self, firm_in: Scope | None, inner: Attribution) -> None:
        """Take nobody's leftovers where it says itself who it is for: two people's would be mixed."""
        around = NOBODY if firm_in is None else firm_in._firm or firm_in._begun
        firm = _identity_of(around).overlaid(_identity_of(inner))
        if inner.session_id is None and inner.user_id is None and inner.tenant_id is None:
            self._firm = None if firm == _identity_of(self._begun) else firm
            return
        self._begun = replace(
            self._begun,
            session_id=firm.session_id,
            user_id=firm.user_id,
            tenant_id=firm.tenant_id,
        )

    @property
    def attribution(self) -> Attribution:
        """What holds for a record that is made in it now: its identity, and the authority in force."""
        begun = self._begun
        return begun if begun.authority is None else self._in_force(begun)

    def _in_force(self, begun: Attribution) -> Attribution:
        """Return ``begun`` without the authorities of those scopes that have been closed since."""
        trail: list[Authority] = []
        node: Scope | None = self
        while node is not None:
            own = node._own
            if own is not None and own.authority is not None and not node.closed:
                trail[:0] = (*own.overridden, own.authority)
            node = node.parent
        authority = trail.pop() if trail else None
        if authority is begun.authority and tuple(trail) == begun.overridden:
            return begun
        return replace(begun, authority=authority, overridden=tuple(trail))

    @property
    def agent_id(self) -> str | None:
        """The agent, if a scope names one."""
        return self._begun.agent_id

    @property
    def domain(self) -> str | None:
        """The domain, if a scope names one."""
        return self._begun.domain

    @property
    def session_id(self) -> str | None:
        """The session."""
        return self._begun.session_id

    @property
    def user_id(self) -> str | None:
        """The authenticated user."""
        return self._begun.user_id

    @property
    def correlation_id(self) -> str | None:
        """The correlation id."""
        return self._begun.correlation_id

    @property
    def tenant_id(self) -> str | None:
        """The tenant."""
        return self._begun.tenant_id

    @property
    def environment(self) -> Mapping[str, Any]:
        """Facts for CPS 1.2, of all scopes around; the inner one wins."""
        return self._begun.environment

    @property
    def authority(self) -> Authority | None:
        """The authority in force: of the innermost scope that names one and has not ended."""
        return self.attribution.authority

    def nearest_task(self) -> Task | None:
        """Return the innermost task that is still open, or ``None``."""
        return parent_of(self)[0]

    def enter(self) -> None:
        """Resume it for a block, which may be left in another context than it was entered in."""
        self.resume()
        self._entered = _entries.set(None)

    def resume(self) -> Scope | None:
        """Make this scope current here, or the inner one that was current when it was suspended.

        Returns:
            What was current before, for those that resume it in several contexts at once.

        """
        self._outside = outside = _current.get()
        came_upon(outside)
        _current.set(self._inside or self)
        return outside

    def suspend(self, outside: Scope | EllipsisType | None = ...) -> None:
        """Put back what was current before `resume`, unless this context never held this scope.

        Args:
            outside: what this `resume` returned; by default what the last one did.

        """
        inside = node = _current.get()
        while node is not None and node is not self:
            node = node.parent
        if node is self:
            _current.set(self._outside if outside is ... else outside)
            self._inside = inside
        if self._entered is None or self._was_entered_here():
            self._outside = self._entered = None
        # Else it is left in a copy of that context; `innermost` puts back there what was before.

    def close(self) -> None:
        """Close it, for every context that still holds it."""
        self.closed = True
        self._inside = None
        if self.parent is not None:
            self.leave_out_closed()

    def leave_out_closed(self) -> None:
        """Take closed scopes out of the chain between this one and the nearest open one around."""
        around = self.parent
        if around is None or not around.closed:
            return
        if self._ended is None:  # first, since other threads read the parent first
            self._ended = parent_of(around)[1]
        self.parent = nearest_open(around)

    def put_back(self) -> bool:
        """Put back what was current before it, if it was entered in this very context and left in another."""
        if self._entered is None or not self._was_entered_here():
            return False  # what runs here was started in the block
        _current.set(self._outside)
        self._outside = self._entered = None
        return True

    def _was_entered_here(self) -> bool:
        assert self._entered is not None  # noqa: S101 - asked for by whoever has looked
        try:
            _entries.reset(self._entered)
        except ValueError:
            return False
        except RuntimeError:  # an interrupt came between this and what follows from it
            return True
        return True


_current: ContextVar[Scope | None] = ContextVar("capsule_sdk_scope", default=None)
#: Never holds anything; a token of it can be used in the context alone that it was made in.
_entries: ContextVar[None] = ContextVar("capsule_sdk_entries", default=None)


def innermost() -> Scope | None:
    """Return the innermost scope that this context holds.

    It may be closed: what it stood for has ended, and this is code that was started in it.
    """
    node = _current.get()
    if came_upon(node):
        return _garbage
    while node is not None and node.closed and node.put_back():
        node = _current.get()
    return node


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
        task, around = node.task, node.parent
        if task is not None:
            if not task.closed:
                return task, ended
            ended = ended or task.id
        ended = ended or node._ended
        node = around
    return None, ended


def _identity_of(said: Attribution) -> Attribution:
    """Return what tells a person, a conversation or a customer from another."""
    return Attribution(session_id=said.session_id, user_id=said.user_id, tenant_id=said.tenant_id)


def _inherited(within: Scope) -> Attribution:
    """Return what a scope takes over from the one it begins in, whether that has ended or not."""
    attribution = within.attribution
    facts = attribution.environment
    if len(facts) <= INHERITED_FACTS:
        return attribution
    last = islice(facts.items(), len(facts) - INHERITED_FACTS, None)
    return replace(attribution, environment=dict(last))


_garbage = Scope(None, Attribution(environment={"made_in": "garbage collection"}))

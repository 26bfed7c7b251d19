"""Runs: what happens in the SDK at the beginning and the end of one call that is driven."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from functools import partial
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final

import wrapt

from ..logs import report
from ..records.attribution import NOBODY
from .abandoned import run_in
from .bodies import (
    background_in,
    background_of,
    bind_added,
    bound_background,
    put_background,
    tasks_in,
)
from .confirming import Confirmation
from .depth import elsewhere, has_room
from .driving import is_suspended, is_unawaited, run_driven
from .leaving import close_task, put_right
from .node import Scope, innermost
from .recipe import Recipe, is_lazy
from .scope import confirmation, open_task, refuse_if_strict

if TYPE_CHECKING:
    _FunctionWrapper = wrapt.FunctionWrapper[..., Any]
else:
    _FunctionWrapper = wrapt.FunctionWrapper

__all__ = ["ScopeRun", "TaskRun", "bound_to"]


class ScopeRun:
    """One call with a scope of its own, of which nothing is recorded: a call of what is bound."""

    __slots__ = ("_active", "_inner", "_node")

    def __init__(self, node: Scope | None) -> None:
        self._node = node
        self._active = False
        #: The coroutine or generator that is driven.
        self._inner: Any = None

    def _close(self, inner: Any) -> None:
        self.resume()
        try:
            inner.close()
        finally:
            self.suspend()

    def hold(self, inner: Any) -> None:
        """Keep what is driven: from here to its end, the run ends itself when it dies."""
        self._inner = inner
        self.__class__ = _HELD.get(type(self), type(self))  # pyright: ignore[reportAttributeAccessIssue]

    def _let_go(self) -> None:
        """Have no line of Python run when it dies: Ctrl-C would be lost there."""
        self.__class__ = _FREE.get(type(self), type(self))  # pyright: ignore[reportAttributeAccessIssue]

    def start(self) -> None:
        """Nothing to begin."""

    def resume(self) -> Scope | None:
        """Make its scope current."""
        if self._node is None:
            return None
        self._active = True
        return self._node.resume()

    def suspend(self, outside: Scope | EllipsisType | None = ...) -> None:
        """Put back what was current before."""
        if self._node is not None:
            self._active = False
            self._node.suspend(outside)

    def pass_on(self, item: Any) -> None:
        """Record nothing of what a generator yields."""

    def hand_on(self, response: Any, *, followed: bool) -> None:
        """Record nothing of it."""

    def succeed(self, result: Any) -> None:
        """End well."""
        self.fail(None)

    def fail(self, error: BaseException | None) -> None:
        """End with this exception."""
        if self._node is not None:
            self._node.close()
        self._let_go()

    def confirmation(self) -> Confirmation | None:
        """Nothing is recorded, so nothing is waited for."""
        return None

    def put_right(self, error: BaseException) -> None:
        """End what ``error`` has interrupted, if it has not ended."""
        node = self._node
        if node is not None and (self._active or not node.closed or node.task is not None):
            self._active = False
            put_right(node, error)
        elif _making.get() is self:
            self.suspend()


class TaskRun(ScopeRun):
    """One call of a decorated callable: the `Run` that opens, fills and closes its task."""

    __slots__ = (
        "_args",
        "_background",
        "_begun",
        "_cramped",
        "_instance",
        "_kwargs",
        "_maker",
        "_maker_before",
        "_others",
        "_recipe",
        "_within",
    )

    def __init__(
        self, recipe: Recipe, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__(None)
        self._recipe = recipe
        self._instance = instance
        self._args = args
        self._kwargs = kwargs
        self._within = innermost()
        self._begun: bool = False
        self._cramped: bool = False
        maker = _making.get()
        #: The lazy call that makes this one: it hangs under that, should it have begun by then.
        self._maker = (
            maker
            if maker is not None and not maker._begun and maker._within is self._within
            else None
        )
        self._maker_before: TaskRun | None = None
        #: The background tasks that it was given to add to.
        self._background: Any = None
        #: What others had added before.
        self._others: list[Any] = []

    def start(self) -> None:
        """Open the task."""
        if self._begun:
            return
        self._begun = True
        self._cramped = not has_room()
        try:  # here and below: `guarded` would be a tenth of the price of a call
            if self._cramped:
                elsewhere(self._open)
            else:
                self._open()
        except Exception as error:  # noqa: BLE001
            node, self._node = self._node, None
            if node is not None:
                put_right(node, error)
            report("decorator.start", error)
        self._args, self._kwargs, self._instance = (), {}, None
        self._within = self._maker = None
        refuse_if_strict(self._node, self._recipe.name)

    def resume(self) -> Scope | None:
        """Make its scope current; before it has begun, let lazy calls know what they are made in."""
        if self._node is not None:
            self._active = True
            return self._node.resume()
        if not self._begun:
            self._maker_before = _making.get()
            _making.set(self)
        return None

    def suspend(self, outside: Scope | EllipsisType | None = ...) -> None:
        """Put back what was current before."""
        if self._node is not None:
            self._active = False
            self._node.suspend(outside)
        elif not self._begun:
            _making.set(self._maker_before)
            self._maker_before = None

    def _open(self) -> None:
        recipe = self._recipe
        maker = self._maker
        bound = recipe.bind(self._instance, self._args, self._kwargs)
        open_task(
            recipe.name,
            inner=recipe.attribution(bound),
            capsule_type=recipe.capsule_type,
            within=self._within if maker is None or maker._node is None else maker._node,
            describe=lambda policy: recipe.describe(bound, policy),
            keep=self._keep,
        )
        self._background = background_in(bound.values())
        if self._background is not None:
            self._others = tasks_in(self._background)

    def _keep(self, node: Scope) -> None:
        self._node = node

    def hand_on(self, response: Any, *, followed: bool) -> None:
        """Keep what a response leaves to be run after it."""
        node = self._node
        if node is None or node.task is None:
            return
        own = background_of(response)
        if own is not None and own is not self._background:
            put_background(response, bound_background(own, partial(_bound_once, within=node)))
        if followed:
            self._bind_background(node)  # it may run before the end of the body is known
            if self._recipe.capture_result:
                node.task.result = node.task.policy.value(response)

    def _bind_background(self, node: Scope) -> None:
        """Bind background tasks, which run outside of every scope, to the one they were added in."""
        if self._background is not None:
            bind_added(self._background, partial(_bound_once, within=node), self._others)

    def succeed(self, result: Any) -> None:
        """End well."""
        self._end(result if self._recipe.capture_result else None, None)

    def fail(self, error: BaseException | None) -> None:
        """End with this exception."""
        self._end(None, error)

    def _end(self, result: Any, error: BaseException | None) -> None:
        node = self._node
        try:
            if node is not None:
                self._bind_background(node)
                if self._cramped:
                    elsewhere(partial(close_task, node, error, result))
                else:
                    close_task(node, error, result)
        except Exception as trouble:  # noqa: BLE001
            report("decorator.succeed" if error is None else "decorator.fail", trouble)
        self._let_go()

    def confirmation(self) -> Confirmation | None:
        """Return what strict mode waits for."""
        return confirmation(self._node)


def _died(run: ScopeRun) -> None:
    """End a run that whoever drives it has left.

    He was destroyed: never stepped, or in an await that nobody can finish. Or he is about to be, with all that
    he holds: the garbage collector begins with what was made first.
    """
    inner, run._inner = run._inner, None
    if inner is not None and is_unawaited(inner):
        inner.close()  # or Python would warn of it too, beside the one that its user knows
    node = run._node
    if node is None or node.closed or sys.is_finalizing():
        return
    if run._active:
        run.suspend()
    if inner is None or not is_suspended(inner):
        run.fail(GeneratorExit())
        return
    try:
        run_in(node, run._close, inner)
    finally:
        run.fail(GeneratorExit())
        run._node = None  # the driver is closed now, and sets nothing here any more


class _HeldScopeRun(ScopeRun):
    __slots__ = ()
    __del__ = _died


class _HeldTaskRun(TaskRun):
    __slots__ = ()
    __del__ = _died


#: What a run is while it is driven, and before and after that.
_HELD: Final[dict[type[ScopeRun], type[ScopeRun]]] = {
    ScopeRun: _HeldScopeRun,
    TaskRun: _HeldTaskRun,
}
_FREE: Final = {held: free for free, held in _HELD.items()}

#: The lazy call that makes the object it will drive, at this moment.
_making: ContextVar[TaskRun | None] = ContextVar("capsule_sdk_making", default=None)


class ScopeBound(_FunctionWrapper):
    """A callable with the scope it was bound to."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "bind_scope binds to a scope of this process, which cannot be pickled; hand the function "
            "itself to the other process, and open a scope there"
        )


def bound_to(fn: Any, within: Scope | None) -> Any:
    """Return ``fn`` bound to a scope, of which nothing is recorded."""
    lazy = is_lazy(fn)

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del instance
        return run_driven(
            wrapped, args, kwargs, ScopeRun(Scope(within, NOBODY, bound=True)), lazy=lazy
        )

    return ScopeBound(fn, call)


def _bound_once(fn: Any, within: Scope) -> Any:
    return fn if isinstance(fn, ScopeBound) else bound_to(fn, within)

"""``@capsuled``: every call of the decorated callable is one task; and ``bind_scope``, for other threads.

What kind of call it is gets decided from what the call returns, so partials, lambdas and callable
objects work like plain functions.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

import wrapt

from ..errors import DecorationError
from ..logs import report
from ..records.attribution import NOBODY, Attribution
from ..settings import is_disabled
from .bodies import background_in, background_of, functions_in
from .confirming import Confirmation
from .driving import run_driven
from .node import Scope, innermost
from .options import TaskOptions, attribution_of, check
from .recipe import Recipe, is_lazy
from .scope import close_task, confirmation, open_task, refuse_if_strict

if TYPE_CHECKING:
    _FunctionWrapper = wrapt.FunctionWrapper[..., Any]
    _BoundFunctionWrapper = wrapt.BoundFunctionWrapper[..., Any]
else:
    _FunctionWrapper = wrapt.FunctionWrapper
    _BoundFunctionWrapper = wrapt.BoundFunctionWrapper

__all__ = ["bind_scope", "capsuled"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, ..., Any]")


@overload
def capsuled(fn: F, /, **options: Unpack[TaskOptions]) -> F: ...
@overload
def capsuled(fn: None = None, /, **options: Unpack[TaskOptions]) -> Callable[[F], F]: ...
def capsuled(fn: Any = None, /, **options: Any) -> Any:
    """Make every call of a function, method, generator or callable object one task.

    Args:
        fn: what is decorated; ``@capsuled`` and ``@capsuled(...)`` both work, above or below
            ``@staticmethod`` and ``@classmethod``.
        **options: all optional; what is left out is inherited from the scope around. ``agent_id``,
            ``domain``, ``environment``, ``authority``, ``approver``, ``policy_reference``,
            ``escalation_reason`` as in `capsule_scope`; ``name`` (the qualified name of the
            function); ``capsule_type`` (``"agent"``; ``"tool"`` records the call itself as a tool
            call); ``session_id``, ``user_id``, ``tenant_id``, ``correlation_id`` and
            ``request_from``, which may name an argument with ``from_arg("site_id")`` or be a
            function of the bound arguments; ``capture_args`` and ``capture_result`` (true): whether
            they are sealed.

    Returns:
        The same callable to all appearances: signature, `inspect` kind, pickling by name. While
        ``CAPSULE_SDK_DISABLED`` is set it is ``fn`` itself.

    Raises:
        DecorationError: ``fn`` is a class, a property, or not callable, or lacks an argument named.
        ConfigurationError: an option does not exist or cannot have this value.
        AuthorityError: the authority does not exist.
        RecordingError: by the decorated call, in strict mode only: its task could not be opened, or
            it is the outermost one and its capsules are not in the chain in time. Coroutines and
            async generators wait for that without blocking the event loop, the others block.

    """
    check("@capsuled", options, TaskOptions)
    inner = attribution_of(options)
    if fn is None:
        return lambda fn: _decorate(fn, options, inner)
    return _decorate(fn, options, inner)


def _decorate(fn: Any, options: Mapping[str, Any], inner: Attribution) -> Any:
    target: Any = fn.__func__ if isinstance(fn, staticmethod | classmethod) else fn
    if isinstance(fn, property):
        raise DecorationError(
            "@capsuled cannot record a property; put it below @property, on the function itself"
        )
    if inspect.isclass(target):
        raise DecorationError(
            f"@capsuled cannot record the class {target.__name__}; decorate its methods, "
            "__call__ or the function that makes it"
        )
    if not callable(target):
        raise DecorationError(
            f"@capsuled stands on {target!r}, which cannot be called; put it on the function itself "
            "(below other decorators), and give options by keyword: @capsuled(agent_id=...)"
        )
    if is_disabled():
        return fn
    recipe = Recipe(target, options, inner)

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = _TaskRun(recipe, instance, args, kwargs)
        return run_driven(wrapped, args, kwargs, run, lazy=recipe.lazy)

    return _Capsuled(fn, call, options)


class _Bound(_BoundFunctionWrapper):
    """A method or static method taken from its instance or class."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        if inspect.ismethod(self.__wrapped__):  # the instance, or class, and the name of the method
            return self.__wrapped__.__reduce_ex__(protocol)
        return _by_name, (self.__module__, self.__qualname__)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if not inspect.ismethod(self.__wrapped__):
            return self
        return getattr(copy.deepcopy(self.__wrapped__.__self__, memo), self.__name__)


class _Capsuled(_FunctionWrapper):
    """A decorated callable. It is pickled and copied as what it decorates; wrapt refuses by default."""

    # No annotations in this body: they would stand before those of what it decorates.
    __bound_function_wrapper__ = _Bound

    def __init__(self, fn: Any, call: Callable[..., Any], options: Mapping[str, Any]) -> None:
        super().__init__(fn, call)
        self._self_options = options

    def __reduce_ex__(self, protocol: Any) -> Any:
        if (name := _own_name(self.__wrapped__)) is not None:
            return name
        return _again, (self.__wrapped__, dict(self._self_options))

    def __copy__(self) -> Any:
        return self._with(copy.copy)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._with(lambda wrapped: copy.deepcopy(wrapped, memo))

    def _with(self, copied: Callable[[Any], Any]) -> Any:
        if _own_name(self.__wrapped__) is not None:
            return self
        return _again(copied(self.__wrapped__), self._self_options)


def _own_name(target: Any) -> str | None:
    """Return the name that a function is pickled by; ``None`` for what is pickled by its contents."""
    bound = getattr(target, "__self__", None) is not None
    return None if bound else getattr(target, "__qualname__", None)


def _by_name(module: str, qualname: str) -> Any:
    return functools.reduce(getattr, qualname.split("."), importlib.import_module(module))


def _again(fn: Any, options: Mapping[str, Any]) -> Any:
    return _decorate(fn, options, attribution_of(options))


class _ScopeRun:
    """One call with a scope of its own, of which nothing is recorded: a call of what is bound."""

    __slots__ = ("_active", "_node")

    def __init__(self, node: Scope | None) -> None:
        self._node = node
        self._active = False

    def __del__(self) -> None:
        # Whoever drives it was destroyed: never stepped, or in an await that nobody can finish.
        node = self._node
        if node is None or node.closed or sys.is_finalizing():
            return
        if self._active:
            self.suspend()
        self.fail(GeneratorExit())

    def start(self) -> None:
        """Nothing to begin."""

    def resume(self) -> None:
        if self._node is not None:
            self._active = True
            self._node.resume()

    def suspend(self) -> None:
        if self._node is not None:
            self._active = False
            self._node.suspend()

    def pass_on(self, item: Any) -> None:
        """Record nothing of what a generator yields."""

    def hand_on(self, response: Any, *, followed: bool) -> None:
        """Record nothing of it."""

    def succeed(self, result: Any) -> None:
        if self._node is not None:
            self._node.close()

    def fail(self, error: BaseException) -> None:
        if self._node is not None:
            self._node.close()

    def confirmation(self) -> Confirmation | None:
        """Nothing is recorded, so nothing is waited for."""
        return None


class _TaskRun(_ScopeRun):
    """One call of a decorated callable: the `Run` that opens, fills and closes its task."""

    __slots__ = ("_args", "_background", "_begun", "_instance", "_kwargs", "_recipe", "_within")

    def __init__(
        self, recipe: Recipe, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__(None)
        self._recipe = recipe
        self._instance = instance
        self._args = args
        self._kwargs = kwargs
        self._within = innermost()
        self._begun = False
        #: What it leaves to be run after it.
        self._background: Any = None

    def start(self) -> None:
        if self._begun:
            return
        self._begun = True
        recipe = self._recipe
        try:  # here and below: `guarded` would be a tenth of the price of a call
            bound = recipe.bind(self._instance, self._args, self._kwargs)
            self._node = open_task(
                recipe.name,
                inner=recipe.attribution(bound),
                capsule_type=recipe.capsule_type,
                within=self._within,
                describe=lambda policy: recipe.describe(bound, policy),
            )
            self._background = background_in(bound.values())
        except Exception as error:  # noqa: BLE001
            report("decorator.start", error)
        self._args, self._kwargs, self._instance, self._within = (), {}, None, None
        refuse_if_strict(self._node, recipe.name)

    def hand_on(self, response: Any, *, followed: bool) -> None:
        node = self._node
        if node is None or node.task is None:
            return
        if self._background is None:
            self._background = background_of(response)
        if followed:
            self._bind_background(node)  # it may run before the end of the body is known
            if self._recipe.capture_result:
                node.task.result = node.task.policy.value(response)

    def _bind_background(self, node: Scope) -> None:
        """Bind background tasks, which run outside of every scope, to the one they were added in."""
        for task in functions_in(self._background):
            if not isinstance(task["func"], _ScopeBound):
                task["func"] = _bound(task["func"], node)

    def succeed(self, result: Any) -> None:
        self._end(result if self._recipe.capture_result else None, None)

    def fail(self, error: BaseException) -> None:
        self._end(None, error)

    def _end(self, result: Any, error: BaseException | None) -> None:
        node = self._node
        if node is None:
            return
        try:
            if self._background is not None:
                self._bind_background(node)
            close_task(node, error, result)
        except Exception as trouble:  # noqa: BLE001
            report("decorator.succeed" if error is None else "decorator.fail", trouble)

    def confirmation(self) -> Confirmation | None:
        return confirmation(self._node)


class _ScopeBound(_FunctionWrapper):
    """A callable with the scope it was bound to."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "bind_scope binds to a scope of this process, which cannot be pickled; hand the function "
            "itself to the other process, and open a scope there"
        )


def bind_scope(fn: Callable[P, R], /) -> Callable[P, R]:
    """Return ``fn`` bound to the scope of this moment, for an executor or a thread without its context.

    ``loop.run_in_executor(None, bind_scope(work), item)``: calls in ``work`` hang under the task
    that is current here. Coroutine functions and generators are bound as well.

    Raises:
        DecorationError: ``fn`` cannot be called.

    """
    if not callable(fn):
        raise DecorationError(
            f"bind_scope takes a function, not {fn!r}; call it inside the bound one"
        )
    if is_disabled():
        return fn
    bound: Callable[P, R] = _bound(fn, innermost())
    return bound


def _bound(fn: Any, within: Scope | None) -> Any:
    lazy = is_lazy(fn)

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del instance
        return run_driven(wrapped, args, kwargs, _ScopeRun(Scope(within, NOBODY)), lazy=lazy)

    return _ScopeBound(fn, call)

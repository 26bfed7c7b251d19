"""``@capsuled``: every call of the decorated callable is one task; and ``bind_scope``, for other threads.

A decorated function is a function (`functions`); every other callable is wrapped by wrapt. What kind of call it
is gets decided from what the call returns, so partials, lambdas and callable objects work like plain functions.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

import wrapt

from ..errors import DecorationError
from ..records.attribution import Attribution
from ..records.authority import Authority, AuthorityName
from ..settings import is_disabled
from .driving import run_driven
from .functions import Recording
from .node import innermost
from .options import ArgumentSource, CapsuleTypeName, TaskOptions, attribution_of, check, given_of
from .recipe import Recipe
from .runs import TaskRun, bound_to

if TYPE_CHECKING:
    from qp_capsule import CapsuleType

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
def capsuled(
    fn: Any = None,
    /,
    *,
    agent_id: str | None = None,
    domain: str | None = None,
    capsule_type: CapsuleTypeName | CapsuleType | None = None,
    name: str | None = None,
    request_from: ArgumentSource | None = None,
    authority: AuthorityName | Authority | None = None,
    approver: str | None = None,
    policy_reference: str | None = None,
    escalation_reason: str | None = None,
    session_id: ArgumentSource | None = None,
    user_id: ArgumentSource | None = None,
    correlation_id: ArgumentSource | None = None,
    tenant_id: ArgumentSource | None = None,
    environment: Mapping[str, Any] | None = None,
    capture_args: bool = True,
    capture_result: bool = True,
    **unknown: Any,
) -> Any:
    """Make every call of a function, method, generator or callable object one task.

    ``@capsuled`` and ``@capsuled(...)`` both work, above or below ``@staticmethod`` and ``@classmethod``. What
    is left out is inherited from the scope around.

    Args:
        fn: what is decorated.
        agent_id: whose work it is.
        domain: the business domain it belongs to.
        capsule_type: ``"agent"`` by default; ``"tool"`` records the call itself as a tool call.
        name: what the task is called (``trigger.source``, CPS 1.1); the function's qualified name by default.
        request_from: the text for ``trigger.request``: the name of an argument, or a function of the bound
            arguments; the first text among the arguments by default, else all of them as JSON.
        authority: under whose authority it acts (CPS 1.4).
        approver: who approved it.
        policy_reference: the policy that permits it.
        escalation_reason: why it needs more than the usual authority.
        session_id: the session. This and the next three may name an argument, ``from_arg("site_id")``, or be a
            function of the bound arguments.
        user_id: the authenticated user.
        correlation_id: what ties it to records elsewhere.
        tenant_id: whose chain it goes into, in PostgreSQL.
        environment: facts for CPS 1.2.
        capture_args: whether the arguments are sealed.
        capture_result: whether the result is sealed.
        **unknown: nothing; an option that does not exist is refused with the one that it resembles.

    Returns:
        The same callable to all appearances: signature, `inspect` kind, pickling by name and by value. While
        ``CAPSULE_SDK_DISABLED`` is set it is ``fn`` itself.

    Raises:
        DecorationError: ``fn`` is a class, a property, or not callable, or lacks an argument named.
        ConfigurationError: an option does not exist or cannot have this value.
        AuthorityError: the authority does not exist.
        RecordingError: by the decorated call, in strict mode only: its task could not be opened, or
            it is the outermost one and its capsules are not in the chain in time. Coroutines and
            async generators wait for that without blocking the event loop, the others block.

    """
    options = given_of(locals(), TaskOptions)
    check("@capsuled", options | unknown, TaskOptions)
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
    if type(target) is not FunctionType:
        return _wrapped(fn, recipe, options)
    made = Recording(target, recipe, options).function
    return made if fn is target else type(fn)(made)


def _again(fn: Any, options: Mapping[str, Any]) -> Any:
    return _decorate(fn, options, attribution_of(options))


def _wrapped(fn: Any, recipe: Recipe, options: Mapping[str, Any]) -> Any:
    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        run = TaskRun(recipe, instance, args, kwargs)
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

    def __get__(self, instance: Any, *owner: Any) -> Any:
        bound: Any = super().__get__(instance, *owner)
        inner = bound.__wrapped__
        if type(inner) is MethodType and inner.__func__ is self.__wrapped__:
            # Python's own can be kept weakly and made again.
            return MethodType(self, inner.__self__)
        return self if inner is self.__wrapped__ else bound

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
    bound: Callable[P, R] = bound_to(fn, innermost())
    return bound

"""``@capsuled``: every call of the decorated callable is one task; and ``bind_scope``, for other threads.

What kind of call it is gets decided from what the call returns, so partials, lambdas and callable objects
work like plain functions.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, Unpack, overload

import anyio.to_thread
import wrapt

from .attribution import NOBODY, Attribution
from .content import SECRET, ContentPolicy, canonical
from .driving import run_driven
from .errors import DecorationError
from .logs import guarded
from .options import SOURCED, ArgumentSource, TaskOptions, attribution_of, check, from_arg
from .scope import Scope, close_task, confirmation, nearest_open, open_task
from .settings import is_disabled

__all__ = ["bind_scope", "capsuled"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


@overload
def capsuled(fn: F, /) -> F: ...
@overload
def capsuled(**options: Unpack[TaskOptions]) -> Callable[[F], F]: ...
def capsuled(fn: Any = None, /, **options: Any) -> Any:
    """Make every call of a function, method, generator or callable object one task.

    Args:
        fn: what is decorated; ``@capsuled`` and ``@capsuled(...)`` both work, above or below
            ``@staticmethod`` and ``@classmethod``.
        **options: all optional; what is left out is inherited from the scope around. ``agent_id``,
            ``domain``, ``environment``, ``authority``, ``approver``, ``policy_reference``,
            ``escalation_reason`` as in `capsule_scope`; ``name`` (the qualified name of the function);
            ``capsule_type`` (``"agent"``; ``"tool"`` records the call itself as a tool call);
            ``session_id``, ``user_id``, ``tenant_id``, ``correlation_id`` and ``request_from``, which may
            name an argument with ``from_arg("site_id")`` or be a function of the bound arguments;
            ``capture_args`` and ``capture_result`` (true): whether they are sealed.

    Returns:
        The same callable to all appearances: signature, `inspect` kind, pickling by name. While
        ``CAPSULE_SDK_DISABLED`` is set it is ``fn`` itself.

    Raises:
        DecorationError: ``fn`` is a class, a property, or cannot be called.
        ConfigurationError: an option does not exist or cannot have this value.
        AuthorityError: the authority does not exist.
        RecordingError: by the decorated call, in strict mode only.

    """
    check("@capsuled", options, TaskOptions)
    inner = attribution_of(options)
    if fn is None:
        return lambda fn: _decorate(fn, options, inner)
    return _decorate(fn, options, inner)


def _decorate(fn: Any, options: Mapping[str, Any], inner: Attribution) -> Any:
    target = fn.__func__ if isinstance(fn, staticmethod | classmethod) else fn
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
            f"@capsuled stands on {target!r}, which cannot be called; as an option it takes a keyword, "
            "such as @capsuled(agent_id=...)"
        )
    if is_disabled():
        return fn
    return _Capsuled(fn, _Recipe(target, options, inner).call)


class _Capsuled(wrapt.FunctionWrapper):  # type: ignore[misc]
    """A decorated callable. Pickled by its name, as functions are; wrapt refuses by default."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        name = getattr(self.__wrapped__, "__qualname__", None)
        return name if name is not None else super().__reduce_ex__(protocol)


class _Recipe:
    """What one decoration says, and how it is applied to a call."""

    __slots__ = (
        "capsule_type",
        "capture_args",
        "capture_result",
        "defaults",
        "inner",
        "lazy",
        "name",
        "positional",
        "request_from",
        "sources",
        "variadic",
    )

    def __init__(self, target: Any, options: Mapping[str, Any], inner: Attribution) -> None:
        self.inner = inner
        self.name = options.get("name") or _name_of(target)
        self.capsule_type = str(options.get("capsule_type") or "agent")
        self.capture_args = options.get("capture_args", True)
        self.capture_result = options.get("capture_result", True)
        self.request_from: ArgumentSource | None = options.get("request_from")
        self.sources = {
            name: source
            for name in SOURCED
            if (source := options.get(name)) is not None
            and (callable(source) or isinstance(source, from_arg))
        }
        self.lazy = _is_lazy(target)
        try:
            parameters = list(inspect.signature(target).parameters.values())
        except (TypeError, ValueError):  # some callables written in C tell nothing
            parameters = [inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)]
        self.positional = [p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD]
        self.variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "args")
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            self._check_names([p.name for p in parameters])

    def _check_names(self, parameters: list[str]) -> None:
        """Refuse at decoration what could only fail at each call."""
        for option, source in {**self.sources, "request_from": self.request_from}.items():
            name = source.name if isinstance(source, from_arg) else source
            if isinstance(name, str) and name not in parameters:
                raise DecorationError(
                    f"@capsuled: {option} names the argument {name!r}, but {self.name} takes "
                    f"{', '.join(parameters) or 'none'}"
                )

    def call(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one call of the decorated callable."""
        run = _TaskRun(self, instance, args, kwargs)
        return run_driven(lambda: wrapped(*args, **kwargs), run, lazy=self.lazy)

    def bind(
        self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the arguments of a call by name. A call that does not fit is left to Python to refuse."""
        names = self.positional if instance is None else self.positional[1:]
        bound = dict(zip(names, args, strict=False))
        if len(args) > len(names):
            bound[self.variadic] = args[len(names) :]
        bound.update(kwargs)
        return bound

    def attribution(self, bound: Mapping[str, Any]) -> Attribution:
        """Return what this call sets: the options, and those that its arguments answer."""
        if not self.sources:
            return self.inner
        found: dict[str, Any] = {}
        for option, source in self.sources.items():
            with guarded(f"decorator.{option}"):
                value = self._answer(source, bound)
                if value is not None:
                    found[option] = str(value)
        return self.inner.overlaid(Attribution(**found)) if found else self.inner

    def describe(self, bound: dict[str, Any], policy: ContentPolicy) -> tuple[str, Any]:
        """Return the request and the arguments as they may be sealed.

        The request is what ``request_from`` says, else the first text among the arguments, else all of
        them as JSON.
        """
        arguments = policy.value(bound) if self.capture_args else {}
        if self.request_from is not None:
            with guarded("decorator.request_from"):
                value = self._answer(self.request_from, bound)
                text = value if isinstance(value, str) else canonical(policy.value(value))
                return policy.text(text), arguments
        if not bound or not isinstance(arguments, dict) or not arguments:
            return "", arguments
        for name, value in bound.items():
            if isinstance(value, str) and arguments.get(name) != SECRET:
                return str(arguments[name]), arguments
        return policy.text(canonical(arguments)), arguments

    def _answer(self, source: ArgumentSource, bound: Mapping[str, Any]) -> Any:
        if callable(source):
            return source(bound)
        name = source.name if isinstance(source, from_arg) else source
        return bound.get(name, self.defaults.get(name))


class _TaskRun:
    """One call of a decorated callable: the `Run` that opens, fills and closes its task."""

    __slots__ = ("_args", "_instance", "_kwargs", "_node", "_parent", "_recipe")

    def __init__(
        self, recipe: _Recipe, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._recipe = recipe
        self._instance = instance
        self._args = args
        self._kwargs = kwargs
        self._parent = nearest_open()
        self._node: Scope | None = None

    def start(self) -> None:
        if self._node is not None:
            return
        with guarded("decorator.start"):
            recipe = self._recipe
            bound = recipe.bind(self._instance, self._args, self._kwargs)
            parent = self._parent
            while parent is not None and parent.closed:
                parent = parent.parent
            self._node = open_task(
                recipe.name,
                inner=recipe.attribution(bound),
                capsule_type=recipe.capsule_type,
                parent=parent,
                describe=lambda policy: recipe.describe(bound, policy),
            )
        self._args, self._kwargs = (), {}

    def resume(self) -> None:
        if self._node is not None:
            self._node.resume()

    def suspend(self) -> None:
        if self._node is not None:
            self._node.suspend()

    def pass_on(self, item: Any) -> None:
        """What a generator yields is not recorded."""

    def succeed(self, result: Any) -> None:
        if self._node is not None:
            with guarded("decorator.succeed"):
                close_task(self._node, result=result if self._recipe.capture_result else None)

    def fail(self, error: BaseException) -> None:
        if self._node is not None:
            with guarded("decorator.fail"):
                close_task(self._node, error)

    async def confirm(self) -> None:
        wait = confirmation(self._node)
        if wait is not None:
            await anyio.to_thread.run_sync(wait)

    def confirm_now(self) -> None:
        wait = confirmation(self._node)
        if wait is not None:
            wait()


class _BoundRun:
    """One call of a callable that `bind_scope` has bound: the scope is current, and nothing is recorded."""

    __slots__ = ("_node",)

    def __init__(self, node: Scope | None) -> None:
        self._node = Scope(node, NOBODY)

    def start(self) -> None:
        """Nothing is recorded."""

    def resume(self) -> None:
        self._node.resume()

    def suspend(self) -> None:
        self._node.suspend()

    def pass_on(self, item: Any) -> None:
        """Nothing is recorded."""

    def succeed(self, result: Any) -> None:
        self._node.closed = True

    def fail(self, error: BaseException) -> None:
        self._node.closed = True

    async def confirm(self) -> None:
        """Nothing is recorded."""

    def confirm_now(self) -> None:
        """Nothing is recorded."""


def bind_scope(fn: Callable[P, R]) -> Callable[P, R]:
    """Return ``fn`` bound to the scope of this moment, for an executor or a thread that does not inherit it.

    ``loop.run_in_executor(None, bind_scope(work), item)``: calls in ``work`` hang under the task that is
    current here. Coroutine functions and generators are bound as well.
    """
    node = nearest_open()

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del instance
        return run_driven(lambda: wrapped(*args, **kwargs), _BoundRun(node), lazy=lazy)

    lazy = _is_lazy(fn)
    return _Capsuled(fn, call)  # type: ignore[no-any-return]


def _name_of(target: Any) -> str:
    while isinstance(target, functools.partial):
        target = target.func
    return getattr(target, "__qualname__", None) or type(target).__qualname__


def _is_lazy(target: Any) -> bool:
    """Tell whether a call of ``target`` only makes an object whose code runs later."""
    while isinstance(target, functools.partial):
        target = target.func
    if not (inspect.isfunction(target) or inspect.ismethod(target)):
        target = getattr(type(target), "__call__", target)  # noqa: B004 - the function behind the object
    return (
        inspect.iscoroutinefunction(target)
        or inspect.isgeneratorfunction(target)
        or inspect.isasyncgenfunction(target)
    )

"""What one ``@capsuled`` says, and what it makes of the arguments of each call. Knows no scope and no task."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from ..content import ContentPolicy, canonical, instance
from ..content.secret_names import names_secret
from ..errors import DecorationError
from ..logs import guarded
from ..records.attribution import Attribution
from .options import SOURCED, ArgumentSource, from_arg, text_of

__all__ = ["Recipe", "is_lazy"]


class Recipe:
    """One decoration, read once.

    Args:
        target: the callable behind ``staticmethod`` or ``classmethod``.
        options: the checked options of ``@capsuled``.
        inner: what the options set for every call.

    Raises:
        DecorationError: an option names an argument that does not exist, or that names a secret.

    """

    __slots__ = (
        "after_self",
        "capsule_type",
        "capture_args",
        "capture_result",
        "defaults",
        "inner",
        "instance_name",
        "lazy",
        "name",
        "named",
        "positional",
        "request_from",
        "sources",
        "variadic",
    )

    def __init__(self, target: Any, options: Mapping[str, Any], inner: Attribution) -> None:
        self.inner = inner
        self.name: str = options.get("name") or _name_of(target)
        self.capsule_type = str(options.get("capsule_type") or "agent")
        self.capture_args: bool = options.get("capture_args", True)
        self.capture_result: bool = options.get("capture_result", True)
        self.request_from: ArgumentSource | None = options.get("request_from")
        self.sources: dict[str, ArgumentSource] = {
            name: source
            for name in SOURCED
            if callable(source := options.get(name)) or isinstance(source, from_arg)
        }
        self.lazy = is_lazy(target)
        try:
            parameters = list(inspect.signature(target).parameters.values())
        except (TypeError, ValueError):  # some callables written in C tell nothing
            parameters = [inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)]
        self.positional = [p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD]
        #: Those that a call through an instance (or class) fills by position.
        takes_self = getattr(target, "__self__", None) is None
        self.after_self = self.positional[1:] if takes_self else self.positional
        first = self.positional[0] if self.positional else None
        self.instance_name = first if first in ("self", "cls") else None
        self.named = dict.fromkeys(p.name for p in parameters)
        self.variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "args")
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._check_names(None if open_ended else [p.name for p in parameters])

    def _check_names(self, parameters: list[str] | None) -> None:
        """Refuse at decoration what could only fail, or give away a secret, at each call."""
        for option, source in {**self.sources, "request_from": self.request_from}.items():
            name = source.name if isinstance(source, from_arg) else source
            if not isinstance(name, str):
                continue
            if parameters is not None and name not in parameters:
                raise DecorationError(
                    f"@capsuled: {option} names the argument {name!r}, but {self.name} takes "
                    f"{', '.join(parameters) or 'none'}"
                )
            if names_secret(name):
                raise DecorationError(
                    f"@capsuled: {option} would seal the argument {name!r}, whose name is that of a "
                    "secret; rename it, or give a function of the arguments that returns what may be sealed"
                )

    def bind(
        self, instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the arguments of a call by name, without the instance it comes through.

        A call that does not fit is left to Python to refuse.
        """
        names = self.positional if instance is None else self.after_self
        bound: dict[str, Any] = dict(zip(names, args))  # noqa: B905 - strict= costs, and there may be more
        if len(args) > len(names):
            bound[self.variadic] = args[len(names) :]
        if kwargs:
            # The order is that of the signature, not of the call.
            in_order = [name for name in self.named if name in kwargs]
            if len(in_order) < len(kwargs):
                in_order += [name for name in kwargs if name not in self.named]
            for name in in_order:
                bound[f"**{name}" if name in bound else name] = kwargs[name]
        if instance is None and self.instance_name is not None:  # as property calls it
            bound.pop(self.instance_name, None)
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
                    found[option] = text_of(value)
        return self.inner.overlaid(Attribution(**found)) if found else self.inner

    def describe(self, bound: Mapping[str, Any], policy: ContentPolicy) -> tuple[str, Any]:
        """Return the request and all arguments, defaults included, as they may be sealed.

        The request is what ``request_from`` says, else the first text among the arguments that were given, else
        those as JSON.
        """
        if not bound and not self.defaults and self.request_from is None:
            return "", {}
        arguments = policy.value(self._all(bound)) if self.capture_args else {}
        if not isinstance(arguments, dict):
            arguments = {}
        if self.request_from is not None:
            with guarded("decorator.request_from"):
                value = self._answer(self.request_from, bound)
                if value is None:
                    return "", arguments
                return policy.text(value), arguments
        if not arguments or not bound:
            return "", arguments
        for name, value in bound.items():
            if instance(value, str) and not names_secret(name):
                sealed = arguments.get(name)
                return sealed if isinstance(sealed, str) else policy.text(value), arguments
        given = {
            name: value
            for name, value in arguments.items()
            if name in bound or name not in self.defaults
        }
        return policy.text(canonical(given)), arguments

    def _all(self, bound: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the arguments with the defaults of those that were not given, in the signature's order."""
        if not self.defaults or self.defaults.keys() <= bound.keys():
            return bound
        both = {**self.defaults, **bound}
        ordered = {name: both[name] for name in self.named if name in both}
        return ordered if len(ordered) == len(both) else {**ordered, **both}

    def _answer(self, source: ArgumentSource, bound: Mapping[str, Any]) -> Any:
        if callable(source):
            return source(bound)
        name = source.name if isinstance(source, from_arg) else source
        return bound.get(name, self.defaults.get(name))


def is_lazy(target: Any) -> bool:
    """Tell whether a call of ``target`` only makes an object whose code runs later."""
    while isinstance(target, functools.partial):
        target = target.func
    if not (inspect.isfunction(target) or inspect.ismethod(target)):
        target = getattr(type(target), "__call__", target)  # noqa: B004 - the function behind it
    return (
        inspect.iscoroutinefunction(target)
        or inspect.isgeneratorfunction(target)
        or inspect.isasyncgenfunction(target)
    )


def _name_of(target: Any) -> str:
    while isinstance(target, functools.partial):
        target = target.func
    return str(getattr(target, "__qualname__", None) or type(target).__qualname__)

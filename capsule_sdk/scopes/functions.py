"""Recorded functions: what ``@capsuled`` makes of a function is a function, as `functools.wraps` makes them.

So all that Python and other people's code do by a function's type they do to it: binding, implicit class
methods, weak methods, pickling by name, and by value (cloudpickle), which takes the recording along. Its call
leaves one frame between the caller and the function, which looks at the stack do not find (`unseen`).
"""

from __future__ import annotations

import functools
import inspect
import itertools
import types
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any, Final

from .driving import raised, returned
from .options import attribution_of
from .recipe import Recipe
from .runs import TaskRun
from .unseen import unseen

__all__ = ["Recording"]

#: Where a function keeps its recording: what reloads a module in place replaces this along with the code.
_MARK: Final = "__capsuled__"
_KIND: Final = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR


class Recording:
    """A function, and what is recorded around each call of it. Goes along where the function is shipped."""

    __slots__ = ("_may_be_method", "_options", "_recipe", "fn", "function")

    def __init__(self, fn: FunctionType, recipe: Recipe, options: Mapping[str, Any]) -> None:
        self.fn = fn
        self._recipe = recipe
        self._options = options
        # Whose first parameter is called otherwise than self or cls is looked up in its class.
        owner = fn.__qualname__.rpartition(".")[0]
        self._may_be_method = (
            bool(owner) and not owner.endswith("<locals>") and recipe.instance_name is None
        )
        self.function: FunctionType = self._made()

    def __reduce__(self) -> Any:
        return _again, (self.fn, dict(self._options))

    def _made(self) -> FunctionType:
        template = _call_of(self)
        # The flags let it pass for the kind that it stands for: calling it makes what calling that makes.
        flags = self.fn.__code__.co_flags & (_KIND | inspect.CO_ITERABLE_COROUTINE)
        made = FunctionType(_flagged(flags), self.fn.__globals__, closure=template.__closure__)
        made.__defaults__, made.__kwdefaults__ = self.fn.__defaults__, self.fn.__kwdefaults__
        functools.update_wrapper(made, self.fn)
        made.__dict__[_MARK] = self
        signature = inspect.signature(self.fn)
        if not any(isinstance(p.annotation, str) for p in signature.parameters.values()):
            # For `inspect.getfullargspec`, which does not look at __wrapped__. Texts are left to those who
            # evaluate them there.
            made.__signature__ = signature  # type: ignore[attr-defined]
        return made

    def made(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> TaskRun:
        """Return the run of a call, with nothing begun that an interrupt could leave open."""
        own = self.function.__dict__
        latest = own.get(_MARK, self)
        # Not where a decorator has copied the attributes of another function: that has its own then.
        if latest.fn is not self.fn and latest.function.__dict__ is own:
            return self._follow(latest).made(args, kwargs)
        instance = None
        if self._may_be_method and args and _is_method_of(args[0], self):
            instance, args = args[0], args[1:]
        return TaskRun(self._recipe, instance, args, kwargs)

    def _follow(self, latest: Recording) -> Recording:
        """Have the function, this call included, be what it was reloaded as, and return its recording.

        Whatever reloads modules in place gives a function the code and the attributes of its new version, and
        takes these for all there is. All recorded functions have one code: their closure tells them apart.
        """
        again = Recording.__new__(Recording)
        for name in ("fn", "_recipe", "_options", "_may_be_method"):
            setattr(again, name, getattr(latest, name))
        again.function = self.function
        place = self.function.__code__.co_freevars.index("recording")
        (self.function.__closure__ or ())[place].cell_contents = again
        return again

    def begin(self, run: TaskRun) -> None:
        """Open the task of a call; of a function whose code runs later, when it does."""
        if not self._recipe.lazy:
            run.start()
        elif self.function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE:
            # It stands above as well, and has marked the function that it saw.
            types.coroutine(self.fn)
        run.resume()

    def failed(self, run: TaskRun, error: BaseException) -> None:
        """End it with what the call raises."""
        raised(error, run, lazy=self._recipe.lazy)

    @staticmethod
    def put_right(run: TaskRun, error: BaseException) -> None:
        """End what an interrupt has left as it was, if there is something."""
        run.put_right(error)

    def ended(self, run: TaskRun, result: Any) -> Any:
        """Return what the call is to return."""
        return returned(result, run, lazy=self._recipe.lazy)


def _call_of(
    # No callable: of a method that is reloaded, IPython keeps those that the old one closed over.
    recording: Recording,
    # By argument, for the globals of `call` will be those of the decorated function.
    anything: type[BaseException] = BaseException,
) -> FunctionType:
    def call(*args: Any, **kwargs: Any) -> Any:
        run = None
        try:
            try:
                run = recording.made(args, kwargs)
                recording.begin(run)
                result = recording.fn(*args, **kwargs)
            except anything as error:
                seen = None  # see `unseen`
                if run is not None:
                    recording.failed(run, error)
                raise
            seen = None  # noqa: F841 - see `unseen`
            return recording.ended(run, result)
        except anything as error:  # a signal handler may have raised in any line of ours
            if run is not None:
                recording.put_right(run, error)
            raise

    return call  # type: ignore[return-value]  # a function made by `def`


@functools.cache
def _flagged(flags: int) -> CodeType:
    nothing: Any = None
    code = unseen(_call_of(nothing).__code__)
    return code.replace(co_flags=code.co_flags | flags)


def _is_method_of(first: Any, recording: Recording) -> bool:
    """Tell whether the first argument of a call is what the function was called through."""
    name = recording.function.__name__
    kinds: list[type] = [type(first)]
    # Called through the class. Not `isinstance`, which runs its code.
    if issubclass(type(first), type):
        kinds.append(first)
    for owner in itertools.chain.from_iterable(kind.__mro__ for kind in kinds):
        held = owner.__dict__.get(name)
        if isinstance(held, classmethod):
            held = held.__func__
        if held is recording.function or _was_reloaded_as(held, recording):
            return True
    return False


def _was_reloaded_as(held: Any, recording: Recording) -> bool:
    if type(held) is not FunctionType or held.__code__ is not recording.function.__code__:
        return False
    found = held.__dict__.get(_MARK)
    return type(found) is Recording and found.fn is recording.fn


def _again(fn: FunctionType, options: Mapping[str, Any]) -> Recording:
    return Recording(fn, Recipe(fn, options, attribution_of(options)), options)

"""Entries: LiteLLM's public entry points, wrapped so that the caller's own outcome decides.

Each entry point that `discovery` finds is replaced, once, by a wrapper that follows one call from its start to
its end; the modules that took the function before (``from litellm import completion``) are pointed at the
wrapper too. LiteLLM calling itself for the same call passes its logging object on, and goes through unrecorded;
a call without one (a judge in a callback, a member of a batch, an attempt of the Router) is a call of its own.
Functions that were kept elsewhere before are `capsule_sdk.adapters.litellm.early`'s affair.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from types import MethodType
from typing import TYPE_CHECKING, Any

import litellm
import wrapt

from ...forks import beginning
from ...logs import gap, guarded
from ...scopes.scope import Scope, innermost
from ...settings import is_disabled
from . import discovery, early
from .flight import Flight, current
from .hooks import follow_events, slot_of
from .lists import active_loggers
from .selfcheck import functions_of, part_in_use
from .streams import is_stream

__all__ = ["install"]

if TYPE_CHECKING:
    _FunctionWrapper = wrapt.FunctionWrapper[..., Any]
else:
    _FunctionWrapper = wrapt.FunctionWrapper

#: Opens a call, or finds the one that is open, and puts it in the list that it is given.
_Begin = Callable[[list[Flight]], Flight | None]

#: What LiteLLM's entry points look up at each call, and the entry point it works for.
IMPLEMENTATIONS: dict[str, dict[str, str]] = {
    "litellm.chat_completions.dispatch": {
        "_PYTHON_COMPLETION": "completion", "_PYTHON_ACOMPLETION": "acompletion",
    },
    "litellm.responses.dispatch": {"_PYTHON_RESPONSES": "responses", "_PYTHON_ARESPONSES": "aresponses"},
    "litellm.embeddings.dispatch": {"_PYTHON_EMBEDDING": "embedding", "_PYTHON_AEMBEDDING": "aembedding"},
    "litellm.messages.dispatch": {"_PYTHON_AMESSAGES": "anthropic_messages"},
    "litellm.main": {
        "completion_with_fallbacks": "completion", "async_completion_with_fallbacks": "acompletion",
    },
}  # fmt: skip

#: Parts of LiteLLM that make one kind of call of another, and do not pass its logging object on.
TRANSLATORS = ("litellm.google_genai.", "litellm.interactions.", "litellm.llms.anthropic.")

#: Parts of LiteLLM that make calls of their own.
CALLERS = ("litellm.rag",)

#: Functions that make calls of their own in threads that inherit no context.
BATCHES = ("batch_completion", "batch_completion_models", "batch_completion_models_all_responses")
SCOPE_ARGUMENT = "_capsule_sdk_scope"  # by which they hand their scope to those calls

_installed = False


def install() -> None:
    """Wrap LiteLLM's entry points. Idempotent; a name that this LiteLLM does not have is left out."""
    global _installed  # noqa: PLW0603 - LiteLLM is there once in a process, and so is this
    with beginning:
        if _installed:
            return
        _installed = True
        found = list(discovery.entries())
        replaced: dict[int, Any] = {}
        inner: dict[int, Any] = {}
        for entry in found:
            wrap = functools.partial(_entry, entry.name, inside=entry.inner)
            _replace(entry.module, entry.attribute, wrap, inner if entry.inner else replaced)
        for name in BATCHES:
            _replace(litellm, name, _batch, replaced)
        _rebind({**inner, **replaced})
        for place, implementations in IMPLEMENTATIONS.items():
            _implementations(discovery.module_named(place), implementations)
        early.install()
        if not found or not discovery.wrappers():
            gap("LiteLLM's entry points are made in another way", "most of them hang on its events")


def _implementations(module: Any, names: Mapping[str, str]) -> None:
    """Wrap what the entry points in a module look up at each call."""
    functions = list(functions_of(module))
    for name, entry in names.items():
        costs = (
            f"calls by a `{entry}` that was taken from LiteLLM before the logger hang on its events"
        )
        if part_in_use(module, (name,), functions, costs=costs) is not None:
            _replace(module, name, functools.partial(_entry, entry, inner=True), {})


def _replace(module: Any, name: str, wrap: Callable[[Any], Any], replaced: dict[int, Any]) -> None:
    """Put a wrapper in a function's place; one function has one wrapper, wherever it is offered."""
    original = getattr(module, name, None)
    if not callable(original) or isinstance(original, wrapt.FunctionWrapper):
        return
    wrapper = replaced.get(id(original))
    if wrapper is None:
        wrapper = replaced[id(original)] = wrap(original)
    setattr(module, name, wrapper)


def _rebind(replaced: Mapping[int, Any]) -> None:
    """Point the modules that imported an entry point earlier at its wrapper.

    LiteLLM's own stay as they are, but for those that make calls of their own.
    """
    for name, module in list(sys.modules.items()):
        names = getattr(module, "__dict__", None)
        ours = name.split(".", 1)[0] in ("litellm", "capsule_sdk") and not name.startswith(CALLERS)
        if type(names) is not dict or ours:
            continue
        for key, value in list(names.items()):
            wrapper = replaced.get(id(value))
            if wrapper is not None and wrapper.__wrapped__ is value:
                names[key] = wrapper


class _Wrapped(_FunctionWrapper):
    """A function of LiteLLM's that is recorded: bound, copied and pickled as a function is; wrapt refuses.

    It is pickled by the name of the original, so that a process without the logger can read it.
    """

    # No annotations in this body: they would stand before those of the original.

    def __get__(self, instance: Any, *owner: Any) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __reduce_ex__(self, protocol: Any) -> Any:
        del protocol
        return pkgutil.resolve_name, (f"{self.__module__}:{self.__qualname__}",)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        del memo
        return self


# -- one call --------------------------------------------------------------------------------------


def _entry(name: str, original: Any, *, inner: bool = False, inside: bool = False) -> Any:
    """Return the wrapper of one entry point.

    Args:
        name: what it is called in a capsule.
        original: the function.
        inner: whether it is what an entry point looks up, and carries out its calls.
        inside: whether LiteLLM's own functions call it too, for a call that is under way; those go through.

    """
    positional = _positional(name, original)
    lazy = inspect.iscoroutinefunction(original)

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del instance
        handed = kwargs.pop(SCOPE_ARGUMENT, None)
        if inside and _under_way(kwargs):
            return wrapped(*args, **kwargs)
        known = _open_call(kwargs, inner=inner)
        if known is not None and not (known.early and (inner or name.endswith("_with_retries"))):
            return wrapped(*args, **kwargs)
        if is_disabled():  # asked last: what is under way goes through in any case
            return wrapped(*args, **kwargs)
        begin: _Begin
        if known is not None:
            begin = functools.partial(_taken_over, known)
        else:
            scope = handed or innermost()
            begin = functools.partial(_begin, name, positional, args, kwargs, scope=scope)
        if lazy:
            coroutine: Any = _awaited(wrapped, args, kwargs, begin)
            coroutine.__name__, coroutine.__qualname__ = wrapped.__name__, wrapped.__qualname__
            return coroutine
        return _called(wrapped, args, kwargs, begin)

    return _Wrapped(original, call)


def _batch(original: Any) -> Any:
    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del instance
        scope = innermost()
        return wrapped(*args, **kwargs, **({SCOPE_ARGUMENT: scope} if scope is not None else {}))

    return _Wrapped(original, call)


def _positional(name: str, original: Any) -> tuple[str, ...]:
    """Return the names of the positional parameters; an async twin that takes ``*args`` has its sync one's."""
    candidates = [original]
    twin = getattr(litellm, name.removeprefix("a"), None)
    if twin is not None:
        candidates.append(twin)
    for candidate in candidates:
        try:
            parameters = inspect.signature(candidate).parameters.values()
        except (TypeError, ValueError):
            continue
        names = tuple(p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD)
        if names:
            return names
    return ("model", "messages")


def _nested(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments that LiteLLM's fallbacks pass on one level deeper."""
    nested = kwargs.get("kwargs")
    return nested if nested is not None and isinstance(nested, Mapping) else {}


def _logging_obj(kwargs: Mapping[str, Any]) -> Any:
    return (_nested(kwargs) or kwargs).get("litellm_logging_obj")


def _open_call(kwargs: Mapping[str, Any], *, inner: bool) -> Flight | None:
    """Return the call that is followed already and that LiteLLM calls itself for."""
    logging_obj, around = _logging_obj(kwargs), current.get()
    if logging_obj is None and not inner and (around is None or not _translated()):
        return None
    slot = slot_of(logging_obj)
    for flight in (around, slot.flight if slot is not None else None):
        if flight is not None and flight.open:
            return flight
    return None


def _under_way(kwargs: Mapping[str, Any]) -> bool:
    """Tell whether this is part of a call, which may be one that nobody follows yet."""
    around = current.get()
    return _logging_obj(kwargs) is not None or (around is not None and around.open)


def _translated() -> bool:
    """Tell whether it is one of the translators that calls the entry point."""
    frame = sys._getframe(3)
    while frame.f_globals.get("__name__", "").startswith("wrapt.") and frame.f_back is not None:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")).startswith(TRANSLATORS)


def _taken_over(flight: Flight, made: list[Flight]) -> Flight:
    """Return a call that only events have told of so far, and whose end can be followed from here on."""
    made.append(flight)
    flight.early = False
    return flight


def _begin(
    name: str,
    positional: tuple[str, ...],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    made: list[Flight],
    *,
    scope: Scope | None,
) -> Flight | None:
    """Open a call; it is in ``made`` before anything is begun that an interrupt could leave open."""
    flight = None
    with guarded("litellm.begin"):
        loggers = active_loggers(kwargs)
        if loggers:
            given = {**dict(zip(positional, args, strict=False)), **kwargs}
            flight = Flight(name, {**given, **_nested(kwargs)}, loggers, scope, made)
            slot = slot_of(_logging_obj(kwargs))
            if slot is not None:  # made before the call, by a proxy
                slot.take(flight)
    return flight


def _called(wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any], begin: _Begin) -> Any:
    made: list[Flight] = []
    try:
        flight = begin(made)
        if flight is None:
            return wrapped(*args, **kwargs)
        outer = current.get()
        current.set(flight)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            flight.fail(error)
            raise
        finally:
            current.set(outer)
        if inspect.iscoroutine(result):  # completion(acompletion=True)
            return _awaited(lambda: result, (), {}, functools.partial(_again, flight))
        result = _returned(flight, result)
    except BaseException as error:  # a signal handler may have raised in any line of ours
        for one in made:
            one.put_right(error)
        raise
    if (waits_for := flight.confirmation()) is not None:
        waits_for.confirm()
    return result


async def _awaited(
    wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any], begin: _Begin
) -> Any:
    made: list[Flight] = []
    try:
        flight = begin(made)
        if flight is None:
            return await wrapped(*args, **kwargs)
        outer = current.get()
        current.set(flight)
        try:
            result = await wrapped(*args, **kwargs)
        except BaseException as error:
            flight.fail(error)
            raise
        finally:
            current.set(outer)
        result = _returned(flight, result)
    except BaseException as error:  # as above
        for one in made:
            one.put_right(error)
        raise
    if (waits_for := flight.confirmation()) is not None:
        await waits_for.aconfirm()
    return result


def _again(flight: Flight, made: list[Flight]) -> Flight:
    made.append(flight)
    return flight


def _returned(flight: Flight, result: Any) -> Any:
    """Settle with a whole answer; follow a stream to its end."""
    followed = False
    with flight.guarded("litellm.returned"):
        if is_stream(result):
            result = flight.streams(result)
        else:
            flight.answered(result)
        followed = True
    if not followed and is_stream(result):
        follow_events(flight)
    elif not followed:
        flight.end(None)  # well, whatever it was that could not be taken down
    return result

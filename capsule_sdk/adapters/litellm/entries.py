"""Entries: LiteLLM's public entry points, wrapped so that the caller's own outcome decides.

Each name in ``ENTRIES`` is replaced, once, by a wrapper that follows one call from its start to its end; the
places that took the function before (``from litellm import completion``) are pointed at the wrapper too.
LiteLLM calling itself for the same call passes its logging object on, and goes through unrecorded; a call
without one (a judge in a callback, a member of a batch, an attempt of the Router) is a call of its own.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import litellm
import wrapt

from ...logs import guarded, log
from ...scope import Scope, innermost
from ...settings import is_disabled
from .flight import Flight, current
from .hooks import flight_of, mark
from .streams import is_stream

if TYPE_CHECKING:
    from .logger import CapsuleLogger

__all__ = ["active_loggers", "install"]

#: Where LiteLLM offers an entry point, and the names it has there. An ``a`` in front is the async twin.
ENTRIES: dict[str, tuple[str, ...]] = {
    "litellm": (
        "completion", "acompletion", "completion_with_retries", "acompletion_with_retries",
        "text_completion", "atext_completion", "embedding", "aembedding",
        "image_generation", "aimage_generation", "image_edit", "aimage_edit",
        "image_variation", "aimage_variation", "transcription", "atranscription",
        "speech", "aspeech", "moderation", "amoderation", "rerank", "arerank",
        "responses", "aresponses", "responses_with_retries", "aresponses_with_retries",
        "compact_responses", "acompact_responses", "anthropic_messages", "agenerate_content",
        "ocr", "aocr", "video_generation", "avideo_generation",
    ),
    "litellm.google_genai": (
        "generate_content", "agenerate_content", "generate_content_stream",
        "agenerate_content_stream",
    ),
    "litellm.anthropic_interface.messages": ("create", "acreate"),
}  # fmt: skip

#: Functions that make calls of their own in threads that inherit no context.
BATCHES = ("batch_completion", "batch_completion_models", "batch_completion_models_all_responses")
#: The argument by which such a function hands its scope to its calls.
SCOPE_ARGUMENT = "_capsule_sdk_scope"

#: LiteLLM copies a logger from the first list into the others at the first call.
LISTS = (
    "callbacks", "success_callback", "_async_success_callback",
    "failure_callback", "_async_failure_callback", "input_callback",
)  # fmt: skip

_installed = False
_lock = threading.Lock()


def install() -> None:
    """Wrap LiteLLM's entry points. Idempotent; a name that this LiteLLM does not have is left out."""
    global _installed  # noqa: PLW0603 - LiteLLM is there once in a process, and so is this
    with _lock:
        if _installed:
            return
        _installed = True
        replaced: dict[int, tuple[Any, Any]] = {}
        for place, names in ENTRIES.items():
            module = _module(place)
            for name in names:
                _replace(module, name, functools.partial(_entry, name), replaced)
        for name in BATCHES:
            _replace(litellm, name, _batch, replaced)
        _rebind(replaced)
        _wrap_setup()


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - an optional part of LiteLLM that does not load here
        log.debug("entry points left out", module=name, error=repr(error))
        return None


def _replace(
    module: Any, name: str, wrap: Callable[[Any], Any], replaced: dict[int, tuple[Any, Any]]
) -> None:
    original = getattr(module, name, None)
    if not callable(original) or isinstance(original, wrapt.FunctionWrapper):
        return
    wrapper = replaced[id(original)][1] if id(original) in replaced else wrap(original)
    replaced[id(original)] = (original, wrapper)
    setattr(module, name, wrapper)


def _rebind(replaced: Mapping[int, tuple[Any, Any]]) -> None:
    """Point the modules that imported an entry point earlier at its wrapper. LiteLLM's own stay as they are."""
    for name, module in list(sys.modules.items()):
        if name.split(".", 1)[0] in ("litellm", "capsule_sdk") or module is None:
            continue
        names = getattr(module, "__dict__", None)
        if type(names) is not dict:
            continue
        for key, value in list(names.items()):
            found = replaced.get(id(value))
            if found is not None and found[0] is value:
                names[key] = found[1]


def _wrap_setup() -> None:
    """Have each logging object that LiteLLM makes carry the call it is made for."""
    import litellm.utils as utils  # noqa: PLC0415, PLR0402 - the module, not what it exports

    setup = getattr(utils, "function_setup", None)
    if not callable(setup):
        log.warning("this LiteLLM has no function_setup; calls by early imported names may be missed")
        return

    @functools.wraps(setup)
    def function_setup(*args: Any, **kwargs: Any) -> Any:
        result = setup(*args, **kwargs)
        with guarded("litellm.setup"):
            mark(result[0], current.get(), kwargs)
        return result

    utils.function_setup = function_setup


# -- who records -----------------------------------------------------------------------------------


def active_loggers(given: Mapping[str, Any]) -> list[CapsuleLogger]:
    """Return the loggers that stand in one of LiteLLM's lists, or in those of this call, each once."""
    from .logger import CapsuleLogger  # noqa: PLC0415 - the logger installs this module

    found: list[CapsuleLogger] = []
    for callbacks in _lists(given):
        for callback in callbacks:
            if isinstance(callback, CapsuleLogger) and callback not in found:
                found.append(callback)
    return found


def _lists(given: Mapping[str, Any]) -> Iterable[Iterable[Any]]:
    for name in LISTS:
        if callbacks := getattr(litellm, name, None):
            yield callbacks
    for name in ("callbacks", "success_callback", "failure_callback"):
        callbacks = given.get(name)
        if isinstance(callbacks, list | tuple):
            yield callbacks


# -- one call --------------------------------------------------------------------------------------


def _entry(name: str, original: Any) -> Any:
    """Return the wrapper of one entry point."""
    positional = _positional(name, original)
    lazy = inspect.iscoroutinefunction(original)

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del instance
        scope = kwargs.pop(SCOPE_ARGUMENT, None) or innermost()
        if _belongs_to_open_call(kwargs) or is_disabled():
            return wrapped(*args, **kwargs)
        begin = functools.partial(_begin, name, positional, args, kwargs, scope)
        if lazy:
            coroutine = _awaited(wrapped, args, kwargs, begin)
            coroutine.__name__, coroutine.__qualname__ = wrapped.__name__, wrapped.__qualname__
            return coroutine
        return _called(wrapped, args, kwargs, begin)

    return wrapt.FunctionWrapper(original, call)


def _batch(original: Any) -> Any:
    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        del instance
        scope = innermost()
        return wrapped(*args, **kwargs, **({SCOPE_ARGUMENT: scope} if scope is not None else {}))

    return wrapt.FunctionWrapper(original, call)


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


def _belongs_to_open_call(kwargs: Mapping[str, Any]) -> bool:
    """Tell whether LiteLLM is calling itself for a call that is being followed already."""
    logging_obj = kwargs.get("litellm_logging_obj")
    if logging_obj is None:
        return False
    flight = current.get()
    if flight is not None and flight.open:
        return True
    flight = flight_of(logging_obj)
    return flight is not None and flight.open


def _begin(
    name: str,
    positional: tuple[str, ...],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    scope: Scope | None,
) -> Flight | None:
    flight = None
    with guarded("litellm.begin"):
        loggers = active_loggers(kwargs)
        if loggers:
            given = {**dict(zip(positional, args, strict=False)), **kwargs}
            flight = Flight(name, given, loggers, scope)
    return flight


def _called(
    wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any], begin: Callable[[], Flight | None]
) -> Any:
    flight = begin()
    if flight is None:
        return wrapped(*args, **kwargs)
    outer = current.get()
    current.set(flight)
    try:
        result = wrapped(*args, **kwargs)
    except BaseException as error:
        with guarded("litellm.failed"):
            flight.failed(error)
        raise
    finally:
        current.set(outer)
    if inspect.iscoroutine(result):  # completion(acompletion=True)
        return _awaited(lambda: result, (), {}, lambda: flight)
    result = _returned(flight, result)
    if flight.strict and not flight.open:
        flight.confirm()
    return result


async def _awaited(
    wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any], begin: Callable[[], Flight | None]
) -> Any:
    flight = begin()
    if flight is None:
        return await wrapped(*args, **kwargs)
    outer = current.get()
    current.set(flight)
    try:
        result = await wrapped(*args, **kwargs)
    except BaseException as error:
        with guarded("litellm.failed"):
            flight.failed(error)
        raise
    finally:
        current.set(outer)
    result = _returned(flight, result)
    if flight.strict and not flight.open:
        await anyio.to_thread.run_sync(flight.confirm)
    return result


def _returned(flight: Flight, result: Any) -> Any:
    """Settle with a whole answer; follow a stream to its end."""
    with guarded("litellm.returned"):
        if is_stream(result):
            return flight.streams(result)
        flight.answered(result)
    return result

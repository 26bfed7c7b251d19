"""Early: calls by functions that were taken from LiteLLM before its entry points were wrapped.

Where such a function is a module's global, it is exchanged for its wrapper. Kept anywhere else (an attribute, a
closure, a default argument, a `functools.partial`, a Router) it stays what it is, and its calls are caught
where they pass LiteLLM's own parts:

- What LiteLLM's entry points look up at each call is wrapped too: chat, responses, embeddings, messages and
  fallbacks are followed from there like any other call.
- The others are known by their logging object, which carries the scope they were made in from its making on:
  they are opened and settled by LiteLLM's events (`hooks`), an answer from the cache where it is found (here).

What cannot be right for the latter: ``moderation()`` tells LiteLLM nothing of itself and is not recorded; an
abandoned stream has no text, and what was cancelled or closed, or ended well in an event that LiteLLM dropped
(its pool for callbacks was full), comes out as abandoned; strictness does not reach their caller. In a call
that is open already (a callback, a custom provider) every kept function counts as part of it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ...logs import guarded
from .discovery import module_named, wrappers
from .flight import current
from .hooks import answered_from_cache, looking_up, mark
from .selfcheck import part_in_use

__all__ = ["install"]

#: What it costs if LiteLLM does not pass a part.
SCOPES = (
    "calls by functions that were taken from LiteLLM before the logger was made may miss their scope and "
    "their attempts"
)
CACHED = (
    "answers from LiteLLM's cache to functions that were taken from it before the logger was made may be "
    "recorded late, outside their scope, or not at all"
)


def install() -> None:
    """Wrap the parts of LiteLLM that such calls pass. One that is not passed costs the cases named above."""
    import litellm.utils as utils  # noqa: PLC0415, PLR0402 - the module, not what it exports

    caching = module_named("litellm.caching.caching_handler")
    handler = getattr(caching, "LLMCachingHandler", None)
    for owner, names, wrap, costs in (
        (utils, ("function_setup",), _setup, SCOPES),
        (handler, ("sync_get_cache", "_sync_get_cache"), _look_up, CACHED),  # 1.106 renamed both
        (handler, ("async_get_cache", "_async_get_cache"), _alook_up, CACHED),
    ):
        name = part_in_use(owner, names, wrappers(), costs=costs)
        if name is not None:
            original = getattr(owner, name)
            setattr(owner, name, functools.wraps(original)(wrap(original)))


def _setup(original: Callable[..., Any]) -> Any:
    """Have each logging object that LiteLLM makes carry the call it is made for."""

    def function_setup(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        with guarded("litellm.setup"):
            given = kwargs
            if len(args) > 3:  # what stands behind its own three is the call's
                given = {**dict(zip(_positional(args[0]), args[3:], strict=False)), **kwargs}
            mark(result[0], current.get(), given)
        return result

    return function_setup


@functools.lru_cache(maxsize=256)
def _positional(entry: str) -> tuple[str, ...]:
    """Return the names of the arguments that an entry point takes by position."""
    import litellm  # noqa: PLC0415 - not for those who only import us

    function = getattr(litellm, entry, None)
    try:
        parameters = inspect.signature(function).parameters.values() if function else ()
    except (TypeError, ValueError):
        parameters = ()
    return tuple(p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD)


def _look_up(original: Callable[..., Any]) -> Any:
    def sync_get_cache(*args: Any, **kwargs: Any) -> Any:
        with guarded("litellm.cache"):
            looking_up(kwargs.get("logging_obj"))
        found = original(*args, **kwargs)
        with guarded("litellm.cache"):
            answered_from_cache(kwargs.get("logging_obj"), found)
        return found

    return sync_get_cache


def _alook_up(original: Callable[..., Any]) -> Any:
    async def async_get_cache(*args: Any, **kwargs: Any) -> Any:
        with guarded("litellm.cache"):
            looking_up(kwargs.get("logging_obj"))
        found = await original(*args, **kwargs)
        with guarded("litellm.cache"):
            answered_from_cache(kwargs.get("logging_obj"), found)
        return found

    return async_get_cache

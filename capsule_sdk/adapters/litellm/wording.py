"""Wording: an error of LiteLLM in its own words, and in the provider's where it lacks them.

The classes of LiteLLM and of OpenAI's client are known code, so their own ``__str__`` may say what has
happened, with what only it adds (``LiteLLM Retried: 2 times``). Any other class, a user's subclass of these
among them, is read as every exception is.

An answer with HTTP status 200 may be an error all the same. LiteLLM raises, and often drops what the provider
said; that stands in the body, or in the errors that LiteLLM's was made of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ...calls.answers.errors import error_in
from ...calls.answers.verdict import error_of
from ...content.inert import MISSING, held, is_builtin, module_of

__all__ = ["words_of"]

_KNOWN = frozenset({"litellm", "openai"})
_args = BaseException.__dict__["args"].__get__
_cause = BaseException.__dict__["__cause__"].__get__
_context = BaseException.__dict__["__context__"].__get__

_CAUSES = 5  # errors behind an error


def words_of(error: BaseException, body: Any = None, around: int = 0) -> str | None:
    """Return what an error of LiteLLM says, and what its provider said where this is not in it.

    Args:
        error: what LiteLLM has raised.
        body: the body of the last answer that the provider sent.
        around: the `id` of the error that was being handled when the call began: not one of this call's.

    Returns:
        ``None`` for the error of any other library, and where others' code would be asked.

    """
    said = _own_words(error)
    if said is None:
        return None
    told = next((words for words in _told(error, body, around) if words), "")
    return said if not told or told in said else f"{said.rstrip(' -')} - {told}"


def _own_words(error: BaseException) -> str | None:
    if module_of(type(error)).partition(".")[0] not in _KNOWN:
        return None
    message = held(error, "message")
    parts = [*_args(error), "" if message is MISSING else message]
    if not all(
        is_builtin(part) and not issubclass(type(part), (dict, list, tuple)) for part in parts
    ):
        return None
    try:
        return str.__str__(str(error)) or None
    except Exception:  # noqa: BLE001 - one that was made past its constructor lacks what it would say
        return None


def _told(error: BaseException, body: Any, around: int) -> Iterator[str]:
    """Yield what the provider may have said, the surest first."""
    yield _words_in(error_in(body))
    for one in _behind(error, around):
        kept = held(one, "body")
        kept = kept if is_builtin(kept) else MISSING  # no mapping of a user's is asked
        yield _words_in(kept if isinstance(kept, str) else error_in(kept) or kept)
        if type(one) is json.JSONDecodeError:  # of an answer that is none
            yield _words_in(held(one, "doc"))


def _words_in(value: Any) -> str:
    if value is MISSING or not is_builtin(value):
        return ""
    found = error_of(value)
    return found[1].strip() if found is not None else ""


def _behind(error: BaseException, around: int) -> Iterator[BaseException]:
    """Yield the error, and those that it was made of."""
    seen: set[int] = {around}
    found: BaseException | None = error
    while found is not None and id(found) not in seen and len(seen) <= _CAUSES:
        seen.add(id(found))
        yield found
        original = held(found, "original_exception")
        if not isinstance(original, BaseException) or id(original) in seen:
            original = _cause(found) or _context(found)
        found = original

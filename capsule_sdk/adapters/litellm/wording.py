"""Wording: an error of LiteLLM in its own words.

The classes of LiteLLM and of OpenAI's client are known code, so their own ``__str__`` may say what has
happened, with what only it adds (``LiteLLM Retried: 2 times``). Any other class, a user's subclass of these
among them, is read as every exception is.
"""

from __future__ import annotations

from ...content.inert import MISSING, held, is_builtin, module_of

__all__ = ["words_of"]

_KNOWN = frozenset({"litellm", "openai"})
_args = BaseException.__dict__["args"].__get__


def words_of(error: BaseException) -> str | None:
    """Return what an error of LiteLLM says; ``None`` for any other, and where others' code would be asked."""
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

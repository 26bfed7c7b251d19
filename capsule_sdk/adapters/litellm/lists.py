"""Lists: which loggers record a call. LiteLLM keeps its callbacks in six lists, and takes more with a call."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import litellm

if TYPE_CHECKING:
    from .logger import CapsuleLogger

__all__ = ["active_loggers"]

#: LiteLLM copies a logger from the first list into the others at the first call.
LISTS = (
    "callbacks", "success_callback", "_async_success_callback",
    "failure_callback", "_async_failure_callback", "input_callback",
)  # fmt: skip


def active_loggers(given: Mapping[str, Any]) -> list[CapsuleLogger]:
    """Return the loggers that stand in one of LiteLLM's lists, or in those of this call, each once."""
    kind = _kind()
    found: list[CapsuleLogger] = []
    for callbacks in _lists(given):
        for callback in callbacks:
            if isinstance(callback, kind) and callback not in found:
                found.append(callback)
    return found


@functools.cache
def _kind() -> type[CapsuleLogger]:
    from .logger import CapsuleLogger  # noqa: PLC0415 - whose module needs this one

    return CapsuleLogger


def _lists(given: Mapping[str, Any]) -> Iterable[Iterable[Any]]:
    for name in LISTS:
        if callbacks := getattr(litellm, name, None):
            yield callbacks
    for name in ("callbacks", "success_callback", "failure_callback"):
        callbacks = given.get(name)
        if isinstance(callbacks, list | tuple):
            yield callbacks

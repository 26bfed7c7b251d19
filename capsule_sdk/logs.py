"""What the SDK itself has to say: its own events, and the guard around everything that runs in a user's call.

Events go through the standard library's logger ``capsule_sdk``, so that an application decides what is shown.
The structlog processor for the user's own log lines is `capsule_sdk.add_capsule_ids`.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import MutableMapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import structlog

from .outward import message

__all__ = ["errors", "gap", "gaps", "guarded", "log", "report", "tell", "tell_once"]


def _discreet(_: object, __: str, facts: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out the passwords of URLs, which drivers quote in their errors; what is not printable is escaped."""
    return {
        name: message(value) if isinstance(value, str) else value for name, value in facts.items()
    }


log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("capsule_sdk"),
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.processors.format_exc_info,
        _discreet,
        structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)

#: How often each internal error has happened in this process, by the place it happened in.
errors: Counter[str] = Counter()

#: What this process cannot record as it should, each with what that costs: parts of a framework that capture
#: relies on, and that this version does not have, or does not use.
gaps: dict[str, str] = {}

_told: set[tuple[str, ...]] = set()

#: Set by the project's own tests: internal errors are collected there as well, and raised where they can be.
raised: list[BaseException] | None = None


def report(place: str, error: BaseException, **facts: Any) -> None:
    """Count and log an error inside the SDK. Never raises, except under the project's own tests."""
    errors[place] += 1
    if raised is not None:
        raised.append(error)
    tell("error", "internal error", place=place, exc_info=error, **facts)
    if raised is not None and threading.current_thread() is threading.main_thread():
        raise error


def gap(what: str, costs: str) -> None:
    """Note something that this process cannot record as it should, and log it the first time."""
    if what not in gaps:
        gaps[what] = costs
        tell("warning", f"{what}: {costs}. Please report it, with the version of the framework")


def tell(level: str, event: str, **facts: Any) -> None:
    """Log an event. A log configuration that is broken must not break the user's call, nor the writer."""
    with suppress(Exception):
        getattr(log, level)(event, **facts)


def tell_once(level: str, event: str, **facts: Any) -> None:
    """Log an event that is the same until somebody does something, the first time that it comes up."""
    if (key := (event, *sorted(map(str, facts.items())))) not in _told:
        _told.add(key)
        tell(level, event, **facts)


class guarded:  # noqa: N801 - used as a statement: with guarded("scope.exit")
    """Run SDK code inside a user's call: an `Exception` in it is reported, and the call goes on.

    A class and not a generator: a context manager made of one takes a microsecond, four times as long.
    """

    __slots__ = ("_place",)

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        report(self._place, error)
        return True

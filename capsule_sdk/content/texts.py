"""Moments and paths of the standard library as texts, read by what the instances hold.

A subclass (``pandas.Timestamp``, ``pendulum.DateTime``) may answer anything when asked, and so may a time
zone: of the one the fields are read, of the other only those are asked that are known to do nothing but
sums.
"""

from __future__ import annotations

from datetime import date, datetime, time, timezone, tzinfo
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any

from .canonical_json import moment
from .inert import MISSING, class_name, held, instance, module_of, type_name

__all__ = ["is_plain_path", "moment_text", "path_text", "time_text"]

# Taken once: while a test freezes time, these names mean other classes.
_DATETIME, _TIME = datetime, time
_DAY = tuple(date.__dict__[name].__get__ for name in ("year", "month", "day"))
_MOMENT = tuple(
    datetime.__dict__[name].__get__ for name in ("hour", "minute", "second", "microsecond")
)
_CLOCK = tuple(time.__dict__[name].__get__ for name in ("hour", "minute", "second", "microsecond"))
_moment_zone, _moment_fold = datetime.__dict__["tzinfo"].__get__, datetime.__dict__["fold"].__get__
_clock_zone, _clock_fold = time.__dict__["tzinfo"].__get__, time.__dict__["fold"].__get__

#: Packages whose time zones are tables and sums.
_ZONES = frozenset({"dateutil", "pendulum", "pytz", "zoneinfo"})

_EXACT = (PosixPath, PurePosixPath, PureWindowsPath, WindowsPath)
#: Where a path of one Python version or another keeps the texts that it was made of.
_PARTS = ("_raw_paths", "_parts")


def moment_text(value: datetime) -> str | None:
    """Return a moment in UTC, ISO 8601; ``None`` for what is no moment (``pandas.NaT``).

    With a time zone that may run foreign code it is the local time, and the zone's class behind it.
    """
    if type_name(type(value)) == "NaTType":  # a datetime to all appearances: of the year 1
        return None
    zone = _moment_zone(value)
    if type(value) is _DATETIME and (zone is None or _is_inert(zone)):
        return moment(value).isoformat()
    plain = _DATETIME(
        *(read(value) for read in (*_DAY, *_MOMENT)),
        fold=_moment_fold(value),
    )
    if zone is None or _is_inert(zone):
        return moment(plain.replace(tzinfo=zone)).isoformat()
    return f"{plain.isoformat()} <{class_name(type(zone))}>"


def time_text(value: time) -> str:
    """Return a time of day, ISO 8601, with the offset where its zone is known to have one."""
    zone = _clock_zone(value)
    plain = _TIME(*(read(value) for read in _CLOCK), fold=_clock_fold(value))
    if zone is None or _is_inert(zone):
        return plain.replace(tzinfo=zone).isoformat()
    return f"{plain.isoformat()} <{class_name(type(zone))}>"


def _is_inert(zone: tzinfo) -> bool:
    cls = type(zone)
    return cls is timezone or module_of(cls).partition(".")[0] in _ZONES


def path_text(value: PurePath) -> str | None:
    """Return a path as it was written; ``None`` where it does not hold plain texts."""
    parts: Any = next(
        (found for name in _PARTS if (found := held(value, name)) is not MISSING), None
    )
    if type(parts) is not list or any(type(part) is not str for part in parts):
        return None
    if any(type(value) is exact for exact in _EXACT):
        return str(value)
    kind = PureWindowsPath if instance(value, PureWindowsPath) else PurePosixPath
    return str(kind(*parts))


def is_plain_path(value: object) -> bool:
    """Tell whether a value is a path of the standard library's own class, made of plain texts."""
    return any(type(value) is exact and path_text(value) is not None for exact in _EXACT)

"""Locks: all that the package has made, found by a walk through what lives, whatever they are called."""

from __future__ import annotations

import _thread
import gc
import sys
from types import FunctionType, ModuleType
from typing import Any

__all__ = ["left_held", "locks"]

LOCKS = (_thread.LockType, _thread.RLock)


def locks() -> list[Any]:
    """Return every lock that the modules of the package, and the objects of its classes, refer to."""
    found: dict[int, Any] = {}
    for holder in _holders():
        for one in gc.get_referents(holder):
            if isinstance(one, LOCKS):
                found[id(one)] = one
    return list(found.values())


def _holders() -> list[Any]:
    modules = [
        module.__dict__
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "capsule_sdk" and isinstance(module, ModuleType)
    ]
    objects = [one for one in gc.get_objects() if _is_ours(one)]
    # What they hold in lists, dicts and attributes of their own:
    inside = [
        part
        for one in [*modules, *objects]
        for part in gc.get_referents(one)
        if type(part) in (dict, list, tuple, set)
    ]
    return [*modules, *objects, *inside]


def _is_ours(one: Any) -> bool:
    kind: Any = type(one)
    return kind is not FunctionType and str(kind.__module__).startswith("capsule_sdk")


def left_held(ours: list[Any]) -> list[Any]:
    """Return those that this thread holds; a plain lock says only that somebody does, so it is asked again."""
    return [one for one in ours if _is_owned(one)]


def _is_owned(lock: Any) -> bool:
    if isinstance(lock, _thread.RLock):
        return bool(lock._is_owned())  # type: ignore[attr-defined]
    if not lock.locked():
        return False
    if lock.acquire(timeout=5.0):
        lock.release()
        return False
    return True

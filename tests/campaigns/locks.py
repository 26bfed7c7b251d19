"""Locks: all that the package has made, found by a walk through what lives, whatever they are called."""

from __future__ import annotations

import _thread
import gc
import sys
import weakref
from types import ModuleType
from typing import Any

__all__ = ["left_held", "locks"]

LOCKS = (_thread.LockType, _thread.RLock)


def locks() -> list[Any]:
    """Return every lock that the modules of the package lead to: not those of what a child has left behind."""
    seen: dict[int, Any] = {}
    found: list[Any] = []
    ahead: list[Any] = [
        module.__dict__
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "capsule_sdk" and isinstance(module, ModuleType)
    ]
    while ahead:
        one = ahead.pop()
        if isinstance(one, weakref.ref):
            one = one()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, LOCKS):
            found.append(one)
        elif type(one) in (dict, list, tuple, set) or _is_ours(one):
            ahead += gc.get_referents(one)
    return found


def _is_ours(one: Any) -> bool:
    kind: Any = type(one)
    return kind is weakref.WeakValueDictionary or str(kind.__module__).startswith("capsule_sdk")


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

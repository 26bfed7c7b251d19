"""Self-check: whether LiteLLM still passes the parts that capture wraps.

A part may be missing in a newer LiteLLM, or be there and no longer used: renamed, with the old name kept as an
alias. Wrapping it succeeds then, and does nothing. So before a part is wrapped its users are asked: the code of
the functions that should look it up has to name it. Nothing is called, and nothing leaves a trace.

A part that is not passed any more is logged once with what that costs, and stands in `Recorder.stats` and in
``capsuled status``. Capture goes on: LiteLLM's events stand in for it.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ...logs import gap

__all__ = ["functions_of", "part_in_use"]


def part_in_use(
    owner: Any, names: Iterable[str], users: Iterable[Any], *, costs: str
) -> str | None:
    """Return the name by which LiteLLM looks up a part today.

    Args:
        owner: the module or class that has the part; ``None`` where this LiteLLM has not even that.
        names: what the part has been called, newest first.
        users: the functions, or their code, that look it up.
        costs: what its absence costs, for the log and the figures; a sentence without its full stop.

    Returns:
        The name; ``None`` where the part is missing or nobody looks it up, which is told once.

    """
    names, looked_up = tuple(names), _named_by(users)
    for name in names:
        if name in looked_up and callable(getattr(owner, name, None)):
            return name
    there = any(callable(getattr(owner, name, None)) for name in names)
    gap(f"LiteLLM's {names[0]} is {'no longer used' if there else 'missing'}", costs)
    return None


def functions_of(module: Any) -> Iterator[Any]:
    """Yield the functions that look up their names in a module, also those behind a decorator."""
    names = vars(module) if module is not None else {}
    for value in list(names.values()):
        for _ in range(4):
            if getattr(value, "__globals__", None) is names:
                yield value
            value = getattr(value, "__wrapped__", None)  # noqa: PLW2901 - the same, one layer deeper


def _named_by(users: Iterable[Any]) -> set[str]:
    """Return all names that the code of these functions looks up."""
    found: set[str] = set()
    for user in users:
        for code in _codes(user if isinstance(user, types.CodeType) else _code_of(user)):
            found.update(code.co_names)
    return found


def _code_of(function: Callable[..., Any]) -> types.CodeType | None:
    code = getattr(function, "__code__", None)
    return code if isinstance(code, types.CodeType) else None


def _codes(code: types.CodeType | None) -> Iterator[types.CodeType]:
    """Yield this code and that of all functions in it."""
    if code is not None:
        yield code
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                yield from _codes(const)

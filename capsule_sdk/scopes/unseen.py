"""Code that runs between a caller and a decorated function, and that no look at the stack finds there.

``warnings.warn(stacklevel=2)``, ``logging``'s ``stacklevel``, ``sys._getframe(1)`` and `inspect.stack` count
frames: in a decorated function they have to arrive at the user's caller, and a traceback must hold the user's
frames alone. CPython passes over a frame that has not reached its first ``RESUME`` instruction: to it, the call
is still being set up. So the mark stands behind the inner call here instead of before it. Tracers and profilers
see ``call`` and ``return`` of the frame in balance, after the inner call.

That is known of the versions in `KNOWN`, and tried once at import. Everywhere else the code stays as it is:
all works, and such looks find one frame more.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, Final

__all__ = ["unseen"]

KNOWN: Final = ((3, 11), (3, 12), (3, 13))
#: The name of the variable whose assignments, ``seen = None``, become the mark.
MARK: Final = "seen"


def unseen(code: CodeType) -> CodeType:
    """Return ``code`` so that its frame is seen from each ``seen = None`` on, where that is possible."""
    return _moved(code) if _works else code


def _moved(code: CodeType) -> CodeType:
    """Take the mark off the beginning, and put it where ``seen = None`` stands; every jump keeps its place."""
    resume, nothing = dis.opmap["RESUME"], dis.opmap["NOP"]
    steps = [code.co_code[start : start + 2] for start in range(0, len(code.co_code), 2)]
    given = dis.opmap["LOAD_CONST"], code.co_consts.index(None)
    taken = dis.opmap["STORE_FAST"], code.co_varnames.index(MARK)
    steps[steps.index(bytes((resume, 0)))] = bytes((nothing, 0))
    for place in range(len(steps) - 1):
        if steps[place] == bytes(given) and steps[place + 1] == bytes(taken):
            steps[place : place + 2] = bytes((resume, 0)), bytes((nothing, 0))
    return code.replace(co_code=b"".join(steps))


def _is_unseen() -> bool:
    """Try it: what a function that is called through such code finds one frame above itself."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] not in KNOWN:
        return False

    def probe(inner: Callable[[], Any]) -> Any:
        found = None
        try:
            found = inner()
        except ArithmeticError:
            seen = None
            raise
        seen = None  # noqa: F841 - the mark
        return found

    def raising() -> Any:
        raise ArithmeticError

    try:
        code = _moved(probe.__code__)
    except (ValueError, KeyError):
        return False
    marks = [step.opname for step in dis.get_instructions(code)].count("RESUME")
    through = FunctionType(code, probe.__globals__)
    if marks != 2 or through(lambda: sys._getframe(1).f_code) is not _is_unseen.__code__:
        return False
    try:
        through(raising)
    except ArithmeticError as error:
        below = error.__traceback__ and error.__traceback__.tb_next
        return below is not None and below.tb_frame.f_code is raising.__code__
    return False


_works = _is_unseen()

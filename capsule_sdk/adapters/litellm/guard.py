"""Guard: an error of ours on a call's way is reported, and reaches nobody."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Guard"]


class Guard:
    """What `Flight.guarded` returns, at a fraction of what a context manager of `contextlib` costs.

    Args:
        report: is given the place and the error.
        place: where it was, for the log.

    """

    __slots__ = ("_place", "_report")

    def __init__(self, report: Callable[[str, Exception], None], place: str) -> None:
        self._report = report
        self._place = place

    def __enter__(self) -> None:
        """Begin what may go wrong."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._report(self._place, error)
        return True

"""Telling: what the log hears of the journal of one recorder: what happens, and once a minute that it lasts.

It says what is so: where the journal is, whether records are in memory only, and which variable to set.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..clocks import monotonic
from ..directories import UnsafeError
from ..journal.files import Home
from ..journal.journal import Journal
from ..logs import errors, gaps, tell, tell_once

__all__ = ["REMINDER", "Telling"]

#: Seconds between two lines in the log about the same trouble.
REMINDER: Final = 60.0
_NAME_ANOTHER = (
    "name a directory of this user's own with CAPSULE_SDK_JOURNAL or configure(journal=...);"
    " QUANTUMPIPES_DATA_DIR moves chain, key and journals"
)
_UNSAFE = (
    "the journal is kept elsewhere: where it belongs, others could change it; mend that, or"
    f" {_NAME_ANOTHER}"
)
_UNUSABLE = (
    "the journal is kept elsewhere: where it belongs, it cannot be made; give this user the right to write"
    f" there, or {_NAME_ANOTHER}. What is kept is brought into the chain once that can be written"
)
_IN_MEMORY = (
    "the journal cannot be written: until the store has them, records are in memory only, and end with the"
    f" process; {_NAME_ANOTHER}"
)
_NOT_RENEWED = (
    "the journal cannot be renewed, and goes on in the file of before: give this user the right to write its"
    " directory again"
)


class Telling:
    """What was told of one journal so far. One thread at a time."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._next_reminder = 0.0
        self._gaps: tuple[Home | None, tuple[str, ...]] = (None, ())

    def forget(self) -> None:
        """Begin anew, in a forked child."""
        self._since = None

    def trouble(self, error: Exception, journal: Journal | None, *, misses: bool) -> None:
        """Tell that something with the journal failed.

        Args:
            error: how.
            journal: the journal, where there is one.
            misses: whether it lacks something that is not in the chain.

        """
        now = monotonic()
        if self._since is None:
            errors["recorder.journal"] += 1
            self._since, self._next_reminder = now, now
        if now >= self._next_reminder:
            self._next_reminder = now + REMINDER
            is_kept = journal is not None and journal.is_open and not misses
            event = _NOT_RENEWED if is_kept else _IN_MEMORY
            tell("error", event, error=f"{type(error).__name__}: {error}")

    def well(self, journal: Journal, homeless: Callable[[Path], str | None]) -> None:
        """Tell that it can be written, where it was not; and where it is, if that is not where it belongs.

        Args:
            journal: the journal.
            homeless: gives why nobody knows where the journals of a directory belong.

        """
        self.gaps(journal.home)
        reason, home = journal.refused or homeless(journal.root), journal.home
        if reason is not None and home is not None:
            event = _UNSAFE if isinstance(reason, UnsafeError) else _UNUSABLE
            tell_once("error", event, reason=str(reason), instead=str(home.path.parent))
        if self._since is not None:
            seconds = round(monotonic() - self._since, 1)
            tell("warning", "the journal can be written again", seconds=seconds)
            self._since = None

    def gaps(self, home: Home | None) -> None:
        """Leave in the journal what this process cannot record as it should, for ``capsuled status``."""
        lines = tuple(f"{what}: {costs}" for what, costs in [*gaps.items()])
        before = self._gaps[1] if self._gaps[0] is home else ()
        if home is not None and lines != before:
            self._gaps = home, lines
            with suppress(OSError):  # the log has it
                home.say_gaps(lines)

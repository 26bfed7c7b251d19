"""Words that capsules say about their own recording, and that readers look for. A leaf."""

from __future__ import annotations

from typing import Final

__all__ = ["CUT_OFF", "RECORDS_LOST"]

#: The error of a record whose process ended before it did.
CUT_OFF: Final = "process ended before completion"
#: In ``outcome.metrics`` of a capsule of type ``system``: how many records could not be recorded.
RECORDS_LOST: Final = "records_lost"

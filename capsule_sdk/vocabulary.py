"""Words that capsules say about their own recording, and that readers look for. A leaf."""

from __future__ import annotations

from typing import Final

__all__ = ["CUT_OFF", "END_LOST", "NOT_TAKEN", "RECORDS_LOST"]

#: The error of a record whose process ended before it did.
CUT_OFF: Final = "process ended before completion"
#: The error of a record of which the disk took the beginning, and neither disk nor store the end.
END_LOST: Final = "how it ended is lost: neither the store nor the disk took it"
#: The error of a capsule that stands for records that were lost.
NOT_TAKEN: Final = "neither the store nor the disk took them"
#: In ``outcome.metrics`` of a capsule of type ``system``: how many records could not be recorded.
RECORDS_LOST: Final = "records_lost"

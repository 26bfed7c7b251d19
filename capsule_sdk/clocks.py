"""A clock that only runs forward, for waiting and for measuring. A leaf.

Not ``time.monotonic``: tests that freeze the clock (freezegun, time-machine) stop that one, and a deadline
that was taken while it stood would come in fifty years, or never.
"""

from __future__ import annotations

import time
from functools import partial

__all__ = ["monotonic"]

#: Seconds since some moment, as ``time.monotonic`` has them; whoever freezes time does not know it.
monotonic = partial(time.clock_gettime, time.CLOCK_MONOTONIC)

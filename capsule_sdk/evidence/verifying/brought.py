"""Brought: whether a key or a checkpoint comes from whoever judges, or lies in the file that is judged. A leaf.

The rule is docs/decisions/0022-who-is-believed.md: the first is never weakened by the second.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["IN_THE_FILE", "Brought"]

#: Where a key or a checkpoint is from that a file brings with it: nobody's word but the file's.
IN_THE_FILE: Final = "in the file itself"


class Brought(Enum):
    """Who brought a key or a checkpoint."""

    #: Whoever judges: named on the command line, passed to `verify`, or kept on this machine.
    KEPT = "kept"
    #: The file. It can contradict itself with it; it cannot prove anything.
    EMBEDDED = "embedded"

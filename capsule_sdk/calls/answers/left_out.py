"""Left out: entries of an answer that are beyond its bounds. Their number and their digest are sealed."""

from __future__ import annotations

import hashlib
from typing import Any

from ...content import canonical, safe
from ...content.readers import Marker
from .reading import lean

__all__ = ["LeftOut"]


class LeftOut:
    """How many entries have been left out, and SHA3-256 over the canonical JSON of each, one a line."""

    __slots__ = ("_hash", "count")

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.sha3_256()

    def add(self, entry: Any) -> None:
        """Leave one out."""
        self.count += 1
        self._hash.update(canonical(safe(lean(entry))).encode() + b"\n")

    def join(self, other: LeftOut) -> None:
        """Leave out what another one has: its digest counts as one more line."""
        if other.count:
            self.count += other.count
            self._hash.update(other._hash.hexdigest().encode() + b"\n")

    def told(self, *, hashing: bool) -> Any:
        """Return what is sealed of them."""
        digest = {"sha3_256": Marker(self._hash.hexdigest())} if hashing else {}
        return {"entries": self.count, **digest}

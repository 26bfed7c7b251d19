"""Outbox: makes capsules of the records in line, and brings them into the chain in groups.

Rules it keeps:

- What cannot be committed now stays in line, and is tried again after a pause that grows.
- What can never be is replaced by a capsule that says so, under the same id; the others of its group do
  not suffer.

It imports qp-capsule and SQLAlchemy. That is done in the thread that begins the first record, never in the
writer: an import under way in another thread would be lost in a forked child, and could fail where the
interpreter is shutting down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ..chain import Chain
from ..errors import CapsuleRejected
from ..logs import errors, report, tell
from ..records.capsules import capsule_of, stand_in
from ..records.record import Record

if TYPE_CHECKING:
    from qp_capsule import Capsule

__all__ = ["Outbox"]

#: Seconds between two tries while the store is away: the first, and the longest.
RETRY_FIRST, RETRY_MOST = 0.05, 2.0


class Outbox:
    """Delivers to one chain, which it opens when there is something to deliver. One thread at a time."""

    def __init__(self, open_chain: Callable[[], Chain]) -> None:
        self._open_chain = open_chain
        self._chain: Chain | None = None
        #: How many records could not be made or stored; a stand-in has their place in the chain.
        self.failed = 0
        #: Seconds to wait before the next try; 0 while the store takes what it is given.
        self.pause = 0.0

    def open(self) -> None:
        """Open the chain, if that is possible yet; it touches no store. Later no thread may be had for it."""
        with suppress(Exception):
            self._chain = self._open_chain()

    def deliver(self, group: Sequence[Record]) -> int | None:
        """Commit the capsules of these records, and return how many there were.

        ``None``: the store is away, and whether any of them got there is not known.
        """
        capsules = {record: self._capsule(record) for record in group}
        while capsules:
            try:
                if self._chain is None:
                    self._chain = self._open_chain()
                self._chain.append(list(capsules.values()))
                break
            except CapsuleRejected as error:
                if not self._replace(capsules, error):
                    self._store_is_away(error)
                    return None
            except Exception as error:  # noqa: BLE001 - a custom storage may raise anything
                self._store_is_away(error)
                return None
        if self.pause:
            tell("warning", "the store is back")
        self.pause = 0.0
        return len(capsules)

    def close(self) -> None:
        """Close the chain; the next delivery opens it again."""
        chain, self._chain = self._chain, None
        if chain is not None:
            try:
                chain.close()
            except Exception as error:  # noqa: BLE001 - all that was to be committed is
                report("recorder.close", error)

    def _store_is_away(self, error: Exception) -> None:
        if not self.pause:
            errors["recorder.store"] += 1
            reason = f"{type(error).__name__}: {error}"
            tell("error", "the store is away, trying again", error=reason)
        self.pause = min(2 * self.pause, RETRY_MOST) or RETRY_FIRST

    def _capsule(self, record: Record) -> Capsule:
        if record.lost is not None:
            return stand_in(record, record.lost)
        try:
            return capsule_of(record)
        except Exception as error:  # noqa: BLE001 - it must not hold up the others
            capsule = self._lose(record, f"{type(error).__name__}: {error}")
            report("records", error, capsule_id=str(record.id))
            return capsule

    def _replace(self, capsules: dict[Record, Capsule], rejected: CapsuleRejected) -> bool:
        """Let a stand-in take the place of a capsule that cannot be stored; false if it is none of these."""
        for record in capsules:
            if str(record.id) != rejected.capsule_id:
                continue
            tell("error", "capsule rejected", capsule_id=str(record.id), reason=rejected.reason)
            if record.lost is None:
                capsules[record] = self._lose(record, rejected.reason)
            else:
                tell("error", "a record is lost: not even a stand-in for it can be stored")
                del capsules[record]
            return True
        return False

    def _lose(self, record: Record, reason: str) -> Capsule:
        record.lost = reason
        self.failed += 1
        return stand_in(record, reason)

"""Outbox: brings capsules into the chain in groups.

Rules it keeps:

- What cannot be committed now is left to be tried again, after a pause that grows.
- What can never be is replaced by a capsule that says so, under the same id; the others of its group do
  not suffer.

It imports qp-capsule and SQLAlchemy. That is done in the thread that begins the first record, never in the
writer: an import under way in another thread would be lost in a forked child, and could fail where the
interpreter is shutting down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from qp_capsule import Capsule

from ..chain import Chain
from ..chain.writer import ChainWriter
from ..clocks import monotonic
from ..errors import CapsuleRejected, ChainUnavailable
from ..logs import errors, report, tell
from ..records.capsules import capsule_or_stand_in, loss, stand_in_for
from ..records.record import Record
from ..vocabulary import NOT_TAKEN
from .checkpointing import Checkpointing
from .recovery import Found, capsule_again, recover
from .telling import REMINDER

__all__ = ["Outbox", "Parcel"]

#: Seconds between two tries while the store is away: the first, and the longest.
RETRY_FIRST, RETRY_MOST = 0.05, 2.0
#: Seconds without a commit after which the store folds, and the longest that it puts that off.
FOLD_QUIET, FOLD_LATEST = 0.25, 5.0


class Parcel:
    """A capsule on its way, and where it comes from: a record in memory, the backlog, or neither."""

    __slots__ = ("bare", "capsule", "dropped", "from_backlog", "lost", "record", "replaced")

    def __init__(
        self,
        capsule: Capsule,
        record: Record | None = None,
        *,
        from_backlog: bool = False,
        lost: int = 0,
    ) -> None:
        self.capsule = capsule
        self.record = record
        self.from_backlog = from_backlog
        #: How many records this capsule says are lost.
        self.lost = lost
        #: Whether it is a stand-in by now, and whether not even that can be stored.
        self.replaced = self.bare = self.dropped = False


class Outbox:
    """Delivers to one chain, which it opens when there is something to deliver. One thread at a time."""

    def __init__(
        self,
        open_chain: Callable[[], Chain],
        figures: Callable[[], dict[str, Any]] = dict,
        checkpoints: Checkpointing | None = None,
    ) -> None:
        self._open_chain = open_chain
        #: Gives what is to be said beside the store's coming and going.
        self._figures = figures
        #: Signs what was delivered, where that is wanted.
        self.checkpoints = checkpoints
        self._chain: Chain | None = None
        #: How many records could not be made or stored; a stand-in has their place in the chain.
        self.failed = 0
        #: Seconds to wait before the next try; 0 while the store takes what it is given.
        self.pause = 0.0
        #: Since when the store is away, on the clock of `time.monotonic`, why, and how often it was.
        self.away_since: float | None = None
        self.trouble: str | None = None
        self.times_away = 0
        #: When to have the store fold away what was committed, on the same clock; ``None`` when it is done.
        self.fold_due: float | None = None
        self._fold_latest = 0.0
        self._fold_pause = FOLD_QUIET
        self._next_reminder = 0.0

    def open(self) -> None:
        """Open the chain, if that is possible yet; it touches no store. Later no thread may be had for it."""
        with suppress(Exception):
            self._chain = self._open_chain()

    def packed(self, record: Record) -> Parcel:
        """Return the capsule of a complete record; a stand-in for it where none can be made."""
        capsule, error = capsule_or_stand_in(record)
        if error is not None:
            self._lose(record, f"{type(error).__name__}: {error}")
            report("records", error, capsule_id=str(record.id))
        return Parcel(capsule, record)

    def document(self, record: Record) -> dict[str, Any]:
        """Return the capsule of a complete record, or its stand-in, as it waits on disk."""
        capsule = self.packed(record).capsule
        try:
            return capsule.to_dict()
        except Exception as error:  # noqa: BLE001 - it must not hold up the others
            self._lose(record, f"{type(error).__name__}: {error}")
            return _stand_in_for(capsule, f"{type(error).__name__}: {error}").to_dict()

    def instead(self, document: dict[str, Any], error: Exception) -> dict[str, Any]:
        """Return what takes the place of a capsule that cannot be written to disk."""
        self.failed += 1
        report("records", error, capsule_id=document["id"])
        reason = f"{type(error).__name__}: {error}"
        return loss(1, reason, UUID(document["id"])).to_dict()

    def unpacked(self, document: dict[str, Any]) -> Parcel:
        """Return a capsule that has waited on disk."""
        return Parcel(capsule_again(document), from_backlog=True)

    def loss(self, count: int, key: UUID) -> Parcel:
        """Return a capsule that says how many records were lost, under this id."""
        return Parcel(loss(count, NOT_TAKEN, key), lost=count)

    def deliver(self, parcels: Sequence[Parcel]) -> int | None:
        """Commit these capsules, and return how many were not there yet.

        ``None``: the store is away, and it is not known whether any got there. A capsule that the store will
        never take is replaced by a stand-in.
        """
        while capsules := [parcel.capsule for parcel in parcels if not parcel.dropped]:
            try:
                if self._chain is None:
                    self._chain = self._open_chain()
                added = self._chain.append(capsules)
                self._note(self._chain, capsules)
                break
            except CapsuleRejected as error:
                if not self._replace(parcels, error):
                    self._store_is_away(error)
                    return None
            except Exception as error:  # noqa: BLE001 - a custom storage may raise anything
                self._store_is_away(error)
                return None
        else:
            return 0  # nothing was left to deliver, so nobody knows whether the store is there
        if self.away_since is not None:
            seconds = round(monotonic() - self.away_since, 1)
            tell("warning", "the store is back", seconds=seconds, **self._figures())
        self.pause, self.away_since, self.trouble = 0.0, None, None
        if added:
            self._put_off_fold()
        return added

    def recover(self, journals: Path, deliver: Callable[[Sequence[Parcel]], int | None]) -> Found:
        """Have ``deliver`` bring what processes that are no more have left behind into the chain."""
        return recover(journals, lambda capsules: deliver([Parcel(one) for one in capsules]))

    def _put_off_fold(self) -> None:
        """Have the store fold when it has been quiet for a moment, or has not been for long."""
        now = monotonic()
        if self.fold_due is None:
            self._fold_latest = now + FOLD_LATEST
        self.fold_due = min(now + self._fold_pause, max(self._fold_latest, now))

    def fold(self) -> None:
        """Have the store fold away what was committed, so that its file alone is a whole copy.

        Where a reader is in the way it is tried again later: nobody waits for it.
        """
        if self.fold_due is None or self._chain is None:
            return
        try:
            done = self._chain.fold()
        except Exception as error:  # noqa: BLE001 - all that was to be committed is
            report("recorder.fold", error)
            done = True
        self._fold_pause = FOLD_QUIET if done else min(2 * self._fold_pause, FOLD_LATEST)
        self.fold_due = None if done else monotonic() + self._fold_pause

    def close(self) -> None:
        """Let the chain close; the next delivery has it open again."""
        if self._chain is not None:
            try:
                self.fold_due = None
                self._chain.close()
            except Exception as error:  # noqa: BLE001 - all that was to be committed is
                report("recorder.close", error)

    def _note(self, chain: Chain, capsules: Sequence[Capsule]) -> None:
        if self.checkpoints is not None and isinstance(chain, ChainWriter):
            self.checkpoints.committed(chain, capsules)

    def _store_is_away(self, error: Exception) -> None:
        now = monotonic()
        self.trouble = f"{type(error).__name__}: {error}"
        if self.away_since is None:
            errors["recorder.store"] += 1
            self.away_since, self._next_reminder = now, now
            self.times_away += 1
        if now >= self._next_reminder:
            self._next_reminder = now + REMINDER
            seconds = round(now - self.away_since, 1)
            event = "the store is away, trying again"
            tell("error", event, error=self.trouble, seconds=seconds, **self._figures())
        got_further = isinstance(error, ChainUnavailable) and error.added > 0
        self.pause = (
            RETRY_FIRST if got_further or not self.pause else min(2 * self.pause, RETRY_MOST)
        )

    def _replace(self, parcels: Sequence[Parcel], rejected: CapsuleRejected) -> bool:
        """Let a stand-in take the place of a capsule that cannot be stored; false if it is none of these."""
        for parcel in parcels:
            if str(parcel.capsule.id) != rejected.capsule_id:
                continue
            tell(
                "error", "capsule rejected", capsule_id=rejected.capsule_id, reason=rejected.reason
            )
            if parcel.replaced and not parcel.bare:  # what its stand-in took from it is at fault
                parcel.capsule, parcel.bare = loss(1, rejected.reason, parcel.capsule.id), True
            elif parcel.replaced:
                tell("error", "a record is lost: not even a stand-in for it can be stored")
                parcel.dropped = True
            else:
                self._lose(parcel.record, rejected.reason)
                parcel.capsule = _stand_in_for(parcel.capsule, rejected.reason)
                parcel.replaced = True
            return True
        return False

    def _lose(self, record: Record | None, reason: str) -> None:
        """Note that a record is lost, on it and on all above it: whoever waits for one of these is to know."""
        self.failed += 1
        while record is not None and record.lost is None:
            record.lost = reason
            record = record.parent


def _stand_in_for(capsule: Capsule, reason: str) -> Capsule:
    try:
        return stand_in_for(capsule, reason)
    except Exception:  # noqa: BLE001 - it may be of another version, and anything be wrong with it
        return loss(1, reason, capsule.id)

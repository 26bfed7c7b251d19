"""Checkpointing: signs, every so many capsules or seconds, what this process has brought into its chains.

- A head is noted once its commit has returned, and never read back: nothing is vouched for but what this
  process has sealed itself. A commit whose outcome was unknown is covered by the next one.
- No capsule waits for a checkpoint, and no error here touches one: what could not be written is tried again.
- A directory that is missing is not made: it may be a disk that is not mounted.

Each chain has a directory of its own, named by the hash of its first capsule; so tenants, and databases begun
anew, do not meet. Used by one thread at a time, the one that makes the rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from qp_capsule import Capsule

from ..chain.checkpoint import Checkpoint, default_origin, sign
from ..chain.checkpoint_files import add_to
from ..chain.placing import make_private, sync_directory
from ..chain.writer import ChainWriter
from ..clocks import monotonic
from ..logs import errors, tell
from ..settings import Settings
from .telling import REMINDER

__all__ = ["Checkpointing", "checkpointing_of"]

#: Seconds after which what could not be written is tried again.
RETRY = 5.0
#: The most that are written in one round, so that commits do not wait for those of a thousand tenants.
PER_ROUND: Final = 50
#: Of how many chains the first hash is kept; it is read again where it is not.
_FIRST_HASHES: Final = 1024
_NAME_LENGTH: Final = 16  # of the hash that names a directory


def checkpointing_of(settings: Settings) -> Checkpointing | None:
    """Return what writes the checkpoints that the settings want; ``None`` where they want none."""
    if settings.checkpoint is None:
        return None
    return Checkpointing(
        Path(settings.checkpoint), settings.checkpoint_capsules, settings.checkpoint_seconds
    )


@dataclass(slots=True)
class _Head:
    """The end of one chain, of which no checkpoint speaks yet."""

    due: float
    sequence: int = 0
    hash: str = ""
    capsules: int = 0
    failed: bool = False


class Checkpointing:
    """Writes the checkpoints of one recorder."""

    def __init__(self, directory: Path, capsules: int, seconds: float) -> None:
        self._directory = directory
        self._capsules = capsules
        self._seconds = seconds
        self._next_reminder = 0.0
        self.forget()

    def forget(self) -> None:
        """Leave what has been noted to the process that this one was forked from."""
        #: Why checkpoints cannot be written just now.
        self.trouble: str | None = None
        self._chain: ChainWriter | None = None
        self._heads: dict[str | None, _Head] = {}
        self._first_hashes: dict[str | None, str | None] = {}
        self._due = math.inf

    def committed(self, chain: ChainWriter, capsules: Iterable[Capsule]) -> None:
        """Note capsules whose commit has just returned, in their order."""
        now = monotonic()
        self._chain = chain
        for capsule in capsules:
            if not capsule.hash:  # it was there already
                continue
            tenant = chain.tenant_of(capsule)
            head = self._heads.get(tenant)
            if head is None:
                head = self._heads[tenant] = _Head(now + self._seconds)
            head.sequence, head.hash = capsule.sequence, capsule.hash
            head.capsules += 1
            if head.capsules == self._capsules:
                head.due = now
            if capsule.sequence == 0:
                self._first_hashes[tenant] = capsule.hash
            self._due = min(self._due, head.due)

    def due(self) -> float | None:
        """Return when `tend` has something to do, on the clock of `time.monotonic`."""
        return None if math.isinf(self._due) else self._due

    def tend(self, last_until: float | None = None) -> None:
        """Write the checkpoints that are due. Cheap where none is.

        Args:
            last_until: nobody comes back later: all are due, and written until this moment; the first
                of them in any case.

        """
        now = monotonic()
        if last_until is None and now < self._due:
            return
        due = [
            tenant
            for tenant, head in self._heads.items()
            if last_until is not None or head.due <= now
        ]
        for tenant in due if last_until is not None else due[:PER_ROUND]:
            self._try(tenant)
            if last_until is not None and monotonic() > last_until:
                break
        self._due = min((head.due for head in self._heads.values()), default=math.inf)

    def _try(self, tenant: str | None) -> None:
        head = self._heads[tenant]
        try:
            self._write(tenant, head)
        except Exception as error:  # noqa: BLE001 - the chain goes on without
            head.due, head.failed = monotonic() + RETRY, True
            self._complain(error)
        else:
            del self._heads[tenant]
            if self.trouble is not None and not any(one.failed for one in self._heads.values()):
                self.trouble = None
                tell("warning", "checkpoints can be written again", directory=str(self._directory))

    def _write(self, tenant: str | None, head: _Head) -> None:
        chain = self._chain
        assert chain is not None  # noqa: S101 - it has committed what is to be signed
        first_hash = self._first_hash(chain, tenant)
        checkpoint = Checkpoint(
            default_origin(first_hash), head.sequence + 1, head.hash, datetime.now(UTC)
        )
        directory = self._directory / str(first_hash)[:_NAME_LENGTH]
        if not directory.is_dir():
            if not self._directory.is_dir():
                raise FileNotFoundError(
                    f"there is no directory {self._directory}: make or mount it"
                )
            make_private(directory)
            sync_directory(self._directory)
        add_to(directory, checkpoint, sign(checkpoint, chain.signing_key()))

    def _first_hash(self, chain: ChainWriter, tenant: str | None) -> str | None:
        if tenant not in self._first_hashes:
            if len(self._first_hashes) >= _FIRST_HASHES:
                self._first_hashes.clear()
            self._first_hashes[tenant] = chain.first_hash(tenant)
        return self._first_hashes[tenant]

    def _complain(self, error: Exception) -> None:
        now = monotonic()
        if self.trouble is None:
            errors["recorder.checkpoint"] += 1
            self._next_reminder = now
        self.trouble = f"{type(error).__name__}: {error}"
        if now >= self._next_reminder:
            self._next_reminder = now + REMINDER
            tell("error", "checkpoints cannot be written, trying again", error=self.trouble)

"""Stats: what a recorder says of itself. Data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """What a recorder has done so far, in this process.

    Attributes:
        open: tasks and calls that have not ended yet.
        submitted: records that have ended, and those that could not begin.
        committed: of these, how many are durably in the chain.
        pending: of these, how many are not yet.
        failed: of these, how many could not be recorded; a capsule of type ``system`` says so in their place.
        lost: of these, how many neither the store nor the disk took, or could not begin because a part of the
            installation is missing; one such capsule says how many, once that can be sealed.
        recovered: capsules brought into the chain that processes before this one had left behind.
        errors: internal errors in this process, in whatever recorder.
        commit_lag: seconds from the end of the last committed record to its commit.
        store_away: for how many seconds the store has been away; ``None`` while it takes what it is given.
        store_trouble: why it is away.
        times_away: how often it went away.
        journal_size: bytes of this process's journal, with all that waits there for the store.
        journal_trouble: why the journal cannot be written; ``None`` while it can.
        gaps: what this process cannot record as it should, and what each costs: parts of LiteLLM that capture
            relies on, and that this version does not have, or does not use. Empty where all is well.
        checkpoint_trouble: why checkpoints cannot be written; ``None`` while they can, or none are wanted.

    """

    open: int
    submitted: int
    committed: int
    pending: int
    failed: int
    lost: int
    recovered: int
    errors: int
    commit_lag: float
    store_away: float | None
    store_trouble: str | None
    times_away: int
    journal_size: int
    journal_trouble: str | None
    checkpoint_trouble: str | None
    gaps: tuple[str, ...] = ()

"""Findings: all that can be wrong with a chain, each a code for machines and a sentence for people.

The codes are a closed set: whoever reads them can know them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

__all__ = ["CHECKED", "MOST", "Finding", "Findings", "Reason", "Severity"]

#: Findings of one code that are listed; more are counted: so many have one cause, and would fill the memory.
MOST: Final = 100_000


class Severity(StrEnum):
    """What a finding says about the chain."""

    #: The chain contradicts itself, a key or a checkpoint.
    BROKEN = "broken"
    #: Something is open, or out of the ordinary, that has harmless causes too.
    DOUBTFUL = "doubtful"


class Reason(StrEnum):
    """Why a record, or the chain, is not as it should be."""

    MALFORMED = "malformed"
    SEQUENCE_GAP = "sequence_gap"
    SEQUENCE_REPEATED = "sequence_repeated"
    LINK_BROKEN = "link_broken"
    HASH_MISMATCH = "hash_mismatch"
    SIGNATURE_MISSING = "signature_missing"
    SIGNATURE_INVALID = "signature_invalid"
    SIGNER_MISMATCH = "signer_mismatch"
    KEY_UNKNOWN = "key_unknown"
    COLUMN_MISMATCH = "column_mismatch"
    ID_REPEATED = "id_repeated"
    PARENT_MISSING = "parent_missing"
    CHILDREN_MISSING = "children_missing"
    CHILDREN_OPEN = "children_open"
    CHILDREN_UNANNOUNCED = "children_unannounced"
    CHILDREN_MISMATCH = "children_mismatch"
    TIME_BACKWARDS = "time_backwards"
    RECORDS_LOST = "records_lost"
    END_LOST = "end_lost"
    CHECKPOINT_INVALID = "checkpoint_invalid"
    CHECKPOINT_MISMATCH = "checkpoint_mismatch"
    CHECKPOINT_TRUNCATED = "checkpoint_truncated"
    SELECTION_INCOMPLETE = "selection_incomplete"

    @property
    def severity(self) -> Severity:
        """Whether it breaks the chain, or leaves a doubt."""
        return Severity.DOUBTFUL if self in _DOUBTFUL else Severity.BROKEN


_DOUBTFUL: Final = frozenset(
    {
        Reason.PARENT_MISSING, Reason.CHILDREN_OPEN, Reason.TIME_BACKWARDS, Reason.RECORDS_LOST,
        Reason.END_LOST,
    }
)  # fmt: skip

#: What was being checked when each of them was found.
CHECKED: Final = {
    "content": {Reason.MALFORMED, Reason.HASH_MISMATCH, Reason.COLUMN_MISMATCH, Reason.ID_REPEATED},
    "signatures": {
        Reason.SIGNATURE_MISSING, Reason.SIGNATURE_INVALID, Reason.SIGNER_MISMATCH, Reason.KEY_UNKNOWN,
    },
    "order and links": {
        Reason.SEQUENCE_GAP, Reason.SEQUENCE_REPEATED, Reason.LINK_BROKEN, Reason.TIME_BACKWARDS,
    },
    "tasks": {
        Reason.PARENT_MISSING, Reason.CHILDREN_MISSING, Reason.CHILDREN_OPEN, Reason.CHILDREN_UNANNOUNCED,
        Reason.CHILDREN_MISMATCH, Reason.SELECTION_INCOMPLETE,
    },
    "losses": {Reason.RECORDS_LOST, Reason.END_LOST},
    "end of the chain": {
        Reason.CHECKPOINT_INVALID, Reason.CHECKPOINT_MISMATCH, Reason.CHECKPOINT_TRUNCATED,
    },
}  # fmt: skip

#: One sentence each; the detail, where there is one, stands behind it in brackets.
_SENTENCES: Final = {
    Reason.MALFORMED: "This is not a record as the Capsule Protocol defines it, so it proves nothing.",
    Reason.SEQUENCE_GAP: "Records that should stand before this one are missing.",
    Reason.SEQUENCE_REPEATED: "This record stands where another one should: records were moved, copied or"
    " put in.",
    Reason.LINK_BROKEN: "This record does not continue the one before it: something between them was"
    " removed, put in or replaced.",
    Reason.HASH_MISMATCH: "What this record says is not what was sealed: it was changed afterwards.",
    Reason.SIGNATURE_MISSING: "This record carries no signature, so nobody vouches for it.",
    Reason.SIGNATURE_INVALID: "The signature does not fit: it was altered, or made without the key.",
    Reason.SIGNER_MISMATCH: "This record was sealed with another key than the one it names.",
    Reason.KEY_UNKNOWN: "This record was sealed with a key that is not among those given, so it cannot be"
    " told who vouches for it.",
    Reason.COLUMN_MISMATCH: "What the database finds this record by differs from what was sealed: one of the"
    " two was altered.",
    Reason.ID_REPEATED: "Another record has the same id: one of them is a copy.",
    Reason.PARENT_MISSING: "The task that this record belongs to is not in the chain: it is still running, is"
    " recorded elsewhere, or was cut off.",
    Reason.CHILDREN_MISSING: "This task names records under it that are not in the chain: they were removed.",
    Reason.CHILDREN_OPEN: "Records under this task had not ended when it was sealed, and are not in the chain:"
    " they are still running, or were cut off.",
    Reason.CHILDREN_UNANNOUNCED: "More records hang under this task than it names: some were put in.",
    Reason.CHILDREN_MISMATCH: "The records under this task are not those that it names: some were replaced.",
    Reason.TIME_BACKWARDS: "By its own account this record was sealed before it began, or before the one that"
    " it follows: a clock was set back, two clocks differ, or the time was altered.",
    Reason.RECORDS_LOST: "The program itself says here that it could not record everything.",
    Reason.END_LOST: "How this record ended is lost, as it says itself: neither the store nor the disk took"
    " that.",
    Reason.CHECKPOINT_INVALID: "The signature of this checkpoint fits none of the keys given, so it proves"
    " nothing about the chain.",
    Reason.CHECKPOINT_MISMATCH: "The chain is not the one that the checkpoint was made of: it was rewritten.",
    Reason.CHECKPOINT_TRUNCATED: "The chain is shorter than when the checkpoint was made: its end was cut off,"
    " or an older state was put back.",
    Reason.SELECTION_INCOMPLETE: "The selection does not hold what it claims to.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or open.

    Attributes:
        reason: its code.
        sequence: the number of the record, as it says; ``None`` where there is none.
        id: the record's id; ``None`` where there is none.
        position: the place of the record in the source, counted from 0; ``None`` for the chain as a whole.
        detail: what exactly was found, for those who look into it.
        lost: how many records it says are lost.

    """

    reason: Reason
    sequence: int | None = None
    id: str | None = None
    position: int | None = None
    detail: str = ""
    lost: int = 0

    @property
    def severity(self) -> Severity:
        """Whether it breaks the chain, or leaves a doubt."""
        return self.reason.severity

    @property
    def sentence(self) -> str:
        """What it means, in one sentence."""
        return _SENTENCES[self.reason]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "reason": str(self.reason),
            "severity": str(self.severity),
            "sequence": self.sequence,
            "id": self.id,
            "position": self.position,
            "sentence": self.sentence,
            "detail": self.detail,
        }


class Findings:
    """What was found so far.

    Attributes:
        listed: of each code, the first `MOST`.
        counts: how many there are of each code.

    """

    def __init__(self) -> None:
        self.listed: list[Finding] = []
        self.counts: Counter[Reason] = Counter()

    def add(self, found: Iterable[Finding]) -> None:
        """Take more in."""
        for one in found:
            self.counts[one.reason] += 1
            if self.counts[one.reason] <= MOST:
                self.listed.append(one)

    def in_order(self) -> list[Finding]:
        """Return those that are listed in the order of the chain; last those of the chain as a whole."""
        return sorted(self.listed, key=lambda one: (one.position is None, one.position or 0))

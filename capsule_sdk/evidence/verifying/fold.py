"""Fold: the records of a chain, one after the other, into what is to be said of the whole. Pure.

One record by itself is looked at in `record`, tasks and their children in `families`, checkpoints in
`checkpoints`; here is the order of the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from capsule_sdk.errors import EvidenceError

from ..selection import Selection
from .checkpoints import Checkpoints
from .families import Families
from .findings import Finding, Findings, Reason
from .grounds import Grounds
from .keys import TrustedKey
from .record import Facts

__all__ = ["Fold", "subtree_of"]


def subtree_of(chosen: Selection | None) -> str | None:
    """Return the task of which a selection claims to hold all there is."""
    return chosen.task if chosen is not None and chosen == Selection(task=chosen.task) else None


@dataclass(slots=True)
class Fold:
    """The chain so far."""

    grounds: Grounds
    kept: Checkpoints
    embedded: Checkpoints
    partial: bool
    families: Families = field(default_factory=Families)
    findings: Findings = field(default_factory=Findings)
    signers: Counter[int] = field(default_factory=Counter)
    count: int = 0
    expected: int = 0
    previous: Facts | None = None
    head: str | None = None
    approvals: int = 0
    post_quantum: int = 0
    of_tenant: Counter[bool | None] = field(default_factory=Counter)
    silent: int = 0
    malformed: int = 0

    @classmethod
    def on(cls, grounds: Grounds, *, partial: bool) -> Fold:
        """Begin, on these grounds; ``partial`` where some records of a chain are expected."""
        kept, every = (
            [key.public_key for key in keys] for keys in (grounds.kept_keys, grounds.keys or ())
        )
        return cls(
            grounds, Checkpoints(grounds.kept, kept), Checkpoints(grounds.embedded, every), partial
        )

    def chosen_by(self, claim: Mapping[str, Any] | None) -> Selection | None:
        """Read a claim; one that cannot be read is a finding."""
        try:
            return Selection.from_claim(claim) if claim is not None else None
        except EvidenceError as error:
            self.findings.add([Finding(Reason.SELECTION_INCOMPLETE, detail=str(error))])
            return None

    def add(self, facts: Facts) -> None:
        """Take in what the next record says."""
        position, self.count = self.count, self.count + 1
        faults = [*facts.faults, *self._misplaced(facts)]
        where = facts.sequence, facts.id, position
        if faults:
            self.findings.add(Finding(reason, *where, detail) for reason, detail in faults)
        if lost := facts.lost:
            self.findings.add([Finding(Reason.RECORDS_LOST, *where, f"{lost} in all", lost)])
        for checkpoints in (self.kept, self.embedded):
            if checkpoints:
                checkpoints.compare(facts, position)
        self.families.add(facts, position)
        self.approvals += facts.approval
        self.post_quantum += facts.post_quantum
        self.of_tenant[facts.of_tenant] += 1
        self.silent += facts.silent
        self.malformed = self.malformed + 1 if facts.id is None else 0
        if facts.signer is not None:
            self.signers[facts.signer] += 1
        self.head = facts.hash or self.head
        if facts.sequence is not None:
            self.expected = max(self.expected, facts.sequence + 1)
        self.previous = facts

    def _misplaced(self, facts: Facts) -> Iterator[tuple[Reason, str]]:
        """Look at where a record stands: its number, what it continues, and when it was sealed."""
        sequence, previous = facts.sequence, self.previous
        if sequence is None:
            if not facts.faults:
                yield Reason.SEQUENCE_GAP, "it has no number that can be used"
            return
        if sequence < self.expected:
            yield Reason.SEQUENCE_REPEATED, f"number {self.expected} should stand here"
        elif sequence > self.expected and not self.partial:
            yield Reason.SEQUENCE_GAP, _range_of(self.expected, sequence - 1)
        if sequence == 0 and facts.previous_hash is not None:
            yield Reason.LINK_BROKEN, "the first record of a chain continues none"
        if _is_before(facts.signed_at, facts.started_at):
            yield Reason.TIME_BACKWARDS, "it was sealed before it began"
        if previous is None or previous.sequence != sequence - 1:
            return  # what should stand before it is not there, which was said already
        if facts.previous_hash != previous.hash:
            yield Reason.LINK_BROKEN, ""
        if _is_before(facts.signed_at, previous.signed_at):
            yield Reason.TIME_BACKWARDS, "it was sealed before the one it follows"

    def end(self, chosen: Selection | None, *, at_the_end: bool) -> None:
        """Look at what can only be told of the whole."""
        self.families.complete()
        self.findings.add(self.families.repeated())
        self.findings.add(
            Finding(Reason.CHECKPOINT_INVALID, detail=fault) for fault in self.grounds.faults
        )
        for checkpoints in (self.kept, self.embedded):
            self.findings.add(checkpoints.end(whole=at_the_end and not self.partial))
        if at_the_end:
            self.findings.add(self._missing(subtree_of(chosen)))

    def _missing(self, task: str | None) -> Iterator[Finding]:
        families = self.families
        if not self.partial:
            yield from families.orphans()
        if not self.partial or task is not None:
            yield from families.children()
        if task is not None and families.roots() != [task.lower()]:
            detail = f"it claims to be task {task} and all that belongs to it"
            yield Finding(Reason.SELECTION_INCOMPLETE, detail=detail)

    def out_of_reach(self) -> int:
        """Return how many kept checkpoints name no record that a selection holds."""
        return len(self.kept.left()) if self.partial else 0

    def signers_of(self, keys: Sequence[TrustedKey]) -> dict[str, int]:
        """Return how many signatures fit which of the keys that they were checked with."""
        return {keys[place].public_key: count for place, count in self.signers.most_common()}


def _is_before(moment: float | None, other: float | None) -> bool:
    return moment is not None and other is not None and moment < other


def _range_of(first: int, last: int) -> str:
    return (
        f"number {first} is missing" if first == last else f"numbers {first} to {last} are missing"
    )

"""Verify: a chain judged with nothing but the chain, public keys and checkpoints. Reads, never writes.

All findings are given, not the first; and what was *not* checked is said as plainly as what was. What is looked
at in one record by itself is in `capsule_sdk.evidence.record`, what its tasks say of their children in
`capsule_sdk.evidence.families`; here are the order of the records and the verdict.

It does not handle: whether what a record says was true, whether a clock was right, signatures of the second,
post-quantum kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from capsule_sdk.errors import EvidenceError

from .checkpoints import Checkpoints, KnownCheckpoint
from .families import Families
from .findings import CHECKED, Finding, Findings, Reason, Severity
from .keys import TrustedKey
from .record import Facts
from .sources import Source
from .wording import counted
from .workers import check_records

__all__ = ["Check", "Verdict", "verify"]

#: Records between two calls of ``progress``.
_STEP = 500


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, or could not be.

    Attributes:
        name: its name.
        done: whether it was checked.
        words: what exactly was checked, or why it could not be.
        findings: how many of the findings are of this check.

    """

    name: str
    done: bool
    words: str
    findings: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of a chain.

    Attributes:
        source: what was read.
        claim: what it says that it is a selection of; ``None`` for what has to be a whole chain.
        records: how many records it holds.
        head: the hash of the last of them; ``None`` where there is none.
        findings: what is wrong, in the order of the chain: all of it, or of one code the first
            `capsule_sdk.evidence.findings.MOST`.
        counts: how many findings there are of each code.
        checks: what was checked, and what was not.
        signers: how many signatures fit which public key.
        approvals: how many records say that a human approved them.
        unread: why the rest of the source could not be read; ``None`` where all of it was.

    """

    source: str
    claim: Mapping[str, Any] | None
    records: int
    head: str | None
    findings: Sequence[Finding]
    counts: Mapping[Reason, int]
    checks: Sequence[Check]
    signers: Mapping[str, int]
    approvals: int
    unread: str | None

    @property
    def broken(self) -> bool:
        """Whether something contradicts what the chain claims to be."""
        return any(reason.severity is Severity.BROKEN for reason in self.counts)

    @property
    def whole(self) -> bool:
        """Whether all of it was read, and nothing contradicts what it claims to be."""
        return not self.broken and self.unread is None

    @property
    def doubtful(self) -> bool:
        """Whether something is open or out of the ordinary."""
        return any(reason.severity is Severity.DOUBTFUL for reason in self.counts)


def verify(
    source: Source,
    keys: Sequence[TrustedKey] | None = None,
    *,
    checkpoints: Sequence[KnownCheckpoint] = (),
    selection: bool = False,
    processes: int = 0,
    progress: Callable[[int], object] = lambda _: None,
) -> Verdict:
    """Judge a chain.

    Args:
        source: see `capsule_sdk.evidence.sources.open_source`.
        keys: public keys that are trusted; ``None`` leaves the signatures unchecked.
        checkpoints: heads that the chain is known to have had.
        selection: the source holds some records of a chain and does not claim to hold all; a bundle or a
            report says so itself.
        processes: how many processes to use beside this one; 0 does all in this one.
        progress: called now and then with the number of records checked so far.

    Returns:
        The verdict. It is given whatever the records hold; nothing in them raises.

    Raises:
        EvidenceError: the source cannot be read. One that can be read in part is judged in part.

    """
    claim = _claim(source)
    fold = _Fold(Checkpoints(checkpoints, keys), claim is not None or selection)
    public = None if keys is None else [key.for_checking() for key in keys]
    unread = None
    with closing(fold.families):
        try:
            for facts in check_records(source.entries(), public, processes):
                fold.add(facts)
                if fold.count % _STEP == 0:
                    progress(fold.count)
        except EvidenceError as error:
            if not fold.count:
                raise
            unread = str(error)
        progress(fold.count)
        fold.end(claim, at_the_end=unread is None)
    return Verdict(
        source=source.name,
        claim={} if claim is None and selection else claim,
        records=fold.count,
        head=fold.previous.hash if fold.previous else None,
        findings=fold.findings.in_order(),
        counts=fold.findings.counts,
        checks=list(_checks(fold, keys, claim)),
        signers=fold.signers_of(keys or ()),
        approvals=fold.approvals,
        unread=unread,
    )


def _claim(source: Source) -> Mapping[str, Any] | None:
    """Return what a bundle or a report claims to be a selection of; ``None`` for a whole chain."""
    claim = source.manifest.get("selection") if source.manifest else None
    return claim if isinstance(claim, Mapping) and claim else None


def _subtree(claim: Mapping[str, Any] | None) -> str | None:
    """Return the task of which a selection claims to hold all there is."""
    task = claim.get("task") if claim is not None and claim.keys() == {"task"} else None
    return task if isinstance(task, str) else None


@dataclass(slots=True)
class _Fold:
    """The chain so far."""

    checkpoints: Checkpoints
    partial: bool
    families: Families = field(default_factory=Families)
    findings: Findings = field(default_factory=Findings)
    signers: Counter[int] = field(default_factory=Counter)
    count: int = 0
    expected: int = 0
    previous: Facts | None = None
    approvals: int = 0
    post_quantum: int = 0

    def add(self, facts: Facts) -> None:
        position, self.count = self.count, self.count + 1
        faults = [*facts.faults, *self._misplaced(facts)]
        if facts.lost:
            faults.append((Reason.RECORDS_LOST, f"{facts.lost} in all"))
        self.findings.add(
            Finding(reason, facts.sequence, facts.id, position, detail) for reason, detail in faults
        )
        self.findings.add(self.checkpoints.compare(facts, position))
        self.families.add(facts, position)
        self.approvals += facts.approval
        self.post_quantum += facts.post_quantum
        if facts.signer is not None:
            self.signers[facts.signer] += 1
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
        if previous is None or previous.sequence != sequence - 1:
            return  # what should stand before it is not there, which was said already
        if facts.previous_hash != previous.hash:
            yield Reason.LINK_BROKEN, ""
        if facts.signed_at is not None and previous.signed_at is not None:
            seconds = previous.signed_at - facts.signed_at
            if seconds > 0:
                yield Reason.TIME_BACKWARDS, f"by {seconds:.6f} seconds"

    def end(self, claim: Mapping[str, Any] | None, *, at_the_end: bool) -> None:
        """Look at what can only be told of the whole."""
        self.families.complete()
        self.findings.add(self.families.repeated())
        self.findings.add(self.checkpoints.invalid)
        if at_the_end:
            self.findings.add(self._missing(_subtree(claim)))

    def _missing(self, task: str | None) -> Iterator[Finding]:
        families = self.families
        if not self.partial:
            yield from families.orphans()
            yield from self.checkpoints.end()
        if not self.partial or task is not None:
            yield from families.children()
        if task is not None and families.roots() != [task.lower()]:
            detail = f"it claims to be task {task} and all that belongs to it"
            yield Finding(Reason.SELECTION_INCOMPLETE, detail=detail)

    def signers_of(self, keys: Sequence[TrustedKey]) -> dict[str, int]:
        return {keys[place].public_key: count for place, count in self.signers.most_common()}


def _range_of(first: int, last: int) -> str:
    return (
        f"number {first} is missing" if first == last else f"numbers {first} to {last} are missing"
    )


def _checks(
    fold: _Fold, keys: Sequence[TrustedKey] | None, claim: Mapping[str, Any] | None
) -> Iterator[Check]:
    """Say what was checked, and what was not and why."""
    found = fold.findings.counts

    def check(name: str, words: str, *, done: bool = True) -> Check:
        findings = sum(found[reason] for reason in CHECKED.get(name, ()))
        return Check(name, done or findings > 0, words, findings)

    yield check("content", "the SHA3-256 hash of what each record holds (CPS 3.5), and its form")
    if keys is None:
        words = "no public key was given, so anybody could have sealed these records"
        yield check("signatures", words, done=False)
    else:
        yield check("signatures", f"Ed25519, with {counted(len(keys), 'public key')}")
    if fold.post_quantum:
        words = f"{counted(fold.post_quantum, 'record')} signed a second time with ML-DSA-65"
        yield check("post-quantum signatures", words, done=False)
    words = "that each record continues the one before it"
    if fold.partial:
        words += ", where both are in the selection"
    yield check("order and links", words)
    words, done = _tasks(fold, _subtree(claim))
    yield check("tasks", words, done=done)
    yield check("losses", "whether the program itself says that it could not record something")
    words, done = _end(fold, keys)
    yield check("end of the chain", words, done=done)


def _tasks(fold: _Fold, task: str | None) -> tuple[str, bool]:
    many = counted(fold.families.tasks, "task")
    if task is not None:
        return f"that all of task {task} is here, as {many} in it say", True
    if fold.partial:
        return "a selection: what belongs to its tasks may have been left out", False
    return f"that what {many} name as theirs is here and nothing else, and that parents exist", True


def _end(fold: _Fold, keys: Sequence[TrustedKey] | None) -> tuple[str, bool]:
    compared, left = fold.checkpoints.compared, len(fold.checkpoints.left())
    if compared:
        unsigned = ", whose signatures were not checked" if keys is None else ""
        return f"{counted(compared, 'checkpoint')} held against it{unsigned}", True
    if left:
        return "a selection that holds no record which a checkpoint names", False
    return "no checkpoint was given, so that the end was cut off cannot be excluded", False

"""Verify: a chain judged with nothing but the chain, public keys and checkpoints. Reads, never writes.

All findings are given, not the first; and what was *not* checked is said as plainly as what was. One record by
itself is looked at in `capsule_sdk.evidence.verifying.record`, tasks and their children in
`capsule_sdk.evidence.verifying.families`; here are the order of the records and the verdict.

It does not handle: whether what a record says was true, whether a clock was right, signatures of the second,
post-quantum kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from capsule_sdk.errors import EvidenceError

from ..selection import Selection
from ..showing.wording import counted
from ..sources import Source
from .checkpoints import Checkpoints, KnownCheckpoint
from .families import Families
from .findings import CHECKED, Finding, Findings, Reason, Severity
from .keys import IN_THE_FILE, TrustedKey
from .record import Facts, check_record
from .workers import check_records

__all__ = ["Check", "Outcome", "Verdict", "verify"]

#: Records between two calls of ``progress``.
_STEP = 500
#: Records in a row that are none, after which a file is given up: it is no chain, and may be very long.
_PATIENCE = 10_000


class Outcome(StrEnum):
    """A verdict in one word."""

    #: Nothing contradicts what the chain claims to be.
    WHOLE = "whole"
    #: Nothing contradicts its records; that they are all there are is not claimed.
    SELECTION = "selection"
    #: Something does.
    BROKEN = "broken"
    #: It could not be read to its end, or nobody's key is known.
    NOT_CHECKED = "not checked"


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
            `capsule_sdk.evidence.verifying.findings.MOST`.
        counts: how many findings there are of each code.
        checks: what was checked, and what was not.
        signers: how many signatures fit which public key.
        approvals: how many records say that a human approved them.
        obstacle: why it cannot be called whole although nothing contradicts it; ``None`` where nothing
            stands in the way.

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
    obstacle: str | None

    @property
    def outcome(self) -> Outcome:
        """The verdict in one word."""
        if any(reason.severity is Severity.BROKEN for reason in self.counts):
            return Outcome.BROKEN
        if self.obstacle is not None:
            return Outcome.NOT_CHECKED
        return Outcome.WHOLE if self.claim is None else Outcome.SELECTION

    @property
    def whole(self) -> bool:
        """Whether it is a whole chain, all of it was read, and nothing contradicts that."""
        return self.outcome is Outcome.WHOLE

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
        keys: public keys that are trusted; ``None`` leaves the signatures unchecked, and without any the
            chain is not called whole.
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
    chosen = fold.chosen_by(claim)
    public = [key.for_checking() for key in keys] if keys else None
    check = partial(check_record, keys=public, selection=chosen)
    unread = None
    with closing(fold.families):
        try:
            for facts in check_records(source.entries(), check, processes):
                fold.add(facts)
                if fold.count % _STEP == 0:
                    progress(fold.count)
                if fold.malformed == _PATIENCE:
                    unread = f"{_PATIENCE:,} records in a row are none: the rest was not read"
                    break
        except EvidenceError as error:
            if not fold.count:
                raise
            unread = str(error)
        progress(fold.count)
        fold.end(chosen, at_the_end=unread is None)
    return Verdict(
        source=source.name,
        claim={} if claim is None and selection else claim,
        records=fold.count,
        head=fold.head,
        findings=fold.findings.in_order(),
        counts=fold.findings.counts,
        checks=list(_checks(fold, keys, chosen)),
        signers=fold.signers_of(keys or ()),
        approvals=fold.approvals,
        obstacle=unread or _obstacle(fold, keys),
    )


def _obstacle(fold: _Fold, keys: Sequence[TrustedKey] | None) -> str | None:
    if not fold.count:
        return "there are no records"
    if keys is not None and all(key.origin == IN_THE_FILE for key in keys):
        only = (
            "the only public key is the one in the file" if keys else "no public key is known here"
        )
        return (
            f"{only}: give that of whoever sealed it with --pubkey, or leave it at --no-signatures"
        )
    if left := fold.out_of_reach():
        return f"{counted(left, 'checkpoint')} cannot be held against a selection without their records"
    if unknown := fold.checkpoints.of_unknown_name():
        return (
            f"{counted(unknown, 'checkpoint')} in the directory may be of this chain or of another, by a name"
            " that somebody chose: name those of this chain alone"
        )
    return None


def _claim(source: Source) -> Mapping[str, Any] | None:
    """Return what a bundle or a report claims to be a selection of; ``None`` for a whole chain."""
    claim = source.manifest.get("selection") if source.manifest else None
    if claim is None or claim == {}:
        return None
    if isinstance(claim, Mapping):
        return claim
    return {"": claim}  # no claim at all would make it a whole chain


def _subtree(chosen: Selection | None) -> str | None:
    """Return the task of which a selection claims to hold all there is."""
    return chosen.task if chosen is not None and chosen == Selection(task=chosen.task) else None


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
    head: str | None = None
    approvals: int = 0
    post_quantum: int = 0
    silent: int = 0
    malformed: int = 0

    def chosen_by(self, claim: Mapping[str, Any] | None) -> Selection | None:
        """Read a claim; one that cannot be read is a finding."""
        try:
            return Selection.from_claim(claim) if claim is not None else None
        except EvidenceError as error:
            self.findings.add([Finding(Reason.SELECTION_INCOMPLETE, detail=str(error))])
            return None

    def add(self, facts: Facts) -> None:
        position, self.count = self.count, self.count + 1
        faults = [*facts.faults, *self._misplaced(facts)]
        where = facts.sequence, facts.id, position
        if faults:
            self.findings.add(Finding(reason, *where, detail) for reason, detail in faults)
        if lost := facts.lost:
            self.findings.add([Finding(Reason.RECORDS_LOST, *where, f"{lost} in all", lost)])
        if self.checkpoints:
            self.checkpoints.compare(facts, position)
        self.families.add(facts, position)
        self.approvals += facts.approval
        self.post_quantum += facts.post_quantum
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
        self.findings.add(self.checkpoints.end(whole=at_the_end and not self.partial))
        if at_the_end:
            self.findings.add(self._missing(_subtree(chosen)))

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
        """Return how many checkpoints name no record that a selection holds."""
        return len(self.checkpoints.left()) if self.partial else 0

    def signers_of(self, keys: Sequence[TrustedKey]) -> dict[str, int]:
        return {keys[place].public_key: count for place, count in self.signers.most_common()}


def _is_before(moment: float | None, other: float | None) -> bool:
    return moment is not None and other is not None and moment < other


def _range_of(first: int, last: int) -> str:
    return (
        f"number {first} is missing" if first == last else f"numbers {first} to {last} are missing"
    )


def _checks(
    fold: _Fold, keys: Sequence[TrustedKey] | None, chosen: Selection | None
) -> Iterator[Check]:
    """Say what was checked, and what was not and why."""
    found = fold.findings.counts

    def check(name: str, words: str, *, done: bool = True) -> Check:
        findings = sum(found[reason] for reason in CHECKED.get(name, ()))
        return Check(name, done or findings > 0, words, findings)

    yield check("content", "the SHA3-256 hash of what each record holds (CPS 3.5), and its form")
    words, done = _signatures(keys)
    yield check("signatures", words, done=done)
    if fold.post_quantum:
        words = f"{counted(fold.post_quantum, 'record')} signed a second time with ML-DSA-65"
        yield check("post-quantum signatures", words, done=False)
    words = "that each record continues the one before it"
    if fold.partial:
        words += ", where both are in the selection"
    yield check("order and links", words)
    words, done = _tasks(fold, _subtree(chosen))
    yield check("tasks", words, done=done)
    yield check("losses", "whether the program itself says that it could not record something")
    words, done = _end(fold, keys)
    yield check("end of the chain", words, done=done)
    words = "when each record was sealed: its time stands outside the seal, and nothing protects it"
    yield check("time of sealing", words, done=False)


def _signatures(keys: Sequence[TrustedKey] | None) -> tuple[str, bool]:
    if not keys:
        return "no public key was used, so anybody could have sealed these records", False
    if all(key.origin == IN_THE_FILE for key in keys):
        return "the only key is the one in the file, with which the file agrees or not", False
    return f"Ed25519, with {counted(len(keys), 'public key')}", True


def _tasks(fold: _Fold, task: str | None) -> tuple[str, bool]:
    many, silent = counted(fold.families.tasks, "task"), counted(fold.silent, "record")
    if task is None and fold.partial:
        return "a selection: what belongs to its tasks may have been left out", False
    if fold.partial and fold.silent:
        return (
            f"{silent} in it say nothing of what belongs to them, which may have been left out",
            False,
        )
    if fold.partial:
        return f"that all is here which the {many} of task {task} count as theirs", True
    quiet = f"; nothing is said of theirs by {silent}" if fold.silent else ""
    return (
        f"that what {many} name as theirs is here and nothing else, and that parents exist{quiet}",
        True,
    )


def _end(fold: _Fold, keys: Sequence[TrustedKey] | None) -> tuple[str, bool]:
    checkpoints, newest = fold.checkpoints, fold.checkpoints.newest
    if left := fold.out_of_reach():
        return f"{counted(left, 'checkpoint')} of other records than the selection holds", False
    if not checkpoints.known:
        return "no checkpoint was given: records may have been removed from the end", False
    if not checkpoints.compared:
        return "no checkpoint that was given could be held against it", False
    unsigned = "" if keys else ", whose signatures were not checked"
    words = f"{counted(checkpoints.compared, 'checkpoint')} held against it{unsigned}"
    if newest is None or newest.size == fold.expected:
        return words, True
    at = f"{newest.time:%Y-%m-%d %H:%M} UTC"
    return (
        f"{words}: up to record {newest.size - 1} at {at}; more may have stood behind the last",
        False,
    )

"""Verify: a chain judged with nothing but the chain, public keys and checkpoints. Reads, never writes.

All findings are given, not the first; and what was *not* checked is said as plainly as what was. One record by
itself is looked at in `record`, tasks and their children in `families`, the order of the records in `fold`;
which keys and checkpoints count is decided in `grounds`. Here is the verdict.

It does not handle: whether what a record says was true, whether a clock was right, signatures of the second,
post-quantum kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from capsule_sdk.errors import EvidenceError

from ..showing.wording import counted
from ..sources import Source
from .checkpoints import KnownCheckpoint
from .checks import Check, checks_of
from .findings import Finding, Reason, Severity
from .fold import Fold
from .grounds import grounds_of
from .keys import TrustedKey
from .record import check_record
from .workers import check_records

__all__ = ["Outcome", "Verdict", "verify"]

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
        keys: those that signatures were checked with; ``None`` where they were not.
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
    keys: Sequence[TrustedKey] | None
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
        keys: public keys that are trusted; ``None`` leaves the signatures unchecked. Without any, those that
            the file brings are used, and the chain is not called whole.
        checkpoints: heads that the chain is known to have had, kept where its writers cannot reach. Those
            that the file brings are taken from it, and only ever count against it.
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
    grounds = grounds_of(keys, checkpoints, source.manifest)
    fold = Fold.on(grounds, partial=claim is not None or selection)
    chosen = fold.chosen_by(claim)
    public = [key.for_checking() for key in grounds.keys] if grounds.keys else None
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
        checks=list(checks_of(fold, chosen)),
        keys=grounds.keys,
        signers=fold.signers_of(grounds.keys or ()),
        approvals=fold.approvals,
        obstacle=unread or _obstacle(fold),
    )


def _obstacle(fold: Fold) -> str | None:
    if not fold.count:
        return "there are no records"
    keys = fold.grounds.keys
    if keys is not None and not fold.grounds.kept_keys:
        only = (
            "the only public key is the one in the file" if keys else "no public key is known here"
        )
        return (
            f"{only}: give that of whoever sealed it with --pubkey, or leave it at --no-signatures"
        )
    if left := fold.out_of_reach():
        return f"{counted(left, 'checkpoint')} cannot be held against a selection without their records"
    if unknown := fold.kept.of_unknown_name():
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

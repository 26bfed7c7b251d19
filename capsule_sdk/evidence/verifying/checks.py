"""Checks: what was looked at and what was not, in words. Not checked is said as not checked. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..selection import Selection
from ..showing.wording import counted
from .findings import CHECKED
from .fold import Fold, subtree_of
from .grounds import Grounds

__all__ = ["Check", "checks_of"]


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


def checks_of(fold: Fold, chosen: Selection | None) -> Iterator[Check]:
    """Say what was checked, and what was not and why."""
    found = fold.findings.counts

    def check(name: str, words: str, *, done: bool = True) -> Check:
        findings = sum(found[reason] for reason in CHECKED.get(name, ()))
        return Check(name, done or findings > 0, words, findings)

    yield check("content", "the SHA3-256 hash of what each record holds (CPS 3.5), and its form")
    words, done = _signatures(fold.grounds)
    yield check("signatures", words, done=done)
    if fold.post_quantum:
        words = (
            f"{counted(fold.post_quantum, 'record')} with something in place of a second signature (ML-DSA-65):"
            " whether it is one was not looked at"
        )
        yield check("post-quantum signatures", words, done=False)
    words = "that each record continues the one before it"
    if fold.partial:
        words += ", where both are in the selection"
    yield check("order and links", words)
    words, done = _tasks(fold, subtree_of(chosen))
    yield check("tasks", words, done=done)
    if tenant := _tenant(fold):
        words, done = tenant
        yield check("tenant", words, done=done)
    yield check("losses", "whether the program itself says that it could not record something")
    words, done = _end(fold)
    yield check("end of the chain", words, done=done)
    words = "when each record was sealed: its time stands outside the seal, and nothing protects it"
    yield check("time of sealing", words, done=False)


def _signatures(grounds: Grounds) -> tuple[str, bool]:
    if not grounds.keys:
        return "no public key was used, so anybody could have sealed these records", False
    if not grounds.kept_keys:
        return "the only key is the one in the file, with which the file agrees or not", False
    return f"Ed25519, with {counted(len(grounds.keys), 'public key')}", True


def _tasks(fold: Fold, task: str | None) -> tuple[str, bool]:
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


def _tenant(fold: Fold) -> tuple[str, bool] | None:
    """Say whether the records tell whose chain it is; nothing where the place holds but one chain."""
    told, untold = fold.of_tenant[True], fold.of_tenant[False]
    if untold:
        words = (
            f"not told by {counted(untold, 'record')}, as those that were sealed before capsuled wrote it down:"
            " whose they are is the database's word alone"
        )
        return words, False
    return ("that the database has each under the tenant it was sealed for", True) if told else None


def _end(fold: Fold) -> tuple[str, bool]:
    checkpoints, newest = fold.kept, fold.kept.newest
    if left := fold.out_of_reach():
        return f"{counted(left, 'checkpoint')} of other records than the selection holds", False
    if not checkpoints.known:
        return _without_a_kept_one(fold), False
    if not checkpoints.compared:
        return "no checkpoint that was given could be held against it", False
    unsigned = "" if fold.grounds.kept_keys else ", whose signatures were not checked"
    words = f"{counted(checkpoints.compared, 'checkpoint')} held against it{unsigned}"
    if other := checkpoints.passed_over():
        words += (
            f", {other:,} passed over that name{'s' if other == 1 else ''} another first record"
        )
    if newest is None or newest.size == fold.expected:
        return words, True
    at = f"{newest.time:%Y-%m-%d %H:%M} UTC"
    return (
        f"{words}: up to record {newest.size - 1} at {at}; more may have stood behind the last",
        False,
    )


def _without_a_kept_one(fold: Fold) -> str:
    known = fold.embedded.known
    if not known:
        return "no checkpoint was given: records may have been removed from the end"
    return (
        f"none but {counted(known, 'checkpoint')} in the file itself, which whoever made the file may have made"
        " too: records may have been removed from the end"
    )

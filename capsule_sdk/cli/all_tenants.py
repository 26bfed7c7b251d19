"""``capsuled verify --all-tenants``: a verdict on each chain in one place, and the worst of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.chains import name_of
from capsule_sdk.evidence.showing.wording import counted
from capsule_sdk.evidence.sources import Source
from capsule_sdk.evidence.verifying.checkpoints import KnownCheckpoint, placed
from capsule_sdk.evidence.verifying.verify import Outcome, Verdict
from capsule_sdk.outward import one_line

from .drawing import Paper, Span
from .judging import Judging
from .options import print_json, while_somebody_reads
from .verdicts import BROKEN, EXIT_CODES, NOT_CHECKED, as_dict, bear_in_mind, exit_code, lines_of

__all__ = ["verify_all"]

#: Exit codes, the worst first: the first that one of the chains has is that of all.
_WORST_FIRST: Final = (BROKEN, NOT_CHECKED)
_OUTCOMES: Final = (Outcome.BROKEN, Outcome.NOT_CHECKED, Outcome.SELECTION, Outcome.WHOLE)
_MARKS: Final = {Outcome.BROKEN: ("✗", "red"), Outcome.NOT_CHECKED: ("-", "yellow")}
#: Chains that the last lines name, of those that are not whole.
_NAMED: Final = 50


def verify_all(
    sources: Sequence[Source],
    checkpoints: Sequence[KnownCheckpoint],
    judging: Judging,
    *,
    strict: bool,
    as_json: bool,
) -> int:
    """Judge chains, say what came of each as soon as it is known, and return the exit code.

    Args:
        sources: the chains, in this order.
        checkpoints: of all of them; each is held against the chain that it names.
        judging: how.
        strict: doubtful findings count.
        as_json: print one JSON object at the end.

    Raises:
        EvidenceError: a checkpoint does not say which of the chains it is of.

    """
    shares, homeless = _shares(sources, checkpoints)
    paper = None if as_json or judging.quiet else Paper()
    verdicts = []
    for source, own in zip(sources, shares, strict=True):
        verdict = _verdict_on(source, own, judging)
        verdicts.append(verdict)
        if paper is not None:
            _print(paper, _said_of(source, verdict, paper))
    codes = {exit_code(verdict, strict=strict) for verdict in verdicts}
    codes |= {EXIT_CODES[_outcome_of(one)] for one in homeless}
    if as_json:
        with while_somebody_reads():
            print_json(_all_as_dict(sources, verdicts, homeless))
    elif paper is not None:
        _print(paper, _summed_up(sources, verdicts, homeless))
    return next((code for code in _WORST_FIRST if code in codes), 0)


def _shares(
    sources: Sequence[Source], checkpoints: Sequence[KnownCheckpoint]
) -> tuple[list[list[KnownCheckpoint]], list[KnownCheckpoint]]:
    """Return the checkpoints of each chain, and those of none; in a file, of its one chain, all."""
    if len(sources) == 1 and not sources[0].is_one_of_many:
        return [list(checkpoints)], []
    return placed(checkpoints, [source.first_hash for source in sources])


def _verdict_on(source: Source, own: Sequence[KnownCheckpoint], judging: Judging) -> Verdict:
    """Judge one; that it cannot be read is a verdict, and no reason to leave out those behind it."""
    try:
        return judging.verdict_on(source, own)
    except EvidenceError as error:
        return Verdict(
            source=source.name, claim=None, records=0, head=None, findings=(), counts={}, checks=(),
            keys=None, signers={}, approvals=0, obstacle=str(error),
        )  # fmt: skip


def _outcome_of(homeless: KnownCheckpoint) -> Outcome:
    """Return what a checkpoint of a chain that is not here says: in a directory others may keep theirs, too."""
    return Outcome.NOT_CHECKED if homeless.among_others else Outcome.BROKEN


def _outcome(verdicts: Sequence[Verdict], homeless: Sequence[KnownCheckpoint]) -> Outcome:
    found = {verdict.outcome for verdict in verdicts} | {_outcome_of(one) for one in homeless}
    return next(outcome for outcome in _OUTCOMES if outcome in found)


# -- as JSON --------------------------------------------------------------------------------------


def _all_as_dict(
    sources: Sequence[Source],
    verdicts: Sequence[Verdict],
    homeless: Sequence[KnownCheckpoint],
) -> dict[str, Any]:
    return {
        "verdict": _outcome(verdicts, homeless),
        "source": sources[0].name,
        "chains": [
            {"tenant": source.tenant, **as_dict(verdict)}
            for source, verdict in zip(sources, verdicts, strict=True)
        ],
        "checkpoints_of_no_chain": [
            {"verdict": _outcome_of(one), "place": one.place, "sentence": _sentence_on(one)}
            for one in homeless
        ],
    }


# -- on paper -------------------------------------------------------------------------------------


def _print(paper: Paper, lines: Iterator[list[Span]]) -> None:
    with while_somebody_reads():
        paper.print(map(paper.line, lines))


def _said_of(source: Source, verdict: Verdict, paper: Paper) -> Iterator[list[Span]]:
    yield from lines_of(verdict, source.title, paper)
    yield []


def _summed_up(
    sources: Sequence[Source],
    verdicts: Sequence[Verdict],
    homeless: Sequence[KnownCheckpoint],
) -> Iterator[list[Span]]:
    keys = [key for verdict in verdicts for key in verdict.keys or ()]
    yield from bear_in_mind(sum(verdict.approvals for verdict in verdicts), keys)
    yield []
    if len(sources) == 1 and not sources[0].is_one_of_many:
        yield [(f"{one_line(sources[0].name)} holds one chain, of all tenants", "")]
    counts = Counter(verdict.outcome for verdict in verdicts)
    told = ", ".join(f"{counts[outcome]:,} {outcome}" for outcome in _OUTCOMES if counts[outcome])
    yield [(f"{counted(len(sources), 'chain')}: {told}", "bold")]
    others = [
        (source, verdict)
        for source, verdict in zip(sources, verdicts, strict=True)
        if verdict.outcome in _MARKS or verdict.doubtful
    ]
    for source, verdict in others[:_NAMED]:
        mark, style = _MARKS.get(verdict.outcome, ("?", "yellow"))
        yield [
            ("  ", ""),
            (mark, style),
            (f" {one_line(name_of(source.tenant))}: {_why(verdict)}", ""),
        ]
    if len(others) > _NAMED:
        yield [(f"  … and {len(others) - _NAMED:,} more", "")]
    for one in homeless:
        mark, style = _MARKS[_outcome_of(one)]
        yield [("  ", ""), (mark, style), (f" {one_line(_sentence_on(one))}", "")]


def _why(verdict: Verdict) -> str:
    """Return the verdict in a few words: it stands whole above."""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in sorted(verdict.counts.items()))
    obstacle = f"not checked: {one_line(verdict.obstacle)}" if verdict.obstacle else ""
    return "; ".join(part for part in (counts, obstacle) if part)


def _sentence_on(homeless: KnownCheckpoint) -> str:
    size = homeless.note.checkpoint.size
    known = f"{homeless.place}, of a chain of {counted(size, 'record')}: no chain here began as that did"
    if homeless.among_others:
        return f"{known}: it was removed or rewritten, or is kept in another database"
    return f"{known}: it was removed or rewritten"

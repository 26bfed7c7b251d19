"""A verdict on paper and as JSON: one chain's, whoever asked for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from capsule_sdk.evidence.showing.wording import counted
from capsule_sdk.evidence.verifying.brought import Brought
from capsule_sdk.evidence.verifying.checks import Check
from capsule_sdk.evidence.verifying.findings import MOST, Finding, Severity
from capsule_sdk.evidence.verifying.keys import TrustedKey
from capsule_sdk.evidence.verifying.verify import Outcome, Verdict
from capsule_sdk.outward import one_line

from .drawing import Paper, Span

__all__ = [
    "BROKEN",
    "EXIT_CODES",
    "NOT_CHECKED",
    "as_dict",
    "bear_in_mind",
    "exit_code",
    "lines_of",
    "verdict_span",
]

BROKEN, NOT_CHECKED = 1, 2
#: How a command ends that has judged a chain.
EXIT_CODES: Final = {
    Outcome.WHOLE: 0,
    Outcome.SELECTION: 0,
    Outcome.BROKEN: BROKEN,
    Outcome.NOT_CHECKED: NOT_CHECKED,
}
#: Findings that are shown on a terminal.
_SHOWN = 50
#: Characters of a condition that a file claims to have been selected by.
_QUOTED = 80


def exit_code(verdict: Verdict, *, strict: bool) -> int:
    """Return how a command ends that judged one chain; ``strict`` makes doubtful findings count."""
    if strict and verdict.doubtful and verdict.outcome is not Outcome.NOT_CHECKED:
        return BROKEN
    return EXIT_CODES[verdict.outcome]


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict for JSON."""
    return {
        "verdict": verdict.outcome,
        "doubtful": verdict.doubtful,
        "source": verdict.source,
        "selection": verdict.claim,
        "records": verdict.records,
        "head": verdict.head,
        "findings": [finding.to_dict() for finding in verdict.findings],
        "counts": {str(reason): count for reason, count in verdict.counts.items()},
        "checks": [
            {"name": one.name, "done": one.done, "words": one.words, "findings": one.findings}
            for one in verdict.checks
        ],
        "keys": [
            {
                "public_key": key.public_key,
                "origin": key.origin,
                "brought": key.brought.value,
                "fits": verdict.signers.get(key.public_key, 0),
            }
            for key in verdict.keys or ()
        ],
        "asserted_approvals": verdict.approvals,
        "obstacle": verdict.obstacle,
    }


def lines_of(verdict: Verdict, title: str, paper: Paper) -> Iterator[list[Span]]:
    """Yield what is said of one chain.

    Args:
        verdict: of it.
        title: what to call the chain.
        paper: what it is drawn on: a terminal is shown some of the findings, a pipe gets all.

    """
    most = _SHOWN if paper.terminal else None
    yield [(f"{one_line(title)}: {counted(verdict.records, 'record')}{_selected(verdict)}", "")]
    yield []
    yield [verdict_span(verdict)]
    yield []
    for check in verdict.checks:
        yield from _lines_of_check(check)
        if check.name == "signatures":
            yield from _lines_of_keys(verdict)
    if verdict.findings:
        yield []
        runs = _runs(verdict.findings)[:most]
        for run in runs:
            yield from _lines_of_run(run)
        left = sum(verdict.counts.values()) - sum(map(len, runs))
        if left:
            yield [(f"  … and {left:,} more (--json lists {MOST:,} of each code at most)", "")]


def _selected(verdict: Verdict) -> str:
    if verdict.claim is None:
        return ""
    conditions = ", ".join(
        f'{one_line(str(name))} "{one_line(str(value))[:_QUOTED]}"'
        for name, value in verdict.claim.items()
    )
    return f", said to be a selection: {conditions}" if conditions else ", taken as a selection"


def verdict_span(verdict: Verdict) -> Span:
    """Return the verdict in one line."""
    broken, doubtful = (
        sum(count for reason, count in verdict.counts.items() if reason.severity is severity)
        for severity in (Severity.BROKEN, Severity.DOUBTFUL)
    )
    sentence, style = {
        Outcome.BROKEN: (f"BROKEN: {counted(broken, 'finding')}", "bold red"),
        Outcome.NOT_CHECKED: (f"NOT CHECKED: {one_line(verdict.obstacle)}", "bold yellow"),
        Outcome.SELECTION: (
            "SELECTION: nothing contradicts these records; whether there are others was not checked",
            "bold green",
        ),
        Outcome.WHOLE: ("WHOLE: nothing contradicts what the chain claims to be", "bold green"),
    }[verdict.outcome]
    return f"{sentence}; {doubtful:,} doubtful" if doubtful else sentence, style


def _lines_of_check(check: Check) -> Iterator[list[Span]]:
    words = check.words if check.done else f"not checked: {check.words}"
    if check.findings:
        mark, style = "✗", "red"
        words += f": {counted(check.findings, 'finding')}"
    else:
        mark, style = ("✓", "green") if check.done else ("-", "yellow")
    yield [("  ", ""), (mark, style), (f" {check.name:<18} {one_line(words)}", "")]


def _lines_of_keys(verdict: Verdict) -> Iterator[list[Span]]:
    for key in verdict.keys or ():
        fits = verdict.signers.get(key.public_key, 0)
        yield [(f"      {fits:,} fit {key.public_key} ({one_line(key.origin)})", "dim")]


def _runs(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Put together what follows each other and says the same: one cause, which would hide what has another."""
    runs: list[list[Finding]] = []
    for finding in findings:
        if runs and _says_the_same(finding, runs[-1][-1]):
            runs[-1].append(finding)
        else:
            runs.append([finding])
    return runs


def _says_the_same(finding: Finding, last: Finding) -> bool:
    if finding.reason is not last.reason or None in {finding.sequence, last.sequence}:
        return False
    if finding.lost:  # only how many they are differs, and that is added up
        return True
    # what breaks a chain is named each: of those in a row, the first and the last name all
    in_a_row = (finding.position or 0) == (last.position or 0) + 1
    return finding.detail == last.detail and (in_a_row or finding.severity is Severity.DOUBTFUL)


def _lines_of_run(run: Sequence[Finding]) -> Iterator[list[Span]]:
    first, last = run[0], run[-1]
    if first is last:
        yield from _lines_of_finding(first)
        return
    lost = sum(one.lost for one in run)
    told = (
        counted(len(run), "finding"),
        f"{counted(lost, 'record')} in all" if lost else one_line(first.detail),
    )
    yield _line_of(
        first, f"#{first.sequence}..#{last.sequence}", f" ({'; '.join(filter(None, told))})"
    )


def _lines_of_finding(finding: Finding) -> Iterator[list[Span]]:
    yield _line_of(finding, "chain" if finding.sequence is None else f"#{finding.sequence}")
    if details := "; ".join(one_line(part) for part in (finding.id, finding.detail) if part):
        yield [(f"             {details}", "dim")]


def _line_of(finding: Finding, place: str, more: str = "") -> list[Span]:
    mark, style = ("✗", "red") if finding.severity is Severity.BROKEN else ("?", "yellow")
    return [
        (f"  {mark} {place:<8} {finding.reason:<22}", style),
        (f" {finding.sentence}{more}", ""),
    ]


def bear_in_mind(approvals: int, keys: Sequence[TrustedKey]) -> Iterator[list[Span]]:
    """Yield what no verdict says.

    Args:
        approvals: how many records say that a human approved them.
        keys: that were used.

    """
    yield from ([(line, "dim")] for line in _reservations(approvals, keys))


def _reservations(approvals: int, keys: Sequence[TrustedKey]) -> Iterator[str]:
    if approvals:
        many = approvals != 1
        yield (
            f"{approvals:,} record{'s say' if many else ' says'} that a person approved"
            f" {'them' if many else 'it'}: that is what the program asserts."
        )
    if any(key.brought is Brought.EMBEDDED for key in keys):
        yield "The public key lies in the file itself, which proves only that the file agrees with itself:"
        yield "compare it with the one that the signer gave you another way, or name that with --pubkey."
    yield "A signature proves who sealed a record and that nothing was changed since. It does not prove"
    yield "that what the record says was true, that the clock was right, or that any law is met."

"""``capsuled verify``: the verdict on a chain, in words for people and in JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from capsule_sdk.evidence.showing.wording import counted, one_line
from capsule_sdk.evidence.sources import Source, open_source
from capsule_sdk.evidence.verifying.checkpoints import KnownCheckpoint, read_checkpoints
from capsule_sdk.evidence.verifying.embedded import checkpoints_in, keys_in
from capsule_sdk.evidence.verifying.findings import MOST, Finding, Severity
from capsule_sdk.evidence.verifying.keys import IN_THE_FILE, TrustedKey
from capsule_sdk.evidence.verifying.verify import Check, Outcome, Verdict
from capsule_sdk.evidence.verifying.verify import verify as judge
from capsule_sdk.evidence.verifying.workers import cores

from .drawing import Paper, Span
from .options import (
    database_option,
    is_on_the_command_line,
    json_option,
    key_options,
    print_json,
    tenant_option,
    trusted_keys,
    while_somebody_reads,
)

__all__ = ["EXIT_CODES", "verdict_span", "verify"]

BROKEN, NOT_CHECKED = 1, 2
#: How a command ends that has judged a chain.
EXIT_CODES: Final = {
    Outcome.WHOLE: 0,
    Outcome.SELECTION: 0,
    Outcome.BROKEN: BROKEN,
    Outcome.NOT_CHECKED: NOT_CHECKED,
}
#: Findings that are shown on a terminal; a pipe gets all of them.
_SHOWN = 50
#: Characters of a condition that a file claims to have been selected by.
_QUOTED = 80


@click.command()
@click.argument("named", metavar="[SOURCE]", required=False)
@database_option
@tenant_option
@key_options
@click.option("--no-signatures", is_flag=True, help="Leave the signatures unchecked.")
@click.option(
    "--against",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True),
    help="A checkpoint that was kept elsewhere, or a directory of them; may be given several times.",
)
@click.option(
    "--selection",
    is_flag=True,
    help="The file holds some records of a chain; gaps are not findings.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with 1 on doubtful findings too; meant for a chain that nobody writes to any more.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many processes check records; 0 does all in one.  [default: one for each core]",
)
@click.option("--quiet", is_flag=True, help="Print nothing; the exit code says it.")
@json_option
def verify(
    *,
    named: str | None, source: str | None, tenant: str | None,
    pubkeys: Sequence[str], pubkey_files: Sequence[Path], no_signatures: bool,
    against: Sequence[Path], selection: bool, strict: bool, processes: int | None, quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Check a chain, and say all that is wrong with it.

    SOURCE is a SQLite file, a PostgreSQL URL, an exported file, a bundle or a report. Checked are the hash and
    the signature of each record, the order and the links of the chain, that each task has the records that it
    names, and, against a checkpoint, that the end was not cut off and nothing was rewritten. What could not
    be checked is said too.

    Exit code 0: whole, or a selection that holds what it claims to. 1: broken. 2: it could not be checked, for
    example because the only public key known here is the one that the file brings with it.

    A signature proves who sealed a record and that nothing was changed since. It does not prove that what it
    says was true, that the clock was right, or that any law is met.
    """
    if named and is_on_the_command_line("source"):
        raise click.UsageError("name the chain once: as SOURCE or with --db")
    if no_signatures and (pubkeys or pubkey_files):
        raise click.UsageError("a key checks signatures: leave out the key, or --no-signatures")
    if quiet and as_json:
        raise click.UsageError("--quiet prints nothing, not even --json: leave one of them out")
    opened = open_source(named or source, tenant=tenant)
    keys = None if no_signatures else _keys(opened, trusted_keys(pubkeys, pubkey_files))
    with _progress(opened, shown=not quiet) as progress:
        verdict = judge(
            opened,
            keys,
            checkpoints=[*read_checkpoints(against), *_checkpoints(opened)],
            selection=selection,
            processes=cores() if processes is None else processes,
            progress=progress,
        )
    with while_somebody_reads():
        if as_json:
            print_json(_as_dict(verdict, keys))
        elif not quiet:
            _show(verdict, keys or ())
    if strict and verdict.doubtful and verdict.outcome is not Outcome.NOT_CHECKED:
        return BROKEN
    return EXIT_CODES[verdict.outcome]


def _keys(source: Source, trusted: list[TrustedKey]) -> list[TrustedKey]:
    """Return the keys to check with: without any, those that lie in the file itself."""
    return trusted or (keys_in(source.manifest) if source.manifest else [])


def _checkpoints(source: Source) -> list[KnownCheckpoint]:
    return checkpoints_in(source.manifest) if source.manifest else []


@contextmanager
def _progress(source: Source, *, shown: bool) -> Iterator[Callable[[int], object]]:
    console = Console(stderr=True)
    if not (shown and console.is_terminal and sys.stdout.isatty()):
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("checking", total=source.count())
        yield lambda done: bar.update(task, completed=done)


def _as_dict(verdict: Verdict, keys: Sequence[TrustedKey] | None) -> Mapping[str, Any]:
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
                "fits": verdict.signers.get(key.public_key, 0),
            }
            for key in keys or ()
        ],
        "asserted_approvals": verdict.approvals,
        "obstacle": verdict.obstacle,
    }


def _show(verdict: Verdict, keys: Sequence[TrustedKey]) -> None:
    paper = Paper()
    paper.print(map(paper.line, _lines(verdict, keys, _SHOWN if paper.terminal else None)))


def _lines(verdict: Verdict, keys: Sequence[TrustedKey], most: int | None) -> Iterator[list[Span]]:
    """Yield what is said of a chain; of the findings, so many at most."""
    yield [
        (
            f"{one_line(verdict.source)}: {counted(verdict.records, 'record')}{_selected(verdict)}",
            "",
        )
    ]
    yield []
    yield [verdict_span(verdict)]
    yield []
    for check in verdict.checks:
        yield from _lines_of_check(check)
        if check.name == "signatures":
            yield from _lines_of_keys(verdict, keys)
    if verdict.findings:
        yield []
        for finding in verdict.findings[:most]:
            yield from _lines_of_finding(finding)
        left = sum(verdict.counts.values()) - len(verdict.findings[:most])
        if left:
            yield [(f"  … and {left:,} more (--json lists {MOST:,} of each code at most)", "")]
    yield []
    yield from ([(line, "dim")] for line in _bear_in_mind(verdict, keys))


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


def _lines_of_keys(verdict: Verdict, keys: Sequence[TrustedKey]) -> Iterator[list[Span]]:
    for key in keys:
        fits = verdict.signers.get(key.public_key, 0)
        yield [(f"      {fits:,} fit {key.public_key} ({one_line(key.origin)})", "dim")]


def _lines_of_finding(finding: Finding) -> Iterator[list[Span]]:
    mark, style = ("✗", "red") if finding.severity is Severity.BROKEN else ("?", "yellow")
    place = "chain" if finding.sequence is None else f"#{finding.sequence}"
    yield [(f"  {mark} {place:<8} {finding.reason:<22}", style), (f" {finding.sentence}", "")]
    if details := "; ".join(one_line(part) for part in (finding.id, finding.detail) if part):
        yield [(f"             {details}", "dim")]


def _bear_in_mind(verdict: Verdict, keys: Sequence[TrustedKey]) -> Iterator[str]:
    if verdict.approvals:
        many = verdict.approvals != 1
        yield (
            f"{verdict.approvals:,} record{'s say' if many else ' says'} that a person approved"
            f" {'them' if many else 'it'}: that is what the program asserts."
        )
    if any(key.origin == IN_THE_FILE for key in keys):
        yield "The public key lies in the file itself, which proves only that the file agrees with itself:"
        yield "compare it with the one that the signer gave you another way, or name that with --pubkey."
    yield "A signature proves who sealed a record and that nothing was changed since. It does not prove"
    yield "that what the record says was true, that the clock was right, or that any law is met."

"""``capsuled verify``: the verdict on a chain, in words for people and in JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.chains import listed
from capsule_sdk.evidence.showing.wording import counted
from capsule_sdk.evidence.sources import Source, open_all, open_source
from capsule_sdk.evidence.verifying.checkpoints import read_checkpoints
from capsule_sdk.evidence.verifying.verify import Verdict
from capsule_sdk.evidence.verifying.workers import cores
from capsule_sdk.outward import one_line

from .all_tenants import verify_all
from .drawing import Paper, Span
from .judging import Judging
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
from .verdicts import as_dict, bear_in_mind, exit_code, lines_of

__all__ = ["verify"]


@click.command()
@click.argument("named", metavar="[SOURCE]", required=False)
@database_option
@tenant_option
@click.option(
    "--all-tenants",
    is_flag=True,
    help="Check all chains in the database, one after the other: that of each tenant, in PostgreSQL, and the"
    " global one. Of anything else, the one chain that it holds.",
)
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
    named: str | None, source: str | None, tenant: str | None, all_tenants: bool,
    pubkeys: Sequence[str], pubkey_files: Sequence[Path], no_signatures: bool,
    against: Sequence[Path], selection: bool, strict: bool, processes: int | None, quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Check a chain, and say all that is wrong with it.

    SOURCE is a SQLite file, a PostgreSQL URL, an exported file, a bundle or a report. Checked are the hash and
    the signature of each record, the order and the links of the chain, that each task has the records that it
    names, and, against a checkpoint, that the end was not cut off and nothing was rewritten. What could not
    be checked is said too.

    Exit code 0: whole, or a selection that holds what it claims to. 1: broken. 2: it could not be checked, for
    example because the only public key known here is the one that the file brings with it. Of several
    chains, with --all-tenants, the worst counts: broken, then not checked.

    A signature proves who sealed a record and that nothing was changed since. It does not prove that what it
    says was true, that the clock was right, or that any law is met.
    """
    if named and is_on_the_command_line("source"):
        raise click.UsageError("name the chain once: as SOURCE or with --db")
    if no_signatures and (pubkeys or pubkey_files):
        raise click.UsageError("a key checks signatures: leave out the key, or --no-signatures")
    if quiet and as_json:
        raise click.UsageError("--quiet prints nothing, not even --json: leave one of them out")
    if all_tenants and tenant is not None:
        raise click.UsageError("--all-tenants checks the chains of all: leave it out, or --tenant")
    given = None if no_signatures else trusted_keys(pubkeys, pubkey_files)
    checkpoints = read_checkpoints(against)
    judging = Judging(given, selection, cores() if processes is None else processes, quiet)
    if all_tenants:
        everything = open_all(named or source)
        return verify_all(everything, checkpoints, judging, strict=strict, as_json=as_json)
    opened = open_source(named or source, tenant=tenant)
    verdict = judging.verdict_on(opened, checkpoints)
    with while_somebody_reads():
        if as_json:
            print_json({**as_dict(verdict), "tenant": opened.tenant, **_beside(opened)})
        elif not quiet:
            _show(verdict, opened)
    return exit_code(verdict, strict=strict)


def _beside(source: Source) -> dict[str, Any]:
    """Return for JSON the other chains in the same database; ``null`` where they cannot be looked at."""
    try:
        others = source.beside()
    except EvidenceError:
        return {"other_chains": None}
    return {
        "other_chains": [{"tenant": one.tenant, "capsules": one.capsules} for one in others],
    }


def _show(verdict: Verdict, source: Source) -> None:
    paper = Paper()
    lines = chain(
        lines_of(verdict, source.title, paper),
        [[]],
        _lines_of_others(source),
        bear_in_mind(verdict.approvals, verdict.keys or ()),
    )
    paper.print(map(paper.line, lines))


def _lines_of_others(source: Source) -> Iterator[list[Span]]:
    """Say which other chains lie there: nothing was said of them."""
    try:
        others = source.beside()
    except EvidenceError as error:
        yield [(f"Which other chains lie there is not known: {one_line(str(error))}", "yellow")]
        return
    if others:
        told = (
            f"{counted(len(others), 'other chain')} there {'was' if len(others) == 1 else 'were'}"
        )
        yield [(f"{told} not checked: {one_line(listed(others))}.", "yellow")]
        yield [("`capsuled verify --all-tenants` checks all, --tenant ID one.", "yellow")]

"""``capsuled backup``: a live chain as one file, checked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from capsule_sdk.evidence.exporting.backup import Backup, back_up
from capsule_sdk.evidence.showing.wording import counted
from capsule_sdk.evidence.verifying.workers import cores

from .drawing import Paper
from .options import (
    json_option,
    key_options,
    print_json,
    store_option,
    trusted_keys,
    while_somebody_reads,
)
from .verdicts import EXIT_CODES, verdict_span

__all__ = ["backup"]


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@store_option
@click.option(
    "--force", is_flag=True, help="Replace OUT if it is there; without it, you are asked."
)
@key_options
@click.option("--no-signatures", is_flag=True, help="Leave the signatures unchecked.")
@json_option
def backup(
    *,
    out: Path, source: str | None, force: bool,
    pubkeys: Sequence[str], pubkey_files: Sequence[Path], no_signatures: bool, as_json: bool,
) -> int:  # fmt: skip
    """Copy a SQLite chain, while programs record into it, and verify the copy.

    OUT is one file, readable by you only, that needs no -wal. It has what was committed at one moment; what
    processes have not committed yet is in their journals (`capsuled status`). A copy of a broken chain is kept
    too, but never in the place of an older backup. To restore, stop what records and put the file in the place
    of the database, with no -wal or -shm beside it.

    Exit code 0: copied and whole. 1: the chain is broken. 2: it could not be copied, or not be checked.
    """
    if no_signatures and (pubkeys or pubkey_files):
        raise click.UsageError("a key checks signatures: leave out the key, or --no-signatures")
    keys = None if no_signatures else trusted_keys(pubkeys, pubkey_files)
    if out.is_file() and not force and sys.stdin.isatty():
        click.confirm(f"{out} is there already. Replace it?", abort=True, err=True)
        force = True
    done = back_up(source, out, keys, overwrite=force, processes=cores())
    with while_somebody_reads():
        if as_json:
            print_json(
                {
                    "out": str(done.out),
                    "kept": done.kept,
                    "bytes": done.size,
                    "records": done.verdict.records,
                    "verdict": done.verdict.outcome,
                    "counts": {str(code): count for code, count in done.verdict.counts.items()},
                    "obstacle": done.verdict.obstacle,
                }
            )
        else:
            _show(done)
    return EXIT_CODES[done.verdict.outcome]


def _show(done: Backup) -> None:
    paper = Paper()
    held = f"{counted(done.verdict.records, 'capsule')}, {done.size:,} bytes"
    lines = [[(f"{held} -> {done.out}", "")], [verdict_span(done.verdict)]]
    if not done.kept:
        lines[0] = [(f"{held}; {done.out} was left as it is: name another file for this copy", "")]
    paper.print(map(paper.line, lines))

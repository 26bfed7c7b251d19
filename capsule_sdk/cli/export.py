"""``capsuled export`` and ``capsuled report``: a chain, or a part of it, as a file for somebody else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from capsule_sdk.evidence.exporting.export import Form
from capsule_sdk.evidence.exporting.export import export as write
from capsule_sdk.evidence.exporting.manifest import BUNDLE, REPORT, manifest_of
from capsule_sdk.evidence.formats.replacing import as_text
from capsule_sdk.evidence.formats.report import write_report
from capsule_sdk.evidence.selection import Selection, select
from capsule_sdk.evidence.showing.wording import counted
from capsule_sdk.evidence.sources import Source, open_source
from capsule_sdk.evidence.verifying.checkpoints import of_chain, read_checkpoints
from capsule_sdk.evidence.verifying.keys import TrustedKey
from capsule_sdk.outward import one_line

from .options import (
    database_option,
    key_options,
    selection_of,
    selection_options,
    tenant_option,
    trusted_keys,
)

__all__ = ["export", "report"]

_checkpoint_option = click.option(
    "--checkpoint", "checkpoints", multiple=True, metavar="FILE", type=click.Path(path_type=Path, exists=True),
    help="Put this checkpoint of the chain in, or its own of a directory; may be given several times.",
)  # fmt: skip


@click.command()
@click.argument("out", default="chain.json")
@database_option
@tenant_option
@click.option(
    "--format",
    "form",
    type=click.Choice([str(form) for form in Form]),
    metavar="FORM",
    help="json: the form that `capsule verify` reads. jsonl: one record a line. csv: the fields that"
    " records are found by, for a spreadsheet. zip: a bundle, with what it takes to check it."
    "  [default: what the name of OUT ends in, else json]",
)
@selection_options
@key_options
@_checkpoint_option
def export(
    *,
    out: str, source: str | None, tenant: str | None, form: str | None,
    pubkeys: Sequence[str], pubkey_files: Sequence[Path], checkpoints: Sequence[Path], **chosen: Any,
) -> None:  # fmt: skip
    """Write a chain, or some of its records, to a file.

    OUT is the file (chain.json unless given), or - for standard output. The whole chain as JSON is what
    `capsule verify --full OUT` checks. Of a selection each record carries its own seal; one of a whole --task
    can also be shown to be complete. A bundle (OUT.zip) says what was selected and brings the public keys and
    checkpoints with it: check it with `capsuled verify OUT.zip`.
    """
    opened, selection = open_source(source, tenant=tenant), selection_of(chosen)
    chosen_form = _form(form, out)
    manifest = None
    if chosen_form is Form.BUNDLE:
        keys = trusted_keys(pubkeys, pubkey_files)
        manifest = _manifest(BUNDLE, opened, selection, keys, checkpoints)
    elif pubkeys or pubkey_files or checkpoints:
        raise click.UsageError("only a bundle brings keys and checkpoints with it: name it OUT.zip")
    if out == "-":
        with as_text(sys.stdout.buffer, terminal=sys.stdout.isatty()) as text:
            write(opened, text, form=chosen_form, selection=selection, manifest=manifest)
    else:
        count = write(opened, out, form=chosen_form, selection=selection, manifest=manifest)
        _tell(count, out, selection)


@click.command()
@click.argument("out", default="report.html", type=click.Path(path_type=Path))
@database_option
@tenant_option
@selection_options
@key_options
@_checkpoint_option
def report(
    *,
    out: Path, source: str | None, tenant: str | None,
    pubkeys: Sequence[str], pubkey_files: Sequence[Path], checkpoints: Sequence[Path], **chosen: Any,
) -> None:  # fmt: skip
    """Write a chain, or some of it, as a page that checks itself.

    The file OUT (report.html unless given) opens from disk, needs no network and loads nothing. It shows
    figures and plots, the tree of tasks and each capsule, and checks hashes, links, signatures and the
    children of tasks in the browser. A page can be altered as a whole: who does not trust it runs `capsuled
    verify OUT --pubkey KEY`, which reads its data only.
    """
    opened, selection = open_source(source, tenant=tenant), selection_of(chosen)
    keys = trusted_keys(pubkeys, pubkey_files)
    manifest = _manifest(REPORT, opened, selection, keys, checkpoints)
    records = (entry.record_text() for entry in select(opened.entries, selection))
    _tell(write_report(records, out, manifest=manifest), out, selection)


def _form(given: str | None, out: str) -> Form:
    ending = Path(out).suffix.removeprefix(".").lower()
    return Form(given or (ending if ending in set(Form) else Form.JSON))


def _manifest(
    kind: str,
    source: Source,
    selection: Selection,
    keys: Sequence[TrustedKey],
    checkpoints: Sequence[Path],
) -> dict[str, Any]:
    known = read_checkpoints(checkpoints)
    if known:
        known = of_chain(known, _first_hash(source))
    return manifest_of(
        kind,
        source=source.name,
        made_at=datetime.now(UTC),
        selection=selection,
        keys=keys,
        checkpoints=known,
    )


def _first_hash(source: Source) -> str | None:
    """Return the hash that the first record of a chain carries; ``None`` where there is none."""
    first = next(source.entries(), None)
    record = None if first is None else first.record()
    return None if record is None else record.get("hash")


def _tell(count: int, out: str | Path, selection: Selection) -> None:
    click.echo(f"{counted(count, 'capsule')} -> {out}")
    if not count and selection:
        asked = ", ".join(f"{name} {value}" for name, value in (selection.claim() or {}).items())
        click.echo(f"nothing in the chain is of this selection ({one_line(asked)})", err=True)

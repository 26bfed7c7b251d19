"""Export: a chain, or some of its records, out of wherever they are, into a file.

CPS 3.5 verifies the stored document, so the stored text goes out as it is: no number is printed anew and no
field is added, left out or reordered. Only the seal is put behind it. Everything streams.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, TextIO

from capsule_sdk.errors import EvidenceError
from capsule_sdk.outward import cell

from ..formats.bundle import write_bundle
from ..formats.entries import Entry
from ..formats.replacing import as_text, replacing
from ..selection import Selection, select
from ..showing.summary import FIELDS, row, summary_of
from ..sources import Source, SourceName, open_source

__all__ = ["Form", "export", "export_chain", "intact", "read_chain"]


class Form(StrEnum):
    """What an export can be written as."""

    JSON = "json"  #: a list, the form that ``capsule verify`` reads
    JSONL = "jsonl"  #: one record a line
    CSV = "csv"  #: the fields that records are found by, for a spreadsheet; it proves nothing
    BUNDLE = "zip"  #: records and what it takes to check them


def read_chain(source: SourceName = None, *, tenant: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the sealed records of a chain in sequence order: stored content and seal.

    Args:
        source: a path, a ``sqlite:///`` or a ``postgresql://`` URL; ``None`` is qp-capsule's
            default database.
        tenant: whose chain, in PostgreSQL; ``None`` is the global one, of records without tenant.

    Raises:
        EvidenceError: there is no chain, or it cannot be read.

    """
    opened = open_source(source, tenant=tenant)
    for entry in intact(opened, opened.entries()):
        record = entry.record()
        assert record is not None  # noqa: S101 - it is intact
        yield record


def export_chain(
    source: SourceName, out: str | os.PathLike[str] | TextIO, *, tenant: str | None = None
) -> int:
    """Write a whole chain as a JSON list, and return how many records it has.

    A database is opened read-only and read page by page, so memory does not grow with it and writers go on.
    What they add after the start is left out.

    Args:
        source: a path, a ``sqlite:///`` or a ``postgresql://`` URL; ``None`` is qp-capsule's
            default database.
        out: an open text file, or a path. A path gets the whole export or keeps what it had; a
            new file is readable by its owner only.
        tenant: whose chain, in PostgreSQL; ``None`` is the global one, of records without tenant.

    Raises:
        EvidenceError: there is no chain, it cannot be read, or ``out`` cannot be written.

    """
    return export(open_source(source, tenant=tenant), out)


def export(
    source: Source,
    out: str | os.PathLike[str] | TextIO,
    *,
    form: Form = Form.JSON,
    selection: Selection | None = None,
    manifest: Mapping[str, Any] | None = None,
) -> int:
    """Write the records of a chain, or some of them, and return how many there are.

    Args:
        source: see `capsule_sdk.evidence.sources.open_source`.
        out: as for `export_chain`.
        form: what to write; a bundle goes to a path only.
        selection: which records; all of them unless given.
        manifest: what a bundle says of itself; see `capsule_sdk.evidence.exporting.manifest`.

    Raises:
        EvidenceError: there is no chain, it cannot be read, or ``out`` cannot be written.

    """
    entries = intact(source, select(source.entries, selection or Selection()))
    if not isinstance(out, str | os.PathLike):
        if form is Form.BUNDLE:
            raise EvidenceError("a bundle is not a text: give a file to write it to")
        return _WRITERS[form](entries, out)
    with replacing(out) as file:
        if form is Form.BUNDLE:
            texts = (entry.record_text() for entry in entries)
            return write_bundle(texts, manifest or {}, file)
        with as_text(file) as text:
            return _WRITERS[form](entries, text)


def intact(source: Source, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield entries as long as each is a JSON object with a place in the chain.

    Raises:
        EvidenceError: one is not. Such a chain is to be kept as it is.

    """
    for place, entry in enumerate(entries):
        sequence, key = (
            (entry.columns.sequence, entry.columns.id) if entry.columns else (place, None)
        )
        if sequence is None:
            problem = f"{key} has no sequence"
        elif entry.fault is not None:
            problem = entry.fault
        elif entry.content() is None:
            problem = f"what it holds at sequence {sequence} is not a JSON object"
        else:
            yield entry
            continue
        raise EvidenceError(
            f"{source.name} was damaged or tampered with: {problem}; keep it as evidence (`capsuled"
            " verify` says all that is wrong with it), and go back to an earlier export or backup"
        )


def _write_json(entries: Iterable[Entry], file: TextIO) -> int:
    count = 0
    for entry in entries:
        file.write(",\n" if count else "[\n")
        file.write(entry.record_text())
        count += 1
    file.write("\n]\n" if count else "[]\n")
    return count


def _write_lines(entries: Iterable[Entry], file: TextIO) -> int:
    count = 0
    for count, entry in enumerate(entries, 1):  # noqa: B007 - the last number is how many there are
        # A line break can only stand between two tokens: inside a text JSON has it escaped.
        file.write(entry.record_text().replace("\n", " ").replace("\r", " ") + "\n")
    return count


def _write_csv(entries: Iterable[Entry], file: TextIO) -> int:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(FIELDS)
    count = 0
    for count, entry in enumerate(entries, 1):  # noqa: B007 - see above
        writer.writerow(map(cell, row(summary_of(entry.record() or {}))))
    return count


_WRITERS: Mapping[Form, Callable[[Iterable[Entry], TextIO], int]] = {
    Form.JSON: _write_json,
    Form.JSONL: _write_lines,
    Form.CSV: _write_csv,
}

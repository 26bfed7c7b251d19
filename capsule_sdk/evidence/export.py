"""Export: a chain out of its database, as the JSON that ``capsule verify`` and CPS readers take.

CPS 3.5 verifies the stored document, so the stored text goes out as it is: no number is printed
anew and no field is added, left out or reordered. Only the seal is put behind it.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from capsule_sdk.chain.location import is_postgresql, postgresql_identity, sqlite_path
from capsule_sdk.chain.reading import read_file, read_server
from capsule_sdk.chain.sqlite import is_database
from capsule_sdk.chain.table import StoredCapsule
from capsule_sdk.errors import ChainUnavailable, ConfigurationError, ExportError

__all__ = ["SEAL_FIELDS", "export_chain", "read_chain"]

#: What CPS puts beside the content, outside the hash.
SEAL_FIELDS: Final = ("hash", "signature", "signature_pq", "signed_at", "signed_by")


#: What names a chain: see `read_chain`.
Source = str | os.PathLike[str] | None


def read_chain(source: Source = None, *, tenant: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the sealed records of a chain in sequence order: stored content and seal.

    Args:
        source: a path, a ``sqlite:///`` or a ``postgresql://`` URL; ``None`` is qp-capsule's
            default database.
        tenant: whose chain, in PostgreSQL; ``None`` is the global one, of records without tenant.

    Raises:
        ExportError: there is no chain, or it cannot be read.

    """
    for document, seal, _ in _records(source, tenant):
        yield {**document, **seal}


def export_chain(
    source: Source, out: str | os.PathLike[str] | TextIO, *, tenant: str | None = None
) -> int:
    """Write the chain as a JSON array, one record a line, and return how many there are.

    The database is opened read-only and read page by page, so memory does not grow with it and
    writers go on. What they add after the start is left out.

    Args:
        source: a path, a ``sqlite:///`` or a ``postgresql://`` URL; ``None`` is qp-capsule's
            default database.
        out: an open text file, or a path. A path gets the whole export or keeps what it had; a
            new file is readable by its owner only.
        tenant: whose chain, in PostgreSQL; ``None`` is the global one, of records without tenant.

    Raises:
        ExportError: there is no chain, it cannot be read, or ``out`` cannot be written.

    """
    records = _records(source, tenant)
    if not isinstance(out, str | os.PathLike):
        return _write(records, out)
    path = Path(out)
    _refuse_to_replace_a_database(path)
    try:
        if path.exists() and not path.is_file():  # a pipe, a device: a directory fails by itself
            with path.open("w", encoding="utf-8") as file:
                return _write(records, file)
        return _write_whole(records, path)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}") from error


#: A stored document, its seal, and the document as the text that was stored.
_Record = tuple[dict[str, Any], dict[str, Any], str]


def _write_whole(records: Iterator[_Record], path: Path) -> int:
    path = Path(os.path.realpath(path))
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            count = _write(records, file)
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    return count


def _write(records: Iterator[_Record], file: TextIO) -> int:
    count = 0
    for document, seal, text in records:
        file.write(",\n" if count else "[\n")
        file.write(_splice(text, seal, empty=not document))
        count += 1
    file.write("\n]\n" if count else "[]\n")
    return count


def _splice(text: str, seal: dict[str, Any], *, empty: bool) -> str:
    """Put the seal into the object that the text holds, behind everything else.

    Were there a key of the same name, the later one counts in JSON readers, as in qp-capsule.
    """
    return f"{text.strip()[:-1]}{'' if empty else ', '}{json.dumps(seal)[1:]}"


def _records(source: Source, tenant: str | None) -> Iterator[_Record]:
    try:
        name, rows = _rows(source, tenant)
        row = None
        for row in rows:
            document = _document(row.data, name, row.sequence)
            yield document, {field: _seal_field(row, field) for field in SEAL_FIELDS}, row.data
        if row is None and tenant is not None:
            raise ExportError(f"{name} holds no capsules of tenant {tenant!r}: check the spelling")
    except (ChainUnavailable, ConfigurationError) as error:
        raise ExportError(str(error)) from error


def _rows(source: Source, tenant: str | None) -> tuple[str, Iterator[StoredCapsule]]:
    if is_postgresql(source):
        return postgresql_identity(str(source)), read_server(str(source), tenant)
    path = sqlite_path(source)
    if tenant is not None:
        raise ExportError(f"{path} holds one chain, of all tenants: leave out the tenant")
    if not path.is_file():
        raise ExportError(
            f"there is no database at {path}: name the one your capsules are in"
            + (", or set QUANTUMPIPES_DATA_DIR as your program has it" if source is None else "")
        )
    return str(path), read_file(path)


def _document(text: object, name: str, sequence: object) -> dict[str, Any]:
    try:
        document = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ExportError(
            f"{name} was damaged or tampered with: what it holds at sequence {sequence} is no JSON"
            " object; keep it as evidence, and go back to an earlier export or backup"
        )
    return document


def _seal_field(row: Any, name: str) -> str | None:
    value = getattr(row, name)
    return str(value) if value else (None if name == "signed_at" else "")


def _refuse_to_replace_a_database(path: Path) -> None:
    """Keep ``capsuled export capsules.db`` from replacing the chain by a JSON file."""
    if path.is_file() and is_database(path):
        raise ExportError(
            f"{path} is a database and is not overwritten; to export it, name it as the source"
            " (--db)"
        )

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

from capsule_sdk.chain.store import is_database, read_rows, sqlite_path
from capsule_sdk.errors import ChainUnavailable, ConfigurationError, ExportError

__all__ = ["SEAL_FIELDS", "export_chain", "read_chain"]

#: What CPS puts beside the content, outside the hash.
SEAL_FIELDS: Final = ("hash", "signature", "signature_pq", "signed_at", "signed_by")


def read_chain(source: str | os.PathLike[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the sealed records of a chain in sequence order: stored content and seal.

    Args:
        source: a path or ``sqlite:///`` URL; ``None`` is qp-capsule's default database.

    Raises:
        ExportError: there is no chain, or it cannot be read.

    """
    for document, seal, _ in _records(source):
        yield {**document, **seal}


def export_chain(
    source: str | os.PathLike[str] | None, out: str | os.PathLike[str] | TextIO
) -> int:
    """Write the chain as a JSON array, one record a line, and return how many there are.

    The database is opened read-only and read page by page, so memory does not grow with it and
    writers go on. What they add after the start is left out.

    Args:
        source: a path or ``sqlite:///`` URL; ``None`` is qp-capsule's default database.
        out: an open text file, or a path. A path gets the whole export or keeps what it had; a
            new file is readable by its owner only.

    Raises:
        ExportError: there is no chain, it cannot be read, or ``out`` cannot be written.

    """
    if not isinstance(out, str | os.PathLike):
        return _write(source, out)
    path = Path(out)
    _refuse_to_replace_a_database(path)
    try:
        if path.exists() and not path.is_file():  # a pipe, a device: a directory fails by itself
            with path.open("w", encoding="utf-8") as file:
                return _write(source, file)
        return _write_whole(source, path)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_whole(source: str | os.PathLike[str] | None, path: Path) -> int:
    path = Path(os.path.realpath(path))
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            count = _write(source, file)
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


def _write(source: str | os.PathLike[str] | None, file: TextIO) -> int:
    count = 0
    for document, seal, text in _records(source):
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


def _records(
    source: str | os.PathLike[str] | None,
) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    try:
        path = sqlite_path(source)
    except ConfigurationError as error:
        raise ExportError(str(error)) from error
    if not path.is_file():
        raise ExportError(
            f"there is no database at {path}: name the one your capsules are in"
            + (", or set QUANTUMPIPES_DATA_DIR as your program has it" if source is None else "")
        )
    try:
        for row in read_rows(path):
            document = _document(row.data, path, row.sequence)
            yield document, {name: _seal_field(row, name) for name in SEAL_FIELDS}, row.data
    except ChainUnavailable as error:
        raise ExportError(str(error)) from error


def _document(text: object, path: Path, sequence: object) -> dict[str, Any]:
    try:
        document = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ExportError(
            f"{path} was damaged or tampered with: what it holds at sequence {sequence} is no JSON"
            " object; keep the file as evidence, and go back to an earlier export or backup"
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

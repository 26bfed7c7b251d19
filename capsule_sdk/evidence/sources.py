"""Sources: whatever holds a chain, opened for reading, gives its entries in order, as they are stored.

A SQLite file, a PostgreSQL database, an exported JSON or JSON Lines file, a bundle, a report. Nothing is
written, nothing is checked, and memory does not grow with the chain.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from capsule_sdk.chain.location import is_postgresql, postgresql_identity, sqlite_path
from capsule_sdk.chain.paging import LEFT_OUT, RowsUnaccounted
from capsule_sdk.chain.reading import ChainLength, ChainReader, Glance, read_file, read_server
from capsule_sdk.chain.sqlite_reading import is_database
from capsule_sdk.chain.table import StoredCapsule
from capsule_sdk.errors import ChainMissing, ChainUnavailable, ConfigurationError, EvidenceError

from .chains import chains_beside, chains_in, elsewhere, name_of, tenants_with
from .formats.bundle import open_bundle
from .formats.entries import Columns, Entry
from .formats.report import read_report
from .formats.scanning import TOO_LARGE, scan

__all__ = ["Growing", "Source", "SourceName", "entry_of", "open_all", "open_source"]

#: What names a chain: a path, a URL, or ``None`` for qp-capsule's default database.
SourceName = str | os.PathLike[str] | None


@dataclass(frozen=True, slots=True)
class Source:
    """A chain that can be read from its beginning, any number of times.

    Attributes:
        name: what messages call it; no password stands in it.
        manifest: what a bundle or a report says of itself; ``None`` for everything else.
        tenant: whose chain it is, in PostgreSQL; ``None`` is the global one, and everything else.
        first_hash: the hash of its first record, where `open_all` found that.

    """

    name: str
    manifest: Mapping[str, Any] | None
    _read: Callable[[], Iterator[Entry]] = field(repr=False)
    _count: Callable[[], int | None] = field(default=lambda: None, repr=False)
    _reader: Callable[[], ChainReader] | None = field(default=None, repr=False)
    tenant: str | None = None
    first_hash: str | None = None
    _url: str | None = field(default=None, repr=False)  # with its password

    @property
    def is_one_of_many(self) -> bool:
        """Whether chains of other tenants may lie beside it."""
        return self._url is not None

    @property
    def title(self) -> str:
        """Its name, and in PostgreSQL, where each tenant has a chain, whose it is; printable."""
        return self.name if self._url is None else f"{self.name}, {name_of(self.tenant)}"

    def beside(self) -> list[ChainLength]:
        """Return the other chains that lie in the same database: none but in PostgreSQL.

        Raises:
            EvidenceError: the database cannot be read.

        """
        return [] if self._url is None else chains_beside(self._url, self.tenant)

    def refuse_if_elsewhere(self) -> None:
        """Look beside a chain that turned out to have no capsules.

        Raises:
            EvidenceError: others lie there, so that another one was meant, or no such tenant is there.

        """
        if self._url is not None and (why := elsewhere(self.name, self._url, self.tenant)):
            raise EvidenceError(why)

    def elsewhere(self, start: str) -> list[str | None]:
        """Return the tenants in whose chains, beside this one, the ids of capsules begin so.

        Raises:
            EvidenceError: the database cannot be read.

        """
        return [] if self._url is None else tenants_with(self._url, start, self.tenant)

    def entries(self) -> Iterator[Entry]:
        """Yield what it holds now, in chain order.

        Raises:
            EvidenceError: it cannot be read, or not to its end.

        """
        return self._read()

    def count(self) -> int | None:
        """Return how many there are; ``None`` where that cannot be told without reading them."""
        try:
            return self._count()
        except ChainUnavailable:
            return None

    @property
    def grows(self) -> bool:
        """Whether it is a database, to which more may be added while it is read."""
        return self._reader is not None

    @contextmanager
    def growing(self) -> Iterator[Growing]:
        """Keep a database open, to look at what is new as often as one likes.

        Raises:
            EvidenceError: it is no database, or its URL cannot be used.

        """
        if self._reader is None:
            raise EvidenceError(f"{self.name} is a file that was exported: nothing is added to it")
        try:
            reader = self._reader()
        except ConfigurationError as error:
            raise EvidenceError(str(error)) from error
        with closing(reader):
            yield Growing(reader, of_tenants=self.is_one_of_many)


class Growing:
    """A chain in a database that is kept open; see `Source.growing`.

    Raises:
        EvidenceError: it cannot be read now; the next look may succeed.

    """

    def __init__(self, reader: ChainReader, *, of_tenants: bool) -> None:
        self._reader, self._of_tenants = reader, of_tenants

    def last(self) -> int | None:
        """Return the sequence of its last record; ``None`` where there is none, or it is no number."""
        try:
            return self._reader.last_sequence()
        except ChainUnavailable as error:
            raise EvidenceError(str(error)) from error

    def entries(self, after: int | None = None) -> Iterator[Entry]:
        """Yield what it holds now behind a sequence, or all of it, in chain order."""
        return _of_rows(self._reader.rows(after), of_tenants=self._of_tenants)


def open_source(source: SourceName = None, *, tenant: str | None = None) -> Source:
    """Find out what holds a chain, without reading it yet.

    Args:
        source: a path, a ``sqlite:///`` or a ``postgresql://`` URL; ``None`` is qp-capsule's default
            database, which honours ``QUANTUMPIPES_DATA_DIR``.
        tenant: whose chain, in PostgreSQL; ``None`` is the global one, of records without tenant.

    Raises:
        EvidenceError: there is nothing there, or nothing that holds a chain.

    """
    try:
        if is_postgresql(source):
            return _server(str(source), tenant)
        path = sqlite_path(source)
    except ConfigurationError as error:
        raise EvidenceError(str(error)) from error
    if tenant is not None:
        raise EvidenceError(f"{path} holds one chain, of all tenants: leave out the tenant")
    if not path.is_file():
        raise ChainMissing(
            path,
            "name the database or the file your capsules are in, with --db or CAPSULE_SDK_URL"
            + (", or set QUANTUMPIPES_DATA_DIR as your program has it" if source is None else ""),
        )
    # First: to open a database other than through SQLite takes away the locks of this process's writer.
    if is_database(path):
        return Source(
            str(path),
            None,
            lambda: _of_rows(read_file(path)),
            lambda: _count_in(path),
            lambda: ChainReader(path),
        )
    try:
        return _file(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def open_all(source: SourceName = None) -> list[Source]:
    """Open all chains that lie in one place, the global one first: one a tenant in PostgreSQL, else the one.

    Raises:
        EvidenceError: there is nothing there, or nothing that holds a chain.

    """
    opened = open_source(source)
    if not is_postgresql(source):
        return [opened]
    url = str(source)
    found = [_server(url, one.tenant, one.first_hash) for one in chains_in(url)]
    return found or [opened]


def _count_in(path: Path) -> int:
    with closing(Glance(path)) as glance:
        return glance.count()[0]


def _server(url: str, tenant: str | None, first_hash: str | None = None) -> Source:
    name = postgresql_identity(url)

    def read() -> Iterator[Entry]:
        entry = None
        for entry in _of_rows(read_server(url, tenant), of_tenants=True):
            yield entry
        if entry is None:
            source.refuse_if_elsewhere()

    reader = partial(ChainReader, url, tenant)
    source = Source(
        name, None, read, _reader=reader, tenant=tenant, first_hash=first_hash, _url=url
    )
    return source


def _file(path: Path) -> Source:
    with path.open("rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"PK\x03\x04"):
        with open_bundle(path) as bundle:
            return Source(str(path), bundle.manifest, lambda: _in_bundle(path))
    if start.startswith(b"<"):
        with path.open("rb") as page, _named(path):
            manifest, _ = read_report(page)
            return Source(str(path), manifest, lambda: _in_report(path))
    return Source(str(path), None, lambda: _in_text(path))


def _in_text(path: Path) -> Iterator[Entry]:
    with _named(path), path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        yield from _scanned(file)


def _in_bundle(path: Path) -> Iterator[Entry]:
    with open_bundle(path) as bundle, _named(path):
        yield from _scanned(bundle.records)


def _in_report(path: Path) -> Iterator[Entry]:
    with _named(path), path.open("rb") as page:
        _, records = read_report(page)
        yield from map(Entry, records)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the name of the file before what is wrong with it."""
    try:
        yield
    except EvidenceError as error:
        raise EvidenceError(f"{path}: {error}") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> EvidenceError:
    return EvidenceError(f"{path} cannot be read: {error.strerror or error}")


def _scanned(file: TextIO) -> Iterator[Entry]:
    return (Entry(piece.text, fault=piece.fault) for piece in scan(file))


def _of_rows(rows: Iterator[StoredCapsule], *, of_tenants: bool = False) -> Iterator[Entry]:
    try:
        for row in rows:
            yield entry_of(row, of_tenants=of_tenants)
    except RowsUnaccounted as error:  # a finding beside the others, not the end of looking
        yield Entry("", fault=str(error))
    except (ChainUnavailable, ConfigurationError) as error:
        raise EvidenceError(str(error)) from error


def entry_of(row: StoredCapsule, *, of_tenants: bool = False) -> Entry:
    """Return a row of the table as an entry; ``of_tenants`` where the table holds a chain for each tenant."""
    seal = (row.hash, row.signature, row.signature_pq, row.signed_at, row.signed_by)
    found_by = (row.sequence, row.id, row.type, row.previous_hash, row.session_id)
    columns = Columns(*found_by, row.domain, row.tenant_id, of_tenants)
    text: object = row.data
    if text is LEFT_OUT:
        return Entry("", seal, columns, TOO_LARGE)
    if isinstance(text, bytes):  # SQLite keeps whatever it is given
        text = text.decode("utf-8", "surrogateescape")
    if not isinstance(text, str):
        return Entry("", seal, columns, f"what is stored is no text but {type(text).__name__}")
    return Entry(text, seal, columns)

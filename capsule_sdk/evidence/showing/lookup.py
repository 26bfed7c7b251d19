"""Lookup: one record of a chain by its number, its id or the start of it, and its next of kin."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from capsule_sdk.errors import EvidenceError
from capsule_sdk.outward import LONGEST, one_line

from ..chains import name_of
from ..formats.entries import Entry
from ..sources import Source
from .summary import Summary, summary_of
from .uri import SCHEME, CapsuleURI

__all__ = ["Kin", "Relatives", "field_of", "find", "kin_of"]

_SHORTEST = 4  # characters of an id that may stand for the whole
_LISTED = 5  # candidates that a message names
_PART_OF_ID: Final = re.compile(rf"[0-9a-f-]{{{_SHORTEST},36}}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class _Candidate:
    entry: Entry
    sequences: frozenset[object]
    ids: frozenset[str]


class _Found:
    """What fits equally well: the first of it whole, and the names of as many as a message lists."""

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.names: list[str] = []
        self.count = 0

    def add(self, candidate: _Candidate) -> None:
        self.count += 1
        if self.entry is None:
            self.entry = candidate.entry
        if len(self.names) < _LISTED:
            self.names.append(_name(candidate))


def find(source: Source, wanted: str) -> Entry:
    """Return the record that a user means.

    A whole id comes before a number, a number before the start of an id. In a database, what the row is found
    by counts as much as what the content says: where somebody has altered one of them, both lead there.

    Args:
        source: the chain.
        wanted: a number, an id, the first four characters of an id or more, or a capsule URI; the name of the
            chain in it is not looked at.

    Raises:
        EvidenceError: there is none, or more than one.

    """
    if wanted.startswith(SCHEME):
        uri = CapsuleURI.parse(wanted)
        if uri.hash is not None:
            return _with_hash(source, uri.hash)
        wanted = uri.id or str(uri.sequence)
    exact, numbered, begun = _Found(), _Found(), _Found()
    key = wanted.strip().removeprefix("#").lower()
    number = int(key) if _NUMBER.fullmatch(key) else None
    for candidate in _candidates(source, key, number):
        if key in candidate.ids:
            exact.add(candidate)
        elif number is not None and number in candidate.sequences:
            numbered.add(candidate)
        else:
            begun.add(candidate)
    found = next((group for group in (exact, numbered, begun) if group.count), None)
    if found is None or found.entry is None:
        raise EvidenceError(_nothing(source, wanted))
    if found.count > 1:
        raise EvidenceError(_several(wanted, found))
    return found.entry


def field_of(record: Mapping[str, Any], way: str) -> object:
    """Return what stands at the end of a way into a record, as the fragment of a capsule URI has it.

    Raises:
        EvidenceError: nothing stands there.

    """
    value: object = record
    for step in way.split("/"):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and _NUMBER.fullmatch(step) and int(step) < len(value):
            value = value[int(step)]
        else:
            raise EvidenceError(f"the capsule has no field {way!r}")
    return value


def _with_hash(source: Source, wanted: str) -> Entry:
    for entry in source.entries():
        record = entry.record()
        if record is not None and record.get("hash") == wanted:
            return entry
    raise EvidenceError(_nothing(source, wanted))


def _candidates(source: Source, key: str, number: int | None) -> Iterator[_Candidate]:
    for entry in source.entries():
        content = entry.content() or {}
        rows = entry.columns
        sequences: frozenset[Any] = frozenset(
            value
            for value in (content.get("sequence"), rows.sequence if rows else None)
            if isinstance(value, int) and not isinstance(value, bool)
        )
        ids = frozenset(
            value.lower()
            for value in (content.get("id"), rows.id if rows else None)
            if isinstance(value, str)
        )
        begins = len(key) >= _SHORTEST and any(one.startswith(key) for one in ids)
        if begins or key in ids or (number is not None and number in sequences):
            yield _Candidate(entry, sequences, ids)


def _nothing(source: Source, wanted: str) -> str:
    if len(wanted) < _SHORTEST and not _NUMBER.fullmatch(wanted):
        return f"{wanted!r} is too short: give a number, or {_SHORTEST} characters of an id or more"
    nothing = f"there is no capsule {wanted!r} in {source.title}"
    start = wanted.strip().lower()
    if _PART_OF_ID.fullmatch(start) and (tenants := source.elsewhere(start)):
        named = ", ".join(map(name_of, tenants[:_LISTED]))
        return f"{nothing}: the one of that id is in another chain: {named} (see --tenant)"
    return f"{nothing}: `capsuled tail` and `capsuled tree` list them"


def _several(wanted: str, found: _Found) -> str:
    listed = ", ".join(found.names)
    more = " and more" if found.count > len(found.names) else ""
    return (
        f"{wanted!r} fits several capsules: {listed}{more}: name one by its whole id, or its number"
    )


def _name(candidate: _Candidate) -> str:
    numbers = "/".join(f"#{number}" for number in sorted(map(str, candidate.sequences)))
    return f"{numbers or '#?'} {'/'.join(map(one_line, sorted(candidate.ids))) or 'without id'}"


@dataclass(slots=True)
class Relatives:
    """Records that belong to another one, of which there may be any number.

    Attributes:
        first: what a list of them shows of each, in chain order, as far as it goes.
        count: how many there are in all.

    """

    first: list[Summary] = field(default_factory=list)
    count: int = 0

    def add(self, record: Mapping[str, Any], most: int) -> None:
        """Count one, and keep what a list shows of it while there are no more than ``most``."""
        self.count += 1
        if self.count <= most:
            self.first.append(_named(summary_of(record)))


@dataclass(slots=True)
class Kin:
    """What belongs to a record.

    Attributes:
        parents: the task that it belongs to; several where an id stands in the chain more than once.
        children: what belongs to it.

    """

    parents: Relatives = field(default_factory=Relatives)
    children: Relatives = field(default_factory=Relatives)


def kin_of(source: Source, record: Mapping[str, Any], most: int) -> Kin:
    """Return the parent and the children of a record, ``most`` of them by name and the others counted."""
    own = summary_of(record)
    kin = Kin()
    for entry in source.entries():
        other = entry.record()
        if other is None:
            continue
        if own.parent_id is not None and _same(other.get("id"), own.parent_id):
            kin.parents.add(other, most)
        if own.id is not None and _same(other.get("parent_id"), own.id):
            kin.children.add(other, most)
    return kin


def _named(summary: Summary) -> Summary:
    """Return what names a record and how it ended, and no more of a text than a line shows."""
    return Summary(
        sequence=summary.sequence,
        id=_cut(summary.id),
        status=_cut(summary.status),
        name=_cut(summary.name),
        llm_call=summary.llm_call,
        model=_cut(summary.model),
    )


def _cut(text: str | None) -> str | None:
    return text and text[:LONGEST]


def _same(found: object, key: str) -> bool:
    return isinstance(found, str) and found.lower() == key.lower()

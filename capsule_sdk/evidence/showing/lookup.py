"""Lookup: one record of a chain by its number, its id or the start of it, and its next of kin."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from capsule_sdk.errors import EvidenceError

from ..formats.entries import Entry
from ..sources import Source
from .summary import Summary, summary_of
from .uri import SCHEME, CapsuleURI
from .wording import one_line

__all__ = ["Kin", "field_of", "find", "kin_of"]

_SHORTEST = 4  # characters of an id that may stand for the whole
_LISTED = 5  # candidates that a message names
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class _Candidate:
    entry: Entry
    sequences: frozenset[object]
    ids: frozenset[str]


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
    exact: list[_Candidate] = []
    numbered: list[_Candidate] = []
    begun: list[_Candidate] = []
    key = wanted.strip().removeprefix("#").lower()
    number = int(key) if _NUMBER.fullmatch(key) else None
    for candidate in _candidates(source, key, number):
        if key in candidate.ids:
            exact.append(candidate)
        elif number is not None and number in candidate.sequences:
            numbered.append(candidate)
        elif len(begun) <= _LISTED:
            begun.append(candidate)
    found = exact or numbered or begun
    if not found:
        raise EvidenceError(_nothing(source, wanted))
    if len(found) > 1:
        raise EvidenceError(_several(wanted, found))
    return found[0].entry


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
    return f"there is no capsule {wanted!r} in {source.name}: `capsuled tail` and `capsuled tree` list them"


def _several(wanted: str, found: list[_Candidate]) -> str:
    listed = ", ".join(_name(one) for one in found[:_LISTED])
    more = " and more" if len(found) > _LISTED else ""
    return (
        f"{wanted!r} fits several capsules: {listed}{more}: name one by its whole id, or its number"
    )


def _name(candidate: _Candidate) -> str:
    numbers = "/".join(f"#{number}" for number in sorted(map(str, candidate.sequences)))
    return f"{numbers or '#?'} {'/'.join(map(one_line, sorted(candidate.ids))) or 'without id'}"


@dataclass(slots=True)
class Kin:
    """What belongs to a record.

    Attributes:
        parents: the task that it belongs to; several where an id stands in the chain more than once.
        children: what belongs to it, in chain order.

    """

    parents: list[Summary] = field(default_factory=list)
    children: list[Summary] = field(default_factory=list)


def kin_of(source: Source, record: Mapping[str, Any]) -> Kin:
    """Return the parent and the children of a record."""
    own = summary_of(record)
    kin = Kin()
    for entry in source.entries():
        other = entry.record()
        if other is None:
            continue
        if own.parent_id is not None and _same(other.get("id"), own.parent_id):
            kin.parents.append(summary_of(other))
        if own.id is not None and _same(other.get("parent_id"), own.id):
            kin.children.append(summary_of(other))
    return kin


def _same(found: object, key: str) -> bool:
    return isinstance(found, str) and found.lower() == key.lower()

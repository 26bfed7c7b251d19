"""Checkpoints held against a chain: what it once was, said by its signer and kept where the chain is not.

They find what the chain alone cannot tell of: that its end was cut off, that it was rewritten by somebody who
has the key, that an older state of it was put back.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from capsule_sdk.chain.checkpoint import (
    NOTE_SIZE,
    Checkpoint,
    SignedCheckpoint,
    default_origin,
    parse,
)
from capsule_sdk.chain.checkpoint_files import SUFFIX
from capsule_sdk.errors import EvidenceError

from .brought import Brought
from .findings import Finding, Reason
from .record import Facts

__all__ = ["Checkpoints", "KnownCheckpoint", "of_chain", "placed", "read_checkpoints"]

_BY_FIRST_HASH: Final = re.compile(
    re.escape(default_origin("0" * 64).rstrip("0")) + "([0-9a-f]{64})"
)


@dataclass(frozen=True, slots=True)
class KnownCheckpoint:
    """A checkpoint, and who brought it.

    Attributes:
        note: what it says.
        place: where it is from, in words.
        text: the whole note.
        brought: by whom; one that the file brought proves nothing of it.
        among_others: whether it lay in a directory, where those of other chains may lie too.

    """

    note: SignedCheckpoint
    place: str
    text: str
    brought: Brought
    among_others: bool = False


def read_checkpoints(paths: Iterable[Path]) -> list[KnownCheckpoint]:
    """Read checkpoints from files, and from directories all that end in ``.checkpoint``.

    Raises:
        EvidenceError: one of them cannot be read or is not a checkpoint; there is none in a directory.

    """
    known: list[KnownCheckpoint] = []
    for path in paths:
        if not path.is_dir():
            known.append(_read(path))
            continue
        files = [file for file in sorted(path.rglob(f"*{SUFFIX}")) if file.is_file()]
        if not files:
            raise EvidenceError(f"there is no checkpoint in {path}: no file in it ends in {SUFFIX}")
        known += [replace(_read(file), among_others=True) for file in files]
    return known


def _read(path: Path) -> KnownCheckpoint:
    try:
        with path.open("rb") as file:
            content = file.read(NOTE_SIZE + 1)
        return KnownCheckpoint(parse(content), str(path), content.decode(), Brought.KEPT)
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror or error}") from error
    except EvidenceError as error:
        raise EvidenceError(f"{path}: {error}") from error


def of_chain(known: Sequence[KnownCheckpoint], first_hash: str | None) -> list[KnownCheckpoint]:
    """Leave out of directories the checkpoints that name another chain by its first record.

    Raises:
        EvidenceError: none of them is left.

    """
    own = [one for one in known if not one.among_others or _first_hash(one) in (None, first_hash)]
    if known and not own:
        raise EvidenceError(
            f"none of {len(known)} checkpoints is of this chain: they name other first records;"
            " name the files themselves to put them in all the same"
        )
    return own


def placed(
    known: Sequence[KnownCheckpoint], first_hashes: Sequence[str | None]
) -> tuple[list[list[KnownCheckpoint]], list[KnownCheckpoint]]:
    """Find the chain of each checkpoint, among several in one place, by the first record that it names.

    Args:
        known: the checkpoints.
        first_hashes: the hash of the first record of each chain; ``None`` where it has none.

    Returns:
        Those of each chain, in the order of the chains; and those of which no chain is here.

    Raises:
        EvidenceError: one calls its chain by a name that somebody chose, which tells of none of them.

    """
    found: list[list[KnownCheckpoint]] = [[] for _ in first_hashes]
    homeless: list[KnownCheckpoint] = []
    for one in known:
        first = _first_hash(one)
        if first is None:
            raise EvidenceError(
                f"{one.place} calls its chain {one.note.checkpoint.origin!r}, which says of none of several"
                " whether it is the one: hold it against its own chain, with --tenant or without"
            )
        own = [place for place, hashed in enumerate(first_hashes) if hashed == first]
        for place in own:
            found[place].append(one)
        if not own:
            homeless.append(one)
    return found, homeless


class Checkpoints:
    """The checkpoints of one side that a chain is held against as it goes by: kept ones, or those in the file.

    The two never meet: what the file brings must not decide what becomes of what was kept.

    In one directory many chains may keep theirs. What lies there and names another chain is passed over, if
    one of the others fits. By its default a checkpoint names a chain by the hash of its first record; where
    somebody chose another name, it cannot be told whether it is one of this chain or not.

    Attributes:
        known: how many were given.
        compared: how many were held against the chain.
        newest: of those that fit, the one of the longest chain.

    """

    def __init__(self, known: Sequence[KnownCheckpoint], public: Sequence[str]) -> None:
        """Take them in.

        Args:
            known: the checkpoints.
            public: the keys that their signatures have to fit, in hexadecimal; without any none is checked.

        """
        self.known = len(known)
        self.compared = 0
        self.newest: Checkpoint | None = None
        #: the names of the chain, by those that fit
        self._names: set[str] = set()
        #: those whose signature fits none of the keys
        self._invalid: list[KnownCheckpoint] = []
        #: those not yet met, by the number of the record that each of them names
        self._ahead: dict[int, list[KnownCheckpoint]] = defaultdict(list)
        #: those in whose name another first record stands
        self._foreign: list[KnownCheckpoint] = []
        #: those that do not fit, with what is to be said of them
        self._unfit: list[tuple[KnownCheckpoint, Finding]] = []
        for one in known:
            if public and one.note.verified_by(public) is None:
                self._invalid.append(one)
            else:
                self._ahead[one.note.checkpoint.size - 1].append(one)

    def __bool__(self) -> bool:
        return bool(self._ahead or self._invalid)

    def compare(self, facts: Facts, position: int) -> None:
        """Compare those that were made when this record was the last one."""
        if facts.sequence is None:
            return
        if facts.sequence == 0:
            self._put_foreign_aside(facts)
        for one in self._ahead.pop(facts.sequence, ()):
            self.compared += 1
            if one.note.checkpoint.head == facts.hash:
                self.newest = one.note.checkpoint
                self._names.add(one.note.checkpoint.origin)
            else:
                where = facts.sequence, facts.id, position
                self._unfit.append((one, Finding(Reason.CHECKPOINT_MISMATCH, *where, _shown(one))))

    def end(self, *, whole: bool) -> Iterator[Finding]:
        """Yield what does not fit.

        Args:
            whole: the chain was read to its end, and has to be all of it.

        """
        for one in self._invalid:
            yield Finding(Reason.CHECKPOINT_INVALID, detail=_shown(one))
        for one in self._contradicting(whole=whole):
            detail = f"{_shown(one)}, of a chain that began with another record"
            yield Finding(Reason.CHECKPOINT_MISMATCH, detail=detail)
        if whole:
            ahead = [one for _, group in sorted(self._ahead.items()) for one in group]
            self.compared += len(ahead)
            self._unfit += [
                (one, Finding(Reason.CHECKPOINT_TRUNCATED, detail=_shown(one))) for one in ahead
            ]
        for one, finding in self._unfit:
            if not self._is_of_unknown_name(one):
                yield finding

    def of_unknown_name(self) -> int:
        """Return how many do not fit and may be of another chain that keeps its own in the same directory."""
        return sum(self._is_of_unknown_name(one) for one, _ in self._unfit)

    def left(self) -> list[KnownCheckpoint]:
        """Return those that a selection could not be held against."""
        return [*self._foreign, *(one for group in self._ahead.values() for one in group)]

    def passed_over(self) -> int:
        """Return how many are of other chains, by the first record that they name, and were not used."""
        return sum(one.among_others for one in self._foreign) if self.newest is not None else 0

    def _contradicting(self, *, whole: bool) -> list[KnownCheckpoint]:
        """Return those whose chain began with another record, and that are meant for this one."""
        if whole:
            return [one for one in self._foreign if self.newest is None or not one.among_others]
        # A selection that holds the first record contradicts what was kept of this chain alone.
        return [one for one in self._foreign if _is_meant(one)]

    def _put_foreign_aside(self, facts: Facts) -> None:
        def is_foreign(one: KnownCheckpoint) -> bool:
            return _first_hash(one) not in {None, facts.hash}

        for size, group in self._ahead.items():
            self._foreign += [one for one in group if is_foreign(one)]
            self._ahead[size] = [one for one in group if not is_foreign(one)]
        # A note of another chain is signed with another key, as often as not.
        aside = [one for one in self._invalid if one.among_others and is_foreign(one)]
        self._foreign += aside
        self._invalid = [one for one in self._invalid if not (one.among_others and is_foreign(one))]

    def _is_of_unknown_name(self, one: KnownCheckpoint) -> bool:
        name = one.note.checkpoint.origin
        return bool(
            one.among_others
            and self._names
            and name not in self._names
            and _first_hash(one) is None
        )


def _is_meant(known: KnownCheckpoint) -> bool:
    """Tell whether somebody has named this very checkpoint, for this chain."""
    return known.brought is Brought.KEPT and not known.among_others


def _first_hash(known: KnownCheckpoint) -> str | None:
    """Return the hash of the first record, where the origin holds it."""
    named = _BY_FIRST_HASH.fullmatch(known.note.checkpoint.origin)
    return named and named[1]


def _shown(known: KnownCheckpoint) -> str:
    checkpoint = known.note.checkpoint
    return f"{known.place}: {checkpoint.size} records at {checkpoint.time.isoformat()}"

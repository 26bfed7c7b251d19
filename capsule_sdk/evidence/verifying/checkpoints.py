"""Checkpoints held against a chain: what it once was, said by its signer and kept where the chain is not.

They find what the chain alone cannot tell of: that its end was cut off, that it was rewritten by somebody who
has the key, that an older state of it was put back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from capsule_sdk.chain.checkpoint import (
    NOTE_SIZE,
    Checkpoint,
    SignedCheckpoint,
    default_origin,
    parse,
)
from capsule_sdk.chain.checkpoint_files import SUFFIX
from capsule_sdk.errors import EvidenceError

from .findings import Finding, Reason
from .keys import IN_THE_FILE, TrustedKey
from .record import Facts

__all__ = ["Checkpoints", "KnownCheckpoint", "read_checkpoints"]

_PREFIX = default_origin("0" * 64).rstrip("0")


@dataclass(frozen=True, slots=True)
class KnownCheckpoint:
    """A checkpoint that somebody kept.

    Attributes:
        note: what it says.
        place: where it is from.
        text: the whole note.
        among_others: whether it lay in a directory, where those of other chains may lie too.

    """

    note: SignedCheckpoint
    place: str
    text: str
    among_others: bool = False


def read_checkpoints(paths: Iterable[Path]) -> list[KnownCheckpoint]:
    """Read checkpoints from files, and from directories all that end in ``.checkpoint``.

    Raises:
        EvidenceError: one of them cannot be read or is no checkpoint; there is none in a directory.

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
        return KnownCheckpoint(parse(content), str(path), content.decode())
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror or error}") from error
    except EvidenceError as error:
        raise EvidenceError(f"{path}: {error}") from error


class Checkpoints:
    """The checkpoints that one chain is held against, as it goes by.

    Attributes:
        invalid: findings on those whose signature fits no key.
        compared: how many were held against the chain.
        newest: of those that fit, the one of the longest chain.

    """

    def __init__(self, known: Sequence[KnownCheckpoint], keys: Sequence[TrustedKey] | None) -> None:
        public = None if keys is None else [key.public_key for key in keys]
        self.invalid: list[Finding] = []
        self.compared = 0
        self.newest: Checkpoint | None = None
        #: those not yet met, by the number of the record that each of them names
        self._ahead: dict[int, list[KnownCheckpoint]] = defaultdict(list)
        #: those in whose name another first record stands
        self._foreign: list[KnownCheckpoint] = []
        for one in known:
            if public is not None and one.note.verified_by(public) is None:
                self.invalid.append(Finding(Reason.CHECKPOINT_INVALID, detail=_shown(one)))
            else:
                self._ahead[one.note.checkpoint.size - 1].append(one)

    def __bool__(self) -> bool:
        return bool(self._ahead)

    def compare(self, facts: Facts, position: int) -> Iterator[Finding]:
        """Compare those that were made when this record was the last one."""
        if facts.sequence is None:
            return
        if facts.sequence == 0:
            self._put_foreign_aside(facts)
        for one in self._ahead.pop(facts.sequence, ()):
            self.compared += 1
            if one.note.checkpoint.head == facts.hash:
                self.newest = one.note.checkpoint
            else:
                where = facts.sequence, facts.id, position
                yield Finding(Reason.CHECKPOINT_MISMATCH, *where, _shown(one))

    def end(self) -> Iterator[Finding]:
        """Yield those that the chain never came to, and those of another chain.

        Where many chains keep theirs in one directory, the others are passed over, if one fits.
        """
        for one in self._foreign:
            if self.newest is None or not one.among_others:
                detail = f"{_shown(one)}, of a chain that began with another record"
                yield Finding(Reason.CHECKPOINT_MISMATCH, detail=detail)
        ahead = [one for _, group in sorted(self._ahead.items()) for one in group]
        self.compared += len(ahead)
        for one in ahead:
            yield Finding(Reason.CHECKPOINT_TRUNCATED, detail=_shown(one))

    def left(self) -> list[KnownCheckpoint]:
        """Return those that somebody gave and that a selection could not be held against."""
        every = [*self._foreign, *(one for group in self._ahead.values() for one in group)]
        return [one for one in every if one.place != IN_THE_FILE]

    def _put_foreign_aside(self, facts: Facts) -> None:
        for size, group in list(self._ahead.items()):
            own = [one for one in group if _first_hash(one.note.checkpoint) in {None, facts.hash}]
            self._foreign += [one for one in group if one not in own]
            self._ahead[size] = own


def _first_hash(checkpoint: Checkpoint) -> str | None:
    """Return the hash of the first record, where the origin holds it."""
    rest = checkpoint.origin.removeprefix(_PREFIX)
    return rest if rest != checkpoint.origin else None


def _shown(known: KnownCheckpoint) -> str:
    checkpoint = known.note.checkpoint
    return f"{known.place}: {checkpoint.size} records at {checkpoint.time.isoformat()}"

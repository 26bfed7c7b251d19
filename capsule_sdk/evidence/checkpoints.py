"""Checkpoints held against a chain: what it once was, said by its signer and kept where the chain is not.

They find what the chain alone cannot tell of: that its end was cut off, that it was rewritten by somebody who
has the key, that an older state of it was put back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from capsule_sdk.chain.checkpoint import Checkpoint, SignedCheckpoint, default_origin, parse
from capsule_sdk.errors import EvidenceError

from .findings import Finding, Reason
from .keys import TrustedKey
from .record import Facts

__all__ = ["Checkpoints", "KnownCheckpoint", "read_checkpoints"]

_SUFFIX = ".checkpoint"
_PREFIX = default_origin("0" * 64).rstrip("0")


@dataclass(frozen=True, slots=True)
class KnownCheckpoint:
    """A checkpoint that somebody kept.

    Attributes:
        note: what it says.
        place: where it is from.
        text: the whole note.

    """

    note: SignedCheckpoint
    place: str
    text: str


def read_checkpoints(paths: Iterable[Path]) -> list[KnownCheckpoint]:
    """Read checkpoints from files, and from directories all that end in ``.checkpoint``.

    Raises:
        EvidenceError: one of them cannot be read or is no checkpoint; there is none in a directory.

    """
    known: list[KnownCheckpoint] = []
    for path in paths:
        files = sorted(path.rglob(f"*{_SUFFIX}")) if path.is_dir() else [path]
        if not files:
            raise EvidenceError(
                f"there is no checkpoint in {path}: none of its files ends in {_SUFFIX}"
            )
        known += map(_read, files)
    return known


def _read(path: Path) -> KnownCheckpoint:
    try:
        content = path.read_bytes()
        return KnownCheckpoint(parse(content), str(path), content.decode())
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror or error}") from error
    except EvidenceError as error:
        raise EvidenceError(f"{path}: {error}") from error


class Checkpoints:
    """The checkpoints that one chain is held against, as it goes by."""

    def __init__(self, known: Sequence[KnownCheckpoint], keys: Sequence[TrustedKey] | None) -> None:
        public = None if keys is None else [key.public_key for key in keys]
        self.invalid: list[Finding] = []
        self.compared = 0
        #: those not yet met, by the number of the record that each of them names
        self._ahead: dict[int, list[KnownCheckpoint]] = defaultdict(list)
        for one in known:
            if public is not None and one.note.verified_by(public) is None:
                self.invalid.append(Finding(Reason.CHECKPOINT_INVALID, detail=_shown(one)))
            else:
                self._ahead[one.note.checkpoint.size - 1].append(one)

    def compare(self, facts: Facts, position: int) -> Iterator[Finding]:
        """Compare those that were made when this record was the last one."""
        if facts.sequence == 0:
            yield from self._begin(facts, position)
        for one in self._ahead.pop(facts.sequence, ()) if facts.sequence is not None else ():
            self.compared += 1
            if one.note.checkpoint.head != facts.hash:
                yield Finding(
                    Reason.CHECKPOINT_MISMATCH, facts.sequence, facts.id, position, _shown(one)
                )

    def end(self) -> Iterator[Finding]:
        """Yield those that the chain never came to."""
        for one in self.left():
            self.compared += 1
            yield Finding(Reason.CHECKPOINT_TRUNCATED, detail=_shown(one))

    def left(self) -> list[KnownCheckpoint]:
        """Return those that were not compared with a record."""
        return [one for _, group in sorted(self._ahead.items()) for one in group]

    def _begin(self, facts: Facts, position: int) -> Iterator[Finding]:
        """Put aside those that name another chain by its first record."""
        for size, group in list(self._ahead.items()):
            foreign = [
                one for one in group if _first_hash(one.note.checkpoint) not in {None, facts.hash}
            ]
            self._ahead[size] = [one for one in group if one not in foreign]
            for one in foreign:
                self.compared += 1
                yield Finding(
                    Reason.CHECKPOINT_MISMATCH, facts.sequence, facts.id, position,
                    f"{_shown(one)}, of a chain that began with another record",
                )  # fmt: skip


def _first_hash(checkpoint: Checkpoint) -> str | None:
    """Return the hash of the first record, where the origin holds it."""
    rest = checkpoint.origin.removeprefix(_PREFIX)
    return rest if rest != checkpoint.origin else None


def _shown(known: KnownCheckpoint) -> str:
    checkpoint = known.note.checkpoint
    return f"{known.place}: {checkpoint.size} records at {checkpoint.time.isoformat()}"

"""Capsule URIs: how a document outside the chain points into it (CPS, Capsule URI Scheme 1.0).

``capsule://<hash>``, ``capsule://<id>``, ``capsule://<chain>/<sequence>``, ``capsule://<chain>/<hash>``; each
may go on with ``#`` and the way to a section or a field. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from capsule_sdk.errors import EvidenceError

from ..formats.entries import UUID

__all__ = ["SCHEME", "CapsuleURI"]

SCHEME: Final = "capsule://"
_HASH: Final = re.compile(r"sha3_([0-9a-f]{64})")
_CHAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SEQUENCE: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_STEP: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class CapsuleURI:
    """What a URI points to: exactly one of hash, sequence and id is given.

    Attributes:
        chain: the name of the chain; ``None`` where whichever is at hand is meant.
        hash: SHA3-256 of the capsule, in hexadecimal.
        sequence: its number in the chain.
        id: its id.
        fragment: the way to one of its fields, with slashes.

    """

    chain: str | None = None
    hash: str | None = None
    sequence: int | None = None
    id: str | None = None
    fragment: str | None = None

    @classmethod
    def parse(cls, text: str) -> CapsuleURI:
        """Read a URI.

        Raises:
            EvidenceError: it is none; the message says what is wrong with it.

        """
        rest, mark, fragment = text.partition("#")
        if not rest.startswith(SCHEME):
            raise EvidenceError(f"{text!r} is not a capsule URI: it begins with {SCHEME}")
        if mark and not all(map(_STEP.fullmatch, fragment.split("/"))):
            raise EvidenceError(f"{text!r} does not lead to a field of a capsule after its #")
        chain, slash, reference = rest.removeprefix(SCHEME).rpartition("/")
        if slash and not _CHAIN.fullmatch(chain):
            raise EvidenceError(f"{text!r} names no chain: letters, digits, dots, - and _")
        found = fragment if mark else None
        if match := _HASH.fullmatch(reference):
            return cls(chain or None, hash=match[1], fragment=found)
        if slash and _SEQUENCE.fullmatch(reference):
            return cls(chain, sequence=int(reference), fragment=found)
        if not slash and UUID.fullmatch(reference):
            return cls(id=reference, fragment=found)
        raise EvidenceError(
            f"{text!r} names no capsule: give sha3_ and 64 hexadecimal digits, an id, or chain/sequence"
        )

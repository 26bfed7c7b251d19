"""A bundle: records and what it takes to check them, in one ZIP file that any system opens.

``chain.json`` holds the records in the form that `capsule verify` reads, ``manifest.json`` says what they are
(`capsule_sdk.evidence.exporting.manifest`), ``README.txt`` how to check them.

A ZIP file can be built so that two programs find different contents in it. Such a one is refused: a bundle
holds these members and nothing else, each once, without gaps from its first byte to its last.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, TextIO

from capsule_sdk.errors import EvidenceError

__all__ = ["Bundle", "open_bundle", "write_bundle"]

_RECORDS, _MANIFEST, _README = "chain.json", "manifest.json", "README.txt"
_LARGEST_MANIFEST: Final = 4 << 20  # bytes
# Others are unpacked without a bound: a few kB of bzip2 fill the memory.
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000  # flag bits (APPNOTE 4.4.4)
_DESCRIBED_BEHIND: Final = 0x8
# Signature, method, lengths of name and of extra.
_LOCAL_HEADER: Final = struct.Struct("<4s4xH16xHH")
# Bytes: with a signature or without, with 32-bit sizes or 64-bit ones.
_DESCRIPTORS: Final = (12, 16, 20, 24)
_END_RECORD: Final = struct.Struct("<4s16xH")  # signature, length of a comment
_END_SIZE: Final = 22
# What `zipfile` raises of itself; the third is met where a name is none in the encoding it claims.
_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    UnicodeDecodeError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)

_HOW_TO_CHECK: Final = """\
Evidence of what AI agents did: sealed records (capsules) of the Capsule Protocol Specification.

chain.json      the records; each has its SHA3-256 hash and an Ed25519 signature over it
manifest.json   what was selected, when and from where; public keys; checkpoints

To check it:    pip install .      (in a clone of the repository of capsuled)
                capsuled verify THIS_FILE.zip --pubkey-file KEYS.json

Take the public keys from the party that sealed the records (`capsuled keys export KEYS.json`; --pubkey takes
one key by itself), by another way than this file: a key that lies beside the records proves only that the
file agrees with itself. A signature proves who sealed a record and that nothing was changed since. It does
not prove that what the record says was true, that the clock was right, or that any law is met.
"""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that is open.

    Attributes:
        manifest: what it says of itself; nothing in it is proven.
        records: the text of ``chain.json``.

    """

    manifest: Mapping[str, Any]
    records: TextIO


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Open a bundle for reading.

    Raises:
        EvidenceError: it is none, or damaged; also from within, where the damage is only met in reading.

    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            fault = _fault_of(archive, file)
            if fault is not None:
                raise EvidenceError(f"{path} is not a bundle of `capsuled export`: {fault}")
            with archive.open(_RECORDS) as raw:
                records = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape")
                yield Bundle(_manifest_in(archive, path), records)
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror or error}") from error
    except _DAMAGE as error:
        raise EvidenceError(f"{path} is damaged: {error}") from error


def write_bundle(records: Iterable[str], manifest: Mapping[str, Any], out: IO[bytes]) -> int:
    """Write records, each as one JSON object, and return how many there are. Streams."""
    count = 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(_RECORDS, "w", force_zip64=True) as raw:
            for text in records:
                raw.write(
                    (",\n" if count else "[\n").encode() + text.encode(errors="surrogateescape")
                )
                count += 1
            raw.write(b"\n]\n" if count else b"[]\n")
        described = {**manifest, "count": count}
        archive.writestr(_MANIFEST, json.dumps(described, indent=2) + "\n")
        archive.writestr(_README, _HOW_TO_CHECK)
    return count


def _fault_of(archive: zipfile.ZipFile, file: IO[bytes]) -> str | None:
    """Return why this is no ZIP file that `write_bundle` could have written; ``None`` where it could."""
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    names = [member.orig_filename for member in members]
    if len({name.casefold() for name in names}) < len(names):
        return "one of its members is there twice"
    for name in names:
        if name not in {_RECORDS, _MANIFEST, _README}:
            return f"it holds a member of another name ({name[:80]!a})"
    for name in (_RECORDS, _MANIFEST):
        if name not in names:
            return f"it lacks {name}"
    for member in members:
        if member.flag_bits & _ENCRYPTED:
            return f"its {member.filename} is encrypted"
        if member.compress_type not in _METHODS:
            return f"its {member.filename} is packed in another way than by deflate"
    return _gap_in(archive, members, file)


def _gap_in(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], file: IO[bytes]
) -> str | None:
    """Return what stands where nothing should: before the members, between them, or behind the end."""
    if members[-1].header_offset > archive.start_dir:
        raise zipfile.BadZipFile("a member stands behind the list of members")
    if members[0].header_offset != 0:
        return "something stands before its first member"
    following = [member.header_offset for member in members[1:]] + [archive.start_dir]
    for member, end in zip(members, following, strict=True):
        gap = end - _end_of(member, file)
        if gap and not (member.flag_bits & _DESCRIBED_BEHIND and gap in _DESCRIPTORS):
            return f"something stands behind its {member.filename}"
    file.seek(-_END_SIZE, io.SEEK_END)
    if _END_RECORD.unpack(file.read(_END_SIZE)) != (b"PK\x05\x06", 0):
        return "something stands behind its end"
    return None


def _end_of(member: zipfile.ZipInfo, file: IO[bytes]) -> int:
    """Return where a member's data ends, by its own header, which programs that read a stream go by."""
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise zipfile.BadZipFile(f"its {member.filename} is cut off")
    signature, method, name, extra = _LOCAL_HEADER.unpack(header)
    if (
        signature != b"PK\x03\x04"
        or method != member.compress_type
        or file.read(name) != member.orig_filename.encode()
    ):
        raise zipfile.BadZipFile(f"its {member.filename} is described in two ways")
    return member.header_offset + len(header) + int(name + extra) + member.compress_size


def _manifest_in(archive: zipfile.ZipFile, path: Path) -> Mapping[str, Any]:
    with archive.open(_MANIFEST) as file:
        text = file.read(_LARGEST_MANIFEST + 1)  # its size as announced may be a lie
    if len(text) > _LARGEST_MANIFEST:
        raise EvidenceError(
            f"{path} is not a bundle of `capsuled export`: its manifest is too large"
        )
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise EvidenceError(f"{path} is damaged: its manifest is not a JSON object")
    return manifest

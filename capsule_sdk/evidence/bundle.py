"""A bundle: records and what it takes to check them, in one ZIP file that any system opens.

``chain.json`` holds the records in the form that `capsule verify` reads, ``manifest.json`` says what they are
(`capsule_sdk.evidence.manifest`), ``README.txt`` how to check them.
"""

from __future__ import annotations

import io
import json
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
_LARGEST_MANIFEST = 16 << 20  # bytes

_HOW_TO_CHECK: Final = """\
Evidence of what AI agents did: sealed records (capsules) of the Capsule Protocol Specification.

chain.json      the records; each has its SHA3-256 hash and an Ed25519 signature over it
manifest.json   what was selected, when and from where; public keys; checkpoints

To check it:    pip install capsuled
                capsuled verify THIS_FILE.zip --pubkey PUBLIC_KEY

Take the public key from the party that sealed the records, by another way than this file: a key that lies
beside the records proves only that the file agrees with itself. A signature proves who sealed a record and
that nothing was changed since. It does not prove that what the record says was true, that the clock was
right, or that any law is met.
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
        with zipfile.ZipFile(path) as archive, archive.open(_RECORDS) as raw:
            records = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape")
            yield Bundle(_manifest_in(archive), records)
    except OSError as error:
        raise EvidenceError(f"{path} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise EvidenceError(
            f"{path} is no bundle of `capsuled export`: it lacks {error.args[0]}"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise EvidenceError(f"{path} is damaged: {error}") from error


def write_bundle(records: Iterable[str], manifest: Mapping[str, Any], out: IO[bytes]) -> int:
    """Write records, each as one JSON object, and return how many there are. Streams."""
    count = 0
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(_RECORDS, "w", force_zip64=True) as raw:
            for text in records:
                raw.write(
                    (",\n" if count else "[\n").encode() + text.encode("utf-8", "surrogatepass")
                )
                count += 1
            raw.write(b"\n]\n" if count else b"[]\n")
        described = {**manifest, "count": count}
        archive.writestr(_MANIFEST, json.dumps(described, indent=2) + "\n")
        archive.writestr(_README, _HOW_TO_CHECK)
    return count


def _manifest_in(archive: zipfile.ZipFile) -> Mapping[str, Any]:
    if archive.getinfo(_MANIFEST).file_size > _LARGEST_MANIFEST:
        raise EvidenceError(f"{archive.filename} is no bundle: its manifest is too large")
    try:
        manifest = json.loads(archive.read(_MANIFEST))
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        raise EvidenceError(f"{archive.filename} is damaged: its manifest is no JSON object")
    return manifest

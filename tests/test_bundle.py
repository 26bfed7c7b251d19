"""Bundles: a ZIP file in which two programs could find two contents, or which fills the memory, is refused."""

from __future__ import annotations

import io
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.formats.bundle import open_bundle, write_bundle
from capsule_sdk.evidence.sources import open_source

RECORDS = ['{"n": 0}', '{"n": "ü"}']


def written(records: list[str]) -> bytes:
    file = io.BytesIO()
    assert write_bundle(records, {"source": "x"}, file) == len(records)
    return file.getvalue()


def made(
    *members: tuple[str, str], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b""
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name is there twice
        for name, text in members:
            archive.writestr(name, text)
        archive.comment = comment
    return file.getvalue()


def read_back(content: bytes, folder: Path) -> list[str]:
    path = folder / "b.zip"
    path.write_bytes(content)
    return [entry.text for entry in open_source(path).entries()]


CHAIN, MANIFEST = ("chain.json", '[{"n": 0}]'), ("manifest.json", "{}")
BUNDLE = written(RECORDS)
GOOD = made(CHAIN, MANIFEST)


def with_flags(bits: int) -> bytes:
    """The same bundle, whose first member is marked so in both of its headers."""
    content = bytearray(GOOD)
    content[6] |= bits
    content[content.index(b"PK\x01\x02") + 8] |= bits
    return bytes(content)


def with_a_hidden_member() -> bytes:
    """A bundle in whose middle a member stands that its list of members does not name."""
    content = bytearray(made(CHAIN, ("README.txt", "x" * 9), MANIFEST))
    start = content.rindex(b"PK\x01\x02", 0, content.rindex(b"PK\x01\x02"))
    end = content.rindex(b"PK\x01\x02")
    del content[start:end]
    size = int.from_bytes(content[-10:-6], "little") - (end - start)
    content[-14:-6] = (2).to_bytes(2, "little") * 2 + size.to_bytes(4, "little")
    return bytes(content)


def with_two_names() -> bytes:
    return GOOD.replace(b"manifest.json", b"Manifest.json", 1)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    assert read_back(BUNDLE, tmp_path) == RECORDS
    assert read_back(written([]), tmp_path) == []
    with open_bundle(tmp_path / "b.zip") as bundle:
        assert bundle.manifest == {"source": "x", "count": 0}


def test_what_was_written_to_a_pipe_is_read_back(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError("no position")

    file = Pipe()
    write_bundle(RECORDS, {}, file)
    assert read_back(file.getvalue(), tmp_path) == RECORDS


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (made(CHAIN, CHAIN, MANIFEST), "twice"),
        (made(CHAIN, ("CHAIN.json", "[]"), MANIFEST), "twice"),
        (made(CHAIN, MANIFEST, ("chain.jsonl", "")), r"another name \('chain.jsonl'\)"),
        (made(CHAIN, MANIFEST, ("a/", "")), "another name"),
        (made(CHAIN, MANIFEST, ("\x1b[2J", "")), r"another name \('\\x1b"),
        (made(CHAIN), "lacks manifest.json"),
        (made(MANIFEST), "lacks chain.json"),
        (made(), "lacks chain.json|holds a chain|neither|no chain"),
        (made(CHAIN, MANIFEST, method=zipfile.ZIP_BZIP2), "chain.json is packed in another way"),
        (made(CHAIN, MANIFEST, method=zipfile.ZIP_LZMA), "chain.json is packed in another way"),
        (with_flags(0x1), "chain.json is encrypted"),
        (GOOD + BUNDLE, "before its first member"),
        (b"PK\x03\x04" + GOOD, "before its first member"),
        (with_a_hidden_member(), "something stands behind its chain.json"),
        (with_two_names(), "manifest.json is described in two ways"),
        (made(CHAIN, MANIFEST, comment=b"x"), "behind its end"),
        (GOOD + b"x", "behind its end|damaged"),
        (made(CHAIN, ("manifest.json", "[]")), "manifest is not a JSON object"),
        (made(CHAIN, ("manifest.json", " " * 5_000_000)), "manifest is too large"),
    ],
)
def test_what_could_be_read_in_two_ways_or_is_none_is_refused_with_its_reason(
    content: bytes, why: str, tmp_path: Path
) -> None:
    with pytest.raises(EvidenceError, match=why) as raised:
        read_back(content, tmp_path)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("chain.json", '[{"a": "' + "x" * 200_000_000), MANIFEST], "too large"),
        ([CHAIN, ("manifest.json", " " * 200_000_000)], "too large"),
    ],
    ids=["records", "manifest"],
)
def test_a_small_bundle_does_not_fill_the_memory(
    members: list[tuple[str, str]], why: str, tmp_path: Path
) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(made(*members))
    tracemalloc.start()
    try:
        found = [str(entry.fault) for entry in open_source(path).entries()]
    except EvidenceError as error:
        found = [str(error)]
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert why in found[0]
    assert peak < 300_000_000


@pytest.mark.parametrize("place", range(5, len(GOOD), 7))
def test_a_bundle_that_was_cut_off_is_refused(place: int, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError):
        read_back(GOOD[:place], tmp_path)


@pytest.mark.parametrize("place", range(len(GOOD)))
def test_any_byte_may_change_and_nothing_but_evidence_error_is_raised(
    place: int, tmp_path: Path
) -> None:
    for bits in (0x01, 0x80, 0xFF):
        content = bytearray(GOOD)
        content[place] ^= bits
        try:
            read_back(bytes(content), tmp_path)
        except EvidenceError as error:
            assert "b.zip" in str(error)  # noqa: PT017 - it may be harmless, too

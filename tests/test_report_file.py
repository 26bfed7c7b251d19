"""The report as a file: what is written is read back as it was, and no damage is taken for data."""

from __future__ import annotations

import base64
import gzip
import io
import os
import re
import shutil
import sqlite3
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_support import missing

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.formats import scanning
from capsule_sdk.evidence.formats.report import read_report, write_report
from capsule_sdk.evidence.formats.report import reading as reading_module

WEB = Path(__file__).resolve().parent.parent / "web"
RECORDS = [
    '{"a": 1.0, "b": 1E5}',
    "{}",
    '{"é": "\U0001f642 \\ud83d"}',
    "no JSON",
    "",
    '{"a":"' + "x" * 2_000 + '"}',
]


def written(texts: list[str], manifest: dict[str, Any] | None = None) -> str:
    file = io.StringIO()
    assert write_report(texts, file, manifest=manifest or {}) == len(texts)
    return file.getvalue()


def read_back(text: str | bytes) -> list[str]:
    file: Any = io.StringIO(text) if isinstance(text, str) else io.BytesIO(text)
    return list(read_report(file)[1])


def with_records(data: bytes) -> str:
    """A report whose packed records are these bytes."""
    page = written([])
    start = page.index('id="records">') + len('id="records">')
    return page[:start] + base64.b64encode(data).decode() + page[page.index("</script>", start) :]


@pytest.fixture(scope="module")
def asset() -> str:
    return (
        resources.files("capsule_sdk.evidence.formats.report")
        .joinpath("page.html")
        .read_text(encoding="utf-8")
    )


# ── what goes in comes out ────────────────────────────────────────────────────────────────────────


def test_records_come_back_character_by_character() -> None:
    assert read_back(written(RECORDS)) == RECORDS
    assert read_back(written(RECORDS).encode()) == RECORDS


@given(st.lists(st.text(), max_size=20))
def test_any_text_comes_back_but_for_line_breaks_and_half_characters(texts: list[str]) -> None:
    expected = [
        re.sub(
            "[\ud800-\udfff]",
            lambda half: f"\\u{ord(half[0]):04x}",
            text.replace("\n", "\t").replace("\r", "\t"),
        )
        for text in texts
    ]
    assert read_back(written(texts)) == expected


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.text())))
def test_a_manifest_comes_back_and_ends_no_element(manifest: dict[str, Any]) -> None:
    manifest["source"] = "</script><!--<script>\u2028&amp;"
    text = written(RECORDS, manifest)
    assert read_report(io.StringIO(text))[0] == manifest
    assert text.count("</script>") == written([]).count("</script>")
    assert "<!--<script>" not in text


def test_the_same_records_give_the_same_bytes() -> None:
    assert written(RECORDS, {"source": "x"}) == written(RECORDS, {"source": "x"})


def test_memory_stays_flat_in_writing_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "r.html"

    def entries() -> Iterator[str]:
        for number in range(20_000):
            yield f'{{"n": {number}, "noise": "{os.urandom(500).hex()}"}}'

    tracemalloc.start()
    try:
        assert write_report(entries(), path, manifest={}) == 20_000
        with path.open("rb") as file:
            assert sum(1 for _ in read_report(file)[1]) == 20_000
        assert path.stat().st_size > 10_000_000
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


# ── damage ────────────────────────────────────────────────────────────────────────────────────────

SMALL = written(['{"a": 1}', '{"b": "ü"}'], {"source": "x"}).encode()
DATA = SMALL.index(b'<script type="application/json" id="manifest">')


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "lacks a manifest"),
        ("<html></html>", "lacks a manifest"),
        ("x" * 20_000_000, "lacks a manifest"),
        (SMALL.decode().replace('id="records"', 'id="record"'), "lacks records"),
        (SMALL.decode().replace('{"source": "x"}', "[]"), "manifest is not a JSON object"),
        (SMALL.decode().replace('{"source": "x"}', "[" * 100_000), "manifest is not a JSON object"),
        (SMALL.decode().partition('{"source"')[0], "cut off"),
        (SMALL.decode().partition('id="records">\n')[0] + 'id="records">\nH4', "cut off"),
        (SMALL.decode() + '<script type="text/plain" id="records">', "twice"),
        (SMALL.decode() + "x" * 5_000_000, "too much stands behind"),
        (SMALL.decode().replace("</title>", "\x1b(B</title>"), "control characters"),
        (SMALL.decode().replace('"source"', '"<a": 0, "source"'), "holds a tag"),
        (SMALL.decode().replace('{"source": "x"}', '{"source": NaN}'), "not a JSON object"),
        (SMALL.decode().replace('{"source": "x"}', "[" + " " * 5_000_000), "too large"),
        (with_records(b""), "cut off"),
        (with_records(b"no gzip"), "cannot be unpacked"),
        (with_records(gzip.compress(b"{}\n")[:-4]), "cut off"),
        (with_records(gzip.compress(b"{}\n") + b"more"), "behind its records"),
        (with_records(gzip.compress(b"{}\n") * 2), "behind its records"),
        (with_records(gzip.compress(b"{}")), "no end"),
        (with_records(gzip.compress(b"\xff\n")), "not UTF-8"),
        (with_records(gzip.compress(b"{}\n")).replace("H4sI", "H4s*"), "not base64"),
    ],
)
def test_what_is_no_whole_report_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        read_back(text)


@pytest.mark.parametrize("more", ["id=" + " " * 100_000, "id=  " * 20_000, "id" + "\n" * 100_000])
def test_blanks_in_a_hostile_page_do_not_keep_an_auditor_waiting(more: str) -> None:
    started = time.perf_counter()
    assert read_back(SMALL.decode() + more) == ['{"a": 1}', '{"b": "ü"}']
    assert time.perf_counter() - started < 5
    with pytest.raises(EvidenceError, match="twice"):
        read_back(SMALL.decode() + more + "id\n= ' Records")


def test_a_text_file_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_bytes(b"\xff\xfe")
    with (
        (tmp_path / "r.html").open(encoding="utf-8") as file,
        pytest.raises(EvidenceError, match="UTF-8"),
    ):
        read_report(file)


@given(st.data())
def test_damage_anywhere_is_refused_or_harmless_and_raises_nothing_else(
    data: st.DataObject,
) -> None:
    start = data.draw(st.integers(DATA, len(SMALL)))
    end = data.draw(st.integers(start, min(start + 40, len(SMALL))))
    damaged = SMALL[:start] + data.draw(st.binary(max_size=40)) + SMALL[end:]
    with suppress(EvidenceError):
        read_back(damaged)


def test_a_small_file_does_not_unpack_to_more_than_a_record_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading_module, "_LARGEST_RECORD", 3_000_000)
    bomb = with_records(gzip.compress(b"0" * 200_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(EvidenceError, match="too large"):
            read_back(bomb)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("place", ["before", "between", "behind"])
@pytest.mark.parametrize(
    "tag",
    [
        '<script type="text/plain" id="records">',
        '<script type="application/json" id="manifest">',
        '<script id="manifest" type="application/json">',
        "<SCRIPT ID = 'RECORDS'>",
        "<script/id\n=\n\trecords>",
        "<p id=&#109;anifest>",
        '<p id="record&#x00073;">',
    ],
)
def test_an_element_that_could_be_taken_for_the_data_is_refused(place: str, tag: str) -> None:
    text = SMALL.decode()
    start = {
        "before": text.index('<script type="application/json" id="manifest">'),
        "between": text.index("<script>"),
        "behind": text.index("</body>"),
    }[place]
    with pytest.raises(
        EvidenceError, match="twice|manifest is not a JSON object|records are cut off"
    ):
        read_back(f"{text[:start]}{tag}</script>{text[start:]}")


def test_a_record_is_too_large_by_what_it_takes_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_LARGEST", 4_000)
    assert read_back(written(["é" * 1_000, "x" * 4_000]))
    for text in ("é" * 1_001, "x" * 4_001):
        with pytest.raises(EvidenceError, match="a record that is too large"):
            read_back(written([text]))


# ── where it is written to ────────────────────────────────────────────────────────────────────────


def failing() -> Iterator[str]:
    yield "{}"
    raise EvidenceError("the store went away")


def test_a_path_gets_the_whole_report_or_keeps_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    write_report(["{}"], path, manifest={})
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(EvidenceError, match="the store went away"):
        write_report(failing(), path, manifest={})
    assert path.read_bytes() == before
    write_report(["{}"] * 2, path, manifest={})
    assert path.read_bytes() != before
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_or_must_not_be_written_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="cannot be written"):
        write_report([], tmp_path / "nowhere" / "r.html", manifest={})
    with pytest.raises(EvidenceError, match="cannot be written"):
        write_report([], tmp_path, manifest={})
    connection = sqlite3.connect(tmp_path / "capsules.db")
    connection.execute("CREATE TABLE capsules (id)")
    connection.commit()
    connection.close()
    with pytest.raises(EvidenceError, match="is a database"):
        write_report([], tmp_path / "capsules.db", manifest={})


# ── the page that was built ───────────────────────────────────────────────────────────────────────


def test_the_page_loads_nothing_and_makes_no_markup_of_data(asset: str) -> None:
    address = r"""(?:src|href|url)\s*[=(]\s*["']?\s*(?:https?:)?//|@import"""
    load = r"\bfetch\b|XMLHttpRequest|WebSocket|EventSource|sendBeacon|\bimport\s*\(|importScripts"
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
    assert re.findall(f"{address}|{load}|{markup}", asset) == []
    assert "default-src 'none'; script-src 'sha256-" in asset
    assert "unsafe" not in asset.partition("</head>")[0].partition("<style>")[0]


def test_the_page_keeps_the_licences_of_what_it_holds(asset: str) -> None:
    for name in ("@noble/curves", "@noble/hashes"):
        assert re.search(rf"{name} \d+\.\d+\.\d+\n\nThe MIT License", asset)


def test_the_lock_file_names_no_registry() -> None:
    assert "resolved" not in (WEB / "package-lock.json").read_text()


def test_the_page_is_what_its_sources_build(asset: str, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        missing("node and npm are not there")
    web = tmp_path / "web"
    shutil.copytree(WEB, web, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(
        ["npm", "ci", "--ignore-scripts"], cwd=web, check=True, timeout=100, capture_output=True
    )
    subprocess.run(
        [node, "build.mjs", str(tmp_path / "page.html")], cwd=web, check=True, timeout=60
    )
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == asset

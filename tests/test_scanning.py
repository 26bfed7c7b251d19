"""Scanning: values out of text of any size and shape, one after the other, damage included."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.formats import scanning
from capsule_sdk.evidence.formats.scanning import Piece, scan

_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=10,
)
objects = st.dictionaries(st.text(max_size=9), values, max_size=4)
indents = st.sampled_from([None, 0, 1, "\t"])
spaces = st.text(" \t\r\n", max_size=40)
CHUNKS = [1, 2, 7, 17, 1 << 18]


@pytest.fixture(params=CHUNKS, ids=str)
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(scanning, "_CHUNK", request.param)
    size: int = request.param
    return size


def pieces(text: str) -> list[Piece]:
    return list(scan(io.StringIO(text)))


def texts(text: str) -> list[str]:
    """The values, where nothing is wrong."""
    found = pieces(text)
    assert [piece.fault for piece in found] == [None] * len(found)
    return [piece.text for piece in found]


def faults(text: str) -> list[str | None]:
    return [piece.fault for piece in pieces(text)]


# -- what is well ---------------------------------------------------------------------------------

_RECORDS = [
    {"id": 1, "text": 'two "quoted" \\ words, a { and a ]', "list": [1, [2, {"x": []}], {}]},
    {},
    {"numbers": [0, -1.5e-7, 12345678901234567890, 1e300], "words": [True, False, None]},
    {"ünï": "漢字 🙂 \u2028", "long": "x" * 300, "spaces": "        \t\t"},
]


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_the_values_of_a_list_come_out_as_they_are_spelled(
    chunk: int, indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps(_RECORDS, indent=indent, ensure_ascii=ascii_only)
    found = texts(text)
    assert [json.loads(one) for one in found] == _RECORDS
    at = 0
    for one in found:
        at = text.index(one, at) + len(one)


def test_the_values_of_lines_come_out_as_they_are_spelled(chunk: int) -> None:
    lines = [json.dumps(record) for record in _RECORDS]
    for between in ("\n", "\r\n", "\n\n \t\n", "", " "):
        assert texts(between.join(lines)) == lines
        assert texts(f"\n {between.join(lines)}\n\n") == lines


@pytest.mark.parametrize("text", ["[]", "[ ]", " \n[\n]\n", "[\r\n\t]"])
def test_an_empty_list_has_no_values(chunk: int, text: str) -> None:
    assert texts(text) == []


@pytest.mark.parametrize(
    "text", ["1", "-0", "2.50", "1e5", "true", "null", '"]"', "[[], [1]]", "{}"]
)
def test_whatever_stands_in_a_list_comes_out(chunk: int, text: str) -> None:
    for before, after in (("", ""), (" ", " "), ("1, ", ""), ("", ", 1"), ("\n" * 30, "\n" * 30)):
        assert text in texts(f"[{before}{text}{after}]")


@given(
    records=st.lists(values, max_size=5), indent=indents, chunk=st.integers(1, 40), around=spaces
)
def test_any_list_is_read_as_json_reads_it_with_chunks_of_any_size(
    records: list[object], indent: int | str | None, chunk: int, around: str
) -> None:
    text = f"{around}{json.dumps(records, indent=indent)}{around}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "_CHUNK", chunk)
        found = texts(text)
    assert json.dumps([json.loads(one) for one in found]) == json.dumps(records)


@given(
    records=st.lists(objects, min_size=1, max_size=5),
    indent=indents,
    chunk=st.integers(1, 40),
    between=spaces,
)
def test_any_objects_one_after_the_other_are_read_with_chunks_of_any_size(
    records: list[object], indent: int | str | None, chunk: int, between: str
) -> None:
    text = between.join(json.dumps(record, indent=indent) for record in records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "_CHUNK", chunk)
        found = texts(text)
    assert json.dumps([json.loads(one) for one in found]) == json.dumps(records)


# -- what is not ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " ", "\n\n\t"])
def test_an_empty_file_is_refused(chunk: int, text: str) -> None:
    with pytest.raises(EvidenceError, match="empty"):
        pieces(text)


@pytest.mark.parametrize(
    "text", ["1", '"x"', "null", "true", "x", "-", "<html>", "\0", "\x0c[", "\xa0{"]
)
def test_what_is_neither_list_nor_object_is_refused(chunk: int, text: str) -> None:
    with pytest.raises(EvidenceError, match="neither"):
        pieces(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[", ["the list has no end: the file was cut off"]),
        ("[1", [None, "the list has no end: the file was cut off"]),
        ("[1,", [None, "the list has no end: the file was cut off"]),
        ("[1 2]", [None, "no comma between two records", None]),
        ("[1,]", [None, "a comma that nothing follows"]),
        ("[1] ", [None]),
        ("[1] 2", [None, "something follows the end of the list"]),
        ("[1]\n{}", [None, "something follows the end of the list"]),
        ("[1]x\n{}", [None, "something follows the end of the list", None]),
        ("[1]]", [None, "something follows the end of the list"]),
    ],
)
def test_what_is_wrong_with_a_list_is_said(
    chunk: int, text: str, expected: list[str | None]
) -> None:
    assert faults(text) == expected


@pytest.mark.parametrize(
    "damaged",
    [
        '{"a": 1',
        '{"a" 1}',
        '{"a": tru}',
        "{'a': 1}",
        '{"a": "x\\y"}',
        '{"a": 01}',
        "xx",
        "}",
        '{"a": "',
    ],
)
@pytest.mark.parametrize("place", [1, 2, 3])
def test_after_damage_reading_goes_on_at_the_next_line_with_an_object(
    chunk: int, damaged: str, place: int
) -> None:
    lines = ['{"n": 0}', '{"n": 1}', '{"n": 2}', '{"n": 3}']
    lines[place] = damaged
    rest = [one for one in lines if one != damaged]
    for text in ("\n".join(lines), "[" + ",\n".join(lines) + "\n]"):
        found = pieces(text)
        assert [piece.text for piece in found if piece.fault is None] == rest
        assert 1 <= len([piece for piece in found if piece.fault is not None]) <= 2


def test_what_is_no_json_is_shown_cut_short(chunk: int) -> None:
    (_, broken) = pieces('{"n": 0}\n{"n": ' + "x" * 10_000)
    assert broken.fault
    assert broken.text == '{"n": ' + "x" * (len(broken.text) - 6)
    assert len(broken.text) <= 200


@pytest.mark.parametrize("form", ["[{}", "{}\n{}", "[", "[]{}", '{}{"a": ', "[{},{}"])
def test_white_space_that_json_does_not_have_comes_to_an_end(form: str) -> None:
    """Python strips more than JSON passes over: this was read again and again, for ever."""
    for strange in "\x00\x0b\x0c\x1c\x1d\x1e\x1f\x7f\x85\xa0\u2000\u2028\u3000\ufeff\ud800":
        for text in (f"{form}\n{strange}", f"{form}{strange}\n", f"{form}{strange}\n{{}}"):
            found = first(scan(io.StringIO(text)), 20)
            assert len(found) < 20
            assert any(piece.fault for piece in found)


def first(found: Iterator[Piece], count: int) -> list[Piece]:
    return [piece for piece, _ in zip(found, range(count), strict=False)]


@given(text=st.text('[]{}",:1ae\\ \n\x0c\xa0', max_size=60), chunk=st.integers(1, 9))
def test_any_text_comes_to_an_end_and_nothing_but_evidence_error_is_raised(
    text: str, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "_CHUNK", chunk)
        try:
            found = first(scan(io.StringIO(text)), 200)
        except EvidenceError:
            return
    assert len(found) < 200
    for piece in found:
        if piece.fault is None:
            json.loads(piece.text)


@given(text=st.text('[]{}",:1ae\\ \n', max_size=60))
def test_a_list_without_a_fault_is_a_list_to_json_too(text: str) -> None:
    text = f"[{text}"
    found = first(scan(io.StringIO(text)), 200)
    if all(piece.fault is None for piece in found):
        assert json.loads(text) == [json.loads(piece.text) for piece in found]
    else:
        with pytest.raises(ValueError):  # noqa: PT011 - that it is refused is what counts
            json.loads(text)


def test_depth_is_a_fault_and_no_error(chunk: int) -> None:
    deep = "[" * 20_000
    assert faults(f"[{deep}\n")[0]
    assert faults('{"a":' * 20_000)[0]


# -- size -----------------------------------------------------------------------------------------


class Endless(io.TextIOBase):
    """A file that is made while it is read; it has no size in memory."""

    def __init__(self, parts: Iterator[str]) -> None:
        self._parts = parts
        self._rest = ""

    def read(self, size: int | None = -1) -> str:
        assert size is not None
        while len(self._rest) < size:
            part = next(self._parts, None)
            if part is None:
                break
            self._rest += part
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def peak_of(parts: Iterator[str]) -> tuple[int, int, int]:
    """Return how many values and faults there were, and the most memory that was used, in bytes."""
    tracemalloc.start()
    good = bad = 0
    for piece in scan(Endless(parts)):  # type: ignore[arg-type]
        good, bad = good + (piece.fault is None), bad + (piece.fault is not None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return good, bad, peak


def listed(record: str, count: int) -> Iterator[str]:
    yield "["
    for number in range(count):
        yield f",\n{record}" if number else record
    yield "]"


def test_memory_does_not_grow_with_the_file() -> None:
    record = json.dumps({"text": "x" * 10_000})
    good, bad, peak = peak_of(listed(record, 3_000))  # 30 MB
    assert (good, bad) == (3_000, 0)
    assert peak < 6_000_000


def test_memory_does_not_grow_with_the_damage() -> None:
    def parts() -> Iterator[str]:
        yield '{"n": 0}\n{"n": x'
        for _ in range(300):
            yield "y" * 100_000
        yield '\n{"n": 2}'

    assert peak_of(parts())[:2] == (2, 1)
    assert peak_of(parts())[2] < 6_000_000


def test_a_value_that_is_too_large_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_CHUNK", 1 << 10)
    monkeypatch.setattr(scanning, "_LARGEST", 1 << 14)
    large = '{"n": 1, "text": "' + "x" * 200_000 + '"}'
    found = pieces('{"n": 0}\n' + large + '\n{"n": 2}')
    assert [piece.fault is None for piece in found] == [True, False, True]
    assert found[2].text == '{"n": 2}'


@pytest.mark.parametrize(
    "large",
    ['"' + "x" * 20_000 + '"', '"' + "é" * 5_000 + '"', "1." + "0" * 20_000, f"[{' ' * 20_000}]"],
    ids=["ASCII", "not ASCII", "a number", "white space"],
)
def test_a_whole_value_is_too_large_whatever_it_is_made_of(
    chunk: int, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "_LARGEST", 1 << 14)
    found = pieces(f'[{{"n": 0}},\n{large},\n{{"n": 2}}]')
    assert [piece.fault for piece in found] == [None, scanning.TOO_LARGE, None]


@pytest.mark.parametrize("parts", ['"x' * 2, "1." + "0" * 98, " " * 100, "é"], ids=ascii)
def test_memory_does_not_grow_with_a_value_without_end(
    parts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "_LARGEST", 1 << 20)

    def endless() -> Iterator[str]:
        yield '{"n": ' + parts[0]
        for _ in range(200):
            yield parts[1:] * (200_000 // len(parts)) if len(parts) > 1 else parts * 200_000

    assert peak_of(endless())[2] < 10_000_000


def test_memory_does_not_grow_with_white_space_behind_damage() -> None:
    def parts() -> Iterator[str]:
        yield '{"n": x\n'
        for _ in range(300):
            yield " " * 100_000
        yield '{"n": 2}'

    assert peak_of(parts())[:2] == (1, 1)
    assert peak_of(parts())[2] < 6_000_000

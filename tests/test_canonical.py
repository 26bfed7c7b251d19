"""Texts, numbers and moments that every language hashes alike."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from fractions import Fraction
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealable import SAFE_INTEGER, assert_sealable, sha3

from capsule_sdk.content import (
    ContentPolicy,
    Limits,
    decimal_text,
    digest,
    label,
    safe,
    utc,
)
from capsule_sdk.content import canonical_json as canonical_module

# ── texts ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_lone_surrogate_becomes_the_replacement_character():
    assert safe("a\ud83db\udc00") == "a\ufffdb\ufffd"
    assert label("a\udfff") == "a\ufffd"
    assert digest("\ud800") == sha3("\ufffd")


def test_two_surrogate_halves_become_the_character_they_mean():
    assert safe("\ud83d\ude00!") == "😀!"


@given(st.text(st.sampled_from(["a", "é", "😀", "\ud83d", "\ude00"])), st.integers(1, 5))
def test_the_digest_of_a_text_does_not_depend_on_how_it_is_sliced(text: str, size: int):
    mended = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    with mock.patch.object(canonical_module, "_SLICE", size):
        assert digest(text) == sha3(mended)


@pytest.mark.parametrize("limit", range(1, 12))
def test_a_cut_text_keeps_whole_characters_up_to_the_limit_and_can_be_proven(limit: int):
    text = "aé😀b" * 3
    head, _, marker = safe(text, Limits(text=limit)).partition("…")
    assert text.startswith(head)
    assert limit - 4 < len(head.encode()) <= limit
    assert marker == f"[cut: {len(text.encode())} bytes, sha3-256 {sha3(text)}]"


def test_a_text_of_exactly_the_limit_is_whole_and_one_byte_more_is_cut():
    assert safe("x" * 16_384) == "x" * 16_384
    longer = "x" * 16_385
    assert safe(longer) == f"{'x' * 16_384}…[cut: 16385 bytes, sha3-256 {sha3(longer)}]"
    assert safe("é" * 8_192) == "é" * 8_192
    assert safe("é" * 8_193).startswith("é" * 8_192 + "…[cut: 16386 bytes")
    assert safe("é" * 8_192 + "a").startswith("é" * 8_192 + "…[cut: 16385 bytes")


def test_100_mb_of_text_cost_neither_memory_nor_minutes():
    ascii_text = "x" * 100_000_000
    wide_text = "é" * 50_000_000 + "\ud800"
    value = {"texts": [ascii_text] * 500, "wide": wide_text, "raw": [bytes(50_000_000)] * 500}
    tracemalloc.start()
    try:
        began = time.monotonic()
        sealed = safe(value)
        assert time.monotonic() - began < 30
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert_sealable(sealed)
    assert sealed["texts"][0].endswith(f"…[cut: 100000000 bytes, sha3-256 {sha3(ascii_text)}]")


def test_a_text_of_a_hostile_subclass_of_str_is_read_past_its_methods():
    class Evil(str):  # noqa: SLOT000  as users write them
        def _fail(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError

        __str__ = __repr__ = __len__ = __iter__ = __getitem__ = __hash__ = __eq__ = _fail
        encode = isascii = __format__ = __contains__ = _fail

    assert safe([Evil("hello")]) == ["hello"]
    assert ContentPolicy().text(Evil("hello")) == "hello"
    assert label(Evil("hello")) == "hello"
    assert type(safe(Evil("hello"))) is str


def test_text_accepts_what_is_no_text():
    policy = ContentPolicy("omit")
    assert ContentPolicy().text(None) == "null"  # type: ignore[arg-type]
    assert ContentPolicy().text([1, "a"]) == '[1,"a"]'  # type: ignore[arg-type]
    assert policy.text(["a"]) == '["[omitted]"]'  # type: ignore[arg-type]


def test_digest_is_sha3_256_of_utf_8():
    assert (
        digest("")
        == digest(b"")
        == "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"
    )
    assert digest("é") == sha3("é".encode())


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("number", "sealed"),
    [
        (0, 0),
        (SAFE_INTEGER, SAFE_INTEGER),
        (-SAFE_INTEGER, -SAFE_INTEGER),
        (2**53, "9007199254740992"),
        (-(2**60), "-1152921504606846976"),
        (True, True),
        (0.0, 0),
        (-0.0, 0),
        (1.0, 1),
        (-3.0, -3),
        (0.5, 0.5),
        (1e-4, 1e-4),
        (9.99e-5, "0.0000999"),
        (2.5e-05, "0.000025"),
        (-2.5e-05, "-0.000025"),
        (1e15, 10**15),
        (float(2**53 - 1), SAFE_INTEGER),
        (float(2**53), "9007199254740992"),
        (1e22, "1" + "0" * 22),
        (2251799813685247.5, "2251799813685247.5"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (Decimal("1.10"), "1.1"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("sNaN"), "NaN"),
        (Fraction(1, 3), "1/3"),
        (timedelta(minutes=1, milliseconds=500), 60.5),
    ],
)
def test_a_number_is_sealed_as(number: Any, sealed: Any):
    result = safe({"n": number})["n"]
    assert result == sealed
    assert type(result) is type(sealed)


def test_an_integer_too_long_for_decimal_digits_costs_neither_time_nor_an_exception():
    assert safe([2**3000, -(2**3000)]) == [hex(2**3000), hex(-(2**3000))]
    assert safe(1 << 100_000_000) == "[integer of 100000001 bits]"
    assert decimal_text(2**3000) == hex(2**3000)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, None),
        (2.5e-05, "0.000025"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (100.0, "100"),
        (100, "100"),
        (0, "0"),
        (True, "1"),
        (1e-300, "0." + "0" * 299 + "1"),
        (1e300, "1" + "0" * 300),
        (12.34, "12.34"),
        (Decimal("0.1000"), "0.1"),
        (Decimal("-0.00"), "0"),
        (Decimal("1E+3"), "1000"),
        (Decimal("123456789012345678901234567890.5"), "123456789012345678901234567890.5"),
        (Decimal("1E+999999"), "1E+999999"),
        (Decimal("0E+999999"), "0"),
        (Decimal("-Infinity"), "-Infinity"),
        (Decimal("NaN"), "NaN"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (2**60, "1152921504606846976"),
    ],
)
def test_money_is_a_decimal_string_without_exponent(number: Any, text: str | None):
    assert decimal_text(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_decimal_text_of_a_float_reads_back_as_that_float(number: float):
    text = decimal_text(number)
    assert text is not None
    assert "e" not in text.lower()
    assert float(text) == number


def test_numbers_of_subclasses_are_read_past_their_methods():
    class Int(int):
        __str__ = __repr__ = __eq__ = __le__ = __ge__ = __hash__ = None  # type: ignore[assignment]

    class Float(float):
        __str__ = __repr__ = __eq__ = __abs__ = __hash__ = None  # type: ignore[assignment]

    assert [type(number) for number in safe([Int(5), Float(0.5), Int(2**70)])] == [int, float, str]
    assert decimal_text(Float(0.5)) == "0.5"


def test_what_only_says_that_it_is_a_number_is_not_asked_for_it():
    class Int64:
        def __int__(self) -> int:
            return 7

    class Float32:
        def __float__(self) -> float:
            return 0.5

    import numbers

    numbers.Integral.register(Int64)
    numbers.Real.register(Float32)
    sealed = safe([Int64(), Float32()])
    assert [text.endswith((".Int64 object>", ".Float32 object>")) for text in sealed] == [True] * 2


# ── moments ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_new_york")
def test_a_naive_datetime_is_local_time():
    assert utc(datetime.fromisoformat("2026-01-01T12:00")) == datetime(2026, 1, 1, 17, tzinfo=UTC)
    assert (
        safe(datetime.fromisoformat("2026-07-01T12:00:00.000005"))
        == "2026-07-01T16:00:00.000005+00:00"
    )


def test_an_aware_datetime_and_a_timestamp_become_utc():
    berlin = timezone(timedelta(hours=2))
    assert utc(datetime(2026, 1, 1, 2, tzinfo=berlin)) == datetime(2026, 1, 1, tzinfo=UTC)
    assert utc(datetime(2026, 1, 1, 2, tzinfo=berlin)).tzinfo is UTC
    assert utc(0.5) == datetime(1970, 1, 1, 0, 0, 0, 500_000, UTC)
    assert safe([date(2026, 1, 2), clock(3, 4)]) == ["2026-01-02", "03:04:00"]


@pytest.mark.parametrize("value", [None, float("nan"), 1e300, "yesterday", object()])
def test_what_is_no_moment_counts_as_now(value: Any):
    assert abs(utc(value) - datetime.now(UTC)) < timedelta(seconds=60)


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31T23:59:59"])
@pytest.mark.usefixtures("in_new_york")
def test_the_ends_of_the_calendar_raise_nothing(text: str):
    edge = datetime.fromisoformat(text)
    assert utc(edge).tzinfo is UTC
    assert safe(edge).endswith("+00:00")
    aware = edge.replace(tzinfo=timezone(timedelta(hours=14 if edge.year == 1 else -12)))
    assert_sealable(safe(aware))


def test_a_subclass_of_datetime_becomes_a_plain_one():
    class Stamp(datetime):
        def isoformat(self, *args: Any, **kwargs: Any) -> str:
            return "never"

    assert type(utc(Stamp(2026, 1, 1, tzinfo=UTC))) is datetime
    assert safe(Stamp(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00+00:00"

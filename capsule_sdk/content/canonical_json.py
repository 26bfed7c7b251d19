"""Texts, numbers and moments that every language writes, and therefore hashes, alike.

CPS (section 2) hashes the JSON that Python's `json.dumps` writes. Some Python values come out of
another language's JSON library changed, and their capsule no longer verifies there. The
functions here let through only what does not:

- texts hold no lone surrogates, which UTF-8 cannot carry: each becomes U+FFFD;
- integers lie within ±(2**53 - 1), floats are not integral and within 1e-4 <= |x| < 1e15; every
  other number is a decimal string;
- moments are ISO 8601 in UTC with `+00:00`.

A leaf: standard library only. Nothing here knows about containers, limits of a whole value,
redaction or secrets; that is `capsule_sdk.content.policy`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeAlias

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

SAFE_INTEGER = 2**53 - 1

_SLICE = 1 << 18  # characters encoded at a time: a 100 MB text is hashed in about 1 MB of memory
# 617 digits: below the lowest limit that sys.set_int_max_str_digits can set (640), and fast.
_DECIMAL_BITS = 2048
_HEX_BITS = 1 << 16
_DECIMAL_EXPONENT = 5000  # Decimal("1E+999999999") must not be written out

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def canonical(value: JSON) -> str:
    """Return the JSON text that CPS hashes (section 2): sorted keys, no spaces, literal UTF-8.

    >>> canonical({"b": [1, None], "a": "é"})
    '{"a":"é","b":[1,null]}'
    """
    return _encode(value)


def digest(text: str | bytes) -> str:
    """Return the SHA3-256 in hex; of a text, over its UTF-8, lone surrogates being U+FFFD.

    >>> digest("abc") == digest(b"abc")
    True
    """
    if isinstance(text, str):
        return weigh(text)[1]
    return hashlib.sha3_256(text).hexdigest()


def weigh(text: str) -> tuple[int, str]:
    """Return the UTF-8 length and the SHA3-256 of a text of any size, in bounded memory."""
    if len(text) <= _SLICE:
        raw = _utf8(text)
        return len(raw), hashlib.sha3_256(raw).hexdigest()
    size, sha3 = 0, hashlib.sha3_256()
    for part in _slices(text):
        size += len(part)
        sha3.update(part)
    return size, sha3.hexdigest()


def fit(text: str, limit: int, whole: str | None = None) -> str:
    """Return a text without lone surrogates: whole up to `limit` bytes, else head and marker.

    Args:
        text: the text.
        limit: bytes kept.
        whole: what the text is the beginning of, if it is cut already: the marker is that of the whole then.

    The marker states the length and SHA3-256 of the whole, so that whoever has the whole can
    still prove that it is the one: `<head>…[cut: <n> bytes, sha3-256 <hex>]`. The head keeps to
    the limit; the marker comes on top of it.

    """
    if whole is None:
        if text.isascii():
            if len(text) <= limit:
                return text
        elif len(text) <= limit:
            raw = _utf8(text)
            if len(raw) <= limit:
                return raw.decode()
    size, sha3 = weigh(text if whole is None else whole)
    head = _utf8(text[:limit])[:limit].decode("utf-8", "ignore")
    return f"{head}…[cut: {size} bytes, sha3-256 {sha3}]"


def _slices(text: str) -> Iterator[bytes]:
    start, size = 0, len(text)
    while start < size:
        end = min(start + _SLICE, size)
        if end < size and "\ud800" <= text[end - 1] <= "\udbff" and text[end] >= "\udc00":
            end += 1  # do not cut a surrogate pair: each half alone would become U+FFFD
        yield _utf8(text[start:end])
        start = end


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Through UTF-16: two halves that a stream delivered apart become the character they
        # mean, as in every language whose strings are UTF-16; a half alone becomes U+FFFD.
        mended = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return mended.encode()


def integer(value: int) -> int | str:
    """Return an exact `int` as JSON: itself, decimal, hex beyond 2,048 bits, or its size."""
    if -SAFE_INTEGER <= value <= SAFE_INTEGER:
        return value
    bits = value.bit_length()
    if bits <= _DECIMAL_BITS:
        return str(value)
    # Decimal digits cost quadratic time and `str` refuses them beyond a limit; hex does neither.
    return hex(value) if bits <= _HEX_BITS else f"[integer of {bits} bits]"


def real(value: float) -> int | float | str:
    """Return an exact `float` as JSON: the integer it equals, itself, or a decimal string.

    >>> real(0.5), real(3.0), real(2.5e-05), real(float("-inf"))
    (0.5, 3, '0.000025', '-Infinity')
    """
    size = abs(value)
    if 1e-4 <= size < 1e15:  # False for NaN
        whole = int(value)
        return whole if whole == value else value
    if size <= SAFE_INTEGER and value.is_integer():
        return int(value)
    return _real_text(value)


def _real_text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return _decimal_text(Decimal(float.__repr__(value)))


def _decimal_text(value: Decimal) -> str:
    if Decimal.is_nan(value):
        return "NaN"
    if Decimal.is_infinite(value):
        return "-Infinity" if Decimal.is_signed(value) else "Infinity"
    if abs(Decimal.adjusted(value)) > _DECIMAL_EXPONENT and value:
        return Decimal.__str__(value)
    text = Decimal.__format__(value, "f") if value else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


def decimal_text(number: float | int | Decimal | None) -> str | None:
    """Return a number, such as an amount of money, as a decimal string; None stays None.

    No exponent, no trailing zeros, so that equal amounts are sealed alike; a float by its
    shortest digits. NaN and infinities by name. The one exception: a `Decimal` beyond
    10**±5000 keeps its exponent, because nobody wants its zeros.

    >>> decimal_text(2.5e-05), decimal_text(0.0), decimal_text(1.0), decimal_text(None)
    ('0.000025', '0', '1', None)
    """
    if number is None:
        return None
    if isinstance(number, int):
        return str(integer(int.__index__(number)))
    if isinstance(number, float):
        return _real_text(float.__float__(number))
    return _decimal_text(number)


def utc(value: datetime | float | None) -> datetime:
    """Return a moment as an aware datetime in UTC.

    Args:
        value: a datetime, a naive one in *local* time (as LiteLLM hands them out); seconds since
            1970; or None for now. What is no moment at all (NaN, a timestamp beyond the year
            9999, a value of another type) counts as None: a record needs some moment.

    """
    if value is not None:
        with suppress(Exception):  # a subclass of datetime may raise anything (pandas.NaT)
            return moment(value)
    return datetime.now(UTC)


def moment(value: datetime | float) -> datetime:
    """Do as `utc` does, but raise for what is no moment."""
    if not isinstance(value, datetime):
        return datetime.fromtimestamp(value, UTC)
    try:
        at = value.astimezone(UTC)
    except (OverflowError, ValueError):
        if value.tzinfo is not None:
            raise
        at = value  # datetime.min and datetime.max: local time would fall off the calendar
    # A plain datetime, whatever subclass came in: they differ in what `isoformat` prints.
    return datetime(
        at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond, tzinfo=UTC
    )

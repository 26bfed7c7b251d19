"""A stored document is hashed as Python's own `json` would write it, whatever writes it faster."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule_sdk.content import quick_json
from capsule_sdk.evidence.verifying import document
from capsule_sdk.evidence.verifying.document import Repeated, content_hash, decode, decode_repeated

texts = st.text(st.characters(codec=None), max_size=9)  # half characters too
numbers = st.integers() | st.integers(-(2**70), 2**70) | st.floats()
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(texts, values, max_size=5)


def as_cps_has_it(text: str) -> str:
    """CPS 2, letter by letter."""
    parsed = json.loads(text)
    written = json.dumps(
        parsed, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha3_256(written.encode()).hexdigest()


def as_orjson_has_it(text: str) -> str:
    """What somebody who has the key could seal in place of it."""
    try:
        written = orjson.dumps(json.loads(text), option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return ""
    return hashlib.sha3_256(written).hexdigest()


def outcome(call: Any, *args: Any) -> Any:
    try:
        return call(*args)
    except (ValueError, RecursionError) as error:
        return type(error)


@given(documents, st.booleans(), st.sampled_from([None, 2]))
def test_the_hash_is_the_one_of_cps_whatever_is_claimed(
    content: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(content, ensure_ascii=ascii_only, indent=indent)
    right = outcome(as_cps_has_it, text)
    for claimed in (right if isinstance(right, str) else "", as_orjson_has_it(text), "", "0" * 64):
        assert outcome(content_hash, decode(text), claimed) == right


@pytest.mark.parametrize(
    "number",
    ["1e16", "1E16", "10000000000000000.0", "1e-5", "0.00001", "1.5e-07", "1e22", "5e-324", "1e400",
     "-1e999", "NaN", "Infinity", "-Infinity", "18446744073709551616", "-9223372036854775809",
     "123456789012345678901.5", "-0.0", "0.1", "9007199254740993", "9999999999999998.0"],
)  # fmt: skip
def test_a_number_is_hashed_as_python_spells_it_whatever_is_claimed(number: str) -> None:
    text = f'{{"number": {number}, "among": [1, {number}]}}'
    right = outcome(as_cps_has_it, text)
    for claimed in (as_orjson_has_it(text), ""):
        assert outcome(content_hash, decode(text), claimed) == right
    assert repr(decode(text)) == repr(json.loads(text))


def test_what_has_the_hash_that_it_claims_is_written_by_orjson_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: object) -> str:
        raise AssertionError

    text = json.dumps(
        {"b": [1, -2.5, None, True], "a": 'é"\n\x1f\x7f\u2028😀', "\uffff": {"": 0.0}}
    )
    monkeypatch.setattr(document, "_encode", refuse)
    assert content_hash(decode(text), as_cps_has_it(text)) == as_cps_has_it(text)


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 1}', '{"b": [{"a": 1, "\\u0061": 2}]}', '{"a": {"x": 1}, "a": null}']
)
def test_a_name_that_stands_twice_is_told_and_the_later_one_counts(text: str) -> None:
    with pytest.raises(Repeated, match="a"):
        decode(text)
    assert decode_repeated(text) == json.loads(text)
    assert content_hash(decode_repeated(text), "") == as_cps_has_it(text)


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"x": ', "}")])
def test_what_is_nested_too_deeply_is_not_hashed(begin: str, end: str) -> None:
    for levels, fits in ((document.DEEPEST, True), (document.DEEPEST + 1, False)):
        text = f'{{"a": {begin * (levels - 1)}1{end * (levels - 1)}}}'
        for claimed in (as_cps_has_it(text), ""):
            found = outcome(content_hash, decode(text), claimed)
            assert found == (as_cps_has_it(text) if fits else RecursionError)


class _AnEarlierOrjson:
    """3.10.17 wrote a vertical tab as backslash and u, without the four digits."""

    OPT_SORT_KEYS = orjson.OPT_SORT_KEYS

    @staticmethod
    def dumps(value: object, option: int | None = None) -> bytes:
        return orjson.dumps(value, option=option).replace(rb"\u000b", rb"\u")


def test_an_orjson_that_writes_two_texts_alike_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert quick_json.spells_as_json_does()
    sealed, altered = ({"text": text} for text in ("log \x1b[31mred", "log \x0b001b[31mred"))
    monkeypatch.setattr(document, "orjson", _AnEarlierOrjson)
    monkeypatch.setattr(quick_json, "orjson", _AnEarlierOrjson)
    assert _AnEarlierOrjson.dumps(sealed) == _AnEarlierOrjson.dumps(altered)
    assert not quick_json.spells_as_json_does()
    monkeypatch.setattr(document, "_orjson_can", quick_json.spells_as_json_does())
    claimed = as_cps_has_it(json.dumps(sealed))
    assert content_hash(sealed, claimed) == claimed
    assert content_hash(altered, claimed) == as_cps_has_it(json.dumps(altered)) != claimed

"""What may be sealed of any value: limits, modes, secrets, other languages."""

from __future__ import annotations

import collections
import doctest
import enum
import functools
import json
import math
import random
import shutil
import subprocess
import types
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sealable import (
    Colour,
    Level,
    Order,
    Plain,
    Silent,
    Slotted,
    assert_sealable,
    keys,
    leaves,
    sha3,
    values,
)

from capsule_sdk.content import (
    ContentPolicy,
    Limits,
    canonical,
    label,
    safe,
    secret_names,
)
from capsule_sdk.content import canonical_json as canonical_module
from capsule_sdk.content import policy as content
from capsule_sdk.content.policy import _Walk

# The serializer of the CPS reference: sorted keys, no spaces, literal UTF-8, SHA3-256. One
# document a line in, one hash a line out.
REHASH = """
const crypto = require("crypto");
function write(v) {
  if (v === null || typeof v !== "object") return JSON.stringify(v);
  if (Array.isArray(v)) return "[" + v.map(write).join(",") + "]";
  const pairs = Object.keys(v).sort().map(k => JSON.stringify(k) + ":" + write(v[k]));
  return "{" + pairs.join(",") + "}";
}
const lines = require("fs").readFileSync(0, "utf8").split("\\n").filter(line => line !== "");
for (const line of lines) {
  console.log(crypto.createHash("sha3-256").update(write(JSON.parse(line)), "utf8").digest("hex"));
}
"""


# ── any value ─────────────────────────────────────────────────────────────────────────────────────


@given(values, st.sampled_from(["full", "digest", "omit"]))
@settings(max_examples=300, deadline=None)
def test_any_nested_value_becomes_json_that_every_language_hashes_alike(value: Any, mode: Any):
    assert_sealable(ContentPolicy(mode).value(value))


@given(values, st.integers(1, 40), st.integers(1, 4), st.integers(1, 4), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_no_limits_let_anything_unsealable_through(
    value: Any, text: int, depth: int, items: int, total: int
):
    assert_sealable(safe(value, Limits(text, depth, items, total)))


@given(values)
@settings(max_examples=100, deadline=None)
def test_what_is_sealed_is_sealed_unchanged_a_second_time(value: Any):
    once = safe(value)
    assert safe(once) == once or "[secret]" in canonical(once)


@given(
    leaves | st.integers(-(2**54), 2**54) | st.text(min_size=1000, max_size=1100),
    st.sampled_from(["full", "digest", "omit"]),
    st.sampled_from([None, str.upper, lambda text: 1 / 0]),
    st.integers(1, 1200),
)
@settings(max_examples=300, deadline=None)
def test_a_value_that_is_read_the_short_way_is_sealed_as_it_is_inside_a_list(
    value: Any, mode: Any, redact: Any, text: int
):
    policy = ContentPolicy(mode, redact, Limits(text=text))
    assert canonical([policy.value(value)]) == canonical(policy.value([value]))


class _Liar(type):
    """The metaclass of a class that can neither be hashed nor compared."""

    def __hash__(cls) -> int:
        raise RuntimeError

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError


@given(st.dictionaries(keys | st.sampled_from(["api_key", 5, None]), leaves, max_size=6))
def test_a_small_object_is_sealed_alike_by_the_short_way_and_by_the_long_one(value: Any) -> None:
    for limits in (Limits(), Limits(text=3), Limits(items=2), Limits(total=3)):
        policy = ContentPolicy(limits=limits)
        assert policy.value(value) == _Walk(policy).node(value, 0)


def test_a_class_that_cannot_be_hashed_is_sealed_by_its_name_all_the_same():
    value = _Liar("Odd", (), {})()
    assert ContentPolicy().value(value) == "<test_content.Odd object>"
    assert safe([value, 1]) == ["<test_content.Odd object>", 1]


def test_plain_json_passes_as_it_is():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Grüße"}], "n": 1, "top_p": 0.25},
        {"role": "assistant", "content": None, "tool_calls": [], "cached": True, "x": {}},
    ]
    assert safe(messages) == messages


def test_the_value_itself_is_never_changed():
    value = {"a": [1, {2, 3}, ("Authorization", "x")], "api_key": "sk", "n": float("nan")}
    before = repr(value)
    safe(value)
    assert repr(value) == before


# ── bounds ────────────────────────────────────────────────────────────────────────────────────────


def test_a_cycle_is_marked_and_shared_values_are_not_taken_for_one():
    cyclic: dict[str, Any] = {"n": 1}
    cyclic["self"] = cyclic
    cyclic["list"] = [cyclic]
    assert safe(cyclic) == {"n": 1, "self": "[cycle]", "list": ["[cycle]"]}
    shared = [1]
    assert safe([shared, shared]) == [[1], [1]]
    order = Order("a")
    order.parts.append(order)
    assert safe(order)["parts"] == ["[cycle]"]


def test_an_enum_whose_value_is_itself_ends():
    class Odd(enum.Enum):
        A = 1

    Odd.A._value_ = Odd.A
    assert safe(Odd.A) == "[cycle]"


@pytest.mark.parametrize(
    "make", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}, Slotted, lambda v: Slotted(1, v)]
)
def test_100_000_levels_are_cut_at_the_depth_limit(make: Any):
    value: Any = "leaf"
    for _ in range(100_000):
        value = make(value)
    try:
        sealed = safe(value)
        assert canonical(sealed).count(" below depth 16]") == 1
        assert_sealable(sealed)
    finally:
        while not isinstance(value, str):  # take it down by hand: so deep, deallocation is slow
            value = value.a if isinstance(value, Slotted) and value.b is None else (
                value.b if isinstance(value, Slotted) else next(iter(
                    value.values() if isinstance(value, dict) else value)))  # fmt: skip


def test_the_last_level_within_the_depth_limit_is_whole():
    assert safe([[1]], Limits(depth=2)) == [[1]]
    assert safe([[[1]], 2], Limits(depth=2)) == [["[cut: list below depth 2]"], 2]


def test_a_call_near_the_end_of_the_stack_raises_nothing():
    def dive(depth: int) -> Any:
        try:
            return dive(depth + 1)
        except RecursionError:
            return safe([[1]])

    assert_sealable(dive(0))


def test_long_lists_and_objects_keep_their_head_and_state_the_count():
    limits = Limits(items=2)
    cut = "[cut: 2 of 5 entries kept]"
    assert safe([1, 2, 3, 4, 5], limits) == [1, 2, cut]
    assert safe((1, 2, 3, 4, 5), limits) == [1, 2, cut]
    assert safe({str(n): n for n in range(5)}, limits) == {"0": 0, "1": 1, "…": cut}
    assert safe(collections.UserDict(dict.fromkeys("abcde", 1)), limits) == {
        "a": 1,
        "b": 1,
        "…": cut,
    }
    assert len(safe(set(range(5)), limits)) == 3
    assert safe(range(10**18), limits) == [0, 1, f"[cut: 2 of {10**18} entries kept]"]
    assert safe({"…": 1, "a": 2, "b": 3}, limits) == {
        "…": 1,
        "a": 2,
        "… #3": "[cut: 2 of 3 entries kept]",
    }
    assert safe([1, 2], limits) == [1, 2]


def test_breadth_times_depth_is_bounded():
    value: Any = 1
    for _ in range(15):
        value = [value] * 1000
    sealed = safe(value)
    assert len(canonical(sealed)) < 2_000_000
    assert_sealable(sealed)


def test_many_long_texts_are_bounded_together_and_each_can_still_be_proven():
    comb: Any = None
    for level in range(15):
        comb = [comb] + [f"{level}-{n}" + "x" * 30_000 for n in range(100)]
    sealed = safe(comb)
    assert len(canonical(sealed)) < 21_000_000
    last = comb[-1]
    assert sealed[-1] == f"…[cut: {len(last)} bytes, sha3-256 {sha3(last)}]"


def test_when_long_texts_have_used_up_the_total_what_follows_is_cut_and_says_so():
    value = ["x" * 10_240, [1, 2], {"a": 1}, "short"]
    cut = "[cut: 0 of {} entries kept]"
    assert safe(value, Limits(total=8))[1:] == [[cut.format(2)], {"…": cut.format(1)}, "short"]


@pytest.mark.parametrize("field", ["text", "depth", "items", "total"])
def test_a_limit_below_1_is_refused(field: str):
    with pytest.raises(ValueError, match="at least 1"):
        Limits(**{field: 0})


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────


def test_keys_of_any_type_become_strings():
    value = {None: 1, True: 2, 5: 3, 2.5: 4, (1, "a"): 5, b"raw": 6, Level.HIGH: 7, Colour.RED: 8,
             uuid.UUID(int=1): 9, frozenset({1}): 10, 2**60: 11, int: 12}  # fmt: skip
    assert safe(value) == {
        "null": 1, "true": 2, "5": 3, "2.5": 4, '[1,"a"]': 5, "raw": 6, "high": 7, "red": 8,
        "00000000-0000-0000-0000-000000000001": 9, "[1]": 10, "1152921504606846976": 11,
        "builtins.int": 12,
    }  # fmt: skip


def test_keys_beyond_the_bmp_are_escaped_and_stay_distinct():
    assert safe({"😀": 1, "😁": 2, "é": 3}) == {"\\u{1f600}": 1, "\\u{1f601}": 2, "é": 3}
    assert safe({"a" + chr(0xD800): 1, "a" + chr(0xD801): 2}) == {"a\ufffd": 1, "a\ufffd #2": 2}


def test_keys_that_become_alike_lose_no_entry():
    assert safe({"1": "a", 1: "b", "1 #2": "c"}) == {"1": "a", "1 #2": "b", "1 #2 #3": "c"}
    silent = {Silent(): n for n in range(500)}
    assert sorted(safe(silent).values()) == list(range(500))


def test_a_long_key_is_cut_and_stays_distinct():
    sealed = safe({"k" * 100_000 + "a": 1, "k" * 100_000 + "b": 2})
    assert sorted(sealed.values()) == [1, 2]
    assert all(len(key) < 650 for key in sealed)


@given(st.dictionaries(keys, st.integers(0, 9), max_size=30))
@settings(deadline=None)
def test_no_entry_is_ever_lost(value: dict[Any, int]):
    sealed = safe(value)
    secret = list(sealed.values()).count("[secret]")
    assert len(sealed) == len(value)
    assert secret or sorted(sealed.values()) == sorted(value.values())


# ── modes and redaction ───────────────────────────────────────────────────────────────────────────


NESTED = {
    "text": "hello",
    "n": [1, 2.5, True, None, "ü"],
    "raw": b"abc",
    "token": "t",
    "when": date(2026, 1, 1),
    "big": 2**60,
    "error": ValueError("no ana"),
    "kind": Silent(),
}


def test_digest_mode_keeps_structure_and_digests_texts():
    def seal(text: str) -> str:
        return f"sha3-256:{sha3(text)} ({len(text.encode())} bytes)"

    assert ContentPolicy("digest").value(NESTED) == {
        "text": seal("hello"),
        "n": [1, 2.5, True, None, seal("ü")],
        "raw": {"bytes": 3, "sha3_256": sha3(b"abc")},
        "token": "[secret]",
        "when": seal("2026-01-01"),
        "big": "1152921504606846976",
        "error": f"ValueError: {seal('no ana')}",
        "kind": "<sealable.Silent object>",
    }
    long = "x" * 50_000
    assert ContentPolicy("digest").text(long) == seal(long)


def test_omit_mode_keeps_structure_and_no_trace_of_texts_or_bytes():
    assert ContentPolicy("omit").value(NESTED) == {
        "text": "[omitted]",
        "n": [1, 2.5, True, None, "[omitted]"],
        "raw": {"bytes": 3},
        "token": "[secret]",
        "when": "[omitted]",
        "big": "1152921504606846976",
        "error": "ValueError: [omitted]",
        "kind": "<sealable.Silent object>",
    }
    assert ContentPolicy("omit").text("x" * 50_000) == "[omitted]"


@given(values)
@settings(max_examples=150, deadline=None)
def test_no_content_text_survives_in_omit_mode(value: Any):
    canary = "CANARY-4711"
    sealed = ContentPolicy("omit").value([canary, (canary, value), {"k": canary, "l": [canary]}])
    assert canary not in canonical(sealed)


def test_an_unknown_mode_is_refused_and_never_means_full():
    with pytest.raises(ValueError, match="full, digest, omit"):
        ContentPolicy("ommit")  # type: ignore[arg-type]


def test_redaction_sees_every_whole_content_text_before_it_is_cut():
    seen: list[str] = []

    def redact(text: str) -> str:
        seen.append(text)
        return text.replace("ana", "[name]")

    policy = ContentPolicy(redact=redact, limits=Limits(text=2000))
    long = "x" * 1995 + "ana" + "y" * 5000
    sealed = policy.value({"ana": "hi ana", "l": [long, ValueError("ana")], "p": Plain()})
    assert sealed["ana"] == "hi [name]"  # a key is structure
    redacted = "x" * 1995 + "[name]" + "y" * 5000
    assert sealed["l"][0] == f"{redacted[:2000]}…[cut: 7001 bytes, sha3-256 {sha3(redacted)}]"
    assert sealed["l"][1] == "ValueError: [name]"
    assert long in seen
    assert all(type(text) is str for text in seen)
    assert policy.text("ana") == "[name]"


def test_redaction_comes_before_the_digest():
    policy = ContentPolicy("digest", redact=lambda _: "same")
    assert policy.text("a") == policy.text("b") == f"sha3-256:{sha3('same')} (4 bytes)"


def test_redaction_that_fails_seals_its_failure_and_never_the_raw_text():
    def fail(text: str) -> str:
        raise ValueError(text)

    class Liar:
        __class__ = str  # type: ignore[assignment]

    for redact, kind in [
        (fail, "ValueError"),
        (lambda _: None, "TypeError"),
        (lambda text: text.encode(), "TypeError"),
        (lambda _: Liar(), "TypeError"),
        (lambda: "x", "TypeError"),
    ]:
        for mode in ("full", "digest"):
            policy = ContentPolicy(mode, redact=redact)  # type: ignore[arg-type]
            sealed = policy.value({"a": "raw text", "b": ["raw text" * 1000]})
            assert sealed == {
                "a": f"[redaction failed: {kind}]",
                "b": [f"[redaction failed: {kind}]"],
            }
            assert policy.text("raw text") == f"[redaction failed: {kind}]"


def test_redaction_is_not_asked_where_nothing_is_kept():
    policy = ContentPolicy("omit", redact=lambda _: pytest.fail("asked"))
    assert policy.value(["a", "b" * 5000]) == ["[omitted]", "[omitted]"]


# ── secrets ───────────────────────────────────────────────────────────────────────────────────────
def test_secrets_are_hidden_wherever_names_and_values_stand_together():
    class Cfg(NamedTuple):
        user: str
        secret: str

    for value in [
        {b"authorization": "hunter2"},
        {Level("high"): 1, "api_key": {"nested": ["hunter2"]}},
        [("Authorization", "hunter2"), (b"cookie", b"hunter2")],
        Cfg("u", "hunter2"),
        types.MappingProxyType({"token": "hunter2"}),
        {"k" * 200 + "_api_key": "hunter2"},
        functools.reduce(lambda inner, _: {"a": inner}, range(5), {"pwd": "hunter2"}),
        {"\ud800_password": "hunter2"},
    ]:
        text = canonical(safe(value))
        assert "[secret]" in text
        assert "hunter2" not in text
        assert sha3("hunter2") not in text


def test_the_marker_of_a_secret_stays_in_every_mode():
    for mode in ("full", "digest", "omit"):
        policy = ContentPolicy(mode, redact=str.upper)  # type: ignore[arg-type]
        assert policy.value(("Authorization", "x"))[1] == "[secret]"  # type: ignore[index]
        assert policy.value({"token": "x"}) == {"token": "[secret]"}


def test_the_decision_about_a_key_is_cached():
    safe({"some_rare_name": 1})
    with mock.patch.object(content, "names_secret", side_effect=AssertionError):
        assert safe({"some_rare_name": 2}) == {"some_rare_name": 2}


# ── labels ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("gpt-5", "gpt-5"),
        ("", ""),
        (None, ""),
        (5, "5"),
        (True, "true"),
        (2.5, "2.5"),
        (b"caf\xc3\xa9\xff", "café\ufffd"),
        ([1, "a"], '[1,"a"]'),
        ({"token": "t"}, '{"token":"[secret]"}'),
        (Level.HIGH, "high"),
        (uuid.UUID(int=2), "00000000-0000-0000-0000-000000000002"),
        ("😀", "😀"),
    ],
)
def test_a_label_is_always_a_text(value: Any, text: str):
    assert label(value) == text


def test_a_label_is_bounded_and_provable():
    assert label("x" * 512) == "x" * 512
    assert label("x" * 513) == "x" * 512 + f"…[cut: 513 bytes, sha3-256 {sha3('x' * 513)}]"
    assert label("abcdef", 3).startswith("abc…[cut: 6 bytes")
    assert len(label([["x" * 1000] * 1000] * 1000).encode()) < 700


@given(values)
@settings(max_examples=100, deadline=None)
def test_a_label_of_anything_is_a_short_text_without_surrogates(value: Any):
    assert len(label(value).encode()) < 700


@pytest.mark.parametrize("module", [content, canonical_module, secret_names])
def test_the_examples_in_the_docstrings_are_true(module: types.ModuleType):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


# ── other languages ───────────────────────────────────────────────────────────────────────────────


@given(values)
@settings(max_examples=50, deadline=None)
def test_canonical_is_the_json_that_cps_hashes(value: Any):
    sealed = safe(value)
    assert canonical(sealed) == json.dumps(
        sealed, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def odd_documents() -> Iterator[Any]:
    """Yield documents of what other languages are known to hash differently."""
    yield {"cost": 2.5e-05, "one": 1.0, "big": 2**60, "minus": -0.0, "huge": 1e300, "small": 5e-324}
    yield {"😀": 1, "\uffff": 2, "é": 3, "\ue000": 4, "10": 5, "9": 6, "__proto__": {"a": 1}, "": 7}
    yield [
        '\u2028\u2029\x7f\x00\x1f\x0b\b\f\n\r\t"\\/</script>',
        "\ud800",
        "\ud83d\ude00",
        "ﬁ",
        "e\u0301",
    ]
    yield {"constructor": None, "toString": [[]], "length": {}, "x": [float("nan"), float("inf")]}
    yield [Decimal("1E-30"), datetime(2026, 1, 1, tzinfo=UTC), {1, "1", (1,)}, b"\x00", 1 << 5000]
    chance = random.Random(20260101)
    for _ in range(300):
        # Floats of every size that passes, from random digits and from random bits.
        yield [chance.uniform(-1, 1) * 10 ** chance.randint(-6, 17) for _ in range(60)]
        yield [round(chance.uniform(0, 1000), chance.randint(0, 12)) for _ in range(60)]
        yield [
            float.fromhex(f"0x1.{chance.getrandbits(52):013x}p{chance.randint(-15, 52)}")
            for _ in range(60)
        ]
    for power in range(-8, 20):
        for number in (10.0**power, 2.0**power, 3 * 10.0**power):
            yield [number, math.nextafter(number, 0), math.nextafter(number, math.inf), -number]
    points = [chance.randint(0, 0x10FFFF) for _ in range(4000)]
    for start in range(0, 4000, 40):
        yield {chr(point): chr(point) for point in points[start : start + 40]}


def test_javascript_hashes_what_is_sealed_to_the_same_bytes():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: nothing here to re-hash with in JavaScript")
    documents = [safe(document) for document in odd_documents()]
    lines = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
    done = subprocess.run(
        [node, "-e", REHASH], input=lines.encode(), capture_output=True, check=True, timeout=60
    )
    assert any(type(number) is float for document in documents for number in document)
    assert done.stdout.decode().split() == [
        sha3(json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
        for document in documents
    ]

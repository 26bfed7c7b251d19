"""One record by itself: what it says, what is wrong with it, and that nothing in it raises."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nacl.signing import SigningKey
from qp_capsule import Capsule, compute_hash, validate_capsule_dict
from qp_capsule.capsule import ADDED_CONTENT_DEFAULTS
from tampering import (
    FOREIGN,
    SEAL,
    Made,
    Record,
    as_json,
    at,
    changes_of,
    content_of,
    everything,
    has_a_hash,
    made_chains,  # noqa: F401 - a fixture
    places,
    put,
    qp_capsule_refuses,
    seal_anew,
    use,  # noqa: F401 - a fixture
)

from capsule_sdk.evidence.formats.entries import Columns, Entry
from capsule_sdk.evidence.sources import open_source
from capsule_sdk.evidence.verifying import record as record_module
from capsule_sdk.evidence.verifying.brought import Brought
from capsule_sdk.evidence.verifying.findings import Reason
from capsule_sdk.evidence.verifying.keys import TrustedKey, given_keys
from capsule_sdk.evidence.verifying.record import Facts, check_record

Use = Callable[[str], Made]

KEY = SigningKey(bytes(range(32)))
KEYS = [key.for_checking() for key in given_keys([bytes(KEY.verify_key).hex()])]


def record(**changes: object) -> Record:
    """The record in which everything is filled, with changes, sealed with `KEY`."""
    found = {
        **everything().to_dict(),
        "sequence": 1,
        "previous_hash": "ab" * 32,
        "signature_pq": "",
        "signed_at": "2026-03-01T02:03:05+00:00",
        "signed_by": f"qp_key_{bytes(KEY.verify_key).hex()[:4]}",
        **changes,
    }
    seal_anew(found, KEY)
    return found


def plain() -> Record:
    """As our recorder writes it: no options, which is the shape that is known without qp-capsule."""
    found = record()
    found["reasoning"] |= {"options": [], "options_considered": []}
    seal_anew(found, KEY)
    return found


def checked(value: object, keys: Any = KEYS) -> Facts:
    return check_record(Entry(json.dumps(value)), keys)


def faults(value: object, keys: Any = KEYS) -> set[Reason]:
    return {reason for reason, _ in checked(value, keys).faults}


def sealed_as(content: Record) -> Record:
    """Whatever it is: sealed, if it can be."""
    whole = {**record(), **content}
    for name in set(whole) - set(content) - set(SEAL):
        del whole[name]
    if has_a_hash(whole):
        seal_anew(whole, KEY)
    return whole


# -- what is well, and what is not ----------------------------------------------------------------


@pytest.mark.parametrize("make", [record, plain])
def test_nothing_is_wrong_with_a_record_that_was_sealed(make: Callable[[], Record]) -> None:
    facts = checked(make())
    assert facts.faults == ()
    assert facts.signer == 0


_EVERY = [(make, place) for make in (record, plain) for place in places(content_of(make()))]


@pytest.mark.parametrize(
    ("make", "place"),
    _EVERY,
    ids=[f"{make.__name__} {'.'.join(map(str, place))}" for make, place in _EVERY],
)
def test_every_other_value_at_every_place_is_judged_as_qp_capsule_judges_it(
    make: Callable[[], Record], place: tuple[str | int, ...]
) -> None:
    """Changed and not sealed again the hash tells; sealed again, only the shape is left to judge by."""
    before = at(make(), place)
    for name, value in changes_of(before).items():
        other = make()
        put(other, place, value)
        assert_as_qp_capsule_judges(other, name)
        if has_a_hash(other):
            seal_anew(other, KEY)
            assert_as_qp_capsule_judges(other, name)


@pytest.mark.parametrize("name", list(everything().to_dict()))
@pytest.mark.parametrize("make", [record, plain])
def test_a_missing_field_is_judged_as_qp_capsule_judges_it(
    name: str, make: Callable[[], Record]
) -> None:
    other = make()
    section = other.pop(name)
    seal_anew(other, KEY)
    assert_as_qp_capsule_judges(other, name)
    for inner in list(section) if isinstance(section, dict) else ():
        other = make()
        del other[name][inner]
        seal_anew(other, KEY)
        assert_as_qp_capsule_judges(other, inner)


@pytest.mark.parametrize("make", [record, plain])
@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-03-01T02:03:04.567890+00:00",
        "2026-03-01T02:03:04+00:00",
        "2026-03-01T02:03:04+05:30",
        "2026-03-01T02:03:04",
        "2026-03-01T02:03:04Z",
        "2026-03-01T02:03:04.5+00:00",
        "2026-03-01T02:03+00:00",
        "2026-03-01 02:03:04+00:00",
        "20260301T020304+0000",
        "2026-W09-7T02:03:04+00:00",
        "2026-03-01",
        "2026-02-30T02:03:04+00:00",
    ],
)
def test_a_time_is_one_where_it_is_written_as_qp_capsule_writes_it(
    timestamp: str, make: Callable[[], Record]
) -> None:
    other = make()
    other["trigger"]["timestamp"] = timestamp
    seal_anew(other, KEY)
    assert_as_qp_capsule_judges(other, timestamp)


@pytest.mark.parametrize("make", [record, plain])
def test_a_hash_that_is_spelled_otherwise_is_another_one(make: Callable[[], Record]) -> None:
    good = make()["hash"]
    for text in (good.upper(), f" {good}", f"{good}\n", good[:-1], f"0x{good}", "", None):
        assert Reason.HASH_MISMATCH in faults(make() | {"hash": text}), text


def assert_as_qp_capsule_judges(other: Record, about: str) -> None:
    found, content = faults(other), content_of(other)
    if not has_a_hash(other):
        assert found & {Reason.MALFORMED}, about
        return
    assert (Reason.MALFORMED in found) == qp_capsule_refuses(content), (about, found)
    assert (Reason.HASH_MISMATCH in found) == (compute_hash(content) != other["hash"]), about
    assert found <= {Reason.MALFORMED, Reason.HASH_MISMATCH}, about


def test_a_record_sealed_before_the_version_was_a_field_is_whole() -> None:
    old = record()
    del old["spec_version"]
    seal_anew(old, KEY)
    assert faults(old) == set()


def test_a_field_that_the_protocol_does_not_know_is_part_of_what_was_sealed() -> None:
    newer = record(policy={"id": 7})
    assert faults(newer) == set()
    newer["policy"]["id"] = 8
    assert faults(newer) == {Reason.HASH_MISMATCH}
    inner = record()
    inner["context"]["colour"] = "red"
    seal_anew(inner, KEY)
    assert faults(inner) == {Reason.MALFORMED}


def test_what_a_reader_found_fault_with_is_malformed_whatever_its_text_would_say() -> None:
    facts = check_record(Entry(json.dumps(record()), fault="something follows the list"), KEYS)
    assert facts == Facts(faults=((Reason.MALFORMED, "something follows the list"),))


# -- nothing raises -------------------------------------------------------------------------------

_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=20)
    | st.sampled_from(
        [
            "1.0",
            "agent",
            "ab" * 32,
            "2026-01-01T00:00:00+00:00",
            "5e1f7a30-0c4b-4d1e-9a55-0123456789ab",
        ]
    )
)
_values = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
_FULL = record()
_PLACES = list(places(_FULL))


@st.composite
def nearly_records(draw: st.DrawFn) -> Record:
    """A record in which some values, anywhere, are something else."""
    found: Record = json.loads(json.dumps(_FULL))
    for place in draw(st.lists(st.sampled_from(_PLACES), max_size=4)):
        try:
            if isinstance(place[-1], int) and isinstance(at(found, place[:-1]), dict):
                continue  # a list has been replaced, and JSON has no such name
            put(found, place, draw(_values))
        except (LookupError, TypeError):
            continue  # what held it has been replaced
    for name in draw(st.sets(st.sampled_from(list(_FULL)), max_size=2)):
        del found[name]
    return found


@given(value=_values | nearly_records())
@example(value={})
@example(value=[])
def test_any_json_is_judged_and_agrees_with_qp_capsule(value: object) -> None:
    facts = checked(value)
    found = {reason for reason, _ in facts.faults}
    pickle.dumps(facts, pickle.HIGHEST_PROTOCOL)
    assert all(isinstance(detail, str) and len(detail) < 2_000 for _, detail in facts.faults)
    if not isinstance(value, dict):
        assert found == {Reason.MALFORMED}
        return
    content = content_of(value)
    try:
        right = has_a_hash(value) and compute_hash(content) == value.get("hash")
    except (ValueError, RecursionError):
        right = False
    assert right == (Reason.HASH_MISMATCH not in found and has_a_hash(value)), found
    if qp_capsule_refuses(content):
        assert Reason.MALFORMED in found
    try:
        Capsule.from_sealed_dict(value)
    except Exception:
        assert found


@given(value=nearly_records())
def test_what_was_sealed_as_it_is_has_the_right_hash_and_only_its_shape_is_judged(
    value: Record,
) -> None:
    whole = sealed_as(content_of(value))
    if not has_a_hash(whole):
        assert Reason.MALFORMED in faults(whole)
        return
    assert faults(whole) == ({Reason.MALFORMED} if qp_capsule_refuses(content_of(whole)) else set())


_cells = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9)
)


@given(
    text=st.text(max_size=30) | nearly_records().map(json.dumps),
    seal=st.tuples(*[_cells] * 5),
    columns=st.builds(Columns, *[_cells] * 5),
)
def test_any_row_of_any_types_is_judged(
    text: str, seal: tuple[object, ...], columns: Columns
) -> None:
    facts = check_record(Entry(text, seal, columns), KEYS)
    assert facts.faults
    pickle.dumps(facts, pickle.HIGHEST_PROTOCOL)


@pytest.mark.parametrize(
    "name",
    [
        "id",
        "type",
        "parent_id",
        "sequence",
        "previous_hash",
        "hash",
        "signature",
        "signed_by",
        "outcome",
        "more",
    ],
)
def test_depth_raises_nothing_wherever_it_is(name: str) -> None:
    for depth in (100, 300, 500, 900, 960, 980, 1_000, 5_000, 100_000):
        deep = f"{'[' * depth}{']' * depth}"
        text = json.dumps(record() | {name: "HERE"}).replace('"HERE"', deep)
        row = Entry(text, ("", "", "", None, ""), Columns(1, "x", "y", None, None))
        for entry in (Entry(text), row):
            facts = check_record(entry, KEYS)
            assert facts.faults
            pickle.dumps(facts, pickle.HIGHEST_PROTOCOL)


# -- who sealed it --------------------------------------------------------------------------------


def signed(key: SigningKey, name: str | None) -> Record:
    found = record(signed_by=name)
    seal_anew(found, key)
    return found


def name_of(key: SigningKey) -> str:
    return f"qp_key_{bytes(key.verify_key).hex()[:4]}"


def trusted(*keys: SigningKey) -> list[Any]:
    return [key.for_checking() for key in given_keys(bytes(key.verify_key).hex() for key in keys)]


@pytest.mark.parametrize("name", [name_of(KEY), bytes(KEY.verify_key).hex()[:16]])
def test_a_record_names_its_key_by_four_digits_or_sixteen(name: str) -> None:
    facts = check_record(Entry(json.dumps(signed(KEY, name))), trusted(FOREIGN, KEY))
    assert (facts.signer, facts.faults) == (1, ())


@pytest.mark.parametrize(
    ("key", "name", "expected"),
    [
        (KEY, name_of(FOREIGN), Reason.SIGNER_MISMATCH),
        (SigningKey(b"x" * 32), name_of(KEY), Reason.SIGNATURE_INVALID),
        (SigningKey(b"x" * 32), name_of(SigningKey(b"x" * 32)), Reason.KEY_UNKNOWN),
        (SigningKey(b"x" * 32), "", Reason.SIGNATURE_INVALID),
        (SigningKey(b"x" * 32), None, Reason.SIGNATURE_INVALID),
    ],
)
def test_what_the_signature_fits_counts_and_not_what_the_record_says(
    key: SigningKey, name: str | None, expected: Reason
) -> None:
    facts = check_record(Entry(json.dumps(signed(key, name))), trusted(KEY, FOREIGN))
    assert [reason for reason, _ in facts.faults] == [expected]
    assert facts.signer == (0 if expected is Reason.SIGNER_MISMATCH else None)


def test_without_keys_no_signature_is_looked_at() -> None:
    for text in ("", None, "xx", "00" * 64, 7):
        found = faults(record() | {"signature": text}, keys=None)
        assert found == ({Reason.MALFORMED} if text == 7 else set())
    assert checked(record(), keys=None).signer is None


def test_with_no_key_that_is_trusted_no_signature_fits() -> None:
    assert faults(record(), keys=[]) == {Reason.KEY_UNKNOWN}


@pytest.mark.parametrize("text", ["", None])
def test_a_missing_signature_is_said_to_be_missing(text: str | None) -> None:
    assert faults(record() | {"signature": text}) == {Reason.SIGNATURE_MISSING}


@pytest.mark.parametrize("text", ["zz", "0", "00" * 63, "00" * 65, "00" * 64, "ü" * 128, "\ud800"])
def test_a_signature_that_is_none_is_invalid(text: str) -> None:
    assert faults(record() | {"signature": text}) - {Reason.MALFORMED} == {Reason.SIGNATURE_INVALID}


@pytest.mark.parametrize("raw", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_a_weak_or_impossible_public_key_fits_no_signature(raw: bytes) -> None:
    """Of small order, or no point at all: signatures that fit everything could be made for some."""
    keys = [TrustedKey(raw.hex(), "given", Brought.KEPT).for_checking()]
    for signature in ("00" * 64, "01" + "00" * 63, (raw + bytes(32)).hex()):
        found = faults(record(signed_by="") | {"signature": signature}, keys)
        assert found == {Reason.SIGNATURE_INVALID}


def test_who_names_no_key_that_is_known_has_used_the_one_in_use() -> None:
    """As qp-capsule has it; to say nothing must not be a way around having to say the truth."""
    retired, in_use = trusted(FOREIGN, KEY)
    keys = [retired._replace(unnamed=False), in_use._replace(unnamed=True)]
    for name in ("", None, "qp_key_none"):
        for key, expected in ((FOREIGN, [Reason.SIGNER_MISMATCH]), (KEY, [])):
            facts = check_record(Entry(json.dumps(signed(key, name))), keys)
            assert [reason for reason, _ in facts.faults] == expected


# -- what it says ---------------------------------------------------------------------------------


def said(**places_: object) -> Facts:
    found = record()
    for place, value in places_.items():
        *above, last = place.split("__")
        at(found, tuple(above))[last] = value
    return checked(found)


def test_facts_are_read_from_the_content() -> None:
    facts = checked(record())
    assert (facts.sequence, facts.id) == (1, "5e1f7a30-0c4b-4d1e-9a55-0123456789ab")
    assert facts.parent_id == "5e1f7a30-0c4b-4d1e-9a55-000000000000"
    assert facts.previous_hash == "ab" * 32
    assert facts.hash == record()["hash"]
    assert facts.signed_at == 1772330585
    assert facts.approval
    assert facts.counted
    assert not facts.post_quantum


@pytest.mark.parametrize("value", [None, "x", [], {}, 1.0, True, -1, 2**63, "1"])
def test_what_cannot_be_a_number_is_none(value: object) -> None:
    assert said(sequence=value).sequence is None


def test_ids_are_compared_in_lower_case() -> None:
    assert said(id="5E1F7A30-0C4B-4D1E-9A55-0123456789AB").id == checked(record()).id
    assert said(id="{5e1f7a30-0c4b-4d1e-9a55-0123456789ab}").id is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"started": 2, "ended": 1, "digest": "ab" * 32}, (2, 1, "ab" * 32)),
        ({"started": 2, "ended": 1, "digest": "AB" * 32}, None),
        ({"started": 2, "ended": 1}, None),
        ({"started": 2, "ended": 1, "digest": "ab" * 32, "more": 1}, None),
        ({"started": "2", "ended": 1, "digest": "ab" * 32}, None),
        ({"started": 2.0, "ended": 1, "digest": "ab" * 32}, None),
        ({"started": True, "ended": 1, "digest": "ab" * 32}, None),
        ({"started": -1, "ended": -1, "digest": "ab" * 32}, None),
        ({"started": 2**63, "ended": 1, "digest": "ab" * 32}, None),
        ([2, 1, "ab" * 32], None),
        (None, None),
    ],
)
def test_what_a_task_says_of_its_children_is_read_where_it_is_complete(
    value: object, expected: tuple[object, ...] | None
) -> None:
    assert said(outcome__metrics={"children": value}).children == expected


@pytest.mark.parametrize(("kind", "value", "lost"), [
    ("system", 3, 3), ("system", 0, 0), ("system", "3", 0), ("system", -3, 0), ("system", True, 0),
    ("agent", 3, 0),
])  # fmt: skip
def test_losses_are_what_a_system_record_counts(kind: str, value: object, lost: int) -> None:
    assert said(type=kind, outcome__metrics={"records_lost": value}).lost == lost


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-03-01T02:03:05+00:00", 1772330585.0),
        ("2026-03-01T02:03:05", 1772330585.0),
        ("2026-03-01T03:03:05+01:00", 1772330585.0),
        ("2026-03-01T02:03:05Z", 1772330585.0),
        ("1970-01-01", 0.0),
        ("", None),
        (None, None),
        ("yesterday", None),
        (5, None),
        ("9999-12-31T23:59:59-23:59", 253402387139.0),
        ("0001-01-01T00:00:00+23:59", -62135683140.0),
    ],
)
def test_when_it_was_sealed_is_read_as_utc(text: object, seconds: float | None) -> None:
    assert checked(record() | {"signed_at": text}).signed_at == seconds


def test_the_details_of_a_row_are_those_of_the_record(use: Use, tmp_path: Path) -> None:
    """From a file and from a database come the same facts."""
    made = use("recorded")
    from_rows = [check_record(entry, None) for entry in open_source(made.db).entries()]
    path = as_json(made.records(), tmp_path)
    from_file = [check_record(entry, None) for entry in open_source(path).entries()]
    assert from_rows == from_file
    assert not any(facts.faults for facts in from_rows)


def test_the_shape_that_is_known_here_is_one_that_qp_capsule_knows(use: Use) -> None:
    """The quick way must let through nothing that the slow way would not."""
    for name in ("recorded", "rotated", "losses"):
        for one in use(name).records():
            assert validate_capsule_dict({**ADDED_CONTENT_DEFAULTS, **content_of(one)}).ok
            assert not qp_capsule_refuses(content_of(one))


@pytest.mark.parametrize("name", ["session_id", "tenant_id", "domain"])
def test_half_a_character_in_what_a_row_is_found_by_is_one_fault_among_others(name: str) -> None:
    value = "\ud800" + "x" * 60
    found = plain()
    if name == "domain":
        found["domain"] = value
    elif name == "session_id":
        found["context"]["session_id"] = value
    else:
        found["context"]["environment"]["tenant_id"] = value
    columns = Columns(7, found["id"], found["type"], found["previous_hash"], "s", "d", "t")
    entry = Entry(json.dumps(content_of(found)), tuple(found[one] for one in SEAL), columns)
    said = {reason for reason, _ in check_record(entry, KEYS).faults}
    assert {Reason.MALFORMED, Reason.COLUMN_MISMATCH} <= said


def test_a_record_that_nobody_has_foreseen_is_malformed_and_hides_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("something new")

    monkeypatch.setattr(record_module, "misfit", fail)
    ((reason, detail),) = checked(plain()).faults
    assert (reason, detail) == (
        Reason.MALFORMED,
        "it cannot be judged (ZeroDivisionError: something new)",
    )


@pytest.mark.parametrize("place", ["hash", "type", "id"])
def test_what_is_said_of_a_large_record_is_short(place: str) -> None:
    large = plain() | {place: "x" * 100_000}
    assert checked(large).faults
    assert sum(len(detail) for _, detail in checked(large).faults) < 5_000


@given(depth=st.sampled_from([100, 200, 240, 260, 300, 400, 600, 900]))
def test_nothing_is_whole_that_qp_capsule_finds_nested_too_deeply(depth: int) -> None:
    found = plain()
    found["outcome"]["result"] = json.loads("[" * depth + "]" * depth)
    seal_anew(found, KEY)
    whole = not checked(found).faults
    assert whole == (depth < 254)
    assert not (whole and qp_capsule_refuses(found))

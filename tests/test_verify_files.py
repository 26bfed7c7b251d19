"""``capsuled verify`` on files: JSON spelled in every way, damaged in every way, and bytes of any kind."""

from __future__ import annotations

import io
import json
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tampering import (
    Chains,
    Made,
    Record,
    as_json,
    as_text,
    assert_as_qp_capsule_says,
    content_of,
    is_whole,
    judge,
    made_chains,  # noqa: F401 - a fixture
    qp_capsule_says,
    reasons,
    same,
    use,  # noqa: F401 - a fixture
)

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.sources import open_source
from capsule_sdk.evidence.verifying.findings import Reason
from capsule_sdk.evidence.verifying.keys import given_keys, keys_here
from capsule_sdk.evidence.verifying.verify import Verdict

Use = Callable[[str], Made]
Spell = Callable[[list[Record]], str | bytes]

any_example = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def looked_at(path: Path) -> Verdict | None:
    """The verdict; ``None`` where it cannot be read. Anything else is raised, and fails the test."""
    try:
        verdict = judge(path, keys_here())
    except EvidenceError:
        return None
    json.dumps([finding.to_dict() for finding in verdict.findings], allow_nan=False)
    positions = [finding.position for finding in verdict.findings if finding.position is not None]
    assert positions == sorted(positions)
    return verdict


# -- spelled in another way -----------------------------------------------------------------------


def in_another_order(value: object) -> object:
    if isinstance(value, dict):
        return {key: in_another_order(one) for key, one in reversed(value.items())}
    return [in_another_order(one) for one in value] if isinstance(value, list) else value


SPELLINGS: dict[str, Spell] = {
    "compact": lambda records: json.dumps(records, separators=(",", ":")),
    "indented": lambda records: json.dumps(records, indent=4),
    "with tabs": lambda records: json.dumps(records, indent="\t"),
    "with CR LF": lambda records: json.dumps(records, indent=1).replace("\n", "\r\n"),
    "with CR alone": lambda records: json.dumps(records, indent=1).replace("\n", "\r"),
    "spaces around": lambda records: f"\n\n   {json.dumps(records)}   \r\n\t",
    "literal characters": lambda records: json.dumps(records, ensure_ascii=False),
    "upper-case escapes": lambda records: json.dumps(records).replace(r"\u6f22", r"\u6F22"),
    "escaped slashes": lambda records: json.dumps(records).replace("/", r"\/"),
    "letters escaped": lambda records: json.dumps(records).replace('"agent_id"', r'"\u0061gent_id"'),
    "keys in another order": lambda records: json.dumps(in_another_order(records)),
    "keys sorted": lambda records: json.dumps(records, sort_keys=True),
    "numbers otherwise": lambda records: json.dumps(records)
    .replace(": 0.75", ": 7.5E-1").replace(": 0.25", ": 0.250"),
    "of the seal first": lambda records: json.dumps(
        [{"hash": one["hash"], **one} for one in records]
    ),
}  # fmt: skip


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_how_json_is_spelled_changes_nothing(spell: Spell, use: Use, tmp_path: Path) -> None:
    made = use("reference")
    text = spell(made.records())
    assert text != json.dumps(made.records())
    path = as_text(text, tmp_path)
    assert reasons(judge(path, keys_here())) == set()
    assert_as_qp_capsule_says(path, made.public_key)


CHANGES: dict[str, Spell] = {
    "1 is 1.0": lambda records: json.dumps(records).replace('"level": 1', '"level": 1.0'),
    "1 is 1e0": lambda records: json.dumps(records).replace('"level": 1', '"level": 1e0'),
    "1 is true": lambda records: json.dumps(records).replace('"level": 1', '"level": true'),
    "1 is quoted": lambda records: json.dumps(records).replace('"level": 1', '"level": "1"'),
    "1 is -1": lambda records: json.dumps(records).replace('"level": 1', '"level": -1'),
    "0.75 is 0.7500000000000001": lambda records: json.dumps(records).replace(
        ": 0.75", ": 0.7500000000000001"
    ),
    "true is 1": lambda records: json.dumps(records).replace('"ok": true', '"ok": 1'),
    "null is empty": lambda records: json.dumps(records).replace('"error": null', '"error": ""'),
    "a letter of a key": lambda records: json.dumps(records).replace('"level"', '"Level"'),
    "a key that looks the same": lambda records: json.dumps(records).replace(
        '"level"', '"l\N{CYRILLIC SMALL LETTER IE}vel"'
    ),
    "white space in a text": lambda records: json.dumps(records).replace("two ways", "two  ways"),
    "an escape more": lambda records: json.dumps(records).replace(r"back\\slash", r"back\\\\slash"),
    "a digit of an escape": lambda records: json.dumps(records).replace(r"\u6f22", r"\u6f23"),
}


@pytest.mark.parametrize("spell", CHANGES.values(), ids=CHANGES)
def test_what_means_something_else_is_found(spell: Spell, use: Use, tmp_path: Path) -> None:
    made = use("reference")
    text = spell(made.records())
    assert text != json.dumps(made.records())
    path = as_text(text, tmp_path)
    assert reasons(judge(path, keys_here())) == {Reason.HASH_MISMATCH}
    assert_as_qp_capsule_says(path, made.public_key)


def test_a_file_of_one_record_needs_no_list(use: Use, tmp_path: Path) -> None:
    made = use("reference")
    path = as_json(made.records()[0], tmp_path)
    assert reasons(judge(path, keys_here())) == set()
    assert_as_qp_capsule_says(path, made.public_key)


# -- what is not JSON, or no list of records -------------------------------------------------------

DAMAGES: dict[str, Spell] = {
    "empty": lambda _: "",
    "white space": lambda _: " \n\t ",
    "a number": lambda _: "42",
    "a text": lambda _: '"chain"',
    "null": lambda _: "null",
    "true": lambda _: "true",
    "NaN": lambda _: "NaN",
    "an empty object": lambda _: "{}",
    "a list of numbers": lambda _: "[1, 2.5, true, null]",
    "a list of texts": lambda _: '["a", "b"]',
    "a list of lists": lambda records: json.dumps([records]),
    "a list of empty objects": lambda _: "[{}, {}]",
    "an object that holds the list": lambda records: json.dumps({"capsules": records}),
    "records as texts": lambda records: json.dumps([json.dumps(one) for one in records]),
    "null between": lambda records: json.dumps([records[0], None, *records[1:]]),
    "a list without end": lambda records: json.dumps(records)[:-1],
    "a list without beginning": lambda records: json.dumps(records)[1:],
    "no comma": lambda records: json.dumps(records).replace("}, {\"id\"", "} {\"id\"", 1),
    "two commas": lambda records: json.dumps(records).replace("}, {\"id\"", "},, {\"id\"", 1),
    "a comma at the end": lambda records: f"{json.dumps(records)[:-1]},]",
    "a comma at the beginning": lambda records: f"[,{json.dumps(records)[1:]}",
    "a comma in a record": lambda records: json.dumps(records).replace('"domain"', ', "domain"', 1),
    "single quotes": lambda records: json.dumps(records).replace('"', "'"),
    "a comment": lambda records: json.dumps(records).replace('"domain"', '/* x */ "domain"', 1),
    "keys without quotes": lambda records: json.dumps(records).replace('"domain"', "domain", 1),
    "a line feed in a text": lambda records: json.dumps(records).replace("two ways", "two\nways"),
    "a wrong escape": lambda records: json.dumps(records).replace("two ways", r"two\ways"),
    "half an escape": lambda records: json.dumps(records).replace("two ways", r"two\u12"),
    "a NUL": lambda records: json.dumps(records).replace(", ", ",\0 ", 1),
    "NULs behind": lambda records: json.dumps(records) + "\0" * 512,
    "garbage behind": lambda records: json.dumps(records) + "x",
    "a second list behind": lambda records: json.dumps(records) * 2,
    "a bracket too many": lambda records: json.dumps(records) + "]",
    "garbage between": lambda records: json.dumps(records).replace("}, {\"id\"", "}, xx {\"id\"", 1),
    "NaN in a record": lambda records: json.dumps(records).replace('"level": 1', '"level": NaN'),
    "infinity in a record": lambda records: json.dumps(records).replace(
        '"level": 1', '"level": -Infinity'
    ),
    "a number too large": lambda records: json.dumps(records).replace(
        '"level": 1', f'"level": {"9" * 5000}'
    ),
    "a number beyond floats": lambda records: json.dumps(records).replace(
        '"level": 1', '"level": 1e999'
    ),
    "a leading zero": lambda records: json.dumps(records).replace('"level": 1', '"level": 01'),
    "a plus sign": lambda records: json.dumps(records).replace('"level": 1', '"level": +1'),
    "hexadecimal": lambda records: json.dumps(records).replace('"level": 1', '"level": 0x1'),
    "depth of lists": lambda records: json.dumps(records).replace(
        '"level": 1', f'"level": {"[" * 100_000}{"]" * 100_000}'
    ),
    "depth of objects": lambda _: '{"a":' * 100_000 + "1" + "}" * 100_000,
    "only brackets": lambda _: "[" * 100_000,
    "half a character": lambda records: json.dumps(records).replace("two ways", r"two \ud800"),
    "the other half": lambda records: json.dumps(records).replace("two ways", r"two \udc00"),
    "UTF-16": lambda records: json.dumps(records).encode("utf-16"),
    "UTF-32": lambda records: json.dumps(records).encode("utf-32-le"),
    "Latin-1": lambda records: json.dumps(records, ensure_ascii=False).replace(
        "→", ">").replace("漢字 🙂", "").encode("latin-1", "replace"),
    "a byte that is not UTF-8": lambda records: json.dumps(records).encode().replace(
        b"two ways", b"two \xffays"
    ),
    "such a byte in the seal": lambda records: json.dumps(records).encode().replace(
        b'"signed_by": "', b'"signed_by": "\xfe'
    ),
    "such a byte between": lambda records: json.dumps(records).encode().replace(b", ", b",\xff ", 1),
    "overlong UTF-8": lambda records: json.dumps(records).encode().replace(b"two", b"\xc1\xb4wo"),
    "half a character in UTF-8": lambda records: json.dumps(records).encode().replace(
        b"two", b"\xed\xa0\x80"
    ),
    "zip": lambda _: b"PK\x03\x04" + bytes(100),
    "an empty zip": lambda _: b"PK\x05\x06" + bytes(18),
    "HTML": lambda _: "<!doctype html><html><body>no report</body></html>",
    "SQLite's first bytes": lambda _: b"SQLite format 3\0" + bytes(200),
    "YAML": lambda _: "- id: 1\n  type: agent\n",
    "CSV": lambda _: "id,type\n1,agent\n",
}  # fmt: skip


@pytest.mark.parametrize("spell", DAMAGES.values(), ids=DAMAGES)
def test_what_is_no_chain_is_not_whole_and_raises_nothing_else(
    spell: Spell, use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    path = as_text(spell(made.records()), tmp_path)
    verdict = looked_at(path)
    assert verdict is None or not verdict.whole
    if verdict is not None and verdict.records and verdict.obstacle is None:
        assert reasons(verdict) & {Reason.MALFORMED, Reason.HASH_MISMATCH}
    assert qp_capsule_says(path, made.public_key) != (0, 0, 0)


def test_a_byte_order_mark_which_qp_capsule_cannot_read_is_passed_over(
    use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    path = as_text("\ufeff" + json.dumps(made.records()), tmp_path)
    assert judge(path, keys_here()).whole
    assert qp_capsule_says(path, made.public_key) == (2, 2, 2)


def test_json_lines_which_qp_capsule_cannot_read_are_read(use: Use, tmp_path: Path) -> None:
    made = use("reference")
    for between in ("\n", "\n\n", "\r\n", " ", ""):
        path = as_text(between.join(map(json.dumps, made.records())), tmp_path)
        assert judge(path, keys_here()).whole
        assert qp_capsule_says(path, made.public_key) == (2, 2, 2)


@pytest.mark.parametrize("lines", [False, True], ids=["list", "lines"])
def test_a_file_cut_off_anywhere_is_not_whole_unless_a_record_ends_there(
    lines: bool, use: Use, tmp_path: Path
) -> None:
    made = use("losses")
    records = made.records()
    whole = "\n".join(map(json.dumps, records)) if lines else json.dumps(records)
    ends = {len(json.dumps(records[0])), len(json.dumps(records[0])) + 1} if lines else set()
    for length in sorted({*range(0, len(whole), 11), *ends}):
        verdict = looked_at(as_text(whole[:length], tmp_path))
        assert (verdict is not None and verdict.whole) == (length in ends), length


def test_after_garbage_the_next_line_is_read(use: Use, tmp_path: Path) -> None:
    records = use("rotated").records()
    lines = [json.dumps(record) for record in records]
    lines[2] = lines[2][:100]
    for text in ("\n".join(lines), "[" + ",\n".join(lines) + "]"):
        verdict = judge(as_text(text, tmp_path), keys_here())
        assert [(one.reason, one.position) for one in verdict.findings] == [
            (Reason.MALFORMED, 2),
            (Reason.SEQUENCE_GAP, 3),
        ]
        assert verdict.records == 6


# -- databases that are damaged -------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 15, 16, 100, 4095, 4096, 5000, 12_000])
def test_a_database_that_was_cut_off_is_not_whole(length: int, use: Use, tmp_path: Path) -> None:
    content = use("reference").db.read_bytes()
    assert length < len(content)
    assert not is_whole(as_text(content[:length], tmp_path, "chain.db"))


STATEMENTS = {
    "no table": "DROP TABLE capsules",
    "another name": "ALTER TABLE capsules RENAME TO Kapseln",
    "columns missing": "ALTER TABLE capsules DROP COLUMN session_id",
}


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
def test_a_database_that_holds_no_chain_is_not_whole(
    statement: str, use: Use, tmp_path: Path
) -> None:
    path = use("reference").copy(tmp_path)
    connection = sqlite3.connect(path)
    if "session_id" in statement:
        connection.execute("DROP INDEX ix_capsules_session_id")
    connection.execute(statement)
    connection.commit()
    connection.close()
    assert not is_whole(path)


# -- bytes of any kind ----------------------------------------------------------------------------

_BEGINNINGS = [
    b"",
    b"[",
    b"{",
    b'[{"id": "',
    b"PK\x03\x04",
    b"SQLite format 3\0",
    b"<!doctype html>",
    b"\xef\xbb\xbf[",
]


@any_example
@given(content=st.builds(bytes.__add__, st.sampled_from(_BEGINNINGS), st.binary(max_size=300)))
@example(content=b"[\xff]")
def test_any_bytes_give_a_verdict_or_evidence_error(content: bytes, tmp_path: Path) -> None:
    verdict = looked_at(as_text(content, tmp_path))
    assert verdict is None or verdict.records >= 0


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


@any_example
@given(value=_values | st.lists(_values, max_size=4), cut=st.none() | st.integers(0, 200))
def test_any_json_gives_a_verdict_or_evidence_error(
    value: object, cut: int | None, tmp_path: Path
) -> None:
    verdict = looked_at(as_text(json.dumps(value)[:cut], tmp_path))
    assert verdict is None or verdict.whole == (verdict.records == 0 and verdict.obstacle is None)


@any_example
@given(data=st.data())
def test_any_byte_of_a_database_may_change_and_if_it_is_whole_it_is_a_beginning_of_the_chain(
    data: st.DataObject,
    made_chains: Chains,
    tmp_path: Path,
) -> None:
    made = made_chains["losses"]
    content = bytearray(made.db.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = as_text(bytes(content), tmp_path, "chain.db")
    verdict = looked_at(path)
    if verdict is not None and verdict.whole:
        found = [entry.content() for entry in open_source(path).entries()]
        before = [content_of(record) for record in made.records()]
        assert same(found, before[: len(found)])


@any_example
@given(data=st.data())
def test_any_byte_of_an_export_may_change_and_if_it_is_whole_it_says_the_same(
    data: st.DataObject,
    made_chains: Chains,
    tmp_path: Path,
) -> None:
    made = made_chains["reference"]
    records = made.records()
    content = bytearray(json.dumps(records, ensure_ascii=data.draw(st.booleans())).encode())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(
        st.integers(0, 255) | st.integers(0, 7).map(lambda bit: content[place] ^ 1 << bit)
    )
    path = as_text(bytes(content), tmp_path)
    try:
        verdict = judge(path, given_keys([made.public_key]))
    except EvidenceError:
        return
    if verdict.whole:
        found = json.loads(bytes(content))
        assert same([content_of(one) for one in found], [content_of(one) for one in records])


@any_example
@given(data=st.data())
def test_any_byte_of_a_bundle_may_change(
    data: st.DataObject,
    made_chains: Chains,
    tmp_path: Path,
) -> None:
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("chain.json", json.dumps(made_chains["losses"].records()))
        archive.writestr("manifest.json", '{"selection": null}')
    content = bytearray(bundle.getvalue())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    verdict = looked_at(as_text(bytes(content), tmp_path, "chain.zip"))
    assert verdict is None or verdict.records >= 0

"""``capsuled verify`` over a corpus of good and tampered chains: what it finds, and that qp-capsule agrees.

Each chain is given to both. Where qp-capsule can read it, the verdicts are equal, without keys, with those of
the keyring and with one public key; where it cannot, ours is not "whole". How JSON itself can be damaged is in
``test_verify_files.py``; where we say more than qp-capsule, and why, in ``test_verify_beyond.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from chain_support import capsule
from nacl.signing import SigningKey
from qp_capsule import validate_capsule_dict
from qp_capsule.capsule import ADDED_CONTENT_DEFAULTS
from tampering import (
    FOREIGN,
    OF_SIGNATURES,
    SEAL,
    Made,
    Place,
    Record,
    altered,
    as_json,
    as_lines,
    assert_as_qp_capsule_says,
    at,
    changes_of,
    content_of,
    everything,
    has_a_hash,
    in_database,
    judge,
    link_anew,
    made_chains,  # noqa: F401 - a fixture
    places,
    put,
    qp_capsule_refuses,
    qp_capsule_says,
    reasons,
    seal_all_anew,
    seal_anew,
    use,  # noqa: F401 - a fixture
    without_constraints,
)

from capsule_sdk.evidence.verifying.findings import Reason
from capsule_sdk.evidence.verifying.keys import keys_here

Use = Callable[[str], Made]
Finds = frozenset[Reason]


def finds(*expected: Reason) -> Finds:
    return frozenset(expected)


def assert_finds(path: Path, expected: Finds) -> None:
    """These and no others, with keys; without, all but what only keys can tell.

    A seal that came to another record may say that it was sealed before it began, which is a doubt of its own.
    """
    doubt = {Reason.TIME_BACKWARDS}
    assert expected <= reasons(judge(path, keys_here())) <= expected | doubt
    assert expected - OF_SIGNATURES <= reasons(judge(path)) <= (expected - OF_SIGNATURES) | doubt


# -- one value of one record ----------------------------------------------------------------------

_FULL = everything().to_dict()
_PLACES = list(places(_FULL))
#: What else than the hash a changed value of the content may break.
_ALSO: dict[Place, Finds] = {
    ("sequence",): finds(Reason.SEQUENCE_GAP, Reason.SEQUENCE_REPEATED, Reason.LINK_BROKEN),
    ("previous_hash",): finds(Reason.LINK_BROKEN),
    ("parent_id",): finds(Reason.PARENT_MISSING),
}


def some_changes(place: Place, count: int) -> Iterator[tuple[str, object]]:
    """Some of the values that can stand there instead, others at each place."""
    changes = sorted(changes_of(at(_FULL, place)).items())
    if place[-1] != "id":
        changes.append(("missing", ...))
    start = _PLACES.index(place) * count
    return itertools.islice(itertools.cycle(changes), start, start + count)


def changed(records: list[Record], place: Place, value: object) -> None:
    """Change the second record; an ellipsis takes the value away."""
    if value is ...:
        del at(records[1], place[:-1])[place[-1]]
    else:
        put(records[1], place, value)


def name_of(place: Place) -> str:
    return ".".join(map(str, place))


def assert_changed_content_is_found(
    path: Path, made: Made, record: Record, place: Place, about: str
) -> None:
    """By both; the hash tells, so keys make no difference."""
    assert 0 not in qp_capsule_says(path, made.public_key), about
    found = reasons(judge(path, keys_here())) - {Reason.COLUMN_MISMATCH}
    assert (Reason.HASH_MISMATCH in found) == has_a_hash(record), (about, found)
    refused = qp_capsule_refuses(content_of(record)) or not has_a_hash(record)
    assert (Reason.MALFORMED in found) == refused, (about, found)
    rest = found - {Reason.HASH_MISMATCH, Reason.MALFORMED}
    assert rest <= _ALSO.get(place, finds()), (about, rest)


@pytest.mark.parametrize("place", _PLACES, ids=name_of)
def test_a_value_that_was_changed_is_found_in_a_file(
    place: Place, use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    for about, value in some_changes(place, 2):
        records = made.records()
        changed(records, place, value)
        path = as_json(records, tmp_path)
        assert_changed_content_is_found(path, made, records[1], place, about)


@pytest.mark.parametrize("place", _PLACES[::2], ids=name_of)
def test_a_value_that_was_changed_is_found_in_a_database(
    place: Place, use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    for about, value in some_changes(place, 1):
        records = made.records()
        changed(records, place, value)
        path = in_database(made, records, tmp_path)
        assert_changed_content_is_found(path, made, records[1], place, about)


def sealed_otherwise(made: Made, place: Place, value: object) -> list[Record]:
    """What the holder of the key can write: another value, and every hash, signature and link to suit."""
    records = made.records()
    changed(records, place, value)
    link_anew(records, made.key, 1)
    return records


def is_of_the_protocol(record: Record) -> bool:
    """Whether the protocol has such records; ``verify`` of qp-capsule does not ask that."""
    document = {**ADDED_CONTENT_DEFAULTS, **content_of(record)}
    return (
        validate_capsule_dict(document).ok
        and type(document["sequence"]) is int
        and has_a_hash(record)
    )


def sealable(made: Made, place: Place, count: int) -> Iterator[tuple[str, list[Record]]]:
    for about, value in some_changes(place, count):
        try:
            yield about, sealed_otherwise(made, place, value)
        except UnicodeEncodeError:  # half a character has no bytes to hash
            continue


@pytest.mark.parametrize("place", _PLACES, ids=name_of)
def test_what_the_holder_of_the_key_sealed_is_judged_as_qp_capsule_does(
    place: Place, use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    for about, records in sealable(made, place, 2):
        if is_of_the_protocol(records[1]):
            assert_as_qp_capsule_says(as_json(records, tmp_path), made.public_key, about)


@pytest.mark.parametrize("place", _PLACES[1::2], ids=name_of)
def test_what_the_holder_of_the_key_sealed_is_malformed_where_the_protocol_has_no_such_record(
    place: Place, use: Use, tmp_path: Path
) -> None:
    """Of a database, in which qp-capsule's ``verify`` lets some of them through."""
    made = use("reference")
    for about, records in sealable(made, place, 2):
        path = in_database(made, records, tmp_path)
        found = reasons(judge(path, keys_here())) - {Reason.COLUMN_MISMATCH}
        if not is_of_the_protocol(records[1]):
            assert found & {Reason.MALFORMED, Reason.SEQUENCE_GAP}, about


# -- the seal -------------------------------------------------------------------------------------


class Case(NamedTuple):
    """What is done to the records of a chain, and what is found then."""

    name: str
    chain: str
    tamper: Callable[[list[Record], SigningKey], object]
    finds: Finds


def set_(place: int, **values: object) -> Callable[[list[Record], SigningKey], object]:
    return lambda records, _: records[place].update(values)


def without(place: int, name: str) -> Callable[[list[Record], SigningKey], object]:
    return lambda records, _: records[place].pop(name)


def edit(
    place: int, name: str, change: Callable[[Any], object]
) -> Callable[[list[Record], SigningKey], object]:
    return lambda records, _: records[place].update({name: change(records[place][name])})


_HASH_AND_LINK = finds(Reason.HASH_MISMATCH, Reason.LINK_BROKEN, Reason.SIGNATURE_INVALID)
_INVALID, _MISSING = finds(Reason.SIGNATURE_INVALID), finds(Reason.SIGNATURE_MISSING)
_BACKWARDS = finds(Reason.TIME_BACKWARDS)
_MALFORMED = finds(Reason.MALFORMED)


def of_the_seal() -> Iterator[Case]:
    for place in range(3):
        last = finds(Reason.LINK_BROKEN) if place == 2 else finds()
        for name, change in (
            ("letter", lambda text: text[:-1] + ("0" if text[-1] != "0" else "1")),
            ("upper case", str.upper),
            ("empty", lambda _: ""),
            ("cut", lambda text: text[:-1]),
            ("zeros", lambda _: "0" * 64),
            ("space", lambda text: f"{text} "),
        ):
            yield Case(
                f"hash {name}", "reference", edit(place, "hash", change), _HASH_AND_LINK - last
            )
        for name, change, found in (
            ("letter", lambda text: ("0" if text[0] != "0" else "1") + text[1:], _INVALID),
            ("last letter", lambda text: text[:-1] + ("0" if text[-1] != "0" else "1"), _INVALID),
            ("upper case", str.upper, finds()),
            ("spaced", lambda text: f"{text[:64]} {text[64:]}", finds()),
            ("cut", lambda text: text[:-2], _INVALID),
            ("longer", lambda text: f"{text}00", _INVALID),
            ("no hexadecimal", lambda text: f"x{text[1:]}", _INVALID),
            ("zeros", lambda _: "00" * 64, _INVALID),
            ("empty", lambda _: "", _MISSING),
            ("null", lambda _: None, _MISSING),
        ):
            yield Case(f"signature {name}", "reference", edit(place, "signature", change), found)
        for name in ("hash", "signature", "signature_pq", "signed_at", "signed_by"):
            found = {"hash": _HASH_AND_LINK - last, "signature": _MISSING}.get(name, finds())
            yield Case(f"no {name}", "reference", without(place, name), found)
        later = finds() if place == 2 else _BACKWARDS
        earlier = finds() if place == 0 else _BACKWARDS
        for name, text, found in (
            ("earlier", "2000-01-01T00:00:00+00:00", earlier),
            ("later", "2100-01-01T00:00:00+00:00", later),
            ("later, naive", "2100-01-01T00:00:00", later),
            ("a day", "2100-01-01", later),
            ("empty", "", finds()),
            ("null", None, finds()),
            ("no time", "yesterday", _MALFORMED),
        ):
            yield Case(f"signed_at {name}", "reference", set_(place, signed_at=text), found)
        yield Case(
            "signature_pq there", "reference", set_(place, signature_pq="ab" * 3309), finds()
        )
        yield Case("signed by nobody", "reference", set_(place, signed_by="qp_key_none"), finds())
        yield Case(
            "signature of another", "reference",
            lambda records, _, place=place: records[place].update(
                signature=records[place - 1]["signature"]
            ), _INVALID,
        )  # fmt: skip
    for place in (0, 1, 4, 5):
        yield Case(
            "signer of another time", "rotated",
            lambda records, _, place=place: records[place].update(
                signed_by=records[5 - place]["signed_by"]
            ), finds(Reason.SIGNER_MISMATCH),
        )  # fmt: skip
    for place, name in itertools.product((0, 3, 5), ("", None, "nobody")):
        # who names no key that is known has used the one in use
        found = finds() if place == 5 else finds(Reason.SIGNER_MISMATCH)
        yield Case(f"signer {name!r}", "rotated", set_(place, signed_by=name), found)


# -- records that were moved, removed, put in -----------------------------------------------------

_GAP, _REPEATED = finds(Reason.SEQUENCE_GAP), finds(Reason.SEQUENCE_REPEATED)
_MOVED = _GAP | _REPEATED
_COPIED = finds(Reason.SEQUENCE_REPEATED, Reason.ID_REPEATED)


def remove(*numbers: int) -> Callable[[list[Record], SigningKey], object]:
    def tamper(records: list[Record], _: SigningKey) -> None:
        records[:] = [one for one in records if one["sequence"] not in numbers]

    return tamper


def swap(one: int, other: int) -> Callable[[list[Record], SigningKey], object]:
    def tamper(records: list[Record], _: SigningKey) -> None:
        records[one], records[other] = records[other], records[one]

    return tamper


def copy_to(place: int, target: int) -> Callable[[list[Record], SigningKey], object]:
    return lambda records, _: records.insert(target, dict(records[place]))


def of_the_order() -> Iterator[Case]:
    for first, last in itertools.combinations(range(7), 2):
        gone = tuple(range(first, last))
        found = finds() if last == 6 and first else _GAP
        if last - first < 6:
            yield Case(f"removed {first} to {last - 1}", "rotated", remove(*gone), found)
    for one, other in itertools.combinations(range(6), 2):
        yield Case(f"swapped {one} and {other}", "rotated", swap(one, other), _MOVED)
    for place, target in itertools.product(range(6), (0, 3, 6)):
        tamper = copy_to(place, target)
        # in front of all others stands either the first, or one whose number comes too early
        found = _COPIED | (_GAP if target == 0 < place or (target == 3 < place) else finds())
        yield Case(f"copied {place} to {target}", "rotated", tamper, found)
    yield Case("reversed", "rotated", lambda records, _: records.reverse(), _MOVED)
    yield Case("turned", "rotated", lambda records, _: records.append(records.pop(0)), _MOVED)
    yield Case(
        "all of it twice", "rotated", lambda records, _: records.extend(list(records)), _COPIED
    )
    yield Case("all removed", "rotated", lambda records, _: records.clear(), finds())
    yield Case(
        "one left", "rotated", lambda records, _: records.__delitem__(slice(1, None)), finds()
    )


def of_the_family() -> Iterator[Case]:
    """In the recorded chain: 0 and 1 belong to 2; 2 and 3 to 4; 6, which came late, to 5."""
    lacks, parent = finds(Reason.CHILDREN_MISSING), finds(Reason.PARENT_MISSING)
    for place, found in enumerate((lacks, lacks, lacks | parent, lacks, parent, parent)):
        yield Case(f"removed {place}", "recorded", remove(place), _GAP | found)
    yield Case("removed both calls", "recorded", remove(0, 1), _GAP | lacks)
    yield Case("removed the family", "recorded", remove(0, 1, 2, 3, 4), _GAP)
    yield Case("the late child is not there", "recorded", remove(6), finds(Reason.CHILDREN_OPEN))
    yield Case("the end is not there", "recorded", remove(4, 5, 6), parent)
    yield Case("swapped", "recorded", swap(0, 4), _MOVED)
    yield Case("copied", "recorded", copy_to(0, 7), _COPIED)


def of_relatives() -> Iterator[Case]:
    """What a record says of its task, and a task of its children, without another seal."""
    lacks, parent = finds(Reason.CHILDREN_MISSING), finds(Reason.PARENT_MISSING)
    for place, name, value, found in (
        (0, "parent_id", None, lacks),
        (0, "id", "00000000-0000-4000-8000-000000000000", finds(Reason.CHILDREN_MISMATCH)),
        (
            2,
            "id",
            "00000000-0000-4000-8000-000000000000",
            lacks | parent | finds(Reason.CHILDREN_MISMATCH),
        ),
    ):
        yield Case(f"{name} of {place}", "recorded", set_(place, **{name: value}), _HASH | found)
    moved = finds(Reason.CHILDREN_MISSING, Reason.CHILDREN_UNANNOUNCED)
    yield Case(
        "a child given to another task", "recorded",
        lambda records, _: records[0].update(parent_id=records[3]["id"]), _HASH | moved,
    )  # fmt: skip
    for started, ended, found in (
        (3, 2, Reason.CHILDREN_OPEN),
        (3, 3, Reason.CHILDREN_MISSING),
        (1, 1, Reason.CHILDREN_UNANNOUNCED),
        (2, 1, None),
    ):
        yield Case(
            f"it names {started}, of which {ended} had ended", "recorded",
            lambda records, _, said={"started": started, "ended": ended}: at(
                records[2], ("outcome", "metrics", "children")
            ).update(said), _HASH | finds(*({found} - {None})),
        )  # fmt: skip
    yield Case(
        "it names others", "recorded",
        lambda records, _: at(records[2], ("outcome", "metrics", "children")).update(
            digest="0" * 64
        ), _HASH | finds(Reason.CHILDREN_MISMATCH),
    )  # fmt: skip


# -- hashes, links and signatures made anew -------------------------------------------------------

_HASH = finds(Reason.HASH_MISMATCH)
_LINK = finds(Reason.LINK_BROKEN)


def tell_another_story(records: list[Record], place: int) -> None:
    records[place]["outcome"]["summary"] = "nothing happened"


def hash_anew(records: list[Record], *numbers: int) -> None:
    """What anybody can do: the hash is no secret."""
    for number in numbers:
        signature = records[number]["signature"]
        seal_anew(records[number], FOREIGN)
        records[number]["signature"] = signature


def of_forgers() -> Iterator[Case]:
    def forged(
        place: int, how: Callable[[list[Record], int], object]
    ) -> Callable[[list[Record], SigningKey], object]:
        def tamper(records: list[Record], _: SigningKey) -> None:
            tell_another_story(records, place)
            how(records, place)

        return tamper

    def link_and_hash(records: list[Record], place: int) -> None:
        for number in range(place, len(records)):
            if number > place:
                records[number]["previous_hash"] = records[number - 1]["hash"]
            hash_anew(records, number)

    for place in range(6):
        rest = finds() if place == 5 else _LINK
        yield Case(f"hash of {place} anew", "rotated", forged(place, hash_anew), rest | _INVALID)
        yield Case(f"hashes from {place} anew", "rotated", forged(place, link_and_hash), _INVALID)
        yield Case(
            f"{place} sealed with another key", "rotated",
            forged(place, lambda records, place: seal_anew(records[place], FOREIGN)), rest | _INVALID,
        )  # fmt: skip
        yield Case(
            f"all from {place} sealed with another key", "rotated",
            forged(place, lambda records, place: seal_all_anew(records, FOREIGN, place)), _INVALID,
        )  # fmt: skip
        yield Case(
            f"all from {place} sealed with another key, which they name", "rotated",
            forged(place, in_the_name_of_another),
            finds(Reason.KEY_UNKNOWN),
        )  # fmt: skip
        for name, link in (("null", None), ("zeros", "0" * 64), ("its own", ...)):
            shape = _MALFORMED if (link is None) == bool(place) else finds()
            if (link, place) == (None, 0):
                continue
            yield Case(
                f"link of {place} is {name}", "rotated",
                lambda records, _, place=place, link=link: records[place].update(
                    previous_hash=records[place]["hash"] if link is ... else link
                ), _HASH | _LINK | shape,
            )  # fmt: skip
    yield Case(
        "renumbered from 1", "rotated",
        lambda records, _: [one.update(sequence=one["sequence"] + 1) for one in records],
        _HASH | _GAP | _MALFORMED,
    )  # fmt: skip


def in_the_name_of_another(records: list[Record], place: int) -> None:
    seal_all_anew(records, FOREIGN, place)
    for record in records[place:]:
        record["signed_by"] = f"qp_key_{bytes(FOREIGN.verify_key).hex()[:4]}"


def a_record(number: int, previous: str, signed_by: str) -> Record:
    record = capsule("put in").to_sealed_dict()
    record |= {"sequence": number, "previous_hash": previous, "signed_by": signed_by}
    seal_anew(record, FOREIGN)
    return record


def put_in(records: list[Record], _: SigningKey) -> None:
    records.insert(3, a_record(3, records[2]["hash"], records[2]["signed_by"]))


def put_at_the_end(records: list[Record], _: SigningKey) -> None:
    records.append(a_record(6, records[5]["hash"], records[5]["signed_by"]))


def of_what_was_put_in() -> Iterator[Case]:
    yield Case("one put in and numbered", "rotated", put_in, _REPEATED | _INVALID)
    yield Case("one put in at the end", "rotated", put_at_the_end, _INVALID)


_EDITS = [*of_the_seal(), *of_relatives(), *of_forgers()]
_CASES = [*_EDITS, *of_the_order(), *of_the_family(), *of_what_was_put_in()]
_IDS = [f"{number}: {case.name}" for number, case in enumerate(_CASES)]


@pytest.mark.parametrize("case", _CASES, ids=_IDS)
def test_what_was_done_to_a_file_is_found(case: Case, use: Use, tmp_path: Path) -> None:
    made = use(case.chain)
    records = made.records()
    case.tamper(records, made.key)
    path = as_json(records, tmp_path)
    assert_finds(path, case.finds)
    assert_as_qp_capsule_says(path, made.public_key)
    if records:
        assert_finds(as_lines(records, tmp_path), case.finds)


@pytest.mark.parametrize("case", _EDITS[::2], ids=_IDS[: len(_EDITS) : 2])
def test_what_was_done_to_the_rows_of_a_database_is_found(
    case: Case, use: Use, tmp_path: Path
) -> None:
    made = use(case.chain)
    records = made.records()
    case.tamper(records, made.key)
    path = in_database(made, records, tmp_path)
    assert reasons(judge(path, keys_here())) - {Reason.COLUMN_MISMATCH} == case.finds
    assert_as_qp_capsule_says(path, made.public_key)


# -- rows of a database ---------------------------------------------------------------------------

_COLUMN = finds(Reason.COLUMN_MISMATCH)
_UNREADABLE = None


class Statements(NamedTuple):
    """SQL that is executed on the rotated chain, and what is found then; ``None``: it cannot be read."""

    name: str
    finds: Finds | None
    statements: tuple[str, ...]
    loose: bool = False


def of_rows() -> Iterator[Statements]:
    for place in range(6):
        sql = f"DELETE FROM capsules WHERE sequence = {place}"
        yield Statements(f"row {place} deleted", _GAP if place < 5 else finds(), (sql,))
    yield Statements("rows from 3 deleted", finds(), ("DELETE FROM capsules WHERE sequence > 2",))
    yield Statements("every other row", _GAP, ("DELETE FROM capsules WHERE sequence % 2",))
    yield Statements("all rows", finds(), ("DELETE FROM capsules",))
    yield Statements(
        "in reverse order", _COLUMN | _MOVED, ("UPDATE capsules SET sequence = -sequence - 1",)
    )
    for one, other in itertools.combinations(range(4), 2):
        kept = "CREATE TEMP TABLE kept AS SELECT * FROM capsules"
        rows = f"WHERE sequence IN ({one}, {other})"
        others = f"FROM kept WHERE kept.sequence = {one + other} - capsules.sequence"
        seal = ", ".join(f"{name} = (SELECT {name} {others})" for name in SEAL)
        data = f"data = (SELECT data {others})"
        found = _COLUMN | _MOVED | _HASH
        named = finds() if one // 2 == other // 2 else finds(Reason.SIGNER_MISMATCH)
        yield Statements(
            f"contents of {one} and {other} swapped",
            found,
            (kept, f"UPDATE capsules SET {data} {rows}"),
        )
        yield Statements(
            f"contents and seals of {one} and {other} swapped", _COLUMN | _MOVED,
            (kept, f"UPDATE capsules SET {data}, {seal} {rows}"),
        )  # fmt: skip
        yield Statements(
            f"signatures of {one} and {other} swapped", _INVALID,
            (kept, f"UPDATE capsules SET signature = (SELECT signature {others}) {rows}"),
        )  # fmt: skip
        yield Statements(
            f"signers of {one} and {other} swapped", named,
            (kept, f"UPDATE capsules SET signed_by = (SELECT signed_by {others}) {rows}"),
        )  # fmt: skip
        yield Statements(
            f"numbers of {one} and {other} swapped", _COLUMN | _MOVED,
            (
                f"UPDATE capsules SET sequence = 99 WHERE sequence = {one}",
                f"UPDATE capsules SET sequence = {one} WHERE sequence = {other}",
                f"UPDATE capsules SET sequence = {other} WHERE sequence = 99",
            ),
        )  # fmt: skip
    for value in ("NULL", "'abc'", "x'00'", "9e999", "-1", "99"):
        moved = f"UPDATE capsules SET sequence = {value} WHERE sequence = 2"
        yield Statements(f"number {value}", _COLUMN | _MOVED, (moved,), loose=True)


def of_cells() -> Iterator[Statements]:
    no_record = _MALFORMED | _GAP
    empty = no_record | _HASH | _COLUMN
    for name, value, found in (
        ("null", "NULL", no_record), ("no JSON", "'no JSON'", no_record), ("nothing", "''", no_record),
        ("a number", "5", no_record), ("a float", "1.5", no_record), ("bytes", "x'ff00'", no_record),
        ("a list", "'[]'", no_record), ("JSON null", "'null'", no_record), ("{}", "'{}'", empty),
        ("a NUL behind it", "data || char(0)", no_record), ("cut", "substr(data, 1, 99)", no_record),
        ("two", "data || data", no_record), ("a mark", "char(65279) || data", no_record),
        ("white space", "char(10) || data || '  '", finds()), ("a blob", "cast(data AS blob)", finds()),
        ("another key", "replace(data, 'trigger', 'Trigger')", _MALFORMED | _HASH),
        ("a key of the seal", "replace(data, '{\"id\"', '{\"hash\": \"\", \"id\"')", _HASH),
        ("a key too many", "replace(data, '{\"id\"', '{\"x\": 1, \"id\"')", _HASH),
    ):  # fmt: skip
        sql = f"UPDATE capsules SET data = {value} WHERE sequence = 2"
        yield Statements(f"data is {name}", found, (sql,), loose=True)
    for name, value, found in (
        ("hash", "NULL", _HASH_AND_LINK),
        ("hash", "cast(hash AS blob)", _MALFORMED | _HASH_AND_LINK),
        ("hash", "1", _MALFORMED | _HASH_AND_LINK),
        ("signature", "NULL", _MISSING),
        ("signed_at", "NULL", finds()),
        ("signed_at", "x'ff'", _MALFORMED),
        ("signed_at", "12345", _MALFORMED),
        ("signature_pq", "NULL", finds()),
        ("signed_by", "NULL", finds(Reason.SIGNER_MISMATCH)),
    ):
        sql = f"UPDATE capsules SET {name} = {value} WHERE sequence = 2"
        yield Statements(f"{name} is {value}", found, (sql,), loose=True)


def of_tables() -> Iterator[Statements]:
    yield Statements("neither keys nor types", finds(), (), loose=True)
    yield Statements(
        "all rows twice", _COPIED, ("INSERT INTO capsules SELECT * FROM capsules",), loose=True
    )
    yield Statements(
        "one row twice", _COPIED,
        ("INSERT INTO capsules SELECT * FROM capsules WHERE sequence = 2",), loose=True,
    )  # fmt: skip
    yield Statements(
        "a column more", finds(), ("ALTER TABLE capsules ADD COLUMN note TEXT DEFAULT 'x'",)
    )
    yield Statements(
        "a column less", _UNREADABLE, ("ALTER TABLE capsules DROP COLUMN signature_pq",)
    )
    yield Statements(
        "text that is not UTF-8", _MALFORMED | _GAP,
        ("UPDATE capsules SET data = cast(x'7bff7d' AS text) WHERE sequence = 2",),
    )  # fmt: skip


_ROWS = [*of_rows(), *of_cells(), *of_tables()]


@pytest.mark.parametrize("case", _ROWS, ids=[f"{n}: {case.name}" for n, case in enumerate(_ROWS)])
def test_what_was_done_with_sql_is_found(case: Statements, use: Use, tmp_path: Path) -> None:
    made = use("rotated")
    copy = without_constraints if case.loose else altered
    path = copy(made, tmp_path, *case.statements)
    if case.finds is not None:
        assert_finds(path, case.finds)
    assert_as_qp_capsule_says(path, made.public_key)


def test_the_corpus_is_as_large_as_promised() -> None:
    values = 2 * len(_PLACES) + len(_PLACES[::2])
    assert values + len(_CASES) + len(_EDITS[::2]) + len(_ROWS) > 600

"""Where ``capsuled verify`` says more than qp-capsule's ``capsule verify``, and why; and all it can say at all.

In each of these qp-capsule finds nothing wrong, which the tests assert, or looks at nothing of the kind.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from chain_support import qp_capsule_command
from nacl.signing import SigningKey
from qp_capsule import Keyring
from tampering import (
    FOREIGN,
    Made,
    Record,
    altered,
    as_json,
    as_text,
    at,
    checkpoint,
    judge,
    link_anew,
    made_chains,  # noqa: F401 - a fixture
    our_word,
    qp_capsule_says,
    reasons,
    seal_all_anew,
    seal_anew,
    use,  # noqa: F401 - a fixture
    without_constraints,
)

from capsule_sdk.evidence.verifying.findings import Finding, Reason, Severity
from capsule_sdk.evidence.verifying.keys import keys_here
from capsule_sdk.evidence.verifying.verify import Verdict

Use = Callable[[str], Made]


def assert_only_we_find(path: Path, made: Made, *expected: Reason) -> Verdict:
    """qp-capsule calls it whole, and we give the reason why it is not."""
    assert qp_capsule_says(path, made.public_key) == (0, 0, 0)
    verdict = judge(path, keys_here())
    assert reasons(verdict) == set(expected)
    assert not verdict.whole
    return verdict


def assert_only_we_doubt(path: Path, made: Made, *expected: Reason) -> Verdict:
    """Both call it whole, and we say what is open."""
    assert qp_capsule_says(path, made.public_key) == our_word(path, made.public_key) == (0, 0, 0)
    verdict = judge(path, keys_here())
    assert reasons(verdict) == set(expected)
    assert verdict.doubtful
    return verdict


def sealed_anew(made: Made, change: Callable[[list[Record]], object]) -> list[Record]:
    """What the holder of the key can do: whatever he likes, and a chain that is in order afterwards."""
    records = made.records()
    change(records)
    seal_all_anew(records, made.key)
    return records


def without_records(*numbers: int) -> Callable[[list[Record]], object]:
    def change(records: list[Record]) -> None:
        records[:] = [one for one in records if one["sequence"] not in numbers]

    return change


# -- what tasks commit to: 0 and 1 belong to 2; 2 and 3 to 4; 6, which came late, to 5 ------------


@pytest.mark.parametrize("gone", [(0,), (1,), (0, 1), (3,)], ids=str)
def test_children_that_the_key_holder_removed_are_named_by_their_task(
    gone: tuple[int, ...], use: Use, tmp_path: Path
) -> None:
    made = use("recorded")
    path = as_json(sealed_anew(made, without_records(*gone)), tmp_path)
    verdict = assert_only_we_find(path, made, Reason.CHILDREN_MISSING)
    (finding,) = verdict.findings
    assert finding.id == made.records()[4 if gone == (3,) else 2]["id"]


def test_a_task_that_the_key_holder_removed_is_named_by_its_own_and_missed_by_its_children(
    use: Use, tmp_path: Path
) -> None:
    made = use("recorded")
    path = as_json(sealed_anew(made, without_records(2)), tmp_path)
    assert_only_we_find(path, made, Reason.CHILDREN_MISSING, Reason.PARENT_MISSING)


def test_a_child_that_the_key_holder_put_in_is_not_named_by_its_task(
    use: Use, tmp_path: Path
) -> None:
    made = use("recorded")

    def add(records: list[Record]) -> None:
        records.insert(1, {**records[0], "id": "00000000-0000-4000-8000-000000000001"})

    path = as_json(sealed_anew(made, add), tmp_path)
    assert_only_we_find(path, made, Reason.CHILDREN_UNANNOUNCED)


def test_a_child_that_the_key_holder_replaced_is_not_the_one_its_task_names(
    use: Use, tmp_path: Path
) -> None:
    made = use("recorded")
    other = "00000000-0000-4000-8000-000000000001"
    path = as_json(sealed_anew(made, lambda records: records[0].update(id=other)), tmp_path)
    assert_only_we_find(path, made, Reason.CHILDREN_MISMATCH)


def test_a_child_that_the_key_holder_gave_to_another_task_is_missed_and_not_named(
    use: Use, tmp_path: Path
) -> None:
    made = use("recorded")
    path = as_json(
        sealed_anew(made, lambda records: records[0].update(parent_id=records[3]["id"])), tmp_path
    )
    assert_only_we_find(path, made, Reason.CHILDREN_MISSING, Reason.CHILDREN_UNANNOUNCED)


def test_a_commitment_that_the_key_holder_altered_does_not_fit_the_children(
    use: Use, tmp_path: Path
) -> None:
    made = use("recorded")

    def alter(records: list[Record]) -> None:
        at(records[2], ("outcome", "metrics", "children")).update(digest="ab" * 32)

    assert_only_we_find(as_json(sealed_anew(made, alter), tmp_path), made, Reason.CHILDREN_MISMATCH)


def test_a_child_that_had_not_ended_and_is_not_there_leaves_a_doubt(
    use: Use, tmp_path: Path
) -> None:
    made = use("recorded")
    assert_only_we_doubt(as_json(made.records()[:6], tmp_path), made, Reason.CHILDREN_OPEN)


def test_a_child_whose_task_is_not_there_leaves_a_doubt(use: Use, tmp_path: Path) -> None:
    made = use("recorded")
    assert_only_we_doubt(as_json(made.records()[:4], tmp_path), made, Reason.PARENT_MISSING)


def test_children_that_are_not_counted_are_not_missed(use: Use, tmp_path: Path) -> None:
    made = use("recorded")

    def add(records: list[Record]) -> None:
        more = json.loads(json.dumps(records[0]))
        more["id"] = "00000000-0000-4000-8000-000000000001"
        more["context"]["environment"]["counted_by_parent"] = False
        records.insert(1, more)

    path = as_json(sealed_anew(made, add), tmp_path)
    assert reasons(judge(path, keys_here())) == set()


@pytest.mark.parametrize(
    "value",
    [
        {"started": 1, "ended": 2, "digest": "ab" * 32},
        {"started": 2, "ended": 1, "digest": "x"},
        {"started": -1, "ended": -1, "digest": "ab" * 32},
        {"started": "2", "ended": 1, "digest": "ab" * 32},
        {"started": True, "ended": False, "digest": "ab" * 32},
    ],
    ids=str,
)
def test_a_commitment_that_contradicts_itself_fits_no_children(
    value: object, use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    records = made.records()
    records[1]["outcome"]["metrics"]["children"] = value
    link_anew(records, made.key, 1)
    assert_only_we_find(as_json(records, tmp_path), made, Reason.CHILDREN_MISMATCH)


@pytest.mark.parametrize("value", ["two", 2, [1], None, {}, {"started": 2}, {"a": 1}], ids=str)
def test_what_other_programs_call_children_is_left_alone(
    value: object, use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    records = made.records()
    records[1]["outcome"]["metrics"]["children"] = value
    link_anew(records, made.key, 1)
    assert reasons(judge(as_json(records, tmp_path), keys_here())) == set()


# -- ids, times, losses ---------------------------------------------------------------------------


def test_a_copy_that_the_key_holder_numbered_and_sealed_has_the_id_of_another(
    use: Use, tmp_path: Path
) -> None:
    made = use("rotated")
    records = made.records()
    records.append(dict(records[5]))
    seal_all_anew(records, made.key, 6)
    path = as_json(records, tmp_path)
    assert qp_capsule_says(path, made.public_key)[:2] == (0, 0)
    assert reasons(judge(path, keys_here())) == {Reason.ID_REPEATED}
    assert [one.position for one in judge(path, keys_here()).findings] == [6]


def test_a_time_that_goes_backwards_leaves_a_doubt_since_the_seal_does_not_cover_it(
    use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    records = made.records()
    records[1]["signed_at"] = "2001-01-01T00:00:00+00:00"
    assert_only_we_doubt(as_json(records, tmp_path), made, Reason.TIME_BACKWARDS)


def test_a_program_that_says_it_lost_records_leaves_a_doubt(use: Use) -> None:
    made = use("losses")
    (finding,) = assert_only_we_doubt(made.db, made, Reason.RECORDS_LOST).findings
    assert finding.detail == "3 in all"


# -- what a row is found by -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("type", "'tool'"),
        ("type", "'AGENT'"),
        ("type", "NULL"),
        ("type", "cast(type AS blob)"),
        ("id", "'00000000-0000-4000-8000-000000000001'"),
        ("id", "upper(id)"),
        ("id", "x'ff'"),
        ("previous_hash", "NULL"),
        ("previous_hash", "upper(previous_hash)"),
        ("previous_hash", "1.5"),
        ("session_id", "NULL"),
        ("session_id", "'another'"),
        ("session_id", "7"),
    ],
)
def test_an_index_column_that_differs_from_what_was_sealed_makes_a_record_hard_to_find(
    column: str, value: str, use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    sql = f"UPDATE capsules SET {column} = {value} WHERE sequence = 1"
    assert_only_we_find(without_constraints(made, tmp_path, sql), made, Reason.COLUMN_MISMATCH)


def test_a_number_that_is_no_number_in_its_column_keeps_its_place_by_chance(
    use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    for value in ("99", "2.5", "'abc'"):
        path = without_constraints(
            made, tmp_path, f"UPDATE capsules SET sequence = {value} WHERE sequence = 2"
        )
        assert_only_we_find(path, made, Reason.COLUMN_MISMATCH)


def test_a_session_id_that_is_too_long_has_another_key_in_its_column(use: Use) -> None:
    made = use("recorded")
    assert any(len(one["context"]["session_id"] or "") == 300 for one in made.records())
    assert reasons(judge(made.db, keys_here())) == set()


# -- what is no record by the protocol ------------------------------------------------------------

_SHAPES: dict[str, tuple[tuple[str, ...], object]] = {
    "a domain that is not a text": (("domain",), 5),
    "a version that is not a text": (("spec_version",), 2),
    "a number that is a float": (("sequence",), 1.0),
    "a duration that is a float": (("execution", "duration_ms"), 1.5),
    "a confidence that is a truth value": (("reasoning", "confidence"), True),
    "a confidence above one": (("reasoning", "confidence"), 1.5),
    "a time without zone": (("trigger", "timestamp"), "2026-01-01T00:00:00"),
    "an environment that is a list": (("context", "environment"), []),
    "a trigger type that is not a text": (("trigger", "type"), None),
    "resources that are a list": (("execution", "resources_used"), []),
    "infinity, which is not JSON": (("outcome", "result"), float("inf")),
}


@pytest.mark.parametrize(("place", "value"), _SHAPES.values(), ids=_SHAPES)
def test_what_the_protocol_does_not_allow_is_malformed_though_it_was_sealed(
    place: tuple[str, ...], value: object, use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    records = made.records()
    at(records[1], place[:-1])[place[-1]] = value
    link_anew(records, made.key, 1)
    verdict = assert_only_we_find_some(as_json(records, tmp_path), made)
    assert reasons(verdict) <= {Reason.MALFORMED, Reason.SEQUENCE_GAP}


def test_a_truth_value_is_no_number_of_a_record(use: Use, tmp_path: Path) -> None:
    made = use("reference")
    records = made.records()
    records[1]["sequence"] = True
    link_anew(records, made.key, 1)
    assert_only_we_find(as_json(records, tmp_path), made, Reason.SEQUENCE_GAP)


def assert_only_we_find_some(path: Path, made: Made) -> Verdict:
    assert qp_capsule_says(path, made.public_key) == (0, 0, 0)
    verdict = judge(path, keys_here())
    assert not verdict.whole
    return verdict


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("signature_pq", 5),
        ("signature_pq", ["ab"]),
        ("signed_by", 5),
        ("signed_by", {}),
        ("signed_at", 0),
    ],
)
def test_a_field_of_the_seal_that_is_no_text_is_malformed(
    name: str, value: object, use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    records = made.records()
    records[1][name] = value
    assert_only_we_find(as_json(records, tmp_path), made, Reason.MALFORMED)


def test_content_in_utf_16_is_malformed_since_a_database_keeps_text(
    use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    data = json.dumps({key: one for key, one in made.records()[2].items() if key not in _SEAL})
    change = ("UPDATE capsules SET data = ? WHERE sequence = 2", (data.encode("utf-16"),))
    assert_only_we_find(altered(made, tmp_path, change), made, Reason.MALFORMED)


_SEAL = {"hash", "signature", "signature_pq", "signed_at", "signed_by"}


@pytest.mark.parametrize("name", ["domain", "level", "signed_by", "outcome"])
def test_a_name_that_stands_twice_is_malformed_since_readers_differ_in_which_they_take(
    name: str, use: Use, tmp_path: Path
) -> None:
    """qp-capsule takes the last, and another reader may show the first, which nobody sealed."""
    made = use("reference")
    text = json.dumps(made.records()).replace(f'"{name}": ', f'"{name}": "x", "{name}": ')
    assert_only_we_find(as_text(text, tmp_path), made, Reason.MALFORMED)


def test_a_name_that_stands_twice_in_a_database_is_malformed_too(use: Use, tmp_path: Path) -> None:
    made = use("reference")
    sql = """UPDATE capsules SET data = replace(data, '"domain": ', '"domain": "x", "domain": ')"""
    assert_only_we_find(altered(made, tmp_path, sql), made, Reason.MALFORMED)


# -- keys -----------------------------------------------------------------------------------------


def two_keys_of_one_name() -> tuple[SigningKey, SigningKey]:
    seen: dict[str, SigningKey] = {}
    for number in range(10_000):  # among a few hundred, two have the same four digits
        key = SigningKey(number.to_bytes(32, "big"))
        other = seen.setdefault(bytes(key.verify_key).hex()[:4], key)
        if other is not key:
            return other, key
    raise AssertionError("no two keys have one name")


def test_two_keys_of_one_name_are_told_apart_by_what_they_fit_where_qp_capsule_asks_the_first_only(
    use: Use, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = two_keys_of_one_name()
    records = use("reference").records()
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path))
    (tmp_path / "key").write_bytes(bytes(first))
    name = Keyring().register_key(second).fingerprint
    (tmp_path / "key").write_bytes(bytes(second))
    for record in records:
        record["signed_by"] = name
    seal_all_anew(records, second)
    path = as_json(records, tmp_path)
    assert qp_capsule_says(path, bytes(second.verify_key).hex()) == (0, 1, 0)
    verdict = judge(path, keys_here())
    assert reasons(verdict) == set()
    assert verdict.signers == {bytes(second.verify_key).hex(): 3}


# -- checkpoints ----------------------------------------------------------------------------------


def held_against(path: Path, made: Made, *known: object, **options: object) -> set[Reason]:
    return reasons(judge(path, keys_here(), checkpoints=known, **options))


@pytest.mark.parametrize("left", [1, 2, 5])
def test_a_chain_that_was_cut_off_is_shorter_than_its_checkpoint(
    left: int, use: Use, tmp_path: Path
) -> None:
    made = use("rotated")
    records = made.records()
    kept = checkpoint(records, made.key)
    for path in (
        as_json(records[:left], tmp_path),
        altered(made, tmp_path, f"DELETE FROM capsules WHERE sequence >= {left}"),
    ):
        assert qp_capsule_says(path, made.public_key)[:2] == (0, 0)
        assert held_against(path, made) == set()
        assert held_against(path, made, kept) == {Reason.CHECKPOINT_TRUNCATED}
        assert held_against(path, made, checkpoint(records[:left], made.key)) == set()


def test_a_chain_that_the_key_holder_wrote_anew_has_another_head_than_its_checkpoint(
    use: Use, tmp_path: Path
) -> None:
    made = use("rotated")
    records = made.records()
    kept = checkpoint(records, made.key)
    records[3]["outcome"]["summary"] = "nothing happened"
    seal_all_anew(records, made.key, 3)
    for record in records:
        record["signed_by"] = (
            records[5]["signed_by"] if record["sequence"] > 2 else record["signed_by"]
        )
    path = as_json(records, tmp_path)
    assert qp_capsule_says(path, made.public_key)[:2] == (0, 0)
    assert held_against(path, made) == set()
    assert held_against(path, made, kept) == {Reason.CHECKPOINT_MISMATCH}
    assert held_against(path, made, checkpoint(made.records()[:3], made.key)) == set()


def test_a_checkpoint_of_another_chain_does_not_fit(use: Use) -> None:
    other = use("losses")
    foreign = other.records()
    made = use("rotated")
    assert held_against(made.db, made, checkpoint(foreign, made.key)) == {
        Reason.CHECKPOINT_MISMATCH
    }
    foreign[0]["hash"] = made.records()[0]["hash"]
    assert held_against(made.db, made, checkpoint(foreign, made.key)) == {
        Reason.CHECKPOINT_MISMATCH
    }


def test_a_checkpoint_of_another_key_proves_nothing(use: Use) -> None:
    made = use("rotated")
    kept = checkpoint(made.records(), FOREIGN)
    verdict = judge(made.db, keys_here(), checkpoints=[kept])
    assert reasons(verdict) == {Reason.CHECKPOINT_INVALID}
    assert not verdict.whole
    assert reasons(judge(made.db, checkpoints=[kept])) == set()


def test_checkpoints_of_every_length_fit_the_chain_they_were_made_of(use: Use) -> None:
    made = use("rotated")
    records = made.records()
    kept = [checkpoint(records[: size + 1], made.key) for size in range(6)]
    assert held_against(made.db, made, *kept) == set()
    assert held_against(made.db, made, *kept, checkpoint(records, FOREIGN)) == {
        Reason.CHECKPOINT_INVALID
    }


def test_an_older_copy_that_was_put_back_is_found_by_a_checkpoint_alone(
    use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    older = as_json(made.records()[:2], tmp_path)
    assert qp_capsule_says(older, made.public_key) == (0, 0, 0)
    assert held_against(older, made) == set()
    assert held_against(older, made, checkpoint(made.records(), made.key)) == {
        Reason.CHECKPOINT_TRUNCATED
    }


# -- selections -----------------------------------------------------------------------------------


def bundle(records: list[Record], folder: Path, **claim: str) -> Path:
    path = folder / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("chain.json", json.dumps(records))
        archive.writestr("manifest.json", json.dumps({"selection": claim}))
    return path


def test_a_selection_need_not_hold_what_stands_between(use: Use, tmp_path: Path) -> None:
    records = use("rotated").records()
    path = as_json([records[0], records[1], records[4]], tmp_path)
    assert reasons(judge(path, keys_here())) == {Reason.SEQUENCE_GAP}
    assert reasons(judge(path, keys_here(), selection=True)) == set()


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((0, 1, 2, 3, 4), []),
        ((0, 1, 2, 4), [Reason.CHILDREN_MISSING]),
        ((0, 2, 3, 4), [Reason.CHILDREN_MISSING]),
        ((0, 1, 3, 4), [Reason.CHILDREN_MISSING, Reason.SELECTION_INCOMPLETE]),
        ((0, 1, 2, 3), [Reason.SELECTION_INCOMPLETE]),
        ((0, 1, 2, 3, 4, 5), [Reason.SELECTION_INCOMPLETE, Reason.CHILDREN_OPEN]),
        ((), [Reason.SELECTION_INCOMPLETE]),
    ],
    ids=lambda one: "-".join(map(str, one)),
)
def test_a_selection_that_claims_a_task_holds_all_of_it(
    kept: Iterable[int], expected: Iterable[Reason], use: Use, tmp_path: Path
) -> None:
    records = use("recorded").records()
    path = bundle([records[place] for place in kept], tmp_path, task=records[4]["id"])
    assert reasons(judge(path, keys_here())) == set(expected)


# -- what is counted ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reference", "recorded", "rotated"])
def test_records_signatures_and_approvals_are_counted(name: str, use: Use) -> None:
    made = use(name)
    records = made.records()
    verdict = judge(made.db, keys_here())
    assert (verdict.records, verdict.head) == (len(records), records[-1]["hash"])
    approved = [one for one in records if one["authority"]["type"] == "human_approved"]
    assert verdict.approvals == len(approved)
    assert bool(approved) == (name != "rotated")
    named = Counter(one["signed_by"] for one in records)
    assert Counter({f"qp_key_{key[:4]}": count for key, count in verdict.signers.items()}) == {
        f"qp_key_{one.removeprefix('qp_key_')[:4]}": count for one, count in named.items()
    }


# -- all that can be said -------------------------------------------------------------------------

#: The closed set. A new code is a change of the contract: of this list, of the documentation, of the report.
CODES = {
    "end_lost": Severity.DOUBTFUL,
    "malformed": Severity.BROKEN,
    "sequence_gap": Severity.BROKEN,
    "sequence_repeated": Severity.BROKEN,
    "link_broken": Severity.BROKEN,
    "hash_mismatch": Severity.BROKEN,
    "signature_missing": Severity.BROKEN,
    "signature_invalid": Severity.BROKEN,
    "signer_mismatch": Severity.BROKEN,
    "key_unknown": Severity.BROKEN,
    "column_mismatch": Severity.BROKEN,
    "id_repeated": Severity.BROKEN,
    "parent_missing": Severity.DOUBTFUL,
    "children_missing": Severity.BROKEN,
    "children_open": Severity.DOUBTFUL,
    "children_unannounced": Severity.BROKEN,
    "children_mismatch": Severity.BROKEN,
    "time_backwards": Severity.DOUBTFUL,
    "records_lost": Severity.DOUBTFUL,
    "checkpoint_invalid": Severity.BROKEN,
    "checkpoint_mismatch": Severity.BROKEN,
    "checkpoint_truncated": Severity.BROKEN,
    "selection_incomplete": Severity.BROKEN,
}


def test_the_codes_are_these_and_no_others() -> None:
    assert {str(reason): Finding(reason).severity for reason in Reason} == CODES
    sentences = {Finding(reason).sentence for reason in Reason}
    assert len(sentences) == len(CODES)
    assert all(sentence.endswith(".") and sentence.isprintable() for sentence in sentences)


def test_every_code_is_earned_by_some_chain(use: Use, tmp_path: Path) -> None:
    found: set[Reason] = set()
    losses = use("losses").db
    found |= reasons(judge(losses))
    made = use("recorded")
    story = made.records()
    gone = checkpoint([*story, story[0]], made.key)
    strange = checkpoint(story, made.key, "another-chain")
    rewritten = made.records()
    rewritten[6]["outcome"]["summary"] = "nothing happened"
    seal_all_anew(rewritten, made.key)
    changes: list[Callable[[list[Record]], object]] = [
        lambda records: records.__setitem__(1, {}),
        lambda records: records.pop(0),
        lambda records: records.insert(2, records[1]),
        lambda records: records[2].update(previous_hash="0" * 64),
        lambda records: records[0].update(signature=""),
        lambda records: records[0].update(signature="00" * 64),
        lambda records: records[0].update(signature="00" * 64, signed_by="qp_key_none"),
        lambda records: records[2].update(signed_at="2001-01-01"),
        lambda records: records.pop(6),
        lambda records: records.pop(4),
        lambda records: (
            records[0].update(parent_id=records[3]["id"]),
            seal_anew(records[0], made.key),
        ),
        lambda records: records[0].update(id="00000000-0000-4000-8000-000000000001"),
        lambda records: (
            records[0]["outcome"]["metrics"].update(ended="lost"),
            seal_anew(records[0], made.key),
        ),
    ]
    for change in changes:
        records = made.records()
        change(records)
        found |= reasons(judge(as_json(records, tmp_path), keys_here()))
    for kept in (gone, checkpoint(rewritten, made.key, "x"), checkpoint(story, FOREIGN), strange):
        found |= held_against(made.db, made, kept)
    found |= reasons(judge(bundle(story[:2], tmp_path, task=story[4]["id"])))
    found |= reasons(judge(altered(made, tmp_path, "UPDATE capsules SET type = 'tool'")))
    made = use("rotated")
    records = made.records()
    records[0]["signed_by"] = records[5]["signed_by"]
    found |= reasons(judge(as_json(records, tmp_path), keys_here()))
    assert found == set(Reason)


# -- against the command itself -------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--full", "--signatures", "--pubkey"])
def test_the_command_of_qp_capsule_says_what_these_tests_take_it_to_say(
    option: str, use: Use, tmp_path: Path
) -> None:
    made = use("reference")
    records = made.records()
    records[1]["signature"] = records[0]["signature"]
    place = {"--full": 0, "--signatures": 1, "--pubkey": 2}[option]
    given = [option, made.public_key] if option == "--pubkey" else [option]
    path = as_json(records, tmp_path)
    assert (
        qp_capsule_command("verify", *given, path).returncode
        == (qp_capsule_says(path, made.public_key)[place])
    )
    if option == "--signatures":
        assert qp_capsule_command("verify", *given, "--db", made.db).returncode == 0
    if option == "--full":
        path = as_text("[", tmp_path)
        assert qp_capsule_command("verify", *given, path).returncode == 2

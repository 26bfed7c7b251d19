"""Conformance with the test vectors of the Capsule Protocol Specification (quantumpipes/capsule)."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from qp_capsule import Capsule, validate_capsule_dict

from capsule_sdk.chain import open_chain
from capsule_sdk.content import canonical, digest
from capsule_sdk.evidence.exporting.export import read_chain
from capsule_sdk.evidence.formats.entries import SEAL_FIELDS, Entry
from capsule_sdk.evidence.sources import open_source
from capsule_sdk.evidence.verifying.findings import Reason
from capsule_sdk.evidence.verifying.keys import TrustedKey, given_keys
from capsule_sdk.evidence.verifying.record import Facts, check_record
from capsule_sdk.evidence.verifying.verify import verify

FOLDER = Path(
    os.environ.get("CAPSULED_TEST_VECTORS")
    or Path(__file__).resolve().parents[2] / "shared" / "conformance"
)


def vectors(name: str, part: str = "fixtures") -> list[Any]:
    path = FOLDER / name
    if not path.is_file():
        reason = f"no {name} in {FOLDER}: set CAPSULED_TEST_VECTORS to the folder of the vectors"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    document = json.loads(path.read_text(encoding="utf-8"))
    return [pytest.param(vector, id=vector["name"]) for vector in document[part]]


@pytest.mark.parametrize("vector", vectors("fixtures.json"))
def test_a_golden_vector_has_our_canonical_json_and_our_digest(vector: dict[str, Any]) -> None:
    assert canonical(vector["capsule_dict"]) == vector["canonical_json"]
    assert digest(canonical(vector["capsule_dict"])) == vector["sha3_256_hash"]


@pytest.mark.parametrize("vector", vectors("stored-document-fixtures.json"))
def test_a_stored_document_is_hashed_as_it_is(vector: dict[str, Any]) -> None:
    assert canonical(vector["stored_document"]) == vector["canonical_json"]
    assert digest(vector["canonical_json"]) == vector["sha3_256_hash"]


@pytest.mark.parametrize("vector", vectors("invalid-fixtures.json"))
def test_an_invalid_vector_is_rejected_for_its_reason(vector: dict[str, Any]) -> None:
    claimed = vector.get("claimed_hash") or vector.get("expected_hash")
    result = validate_capsule_dict(vector["capsule_dict"], claimed_hash=claimed)
    assert not result.ok
    assert result.category == vector["expected_error"]


@pytest.mark.parametrize("vector", vectors("fixtures.json"))
def test_a_golden_vector_comes_out_of_a_chain_as_it_went_in(
    vector: dict[str, Any], tmp_path: Path
) -> None:
    """But for sequence and link, which the chain gives: so the hash is that of the changed document."""
    chain = open_chain(None, tmp_path / "capsules.db")
    chain.append([Capsule.from_dict(vector["capsule_dict"])])
    chain.close()
    (record,) = read_chain(tmp_path / "capsules.db")
    content = {key: record[key] for key in vector["capsule_dict"]}
    assert content == {**vector["capsule_dict"], "sequence": 0, "previous_hash": None}
    assert record["hash"] == digest(canonical(content))
    if vector["capsule_dict"]["sequence"] == 0:
        assert record["hash"] == vector["sha3_256_hash"]


# -- by `verify` ----------------------------------------------------------------------------------


def checked(content: dict[str, Any], claimed: str) -> Facts:
    return check_record(Entry(json.dumps({**content, "hash": claimed})), None)


@pytest.mark.parametrize("vector", vectors("fixtures.json"))
def test_a_golden_vector_is_what_was_sealed_and_no_other_hash_is(vector: dict[str, Any]) -> None:
    content = vector["capsule_dict"]
    assert checked(content, vector["sha3_256_hash"]).faults == ()
    ((reason, _),) = checked(content, "0" * 64).faults
    assert reason is Reason.HASH_MISMATCH


@pytest.mark.parametrize("vector", vectors("invalid-fixtures.json"))
def test_an_invalid_vector_is_found_even_where_its_hash_is_right(
    vector: dict[str, Any], tmp_path: Path
) -> None:
    content = vector["capsule_dict"]
    claimed = vector.get("claimed_hash") or digest(canonical(content))
    faults = checked(content, claimed).faults
    reasons = {reason for reason, _ in faults}
    if vector["expected_error"] == "integrity_violation":
        assert reasons == {Reason.HASH_MISMATCH}
    elif vector["name"] == "missing_spec_version":
        # CPS 3.5: records that were sealed before it was a field verify as they were stored
        assert reasons == set()
        assert checked(content, "0" * 64).faults
    else:
        assert reasons == {Reason.MALFORMED}
        assert vector["expected_error"] in faults[0][1]
    path = tmp_path / "chain.json"
    path.write_text(json.dumps([{**content, "hash": claimed}]), encoding="utf-8")
    verdict = verify(open_source(path))
    assert reasons <= {finding.reason for finding in verdict.findings}
    assert verdict.whole == (not reasons)


def key_of(vector: dict[str, Any]) -> list[TrustedKey]:
    return given_keys([vector["public_key_hex"]])


@pytest.mark.parametrize("vector", vectors("stored-document-fixtures.json"))
@pytest.mark.parametrize("form", ["list", "lines", "object"])
def test_a_stored_document_verifies_as_a_file_with_its_public_key(
    form: str, vector: dict[str, Any], tmp_path: Path
) -> None:
    record = json.dumps(vector["sealed_record"])
    path = tmp_path / "chain.json"
    path.write_text(
        f"[{record}]" if form == "list" else f"{record}\n" * (form == "lines") or record
    )
    verdict = verify(open_source(path), key_of(vector))
    assert list(verdict.findings) == []
    assert (verdict.records, verdict.head) == (1, vector["sha3_256_hash"])
    assert verdict.signers == {vector["public_key_hex"]: 1}


@pytest.mark.parametrize("vector", vectors("stored-document-fixtures.json"))
def test_a_stored_document_verifies_as_a_row_with_its_public_key(
    vector: dict[str, Any], tmp_path: Path
) -> None:
    path, document = tmp_path / "capsules.db", vector["stored_document"]
    open_chain(url=path).append([Capsule()])
    record = vector["sealed_record"]
    columns = {
        "data": json.dumps(document),
        **{name: record[name] for name in SEAL_FIELDS},
        **{name: document[name] for name in ("id", "type", "sequence", "previous_hash")},
        "session_id": document["context"]["session_id"],
    }
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM capsules")
        connection.execute(
            f"INSERT INTO capsules ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            tuple(columns.values()),
        )
    connection.close()
    verdict = verify(open_source(path), key_of(vector))
    assert list(verdict.findings) == []
    assert verdict.signers == {vector["public_key_hex"]: 1}


@pytest.mark.parametrize("vector", vectors("stored-document-fixtures.json"))
def test_a_document_that_was_written_out_anew_is_not_what_was_sealed(
    vector: dict[str, Any], tmp_path: Path
) -> None:
    """CPS 3.5: the model's document has a field more than the one that was stored and signed."""
    path = tmp_path / "chain.json"
    path.write_text(json.dumps([{**vector["sealed_record"], **vector["model_document"]}]))
    found = {finding.reason for finding in verify(open_source(path), key_of(vector)).findings}
    assert found == {Reason.HASH_MISMATCH}

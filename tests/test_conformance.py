"""Conformance with the test vectors of the Capsule Protocol Specification (quantumpipes/capsule)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from qp_capsule import Capsule, validate_capsule_dict

from capsule_sdk.content import canonical, digest
from capsule_sdk.evidence.export import read_chain

FOLDER = Path(
    os.environ.get("CAPSULE_SDK_CONFORMANCE")
    or Path(__file__).resolve().parents[2] / "shared" / "conformance"
)


def vectors(name: str, part: str = "fixtures") -> list[Any]:
    path = FOLDER / name
    if not path.is_file():
        reason = f"no {name} in {FOLDER}: set CAPSULE_SDK_CONFORMANCE to the folder of the vectors"
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
    from capsule_sdk.chain import open_chain

    chain = open_chain(None, tmp_path / "capsules.db")
    chain.append([Capsule.from_dict(vector["capsule_dict"])])
    chain.close()
    (record,) = read_chain(tmp_path / "capsules.db")
    content = {key: record[key] for key in vector["capsule_dict"]}
    assert content == {**vector["capsule_dict"], "sequence": 0, "previous_hash": None}
    assert record["hash"] == digest(canonical(content))
    if vector["capsule_dict"]["sequence"] == 0:
        assert record["hash"] == vector["sha3_256_hash"]

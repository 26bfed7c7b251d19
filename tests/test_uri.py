"""Capsule URIs, with the vectors of the specification."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_conformance import vectors

from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.uri import CapsuleURI


@pytest.mark.parametrize("vector", vectors("uri-fixtures.json", "valid"))
def test_a_valid_vector_is_read_as_it_says(vector: dict[str, Any]) -> None:
    found, expected = CapsuleURI.parse(vector["uri"]), vector["expected"]
    assert found == CapsuleURI(
        chain=expected["chain"],
        hash=expected["hash_value"],
        sequence=expected["sequence"],
        id=expected["id"],
        fragment=expected["fragment"],
    )


@pytest.mark.parametrize("vector", vectors("uri-fixtures.json", "invalid"))
def test_an_invalid_vector_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="capsule"):
        CapsuleURI.parse(vector["uri"])


@given(st.text() | st.text().map("capsule://{}".format))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = CapsuleURI.parse(text)
    except EvidenceError:
        return
    assert [found.hash, found.sequence, found.id].count(None) == 2

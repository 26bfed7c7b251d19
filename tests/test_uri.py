"""Capsule URIs, with the vectors of the specification."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_conformance import vectors

from capsule_sdk import capsule_scope
from capsule_sdk.cli import main
from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.showing.uri import CapsuleURI


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


def test_show_finds_what_a_uri_points_to(chain: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with capsule_scope("outer") as outer, capsule_scope("inner"):
        outer.reason("Two ways.", options=["by train", "by car"], selected="by car")
    inner, task = chain.capsules()

    def shown(*arguments: str) -> str:
        assert main(["show", *arguments, "--db", str(chain.url)]) == 0
        return capsys.readouterr().out

    assert json.loads(shown(f"capsule://sha3_{inner['hash']}", "--json")) == inner
    assert json.loads(shown(f"capsule://{task['id']}", "--json")) == task
    assert json.loads(shown("capsule://any-chain/1", "--json")) == task
    assert json.loads(shown("capsule://any-chain/1#outcome/status", "--json")) == "success"
    assert json.loads(shown("capsule://any-chain/1#outcome/error", "--json")) is None
    assert "by train" in shown(f"capsule://sha3_{task['hash']}#reasoning/options/0")
    for wrong in (
        "capsule://sha3_00",
        f"capsule://sha3_{'0' * 64}",
        "capsule://c/1#outcome/nothing",
    ):
        assert main(["show", wrong, "--db", str(chain.url)]) == 2
        assert capsys.readouterr().err.startswith("capsuled: ")

"""A body is an error only where it says so."""

from __future__ import annotations

from typing import Any

import pytest

from capsule_sdk.calls.answers.errors import error_in


@pytest.mark.parametrize(
    "body",
    [
        {"code": 200, "msg": "success", "data": [{"embedding": [0.1]}]},
        {"message": "done", "results": [1]},
        {"details": {"tokens": 5}},
    ],
)
def test_an_answer_with_words_beside_it_is_no_error(body: Any) -> None:
    assert error_in(body) is None


@pytest.mark.parametrize("name", ["msg", "message", "details"])
def test_words_alone_are_the_error(name: str) -> None:
    assert error_in({name: "no such model"}) == "no such model"

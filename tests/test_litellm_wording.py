"""Errors of LiteLLM in their own words, and nobody else's."""

from __future__ import annotations

from typing import Any

import litellm
import pytest

from capsule_sdk.adapters.litellm.wording import words_of


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError("run")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (litellm.Timeout, {}),
        (litellm.RateLimitError, {"num_retries": 2}),
        (litellm.BadRequestError, {"max_retries": 3, "num_retries": 1}),
    ],
)
def test_an_error_of_litellm_says_what_str_says(kind: Any, more: dict[str, Any]) -> None:
    error = kind("too late, passed=0.3", model="gpt-4o", llm_provider="openai", **more)
    said = words_of(error)
    assert said == str(error)
    assert "passed=0.3" in str(said)
    assert not more or "LiteLLM Retried: " in str(said)


def test_errors_that_others_have_made_are_not_asked() -> None:
    class Mine(litellm.Timeout):
        def __str__(self) -> str:
            raise AssertionError("run")

    assert words_of(Mine("late", model="gpt-4o", llm_provider="openai")) is None
    assert words_of(ValueError("no")) is None
    bare = litellm.Timeout.__new__(litellm.Timeout)  # past its constructor, as unpickled ones are
    assert words_of(bare) is None
    bare.message = Loud("late")
    assert words_of(bare) is None

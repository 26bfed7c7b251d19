"""The short way for a plain answer says the same as the long one, and takes no answer that is more."""

from __future__ import annotations

import json
from typing import Any

import litellm
import pytest

from capsule_sdk.calls.answers import whole
from capsule_sdk.calls.answers.plain import plain_text
from capsule_sdk.content import ContentPolicy

ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "service_tier": None,
    "system_fingerprint": "fp", "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    "choices": [
        {"index": 0, "finish_reason": "stop", "logprobs": None,
         "message": {"role": "assistant", "content": "Paris", "refusal": None, "annotations": []}}
    ],
}  # fmt: skip


def answer(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(ANSWER))
    made["choices"][0]["message"] |= changes.pop("message", {})
    made["choices"][0] |= changes.pop("choice", {})
    return made | changes


@pytest.mark.parametrize("reason", ["stop", "length", "max_tokens", "end_turn"])
@pytest.mark.parametrize("mode", ["full", "digest", "omit"])
def test_a_plain_answer_reads_the_same_either_way(
    reason: str, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = answer(choice={"finish_reason": reason})
    policy = ContentPolicy(mode=mode)
    short = whole.read(given)
    assert plain_text(given) is not None
    monkeypatch.setattr(whole, "plain_text", lambda _: None)
    long = whole.read(given)
    assert (short.result(policy), short.verdict, short.finish) == (
        long.result(policy),
        long.verdict,
        long.finish,
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydantic's, of LiteLLM's models
def test_litellms_own_answer_takes_the_short_way() -> None:
    assert plain_text(litellm.ModelResponse(**ANSWER)) == ("Paris", "stop")


@pytest.mark.parametrize(
    "more",
    [
        {"message": {"refusal": "no"}},
        {"message": {"content": ""}},
        {"message": {"content": None}},
        {"message": {"content": [{"type": "text", "text": "Paris"}]}},
        {"message": {"tool_calls": [{"id": "1"}]}},
        {"message": {"a_shape_to_come": "yes"}},
        {"message": {"a_shape_to_come": 0}},
        {"choice": {"finish_reason": "content_filter"}},
        {"choice": {"finish_reason": None}},
        {"choice": {"error": {"message": "broken"}}},
        {"choice": {"content_filter_results": {"hate": {"filtered": True}}}},
        {"error": {"message": "broken"}},
        {"citations": ["https://example.com"]},
        {"a_shape_to_come": False},
        {"choices": []},
        {"choices": [ANSWER["choices"][0], ANSWER["choices"][0]]},  # type: ignore[index]
    ],
)
def test_an_answer_that_is_more_than_a_text_goes_the_long_way(more: dict[str, Any]) -> None:
    assert plain_text(answer(**more)) is None

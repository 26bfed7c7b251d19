"""An error is a refusal where the provider says so, whatever class LiteLLM makes of it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from capsule_sdk.adapters.litellm.refusals import blocked

AZURE = {
    "message": "The response was filtered due to the prompt triggering our content policy",
    "type": None,
    "param": "prompt",
    "code": "content_filter",
    "status": 400,
    "innererror": {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {"hate": {"filtered": True, "severity": "high"}},
    },
}


def bad_request(body: Any, message: str = "no") -> openai.BadRequestError:
    response = httpx.Response(400, request=httpx.Request("POST", "http://provider"))
    return openai.BadRequestError(message, response=response, body=body)


@pytest.mark.parametrize(
    "body",
    [
        AZURE,
        {"error": AZURE},
        {"error": {"innererror": AZURE["innererror"]}},
        {"error": {"code": "content_policy_violation", "type": "invalid_request_error"}},
        {"error": {"code": "moderation_blocked", "type": "image_generation_user_error"}},
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "Output blocked by content filtering policy",
            },
        },
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
        {"error": {"status": "INVALID_ARGUMENT", "details": [{"reason": "SAFETY"}]}},
        {"action": "GUARDRAIL", "stop_reason": "guardrail_intervened"},
    ],
)
def test_codes_types_and_reasons_of_providers(body: Any) -> None:
    assert blocked(bad_request(body))
    assert blocked(bad_request(None, f"litellm.BadRequestError: XException - {json.dumps(body)}"))

    mapped = RuntimeError("mapped")
    mapped.__cause__ = bad_request(body)
    assert blocked(mapped)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "invalid_value", "message": "'content_filter' is no model"}},
        {"error": {"message": 'Invalid value: {"code": "content_filter"}'}},
        {"error": {"code": "rate_limit_exceeded", "type": "requests"}},
        {"error": {"code": "context_length_exceeded", "input": "what is content_filter?"}},
        {"error": {"code": 400, "param": "content_filter"}},
        "content_filter",
        [],
        None,
    ],
)
def test_what_only_names_a_refusal_is_none(body: Any) -> None:
    assert not blocked(bad_request(body))
    assert not blocked(bad_request(None, 'Invalid value: {"code": "content_filter"}'))


def test_no_code_of_an_error_is_run() -> None:
    class ForeignError(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError("ran")

    assert not blocked(ForeignError("content_filter"))


def test_errors_that_hold_themselves_come_to_an_end() -> None:
    body: dict[str, Any] = {}
    body["error"] = body
    error = bad_request(body)
    error.__cause__ = error
    assert not blocked(error)

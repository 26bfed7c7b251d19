"""What was asked: the arguments of a LiteLLM call -> the facts of its request."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import litellm
from litellm.types.utils import all_litellm_params

from ...calls.memory import Remembering
from ...calls.objects import entries_of
from ...calls.prompts import last_user_text
from ...calls.question import question_of
from ...content import ContentPolicy, is_builtin, label
from ...records.attribution import NOBODY, Attribution
from ...records.call import Request

__all__ = ["attribution_of", "is_beside", "is_mocked", "is_private", "request_of"]

#: Arguments that say nothing of what is asked: where the request goes and as whom, and what LiteLLM does
#: around it. Most of them LiteLLM itself lists; these it does not.
_BESIDE = frozenset(
    {
        "api_type", "base_url", "cache_control_injection_points", "caching", "callbacks", "drop_params",
        "extra_headers", "extra_query", "failure_callback", "http_client", "input_callback", "kwargs",
        "logger_fn", "metadata", "organization", "project", "service_callback", "stream",
        "stream_options", "success_callback", "timeout", "user", "original_function",
        "specific_deployment", "deployment_id", "mock_tool_calls",
        "mock_testing_fallbacks", "original_generic_function", "call_type",
    }
)  # fmt: skip
_BESIDE_FAMILIES = ("_", "aws_", "azure_", "litellm_", "model_group", "vertex_", "watsonx_")
#: What LiteLLM lists as its own, and what is part of the question all the same.
_ASKED = frozenset(
    {
        "additional_drop_params", "assistant_continue_message", "bos_token", "ensure_alternating_roles",
        "eos_token",
        "final_prompt_value", "guardrails", "initial_prompt_value", "litellm_system_prompt", "prompt_id",
        "prompt_label", "prompt_variables", "prompt_version", "roles", "user_continue_message",
    }
)  # fmt: skip
_LITELLMS = frozenset(all_litellm_params)
#: Arguments by which LiteLLM is told to answer by itself.
MOCKS = ("mock_response", "mock_tool_calls")
_CHATS = ("completion", "responses", "messages", "generate_content", "interaction")


def request_of(
    call_type: str,
    given: Mapping[str, Any],
    policy: ContentPolicy,
    remembering: Remembering | None = None,
) -> Request:
    """Return the request that these arguments of the entry point ``call_type`` make."""
    model = label(given.get("model") or "unknown")
    question = question_of(
        given,
        policy,
        beside=is_beside,
        model=model,
        is_chat=_is_chat(call_type),
        remembering=remembering,
    )
    environment: dict[str, Any] = {"stream": bool(given.get("stream"))}
    provider = given.get("custom_llm_provider") or (
        model.split("/", 1)[0] if "/" in model else None
    )
    for name, value in (
        ("provider", provider),
        ("litellm_call_id", given.get("litellm_call_id")),
        ("litellm_trace_id", given.get("litellm_trace_id")),
        ("model_group", _mapping(given.get("metadata")).get("model_group")),
    ):
        if value:
            environment[name] = label(value)
    if given.get("drop_params") is True or litellm.drop_params is True:
        environment["drop_params"] = (
            True  # what was asked of LiteLLM may be more than it asks the model
        )
    if any(given.get(name) is not None for name in MOCKS):
        environment["mocked"] = True
    return Request(
        call_type=call_type,
        model=model,
        text=policy.text(last_user_text(question.prompt)),
        prompt_hash=question.prompt_hash,
        message_count=question.message_count,
        environment=environment,
        arguments=question.arguments,
    )


def is_mocked(request: Request) -> bool:
    """Tell whether LiteLLM makes up the answer, and asks no provider."""
    return request.environment.get("mocked") is True


@functools.lru_cache(maxsize=4096)
def is_beside(name: str) -> bool:
    """Tell whether an argument of this name says nothing of what is asked."""
    if name in _ASKED:
        return False
    return name in _LITELLMS or name in _BESIDE or name.startswith(_BESIDE_FAMILIES)


@functools.lru_cache(maxsize=256)
def _is_chat(call_type: str) -> bool:
    """Tell whether this entry point takes a text as the message of a user."""
    return call_type in {"create", "acreate"} or any(kind in call_type for kind in _CHATS)


def attribution_of(given: Mapping[str, Any], around: Attribution = NOBODY) -> Attribution:
    """Return session, user and correlation as the call's own arguments and metadata name them.

    Never an agent, never an authority: metadata may come from outside. A Router gives each call a trace id
    if it has none; so among its calls that id says nothing against the correlation of the scopes ``around``.
    """
    metadata: Mapping[str, Any] = _mapping(given.get("metadata"))
    if beside := _mapping(given.get("litellm_metadata")):
        metadata = {**beside, **metadata}
    session = _first(metadata.get("session_id"), given.get("litellm_session_id"))
    user = _first(given.get("user"), metadata.get("user_id"), metadata.get("trace_user_id"))
    trace = given.get("litellm_trace_id")
    if "model_group" in metadata and around.correlation_id is not None:
        trace = None
    correlation = _first(metadata.get("correlation_id"), trace, metadata.get("trace_id"))
    if session is None and user is None and correlation is None:
        return NOBODY
    return Attribution(
        session_id=_name(session), user_id=_name(user), correlation_id=_name(correlation)
    )


def _first(*told: Any) -> Any:
    """Return the first that says something; no class of theirs is asked."""
    for value in told:
        if value is None or (is_builtin(value) and not value):
            continue
        if not (isinstance(value, str) and str.__len__(value) == 0):
            return value
    return None


def _name(value: Any) -> str | None:
    return None if value is None else label(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return entries_of(value) or {}  # past the methods of its class
    return value if value is not None and isinstance(value, Mapping) else {}


def is_private(given: Mapping[str, Any]) -> bool:
    """Tell whether LiteLLM has been told not to log the texts of this call, or the call at all.

    ``litellm.turn_off_message_logging``, the argument of that name, and ``no-log``: the capsule is made all
    the same, without the texts.
    """
    own = given.get("turn_off_message_logging")
    if own is not None:
        return bool(own) or bool(given.get("no-log"))
    return bool(litellm.turn_off_message_logging or given.get("no-log"))

"""Calls to models in every shape that an answer and a message have, and the lines that the command draws."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from chain_support import capsule
from qp_capsule import (
    Capsule,
    CapsuleType,
    ExecutionSection,
    OutcomeSection,
    ReasoningSection,
    ToolCall,
    TriggerSection,
)

ANSWERS: list[tuple[object, list[str]]] = [
    ("plain", ["answer      plain"]),
    ({"text": "yes", "finish_reason": "length"}, ["answer      yes", "finish reason  length"]),
    ({"refusal": "I cannot."}, ["answer      refusal  I cannot."]),
    ({"reasoning": "Let me see", "text": "42"}, ["answer      reasoning  Let me see", "42"]),
    ({"tool_calls": [{"name": "weather", "arguments": '{"city": "Paris"}'}]},
     ['answer      calls weather  {"city": "Paris"}']),
    ({"tool_calls": [{"name": "shell", "arguments": "ls", "type": "custom"}]},
     ["answer      calls shell (custom)  ls"]),
    ({"provider_tools": [{"type": "web_search_call", "query": "x"}]},
     ['answer      provider ran web_search_call  {"type": "web_search_call", "query": "x"}']),
    ({"text": "so", "citations": ["https://a.example"]}, ["answer      so", "cites  https://a.example"]),
    ({"audio": {"transcript": "hm"}}, ['answer      audio  {"transcript": "hm"}']),
    ({"block_reason": "SAFETY"}, ["answer      block reason  SAFETY"]),
    ({"other": [{"type": "hologram", "value": {"x": 1}}]}, ['answer      other hologram  {"x": 1}']),
    ({"not_known_yet": 7}, ["answer      not known yet  7"]),
    (["one", {"text": "two"}], ["answer 1    one", "answer 2    two"]),
    ([0.25, 0.5], ["answer      [0.25, 0.5]"]),
]  # fmt: skip
MESSAGES: list[tuple[object, list[str]]] = [
    ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": "x"}]},
     ["user        a", 'image_url  {"image_url": "x"}']),
    ({"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function",
      "function": {"name": "f", "arguments": "{}"}}]}, ["assistant   calls f  {}"]),
    ({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
     ['assistant   tool_use  {"id": "t", "name": "f", "input": {"a": 1}}']),
    ({"role": "user", "parts": [{"text": "gemini"}]}, ["user        gemini"]),
    ({"type": "function_call_output", "call_id": "c", "output": "21"},
     ["function_call_output call_id  c", "output  21"]),
    ({"role": "tool", "tool_call_id": "c", "content": "21"}, ["tool        tool_call_id  c", "21"]),
    ("bare", ["?           bare"]),
    ({"role": "user", "content": "x", "cache_control": {"type": "ephemeral"}},
     ["user        x", 'cache_control  {"type": "ephemeral"}']),
]  # fmt: skip


def call(
    arguments: object, result: object, *, key: int = 1, hashed: str = "", **metrics: Any
) -> Capsule:
    """A capsule of an LLM call, as it is handed to the chain."""
    return capsule(
        id=UUID(int=key),
        type=CapsuleType.CHAT,
        trigger=TriggerSection(type="user_request", source="litellm", request="What is it?"),
        reasoning=ReasoningSection(model="gpt-4o", prompt_hash=hashed),
        execution=ExecutionSection(
            tool_calls=[ToolCall(tool="litellm.completion", arguments=arguments, result=result)]
        ),
        outcome=OutcomeSection(status="success", result=result, metrics=metrics),
    )


def link(to: int, hashed: str) -> dict[str, Any]:
    return {"continues": {"capsule_id": str(UUID(int=to)), "message_count": 1, "hash": hashed}}


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}

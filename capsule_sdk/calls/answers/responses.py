"""Responses: ``output`` items, a status, an error of its own. Also Interactions, with their ``steps``."""

from __future__ import annotations

from typing import Final

from .blocks import read_block
from .choice import Choice
from .reading import NOISE, Taken, get, word
from .verdict import SUCCESS, Verdict, of_finish, of_status

__all__ = ["ECHOES", "read_interaction", "read_response"]

#: What a response repeats of its request, and what tells of the machine.
ECHOES: Final = NOISE | {
    "background", "billing", "completed_at", "content_filters", "context_management",
    "conversation", "frequency_penalty", "instructions", "logit_bias", "max_output_tokens",
    "max_tool_calls", "metadata", "model", "moderation", "parallel_tool_calls", "presence_penalty",
    "previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_retention", "reasoning",
    "safety_identifier", "service_tier", "store", "stream", "temperature", "text", "tool_choice",
    "tools", "top_logprobs", "top_p", "truncation", "usage", "user", "output_text", "input",
    "agent", "created", "updated", "previous_interaction_id", "response_modalities",
    "generation_config", "system_instruction", "response_format", "response_mime_type",
}  # fmt: skip


def read_response(entry: Taken) -> tuple[list[Choice], Verdict]:
    """Return what a response says, and how it says that it ended."""
    choice = Choice()
    output = entry.items("output")
    for item in output:
        read_block(choice, item)
    if not output:
        choice.say("text", entry.take("output_text") or "")
    status, details = word(entry.take("status")), entry.take("incomplete_details")
    reason = word(get(details, "reason"))
    choice.ends(reason or status)
    return [choice], _verdict(status, reason)


def _verdict(status: str, reason: str) -> Verdict:
    if status.lower() in ("", "completed"):
        return SUCCESS
    if status.lower() != "incomplete":
        verdict = of_status(status)
        # a status that does not exist today is at least not known to be a success
        return verdict if verdict.status != "success" else Verdict("partial", status, ended=status)
    verdict = of_finish(reason)
    if verdict.status != "success" or "max_output_tokens" in reason or "length" in reason:
        return verdict
    return Verdict("partial", reason, ended=f"incomplete: {reason}" if reason else "incomplete")


def read_interaction(entry: Taken) -> tuple[list[Choice], Verdict]:
    """Return what an interaction says, and how it says that it ended."""
    choice = Choice()
    steps = entry.items("steps")
    for item in steps or entry.items("outputs"):
        if get(item, "type") != "user_input":
            read_block(choice, item)
    entry.take("outputs")
    status = word(entry.take("status"))
    choice.ends(status)
    return [choice], of_status(status)

"""Chat Completions and text completions: ``choices``, each with a message, or with a text of its own."""

from __future__ import annotations

import re
from typing import Any, Final

from .blocks import is_of_tool, read_block, read_reasoning
from .choice import NORMAL, Choice
from .gemini import read_ratings
from .reading import NOISE, Taken, fields, get, is_void, lean, word
from .verdict import error_of, of_finish

__all__ = ["ECHOES", "correct", "is_plain", "read_choice", "read_top"]

#: Entries at the top of an answer that tell of the machine, not of the answer.
ECHOES: Final = NOISE | {
    "created", "kv_transfer_params", "metadata", "model", "prompt_logprobs", "prompt_token_ids",
    "provider", "request_id", "response_ms", "service_tier", "stats", "system_fingerprint",
    "time_info", "timings", "usage", "usage_breakdown", "x_groq", "is_finished", "event_id",
    "estimated_cost",
}  # fmt: skip

_LOGPROBS: Final = 20  # tokens whose probabilities are kept
#: How a model ends that has been cut off at so many tokens.
_CUT: Final = frozenset(
    {"length", "max_length", "max_new_tokens", "max_output_tokens", "max_tokens", "model_length"}
)
CHOICE_NOISE: Final = NOISE | {
    "stop_reason",
    "matched_stop",
    "token_ids",
    "flags",
    "seed",
    "weight",
}


def read_choice(value: Any) -> Choice:
    """Return what one of an answer's choices says."""
    choice, entry = Choice(), Taken(value)
    if not fields(value):
        choice.unknown("choice", value)
    own = Taken(entry.take("provider_specific_fields"))
    message = entry.take("message", "delta")
    if message is not None:
        _message(choice, message)
    choice.say("text", entry.take("text", "content") or "")
    choice.ends(entry.take("finish_reason"))
    native = own.take("native_finish_reason") or entry.take("native_finish_reason")
    entry.left.pop("native_finish_reason", None)
    sent = word(entry.take("sent_finish_reason", "made_finish_reason"))
    if native is not None:
        _native(choice, word(native))
    correct(choice, sent)
    choice.error = error_of(entry.take("error") or own.take("error"))
    for given in (entry, own):
        read_filters(choice, given.take("content_filter_results", "content_filter_result"))
        _logprobs(choice, given.take("logprobs"))
    choice.rest(entry.rest(CHOICE_NOISE))
    choice.rest(own.rest(CHOICE_NOISE))
    return choice


def correct(choice: Choice, sent: str) -> None:
    """Have a choice end as its provider has ``sent``, and not as a library has translated it."""
    if not sent:
        return
    if is_plain(sent) and _meaning(sent) != _meaning(choice.finish):
        choice.ends(sent)  # the library has told that of another choice, or none
    _native(choice, sent)


def read_top(choice: Choice, entry: Taken) -> None:
    """Add what stands beside the choices: what they all rest on, and whether the question was filtered."""
    own = Taken(entry.take("provider_specific_fields"))
    for given in (entry, own):
        for held in given.items("prompt_filter_results"):
            read_filters(choice, Taken(held).take("content_filter_results"))
        _by_library(choice, given)
    choice.rest(own.rest(ECHOES))


def read_filters(choice: Choice, value: Any) -> None:
    """Add what a content filter found; what it let pass says nothing."""
    if is_void(value):
        return
    kept = {name: entry for name, entry in fields(lean(value)).items() if not _is_safe(entry)}
    hit = {name for name, entry in kept.items() if _says(entry, "filtered")}
    if hit:
        choice.blocks(categories=kept)
        choice.block_reason.setdefault("filtered", sorted(map(word, hit)))
    elif kept:
        choice.unknown("content_filter_results", kept)


def _says(entry: Any, name: str) -> bool:
    return fields(entry).get(name) is True


def _is_safe(entry: Any) -> bool:
    held = fields(entry)
    return bool(held) and all(
        value is False or value == "safe" for value in held.values() if not is_void(value)
    )


def is_plain(reason: str) -> bool:
    """Tell whether a reason to stop is a usual one, which every library hands on under this name or another."""
    code = reason.lower()
    return code in NORMAL or code in _CUT or code == "content_filter"


def _meaning(reason: str) -> str:
    """Return what a usual reason to stop means, under whatever name."""
    code = reason.lower()
    return "" if not code else "normal" if code in NORMAL else "cut" if code in _CUT else code


def _native(choice: Choice, native: str) -> None:
    """Believe the provider's own reason where the client library has made a milder one of it."""
    code, finish = native.lower(), choice.finish.lower()
    if code in NORMAL or (code in _CUT and finish in _CUT):
        return
    status = of_finish(choice.finish).status
    if status in ("success", of_finish(native).status):
        choice.finish = native
    elif code != finish:
        choice.blocks(reason=native)


def _logprobs(choice: Choice, value: Any) -> None:
    """Keep the probabilities of the first tokens: there are as many as tokens, and more are no evidence."""
    for name, entries in fields(value).items():
        if isinstance(entries, list) and entries:
            kept = [_one_token(entry) for entry in entries[:_LOGPROBS]]
            choice.unknown(f"logprobs.{name}", {"of": len(entries), "first": kept})


def _one_token(entry: Any) -> Any:
    """Return a token's text and probability; not under the name of ``token``, which could be a secret's."""
    held = fields(entry)
    if "token" not in held:
        return entry
    top = [_one_token(other) for other in (held.get("top_logprobs") or ())[:_LOGPROBS]]
    one = {"text": held["token"], "logprob": held.get("logprob")}
    return {**one, "top": top} if top else one


def _message(choice: Choice, value: Any) -> None:
    if not fields(value):
        choice.unknown("message", value)
        return
    entry = Taken(value)
    own = entry.take("provider_specific_fields")
    for name, held in Taken(own).left.items():
        entry.left.setdefault(name, held)
    content = entry.take("content")
    for part in content if isinstance(content, list | tuple) else [content]:
        read_block(choice, part)
    if entry.left.keys() <= NOISE:
        return
    choice.say("refusal", entry.take("refusal") or "")
    _reasoning(choice, entry)
    if (audio := entry.take("audio")) is not None:
        choice.hear(audio)
    for image in entry.items("images"):
        choice.show(image)
    for call in entry.items("tool_calls"):
        _tool_call(choice, call)
    legacy = entry.take("function_call")
    if legacy is not None:
        _tool_call(choice, {"function": legacy})
    read_filters(choice, entry.take("content_filter_results"))
    _by_library(choice, entry)
    choice.rest(entry.rest(NOISE | {"logprobs", "name", "container", "reasoningContentBlocks"}))


def _by_library(choice: Choice, entry: Taken) -> None:
    """Add what client libraries make of other wire formats when they translate these to this one."""
    if entry.left.keys() <= ECHOES:
        return
    for name in _CITATIONS:
        choice.cite(entry.take(name))
    for name in [name for name in entry.left if _RAN.fullmatch(name)]:
        for held in entry.items(name):
            if is_of_tool(get(held, "type")):
                read_block(choice, held)
            else:
                choice.ran(name, dict(Taken(held).rest()) or {"value": held})
    details = Taken(entry.take("stop_details"))
    choice.blocks(reason=details.take("category"), explanation=details.take("explanation"))
    entry.take("stop_reason")
    for name in [name for name in entry.left if name.startswith("vertex_ai_")]:
        kind = name.removeprefix("vertex_ai_")
        for held in _each(entry.take(name)):
            if kind.startswith("safety_"):
                read_ratings(choice, held if isinstance(held, list) else [held])
            else:
                choice.cite({"type": kind, **fields(held)})
    for name in [name for name in entry.left if name.endswith("_replay")]:
        entry.take(name)  # the answer once more, for the next request


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


_CITATIONS: Final = ("annotations", "citations", "citation", "citationsContent", "search_results")
_RAN: Final = re.compile(r"\w*(tool|search|interpreter|execution)\w*_(calls|results)")


def _reasoning(choice: Choice, entry: Taken) -> None:
    """Client libraries give one and the same reasoning under several names."""
    for name in ("reasoning_content", "reasoning", "thinking"):
        held = entry.take(name)
        if held is not None and not choice.has_said("reasoning"):
            read_reasoning(choice, held)
    for name in ("thinking_blocks", "reasoning_details", "reasoning_items"):
        for block in entry.items(name):
            held = Taken(block)
            kind = word(held.left.get("type"))
            if kind == "redacted_thinking":
                read_block(choice, block)
            elif not choice.has_said("reasoning") or kind not in _REASONING:
                _of_details(choice, held, kind, block)


_REASONING: Final = frozenset(
    {"", "thinking", "reasoning", "reasoning.text", "reasoning.summary", "reasoning.encrypted"}
)


def _of_details(choice: Choice, held: Taken, kind: str, block: Any) -> None:
    if kind not in ("reasoning.text", "reasoning.summary", "reasoning.encrypted"):
        read_block(choice, block)
    elif (text := held.take("text", "summary")) is not None:
        read_reasoning(choice, text)


def _tool_call(choice: Choice, value: Any) -> None:
    entry = Taken(value)
    kind = word(entry.take("type"))
    function, custom = Taken(entry.take("function")), Taken(entry.take("custom"))
    if custom.left:
        choice.tool(custom.take("name"), custom.take("input", "arguments"), "custom")
        choice.rest(custom.rest(), of="tool_call")
    elif function.left or kind in ("", "function"):
        choice.tool(
            function.take("name") or entry.take("name"),
            function.take("arguments") or entry.take("arguments"),
        )
        choice.rest(function.rest(NOISE | {"provider_specific_fields"}), of="tool_call")
    else:
        choice.tool(entry.take("name"), dict(entry.rest()), kind)
        return
    choice.rest(entry.rest(NOISE | {"provider_specific_fields", "extra_content"}), of="tool_call")

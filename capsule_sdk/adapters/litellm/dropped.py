"""Dropped: what a provider sends and LiteLLM does not hand on.

LiteLLM makes chunks of its own out of those that a provider sends, and leaves out what it has no place
for: from a Chat Completions stream a refusal, for one. Its caller then reads an empty answer; the capsule says
what the model said. Of a whole answer that it has translated, it keeps the body.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ...calls.answers.chat import correct, is_plain
from ...calls.answers.errors import BODY
from ...calls.answers.reading import fields, is_void, word
from ...calls.answers.usage import Tokens, tells_reasoning
from ...calls.answers.verdict import of_choices
from ...calls.answers.whole import Whole, read, read_in_full

__all__ = ["body_of", "compare", "reads_as_end", "regained", "reported", "said_to_end", "sent_in"]

#: What it hands on, under this name or another, at once or later.
_HANDED_ON = frozenset(
    {
        "annotations", "audio", "content", "delta", "finish_reason", "function_call", "images", "index",
        "logprobs", "message", "native_finish_reason", "provider_specific_fields", "reasoning",
        "reasoning_content", "reasoning_details", "reasoning_items", "role", "stop_reason", "text",
        "thinking_blocks", "tool_calls",
    }
)  # fmt: skip


def compare(raw: Any, made: Any, feed: Callable[[Any], None]) -> None:
    """Have ``feed`` take over what LiteLLM has dropped from a chunk.

    Args:
        raw: a chunk from the provider.
        made: the chunk that LiteLLM has made of it for its caller; ``None`` where it makes none.
        feed: takes over a chunk of what is missing.

    """
    held = fields(raw)
    choices = held.get("choices")
    if not isinstance(choices, list):
        for of, told in _endings(held):
            feed({"choices": [{"index": of, "delta": {}, "sent_finish_reason": word(told)}]})
        return
    handed = fields(made).get("choices")
    for number, choice in enumerate(choices):
        entries = fields(choice)
        if number and not _is_handed(entries.get("index"), handed):
            _feed_whole(entries, feed)
            continue
        of_delta, of_choice = _rare(fields(entries.get("delta"))), _rare(entries)
        reason = entries.get("finish_reason")
        if isinstance(reason, str) and (reason := str.__str__(reason)):
            # LiteLLM hands on one for all choices, and a usual one for any that it does not know
            made_of_one = _is_made(raw) and is_plain(reason)
            of_choice["made_finish_reason" if made_of_one else "sent_finish_reason"] = reason
        if not of_delta and not of_choice:
            continue
        passed = fields(handed[number]) if isinstance(handed, list) and number < len(handed) else {}
        of_delta = _without(of_delta, fields(passed.get("delta")))
        of_choice = _without(of_choice, passed)
        if of_delta or of_choice:
            index = entries.get("index")
            feed({"choices": [{"index": index, "delta": of_delta, **of_choice}]})


def _endings(held: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the choices that an event of another wire format says to have ended: index, and reason."""
    if held.get("type") == "message_delta":
        delta = fields(held.get("delta"))
        if reason := delta.get("stop_reason"):
            yield 0, reason
    elif (reason := held.get("stopReason")) is not None:
        yield 0, reason
    elif isinstance(candidates := held.get("candidates"), list):
        for number, candidate in enumerate(candidates):
            entries = fields(candidate)
            if reason := entries.get("finishReason"):
                yield entries.get("index", number), reason


def _is_made(raw: Any) -> bool:
    """Tell whether a chunk is not its provider's, but made of one by LiteLLM."""
    return type(raw).__module__.partition(".")[0] == "litellm"


def _is_handed(index: Any, handed: Any) -> bool:
    """Tell whether LiteLLM hands on a choice that is not the first in its chunk; of the last it does not."""
    return isinstance(handed, list) and any(fields(one).get("index") == index for one in handed)


def _feed_whole(entries: Mapping[Any, Any], feed: Callable[[Any], None]) -> None:
    rest = {name: value for name, value in entries.items() if name != "finish_reason"}
    feed({"choices": [{**rest, "sent_finish_reason": entries.get("finish_reason")}]})


def said_to_end(raw: Any) -> bool | None:
    """Tell whether a chunk from the provider says that the answer is finished; LiteLLM says so in any case.

    Returns:
        ``None`` where it is no chunk of a provider's, or in no format that always says so.

    """
    if _is_made(raw):
        return None
    held = fields(raw)
    kind = held.get("type")
    if isinstance(kind, str) and kind.startswith(("message_", "content_block_")):
        return kind == "message_stop" or bool(fields(held.get("delta")).get("stop_reason"))
    if "stopReason" in held or "contentBlockIndex" in held:  # Bedrock's Converse API
        return "stopReason" in held
    for name in ("choices", "candidates"):
        entries = held.get(name)
        if isinstance(entries, list) and entries:
            told = (fields(entry) for entry in entries)
            return any(entry.get("finish_reason") or entry.get("finishReason") for entry in told)
    return None


#: Where a piece that is no chunk of a chat says that it is the last: of LiteLLM's own kind, and of providers'.
_MARKS: Final = (
    "amazon-bedrock-invocationMetrics", "completionReason", "completion_reason", "done", "done_reason",
    "finishReason", "finish_reason", "finished", "generated_text", "stopReason", "stop_reason",
)  # fmt: skip

#: Where such marks stand, if not at the top.
_PARTS: Final = ("choices", "details", "outputs", "results")

#: Reasons to stop that are none.
_GO_ON: Final = frozenset({"not_finished", "null", "none", "finish_reason_unspecified"})


def reads_as_end(piece: Any) -> bool:
    """Tell whether a piece that LiteLLM has read, of any kind, says that the answer is finished.

    Its parsers read that in what a provider sends; only a stream that ends without it ends by LiteLLM's own
    word. A protocol of bare text knows no end but that of its body: there, any text may be the last.
    """
    if isinstance(piece, str | bytes):
        text = piece.decode("utf-8", "replace") if isinstance(piece, bytes) else piece
        try:
            piece = json.loads(text.strip().removeprefix("data:"))
        except (ValueError, RecursionError):
            return True
    held = fields(piece)
    if "is_finished" in held:
        return bool(held["is_finished"])
    return any(
        any(_is_end(entries.get(name)) for name in _MARKS) for entries in (held, *_inner(held))
    )


def _is_end(told: Any) -> bool:
    return bool(told) and not (isinstance(told, str) and told.lower() in _GO_ON)


def _inner(held: Mapping[Any, Any]) -> Iterator[Mapping[Any, Any]]:
    for name in _PARTS:
        inner = held.get(name)
        for entry in inner if isinstance(inner, list) else (inner,):
            yield fields(entry)


def reported(tokens: Tokens, body: Any) -> Tokens:
    """Return the tokens of an answer without those that LiteLLM has counted by itself: those of reasoning.

    It counts them in the text of the reasoning where the provider does not report them.
    """
    if tokens.reasoning is None or type(body) is not str or tells_reasoning(body):
        return tokens
    return tokens._replace(reasoning=None)


def body_of(logging_obj: Any) -> Any:
    """Return the body of an answer as LiteLLM's object for the call keeps it; ``None`` where it is gone."""
    details = fields(fields(logging_obj).get("model_call_details"))
    body = details.get("original_response")
    return body.lstrip() if type(body) is str else body


def sent_in(body: Any, *, translated: bool) -> dict[str, Any] | None:
    """Return what a provider has answered a chat with.

    Args:
        body: the body of its answer.
        translated: whether only one in another wire format is wanted; this is seen without reading it.

    Returns:
        ``None`` where it is no JSON object, or a large one.

    """
    if type(body) is str and body[:1] == "{" and len(body) <= BODY:
        if translated and '"choices"' in body:
            return None
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return None
    return body if type(body) is dict else None


def regained(whole: Whole, sent: Mapping[str, Any], response: Any) -> Whole:
    """Return a translated answer with what LiteLLM has dropped of the one that its provider ``sent``.

    Args:
        whole: what was read of LiteLLM's ``response``.
        sent: the body of the provider's answer.
        response: what LiteLLM has made of it.

    """
    if "choices" in sent:  # the wire format of the answer itself
        return whole
    own = read(sent)
    reasons = [choice.finish for choice in own.choices] or [_reason_in(sent)]
    if whole.plain is not None:
        if all(map(is_plain, reasons)) and all(type(one.value()) is str for one in own.choices):
            return whole
        whole = read_in_full(response)
    for choice, untranslated in zip(whole.choices, own.choices, strict=False):
        choice.regain(untranslated)
    for choice, reason in zip(whole.choices, reasons, strict=False):
        correct(choice, reason)
    if whole.verdict.status != "success":
        return whole
    own_verdict = own.verdict if own.choices else of_choices(whole.choices)
    milder = own_verdict.status in ("blocked", "failure")
    return whole._replace(verdict=own_verdict) if milder else whole


#: Where other wire formats have the reason to stop, at the top.
_REASONS: Final = ("stopReason", "stop_reason", "finish_reason", "done_reason")


def _reason_in(sent: Mapping[Any, Any]) -> str:
    """Return the reason to stop in a format that is not read otherwise, such as Bedrock's."""
    found = (sent.get(name) for name in _REASONS)
    return next((word(reason) for reason in found if isinstance(reason, str)), "")


def _rare(entries: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in entries.items()
        if value is not None and name not in _HANDED_ON and not is_void(value)
    }


def _without(entries: dict[str, Any], passed: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: value for name, value in entries.items() if is_void(passed.get(name))}

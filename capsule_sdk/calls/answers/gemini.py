"""generateContent: ``candidates`` of parts, each of one kind of thing; names in either spelling."""

from __future__ import annotations

from typing import Any, Final

from .choice import Choice, media
from .reading import NOISE, Taken, fields, get, is_void, lean, snake, word
from .verdict import of_finish

__all__ = ["ECHOES", "MARKS", "read_candidate", "read_prompt_feedback"]

#: Entries at the top by which one knows this wire format.
MARKS: Final = frozenset(
    {"candidates", "promptFeedback", "prompt_feedback", "usageMetadata", "usage_metadata"}
)

ECHOES: Final = NOISE | {
    "automatic_function_calling_history", "create_time", "model", "model_version", "parsed",
    "response_id", "sdk_http_response", "usage_metadata", "model_status",
}  # fmt: skip

_NOISE: Final = NOISE | {"avg_logprobs", "logprobs_result", "token_count"}
_PART: Final = NOISE | {"thought", "video_metadata", "media_resolution", "part_metadata"}
_RAN: Final = {
    "executable_code", "code_execution_result", "tool_call", "tool_response", "function_response",
}  # fmt: skip


def read_candidate(value: Any) -> Choice:
    """Return what one candidate says."""
    choice, entry = Choice(), Taken(value, snaked=True)
    if not fields(value):
        choice.unknown("candidate", value)
    content = Taken(entry.take("content"), snaked=True)
    for part in content.items("parts"):
        _part(choice, part)
    choice.rest(content.rest(), of="content")
    choice.ends(entry.take("finish_reason"))
    _explain(choice, entry.take("finish_message"))
    for name in ("grounding_metadata", "citation_metadata", "url_context_metadata"):
        _cite(choice, name, entry.take(name))
    grounds = entry.take("grounding_attributions")
    choice.cite(grounds)
    read_ratings(choice, entry.take("safety_ratings"))
    choice.rest(entry.rest(_NOISE))
    return choice


def _explain(choice: Choice, words: Any) -> None:
    status = of_finish(choice.finish).status
    if status == "blocked":
        choice.blocks(message=words)
    elif status == "failure" and isinstance(words, str):
        choice.error = choice.finish, words
    else:
        choice.unknown("finish_message", words)


def read_prompt_feedback(choice: Choice, value: Any) -> None:
    """Add why the question was not answered."""
    entry = Taken(value, snaked=True)
    reason = entry.take("block_reason")
    if reason is not None and "UNSPECIFIED" not in word(reason):
        choice.blocks(reason=reason, message=entry.take("block_reason_message"))
    read_ratings(choice, entry.take("safety_ratings"))
    choice.rest(entry.rest(), of="prompt_feedback")


def read_ratings(choice: Choice, value: Any) -> None:
    """Add the safety ratings that say something; a negligible probability does not."""
    told = [
        rating
        for rating in lean(value if isinstance(value, list) else [])
        if get(rating, "blocked") is True
        or word(get(rating, "probability")).upper() not in ("", "NEGLIGIBLE")
    ]
    if any(get(rating, "blocked") is True for rating in told):
        choice.blocks(ratings=told)
    else:
        choice.unknown("safety_ratings", told)


def _part(choice: Choice, value: Any) -> None:
    entry = Taken(value, snaked=True)
    if "text" in entry.left:
        channel = "reasoning" if entry.left.get("thought") is True else "text"
        choice.say(channel, entry.take("text"))
    call = entry.take("function_call")
    if call is not None:
        held = Taken(call, snaked=True)
        choice.tool(held.take("name"), held.take("args", "arguments"))
        choice.rest(held.rest(), of="function_call")
    for name in ("inline_data", "file_data"):
        if (data := entry.take(name)) is not None:
            _data(choice, data)
    for name in [name for name in entry.left if name in _RAN]:
        choice.ran(name, dict(fields(entry.take(name))))
    if not fields(value) and not is_void(value):
        choice.unknown("part", value)
    choice.rest(entry.rest(_PART), of="part")


def _data(choice: Choice, value: Any) -> None:
    held = {snake(str(name)): entry for name, entry in fields(value).items()}
    kind = word(held.get("mime_type"))
    if kind.startswith("audio/"):
        choice.hear(held)
    elif kind.startswith("image/") or "file_uri" not in held:
        choice.show(held)
    else:
        choice.unknown(kind or "file", media(held))


def _cite(choice: Choice, name: str, value: Any) -> None:
    """Add grounding as it came, but for what only a browser could show."""
    entry = Taken(value, snaked=True)
    entry.take("search_entry_point")
    if entry.left:
        choice.cite({"type": name, **entry.left})

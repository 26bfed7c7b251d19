"""Conversations: what a call to a model was asked, and what it answered, in turns. Pure.

Every wire format is read by what its parts are called; a part that is none of them is told by its type and as
the JSON that it is. Nothing is trusted to be what it should be, and nothing raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..formats.entries import section
from .summary import summary_of

__all__ = ["ANSWER", "Continued", "Conversation", "Part", "Turn", "continued", "conversation_of"]

#: Who speaks where the model answers.
ANSWER: Final = "answer"
#: Turns that are drawn, the newest of them, and parts of one.
MOST, PARTS = 400, 200
#: Arguments that every call of before had; with no others, and a text as its answer, there is no more to draw.
_PLAIN = frozenset({"model", "message_count"})
_TEXTS = frozenset({"text", "input_text", "output_text", ""})


class Part(NamedTuple):
    """One part of a turn: what it is, empty for plain text, and what it says."""

    kind: str
    text: str


class Turn(NamedTuple):
    """What one side says at a time."""

    speaker: str
    parts: tuple[Part, ...]


class Continued(NamedTuple):
    """An earlier capsule that holds the beginning of a conversation."""

    capsule_id: str
    message_count: int
    hash: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A call to a model as it is drawn.

    Attributes:
        tools: names of the tools offered.
        parameters: what else was asked for, by name.
        turns: what was said, oldest first; the answer is the last.
        notes: what is not here, in sentences.
        estimated: tokens that nobody reported, as ``(in, out)``.
        finish_reason: why the model ended, where the answer does not say it itself.
        has_messages: whether the messages themselves were sealed.

    """

    tools: tuple[str, ...]
    parameters: tuple[Part, ...]
    turns: tuple[Turn, ...]
    notes: tuple[str, ...]
    estimated: tuple[int | None, int | None] | None
    finish_reason: str | None
    has_messages: bool


def continued(record: Mapping[str, Any]) -> Continued | None:
    """Return which earlier capsule holds the beginning of this one's conversation."""
    said = section(_arguments(record), "continues")
    key, count, hashed = said.get("capsule_id"), said.get("message_count"), said.get("hash")
    if not (isinstance(key, str) and isinstance(hashed, str)) or type(count) is not int:
        return None
    return Continued(key, count, hashed)


def conversation_of(
    record: Mapping[str, Any],
    earlier: Sequence[Mapping[str, Any]] = (),
    *,
    missing: str | None = None,
) -> Conversation | None:
    """Return the conversation of a call; ``None`` for what is none, and for calls that say no more than a text.

    Args:
        record: the capsule.
        earlier: the capsules that hold its beginning, the newest first, as `continued` names them.
        missing: the one of them that is not here, or does not fit.

    """
    arguments = _arguments(record)
    result = section(record, "outcome").get("result")
    if result is None:
        result = _call(record).get("result")
    if not summary_of(record).llm_call or (
        not {*arguments} - _PLAIN and not isinstance(result, dict | list)
    ):
        return None
    told = [list_of(_arguments(one).get("messages")) for one in reversed(earlier)]
    messages = [message for some in told for message in some] + list_of(arguments.get("messages"))
    turns = [turn for message in messages[-MOST:] if (turn := _turn(message)) is not None]
    notes = list(_notes(arguments, missing, len(messages) - MOST))
    has_messages = isinstance(arguments.get("messages"), list)
    if not has_messages:
        turns += _request(record)
    turns += _answers(result)
    estimate = section(section(_outcome(record), "metrics"), "tokens_estimated")
    estimated = (_count(estimate.get("tokens_in")), _count(estimate.get("tokens_out")))
    finish = section(section(record, "context"), "environment").get("finish_reason")
    return Conversation(
        tools=tuple(map(_written, list_of(section(arguments, "tools").get("names"))[:PARTS])),
        parameters=tuple(_fields(section(arguments, "parameters"))),
        turns=tuple(turns),
        notes=tuple(notes),
        estimated=estimated if any(one is not None for one in estimated) else None,
        finish_reason=finish if isinstance(finish, str) and not _names_its_end(result) else None,
        has_messages=has_messages,
    )


def list_of(value: object) -> list[Any]:
    """Return a list as it is, and nothing else."""
    return value if isinstance(value, list) else []


def _call(record: Mapping[str, Any]) -> Mapping[str, Any]:
    calls = list_of(section(record, "execution").get("tool_calls"))
    return calls[0] if calls and isinstance(calls[0], Mapping) else {}


def _arguments(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return section(_call(record), "arguments")


def _outcome(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return section(record, "outcome")


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _notes(arguments: Mapping[str, Any], missing: str | None, cut: int) -> Iterator[str]:
    if not isinstance(arguments.get("messages"), list):
        count = arguments.get("message_count")
        if type(count) is int and count > 1:
            yield f'{count} messages were sent, of which the user\'s last is here: messages="full" seals all'
    if missing is not None:
        yield f"the beginning is held by capsule {missing}, which is not here"
    if cut > 0:
        yield f"{cut} earlier messages are left out"


def _request(record: Mapping[str, Any]) -> Iterator[Turn]:
    request = section(record, "trigger").get("request")
    if isinstance(request, str) and request:
        yield Turn("user", (Part("", request),))


# -- what was asked -----------------------------------------------------------------------------------


def _turn(message: object) -> Turn | None:
    if isinstance(message, str):
        return Turn("", (Part("", message),))
    if not isinstance(message, Mapping):
        return Turn("", (Part("", _written(message)),))
    role = message.get("role")
    speaker = role if isinstance(role, str) and role else str(message.get("type") or "")
    parts: list[Part] = []
    for name, value in message.items():
        if name == "role" or (name == "type" and value == speaker) or value in (None, "", []):
            continue
        if name in ("content", "parts"):
            parts += _content(value)
        elif name == "tool_calls":
            parts += map(_tool_call, list_of(value))
        else:
            parts.append(Part(str(name), _written(value)))
    return Turn(speaker, _bounded(parts)) if parts or speaker else None


def _content(value: object) -> Iterator[Part]:
    for part in value if isinstance(value, list) else [value]:
        if not isinstance(part, Mapping):
            yield Part("", _written(part))
            continue
        kind, text = str(part.get("type") or ""), part.get("text")
        rest = {name: inner for name, inner in part.items() if name not in ("type", "text")}
        if isinstance(text, str) and kind in _TEXTS:
            yield Part("", text)
            if rest:
                yield Part("beside", _written(rest))
        else:
            yield Part(kind or "part", _written(rest if text is None else {"text": text, **rest}))


def _tool_call(call: object) -> Part:
    """Return a tool call as OpenAI's messages and as sealed answers have it."""
    if not isinstance(call, Mapping):
        return Part("calls", _written(call))
    within = (
        call.get("function") if isinstance(call.get("function"), Mapping) else call.get("custom")
    )
    of = within if isinstance(within, Mapping) else call
    arguments = of.get("arguments", of.get("input"))
    kind = call.get("type")
    as_kind = f" ({kind})" if isinstance(kind, str) and kind not in ("function", "tool_use") else ""
    return Part(f"calls {_written(of.get('name') or '?')}{as_kind}", _written(arguments))


# -- what was answered --------------------------------------------------------------------------------


def _answers(result: object) -> Iterator[Turn]:
    if result in (None, "", []):
        return
    choices = result if isinstance(result, list) and all(map(_is_choice, result)) else [result]
    for number, choice in enumerate(choices[:PARTS], 1):
        speaker = f"{ANSWER} {number}" if len(choices) > 1 else ANSWER
        parts = (
            tuple(_answer(choice)) if isinstance(choice, Mapping) else (Part("", _written(choice)),)
        )
        yield Turn(speaker, _bounded(parts))


def _names_its_end(result: object) -> bool:
    return isinstance(result, Mapping) and "finish_reason" in result


def _is_choice(value: object) -> bool:
    return isinstance(value, str | Mapping)


def _answer(answer: Mapping[str, Any]) -> Iterator[Part]:
    for name, value in answer.items():
        if value in (None, "", []):
            continue
        if name == "text":
            yield Part("", _written(value))
        elif name == "tool_calls":
            yield from map(_tool_call, list_of(value) or [value])
        elif name in _EACH and isinstance(value, list):
            for one in value:
                kind = one.get("type") if isinstance(one, Mapping) else None
                rest = (
                    one.get("value", one) if name == "other" and isinstance(one, Mapping) else one
                )
                yield Part(
                    f"{_EACH[name]} {kind}" if isinstance(kind, str) else _EACH[name],
                    _written(rest),
                )
        else:
            yield Part(str(name).replace("_", " "), _written(value))


#: Entries of an answer that hold several, and what one of them is called.
_EACH = {
    "provider_tools": "provider ran",
    "citations": "cites",
    "other": "other",
    "images": "image",
}


def _bounded(parts: Sequence[Part]) -> tuple[Part, ...]:
    more = len(parts) - PARTS
    if more <= 0:
        return tuple(parts)
    return (*parts[:PARTS], Part("", f"… and {more} more parts: --json has them"))


def _fields(parameters: Mapping[str, Any]) -> Iterator[Part]:
    return (Part(str(name), _written(value)) for name, value in list(parameters.items())[:PARTS])


def _written(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "(nested too deeply to be shown: --json has it)"

"""Conversing: a call to a model as a conversation, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from capsule_sdk.evidence.showing.conversation import ANSWER, Conversation, Part
from capsule_sdk.outward import one_line

from .drawing import Paper, Span
from .fields import beside

__all__ = ["conversation_lines", "without_conversation"]

#: What stands in a section in the place of what is drawn as a conversation.
ABOVE: Final = "(see the conversation above; --json has it as it is sealed)"
_SPEAKERS = 12  # columns of who speaks
_STYLES = {"system": "magenta", "user": "bold", "tool": "blue"}


def conversation_lines(talk: Conversation, paper: Paper) -> Iterator[list[Span]]:
    """Yield what was offered and asked for, each turn, and how it ended."""
    if talk.tools:
        yield from _line("offered", ", ".join(map(one_line, talk.tools)), paper)
    if talk.parameters:
        words = ", ".join(
            f"{one_line(part.kind)} {one_line(part.text)}" for part in talk.parameters
        )
        yield from _line("parameters", words, paper)
    for note in talk.notes:
        yield [("  ", ""), (one_line(note), "dim")]
    for turn in talk.turns:
        yield []
        speaker = one_line(turn.speaker)[:40] or "?"
        answers = turn.speaker.startswith(ANSWER)
        label: list[Span] = [
            ("  ", ""),
            (f"{speaker:<{_SPEAKERS - 1}} ", _style(turn.speaker, answers=answers)),
        ]
        for part in turn.parts:
            yield from _part(label, part, 2 + max(_SPEAKERS, len(speaker) + 1), paper)
            label = [("  " + " " * _SPEAKERS, "")]
        if not turn.parts:
            yield label
    yield from _ending(talk, paper)


def _style(speaker: str, *, answers: bool) -> str:
    return "bold green" if answers else _STYLES.get(speaker, "cyan")


def _part(label: list[Span], part: Part, indent: int, paper: Paper) -> Iterator[list[Span]]:
    if not part.kind:
        yield from beside(label, part.text, indent, paper)
        return
    kind = one_line(part.kind)[:60]
    yield from beside([*label, (f"{kind}  ", "yellow")], part.text, indent + len(kind) + 2, paper)


def _ending(talk: Conversation, paper: Paper) -> Iterator[list[Span]]:
    told = []
    if talk.finish_reason:
        told.append(f"finished because: {one_line(talk.finish_reason)}")
    if talk.estimated is not None:
        known = ("?" if count is None else f"{count:,}" for count in talk.estimated)
        told.append(f"tokens about {'→'.join(known)}, estimated: the provider reported none")
    if told:
        yield []
        yield [("  ", ""), ("; ".join(told), "dim")]


def _line(name: str, words: str, paper: Paper) -> Iterator[list[Span]]:
    label: list[Span] = [("  ", ""), (f"{name:<{_SPEAKERS}}", "cyan")]
    return beside(label, words, 2 + _SPEAKERS, paper)


def without_conversation(record: Mapping[str, Any], talk: Conversation) -> dict[str, Any]:
    """Return a record whose sections do not repeat what was drawn as a conversation."""
    shown = dict(record)
    execution, outcome = record.get("execution"), record.get("outcome")
    if isinstance(execution, Mapping):
        calls = execution.get("tool_calls")
        if isinstance(calls, list) and calls and isinstance(calls[0], Mapping):
            first = _call_without(calls[0], talk)
            shown["execution"] = {**execution, "tool_calls": [first, *calls[1:]]}
    if isinstance(outcome, Mapping) and isinstance(outcome.get("result"), Mapping | list):
        shown["outcome"] = {**outcome, "result": ABOVE}
    return shown


def _call_without(call: Mapping[str, Any], talk: Conversation) -> dict[str, Any]:
    shown, arguments = dict(call), call.get("arguments")
    if talk.has_messages and isinstance(arguments, Mapping):
        shown["arguments"] = {**arguments, "messages": ABOVE}
    if isinstance(call.get("result"), Mapping | list):
        shown["result"] = ABOVE
    return shown

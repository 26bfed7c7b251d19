"""Whole: an answer of any wire format, whole or made of pieces -> its choices and its verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...content import JSON, ContentPolicy
from . import chat, gemini, messages, responses
from .choice import NORMAL, Choice, of_choices
from .other import read_other
from .plain import plain_text
from .reading import Taken, fields, get, is_void, word
from .verdict import SUCCESS, Verdict, error_of, of_status
from .verdict import of_choices as verdict_of

__all__ = ["Whole", "read", "read_in_full"]


class Whole(NamedTuple):
    """What an answer says.

    Attributes:
        choices: its choices; of what is no conversation, none.
        other: what it says where it is no conversation, yet to pass the policy.
        verdict: how it says that it ended.
        plain: text and reason to stop of an answer that is nothing more; its choice is not taken apart then.

    """

    choices: list[Choice]
    other: Any
    verdict: Verdict
    plain: tuple[str, str] | None = None

    @property
    def finish(self) -> str:
        """The reason to stop: the first that is not the usual one, else the first."""
        if self.plain is not None:
            return self.plain[1]
        reasons = [choice.finish for choice in self.choices if choice.finish]
        unusual = (reason for reason in reasons if reason.lower() not in NORMAL)
        return next(unusual, reasons[0] if reasons else "")

    def result(self, policy: ContentPolicy) -> JSON:
        """Return what is sealed as the result."""
        if self.plain is not None:
            return policy.text(self.plain[0])
        if self.choices:
            return of_choices(self.choices, policy)
        return policy.text(self.other) if isinstance(self.other, str) else policy.value(self.other)


def read(response: Any, held: Mapping[Any, Any] | None = None) -> Whole:
    """Return what a response of any kind says; a kind that is not known is kept as it is.

    ``held`` are its entries, where somebody has them.
    """
    plain = plain_text(response if held is None else held)
    return read_in_full(response) if plain is None else Whole([], None, SUCCESS, plain)


def read_in_full(response: Any) -> Whole:
    """Do as `read`, and take its choices apart in any case."""
    entry = Taken(response)
    found = _conversation(response, entry)
    error = error_of(entry.take("error")) or error_of(_failure(response))
    if found is None:
        status = get(response, "status")
        verdict = of_status(word(status)) if isinstance(status, str) else SUCCESS
        choices: list[Choice] = []
        other = read_other(response, entry)
    else:
        choices, verdict, echoes = found
        other = None
        choices[0].rest(entry.rest(echoes))
    if error is None and verdict.status == "failure":
        error = error_of(get(response, "last_error")) or error_of(get(response, "errors"))
    if error is not None:
        verdict = Verdict("failure", *error)
    return Whole(choices, other, verdict)


def _failure(response: Any) -> Any:
    """Return an error that an answer consists of: ``{"type": "error", "message": …}``."""
    return response if isinstance(response, Mapping) and response.get("type") == "error" else None


def _conversation(
    response: Any, entry: Taken
) -> tuple[list[Choice], Verdict, frozenset[str]] | None:
    """Read an answer in the wire format that it has, or return ``None``."""
    held = fields(response)
    choices = held.get("choices")
    if isinstance(choices, list | tuple):
        entry.take("choices")
        read_choices = [chat.read_choice(item) for item in choices] or [_absent("choices")]
        chat.read_top(read_choices[0], entry)
        return read_choices, _verdict_of(read_choices), chat.ECHOES
    if any(not is_void(held.get(name)) for name in gemini.MARKS) or held.get("candidates") == []:
        return _gemini(response, entry)
    if isinstance(held.get("output"), list | tuple) or held.get("object") == "response":
        found, verdict = responses.read_response(entry)
        return found, verdict, responses.ECHOES
    if isinstance(held.get("content"), list | tuple) and ("role" in held or "stop_reason" in held):
        found = messages.read_message(entry)
        if not held["content"] and not found[0].finish:
            found[0].absent = "content"
        return found, _verdict_of(found), messages.ECHOES
    if held.get("object") == "interaction" or isinstance(held.get("steps"), list):
        found, verdict = responses.read_interaction(entry)
        return found, verdict, responses.ECHOES
    return None


def _gemini(response: Any, entry: Taken) -> tuple[list[Choice], Verdict, frozenset[str]]:
    entry.left = Taken(response, snaked=True).left
    choices = [gemini.read_candidate(item) for item in entry.items("candidates")]
    choices = choices or [_absent("candidates")]
    gemini.read_prompt_feedback(choices[0], entry.take("prompt_feedback"))
    return choices, _verdict_of(choices), gemini.ECHOES


def _absent(name: str) -> Choice:
    """Return what an answer says whose list of choices is empty."""
    choice = Choice()
    choice.absent = name
    return choice


def _verdict_of(choices: list[Choice]) -> Verdict:
    """Return how they ended; an answer without any is none, and nobody has said why."""
    verdict = verdict_of(choices)
    if choices[0].absent and verdict.status == "success":
        return Verdict("partial", ended=f"no {choices[0].absent}")
    return verdict

"""Asking: whether a question that somebody kept is the one that a capsule holds the hash of.

Hashed anew is what was kept, as it is; how stands in docs/hashes.md. Nothing is made equal that is not. Where
it can be read in more than one way (a file of text as the prompt itself, or as the one message of a user), the
way that fits is told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from capsule_sdk.calls.hashing import as_redacted, prompt_hash, set_in
from capsule_sdk.calls.parts import PROMPTS, Parts
from capsule_sdk.calls.prompts import roles_of
from capsule_sdk.calls.question import REDACTED, hashes_of
from capsule_sdk.content import ContentPolicy
from capsule_sdk.errors import EvidenceError

from .formats.entries import section

__all__ = ["Answer", "compare", "read_question"]

#: Arguments that say where a request goes and how, in any SDK: they are part of no question.
_BESIDE: Final = frozenset(
    {
        "api_base", "api_key", "api_version", "base_url", "client", "custom_llm_provider", "extra_headers",
        "fallbacks", "headers", "max_retries", "metadata", "num_retries", "organization", "stream",
        "stream_options", "timeout", "user",
    }
)  # fmt: skip
_NOT_TOLD: Final = (
    "the capsule has hashes of what configure(redact=...) left: name that function with --redact, or"
    " give the texts as it left them"
)
_MARKED = ("[cut", "[redact", "[secret", "[omitted", "sha3-256:")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a comparison.

    Attributes:
        same: whether it is what was hashed; ``None`` where that cannot be told.
        compared: what was compared, in words: the messages, or the whole request.
        differences: what differs, in sentences, as far as that can be told.
        notes: what else has to be known, in sentences.

    """

    same: bool | None
    compared: str
    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way to read what was kept: the request, what its prompt is, and what is to be said of it."""

    request: Mapping[str, Any]
    whole: bool
    words: str
    note: str | None = None


def read_question(text: str) -> list[_Reading]:
    """Return the ways in which a file can be read, the likeliest first.

    A list is the messages, an object that has a prompt is a request, everything else is a prompt of text.

    Raises:
        EvidenceError: it is JSON in which a name stands twice, or holds nothing.

    """
    if not text.strip():
        raise EvidenceError("the file holds nothing: give the messages, the request, or the prompt")
    readings = []
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except EvidenceError:
        raise
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list):
        readings.append(_Reading({"messages": value}, whole=False, words="the messages"))
    elif isinstance(value, dict) and any(value.get(name) is not None for name in PROMPTS):
        whole = isinstance(value.get("model"), str)
        note = None if whole else "the file names no model: the prompt alone was compared"
        readings.append(_Reading(value, whole, "the request" if whole else "the prompt", note))
    elif isinstance(value, str):
        readings += _of_text(value)
    as_sent = [_as_sent(one) for one in readings]
    return [*readings, *(one for one in as_sent if one is not None), *_of_text(text)]


def _as_sent(reading: _Reading) -> _Reading | None:
    """Return a reading without what nobody has set of messages; ``None`` where that is the same.

    A message that is an object of a client library is kept with nulls, which it is not sent, nor hashed, with.
    """
    name = next((name for name in PROMPTS if isinstance(reading.request.get(name), list)), None)
    if name is None:
        return None
    kept = reading.request[name]
    sent = [set_in(message) for message in kept]
    if sent == kept:
        return None
    note = "it fits without what is null in its messages"
    return replace(reading, request={**reading.request, name: sent}, note=reading.note or note)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise EvidenceError(f"the file names {twice!r} twice in one object: only one can be meant")
    return found


def _of_text(text: str) -> Iterator[_Reading]:
    for content, note in (
        (text, ""),
        (text.removesuffix("\n"), "without the line break at its end"),
    ):
        if note and content == text:
            return
        message = [{"role": "user", "content": content}]
        alone = "the file was taken as the one message of a user"
        yield _Reading({"prompt": content}, False, "the text", f"it fits {note}" if note else None)
        yield _Reading(
            {"messages": message}, False, "the message", f"{alone}, {note}" if note else alone
        )


def compare(
    record: Mapping[str, Any],
    readings: list[_Reading],
    redact: Callable[[str], str] | None = None,
) -> Answer:
    """Say whether one of these readings is what a capsule holds the hash of.

    Args:
        record: the capsule.
        readings: of what was kept.
        redact: the function that the program had; called where the capsule says that it hashed what that left.

    Raises:
        EvidenceError: the capsule is none of a call to a model.

    """
    sealed = _Sealed(record, redact)
    answer = _compared(sealed, readings)
    if answer.same is False and sealed.redacted and redact is None:
        return Answer(None, answer.compared, notes=(*answer.notes, _NOT_TOLD))
    return answer


def _compared(sealed: _Sealed, readings: list[_Reading]) -> Answer:
    if sealed.prompt_hash is None:
        why = (
            'the capsule holds no hash of its prompt: content="omit" leaves it out, and so does a call that'
            " is not to be logged"
        )
        return Answer(None, readings[0].words, notes=(why,))
    fitting = [one for one in readings if _prompt_hash_of(one, sealed) == sealed.prompt_hash]
    if not fitting:
        return _different(sealed, readings[0])
    best = fitting[0]
    notes = (best.note,) if best.note else ()
    if not best.whole:
        return Answer(True, best.words, notes=notes)
    return _of_request(sealed, best)


class _Sealed:
    """What a capsule tells of its question."""

    def __init__(
        self, record: Mapping[str, Any], redact: Callable[[str], str] | None = None
    ) -> None:
        calls = section(record, "execution").get("tool_calls")
        call = calls[0] if isinstance(calls, list) and calls else {}
        self.arguments = section(call if isinstance(call, Mapping) else {}, "arguments")
        self.redacted = self.arguments.get("hashed") == REDACTED
        self.policy = ContentPolicy(redact=redact if self.redacted else None)
        reasoning = section(record, "reasoning")
        self.prompt_hash = _text(reasoning.get("prompt_hash"))
        self.request_hash = _text(self.arguments.get("request_hash"))
        self.model = self.arguments.get("model", reasoning.get("model"))
        if reasoning.get("model") in (None, "") and "message_count" not in self.arguments:
            raise EvidenceError("that capsule is not of a call to a model: it holds no prompt")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _parts(
    request: Mapping[str, Any],
    sealed: _Sealed,
    leaving_out: Callable[[str], bool] = lambda _: False,
) -> Parts:
    return Parts(request, beside=leaving_out, hashing=True, is_chat=True, policy=sealed.policy)


def _prompt_hash_of(reading: _Reading, sealed: _Sealed) -> str:
    return prompt_hash(as_redacted(_parts(reading.request, sealed).prompt, sealed.policy))


def _of_request(sealed: _Sealed, reading: _Reading) -> Answer:
    """Compare all of a request whose prompt fits."""
    asked = section(sealed.arguments, "parameters")
    left_out = [
        name
        for name in reading.request
        if name in _BESIDE and name not in asked and name != "model"
    ]
    notes = []
    if left_out:
        notes.append(f"part of no question, and not compared: {', '.join(sorted(left_out))}")
    if sealed.request_hash is None:
        notes.append(
            "the messages are the same; the capsule holds no hash over the rest, as those sealed before"
            " capsuled had one"
        )
        return Answer(None, reading.words, notes=tuple(notes))
    model = reading.request["model"]
    compared = {*reading.request} - {*left_out}
    if _request_hash(reading.request, model, compared, sealed) == sealed.request_hash:
        return Answer(True, reading.words, notes=tuple(notes))
    parts = _parts(reading.request, sealed, left_out.__contains__)
    told = list(_differences(sealed, parts, reading.request))
    if not told:
        told = ["something beside the messages differs that the capsule does not name"]
    elif _request_hash(reading.request, model, {*asked}, sealed) == sealed.request_hash:
        notes.append("all that the capsule names is the same")
    return Answer(False, reading.words, tuple(told), tuple(notes))


def _request_hash(
    request: Mapping[str, Any], model: str, parameters: set[str], sealed: _Sealed
) -> str:
    redact = sealed.policy.redact
    return hashes_of(request, model=model, parameters=parameters, redact=redact)[1]


def _different(sealed: _Sealed, reading: _Reading) -> Answer:
    parts = _parts(reading.request, sealed, _BESIDE.__contains__)
    told = list(_in_messages(sealed, parts))
    if reading.whole:
        told += _differences(sealed, parts, reading.request)
    return Answer(False, reading.words, tuple(told))


def _in_messages(sealed: _Sealed, parts: Parts) -> Iterator[str]:
    count = sealed.arguments.get("message_count")
    kept = len(parts.messages)
    if isinstance(count, int) and count != kept:
        yield f"the capsule has {count} message{'' if count == 1 else 's'}, the file {kept}"
    sealed_roles = sealed.arguments.get("roles")
    roles = roles_of(parts.prompt, before=["system"] * len(parts.system))
    if isinstance(sealed_roles, list) and isinstance(roles, list) and sealed_roles != roles:
        place = next(
            (
                at
                for at, pair in enumerate(zip(sealed_roles, roles, strict=False))
                if pair[0] != pair[1]
            ),
            min(len(sealed_roles), len(roles)),
        )
        ours, theirs = (
            each[place] if place < len(each) else "nothing" for each in (sealed_roles, roles)
        )
        yield f"message {place + 1} is of {ours!r} in the capsule, of {theirs!r} in the file"
    elif count == kept:
        yield "number and roles of the messages are the same: what one of them holds differs"
    continued = section(sealed.arguments, "continues")
    start = continued.get("message_count")
    if isinstance(start, int) and 0 < start <= kept and isinstance(parts.prompt, list):
        beginning = as_redacted(parts.prompt[:start], sealed.policy)
        same = prompt_hash(beginning) == continued.get("hash")
        words = "are the same" if same else "differ already"
        yield f"the first {start} messages, which capsule {continued.get('capsule_id')} holds, {words}"


def _differences(sealed: _Sealed, parts: Parts, request: Mapping[str, Any]) -> Iterator[str]:
    """Say what differs beside the messages."""
    if request.get("model") != sealed.model:
        yield f"the model is {sealed.model!r} in the capsule, {request.get('model')!r} in the file"
    tools = section(sealed.arguments, "tools")
    offered = as_redacted(parts.tools, sealed.policy)
    if (digest := prompt_hash(offered) if parts.tools else None) != tools.get("digest"):
        yield "the tools offered are others: " + (
            "the file has none" if digest is None
            else "the capsule has none" if not tools
            else "their definitions have another digest"
        )  # fmt: skip
    ours, theirs = section(sealed.arguments, "parameters"), sealed.policy.value(parts.parameters)
    assert isinstance(theirs, dict)  # noqa: S101 - of a mapping
    for name in sorted({*ours, *theirs}):
        if name not in theirs:
            yield f"the file has no {name!r}"
        elif name not in ours:
            yield f"the capsule has no {name!r}"
        elif ours[name] != theirs[name]:
            yield f"{name!r} is another" + (
                ", or was not sealed as it was"
                if any(mark in str(ours[name]) for mark in _MARKED[:-1])
                else ""
            )

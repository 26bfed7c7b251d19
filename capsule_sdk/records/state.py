"""State: what is known of a record as JSON, and the record again from it. Pure.

This is what a journal says of a record, so that a process that comes later makes the same capsule of it as
the one that began it would have made. What has passed the content policy is written; nothing else is: a record
holds nothing else, but for the models that were tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from ..content import ContentPolicy
from .attribution import NOBODY, Attribution
from .authority import Authority
from .call import Answer, LLMCall, Request
from .labels import labelled
from .record import Record
from .task import Task
from .totals import Totals

__all__ = ["beginning", "ending", "missing", "note", "restored", "state"]

_NAMES = ("agent_id", "domain", "session_id", "user_id", "correlation_id", "tenant_id")
_LISTS = ("options", "tool_calls", "side_effects")
_MAPPINGS = ("reasoning", "metrics")
_TEXTS = ("summary", "blocked")
_SUMS = ("llm_calls", "tokens_in", "tokens_out", "usage_unknown", "cost_unknown", "latency_ms")
#: Characters of a tenant's id that are kept of a record of which nothing else is; a store takes no more.
_TENANT = 36
_POLICY = ContentPolicy()


def beginning(record: Record) -> dict[str, Any]:
    """Return what is known of a record when it starts."""
    document: dict[str, Any] = {
        "id": record.id.hex,
        "t": record.started,
        "type": record.capsule_type,
    }
    if record.parent_id is not None:
        document["parent"] = record.parent_id.hex
        if not record.counted:
            document["counted"] = False
    if record.attribution is not NOBODY:
        document["for"] = _attribution(record.attribution)
    if isinstance(record, Task):
        document["task"] = record.name
        document["request"] = record.request
        if record.arguments:
            document["arguments"] = record.arguments
    elif isinstance(record, LLMCall):
        request = record.request
        document["call"] = request.call_type
        document["model"] = request.model
        document["request"] = request.text
        document["prompt_hash"] = request.prompt_hash
        document["messages"] = request.message_count
        document["facts"] = request.environment
        if request.arguments:
            document["asked"] = request.arguments
    return document


def ending(record: Record) -> dict[str, Any]:
    """Return what has become known of a record by its end."""
    document: dict[str, Any] = {
        "id": record.id.hex,
        "status": record.status,
        "ms": record.duration_ms,
    }
    if record.ended is not None:
        document["ended"] = record.ended
    if record.error is not None:
        document["error"] = record.error
    if isinstance(record, Task):
        if record.result is not None:
            document["result"] = record.result
        _put_content(record, document)
    elif isinstance(record, LLMCall):
        answer = record.answer
        document["answer"] = [answer.result, answer.tokens_in, answer.tokens_out]
        if answer.cost_usd is not None:
            document["cost"] = str(answer.cost_usd)
        document["answered"] = answer.environment
        if further := _further_tokens(answer):
            document["tokens"] = further
        document["attempts"] = [labelled(model) for model in record.attempts]
    return document


def _further_tokens(answer: Answer) -> dict[str, Any]:
    found = {
        "estimated": answer.tokens_estimated,
        "cached": answer.tokens_cached,
        "reasoning": answer.tokens_reasoning,
    }
    return {name: value for name, value in found.items() if value is not None}


def missing(record: Record) -> dict[str, Any]:
    """Return what names a record of which nothing else could be written, or not how it ended; it is short."""
    document: dict[str, Any] = {"id": record.id.hex}
    if record.parent_id is not None and record.counted:
        document["parent"] = record.parent_id.hex
    tenant = record.attribution.tenant_id
    if isinstance(tenant, str) and len(tenant) <= _TENANT:
        document["tenant"] = tenant
    if record.closed:
        document["ended"] = True
    return document


def note(task: Task, field: str) -> dict[str, Any]:
    """Return what was last written to a field of an open task; read twice, it adds nothing."""
    value: Any = getattr(task, field)
    document: dict[str, Any] = {"id": task.id.hex}
    if field in _LISTS:
        document["at"], value = len(value) - 1, value[-1]
    document[field] = value
    return document


def state(record: Record) -> dict[str, Any]:
    """Return all that is known of a record by now: of a task also what its children have come to."""
    document = beginning(record)
    if isinstance(record, Task):
        _put_content(record, document)
        document["children"] = "".join(child.hex for child in record.children())
        document["open"] = record.open_children
        document["sums"] = [getattr(record.subtree, name) for name in _SUMS]
        document["sum"] = str(record.subtree.cost_usd)
    if record.closed and record.status != "pending":
        document |= ending(record)
    if record.placed:
        document["placed"] = True
    if record.parent is not None and record.parent.placed:
        above: Task | None = record.parent
        while above is not None and above.placed:
            above = above.parent
        document["above"] = above.id.hex if above is not None else None
    return document


def restored(
    begun: Mapping[str, Any], notes: Iterable[Mapping[str, Any]], ended: Mapping[str, Any] | None
) -> Record:
    """Return the record that ``begun`` and ``ended`` tell of, without its parent object.

    Raises:
        LookupError, TypeError, ValueError: they do not tell of one.

    """
    record = _begun(begun)
    record.id = UUID(hex=begun["id"])
    record.started = float(begun["t"])
    parent = begun.get("parent")
    record.parent_id = None if parent is None else UUID(hex=parent)
    record.counted = begun.get("counted", True)
    record.placed = bool(begun.get("placed"))
    if ended is None and "status" in begun:
        ended = begun
    if isinstance(record, Task):
        for said in (begun, *notes) if ended is None else (ended,):
            _take_content(record, said)
    if ended is not None:
        _end(record, ended)
    return record


def _begun(begun: Mapping[str, Any]) -> Record:
    common: dict[str, Any] = {
        "parent": None,
        "attribution": _attributed(begun.get("for", {})),
        "capsule_type": begun["type"],
        "policy": _POLICY,
    }
    if "task" in begun:
        task = Task(
            begun["task"],
            request=begun["request"],
            arguments=begun.get("arguments"),
            **common,
        )
        ids = begun.get("children", "")
        started = (UUID(hex=ids[start : start + 32]) for start in range(0, len(ids), 32))
        task.commit_to(started, begun.get("open", 0) if begun.get("placed") else 0)
        if "sums" in begun:
            sums = dict(zip(_SUMS, begun["sums"], strict=True))
            task.subtree = Totals(**sums, cost_usd=_decimal(begun["sum"]) or Decimal(0))
        return task
    request = Request(
        begun["call"],
        begun["model"],
        begun["request"],
        begun["prompt_hash"],
        begun["messages"],
        begun["facts"],
        begun.get("asked", {}),
    )
    return LLMCall(request, **common)


def _end(record: Record, ended: Mapping[str, Any]) -> None:
    record.closed = True
    record.status = ended["status"]
    record.duration_ms = ended["ms"]
    record.ended, record.error = ended.get("ended"), ended.get("error")
    if isinstance(record, Task):
        record.result = ended.get("result")
    elif isinstance(record, LLMCall):
        result, tokens_in, tokens_out = ended["answer"]
        cost = _decimal(ended.get("cost"))
        further = ended.get("tokens", {})
        estimated = further.get("estimated")
        record.answer = Answer(
            result,
            tokens_in,
            tokens_out,
            cost,
            ended["answered"],
            tokens_estimated=None if estimated is None else (estimated[0], estimated[1]),
            tokens_cached=further.get("cached"),
            tokens_reasoning=further.get("reasoning"),
        )
        record.attempts = ended["attempts"]


def _put_content(task: Task, document: dict[str, Any]) -> None:
    for name in (*_LISTS, *_MAPPINGS, *_TEXTS):
        if value := getattr(task, name):
            document[name] = value


def _take_content(task: Task, said: Mapping[str, Any]) -> None:
    for name in _LISTS:
        if name in said and "at" not in said:
            setattr(task, name, list(said[name]))
        elif name in said and said["at"] >= len(getattr(task, name)):
            getattr(task, name).append(said[name])
    for name in _MAPPINGS:
        if name in said:
            setattr(task, name, dict(said[name]))
    if "summary" in said:
        task.summary = said["summary"]
    if "blocked" in said:
        task.blocked = said["blocked"]


def _attribution(attribution: Attribution) -> dict[str, Any]:
    document: dict[str, Any] = {
        name: value for name in _NAMES if (value := getattr(attribution, name)) is not None
    }
    if attribution.environment:
        document["environment"] = dict(attribution.environment)
    if attribution.authority is not None:
        document["authority"] = attribution.authority.as_link()
    if attribution.overridden:
        document["overridden"] = [authority.as_link() for authority in attribution.overridden]
    return document


def _attributed(document: Mapping[str, Any]) -> Attribution:
    authority = document.get("authority")
    return Attribution(
        **{name: document.get(name) for name in _NAMES},
        environment=document.get("environment", {}),
        authority=None if authority is None else Authority(**authority),
        overridden=tuple(Authority(**link) for link in document.get("overridden", ())),
    )


def _decimal(text: str | None) -> Decimal | None:
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a sum of money") from error

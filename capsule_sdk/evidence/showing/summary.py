"""Summaries: what one record says of itself, in fields that are easy to list, sum up and show. Pure.

Records were partly written by users and models, or by an attacker: whatever a field should hold and does not
is ``None`` here, and nothing raises. The texts are those of the record; who shows them cleans them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from ..formats.entries import moment, section

__all__ = ["FIELDS", "Summary", "as_json", "row", "summary_of"]

_MOST: Final = 2**63  # what databases count to; larger numbers are no figures but attacks
_DIGITS: Final = 30  # before and behind the point of an amount that can be added up exactly


class Summary(NamedTuple):
    """What one record says of itself; ``None`` where it says nothing that can be used.

    Attributes:
        sequence: its number in the chain.
        id: its id.
        parent_id: the task that it belongs to.
        started: when it began, UTC.
        status: how it ended: success, failure, blocked, partial, …
        type: the CPS type of the capsule: agent, chat, tool, …
        name: what was called: the name of the task, or ``litellm.<call type>``.
        llm_call: whether it is one call of a model, and not a task that sums calls up.
        model: the model that was asked.
        agent: ``context.agent_id``.
        domain: ``domain``.
        session: ``context.session_id``.
        user: ``trigger.user_id``.
        authority: under whose authority it was done: autonomous, human_approved, policy, escalated.
        approver: who approved it.
        policy_reference: the policy that allowed it.
        escalation_reason: why it was escalated.
        duration_ms: how long it took, in milliseconds.
        tokens_in: tokens of the prompt; of a task, those of all calls under it.
        tokens_out: tokens of the answer; of a task, those of all calls under it.
        cost: US dollars, exactly as they were sealed; of a task, of all calls under it.
        children_started: how many records it says were started directly under it.
        request: what was asked for.
        summary: what it says of its outcome in a few words.
        error: what went wrong.
        signed_at: when it was sealed, UTC.
        usage_unknown: of a task, how many calls under it did not tell all tokens, so that a sum lacks them.
        cost_unknown: of a task, how many calls under it have no known cost.
        estimated_in: tokens of the prompt as somebody has guessed them, where the provider told none.
        estimated_out: tokens of the answer, likewise.

    """

    sequence: int | None = None
    id: str | None = None
    parent_id: str | None = None
    started: datetime | None = None
    status: str | None = None
    type: str | None = None
    name: str | None = None
    llm_call: bool = False
    model: str | None = None
    agent: str | None = None
    domain: str | None = None
    session: str | None = None
    user: str | None = None
    authority: str | None = None
    approver: str | None = None
    policy_reference: str | None = None
    escalation_reason: str | None = None
    duration_ms: int | float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: Decimal | None = None
    children_started: int | None = None
    request: str | None = None
    summary: str | None = None
    error: str | None = None
    signed_at: datetime | None = None
    usage_unknown: int | None = None
    cost_unknown: int | None = None
    estimated_in: int | None = None
    estimated_out: int | None = None


#: The names of the fields, in the order in which `row` has them.
FIELDS: Final = Summary._fields


def summary_of(record: object) -> Summary:
    """Return what a record says of itself.

    Args:
        record: content and seal in one object, as `Entry.record` gives it; anything else says nothing.

    """
    if not isinstance(record, Mapping):
        return Summary()
    trigger, context, reasoning, authority, execution, outcome = (
        section(record, name)
        for name in ("trigger", "context", "reasoning", "authority", "execution", "outcome")
    )
    metrics, resources = section(outcome, "metrics"), section(execution, "resources_used")
    estimate = section(metrics, "tokens_estimated")
    name, call = _call(trigger, reasoning, execution, metrics)
    asks_model = section(context, "environment").get("asks_model") is not False
    return Summary(
        sequence=_count(record.get("sequence")),
        id=_text(record.get("id")),
        parent_id=_text(record.get("parent_id")),
        started=_moment(trigger.get("timestamp")),
        status=_text(outcome.get("status")),
        type=_text(record.get("type")),
        name=name,
        llm_call=call and asks_model,
        model=_text(reasoning.get("model")),
        agent=_text(context.get("agent_id")),
        domain=_text(record.get("domain")),
        session=_text(context.get("session_id")),
        user=_text(trigger.get("user_id")),
        authority=_text(authority.get("type")),
        approver=_text(authority.get("approver")),
        policy_reference=_text(authority.get("policy_reference")),
        escalation_reason=_text(authority.get("escalation_reason")),
        duration_ms=_figure(execution.get("duration_ms")),
        tokens_in=_count(_either(metrics, resources, "tokens_in")),
        tokens_out=_count(_either(metrics, resources, "tokens_out")),
        cost=_amount(_either(metrics, resources, "cost_usd", "cost")),
        children_started=_count(section(metrics, "children").get("started")),
        request=_text(trigger.get("request")),
        summary=_text(outcome.get("summary")),
        error=_text(outcome.get("error")),
        signed_at=_moment(record.get("signed_at")),
        usage_unknown=_count(metrics.get("usage_unknown")),
        cost_unknown=_count(metrics.get("cost_unknown")),
        estimated_in=_count(estimate.get("tokens_in")),
        estimated_out=_count(estimate.get("tokens_out")),
    )


def as_json(summary: Summary) -> dict[str, Any]:
    """Return the fields as values of JSON: amounts as decimal strings, times as ISO 8601 has them."""
    return {
        name: _written(value) if isinstance(value, datetime | Decimal) else value
        for name, value in zip(FIELDS, summary, strict=True)
    }


def row(summary: Summary) -> tuple[str, ...]:
    """Return the fields as texts, in the order of `FIELDS`; what is unknown is empty."""
    return tuple(map(_written, summary))


def _written(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _call(
    trigger: Mapping[str, Any],
    reasoning: Mapping[str, Any],
    execution: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> tuple[str | None, bool]:
    """Return what was called, and whether that is a model's provider.

    A task counts its children, whatever it is called; a call names a model and has none.
    """
    source = _text(trigger.get("source"))
    if isinstance(metrics.get("children"), Mapping):
        return source, False
    calls = execution.get("tool_calls")
    first = calls[0] if isinstance(calls, list) and calls else None
    tool = _text(first.get("tool")) if isinstance(first, Mapping) else None
    if source == "litellm" or (source is None and tool is not None and tool.startswith("litellm.")):
        return tool or source, True
    return source, _text(reasoning.get("model")) is not None


def _either(metrics: Mapping[str, Any], resources: Mapping[str, Any], *names: str) -> object:
    """Return what the outcome or, for want of it, the execution says under one of the names."""
    found = (place.get(name) for place in (metrics, resources) for name in names)
    return next((value for value in found if value is not None), None)


def _text(value: object) -> str | None:
    """Return a text, or a number as one; half a surrogate pair, which no file can hold, is replaced."""
    if isinstance(value, str):
        return (value if value.isascii() else value.encode("utf-8", "replace").decode()) or None
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(value) if abs(value) < _MOST else None


def _count(value: object) -> int | None:
    found = _figure(value)
    return found if isinstance(found, int) else None


def _figure(value: object) -> int | float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value < _MOST else None  # NaN is neither


def _amount(value: object) -> Decimal | None:
    """Return an amount of money; one that could not be added up exactly is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, int) and abs(value) >= _MOST:
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or amount.adjusted() >= _DIGITS or exponent < -_DIGITS:
        return None
    return amount


def _moment(value: object) -> datetime | None:
    try:
        return moment(value).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None

"""Task or LLM call -> unsealed capsule, complete but for its place in the chain (CPS 1).

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from qp_capsule import (
    AuthoritySection,
    Capsule,
    CapsuleType,
    ContextSection,
    ExecutionSection,
    OutcomeSection,
    ReasoningOption,
    ReasoningSection,
    ToolCall,
    TriggerSection,
)

from ..content import JSON, canonical, decimal_text, label, safe
from ..vocabulary import RECORDS_LOST
from .attribution import Attribution
from .call import Answer, LLMCall
from .labels import labelled
from .record import Record
from .task import Task, fraction
from .totals import Totals

__all__ = ["capsule_of", "capsule_or_stand_in", "loss", "missed", "stand_in", "stand_in_for"]

#: CPS's own defaults, for what nobody named.
DEFAULT_AGENT = "agent"
DEFAULT_DOMAIN = "agents"
#: Characters that qp-capsule's PostgreSQL columns hold.
DOMAIN_WIDTH, TENANT_WIDTH = 50, 36


def capsule_of(record: Record) -> Capsule:
    """Return the capsule of a settled record.

    The table of sections is CPS 1.1 to 1.6; what is unknown is ``null``, money a decimal string.
    """
    if isinstance(record, Task):
        return _capsule_of_task(record)
    if isinstance(record, LLMCall):
        return _capsule_of_call(record)
    raise TypeError(f"no capsule is defined for {type(record).__name__}")


def capsule_or_stand_in(record: Record) -> tuple[Capsule, Exception | None]:
    """Return the capsule of a settled record, or what takes its place, and why; one of them there always is."""
    try:
        return capsule_of(record), None
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not hold up the others
        reason = f"{type(error).__name__}: {error}"
        try:
            return stand_in(record, reason), error
        except Exception:  # noqa: BLE001 - its names, date or context are not to be had either
            return loss(1, reason, record.id), error


def stand_in(record: Record, reason: str) -> Capsule:
    """Return a capsule of type ``system`` that takes the id and place of one that cannot be made or stored.

    It carries nothing that a store might not take: names too long for their column are left out.
    """
    return _lost(
        reason,
        {RECORDS_LOST: 1, "status_of_lost": record.status},
        Capsule(
            id=record.id,
            parent_id=record.parent_id,
            domain=_domain(record.attribution),
            trigger=TriggerSection(timestamp=record.started_at),
            context=_context(record, {}),
        ),
    )


def stand_in_for(capsule: Capsule, reason: str) -> Capsule:
    """Do as `stand_in` for a capsule that is made but cannot be stored."""
    facts = {RECORDS_LOST: 1, "status_of_lost": capsule.outcome.status}
    return _lost(reason, facts, capsule)


def loss(count: int, reason: str, key: UUID | None = None) -> Capsule:
    """Return a capsule of type ``system`` that says how many records are lost without a trace of their own."""
    return _lost(reason, {RECORDS_LOST: count}, Capsule() if key is None else Capsule(id=key))


def missed(document: Mapping[str, Any], reason: str) -> Capsule:
    """Return what stands for a record of which only `capsule_sdk.records.state.missing` is known.

    Raises:
        LookupError, TypeError, ValueError: the document does not tell of one.

    """
    key = UUID(hex=document["id"])
    if "count" in document:
        return loss(int(document["count"]), reason, key)
    parent, tenant = document.get("parent"), document.get("tenant")
    context = ContextSection(environment={} if tenant is None else {"tenant_id": str(tenant)})
    above = None if parent is None else UUID(hex=parent)
    return _lost(reason, {RECORDS_LOST: 1}, Capsule(id=key, parent_id=above, context=context))


def _lost(reason: str, metrics: dict[str, Any], lost: Capsule) -> Capsule:
    count = metrics[RECORDS_LOST]
    environment = lost.context.environment
    tenant = _named(environment.get("tenant_id"))
    return Capsule(
        id=lost.id,
        type=CapsuleType.SYSTEM,
        domain=_fitting(lost.domain, DOMAIN_WIDTH) or DEFAULT_DOMAIN,
        parent_id=lost.parent_id,
        trigger=TriggerSection(
            type="system", source="capsule_sdk", timestamp=lost.trigger.timestamp, request="record"
        ),
        context=ContextSection(
            agent_id=lost.context.agent_id or DEFAULT_AGENT,
            environment={
                **({"tenant_id": tenant} if _fitting(tenant, TENANT_WIDTH) else {}),
                **(
                    {"counted_by_parent": False}
                    if environment.get("counted_by_parent") is False
                    else {}
                ),
            },
        ),
        outcome=OutcomeSection(
            status="failure",
            summary=f"{count} record{'s were' if count != 1 else ' was'} lost",
            error=label(reason, limit=2048),
            metrics=metrics,
        ),
    )


def _fitting(text: str | None, width: int) -> str | None:
    return text if text is not None and len(text) <= width else None


def _capsule_of_task(task: Task) -> Capsule:
    reasoning: dict[str, Any] = task.reasoning
    tools = [ToolCall(**call) for call in task.tool_calls]
    arguments = task.arguments if isinstance(task.arguments, dict) else {}
    facts = {"arguments": arguments} if arguments else {}
    if task.capsule_type == CapsuleType.TOOL:
        facts = {}
        tools.append(
            ToolCall(
                tool=task.name,
                arguments=arguments,
                result=task.result,
                success=task.status == "success",
                duration_ms=task.duration_ms,
                error=task.error,
            )
        )
    return Capsule(
        id=task.id,
        type=CapsuleType(task.capsule_type),
        domain=_domain(task.attribution),
        parent_id=task.parent_id,
        trigger=_trigger(task, source=task.name, request=task.request),
        context=_context(task, facts),
        reasoning=ReasoningSection(
            analysis=reasoning.get("analysis", ""),
            options=[_option(fields, index) for index, fields in enumerate(task.options)],
            selected_option=reasoning.get("selected_option", ""),
            reasoning=reasoning.get("reasoning", ""),
            confidence=reasoning.get("confidence", 0.0),
        ),
        authority=_authority(task.attribution),
        execution=ExecutionSection(
            tool_calls=tools,
            duration_ms=task.duration_ms,
            resources_used=_resources(task.subtree) if task.subtree.llm_calls else {},
        ),
        outcome=OutcomeSection(
            status=task.status,
            result=task.result,
            summary=task.summary or _summary_of_task(task),
            error=task.error,
            side_effects=list(task.side_effects),
            metrics={
                **task.metrics,
                **_metrics(task.subtree),
                "children": task.commitment(),
                **({"ended": task.ended} if task.ended else {}),
            },
        ),
    )


def _capsule_of_call(call: LLMCall) -> Capsule:
    request, answer = call.request, call.answer
    usage = {"tokens_in": safe(answer.tokens_in), "tokens_out": safe(answer.tokens_out)}
    cost = decimal_text(answer.cost_usd)
    model, call_type = request.model, request.call_type
    tried = _tried(call.attempts)
    routed = ", then to ".join(tried) if len(tried) > 1 else model
    last = labelled(call.attempts[-1]) if len(tried) > 1 else model
    return Capsule(
        id=call.id,
        type=CapsuleType(call.capsule_type),
        domain=_domain(call.attribution),
        parent_id=call.parent_id,
        trigger=_trigger(call, source="litellm", request=request.text),
        context=_context(
            call,
            {"model": model, "call_type": call_type}
            | request.environment
            | answer.environment
            | _attempts(call.attempts),
        ),
        reasoning=ReasoningSection(
            analysis=f"LLM {call_type} via LiteLLM",
            selected_option=call_type,
            reasoning=f"Routed to {routed}",
            model=model,
            prompt_hash=request.prompt_hash,
        ),
        authority=_authority(call.attribution),
        execution=ExecutionSection(
            tool_calls=[
                ToolCall(
                    tool=f"litellm.{call_type}",
                    arguments={
                        "model": model,
                        "message_count": request.message_count,
                        **request.arguments,
                    },
                    result=answer.result,
                    success=call.status == "success",
                    duration_ms=call.duration_ms,
                    error=call.error,
                )
            ],
            duration_ms=call.duration_ms,
            resources_used={**usage, "cost": cost},
        ),
        outcome=OutcomeSection(
            status=call.status,
            result=answer.result,
            summary=f"{_VERBS.get(call.status, call.status)}: {last}",
            error=call.error,
            metrics={
                **usage,
                **_further_tokens(answer),
                "latency_ms": call.duration_ms,
                "cost_usd": cost,
                **({"ended": call.ended} if call.ended else {}),
            },
        ),
    )


def _further_tokens(answer: Answer) -> dict[str, Any]:
    """Return the tokens that are a part of those reported, and those that somebody has guessed."""
    found: dict[str, Any] = {
        "tokens_cached": safe(answer.tokens_cached),
        "tokens_reasoning": safe(answer.tokens_reasoning),
    }
    if answer.tokens_estimated is not None:
        tokens_in, tokens_out = map(safe, answer.tokens_estimated)
        found["tokens_estimated"] = {"tokens_in": tokens_in, "tokens_out": tokens_out}
    return {name: value for name, value in found.items() if value is not None}


_VERBS = {"success": "Completed", "failure": "Failed", "partial": "Cut short", "blocked": "Blocked"}


def _attempts(models: Sequence[str]) -> dict[str, Any]:
    """Return how often the request was sent, and to which models where there were several."""
    if not models:
        return {}
    tried = _tried(models)
    return {"attempts": len(models), **({"models_tried": tried} if len(tried) > 1 else {})}


def _tried(models: Sequence[str]) -> list[str]:
    return [labelled(model) for model in dict.fromkeys(models)]


def _trigger(record: Record, *, source: str, request: str) -> TriggerSection:
    return TriggerSection(
        type="user_request" if record.parent_id is None else "agent",
        source=source,
        timestamp=record.started_at,
        request=request,
        correlation_id=record.attribution.correlation_id,
        user_id=record.attribution.user_id,
    )


def _context(record: Record, facts: dict[str, Any]) -> ContextSection:
    attribution = record.attribution
    environment = {**attribution.environment, **facts}
    if not record.counted and record.parent_id is not None:
        environment["counted_by_parent"] = False
    if attribution.tenant_id is not None:
        environment["tenant_id"] = attribution.tenant_id
    return ContextSection(
        agent_id=attribution.agent_id or DEFAULT_AGENT,
        session_id=attribution.session_id,
        environment=environment,
    )


def _authority(attribution: Attribution) -> AuthoritySection:
    authority = attribution.authority
    if authority is None:
        return AuthoritySection()
    return AuthoritySection(
        type=authority.type,
        approver=authority.approver,
        policy_reference=authority.policy_reference,
        chain=[link.as_link() for link in attribution.overridden],
        escalation_reason=authority.escalation_reason,
    )


def _domain(attribution: Attribution) -> str:
    return attribution.domain or DEFAULT_DOMAIN


def _named(value: object) -> str | None:
    return None if value is None else label(value)


def _option(fields: dict[str, Any], index: int) -> ReasoningOption:
    """Return a CPS option; a field of the wrong shape is kept as text rather than refused."""
    impact = fields.get("estimated_impact")
    return ReasoningOption(
        id=_text(fields.get("id")) or f"opt_{index}",
        description=_text(fields.get("description")),
        pros=_texts(fields.get("pros")),
        cons=_texts(fields.get("cons")),
        risks=_texts(fields.get("risks")),
        rejection_reason=_text(fields.get("rejection_reason")),
        estimated_impact=impact if isinstance(impact, dict) else {},
        feasibility=fraction(fields.get("feasibility")),
        selected=bool(fields.get("selected")),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else canonical(value)


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [] if value is None else [value]
    return [_text(item) for item in items]


def _summary_of_task(task: Task) -> str:
    calls = task.subtree.llm_calls
    return f"{_VERBS.get(task.status, task.status)}: {task.name}" + (
        f" ({calls} LLM call{'s' if calls != 1 else ''})" if calls else ""
    )


def _known(total: int, unknown: int, calls: int) -> JSON:
    """Return a sum, or nothing where no call that it would be made of is known."""
    return None if calls and unknown == calls and not total else safe(total)


def _resources(totals: Totals) -> dict[str, Any]:
    calls = totals.llm_calls
    return {
        "tokens_in": _known(totals.tokens_in, totals.usage_unknown, calls),
        "tokens_out": _known(totals.tokens_out, totals.usage_unknown, calls),
        "cost": None if calls and totals.cost_unknown == calls else decimal_text(totals.cost_usd),
    }


def _metrics(totals: Totals) -> dict[str, Any]:
    resources = _resources(totals)
    metrics = {
        "llm_calls": totals.llm_calls,
        "tokens_in": resources["tokens_in"],
        "tokens_out": resources["tokens_out"],
        "cost_usd": resources["cost"],
        "latency_ms": totals.latency_ms,
    }
    if totals.usage_unknown:
        metrics["usage_unknown"] = totals.usage_unknown
    if totals.cost_unknown:
        metrics["cost_unknown"] = totals.cost_unknown
    return metrics

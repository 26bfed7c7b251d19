"""The record that is measured: six sections, 150 characters asked, 300 answered, one tool."""

from __future__ import annotations

from qp_capsule import (
    Capsule,
    CapsuleType,
    ExecutionSection,
    OutcomeSection,
    ToolCall,
    TriggerSection,
)


def full_capsule() -> Capsule:
    """Return a new one."""
    return Capsule(
        type=CapsuleType.CHAT,
        trigger=TriggerSection(source="bench", request="x" * 150),
        execution=ExecutionSection(tool_calls=[ToolCall(tool="t", result="y" * 300, success=True)]),
        outcome=OutcomeSection(status="success", result="y" * 300),
    )

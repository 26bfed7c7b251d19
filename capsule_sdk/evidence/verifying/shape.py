"""The shape of a record: whether a document is a capsule, as CPS 1 and qp-capsule have it. Pure.

A document that a reader's model would show otherwise than it is stored is not a capsule, as in qp-capsule
(CPS 3.5, rule 3): nobody shall see something else than was sealed.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from ..formats.entries import UUID

__all__ = ["is_hash", "misfit"]

_HEX_64: Final = re.compile(r"[0-9a-f]{64}")
#: A time as `datetime.isoformat` spells it, in UTC; whether there is such a day is another matter.
_UTC: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.(?!000000)\d{6})?\+00:00", re.ASCII)
_SECTIONS: Final = {
    "trigger": {"type", "source", "timestamp", "request", "correlation_id", "user_id"},
    "context": {"agent_id", "session_id", "environment"},
    "reasoning": {
        "analysis", "options", "options_considered", "selected_option", "reasoning", "confidence",
        "model", "prompt_hash",
    },
    "authority": {"type", "approver", "policy_reference", "chain", "escalation_reason"},
    "execution": {"tool_calls", "duration_ms", "resources_used"},
    "outcome": {"status", "result", "summary", "error", "side_effects", "metrics"},
}  # fmt: skip
_TOP: Final = {
    "id", "type", "domain", "parent_id", "sequence", "previous_hash", "spec_version", *_SECTIONS,
}  # fmt: skip
_TYPES: Final = {"agent", "tool", "system", "kill", "workflow", "chat", "vault", "auth"}
_TOOL_CALL: Final = {"tool", "arguments", "result", "success", "duration_ms", "error"}


def misfit(document: dict[str, Any]) -> str | None:
    """Say why this is not a capsule; ``None`` where it is one.

    What every writer of today writes is known by its shape. Whatever else, older or stranger, is left to
    qp-capsule's own rules.
    """
    try:
        if _has_the_usual_shape(document):
            return None
    except (AttributeError, LookupError, TypeError, ValueError):
        pass  # some part of it is of another kind than the shape has there
    return _judged_by_qp_capsule(document)


def _has_the_usual_shape(document: dict[str, Any]) -> bool:
    if document.keys() != _TOP:
        return False
    for name, keys in _SECTIONS.items():
        if document[name].keys() != keys:
            return False
    trigger, execution = document["trigger"], document["execution"]
    sequence, previous = document["sequence"], document["previous_hash"]
    return (
        UUID.fullmatch(document["id"]) is not None
        and document["type"] in _TYPES
        and (document["parent_id"] is None or UUID.fullmatch(document["parent_id"]) is not None)
        and type(sequence) is int
        and (previous is None if sequence == 0 else sequence > 0 and is_hash(previous))
        and isinstance(document["domain"], str)
        and document["spec_version"] == "1.0"
        and isinstance(trigger["type"], str)
        and _UTC.fullmatch(trigger["timestamp"]) is not None
        and datetime.fromisoformat(trigger["timestamp"]) is not None  # or it raises
        and isinstance(document["context"]["environment"], dict)
        and _is_reasoning(document["reasoning"])
        and type(execution["duration_ms"]) is int
        and isinstance(execution["resources_used"], dict)
        and isinstance(execution["tool_calls"], list)
        and all(call.keys() == _TOOL_CALL for call in execution["tool_calls"])
    )


def _is_reasoning(reasoning: dict[str, Any]) -> bool:
    confidence = reasoning["confidence"]
    return (
        type(confidence) in {int, float}
        and 0 <= confidence <= 1
        and reasoning["options"] == []
        and reasoning["options_considered"] == []
    )


def is_hash(value: object) -> bool:
    """Tell whether it is 32 bytes in hexadecimal, in lower case."""
    return isinstance(value, str) and _HEX_64.fullmatch(value) is not None


def _judged_by_qp_capsule(document: dict[str, Any]) -> str | None:
    from qp_capsule import Capsule, validate_capsule_dict  # noqa: PLC0415 - seldom needed, and large
    from qp_capsule.capsule import (  # noqa: PLC0415
        ADDED_CONTENT_DEFAULTS,
        attach_stored_document,
        content_for_hash,
    )

    try:
        verdict = validate_capsule_dict({**ADDED_CONTENT_DEFAULTS, **document})
        if not verdict.ok:
            return f"{verdict.category}: {verdict.message}"
        capsule = attach_stored_document(Capsule.from_dict(document), document)
        if content_for_hash(capsule) is None:
            return "a section has fields that the protocol does not know, or lacks some"
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        return f"{type(error).__name__}: {error}"
    return None

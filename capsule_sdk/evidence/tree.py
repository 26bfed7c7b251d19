"""Tree: capsules as a person reads them, each under the task that made it. Pure: data in, text out.

What a chain holds was partly written by users and models, and is shown on a terminal: characters
that are not printable MUST NOT reach it. Malformed records are shown as such, never raised about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

__all__ = ["render_tree"]

_MARKS = {"success": "✓", "failure": "✗", "blocked": "⊘", "partial": "◐", "pending": "…"}
_DEEPEST_INDENT = 20
_NARROWEST = 40  # columns that a line keeps for its content however deep it stands


def render_tree(capsules: Iterable[Mapping[str, Any]], *, width: int = 100) -> str:
    """Return the capsules as lines of text, children under parents, in the order they started.

    Args:
        capsules: sealed or unsealed records, in any order.
        width: columns that a line may take.

    Returns:
        One line for each record, none lost: those whose parent is not among them stand at the
        root with a note, and so does one of each circle.

    """
    nodes = [_node(record, index) for index, record in enumerate(capsules)]
    by_id: dict[str, _Node] = {}
    for node in nodes:
        by_id.setdefault(node.id, node)
    roots = []
    for node in nodes:
        parent = by_id.get(node.parent_id) if node.parent_id else None
        if parent is not None:
            parent.children.append(node)
        else:
            if node.parent_id:
                node.notes.append(f"under {node.parent_id[:8]}, not shown here")
            roots.append(node)
    for node in nodes:
        node.children.sort(key=_order)
        if node.started_children > len(node.children):
            node.notes.append(f"{len(node.children)} of {node.started_children} children shown")
    lines: list[str] = []
    for node in sorted(roots, key=_order):
        _draw(node, lines, width)
    for node in sorted(nodes, key=_order):
        if not node.drawn:
            node.notes.append("its parents form a circle")
            _draw(node, lines, width)
    return "\n".join(lines)


@dataclass(slots=True, eq=False)
class _Node:
    index: int
    id: str
    parent_id: str
    started: float
    text: str
    started_children: int = 0
    notes: list[str] = field(default_factory=list)
    children: list[_Node] = field(default_factory=list)
    drawn: bool = False


def _order(node: _Node) -> tuple[float, int]:
    return node.started, node.index


def _draw(root: _Node, lines: list[str], width: int) -> None:
    waiting = [(root, "", "", 0)]
    while waiting:
        node, branch, indent, depth = waiting.pop()
        if node.drawn:
            continue
        node.drawn = True
        notes = f"  ({'; '.join(node.notes)})" if node.notes else ""
        room = max(_NARROWEST, width - len(branch) - len(notes))
        lines.append(branch + _cut(node.text, room) + notes)
        last = len(node.children) - 1
        for place, child in reversed(list(enumerate(node.children))):
            if depth >= _DEEPEST_INDENT:
                waiting.append((child, branch, indent, depth))
            elif place == last:
                waiting.append((child, f"{indent}└─ ", f"{indent}   ", depth + 1))
            else:
                waiting.append((child, f"{indent}├─ ", f"{indent}│  ", depth + 1))


def _node(record: object, index: int) -> _Node:
    if not isinstance(record, Mapping):
        return _Node(index, f"#{index}", "", float("inf"), f"? record {index} is no capsule")
    outcome = _section(record, "outcome")
    children = _section(_section(outcome, "metrics"), "children").get("started")
    return _Node(
        index=index,
        id=_text(record.get("id")) or f"#{index}",
        parent_id=_text(record.get("parent_id")),
        started=_seconds(_section(record, "trigger").get("timestamp")),
        text="  ".join(part for part in _parts(record) if part),
        started_children=children if isinstance(children, int) else 0,
    )


def _parts(record: Mapping[str, Any]) -> Iterable[str]:
    outcome, execution = _section(record, "outcome"), _section(record, "execution")
    status = _text(outcome.get("status"))
    mark = _MARKS.get(status, "?")
    yield mark if status == "success" else f"{mark} {status or 'no status'}"
    yield _name(record)
    yield f"[{_text(record.get('type')) or 'no type'}]"
    yield _duration(execution.get("duration_ms"))
    figures = {**_section(execution, "resources_used"), **_section(outcome, "metrics")}
    yield _tokens(figures.get("tokens_in"), figures.get("tokens_out"))
    cost = _text(figures.get("cost_usd"))
    yield f"${cost}" if cost not in {"", "0"} else ""
    yield _authority(_section(record, "authority"))
    words = _text(_section(record, "trigger").get("request")) or _text(outcome.get("summary"))
    yield f'"{words}"' if words else ""


def _name(record: Mapping[str, Any]) -> str:
    """Return what was called: the model's entry point and the model, or the task's own name."""
    source = _text(_section(record, "trigger").get("source"))
    calls = _section(record, "execution").get("tool_calls")
    first = calls[0] if isinstance(calls, Sequence) and calls else None
    tool = _text(first.get("tool")) if isinstance(first, Mapping) else ""
    if source == "litellm" or (not source and tool.startswith("litellm.")):
        model = _text(_section(record, "reasoning").get("model"))
        return f"{tool or source} {model}".rstrip()
    return source or "(no name)"


def _authority(authority: Mapping[str, Any]) -> str:
    kind = _text(authority.get("type"))
    if kind in {"", "autonomous"}:
        return ""
    approver = _text(authority.get("approver"))
    reason = _text(authority.get("policy_reference")) or _text(authority.get("escalation_reason"))
    return f"{kind}{f' by {approver}' if approver else ''}{f' ({reason})' if reason else ''}"


def _duration(milliseconds: object) -> str:
    if not isinstance(milliseconds, int | float) or isinstance(milliseconds, bool):
        return ""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds / 60_000:.1f} min"


def _tokens(tokens_in: object, tokens_out: object) -> str:
    known = [_text(tokens) or "?" for tokens in (tokens_in, tokens_out)]
    return "" if set(known) <= {"?", "0"} else f"{known[0]}→{known[1]} tokens"


def _section(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def _seconds(timestamp: object) -> float:
    try:
        moment = datetime.fromisoformat(str(timestamp))
    except ValueError:
        return float("inf")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _text(value: object) -> str:
    """Return the value as one line without control characters, escape sequences and bidi marks."""
    if value is None or isinstance(value, Mapping | list):
        return ""
    printable = (char if char.isprintable() else " " for char in str(value)[:1000])
    return " ".join("".join(printable).split())


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"

"""Tree: every record under the task that made it, in the order they started. Pure: data in, lines out.

None is lost, whatever the records hold: what has no parent here stands at the root, and so does one of each
circle; both say so. A node keeps what one line shows, not the record, so that large chains fit into memory.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from capsule_sdk.outward import one_line

from ..formats.entries import section
from . import wording
from .summary import Summary, summary_of

__all__ = ["Line", "Node", "node_of", "render_tree", "tree_lines", "tree_of", "walk"]

_DEEPEST_INDENT = 20
_NARROWEST = 40  # columns that a line keeps for its content however deep it stands
_KEPT = 300  # characters of a text that a node keeps


@dataclass(slots=True, eq=False)
class Node:
    """A record in the tree.

    Attributes:
        summary: what it says of itself, long texts cut.
        index: its place among the records that were given.
        counted: whether its parent counts it among its children.
        children: what hangs under it.
        notes: what is out of the ordinary about its place.

    """

    summary: Summary
    index: int
    counted: bool
    children: list[Node] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Line(NamedTuple):
    """A node, how deep it stands, and the branch that is drawn before it."""

    node: Node
    depth: int
    branch: str


def node_of(record: object, index: int) -> Node:
    """Return a record's node, which no other hangs under yet.

    Args:
        record: content and seal in one; anything else gets a node that says that it is not a capsule.
        index: its place among the others.

    """
    summary = summary_of(record)
    environment = (
        section(section(record, "context"), "environment") if isinstance(record, Mapping) else {}
    )
    kept = map(_kept, summary)
    return Node(Summary._make(kept), index, environment.get("counted_by_parent") is not False)


def tree_of(nodes: Iterable[Node]) -> list[Node]:
    """Hang nodes, in any order, under each other, and return those that stand at the root.

    A node may be used once. Of several with one id, the first gets the children.
    """
    grown = list(nodes)
    by_id: dict[str, Node] = {}
    for node in grown:
        if node.summary.id is not None:
            by_id.setdefault(node.summary.id.lower(), node)
    parents = {node.index: _parent(node, by_id) for node in grown}
    roots = []
    for node in grown:
        parent = parents[node.index]
        if parent is not None:
            parent.children.append(node)
        else:
            if node.summary.parent_id:
                name = one_line(node.summary.parent_id)[:8]
                node.notes.append(f"under {name}, not shown here")
            roots.append(node)
    for node in grown:
        node.children.sort(key=_order)
        shown = sum(child.counted for child in node.children)
        if (node.summary.children_started or 0) > shown:
            node.notes.append(f"{shown} of {node.summary.children_started} children shown")
    roots.sort(key=_order)
    return roots + _circles(grown, roots, parents)


def walk(roots: Sequence[Node]) -> Iterator[Line]:
    """Yield the nodes from the roots down, each before its children."""
    for root in roots:
        waiting = [(root, 0, "", "")]
        while waiting:
            node, depth, branch, indent = waiting.pop()
            yield Line(node, depth, branch)
            last = len(node.children) - 1
            for place in range(last, -1, -1):
                child = node.children[place]
                if depth >= _DEEPEST_INDENT:
                    waiting.append((child, depth + 1, branch, indent))
                elif place == last:
                    waiting.append((child, depth + 1, f"{indent}└─ ", f"{indent}   "))
                else:
                    waiting.append((child, depth + 1, f"{indent}├─ ", f"{indent}│  "))


def tree_lines(roots: Sequence[Node], *, width: int) -> Iterator[str]:
    """Yield one line of plain text for each node."""
    for node, _, branch in walk(roots):
        notes = f"  ({'; '.join(node.notes)})" if node.notes else ""
        room = max(_NARROWEST, width - len(branch) - len(notes))
        yield f"{branch}{_cut(_text(node), room)}{notes}"


def render_tree(records: Iterable[Mapping[str, Any]], *, width: int = 100) -> str:
    """Return records as lines of text, children under parents, in the order they started.

    Args:
        records: sealed or unsealed, in any order.
        width: columns that a line may take.

    Returns:
        One line for each record, none lost: those whose parent is not among them stand at the
        root with a note, and so does one of each circle.

    """
    nodes = (node_of(record, index) for index, record in enumerate(records))
    return "\n".join(tree_lines(tree_of(nodes), width=width))


def _parent(node: Node, by_id: Mapping[str, Node]) -> Node | None:
    parent_id = node.summary.parent_id
    return None if parent_id is None else by_id.get(parent_id.lower())


def _circles(
    nodes: Sequence[Node], roots: Sequence[Node], parents: Mapping[int, Node | None]
) -> list[Node]:
    """Open each circle of parents at the node that started first, and return those nodes."""
    reached = {line.node.index for line in walk(roots)}
    opened = []
    for node in sorted((node for node in nodes if node.index not in reached), key=_order):
        if node.index in reached:
            continue
        first = min(_circle_above(node, parents), key=_order)
        parent = parents[first.index]
        assert parent is not None  # noqa: S101 - or it would stand at the root
        parent.children.remove(first)
        first.notes.append("its parents form a circle")
        opened.append(first)
        reached.update(line.node.index for line in walk([first]))
    return opened


def _circle_above(node: Node, parents: Mapping[int, Node | None]) -> list[Node]:
    """Follow the parents until one comes again; return those between."""
    path: dict[int, Node] = {}
    above: Node | None = node
    while above is not None and above.index not in path:
        path[above.index] = above
        above = parents[above.index]
    passed = list(path.values())
    return passed[passed.index(above) :] if above is not None else passed


def _order(node: Node) -> tuple[float, int]:
    started = node.summary.started
    return float("inf") if started is None else started.timestamp(), node.index


def _kept(value: Any) -> Any:
    """Cut long texts, and keep those that many records share once."""
    if not isinstance(value, str):
        return value
    return sys.intern(value) if len(value) <= _KEPT else f"{value[: _KEPT - 1]}…"


def _text(node: Node) -> str:
    if node.summary == Summary():
        return f"? record {node.index} is not a capsule"
    return "  ".join(filter(None, wording.parts(node.summary)))


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"

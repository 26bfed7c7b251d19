"""``capsuled tree``: each capsule in one line under the task that made it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import click

from capsule_sdk.evidence.selection import select
from capsule_sdk.evidence.showing.summary import Summary
from capsule_sdk.evidence.showing.summary import as_json as fields_of
from capsule_sdk.evidence.showing.tree import Line, Node, node_of, tree_lines, tree_of, walk
from capsule_sdk.evidence.showing.wording import counted, decimal_places
from capsule_sdk.evidence.sources import open_source
from capsule_sdk.outward import escaped_json, one_line

from .drawing import (
    NOT_VERIFIED,
    Paper,
    Span,
    columns,
    cut,
    figures,
    mark_span,
    name_spans,
    pager_option,
    words_spans,
)
from .options import (
    MOST,
    database_option,
    json_option,
    selection_of,
    selection_options,
    tenant_option,
)

__all__ = ["tree"]

_ORDINARY = {"agent", "chat"}  #: types that the name of a capsule tells already
_FIGURES_FROM = 72  #: columns of a terminal from which on figures get columns of their own
_PLACES = 8  #: decimal places of amounts that are lined up
_WIDEST = (8, 20, 18)  #: columns for duration, tokens and cost at most


@click.command()
@database_option
@tenant_option
@selection_options
@click.option("--last", type=click.IntRange(1, MOST), metavar="N", help="Only the last N of them.")
@pager_option
@json_option
def tree(
    *,
    source: str | None,
    tenant: str | None,
    last: int | None,
    no_pager: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show the capsules, each under the task that made it.

    One line each: how it ended, what was called, under whose authority, how long it took, tokens and cost;
    those of a task are the sums of all calls under it: +1? says that one of them is unknown and left out, ~
    that tokens are estimated. With --json, long texts are cut.
    """
    chain = open_source(source, tenant=tenant)
    entries = select(chain.entries, selection_of(options))
    nodes = (node_of(entry.record(), index) for index, entry in enumerate(entries))
    roots = tree_of(nodes if last is None else deque(nodes, maxlen=last))
    paper = Paper()
    if as_json:
        paper.print(_json_lines(roots))
    elif not roots:
        click.echo("no capsules")
    elif paper.terminal:
        paper.print(_drawn(roots, paper), paged=not no_pager)
    else:
        paper.print(tree_lines(roots, width=paper.width))


def _drawn(roots: Sequence[Node], paper: Paper) -> Iterator[str]:
    """Yield the lines; duration, tokens and cost in columns of their own where there is room for them."""
    count, wide = 0, paper.width >= _FIGURES_FROM
    places, widths = _measured(roots)
    room = paper.width - sum(widths) - 2 * len(widths) if wide else paper.width
    for count, line in enumerate(walk(roots), 1):  # noqa: B007 - counted to the end
        summary = line.node.summary
        if wide:
            shown = columns(figures(summary, places), widths)
            spans = [*cut([*_head(line), *words_spans(summary)], room), (shown, "")]
        else:
            shown = "".join(f"  {text}" for text in figures(summary) if text)
            spans = cut([*_head(line), (shown, ""), *words_spans(summary)], room)
        yield paper.line(spans)
    yield ""
    yield paper.line([(f"{counted(count, 'capsule')}, {NOT_VERIFIED}", "dim")])


def _measured(roots: Sequence[Node]) -> tuple[int, tuple[int, ...]]:
    """Return the decimal places of amounts, and how wide the columns of the figures have to be."""
    places = min(_PLACES, max(decimal_places(line.node.summary.cost) for line in walk(roots)))
    widths: tuple[int, ...] = (0, 0, 0)
    for line in walk(roots):
        texts = figures(line.node.summary, places)
        widths = tuple(max(width, len(text)) for width, text in zip(widths, texts, strict=True))
    return places, tuple(map(min, widths, _WIDEST))


def _head(line: Line) -> Iterator[Span]:
    """Yield the branch, how it ended, what was called, and what is out of the ordinary about its place."""
    node, summary = line.node, line.node.summary
    yield line.branch, "dim"
    if summary == Summary():
        yield f"? record {node.index} is not a capsule", "bold red"
        return
    yield mark_span(summary)
    yield " ", ""
    yield from name_spans(summary)
    if summary.type not in _ORDINARY:
        yield f"  {one_line(summary.type) or 'no type'}", "dim"
    if node.notes:
        yield f"  ({'; '.join(node.notes)})", "yellow"


def _json_lines(roots: Sequence[Node]) -> Iterator[str]:
    """Yield a JSON list of the roots, each with its children, without recursion: trees can be deep."""
    before = "["
    depth = -1
    for node, deep, _ in walk(roots):
        if deep <= depth:
            before = f"{']}' * (depth - deep + 1)},"
        fields = {**fields_of(node.summary), "notes": node.notes, "children": []}
        yield f"{before}{escaped_json(json.dumps(fields))[:-2]}"
        before, depth = "", deep
    yield f"{before}{']}' * (depth + 1)}]"

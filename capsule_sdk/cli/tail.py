"""``capsuled tail``: the end of a chain, a line for each capsule, and on with it as it grows."""

from __future__ import annotations

import json
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from capsule_sdk.chain.location import is_postgresql, sqlite_path
from capsule_sdk.errors import EvidenceError
from capsule_sdk.evidence.formats.entries import Entry
from capsule_sdk.evidence.selection import Selection
from capsule_sdk.evidence.showing.summary import Summary, summary_of
from capsule_sdk.evidence.showing.summary import as_json as fields_of
from capsule_sdk.evidence.showing.wording import parts
from capsule_sdk.evidence.sources import Growing, Source, open_source
from capsule_sdk.outward import escaped_json, one_line

from .drawing import Paper, Span, columns, cut, figures, mark_span, name_spans, words_spans
from .options import (
    MOST,
    complain,
    condition_options,
    database_option,
    json_option,
    selection_of,
    tenant_option,
)
from .upkeep import waiting_for

__all__ = ["tail"]

_POLL = 0.5  # seconds between two looks
_AGENT = 16  # columns of the agent's name
_FIGURES = (8, 14, 14)  # columns of duration, tokens and cost
_FIGURES_FROM = 110  # columns of a terminal from which on they get columns of their own

Draw = Callable[[Entry], str]


@click.command()
@database_option
@tenant_option
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0, MOST),
    default=10,
    show_default=True,
    metavar="N",
    help="How many capsules.",
)
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Go on as the chain grows, until Ctrl-C; waits for a database that does not exist yet.",
)
@condition_options
@json_option
def tail(
    *,
    source: str | None, tenant: str | None, count: int, follow: bool, as_json: bool, **options: Any
) -> None:  # fmt: skip
    """Show the last capsules of a chain, one line each, in the order in which they were sealed.

    The time is that of the seal, UTC. A task comes after what belongs to it, for it is sealed at its end.
    Nothing is verified: that is what `capsuled verify` does.
    """
    selection, paper = selection_of(options), Paper()
    draw = _json_line if as_json else lambda entry: _line(entry, paper)
    if follow:
        _follow(source, tenant, count, selection, draw)
    else:
        _print(_last(open_source(source, tenant=tenant), count, selection), draw)


def _last(source: Source, count: int, selection: Selection) -> Iterable[Entry]:
    if not source.grows:
        return deque(filter(_matching(selection), source.entries()), maxlen=count)
    with source.growing() as chain:
        if chain.last() is None:
            source.refuse_if_elsewhere()
        return _Tail(chain, selection).last(count)


def _follow(
    name: str | None, tenant: str | None, count: int, selection: Selection, draw: Draw
) -> None:
    notes = _Notes()
    all_is_new = _await_file(name, notes)
    source = open_source(name, tenant=tenant)
    if not source.grows:
        raise click.UsageError(
            f"{source.name} is a file that was exported: it does not grow, leave out --follow"
        )
    with source.growing() as chain:
        tail = _Tail(chain, selection)
        look = tail.new if all_is_new else lambda: tail.last(count)
        while True:
            try:
                entries = look()
                if tail.cut_short:
                    notes.write(
                        "the chain has become shorter: it was cut or replaced; what it holds now follows"
                    )
                _print(entries, draw)
                look = tail.new
                notes.forget()
            except EvidenceError as error:  # locked, restarting, or not made yet
                notes.write(f"waiting: {error}")
            _sleep()


class _Tail:
    """Where somebody is in a chain that grows."""

    def __init__(self, chain: Growing, selection: Selection) -> None:
        self._chain = chain
        self._matches = _matching(selection)
        self._selective = bool(selection)
        self._seen = -1  #: the last sequence that was looked at
        self.cut_short = False

    def last(self, count: int) -> Iterable[Entry]:
        """Return the last entries, and go on behind them."""
        end = self._chain.last()
        after = None if self._selective or end is None else end - count
        entries = deque(self._matching(after), maxlen=count)
        self._seen = self._seen if end is None else max(self._seen, end)
        return entries

    def new(self) -> Iterable[Entry]:
        """Yield what has come since."""
        end = self._chain.last()
        self.cut_short = end is not None and end < self._seen
        if self.cut_short:
            self._seen = -1
        return () if end == self._seen else self._matching(self._seen)

    def _matching(self, after: int | None) -> Iterator[Entry]:
        for entry in self._chain.entries(after):
            sequence = entry.columns.sequence if entry.columns else None
            if isinstance(sequence, int):
                self._seen = sequence
            if self._matches(entry):
                yield entry


class _Notes:
    """What is told beside the lines, on standard error: once, not at every look."""

    def __init__(self) -> None:
        self._last = ""

    def write(self, note: str) -> None:
        if note != self._last:
            self._last = note
            complain(note)

    def forget(self) -> None:
        self._last = ""


def _await_file(name: str | None, notes: _Notes) -> bool:
    """Wait for a SQLite file to be there; return whether it had to be waited for: then all in it is new."""
    if is_postgresql(name):
        return False
    path, waited = sqlite_path(name), False
    recorded = "" if _size(path) else waiting_for(path)
    while not _size(path):
        notes.write(f"waiting: there is no chain at {path} yet{recorded}")
        waited = True
        _sleep()
    return waited


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _sleep() -> None:
    """Sleep until the next look; or until whoever reads what is printed has gone, as ``head`` does."""
    gone = select.POLLERR | select.POLLHUP
    waiting = select.poll()
    try:
        waiting.register(sys.stdout, 0)
    except (OSError, ValueError):  # no file
        time.sleep(_POLL)
        return
    began = time.monotonic()
    if any(found & gone for _, found in waiting.poll(_POLL * 1000)):
        raise BrokenPipeError
    time.sleep(max(0.0, began + _POLL - time.monotonic()))


def _matching(selection: Selection) -> Callable[[Entry], bool]:
    """Return whether an entry is selected; what is not a capsule is so only where all are."""
    if not selection:
        return lambda _: True

    def matches(entry: Entry) -> bool:
        record = entry.record()
        return record is not None and selection.matches(record)

    return matches


def _print(entries: Iterable[Entry], draw: Draw) -> None:
    for entry in entries:
        sys.stdout.write(f"{draw(entry)}\n")
    sys.stdout.flush()


def _json_line(entry: Entry) -> str:
    return escaped_json(json.dumps(fields_of(summary_of(entry.record()))))


def _line(entry: Entry, paper: Paper) -> str:
    summary = summary_of(entry.record())
    if summary == Summary():
        return paper.line([(f"? {_number(entry, summary)} is not a capsule", "bold red")])
    return (
        paper.line(_drawn(entry, summary, paper.width))
        if paper.terminal
        else _plain(entry, summary)
    )


def _plain(entry: Entry, summary: Summary) -> str:
    told = (
        _time(summary),
        _number(entry, summary),
        one_line(summary.agent),
        *parts(summary),
        one_line(summary.error),
    )
    return "  ".join(filter(None, told))


def _drawn(entry: Entry, summary: Summary, width: int) -> list[Span]:
    begin: list[Span] = [
        (f"{_time(summary):20}  {_number(entry, summary):>6}  ", "dim"),
        mark_span(summary),
        (" ", ""),
        *cut([(one_line(summary.agent), "")], _AGENT),
        ("  ", ""),
        *name_spans(summary),
    ]
    if width >= _FIGURES_FROM:
        room = width - sum(_FIGURES) - 2 * len(_FIGURES)
        return [
            *cut([*begin, *words_spans(summary)], room),
            (columns(figures(summary), _FIGURES), ""),
        ]
    between = "".join(f"  {text}" for text in figures(summary) if text)
    return cut([*begin, (between, ""), *words_spans(summary)], width)


def _time(summary: Summary) -> str:
    moment = summary.signed_at or summary.started
    return f"{moment:%Y-%m-%d %H:%M:%SZ}" if moment else "?"


def _number(entry: Entry, summary: Summary) -> str:
    found = (
        summary.sequence
        if summary.sequence is not None
        else entry.columns and entry.columns.sequence
    )
    return f"#{found}" if isinstance(found, int) else "#?"
